//! HTTP over a TCP or TLS stream: HTTP/1 by hyper, HTTP/2 by `h2`. Which of the two: ALPN says, or in clear text the first bytes.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proxy_core::abuse::Kind;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::body::{RequestBody, Source};
use super::reply::ResponseBody;
use super::watch::{Heads, Watched};
use super::{early, h2};
use crate::stages;
use crate::stages::exchange::Exchange;
use crate::worker::connection::{Connection, Order};
use crate::worker::stream::ClientStream;

/// First bytes of an HTTP/2 connection preface (RFC 9113 section 3.4) that no HTTP/1 method begins with.
const H2_PREFACE: &[u8] = b"PRI";
/// Pause before the first bytes are looked at again when fewer than that have come.
const PREFACE_PAUSE: Duration = Duration::from_millis(20);
/// Header fields that hyper holds on the stack; another bound costs an allocation for each request.
const H1_DEFAULT_HEADERS: u32 = 100;
/// HTTP/1 buffer: large bodies are read and written in pieces of up to this size.
const H1_BUFFER: usize = 256 << 10;
/// Serves a clear-text connection until it ends.
pub async fn serve_clear(connection: Rc<Connection>, stream: ClientStream) {
    let limit = connection.worker.live().snapshot.config.timeouts.header.0;
    let is_h2 = tokio::select! {
        found = tokio::time::timeout(limit, has_h2_preface(stream.tcp())) => found.unwrap_or(None),
        () = connection.worker.drained() => has_h2_preface(stream.tcp()).await,
    };
    match is_h2 {
        Some(true) => h2::serve(connection, stream).await,
        Some(false) => serve_h1(connection, stream).await,
        None => {}
    }
}

/// Serves a TLS connection until it ends.
pub async fn serve_tls(connection: Rc<Connection>, stream: TlsStream<ClientStream>) {
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        h2::serve(connection, stream).await;
    } else {
        serve_h1(connection, stream).await;
    }
}

/// Whether the first bytes, which stay unread, are HTTP/2's. `None` where the client left before it sent any.
async fn has_h2_preface(stream: &TcpStream) -> Option<bool> {
    let mut first = [0; H2_PREFACE.len()];
    loop {
        let count = stream.peek(&mut first).await.ok()?;
        let seen = first.get(..count)?;
        if count == 0 {
            return None;
        }
        if count == H2_PREFACE.len() || !H2_PREFACE.starts_with(seen) {
            return Some(seen == H2_PREFACE);
        }
        tokio::time::sleep(PREFACE_PAUSE).await;
    }
}

async fn serve_h1<I: AsyncRead + AsyncWrite + Unpin + 'static>(connection: Rc<Connection>, stream: I) {
    let live = connection.worker.live();
    let limits = &live.snapshot.config.limits;
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None);
    builder.max_buf_size(H1_BUFFER).max_header_size(limits.header_bytes.0 as usize);
    if limits.headers != H1_DEFAULT_HEADERS {
        builder.max_headers(limits.headers as usize);
    }
    drop(live);
    let io = TokioIo::new(Watched::new(stream, Heads, &connection));
    let for_requests = Rc::clone(&connection);
    let in_flight = Rc::new(InFlight::default());
    let service = service_fn(move |request| in_flight.begin(handle(Rc::clone(&for_requests), request)));
    let mut server = builder.serve_connection(io, service);
    let outcome = drive(&connection, &mut server, http1::Connection::poll_without_shutdown, |server| {
        Pin::new(server).graceful_shutdown();
    })
    .await;
    if let Ok(true) = outcome {
        let parts = server.into_parts();
        let mut stream = parts.io.into_inner().into_inner();
        let tunnel = connection.tunnel.take();
        if let Some(tunnel) = tunnel {
            let mut client = Early { bytes: parts.read_buf, stream };
            return tunnel.run(&mut client).await;
        }
        // The client may have left already.
        let _ = stream.shutdown().await;
    }
    ended(&connection, "HTTP/1", outcome.map(drop));
}

/// Polls a connection until it ends, and does meanwhile what the worker orders; `finish` begins its graceful end.
/// Whether it ended by itself.
async fn drive<S>(
    connection: &Connection,
    server: &mut S,
    poll: impl Fn(&mut S, &mut Context<'_>) -> Poll<hyper::Result<()>>,
    finish: impl Fn(&mut S),
) -> hyper::Result<bool> {
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(result) = poll(server, cx) {
                return Poll::Ready(result.map(|()| true));
            }
            match connection.poll_order(cx) {
                Order::None => return Poll::Pending,
                Order::Finish => finish(server),
                Order::Close => return Poll::Ready(Ok(false)),
            }
        }
    })
    .await
}

/// The one request that an HTTP/1 connection serves at a time, in a place of its own: hyper hands a connection back for
/// another protocol only where the futures that it holds can be moved, and boxing each would cost an allocation.
struct InFlight<F>(RefCell<Pin<Box<Option<F>>>>);

/// hyper's handle of it.
struct Handle<F>(Rc<InFlight<F>>);

impl<F> Default for InFlight<F> {
    fn default() -> Self {
        Self(RefCell::new(Box::pin(None)))
    }
}

impl<F> InFlight<F> {
    fn begin(self: &Rc<Self>, future: F) -> Handle<F> {
        self.0.borrow_mut().as_mut().set(Some(future));
        Handle(Rc::clone(self))
    }
}

impl<F: Future> Future for Handle<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.0.0.borrow_mut().as_mut().as_pin_mut() {
            Some(future) => future.poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<F> Drop for Handle<F> {
    fn drop(&mut self) {
        self.0.0.borrow_mut().as_mut().set(None);
    }
}

/// A client's stream, and what it has sent of another protocol already.
struct Early<I> {
    bytes: Bytes,
    stream: I,
}

/// One request.
async fn handle(connection: Rc<Connection>, request: Request<Incoming>) -> Result<Response<ResponseBody>, Cut> {
    let (head, body) = request.into_parts();
    let source = if body.is_end_stream() { Source::Empty } else { Source::Hyper(body) };
    let live = connection.worker.live();
    let config = &live.snapshot.config;
    let body = RequestBody::new(source, config.limits.body.0, config.timeouts.body.0, &connection.worker.deadlines);
    // HTTP/1.0 has no interim answers (RFC 9110 section 15.2).
    let hints = head.version == Version::HTTP_11 && live.snapshot.early_hints;
    let mut exchange = Exchange::new(Rc::clone(&connection), head, body.progress());
    if hints {
        exchange.early = Some(early::Early::Http1(Rc::clone(&connection)));
    }
    let response = stages::run(exchange, body).await;
    if hints {
        connection.between.over();
    }
    if connection.is_cut() {
        return Err(Cut::Policy);
    }
    Ok(response)
}

/// What happens instead of the answer being sent.
#[derive(Debug, thiserror::Error)]
enum Cut {
    /// The connection ends.
    #[error("cut by policy")]
    Policy,
}

fn ended(connection: &Connection, protocol: &str, result: hyper::Result<()>) {
    if let Err(error) = result {
        if let Some(kind) = abuse(&error) {
            connection.abused(kind);
        }
        tracing::debug!(client = %connection.client, protocol, %error, "the connection ended with an error");
    }
}

/// What a client did whose connection ended like this, and was told of it why. What was found in its bytes before has been told.
fn abuse(error: &hyper::Error) -> Option<Kind> {
    if error.is_parse_too_large() {
        return Some(Kind::LargeHeader);
    }
    if error.is_parse() {
        return Some(Kind::Malformed);
    }
    None
}

impl<I: AsyncRead + Unpin> AsyncRead for Early<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.bytes.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = self.bytes.len().min(buf.remaining());
        buf.put_slice(&self.bytes.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Early<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
