//! HTTP/2 to clients, on the `h2` crate's frames, windows and header compression (RFC 9113). One task serves a connection with all
//! of its streams: it polls those that were woken, lets `h2` write what they have for it, and sends that to the socket at once.
//! Decides nothing of requests: that is `stages`' business.

mod alive;
pub mod body;
mod goaway;
mod signal;
mod stream;
mod streams;
mod tunnel;
mod turns;
pub(crate) mod window;
mod wire;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::server::{Builder, Connection as Server};
use proxy_core::abuse::Kind;
use proxy_core::abuse::frames::Frames;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::coop;

use self::alive::Alive;
use self::signal::Signals;
use self::streams::Streams;
use self::wire::Wire;
use crate::worker::connection::{Connection, Order};

/// Flow-control window of one stream.
const STREAM_WINDOW: u32 = 256 << 10;
/// Flow-control window of a connection: several stalled uploads do not block the rest.
const CONNECTION_WINDOW: u32 = 2 << 20;
/// Bytes of a response that wait in `h2`: what more urgent streams have comes behind no more than this of each other stream.
const SEND_BUFFER: usize = 64 << 10;
/// Streams that a client reset before they were taken up; more end the connection (CVE-2023-44487).
const PENDING_RESETS: usize = 32;
/// Streams that we reset for a client's errors; more end the connection (CVE-2025-8671).
const LOCAL_RESETS: usize = 128;

/// Serves a connection until it ends.
pub async fn serve<I: AsyncRead + AsyncWrite + Unpin + 'static>(connection: Rc<Connection>, stream: I) {
    // Boxed, and gone once the preface has come: an idle connection holds no room for it.
    let outcome = match Box::pin(shake(&connection, stream)).await {
        Ok(None) => Ok(()),
        Ok(Some(mut serving)) => {
            let outcome = (&mut *serving).await;
            serving.leave();
            outcome
        }
        Err(error) => Err(error),
    };
    if let Err(error) = outcome {
        if let Some(kind) = abuse(&error, connection.calmed.get()) {
            connection.abused(kind);
        }
        tracing::debug!(client = %connection.client, protocol = "HTTP/2", %error, "the connection ended with an error");
    }
}

/// Waits for the preface; none where the connection is over before.
async fn shake<I: AsyncRead + AsyncWrite + Unpin + 'static>(
    connection: &Rc<Connection>,
    stream: I,
) -> Result<Option<Box<Serving<I>>>, Broken> {
    let live = connection.worker.live();
    let limits = &live.snapshot.config.limits;
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.header_bytes.0).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(Some(LOCAL_RESETS))
        .enable_connect_protocol();
    let frames = Frames::new(limits.resets, connection.worker.deadlines.now());
    drop(live);
    let wire = Wire::new(stream, frames, connection);
    let mut finish = false;
    let mut shaking = pin!(builder.handshake(wire.clone()));
    let shaken = poll_fn(|cx| {
        let polled = shaking.as_mut().poll(cx);
        if let Poll::Ready(Err(error)) = wire.poll_drain(cx) {
            return Poll::Ready(Some(Err(error.into())));
        }
        if let Poll::Ready(shaken) = polled {
            return Poll::Ready(Some(shaken.map_err(Broken::from)));
        }
        loop {
            match connection.poll_order(cx) {
                Order::None => return Poll::Pending,
                Order::Finish => finish = true,
                Order::Close => return Poll::Ready(None),
            }
        }
    })
    .await;
    let Some(mut server) = shaken.transpose()? else { return Ok(None) };
    if finish {
        server.graceful_shutdown();
    }
    Ok(Some(Box::new(Serving::new(connection, server, wire))))
}

/// What a client did whose connection ended like this, and was told of it why. What was found in its bytes before has been told.
fn abuse(error: &Broken, calmed: Option<Kind>) -> Option<Kind> {
    let Broken::Http(error) = error else { return None };
    let calm = error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM) && !error.is_remote();
    calm.then(|| calmed.unwrap_or(Kind::Resets))
}

/// Why a connection ended that should not have.
#[derive(Debug, thiserror::Error)]
enum Broken {
    /// One side broke the protocol, or has left.
    #[error(transparent)]
    Http(#[from] h2::Error),
    /// The socket takes nothing more.
    #[error(transparent)]
    Socket(#[from] std::io::Error),
}

/// A connection whose preface has come.
struct Serving<I> {
    connection: Rc<Connection>,
    streams: Streams,
    server: Server<Wire<I>, Bytes>,
    wire: Wire<I>,
    alive: Alive,
    signals: Rc<Signals>,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Serving<I> {
    fn new(connection: &Rc<Connection>, mut server: Server<Wire<I>, Bytes>, wire: Wire<I>) -> Self {
        let alive = Alive::new(connection, server.ping_pong());
        let streams = Streams::new(connection);
        Self { connection: Rc::clone(connection), streams, server, wire, alive, signals: Rc::new(Signals::new()) }
    }

    /// Takes up what has come, and writes what there is. Ready when the connection has ended.
    fn poll_server(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            let accepted = self.server.poll_accept(cx);
            self.streams.turns().socket(self.wire.is_blocked());
            match ready!(accepted) {
                Some(Ok((request, respond))) => {
                    self.streams.add(request, respond);
                    self.signals.streams.waker().wake_by_ref();
                }
                Some(Err(error)) => return Poll::Ready(Err(error.into())),
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    /// The connection is over: its streams see that, and end as far as they have come.
    fn leave(self) {
        let Self { mut streams, server, .. } = self;
        drop(server);
        while streams.poll(&mut Context::from_waker(Waker::noop())) {}
    }

    fn poll_all(&mut self) -> Poll<Result<(), Broken>> {
        let signals = Rc::clone(&self.signals);
        let cx = &mut Context::from_waker(signals.server.waker());
        let mut more = false;
        loop {
            // Streams first: what they hand in then goes in one piece.
            if signals.streams.take() || more {
                more = self.streams.poll(&mut Context::from_waker(signals.streams.waker()));
            }
            if signals.server.take()
                && let Poll::Ready(ended) = self.poll_server(cx)
            {
                return Poll::Ready(ended);
            }
            if more || signals.are_raised() {
                if coop::has_budget_remaining() {
                    continue;
                }
                signals.streams.waker().wake_by_ref();
            }
            if let Poll::Ready(Err(error)) = self.wire.poll_drain(cx) {
                return Poll::Ready(Err(error.into()));
            }
            if self.streams.turns().socket(self.wire.is_blocked()) {
                continue;
            }
            if self.alive.poll_lost(cx, &self.wire) {
                return Poll::Ready(Ok(()));
            }
            match self.connection.poll_order(cx) {
                Order::None => return Poll::Pending,
                Order::Finish => {
                    self.server.graceful_shutdown();
                    cx.waker().wake_by_ref();
                }
                Order::Close => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Future for Serving<I> {
    type Output = Result<(), Broken>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.signals.begin(cx);
        let polled = this.poll_all();
        this.signals.end(cx);
        polled
    }
}
