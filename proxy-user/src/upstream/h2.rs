//! Connections to origins that speak HTTP/2: each carries as many requests as the origin lets it, is asked for a sign of life
//! while it is kept, and takes no more once the origin has said that it goes. Bodies stream both ways with flow control;
//! trailers pass, so that gRPC does.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Ping, PingPong, Reason, RecvStream, SendStream};
use http::header::{CONNECTION, HOST};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, Request, Response, Uri, Version};
use http_body::{Body as _, Frame};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::{OriginBody, Unanswered};
use crate::http::body::RequestBody;
use crate::http::fault::{Fault, Kind};

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

/// A response body on a stream.
pub struct StreamBody {
    stream: RecvStream,
    data_ended: bool,
    pump: Option<JoinHandle<()>>,
    slot: Slot,
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        // What the origin did not take before it answered whole, or the client gave up, nobody needs.
        if let Some(pump) = &self.pump {
            pump.abort();
        }
    }
}

impl StreamBody {
    /// The next piece or the trailers.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.data_ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(piece)) => {
                    self.slot.0.state.hear();
                    // What was read may be sent again: the client's own window holds the rest back.
                    let released = self.stream.flow_control().release_capacity(piece.len());
                    return Poll::Ready(Some(released.map(|()| Frame::data(piece))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_ended = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        Poll::Ready(trailers.transpose().map(|trailers| trailers.map(Frame::trailers)))
    }

    /// Whether nothing more comes.
    pub fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}

/// Sends a request and waits for the response header.
pub(super) async fn send(slot: Slot, request: Request<RequestBody>) -> Result<Response<OriginBody>, Unanswered> {
    let sender = slot.0.sender.borrow().clone();
    let mut sender = match sender.ready().await {
        Ok(sender) => sender,
        Err(error) => {
            slot.0.state.gone.set(true);
            let fault = Fault::upstream(Kind::Closed, "the origin closed the connection without a response");
            tracing::debug!(%error, "origin connection takes no more requests");
            return Err(Unanswered { unsent: Some(request), refused: true, fault });
        }
    };
    let (mut parts, body) = request.into_parts();
    target(&mut parts, slot.0.scheme.clone()).map_err(Unanswered::broken)?;
    let ends = body.is_end_stream();
    let (response, stream) =
        sender.send_request(Request::from_parts(parts, ()), ends).map_err(|error| failed(&slot, &error))?;
    slot.0.state.sent.set(slot.0.state.sent.get() + 1);
    let pump = (!ends).then(|| tokio::task::spawn_local(pump(body, stream)));
    match response.await {
        Ok(response) => {
            slot.0.used.set(Instant::now());
            slot.0.state.hear();
            Ok(response
                .map(|stream| OriginBody::Stream(Box::new(StreamBody { stream, data_ended: false, pump, slot }))))
        }
        Err(error) => {
            if let Some(pump) = pump {
                pump.abort();
            }
            Err(failed(&slot, &error))
        }
    }
}

/// Makes the fields what HTTP/2 has in their place (RFC 9113 section 8.3.1).
fn target(parts: &mut http::request::Parts, scheme: Scheme) -> Result<(), Fault> {
    const BAD: Fault = Fault::bad_request("the host cannot be asked for over HTTP/2");
    let headers: &mut HeaderMap = &mut parts.headers;
    let host = headers.remove(HOST).ok_or(BAD)?;
    headers.remove(CONNECTION);
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.authority = Some(Authority::try_from(host.as_bytes()).map_err(|_| BAD)?);
    uri.scheme = Some(scheme);
    parts.uri = Uri::from_parts(uri).map_err(|_| BAD)?;
    parts.version = Version::HTTP_2;
    Ok(())
}

/// What became of a request that the origin did not answer: whether it may have had an effect (RFC 9113 section 8.7).
fn failed(slot: &Slot, error: &h2::Error) -> Unanswered {
    let goes = error.is_go_away() && error.is_remote();
    let refused = goes || error.reason() == Some(Reason::REFUSED_STREAM) && error.is_remote();
    if goes || error.is_io() {
        slot.0.state.gone.set(true);
    }
    tracing::debug!(%error, refused, "the request was not answered");
    let fault = if error.is_library() || error.reason() == Some(Reason::PROTOCOL_ERROR) {
        Fault::upstream(Kind::Protocol, "the origin's response is not valid HTTP")
    } else {
        Fault::upstream(Kind::Closed, "the origin ended the stream without a response")
    };
    Unanswered { unsent: None, refused, fault }
}

/// Sends a body as fast as the origin takes it. Faults of the client's are noted in the body's progress.
async fn pump(mut body: RequestBody, mut stream: SendStream<Bytes>) {
    loop {
        let frame = tokio::select! {
            biased;
            // The origin wants no more of it.
            _ = poll_fn(|cx| stream.poll_reset(cx)) => return,
            frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)) => frame,
        };
        let sent = match frame {
            None => stream.send_data(Bytes::new(), true),
            Some(Err(_)) => return stream.send_reset(Reason::CANCEL),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(piece) => {
                    let last = body.is_end_stream();
                    match data(&mut stream, piece, last).await {
                        Ok(()) if !last => continue,
                        sent => sent,
                    }
                }
                Err(frame) => match frame.into_trailers() {
                    Ok(trailers) => stream.send_trailers(trailers),
                    Err(_) => continue,
                },
            },
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "the origin took no more of a request body");
        }
        return;
    }
}

async fn data(stream: &mut SendStream<Bytes>, mut piece: Bytes, last: bool) -> Result<(), h2::Error> {
    while !piece.is_empty() {
        stream.reserve_capacity(piece.len());
        let Some(room) = poll_fn(|cx| stream.poll_capacity(cx)).await.transpose()? else {
            return Err(Reason::CANCEL.into());
        };
        let now = piece.split_to(room.min(piece.len()));
        let whole = piece.is_empty();
        stream.send_data(now, last && whole)?;
        if whole {
            return Ok(());
        }
    }
    if last { stream.send_data(Bytes::new(), true) } else { Ok(()) }
}
