//! A worker: one thread with its own runtime, sockets, origin pools and counters. Nothing on a request's way is
//! shared with another worker except the immutable snapshot.

pub mod accept;
pub mod connection;
pub mod deadlines;
pub mod fronted;
pub mod hello;
pub mod hold;
pub(crate) mod link;
pub mod passage;
pub mod relay;
pub mod stream;
pub mod thread;

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use arc_swap::cache::Cache;
use bytes::BytesMut;
use http::HeaderValue;
use proxy_core::abuse::bucket::Bucket;
use proxy_core::abuse::ledger::Ledger;
use proxy_core::abuse::memory;
use proxy_core::config::Size;
use tokio::sync::{Notify, watch};

use crate::http::quic_frames::Followed;
use crate::shared::{Shared, Snapshot};
use crate::stages::access_log::{LineBuffer, LogWriter};
use crate::stats::{WorkerStats, bump};
use crate::upstream::pool::Pool;
use deadlines::Deadlines;

/// Sweeps between two looks at idle origin connections.
const POOL_SWEEP_TICKS: u32 = 10;
/// Sweeps between two hand-overs of access log lines.
const LOG_FLUSH_TICKS: u32 = 3;

/// Request ids that share an allocation.
const IDS_AT_ONCE: usize = 64;

/// Where the current snapshot stands.
struct Current(Arc<Shared>);

impl Deref for Current {
    type Target = ArcSwap<Snapshot>;

    fn deref(&self) -> &ArcSwap<Snapshot> {
        &self.0.snapshot
    }
}

/// What new requests go by.
struct InForce {
    /// Tells by one load that nothing has changed.
    current: Cache<Current, Arc<Snapshot>>,
    live: Rc<Live>,
}

/// What a worker's connections and requests share.
pub struct Worker {
    /// Index among the workers.
    pub index: u32,
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// This worker's counters.
    pub stats: Arc<WorkerStats>,
    /// This worker's deadlines.
    pub deadlines: Deadlines,
    /// This worker's end of the access log.
    pub log: Option<LineBuffer>,
    in_force: RefCell<InForce>,
    drain: watch::Sender<bool>,
    draining: Cell<bool>,
    active: Cell<u32>,
    /// Connections that are held without an answer.
    held: Cell<u32>,
    room: Notify,
    ids: Cell<u64>,
    /// Room for the text of the next ones.
    id_room: RefCell<BytesMut>,
    boot: u32,
    pushes: Cell<(Instant, u32)>,
    /// How badly sources behave.
    ledger: RefCell<Ledger>,
    /// Lines of the log about it.
    told: RefCell<Bucket>,
    /// Requests are turned away for want of memory.
    sheds: Cell<bool>,
    /// Its QUIC connections.
    pub(crate) followed: Followed,
    clock: (Instant, u64),
    ticks: Cell<u32>,
}

/// A snapshot with this worker's origin pools for it.
pub struct Live {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    /// One for each of the snapshot's origins, in their order.
    pools: Vec<Rc<Pool>>,
}

impl Live {
    fn new(snapshot: Arc<Snapshot>, before: Option<&Live>) -> Self {
        let pools = snapshot
            .origins
            .iter()
            .map(|origin| {
                let same_host = snapshot.same_host().filter(|_| origin.same_host);
                let kept = before.and_then(|live| live.pools.iter().find(|pool| pool.serves(origin, same_host)));
                kept.map_or_else(|| Rc::new(Pool::new(Arc::clone(origin), same_host.cloned())), Rc::clone)
            })
            .collect();
        Self { snapshot, pools }
    }

    /// Where the upstream stands among the snapshot's origins, which are sorted by name.
    pub fn upstream_index(&self, name: &str) -> Option<usize> {
        self.snapshot.origins.binary_search_by(|origin| origin.name.as_str().cmp(name)).ok()
    }

    /// Name of an upstream.
    pub fn upstream_name(&self, index: usize) -> Option<&str> {
        self.snapshot.origins.get(index).map(|origin| origin.name.as_str())
    }

    /// Connections to an upstream.
    pub fn pool(&self, index: usize) -> Option<&Rc<Pool>> {
        self.pools.get(index)
    }
}

impl Worker {
    /// A worker without sockets.
    pub fn new(index: u32, shared: Arc<Shared>, stats: Arc<WorkerStats>, log: Option<LogWriter>) -> Rc<Self> {
        let live = Rc::new(Live::new(shared.snapshot.load_full(), None));
        let now = Instant::now();
        Rc::new(Self {
            index,
            stats,
            deadlines: Deadlines::default(),
            log: log.map(LineBuffer::new),
            in_force: RefCell::new(InForce { current: Cache::new(Current(Arc::clone(&shared))), live }),
            drain: watch::Sender::new(false),
            draining: Cell::new(false),
            active: Cell::new(0),
            held: Cell::new(0),
            room: Notify::new(),
            ids: Cell::new(0),
            id_room: RefCell::default(),
            boot: RandomState::new().hash_one(index) as u32,
            pushes: Cell::new((now, 0)),
            ledger: RefCell::new(Ledger::new(RandomState::new().hash_one(index))),
            told: RefCell::new(Bucket::full(connection::LINES, now)),
            sheds: Cell::new(false),
            followed: Followed::default(),
            clock: (now, monotonic_ns()),
            ticks: Cell::new(0),
            shared,
        })
    }

    /// The current snapshot with this worker's pools; a pointer comparison unless it has changed.
    pub fn live(&self) -> Rc<Live> {
        let InForce { current, live } = &mut *self.in_force.borrow_mut();
        let current = current.load();
        if !Arc::ptr_eq(current, &live.snapshot) {
            *live = Rc::new(Live::new(Arc::clone(current), Some(live)));
        }
        Rc::clone(live)
    }

    /// Requests that this worker has given an id.
    pub fn request_number(&self) -> u64 {
        self.ids.get()
    }

    /// An id that no other request of any worker or run has: 8 random hex digits of this worker's start, 10 of a counter.
    pub fn next_request_id(&self) -> HeaderValue {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let number = self.ids.get().wrapping_add(1);
        self.ids.set(number);
        let mut text = [b'0'; 18];
        let (boot, count) = text.split_at_mut(8);
        for (part, value) in [(boot, u64::from(self.boot)), (count, number)] {
            let mut value = value;
            for place in part.iter_mut().rev() {
                *place = DIGITS.get((value & 15) as usize).copied().unwrap_or(b'0');
                value >>= 4;
            }
        }
        let mut room = self.id_room.borrow_mut();
        if room.capacity() < text.len() {
            *room = BytesMut::with_capacity(text.len() * IDS_AT_ONCE);
        }
        room.extend_from_slice(&text);
        let text = room.split().freeze();
        HeaderValue::from_maybe_shared(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    }

    /// `CLOCK_MONOTONIC` nanoseconds at `instant`, without asking the clock again.
    pub fn monotonic_ns(&self, instant: Instant) -> u64 {
        self.clock.1.saturating_add(instant.saturating_duration_since(self.clock.0).as_nanos() as u64)
    }

    /// Whether one more verdict may be written in the current second.
    pub fn may_push(&self, now: Instant, limit: u32) -> bool {
        let (second, count) = self.pushes.get();
        let (second, count) =
            if now.saturating_duration_since(second) >= Duration::from_secs(1) { (now, 0) } else { (second, count) };
        if count >= limit {
            return false;
        }
        self.pushes.set((second, count + 1));
        true
    }

    /// Whether nothing new is taken.
    pub fn draining(&self) -> bool {
        self.draining.get()
    }

    /// Takes nothing new from here on; open connections are told.
    pub fn start_drain(&self) {
        self.draining.set(true);
        self.stats.accepting.store(false, Ordering::Relaxed);
        if let Some(kernel) = &self.shared.kernel {
            kernel.publish_accepting(self.index, false);
        }
        self.drain.send_replace(true);
        self.deadlines.wake_all();
    }

    /// Completes when the worker drains.
    pub async fn drained(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.drain.subscribe().wait_for(|drain| *drain).await;
    }

    /// Connections open now.
    pub fn active(&self) -> u32 {
        self.active.get()
    }

    /// Completes when another connection may be accepted.
    pub async fn room(&self) {
        while self.active.get() >= self.live().snapshot.config.limits.connections {
            self.room.notified().await;
        }
    }

    fn connection_opened(&self) {
        bump(&self.stats.accepted, 1);
        self.publish(self.active.get() + 1);
    }

    fn connection_closed(&self) {
        self.publish(self.active.get().saturating_sub(1));
        self.room.notify_one();
    }

    fn publish(&self, active: u32) {
        self.active.set(active);
        self.stats.active.store(u64::from(active), Ordering::Relaxed);
        if let Some(kernel) = &self.shared.kernel {
            kernel.publish_active(self.index, active);
        }
    }

    /// Whether requests are turned away for want of memory.
    pub fn sheds(&self) -> bool {
        self.sheds.get()
    }

    /// Looks at the memory that the process holds, of which each worker has its share.
    fn weigh(&self, budget: Option<Size>) {
        let Some(Size(budget)) = budget else { return self.sheds.set(false) };
        let Some(held) = resident_bytes() else { return };
        let (share, before) = (held / self.shared.stats.len().max(1) as u64, self.sheds.get());
        let sheds = memory::sheds(share, budget, before);
        if self.sheds.replace(sheds) != sheds {
            tracing::warn!(worker = self.index, share, budget, sheds, "requests are turned away for want of memory");
        }
    }

    /// What is due every [`deadlines::TICK`].
    fn tick(&self) {
        let now = Instant::now();
        self.deadlines.sweep(now);
        let ticks = self.ticks.get().wrapping_add(1);
        self.ticks.set(ticks);
        if ticks.is_multiple_of(LOG_FLUSH_TICKS)
            && let Some(log) = &self.log
        {
            log.flush();
        }
        for pool in self.in_force.borrow().live.pools.iter().filter(|pool| pool.probe_due(now)) {
            pool.probe();
        }
        if ticks.is_multiple_of(POOL_SWEEP_TICKS) {
            let live = self.live();
            self.weigh(live.snapshot.config.limits.memory);
            self.followed.sweep(live.snapshot.config.limits.resets, now);
            for pool in &live.pools {
                pool.sweep(now, live.snapshot.config.timeouts.upstream_idle.0);
            }
            self.stats.show_upstreams(live.pools.iter().map(|pool| pool.seen(now)).collect());
        }
    }
}

/// Bytes of the process that are in memory (`proc_pid_statm(5)`).
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * u64::try_from(page).ok()?)
}

fn monotonic_ns() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
    })
}
