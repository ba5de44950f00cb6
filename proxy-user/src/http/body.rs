//! The request body: one type for HTTP/1, 2 and 3, streamed frame by frame, with the size bound and the gap timeout.
//! What became of it is told through [`Progress`], which the exchange holds too.

mod arriving;

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use self::arriving::Arriving;
use crate::http::fault::Fault;
use crate::http::h1::body::H1RequestBody;
use crate::http::h2::body::StreamBody;
use crate::http::h3::receive::H3RequestBody;
use crate::stages::filter::{BodyFilter, Polled};
use crate::worker::deadlines::Deadlines;

/// Where the bytes come from.
pub enum Source {
    /// No body.
    Empty,
    /// HTTP/1.
    Http1(H1RequestBody),
    /// HTTP/2.
    H2(Box<StreamBody>),
    /// HTTP/3.
    H3(Box<H3RequestBody>),
}

/// What is known of a request body while it is sent.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes taken from the client.
    pub bytes: Cell<u64>,
    /// Whether the client's last byte (and trailers) were taken.
    pub finished: Cell<bool>,
    /// Why it failed.
    pub fault: Cell<Option<Fault>>,
}

/// A request body on its way to the origin. A pointer: it passes through many hands, and most requests have none.
pub struct RequestBody(Option<Box<Arriving>>);

impl RequestBody {
    /// No body at all.
    pub fn empty() -> Self {
        Self(None)
    }

    /// These bytes.
    pub fn of(bytes: Bytes) -> Self {
        Self((!bytes.is_empty()).then(|| Box::new(Arriving::of(bytes))))
    }

    /// A body of at most `limit` bytes, with at most `gap_after` between two pieces.
    pub fn new(source: Source, limit: u64, gap_after: Duration, deadlines: &Deadlines) -> Self {
        let there = !matches!(source, Source::Empty);
        Self(there.then(|| Box::new(Arriving::new(source, limit, gap_after, deadlines))))
    }

    /// Shared view of the progress; `None` where there is no body.
    pub fn progress(&self) -> Option<Rc<Progress>> {
        self.0.as_ref()?.progress()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|body| body.is_empty())
    }

    /// Reads until so many bytes have come, or there are no more; nothing is taken away. The bytes, at most `limit`, and
    /// whether there are more.
    pub async fn read_ahead(&mut self, limit: usize) -> (Bytes, bool) {
        match &mut self.0 {
            Some(body) => body.read_ahead(limit).await,
            None => (Bytes::new(), false),
        }
    }

    /// Whether anything looks at its bytes on their way.
    pub fn is_filtered(&self) -> bool {
        self.0.as_ref().is_some_and(|body| body.is_filtered())
    }

    /// Lays a frame back that was taken and could not be sent.
    pub fn put_back(&mut self, frame: Option<Frame<Bytes>>) {
        if let (Some(body), Some(frame)) = (&mut self.0, frame) {
            body.put_back(frame);
        }
    }

    /// Bounds it anew, what was read ahead counts; and its pauses, from the next on.
    pub fn limit(&mut self, limit: u64, gap_after: Option<Duration>) {
        if let Some(body) = &mut self.0 {
            body.limit(limit, gap_after);
        }
    }

    /// Lets it pass `filter`, behind those that it has.
    pub fn filter(&mut self, filter: Box<dyn BodyFilter>) {
        if let Some(body) = &mut self.0 {
            body.filter(filter);
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        self.0.as_mut().map_or(Poll::Ready(None), |body| body.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or(SizeHint::with_exact(0), |body| body.size_hint())
    }
}
