//! The one thread that reads the kernel's ring and hands each event to those who want it.
//!
//! It runs while there are readers, and the kernel samples only then: the finest rate that any of them asked for, under a
//! lease that this thread renews, so that sampling ends by itself when the daemon does. A reader has a bounded queue;
//! what finds it full is lost to him, counted, and told. Nobody waits for anybody.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use proxy_common::event::{Event, EventControl, NO_RULE};
use tokio::sync::mpsc;

use super::ask::Ask;
use super::lines::{Clock, Names, line, service};
use super::record::{self, Headers, Line, Losses, PacketEvent};
use crate::kernel::{EventRing, Kernel, now_ns};
use crate::shared::Shared;

/// Most readers at a time.
pub const MAX_READERS: usize = 8;
/// Lines that may wait for one reader.
const QUEUE: usize = 4_096;
/// Events taken from the ring before readers and rates are looked at again.
const BATCH: usize = 512;
/// How long the thread waits for an event before it looks whether readers have left.
const TICK: Duration = Duration::from_millis(100);
/// How often readers are told of losses.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// How long the kernel samples after the last renewal.
const LEASE: Duration = Duration::from_secs(5);
/// Renewed when this much of the lease is over.
const RENEW_AFTER: Duration = Duration::from_secs(1);
/// Records of an earlier reader that are passed over; more than the ring holds.
const STALE: usize = 1 << 16;

/// Readers and, while there are any, the thread that serves them.
#[derive(Debug)]
pub struct Hub {
    shared: Arc<Shared>,
    readers: Arc<Mutex<Readers>>,
}

#[derive(Debug, Default)]
struct Readers {
    list: Vec<Reader>,
    running: bool,
}

#[derive(Debug)]
struct Reader {
    ask: Ask,
    /// One in so many of what it wants.
    sample: u32,
    /// Events that it wanted since the last that it got, for a rate coarser than the kernel's.
    passed_over: u32,
    losses: Losses,
    sender: mpsc::Sender<Bytes>,
}

/// Why there is no subscription.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// As many readers as are served.
    #[error("{MAX_READERS} readers follow the events already")]
    TooMany,
    /// The ring could not be had.
    #[error("{0:#}")]
    Ring(anyhow::Error),
}

fn lock(readers: &Mutex<Readers>) -> MutexGuard<'_, Readers> {
    // A panic elsewhere leaves a list that is still a list.
    readers.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// Nobody reads yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, readers: Arc::default() }
    }

    /// Lines of JSON for one reader; he leaves by dropping the receiver.
    ///
    /// # Errors
    /// Too many read already, or the ring cannot be opened.
    pub fn subscribe(&self, kernel: &Arc<Kernel>, ask: Ask) -> Result<mpsc::Receiver<Bytes>, SubscribeError> {
        let sample = ask.sample.unwrap_or_else(|| self.shared.snapshot.load().config.gate.events.sample);
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut readers = lock(&self.readers);
        readers.list.retain(|reader| !reader.sender.is_closed());
        if readers.list.len() >= MAX_READERS {
            return Err(SubscribeError::TooMany);
        }
        readers.list.push(Reader { ask, sample, passed_over: 0, losses: Losses::default(), sender });
        if !readers.running {
            self.start(kernel).map_err(|error| {
                readers.list.clear();
                SubscribeError::Ring(error)
            })?;
            readers.running = true;
        }
        // Sampled from the moment that the reader has his answer on, not from the thread's next turn.
        kernel.set_events(&control(&readers.list)).map_err(SubscribeError::Ring)?;
        Ok(receiver)
    }

    fn start(&self, kernel: &Arc<Kernel>) -> Result<()> {
        let mut ring = kernel.event_ring()?;
        for _ in 0..STALE {
            if ring.next_event().is_none() {
                break;
            }
        }
        let pump = Pump {
            kernel: Arc::clone(kernel),
            shared: Arc::clone(&self.shared),
            readers: Arc::clone(&self.readers),
            ring,
            names: Names::default(),
            lost: kernel.event_counts()?.lost,
        };
        thread::Builder::new().name("events".to_owned()).spawn(move || pump.run()).context("starting the thread")?;
        Ok(())
    }
}

/// What the kernel is to sample for these readers.
fn control(readers: &[Reader]) -> EventControl {
    let reasons = readers.iter().fold(0, |all, reader| all | reader.ask.reasons);
    let every = readers.iter().map(|reader| reader.sample).min().unwrap_or(0);
    let lease = u64::try_from(LEASE.as_nanos()).unwrap_or(u64::MAX);
    EventControl { until_ns: now_ns().saturating_add(lease), reasons, every, pad: 0 }
}

/// The thread's own.
struct Pump {
    kernel: Arc<Kernel>,
    shared: Arc<Shared>,
    readers: Arc<Mutex<Readers>>,
    ring: EventRing,
    names: Names,
    lost: u64,
}

impl Pump {
    fn run(mut self) {
        let mut renewed = Instant::now();
        let mut told = Instant::now();
        let mut rate = 0;
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            {
                let readers = Arc::clone(&self.readers);
                let mut readers = lock(&readers);
                readers.list.retain(|reader| !reader.sender.is_closed());
                let control = control(&readers.list);
                let last = readers.list.is_empty();
                if last || control.every != rate || renewed.elapsed() >= RENEW_AFTER {
                    if let Err(error) = self.kernel.set_events(&control) {
                        tracing::warn!(error = format!("{error:#}"), "packet events cannot be switched");
                    }
                    renewed = Instant::now();
                    rate = control.every;
                }
                if last {
                    // Under the lock: a reader that comes now starts a thread of his own, after this word was written.
                    readers.running = false;
                    return;
                }
            }
            if let Err(error) = self.ring.wait(TICK) {
                tracing::warn!(error = format!("{error:#}"), "packet events end");
                let mut readers = lock(&self.readers);
                readers.list.clear();
                readers.running = false;
                return;
            }
            while batch.len() < BATCH
                && let Some(event) = self.ring.next_event()
            {
                batch.push(event);
            }
            self.deliver(&mut batch);
            if told.elapsed() >= STATUS_EVERY {
                told = Instant::now();
                self.tell_losses();
            }
        }
    }

    fn deliver(&mut self, batch: &mut Vec<Event>) {
        if batch.is_empty() {
            return;
        }
        let config = Arc::clone(&self.shared.snapshot.load().config);
        let clock = Clock::now();
        let mut readers = lock(&self.readers);
        for event in batch.drain(..) {
            let Some(reason) = record::reason(&event) else { continue };
            let headers = Headers::of(&event);
            let rule = (event.rule != NO_RULE).then(|| self.names.rule(&self.kernel, &event));
            let mut shown: Option<PacketEvent> = None;
            for reader in &mut readers.list {
                if !reader.ask.wants(reason, rule.as_deref(), headers.source) {
                    continue;
                }
                let every = (reader.sample / event.sample.max(1)).max(1);
                reader.passed_over += 1;
                if reader.passed_over < every {
                    continue;
                }
                reader.passed_over = 0;
                let shown = shown.get_or_insert_with(|| PacketEvent {
                    time: clock.wall(event.time_ns),
                    interface: self.names.interface(event.ifindex),
                    reason: reason.name().to_owned(),
                    dropped: event.dropped != 0,
                    rule: rule.clone(),
                    revision: event.revision,
                    sample: 0,
                    length: event.length,
                    source: headers.source,
                    destination: headers.destination,
                    protocol: headers.protocol.map(record::protocol_name),
                    source_port: headers.ports.map(|ports| ports.0),
                    destination_port: headers.ports.map(|ports| ports.1),
                    service: service(&config, &headers),
                    packet: None,
                });
                shown.sample = event.sample.saturating_mul(every);
                shown.packet = reader.ask.packets.then(|| record::to_hex(record::snap(&event)));
                if reader.sender.try_send(line(&Line::Event(Box::new(shown.clone())))).is_err() {
                    reader.losses.reader += 1;
                }
            }
        }
    }

    fn tell_losses(&mut self) {
        self.names.forget_interfaces();
        let lost = self.kernel.event_counts().map_or(self.lost, |counts| counts.lost);
        let here = lost.wrapping_sub(self.lost);
        self.lost = lost;
        for reader in &mut lock(&self.readers).list {
            reader.losses.kernel += here;
            // Where the queue is full they are told the next time.
            if reader.sender.try_send(line(&Line::Status(reader.losses))).is_ok() {
                reader.losses = Losses::default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proxy_common::abi::Reason;

    use super::*;

    fn reader(query: &str, sample: u32) -> (Reader, mpsc::Receiver<Bytes>) {
        let (sender, receiver) = mpsc::channel(1);
        let ask = Ask::parse(Some(query)).unwrap();
        (Reader { ask, sample, passed_over: 0, losses: Losses::default(), sender }, receiver)
    }

    #[test]
    fn the_kernel_samples_what_any_reader_wants() {
        let (a, _a) = reader("reason=verdict", 64);
        let (b, _b) = reader("reason=not_own", 10);
        let both = control(&[a, b]);
        assert_eq!(both.every, 10);
        assert!(both.reasons & Reason::Verdict.bit() != 0 && both.reasons & Reason::NotOwn.bit() != 0);
        assert!(both.reasons & Reason::Denied.bit() == 0);
        assert!(both.until_ns > now_ns());
        assert_eq!(control(&[]).every, 0, "nobody reads: nothing is sampled");
    }
}
