//! The request body: one type for HTTP/1, 2 and 3, streamed frame by frame, with the size bound and the gap timeout.
//! What became of it is told through [`Progress`], which the exchange holds too.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::http::fault::{Fault, Kind};
use crate::http::h3::H3RequestBody;
use crate::stages::filter::{BodyFilter, Filters, Polled};
use crate::worker::deadlines::{Deadline, Deadlines};

/// Where the bytes come from.
pub enum Source {
    /// No body.
    Empty,
    /// HTTP/1 or 2.
    Hyper(Incoming),
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

/// A request body on its way to the origin.
pub struct RequestBody {
    source: Source,
    left: u64,
    gap: Option<Deadline>,
    gap_after: Duration,
    deadlines: Option<Deadlines>,
    progress: Option<Rc<Progress>>,
    filters: Filters,
}

impl RequestBody {
    /// No body at all.
    pub fn empty() -> Self {
        Self {
            source: Source::Empty,
            left: 0,
            gap: None,
            gap_after: Duration::ZERO,
            deadlines: None,
            progress: None,
            filters: Filters::default(),
        }
    }

    /// A body of at most `limit` bytes, with at most `gap_after` between two pieces.
    pub fn new(source: Source, limit: u64, gap_after: Duration, deadlines: &Deadlines) -> Self {
        if let Source::Empty = source {
            return Self::empty();
        }
        Self {
            source,
            left: limit,
            gap: None,
            gap_after,
            deadlines: Some(deadlines.clone()),
            progress: Some(Rc::new(Progress::default())),
            filters: Filters::default(),
        }
    }

    /// Shared view of the progress; `None` where there is no body.
    pub fn progress(&self) -> Option<Rc<Progress>> {
        self.progress.clone()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        matches!(self.source, Source::Empty)
    }

    /// Bounds it anew, before it was read.
    pub fn limit(&mut self, limit: u64) {
        self.left = limit;
    }

    /// Lets it pass `filter`, behind those that it has.
    pub fn filter(&mut self, filter: Box<dyn BodyFilter>) {
        self.filters.push(filter);
    }

    fn fail(&mut self, fault: Fault) -> Polled {
        if let Some(progress) = &self.progress {
            progress.fault.set(Some(fault));
        }
        self.source = Source::Empty;
        Poll::Ready(Some(Err(fault)))
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Polled {
        if let Some(gap) = &self.gap {
            gap.clear();
        }
        let len = frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(left) = self.left.checked_sub(len) else {
            return self.fail(Fault::downstream(Kind::BodyTooLarge, "the request body is longer than allowed"));
        };
        self.left = left;
        if let Some(progress) = &self.progress {
            progress.bytes.set(progress.bytes.get() + len);
            if self.is_source_ended() {
                progress.finished.set(true);
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    /// The next frame that came from the client.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Polled {
        let this = self;
        let polled = match &mut this.source {
            Source::Empty => return Poll::Ready(None),
            Source::Hyper(body) => Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(drop))),
            Source::H3(body) => body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(drop))),
        };
        match polled {
            Poll::Ready(Some(Ok(frame))) => this.take(frame),
            Poll::Ready(Some(Err(()))) => {
                this.fail(Fault::downstream(Kind::ClientGone, "the request body ended early or is malformed"))
            }
            Poll::Ready(None) => {
                if let Some(progress) = &this.progress {
                    progress.finished.set(true);
                }
                this.source = Source::Empty;
                Poll::Ready(None)
            }
            Poll::Pending => {
                let Some(deadlines) = &this.deadlines else { return Poll::Pending };
                let after = this.gap_after;
                // Armed at the first wait and again after each piece, which disarms it.
                let gap = this.gap.get_or_insert_with(|| deadlines.add());
                gap.set_if_clear(after);
                if gap.poll_passed(cx).is_ready() {
                    return this.fail(Fault::downstream(Kind::BodyTimeout, "the request body did not arrive in time"));
                }
                Poll::Pending
            }
        }
    }

    /// The next frame that the filters leave something of.
    fn poll_filtered(&mut self, cx: &mut Context<'_>) -> Polled {
        let mut filters = std::mem::take(&mut self.filters);
        let polled = filters.poll(|| self.poll_source(cx));
        self.filters = filters;
        match polled {
            Poll::Ready(Some(Err(fault))) => self.fail(fault),
            polled => polled,
        }
    }

    fn is_source_ended(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Hyper(body) => body.is_end_stream(),
            Source::H3(_) => false,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = &mut *self;
        if this.filters.is_empty() { this.poll_source(cx) } else { this.poll_filtered(cx) }
    }

    fn is_end_stream(&self) -> bool {
        self.filters.is_empty() && self.is_source_ended()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            _ if !self.filters.is_empty() => SizeHint::default(),
            Source::Empty => SizeHint::with_exact(0),
            Source::Hyper(body) => body.size_hint(),
            Source::H3(body) => body.size_hint(),
        }
    }
}
