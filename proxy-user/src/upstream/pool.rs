//! One worker's view of one upstream: its servers with their kept connections, the balancer that orders them, the queue of
//! requests for which none has room. Connects nothing and sends nothing.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proxy_core::balance::{Balancer, Hedge, Order, RetryBudget};
use proxy_core::config::Balance;
use proxy_core::route::Key;
use tokio::sync::Notify;

use super::h2::Sessions;
use super::lease::{Idle, Turn};
use super::names::Addresses;
use super::origin::{Origin, Server};
use crate::kernel::SameHost;

/// How long a server that could not be reached is tried last.
const DOWN_FOR: Duration = Duration::from_secs(2);

/// Connections to one upstream.
pub struct Pool {
    pub(super) origin: Arc<Origin>,
    pub(super) servers: Vec<State>,
    /// What hands the servers' responses over, if anything does.
    pub(super) same_host: Option<Arc<SameHost>>,
    /// Kept connections of HTTP/1.1, all servers together.
    pub(super) idle: Cell<usize>,
    pub(super) balancer: RefCell<Balancer>,
    /// Whether the balancer is told how requests went.
    told: bool,
    budget: RefCell<RetryBudget>,
    hedge: Option<RefCell<Hedge>>,
    random: Cell<u64>,
    /// What the balancer's time counts from.
    start: Instant,
    pub(super) probed: Cell<Instant>,
    /// Requests that wait for a server to have room.
    pub(super) waiting: Cell<u32>,
    pub(super) room: Notify,
}

/// One server of the pool.
pub(super) struct State {
    pub(super) server: Server,
    pub(super) addresses: Rc<Addresses>,
    pub(super) name: Rc<str>,
    pub(super) idle: RefCell<Vec<Idle>>,
    pub(super) sessions: Sessions,
    /// It was offered HTTP/2 and chose HTTP/1.1.
    pub(super) declined: Cell<bool>,
}

/// A server has as many requests as it may.
pub(crate) struct Full;

impl Pool {
    /// Without connections.
    pub fn new(origin: Arc<Origin>, same_host: Option<Arc<SameHost>>) -> Self {
        let servers = origin.servers.iter().map(|server| State {
            server: server.clone(),
            addresses: Rc::default(),
            name: server.url.name().into(),
            idle: RefCell::default(),
            sessions: Sessions::default(),
            declined: Cell::new(false),
        });
        let balancer = Balancer::new(origin.rules.clone());
        let start = Instant::now();
        Self {
            servers: servers.collect(),
            same_host,
            idle: Cell::new(0),
            told: balancer.is_told(),
            balancer: RefCell::new(balancer),
            budget: RefCell::new(RetryBudget::new(origin.retries.percent, origin.retries.per_second, 0)),
            hedge: origin.hedge.map(|after| RefCell::new(Hedge::new(after))),
            random: Cell::new(RandomState::new().hash_one(&origin.name) | 1),
            start,
            probed: Cell::new(start),
            waiting: Cell::new(0),
            room: Notify::new(),
            origin,
        }
    }

    /// Whether its connections are good for `origin`, whose responses are handed over by this, or not.
    pub fn serves(&self, origin: &Origin, same_host: Option<&Arc<SameHost>>) -> bool {
        self.origin.same_as(origin) && self.same_host.is_some() == same_host.is_some()
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(super) fn state(&self, server: usize) -> Option<&State> {
        self.servers.get(server)
    }

    /// The hash of a request's key, where anything goes by it.
    pub(super) fn hash(&self, of: impl FnOnce(&Key) -> u64) -> u64 {
        if self.origin.rules.balance == Balance::Hash { of(&self.origin.key) } else { 0 }
    }

    /// The same for a connection, of which only the client's address is known.
    pub(crate) fn hash_of_address(&self, client: IpAddr) -> u64 {
        self.hash(|_| Key::hash_address(client))
    }

    /// Servers in the order in which a request that began `at` tries them.
    pub(crate) fn order(&self, at: Instant, hash: u64) -> Order {
        // Xorshift (Marsaglia 2003): good enough to pick two of a few.
        let mut random = self.random.get();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        self.random.set(random);
        self.balancer.borrow_mut().order(self.time(at), random, hash)
    }

    /// How many there are.
    pub fn servers(&self) -> usize {
        self.servers.len()
    }

    pub(super) fn reachable(&self, server: usize) {
        self.balancer.borrow_mut().succeeded_connecting(server, self.time(Instant::now()));
    }

    pub(super) fn unreachable(&self, server: usize) {
        self.balancer.borrow_mut().unreachable(server, self.time(Instant::now()), DOWN_FOR);
    }

    /// The balancer's time.
    pub(super) fn time(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.start).as_nanos() as u64
    }

    /// Gives a server a request, which counts as open there from now on, connecting included.
    pub(crate) fn turn(self: &Rc<Self>, server: usize) -> Result<Option<Turn>, Full> {
        if !self.told {
            return Ok(None);
        }
        let now = Instant::now();
        let given = self.balancer.borrow_mut().began(server, self.time(now)).ok_or(Full)?;
        Ok(Some(Turn { pool: Rc::clone(self), given, sent: now, ended: 0 }))
    }

    /// Waits until a server may have room, in the upstream's queue.
    ///
    /// # Errors
    /// There is no queue, it is full, or its time is over.
    pub(super) async fn queue(&self) -> Result<(), Full> {
        let queue = self.origin.queue.as_ref().filter(|queue| self.waiting.get() < queue.requests).ok_or(Full)?;
        let _place = Place::take(&self.waiting);
        tokio::time::timeout(queue.time.0, self.room.notified()).await.map_err(|_| Full)
    }

    /// A request was sent for the first time.
    pub(super) fn sent(&self) {
        if self.origin.retries.attempts > 0 || self.hedge.is_some() {
            self.budget.borrow_mut().sent();
        }
    }

    /// Whether requests may go to a second server while the first has not answered.
    pub(super) fn hedges(&self) -> bool {
        self.hedge.is_some()
    }

    /// How long the first server is waited for; None for as long as it takes.
    pub(super) fn hedge_wait(&self) -> Option<Duration> {
        self.hedge.as_ref()?.borrow().wait()
    }

    /// The first server answered, or was given up, a request that was sent `at` this time.
    pub(super) fn hedge_took(&self, at: Instant) {
        if let Some(hedge) = &self.hedge {
            hedge.borrow_mut().took(at.elapsed());
        }
    }

    /// Whether the budget lets one be sent again.
    pub(super) fn may_retry(&self, at: Instant) -> bool {
        self.budget.borrow_mut().take(self.time(at))
    }

    /// Drops what has been idle too long or was closed by the origin.
    pub fn sweep(&self, now: Instant, idle_for: Duration) {
        for state in &self.servers {
            let mut kept = state.idle.borrow_mut();
            let before = kept.len();
            kept.retain(|kept| kept.connection.is_open() && now.saturating_duration_since(kept.since) < idle_for);
            self.idle.set(self.idle.get().saturating_sub(before - kept.len()));
            state.sessions.sweep(now, idle_for);
        }
    }
}

/// A place in the queue, until it is let go.
struct Place<'p>(&'p Cell<u32>);

impl<'p> Place<'p> {
    fn take(waiting: &'p Cell<u32>) -> Self {
        waiting.set(waiting.get() + 1);
        Self(waiting)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}
