//! Kept connections of one worker to one upstream, and its balancer: the most recently used connection of a server first, a
//! bound on how many stay idle. A connection comes back only after its response was read to the end.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;
use proxy_core::balance::{Balancer, Given, Order, RetryBudget, Standing};
use proxy_core::config::{Balance, Probing, Scheme};
use proxy_core::route::Key;
use tokio::sync::Notify;

use super::connect::{Addresses, OnBehalf, Opened};
use super::h2::{Next, Sessions, Slot};
use super::origin::{Origin, Server};
use super::tunnel::Handover;
use crate::http::body::RequestBody;
use crate::http::fault::Fault;
use crate::stages::exchange::Exchange;
use crate::worker::deadlines::Deadline;

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
    name: Rc<str>,
    idle: RefCell<Vec<Idle>>,
    sessions: Sessions,
    /// It was offered HTTP/2 and chose HTTP/1.1.
    declined: Cell<bool>,
}

/// What a request is sent by.
pub enum Sender {
    /// hyper's end of an HTTP/1.1 connection.
    Http1(SendRequest<RequestBody>),
    /// A place on an HTTP/2 connection, until the request is sent.
    Http2(Option<Slot>),
}

struct Idle {
    sender: SendRequest<RequestBody>,
    deadline: Deadline,
    since: Instant,
}

/// A connection in use by one request.
pub struct Lease {
    /// The connection.
    pub sender: Sender,
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
pub(crate) struct Turn {
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
pub(crate) struct Full;

impl Pool {
    /// Without connections.
    pub fn new(origin: Arc<Origin>) -> Self {
        let servers = origin.servers.iter().map(|server| State {
            server: server.clone(),
            addresses: Addresses::default(),
            name: server.url.name().into(),
            idle: RefCell::default(),
            sessions: Sessions::default(),
            declined: Cell::new(false),
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
                    sender: Sender::Http1(kept.sender),
                    deadline: kept.deadline,
                    reused: true,
                    pool,
                    server,
                    turn: turn.take(),
                });
            }
        }
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
            state.sessions.sweep(now, idle_for);
        }
    }

    /// A connection to one server: a kept one unless `fresh`, or a new one.
    pub(super) async fn reach(
        self: &Rc<Self>,
        server: usize,
        mut turn: Option<Turn>,
        exchange: &Exchange,
        fresh: bool,
        handover: &mut Option<Handover>,
    ) -> Result<Lease, Fault> {
        if !fresh && let Some(lease) = self.take_idle(server, &mut turn).await {
            return Ok(lease);
        }
        // Boxed: the state of a connect with TLS is large, and inline every request's future would carry, and move, the room
        // for it.
        Box::pin(self.make(server, turn, exchange, fresh, handover)).await
    }

    async fn make(
        self: &Rc<Self>,
        server: usize,
        turn: Option<Turn>,
        exchange: &Exchange,
        fresh: bool,
        handover: &mut Option<Handover>,
    ) -> Result<Lease, Fault> {
        let (limit, deadlines) = (exchange.connect_timeout(), &exchange.worker.deadlines);
        let connection = &exchange.connection;
        let behalf = OnBehalf { client: Some((connection.client, connection.local)) };
        let lease = |sender, reused, turn| Lease {
            sender,
            deadline: deadlines.add(),
            reused,
            pool: Rc::clone(self),
            server,
            turn,
        };
        let shared = self.servers.get(server).filter(|_| handover.is_none() && self.shares(server));
        let attempt = match shared {
            None => None,
            Some(state) => match state.sessions.next(fresh).await {
                Next::Go(slot) => return Ok(lease(Sender::Http2(Some(slot)), true, turn)),
                Next::Failed(fault) => return Err(fault),
                // Whoever waited for the first connection, which then was of HTTP/1.1, does not wait for others.
                Next::Connect(attempt) => (!state.declined.get()).then_some(attempt),
            },
        };
        match self.connect(server, limit, behalf, handover).await {
            Ok(Opened::Http2(session)) => {
                let slot = session.slot();
                if let Some(attempt) = attempt {
                    attempt.made(Some(&session));
                }
                Ok(lease(Sender::Http2(Some(slot)), false, turn))
            }
            Ok(Opened::Http1(sender)) => {
                if let (Some(attempt), Some(state)) = (attempt, self.servers.get(server)) {
                    state.declined.set(true);
                    attempt.made(None);
                }
                Ok(lease(Sender::Http1(sender), false, turn))
            }
            Err(fault) => {
                if let Some(attempt) = attempt {
                    attempt.failed(fault);
                }
                Err(fault)
            }
        }
    }

    /// Whether requests of several clients may go over one connection to a server.
    fn shares(&self, server: usize) -> bool {
        let Some(state) = self.servers.get(server) else { return false };
        let scheme = state.server.url.scheme;
        let offered = scheme == Scheme::Https && self.origin.tls_http2.is_some() && !state.declined.get();
        (scheme == Scheme::H2c || offered) && self.origin.proxy_protocol.is_none()
    }

    /// How its servers stand, as this worker sees them now.
    pub fn seen(&self, now: Instant) -> UpstreamSeen {
        let balancer = self.balancer.borrow();
        let time = self.time(now);
        let servers = self.servers.iter().enumerate().map(|(index, state)| {
            let (connections, streams) = state.sessions.count();
            ServerSeen {
                server: state.server.url.to_string(),
                standing: balancer.standing(index, time),
                requests: u64::from(balancer.active(index)).max(streams as u64),
                connections: (state.idle.borrow().len() + connections) as u64,
            }
        });
        UpstreamSeen {
            name: self.origin.name.clone(),
            waiting: u64::from(self.waiting.get()),
            servers: servers.collect(),
        }
    }
}

/// An upstream as one worker sees it.
#[derive(Clone, Debug)]
pub struct UpstreamSeen {
    /// Name in the config.
    pub name: String,
    /// Requests in its queue.
    pub waiting: u64,
    /// Its servers.
    pub servers: Vec<ServerSeen>,
}

/// One server of it.
#[derive(Clone, Debug)]
pub struct ServerSeen {
    /// As the config writes it.
    pub server: String,
    /// How it stands.
    pub standing: Standing,
    /// Open requests that are counted: those of HTTP/2, and of upstreams whose balancing goes by them.
    pub requests: u64,
    /// Kept connections: idle ones of HTTP/1.1, all of HTTP/2.
    pub connections: u64,
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
    /// The server's `host:port`, or the path of its socket.
    pub fn server(&self) -> Rc<str> {
        self.pool.servers.get(self.server).map_or_else(|| "".into(), |state| Rc::clone(&state.name))
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
        let Sender::Http1(sender) = self.sender else { return };
        // One that was introduced as a client's is not for others.
        if sender.is_closed()
            || self.pool.idle.get() >= self.pool.origin.keepalive
            || self.pool.origin.proxy_protocol.is_some()
        {
            return;
        }
        drop(self.turn);
        self.deadline.clear();
        self.pool.idle.set(self.pool.idle.get() + 1);
        let since = self.deadline.now();
        state.idle.borrow_mut().push(Idle { sender, deadline: self.deadline, since });
    }
}
