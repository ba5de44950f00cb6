//! The probe of the bench of loads: datagrams that pass the gate, and how long each took.
//!
//! Each carries the time at which it was sent, so that a late sender is not taken for a late packet. Two times are told apart:
//! until the kernel had taken the datagram through `front` (its own receive stamp, `SO_TIMESTAMPNS`), which is what a load can
//! stall in the gate; and until the receiving process had it, which has the scheduler's delays in it: waking a processor of a
//! virtual machine takes milliseconds now and then. Both ends run in the real-time class, because other processes' time
//! slices are not what is asked about.

use std::io::IoSliceMut;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::netns::Netns;
use crate::process;

/// Pause between two datagrams of the probe.
const PERIOD: Duration = Duration::from_micros(100);
/// The probe goes on for this long before and after a load.
const MARGIN: Duration = Duration::from_millis(100);
/// The target: none longer in the gate.
const LONGEST_STALL: Duration = Duration::from_millis(1);
const GATE: Ipv4Addr = Ipv4Addr::new(10, 82, 0, 1);
const PROBE: Ipv4Addr = Ipv4Addr::new(10, 82, 0, 2);
const PORT: u16 = 9;

/// What the probe saw.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Probed {
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams that did not arrive.
    pub lost: u64,
    /// Longest time from sending one until it was through the gate.
    pub gate_us: f64,
    /// Datagrams that took longer than the target until then.
    pub stalled: u64,
    /// Longest time from sending one until the receiving process had it.
    pub longest_us: f64,
    /// The same of all but one in a thousand.
    pub p999_us: f64,
    /// Longest time between two arrivals, the sender's own delays included.
    pub longest_gap_us: f64,
}

impl Probed {
    /// The longer times and the sums of two.
    pub(super) fn worst(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            lost: self.lost + other.lost,
            gate_us: self.gate_us.max(other.gate_us),
            stalled: self.stalled + other.stalled,
            longest_us: self.longest_us.max(other.longest_us),
            p999_us: self.p999_us.max(other.p999_us),
            longest_gap_us: self.longest_gap_us.max(other.longest_gap_us),
        }
    }
}

/// Runs `work` while the probe sends; returns what the probe saw.
pub(super) fn probed<T>(edge: &Netns, probe: &Netns, work: impl FnOnce() -> Result<T>) -> Result<(Probed, T)> {
    let receiver = edge.enter(|| UdpSocket::bind((GATE, PORT)))??;
    setsockopt(&receiver, sockopt::ReceiveTimestampns, &true).context("SO_TIMESTAMPNS")?;
    let sender = probe.enter(|| UdpSocket::bind((PROBE, 0)))??;
    sender.connect((GATE, PORT))?;
    receiver.set_read_timeout(Some(Duration::from_millis(500)))?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let receiving = scope.spawn(|| receive(&receiver));
        let sending = scope.spawn(|| send(&sender, &done));
        std::thread::sleep(MARGIN);
        let worked = work();
        std::thread::sleep(MARGIN);
        done.store(true, Ordering::Relaxed);
        let sent = sending.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        let mut seen = receiving.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
        seen.lost = sent - seen.sent;
        seen.sent = sent;
        Ok((seen, worked?))
    })
}

/// Puts the calling thread into the real-time class.
fn real_time() -> Result<()> {
    let thread = nix::unistd::gettid().to_string();
    let mut command = Command::new("chrt");
    process::run(command.args(["--fifo", "--pid", "50", &thread]), Duration::from_secs(5))?
        .ok()
        .context("chrt")
        .map(drop)
}

/// Sends a datagram with the time each [`PERIOD`]; returns how many.
fn send(socket: &UdpSocket, done: &AtomicBool) -> Result<u64> {
    real_time()?;
    let mut sent = 0;
    while !done.load(Ordering::Relaxed) {
        socket.send(&real_ns()?.to_ne_bytes())?;
        sent += 1;
        std::thread::sleep(PERIOD);
    }
    Ok(sent)
}

/// The clock that the kernel's receive stamps go by.
fn real_ns() -> Result<u64> {
    Ok(clock_gettime(ClockId::CLOCK_REALTIME).map(ns)?)
}

fn ns(time: TimeSpec) -> u64 {
    Duration::from(time).as_nanos() as u64
}

/// Receives until nothing comes any more; counts what came as sent.
fn receive(socket: &UdpSocket) -> Result<Probed> {
    real_time()?;
    let (mut delays, mut gap, mut before, mut gate, mut stalled) = (Vec::new(), 0, None, 0, 0);
    let mut datagram = [0; 8];
    let mut control = cmsg_space!(TimeSpec);
    loop {
        let mut parts = [IoSliceMut::new(&mut datagram)];
        let received = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty());
        let stamp = match received {
            Err(Errno::EAGAIN) => break,
            received => received?.cmsgs()?.find_map(|part| match part {
                ControlMessageOwned::ScmTimestampns(stamp) => Some(ns(stamp)),
                _ => None,
            }),
        };
        let (now, sent) = (real_ns()?, u64::from_ne_bytes(datagram));
        let through = stamp.context("a datagram without the kernel's stamp")?.saturating_sub(sent);
        gate = gate.max(through);
        stalled += u64::from(u128::from(through) > LONGEST_STALL.as_nanos());
        delays.push(now.saturating_sub(sent));
        gap = gap.max(before.map_or(0, |before| now.saturating_sub(before)));
        before = Some(now);
    }
    delays.sort_unstable();
    let us = |at: usize| delays.get(at).map_or(0.0, |ns| *ns as f64 / 1e3);
    ensure!(!delays.is_empty(), "no datagram of the probe arrived");
    Ok(Probed {
        sent: delays.len() as u64,
        lost: 0,
        gate_us: gate as f64 / 1e3,
        stalled,
        longest_us: us(delays.len() - 1),
        p999_us: us((delays.len() - 1) * 999 / 1_000),
        longest_gap_us: gap as f64 / 1e3,
    })
}
