//! HTTP/1.1 for the admin socket and the metrics listener: bounds, timeouts, one request a connection.
//!
//! Knows nothing of what is asked. It is apart from the data path's HTTP on purpose: other bounds, small answers. An
//! answer of lines is bounded by whoever makes it, not by time.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::body::Body;

/// Connections that one listener serves at a time; more wait in the backlog.
pub const MAX_CONNECTIONS: usize = 32;
/// Most header fields of a request.
pub const MAX_HEADERS: usize = 64;
/// Most bytes of a request head.
pub const MAX_HEAD_BYTES: usize = 16 << 10;
/// Most bytes of a request body.
pub const MAX_BODY_BYTES: usize = 16 << 10;
/// A request head must have arrived by then, a body after the same time again.
pub const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// No connection is kept longer, whatever it does, except one whose answer is lines.
pub const MAX_LIFETIME: Duration = Duration::from_secs(120);
/// Pause after a failed accept, so that a full descriptor table does not spin.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is sent back.
pub type Answer = Response<Body>;

/// Places for connections of one listener.
pub fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_CONNECTIONS))
}

/// Serves one connection with one request in a task of its own; the place is given back at its end.
pub fn spawn<I, H, F>(io: I, place: OwnedSemaphorePermit, handler: H)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    tokio::spawn(async move {
        let endless = Arc::new(AtomicBool::new(false));
        let mark = Arc::clone(&endless);
        let service = service_fn(move |request| {
            let answer = handler(request);
            let mark = Arc::clone(&mark);
            async move {
                let answer = answer.await;
                mark.store(matches!(answer.body(), Body::Lines(_)), Ordering::Relaxed);
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(READ_TIMEOUT)
            .keep_alive(false)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(io), service);
        let mut connection = std::pin::pin!(connection);
        let outcome = match tokio::time::timeout(MAX_LIFETIME, connection.as_mut()).await {
            Err(_) if endless.load(Ordering::Relaxed) => Ok(connection.await),
            outcome => outcome,
        };
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a control connection ended early"),
            Err(_) => tracing::debug!("a control connection was closed for its age"),
        }
        drop(place);
    });
}

/// Why a body could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// More than is taken.
    TooLarge,
    /// Not complete within [`READ_TIMEOUT`].
    TooSlow,
    /// The peer broke off or broke the framing.
    Broken,
}

/// Reads a whole request body within the bounds.
///
/// # Errors
/// See [`BodyError`].
pub async fn read_body(body: Incoming, most: usize) -> Result<Bytes, BodyError> {
    match tokio::time::timeout(READ_TIMEOUT, Limited::new(body, most).collect()).await {
        Err(_) => Err(BodyError::TooSlow),
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(BodyError::TooLarge),
        Ok(Err(_)) => Err(BodyError::Broken),
    }
}

/// An answer with a body of the given type; never to be cached or sniffed.
pub fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    with_headers(status, content_type, Body::Whole(Full::new(body.into())))
}

/// An answer whose lines come as they are queued.
pub fn lines(content_type: &'static str, queue: mpsc::Receiver<Bytes>) -> Answer {
    with_headers(StatusCode::OK, content_type, Body::Lines(queue))
}

fn with_headers(status: StatusCode, content_type: &'static str, body: Body) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
