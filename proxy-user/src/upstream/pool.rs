//! Kept connections of one worker to one upstream, and its balancer: the most recently used connection of a server first, a
//! bound on how many stay idle. A connection comes back only after its response was read to the end.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher as _, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;
use proxy_core::balance::{Balancer, Given, Order, RetryBudget, Standing};
use proxy_core::config::{Balance, Probing};
use proxy_core::route::Key;
use tokio::sync::Notify;

use super::connect::Addresses;
use super::origin::{Origin, Server};
use crate::http::body::RequestBody;
use crate::worker::deadlines::{Deadline, Deadlines};

/// How long a server that could not be reached is tried last.
const DOWN_FOR: Duration = Duration::from_secs(2);

/// Connections to one upstream.
pub struct Pool {
    origin: Arc<Origin>,
    servers: Vec<State>,
    idle: Cell<usize>,
    balancer: RefCell<Balancer>,
    /// Whether the balancer is told how requests went.
    told: bool,
    budget: RefCell<RetryBudget>,
    random: Cell<u64>,
    /// What the balancer's time counts from.
    start: Instant,
    probed: Cell<Instant>,
    /// Requests that wait for a server to have room.
    waiting: Cell<u32>,
    room: Notify,
}

/// One server of the pool.
pub(super) struct State {
    pub(super) server: Server,
    pub(super) addresses: Addresses,
    authority: Rc<str>,
    idle: RefCell<Vec<Idle>>,
}

struct Idle {
    sender: SendRequest<RequestBody>,
    deadline: Deadline,
    since: Instant,
}

/// A connection in use by one request.
pub struct Lease {
    /// hyper's end of it.
    pub sender: SendRequest<RequestBody>,
    /// For whatever is waited for on it.
    pub deadline: Deadline,
    /// Whether it has served a request before.
    pub reused: bool,
    pool: Rc<Pool>,
    server: usize,
    /// Held until the request is over; none where the balancer is not told.
    turn: Option<Turn>,
}

/// A request that a server was given, until it is over.
pub(super) struct Turn {
    pool: Rc<Pool>,
    given: Given,
    sent: Instant,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.pool.balancer.borrow_mut().ended(self.given);
        if self.pool.waiting.get() > 0 {
            self.pool.room.notify_one();
        }
    }
}

/// A server has as many requests as it may.
pub(super) struct Full;

impl Pool {
    /// Without connections.
    pub fn new(origin: Arc<Origin>) -> Self {
        let servers = origin.servers.iter().map(|server| State {
            server: server.clone(),
            addresses: Addresses::default(),
            authority: server.url.authority.as_str().into(),
            idle: RefCell::default(),
        });
        let balancer = Balancer::new(origin.rules.clone());
        let start = Instant::now();
        Self {
            servers: servers.collect(),
            idle: Cell::new(0),
            told: balancer.is_told(),
            balancer: RefCell::new(balancer),
            budget: RefCell::new(RetryBudget::new(origin.retries.percent, origin.retries.per_second, 0)),
            random: Cell::new(RandomState::new().hash_one(&origin.name) | 1),
            start,
            probed: Cell::new(start),
            waiting: Cell::new(0),
            room: Notify::new(),
            origin,
        }
    }

    /// Whether its connections are good for `origin`.
    pub fn serves(&self, origin: &Origin) -> bool {
        self.origin.same_as(origin)
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

    /// Servers in the order in which a request that began `at` tries them.
    pub(super) fn order(&self, at: Instant, hash: u64) -> Order {
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

    /// The kept connection that was used last, if one is still open.
    pub(super) async fn take_idle(self: &Rc<Self>, server: usize, turn: &mut Option<Turn>) -> Option<Lease> {
        let state = self.servers.get(server)?;
        loop {
            let mut kept = state.idle.borrow_mut().pop()?;
            self.idle.set(self.idle.get().saturating_sub(1));
            // The connection's task may have to be polled once more after the last response; an error means closed.
            if kept.sender.is_ready() || (!kept.sender.is_closed() && kept.sender.ready().await.is_ok()) {
                let pool = Rc::clone(self);
                return Some(Lease {
                    sender: kept.sender,
                    deadline: kept.deadline,
                    reused: true,
                    pool,
                    server,
                    turn: turn.take(),
                });
            }
        }
    }

    pub(super) fn opened(
        self: &Rc<Self>,
        server: usize,
        turn: Option<Turn>,
        sender: SendRequest<RequestBody>,
        deadlines: &Deadlines,
    ) -> Lease {
        self.balancer.borrow_mut().succeeded_connecting(server, self.time(deadlines.now()));
        Lease { sender, deadline: deadlines.add(), reused: false, pool: Rc::clone(self), server, turn }
    }

    pub(super) fn unreachable(&self, server: usize) {
        self.balancer.borrow_mut().unreachable(server, self.time(Instant::now()), DOWN_FOR);
    }

    /// The balancer's time.
    pub(super) fn time(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.start).as_nanos() as u64
    }

    /// Gives a server a request, which counts as open there from now on, connecting included.
    pub(super) fn turn(self: &Rc<Self>, server: usize) -> Result<Option<Turn>, Full> {
        if !self.told {
            return Ok(None);
        }
        let now = Instant::now();
        let given = self.balancer.borrow_mut().began(server, self.time(now)).ok_or(Full)?;
        Ok(Some(Turn { pool: Rc::clone(self), given, sent: now }))
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
        if self.origin.retries.attempts > 0 {
            self.budget.borrow_mut().sent();
        }
    }

    /// Whether the budget lets one be sent again.
    pub(super) fn may_retry(&self, at: Instant) -> bool {
        self.budget.borrow_mut().take(self.time(at))
    }

    /// Whether servers are to be asked now how they are; the next time is counted from here then.
    pub fn probe_due(&self, now: Instant) -> bool {
        let every = self.origin.health.as_ref().map(|health| health.every.0);
        let due = every.is_some_and(|every| now.saturating_duration_since(self.probed.get()) >= every);
        if due {
            self.probed.set(now);
        }
        due
    }

    pub(super) fn probed(&self, server: usize, well: bool, health: &Probing) {
        let now = self.time(Instant::now());
        let mut balancer = self.balancer.borrow_mut();
        let before = balancer.standing(server, now);
        balancer.probed(server, now, well, health.rise, health.fall);
        let after = balancer.standing(server, now);
        let name = self.servers.get(server).map(|state| state.server.url.to_string());
        match (before == Standing::Unhealthy, after == Standing::Unhealthy) {
            (false, true) => tracing::warn!(upstream = self.origin.name, server = name, "the server is not well"),
            (true, false) => tracing::info!(upstream = self.origin.name, server = name, "the server is well again"),
            _ => {}
        }
    }

    /// Drops what has been idle too long or was closed by the origin.
    pub fn sweep(&self, now: Instant, idle_for: Duration) {
        for state in &self.servers {
            let mut kept = state.idle.borrow_mut();
            let before = kept.len();
            kept.retain(|kept| !kept.sender.is_closed() && now.saturating_duration_since(kept.since) < idle_for);
            self.idle.set(self.idle.get().saturating_sub(before - kept.len()));
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

impl Lease {
    /// The server's `host:port`.
    pub fn server(&self) -> Rc<str> {
        self.pool.servers.get(self.server).map_or_else(|| "".into(), |state| Rc::clone(&state.authority))
    }

    pub(super) fn server_index(&self) -> usize {
        self.server
    }

    /// The request is sent now: latency counts from here.
    pub(super) fn sent(&mut self) {
        if let Some(turn) = &mut self.turn
            && !self.reused
        {
            turn.sent = Instant::now();
        }
    }

    /// How the request went, where anybody goes by it.
    pub(super) fn tell(&self, well: bool) {
        if let Some(Turn { sent, .. }) = &self.turn {
            let now = Instant::now();
            let took = now.saturating_duration_since(*sent);
            self.pool.balancer.borrow_mut().answered(self.server, self.pool.time(now), took, well);
        }
    }

    /// Keeps the connection for another request. Only after the response was read to its end and the request was sent.
    pub fn give_back(self) {
        let Some(state) = self.pool.servers.get(self.server) else { return };
        if self.sender.is_closed() || self.pool.idle.get() >= self.pool.origin.keepalive {
            return;
        }
        drop(self.turn);
        self.deadline.clear();
        self.pool.idle.set(self.pool.idle.get() + 1);
        let since = self.deadline.now();
        state.idle.borrow_mut().push(Idle { sender: self.sender, deadline: self.deadline, since });
    }
}
