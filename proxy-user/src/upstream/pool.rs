//! Kept connections of one worker to one upstream: round robin over the servers, the most recently used connection
//! first, a bound on how many stay idle. A connection comes back only after its response was read to the end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;
use smallvec::SmallVec;

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
    next: Cell<usize>,
}

/// One server of the pool.
pub(super) struct State {
    pub(super) server: Server,
    pub(super) addresses: Addresses,
    authority: Rc<str>,
    idle: RefCell<Vec<Idle>>,
    down_until: Cell<Option<Instant>>,
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
}

impl Pool {
    /// Without connections.
    pub fn new(origin: Arc<Origin>) -> Self {
        let servers = origin.servers.iter().map(|server| State {
            server: server.clone(),
            addresses: Addresses::default(),
            authority: server.url.authority.as_str().into(),
            idle: RefCell::default(),
            down_until: Cell::new(None),
        });
        Self { servers: servers.collect(), origin, idle: Cell::new(0), next: Cell::new(0) }
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

    /// Servers in the order in which this request tries them: round robin, those known to be down last.
    pub(super) fn order(&self) -> SmallVec<[usize; 4]> {
        let count = self.servers.len();
        let first = self.next.get();
        self.next.set(first.wrapping_add(1));
        let mut order: SmallVec<[usize; 4]> = (0..count).map(|step| first.wrapping_add(step) % count).collect();
        if self.servers.iter().any(|state| state.down_until.get().is_some()) {
            let now = Instant::now();
            order.sort_by_key(|server| self.servers.get(*server).is_some_and(|state| state.is_down(now)));
        }
        order
    }

    /// The kept connection that was used last, if one is still open.
    pub(super) async fn take_idle(self: &Rc<Self>, server: usize) -> Option<Lease> {
        let state = self.servers.get(server)?;
        loop {
            let mut kept = state.idle.borrow_mut().pop()?;
            self.idle.set(self.idle.get().saturating_sub(1));
            // The connection's task may have to be polled once more after the last response; an error means closed.
            if kept.sender.is_ready() || (!kept.sender.is_closed() && kept.sender.ready().await.is_ok()) {
                let pool = Rc::clone(self);
                return Some(Lease { sender: kept.sender, deadline: kept.deadline, reused: true, pool, server });
            }
        }
    }

    pub(super) fn opened(
        self: &Rc<Self>,
        server: usize,
        sender: SendRequest<RequestBody>,
        deadlines: &Deadlines,
    ) -> Lease {
        if let Some(state) = self.servers.get(server) {
            state.down_until.set(None);
        }
        Lease { sender, deadline: deadlines.add(), reused: false, pool: Rc::clone(self), server }
    }

    pub(super) fn unreachable(&self, server: usize) {
        if let Some(state) = self.servers.get(server) {
            state.down_until.set(Instant::now().checked_add(DOWN_FOR));
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

impl State {
    fn is_down(&self, now: Instant) -> bool {
        self.down_until.get().is_some_and(|until| now < until)
    }
}

impl Lease {
    /// The server's `host:port`.
    pub fn server(&self) -> Rc<str> {
        self.pool.servers.get(self.server).map_or_else(|| "".into(), |state| Rc::clone(&state.authority))
    }

    /// Keeps the connection for another request. Only after the response was read to its end and the request was sent.
    pub fn give_back(self) {
        let Some(state) = self.pool.servers.get(self.server) else { return };
        if self.sender.is_closed() || self.pool.idle.get() >= self.pool.origin.keepalive {
            return;
        }
        self.deadline.clear();
        self.pool.idle.set(self.pool.idle.get() + 1);
        let since = self.deadline.now();
        state.idle.borrow_mut().push(Idle { sender: self.sender, deadline: self.deadline, since });
    }
}
