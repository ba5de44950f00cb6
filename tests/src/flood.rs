//! The generator of the flood bench: mixed IPv4 packets by the hundred thousand a second, made by an XDP program over live
//! frames of `BPF_PROG_TEST_RUN` and sent out of an interface. It is bounded by its rate and by its time.

#![allow(clippy::cast_precision_loss, reason = "packets of a few seconds, far below 2^53")]

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::maps::Array;
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, Pod};

use crate::netns::Netns;
use crate::xdp;

/// Bytes of every frame, as in the kernel program.
const FRAME: usize = 64;
/// Kinds of packets, each as frequent as the others.
const TEMPLATES: usize = 16;
/// Frames of one batch; the kernel's bound is 256.
const BATCH: u32 = 64;
/// Pieces that a second is cut into; each sets a run up anew, which costs more than some thousand packets.
const PIECES: u32 = 20;
/// First of the listed sources.
pub const LISTED: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
/// Length of the prefix that all listed sources lie in.
pub const LISTED_BITS: u8 = 15;
/// First of the sources that no list names.
const UNLISTED: Ipv4Addr = Ipv4Addr::new(32, 0, 0, 0);
/// How many of them there are, less one.
const UNLISTED_MASK: u32 = 0x0fff_ffff;

/// As the kernel program lays it out.
#[repr(C)]
#[derive(Clone, Copy)]
struct Template {
    frame: [u8; FRAME],
    ip_sum: u32,
    tcp_sum: u32,
    source: u32,
    mask: u32,
}

// SAFETY: `repr(C)`, integers only, without padding.
unsafe impl Pod for Template {}

/// What becomes of one kind of packet's bytes.
#[derive(Clone, Copy)]
enum Kind {
    Tcp { port: u16, flags: u8 },
    Udp { port: u16 },
    Fragment,
    Junk { protocol: u8 },
}

/// The mix: 14 kinds from listed sources, and two of SYNs from sources that no list names.
fn mix() -> [(Kind, bool); TEMPLATES] {
    use Kind::{Fragment, Junk, Tcp, Udp};
    let syn = |port| Tcp { port, flags: 0x02 };
    [
        (syn(443), false),
        (syn(443), false),
        (syn(443), true),
        (syn(443), true),
        (syn(443), true),
        (syn(80), true),
        (syn(9_999), true),
        (Tcp { port: 443, flags: 0x10 }, true),
        (Tcp { port: 443, flags: 0 }, true),
        (Udp { port: 443 }, true),
        (Udp { port: 443 }, true),
        (Udp { port: 53 }, true),
        (Udp { port: 40_000 }, true),
        (Fragment, true),
        (Fragment, true),
        (Junk { protocol: 200 }, true),
    ]
}

/// Sum of big-endian 16-bit words.
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| (u32::from(pair[0]) << 8) | u32::from(pair.get(1).copied().unwrap_or(0))).sum()
}

fn template(kind: Kind, listed: bool, to: ([u8; 6], Ipv4Addr)) -> Template {
    let mut frame = [0; FRAME];
    frame[..6].copy_from_slice(&to.0);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    frame[12] = 8;
    let total = (FRAME - 14) as u16;
    let (protocol, fragment) = match kind {
        Kind::Tcp { .. } => (6, 0_u16),
        Kind::Udp { .. } => (17, 0),
        Kind::Fragment => (17, 0x2000),
        Kind::Junk { protocol } => (protocol, 0),
    };
    frame[14..24].copy_from_slice(&[
        0x45,
        0,
        (total >> 8) as u8,
        total as u8,
        0,
        7,
        (fragment >> 8) as u8,
        fragment as u8,
        64,
        protocol,
    ]);
    frame[30..34].copy_from_slice(&to.1.octets());
    let port = match kind {
        Kind::Tcp { port, .. } | Kind::Udp { port } => port,
        Kind::Fragment | Kind::Junk { .. } => 443,
    };
    frame[36..38].copy_from_slice(&port.to_be_bytes());
    let mut tcp_sum = 0;
    match kind {
        Kind::Tcp { flags, .. } => {
            // Twenty bytes of header and ten of options: an MSS, then padding.
            frame[38..42].copy_from_slice(&[1, 2, 3, 4]);
            frame[46..50].copy_from_slice(&[6 << 4, flags, 0xfa, 0xf0]);
            frame[54..58].copy_from_slice(&[2, 4, 5, 0xb4]);
            tcp_sum = sum(&frame[34..]) + sum(&frame[30..34]) + 6 + u32::from(total - 20);
        }
        Kind::Udp { .. } | Kind::Fragment => frame[38..40].copy_from_slice(&(total - 20).to_be_bytes()),
        Kind::Junk { .. } => {}
    }
    let listed_mask = u32::MAX >> LISTED_BITS;
    let (source, mask) = if listed { (LISTED, listed_mask) } else { (UNLISTED, UNLISTED_MASK) };
    Template { frame, ip_sum: sum(&frame[14..34]), tcp_sum, source: source.to_bits(), mask }
}

/// A loaded generator.
pub struct Flood {
    ebpf: Ebpf,
    interface: u32,
}

impl Flood {
    /// Loads it: packets to `to` (hardware and IP address), out of the interface with this index.
    pub fn new(interface: u32, to: ([u8; 6], Ipv4Addr)) -> Result<Self> {
        let mut ebpf = xdp::load("spray")?;
        let mut templates: Array<_, Template> = Array::try_from(ebpf.map_mut("SPRAY").context("no SPRAY")?)?;
        for (index, (kind, listed)) in (0..).zip(mix()) {
            templates.set(index, template(kind, listed, to), 0)?;
        }
        let mut out: Array<_, u32> = Array::try_from(ebpf.map_mut("SPRAY_TO").context("no SPRAY_TO")?)?;
        out.set(0, interface, 0)?;
        Ok(Self { ebpf, interface })
    }

    /// Sends `rate` packets a second from inside `netns`, for `time` or until told to stop; returns how many and the
    /// seconds that it took. Where the machine cannot keep up it sends fewer.
    pub fn run(&mut self, netns: &Netns, rate: u32, time: Duration, stop: &AtomicBool) -> Result<(u64, f64)> {
        ensure!(self.interface != 0, "no interface");
        let program: &Xdp = self.ebpf.program("spray").context("gone")?.try_into()?;
        let piece = (rate / PIECES).max(1);
        netns.enter(|| {
            let frame = [0; FRAME];
            let start = Instant::now();
            let mut sent = 0;
            while start.elapsed() < time && !stop.load(Ordering::Relaxed) {
                let due = Duration::from_secs_f64(sent as f64 / f64::from(rate));
                if let Some(early) = due.checked_sub(start.elapsed()) {
                    std::thread::sleep(early);
                }
                let attrs = TestRunAttrs::new().xdp_live_frames(BATCH);
                program.test_run(TestRunOptions {
                    data_in: Some(&frame),
                    repeat: piece,
                    attrs,
                    ..TestRunOptions::default()
                })?;
                sent += u64::from(piece);
            }
            Ok((sent, start.elapsed().as_secs_f64()))
        })?
    }
}
