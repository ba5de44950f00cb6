//! The entry of `DAEMON`, mapped into the daemon: its heartbeat, and what it leaves for the next one. The heart is a thread
//! of its own that beats for as long as the process lives; whether the gate then stands open is [`proxy_common::decide`]'s.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use aya::maps::MapData;
use proxy_common::abi::{DaemonState, GATE_FAIL_OPEN, GateConfig};
use proxy_core::config::{Fail, Gate};

use super::load::Maps;
use super::mapped::{Mapped, Shared};
use super::syscall::Map;
use super::{Kernel, now_ns};

/// How often it beats.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// The entry, word for word as [`DaemonState`] lays it out.
#[repr(C)]
#[derive(Debug)]
struct State {
    beat_ns: AtomicU64,
    fail_after_ns: AtomicU64,
    syncookies: AtomicU64,
}

const _: () = assert!(size_of::<State>() == size_of::<DaemonState>());

// SAFETY: atomic integers only, without padding, as large as the map's value (asserted above).
unsafe impl Shared for State {}

/// The beating heart; it stops when this is dropped, or with the process.
#[derive(Debug)]
pub struct Heart {
    states: Arc<Mapped<State>>,
    /// Dropped first: its end is what the thread waits for.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Heart {
    /// Beats once, and goes on.
    pub fn start(array: impl AsFd) -> Result<Self> {
        let states = Arc::new(Mapped::new(array, 1).context("DAEMON")?);
        beat(&states);
        let (stop, stopped) = channel();
        let inside = Arc::clone(&states);
        let thread = std::thread::Builder::new()
            .name("heartbeat".to_owned())
            .spawn(move || go_on(&inside, &stopped))
            .context("the thread of the heartbeat")?;
        Ok(Self { states, stop: Some(stop), thread: Some(thread) })
    }

    /// `tcp_syncookies` before it was raised, where it is.
    pub fn raised_from(&self) -> Option<u64> {
        self.states.entries().first()?.syncookies.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Keeps `tcp_syncookies` as it was before it is raised; none when it is set back.
    pub fn note_raised(&self, before: Option<u64>) {
        if let Some(state) = self.states.entries().first() {
            state.syncookies.store(before.map_or(0, |value| value.saturating_add(1)), Ordering::Relaxed);
        }
    }

    fn set_fail_after(&self, after: Duration) {
        if let Some(state) = self.states.entries().first() {
            state.fail_after_ns.store(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// Writes what the config says of a daemon that stays away. The time goes first: the flag goes by it.
    pub fn set_fail(&self, maps: &Maps, gate: &Gate) -> Result<()> {
        self.set_fail_after(gate.fail_after.0);
        let standing = maps.gate.get(&0)?.unwrap_or_default();
        let open = if gate.fail == Fail::Open { GATE_FAIL_OPEN } else { 0 };
        let flags = (standing.flags & !GATE_FAIL_OPEN) | open;
        if flags != standing.flags {
            maps.gate.set(&0, &GateConfig { flags, ..standing }).context("writing GATE")?;
        }
        Ok(())
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::debug!("the heartbeat's thread had panicked");
        }
    }
}

fn go_on(states: &Mapped<State>, stopped: &Receiver<()>) {
    while stopped.recv_timeout(BEAT_EVERY) == Err(RecvTimeoutError::Timeout) {
        beat(states);
    }
}

fn beat(states: &Mapped<State>) {
    if let Some(state) = states.entries().first() {
        state.beat_ns.store(now_ns(), Ordering::Relaxed);
    }
}

/// A gate that is pinned, and the daemon that attends it or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attendance {
    /// How long ago the daemon was last there.
    pub age: Duration,
    /// How long it may be away before the gate stands open; none where the gate goes on dropping.
    pub open_after: Option<Duration>,
}

/// The attendance of the gate that is pinned in a directory; none where there is none, or it cannot be read.
pub fn attendance(pins: &Path) -> Option<Attendance> {
    let state = left_behind(pins)?;
    let gate: GateConfig = entry(&pins.join("GATE"))?;
    let age = Duration::from_nanos(now_ns().saturating_sub(state.beat_ns));
    let open = gate.flags & GATE_FAIL_OPEN != 0;
    Some(Attendance { age, open_after: open.then(|| Duration::from_nanos(state.fail_after_ns)) })
}

/// What a daemon left in a directory of pins.
pub fn left_behind(pins: &Path) -> Option<DaemonState> {
    entry(&pins.join("DAEMON"))
}

/// The first entry of a pinned array.
fn entry<V: aya::Pod>(pin: &Path) -> Option<V> {
    let pinned = MapData::from_pin(pin).ok()?;
    let info = pinned.info().ok()?;
    let fd = pinned.fd().as_fd().try_clone_to_owned().ok()?;
    Map::<u32, V>::new(fd, (info.key_size(), info.value_size())).ok()?.get(&0).ok()?
}

impl Kernel {
    /// Writes what the config says of a daemon that stays away.
    ///
    /// # Errors
    /// A map cannot be written.
    pub fn set_fail(&self, gate: &Gate) -> Result<()> {
        let _alone = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        self.heart.set_fail(&self.maps, gate)
    }
}
