//! One request's connection to a server: a kept one of HTTP/1.1, a place on one of HTTP/2, or a new one; and the way back to
//! the pool. A connection comes back only after its response was read to the end.

use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use proxy_core::balance::Given;
use proxy_core::config::Scheme;

use super::asker::Asker;
use super::connect::Opened;
use super::h2::{Next, Slot};
use super::http1::Connection;
use super::pool::Pool;
use super::tunnel::Stream;
use crate::http::fault::Fault;
use crate::worker::deadlines::Deadline;

/// What a request is sent by.
pub enum Sender {
    /// An HTTP/1.1 connection.
    Http1(Connection),
    /// A place on an HTTP/2 connection, until the request is sent.
    Http2(Slot),
    /// Nothing any more: the request has the place, or the connection goes on as something else.
    Taken,
}

/// A kept connection of HTTP/1.1.
pub(super) struct Idle {
    pub(super) connection: Connection,
    deadline: Deadline,
    pub(super) since: Instant,
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
    pub(super) pool: Rc<Pool>,
    pub(super) given: Given,
    pub(super) sent: Instant,
    /// Failures in a row that the answer's header has ended.
    pub(super) ended: u32,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.pool.balancer.borrow_mut().ended(self.given);
        if self.pool.waiting.get() > 0 {
            self.pool.room.notify_one();
        }
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
    pub(super) fn tell(&mut self, well: bool) {
        if let Some(Turn { sent, ended, .. }) = &mut self.turn {
            // By the clock that the request was sent by: a worker's own may lag behind it.
            let now = Instant::now();
            let took = now.saturating_duration_since(*sent);
            *ended = self.pool.balancer.borrow_mut().answered(self.server, self.pool.time(now), took, well);
        }
    }

    /// The response did not come to its end, by the origin's fault.
    pub fn broke_off(&self) {
        if let Some(turn) = &self.turn {
            let now = self.pool.time(Instant::now());
            self.pool.balancer.borrow_mut().broke_off(self.server, now, turn.ended);
        }
    }

    /// The stream of a connection that changes the protocol, and what came behind the 101. The request counts as open still.
    pub(super) fn take_stream(&mut self) -> Option<(Box<dyn Stream>, Bytes)> {
        match std::mem::replace(&mut self.sender, Sender::Taken) {
            Sender::Http1(connection) => connection.into_stream(),
            Sender::Http2(_) | Sender::Taken => None,
        }
    }

    /// Keeps the connection for another request. Only after the response was read to its end and the request was sent.
    pub fn give_back(self) {
        let Some(state) = self.pool.servers.get(self.server) else { return };
        let Sender::Http1(connection) = self.sender else { return };
        // One that was introduced as a client's is not for others.
        if !connection.is_reusable()
            || self.pool.idle.get() >= self.pool.origin.keepalive
            || self.pool.origin.proxy_protocol.is_some()
        {
            return;
        }
        drop(self.turn);
        self.deadline.clear();
        self.pool.idle.set(self.pool.idle.get() + 1);
        let since = self.deadline.now();
        state.idle.borrow_mut().push(Idle { connection, deadline: self.deadline, since });
    }
}

impl Pool {
    /// The kept connection that was used last, if one is still open.
    pub(super) fn take_idle(self: &Rc<Self>, server: usize, turn: &mut Option<Turn>) -> Option<Lease> {
        let state = self.servers.get(server)?;
        loop {
            let kept = state.idle.borrow_mut().pop()?;
            self.idle.set(self.idle.get().saturating_sub(1));
            if kept.connection.is_open() {
                let pool = Rc::clone(self);
                return Some(Lease {
                    sender: Sender::Http1(kept.connection),
                    deadline: kept.deadline,
                    reused: true,
                    pool,
                    server,
                    turn: turn.take(),
                });
            }
        }
    }

    /// A connection to one server: a kept one unless `fresh`, or a new one.
    pub(super) async fn reach(
        self: &Rc<Self>,
        server: usize,
        mut turn: Option<Turn>,
        asker: &impl Asker,
        fresh: bool,
        upgrade: bool,
    ) -> Result<Lease, Fault> {
        if !fresh && let Some(lease) = self.take_idle(server, &mut turn) {
            return Ok(lease);
        }
        // Boxed: the state of a connect with TLS is large, and inline every request's future would carry, and move, the room
        // for it.
        Box::pin(self.make(server, turn, asker, fresh, upgrade)).await
    }

    async fn make(
        self: &Rc<Self>,
        server: usize,
        turn: Option<Turn>,
        asker: &impl Asker,
        fresh: bool,
        upgrade: bool,
    ) -> Result<Lease, Fault> {
        let (limit, deadlines) = (asker.connect_timeout(), &asker.worker().deadlines);
        let behalf = asker.behalf();
        let lease = |sender, reused, turn| Lease {
            sender,
            deadline: deadlines.add(),
            reused,
            pool: Rc::clone(self),
            server,
            turn,
        };
        let shared = self.servers.get(server).filter(|_| !upgrade && self.shares(server));
        let attempt = match shared {
            None => None,
            Some(state) => match state.sessions.next(fresh).await {
                Next::Go(slot) => return Ok(lease(Sender::Http2(slot), true, turn)),
                Next::Failed(fault) => return Err(fault),
                // Whoever waited for the first connection, which then was of HTTP/1.1, does not wait for others.
                Next::Connect(attempt) => (!state.declined.get()).then_some(attempt),
            },
        };
        match self.connect(server, limit, behalf, upgrade).await {
            Ok(Opened::Http2(session)) => {
                let slot = session.slot();
                if let Some(attempt) = attempt {
                    attempt.made(Some(&session));
                }
                Ok(lease(Sender::Http2(slot), false, turn))
            }
            Ok(Opened::Http1(connection)) => {
                if let (Some(attempt), Some(state)) = (attempt, self.servers.get(server)) {
                    state.declined.set(true);
                    attempt.made(None);
                }
                Ok(lease(Sender::Http1(connection), false, turn))
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
}
