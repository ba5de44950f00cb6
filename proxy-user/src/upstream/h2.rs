//! Connections to origins that speak HTTP/2: each carries as many requests as the origin lets it, is asked for a sign of life
//! while it is kept, and takes no more once the origin has said that it goes.

mod stream;
mod window;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Ping, PingPong, Reason};
use http::uri::Scheme;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

use crate::http::fault::Fault;
pub use stream::StreamBody;
pub(super) use stream::send;

/// Window of one response.
const STREAM_WINDOW: u32 = 1 << 20;
/// Window of all responses of a connection.
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Largest frame that an origin may send.
const FRAME: u32 = 64 << 10;
/// Largest header section of a response.
const HEADER_LIST: u32 = 256 << 10;
/// Bytes of requests that are buffered on a connection for each stream.
const SEND_BUFFER: usize = 256 << 10;
/// Looked at this often, a connection that says nothing although it should is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_secs(5);
/// And has this long to give it.
const PING_WAIT: Duration = Duration::from_secs(5);

/// Connections to one server.
#[derive(Default)]
pub(super) struct Sessions {
    open: RefCell<Vec<Rc<Session>>>,
    connecting: Cell<bool>,
    /// Attempts to connect that came to an end, whatever end.
    attempts: Cell<u64>,
    failed: Cell<Option<Fault>>,
    changed: Notify,
}

/// One connection.
pub struct Session {
    sender: RefCell<SendRequest<Bytes>>,
    /// What its requests name: whether there is TLS below.
    scheme: Scheme,
    state: Rc<State>,
    used: Cell<Instant>,
}

#[derive(Default)]
struct State {
    streams: Cell<usize>,
    /// Takes nothing more.
    gone: Cell<bool>,
    /// Requests that were sent.
    sent: Cell<u64>,
    /// Response headers and pieces of bodies that came.
    heard: Cell<u64>,
}

impl State {
    fn hear(&self) {
        self.heard.set(self.heard.get().wrapping_add(1));
    }
}

/// A place for one request on a connection, from before it is sent until its response has ended.
pub struct Slot(Rc<Session>);

impl Drop for Slot {
    fn drop(&mut self) {
        let streams = &self.0.state.streams;
        streams.set(streams.get().saturating_sub(1));
    }
}

/// What whoever needs a connection has to do.
pub(super) enum Next<'s> {
    /// Use this one.
    Go(Slot),
    /// Connect, and say what came of it.
    Connect(Attempt<'s>),
    /// Somebody else tried in vain.
    Failed(Fault),
}

impl Sessions {
    /// A place on a connection that has room, or whose turn it is to make one: one at a time does, others wait for it.
    pub(super) async fn next(&self, fresh: bool) -> Next<'_> {
        let mut seen = self.attempts.get();
        loop {
            if !fresh && let Some(slot) = self.find() {
                return Next::Go(slot);
            }
            if !self.connecting.replace(true) {
                return Next::Connect(Attempt { sessions: self, outcome: Ok(None) });
            }
            self.changed.notified().await;
            if self.attempts.get() != seen {
                seen = self.attempts.get();
                if let Some(fault) = self.failed.get() {
                    return Next::Failed(fault);
                }
            }
        }
    }

    fn find(&self) -> Option<Slot> {
        let mut open = self.open.borrow_mut();
        open.retain(|session| !session.state.gone.get());
        let session = open.iter().find(|session| session.has_room())?;
        Some(session.slot())
    }

    fn connected(&self, outcome: Result<Option<Rc<Session>>, Fault>) {
        self.connecting.set(false);
        self.attempts.set(self.attempts.get().wrapping_add(1));
        self.failed.set(outcome.as_ref().err().copied());
        if let Ok(Some(session)) = outcome {
            self.open.borrow_mut().push(session);
        }
        self.changed.notify_waiters();
    }

    /// Lets connections go that have been idle for too long.
    pub(super) fn sweep(&self, now: Instant, idle_for: Duration) {
        self.open.borrow_mut().retain(|session| {
            let idle =
                session.state.streams.get() == 0 && now.saturating_duration_since(session.used.get()) >= idle_for;
            !session.state.gone.get() && !idle
        });
    }

    /// Connections, and requests on them.
    pub(super) fn count(&self) -> (usize, usize) {
        let open = self.open.borrow();
        (open.len(), open.iter().map(|session| session.state.streams.get()).sum())
    }
}

/// Somebody connects; whoever gives up half-way lets the next one try.
pub(super) struct Attempt<'s> {
    sessions: &'s Sessions,
    outcome: Result<Option<Rc<Session>>, Fault>,
}

impl Attempt<'_> {
    /// What came of it: a connection, or one of HTTP/1.1, which others cannot share.
    pub(super) fn made(mut self, session: Option<&Rc<Session>>) {
        self.outcome = Ok(session.cloned());
    }

    /// It failed.
    pub(super) fn failed(mut self, fault: Fault) {
        self.outcome = Err(fault);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.sessions.connected(std::mem::replace(&mut self.outcome, Ok(None)));
    }
}

impl Session {
    /// Begins HTTP/2 on a connection; `scheme` says whether there is TLS below.
    pub(super) async fn start<I>(stream: I, scheme: Scheme) -> Result<Rc<Self>, h2::Error>
    where
        I: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (sender, mut connection) = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .max_header_list_size(HEADER_LIST)
            .max_send_buffer_size(SEND_BUFFER)
            .enable_push(false)
            .handshake(stream)
            .await?;
        let state = Rc::new(State::default());
        let session = Rc::new(Self {
            sender: RefCell::new(sender),
            scheme,
            state: Rc::clone(&state),
            used: Cell::new(Instant::now()),
        });
        // An origin's first frame is its settings: behind the answer to a ping they are known, and how many streams it takes.
        let mut pings = connection.ping_pong();
        if let Some(pings) = &mut pings {
            pings.send_ping(Ping::opaque())?;
            poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
                Poll::Ready(Ok(())) => Poll::Ready(Err(Reason::NO_ERROR.into())),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => pings.poll_pong(cx).map_ok(drop),
            })
            .await?;
        }
        tokio::task::spawn_local(async move {
            tokio::select! {
                ended = connection => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "origin connection ended");
                    }
                }
                () = silence(pings, &state) => tracing::debug!("an origin connection gave no sign of life"),
            }
            state.gone.set(true);
        });
        Ok(session)
    }

    fn has_room(&self) -> bool {
        self.state.streams.get() < self.sender.borrow().current_max_send_streams()
    }

    /// A place on it.
    pub(super) fn slot(self: &Rc<Self>) -> Slot {
        self.state.streams.set(self.state.streams.get() + 1);
        Slot(Rc::clone(self))
    }
}

/// Ends when a connection does not answer a ping. It is asked when requests were sent and nothing has come since, and once
/// for each request at most: servers of gRPC take pings without need for abuse.
async fn silence(pings: Option<PingPong>, state: &State) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    let (mut asked, mut heard) = (0, 0);
    loop {
        tokio::time::sleep(PING_EVERY).await;
        let (sent, now) = (state.sent.get(), state.heard.get());
        if std::mem::replace(&mut heard, now) != now || sent == asked || state.streams.get() == 0 {
            continue;
        }
        asked = sent;
        let answered = tokio::time::timeout(PING_WAIT, pings.ping(Ping::opaque())).await;
        if !matches!(answered, Ok(Ok(_))) {
            return;
        }
    }
}
