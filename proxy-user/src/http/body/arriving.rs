//! A request body that there is: where its bytes come from, how many may come and in what time, what was read ahead.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};

use super::{Progress, Source};
use crate::http::fault::{Fault, Kind};
use crate::stages::filter::{BodyFilter, Filters, Polled};
use crate::worker::deadlines::{Deadline, Deadlines};

/// A body of which something has come or is to come.
pub(super) struct Arriving {
    source: Source,
    left: u64,
    gap: Option<Deadline>,
    gap_after: Duration,
    deadlines: Option<Deadlines>,
    progress: Option<Rc<Progress>>,
    filters: Filters,
    /// What was read ahead, and how it ended if it did.
    ahead: VecDeque<Result<Frame<Bytes>, Fault>>,
}

impl Arriving {
    /// These bytes, and nothing more.
    pub(super) fn of(bytes: Bytes) -> Self {
        let mut body = Self {
            source: Source::Empty,
            left: 0,
            gap: None,
            gap_after: Duration::ZERO,
            deadlines: None,
            progress: None,
            filters: Filters::default(),
            ahead: VecDeque::new(),
        };
        if !bytes.is_empty() {
            body.ahead.push_back(Ok(Frame::data(bytes)));
        }
        body
    }

    /// A body of at most `limit` bytes, with at most `gap_after` between two pieces.
    pub(super) fn new(source: Source, limit: u64, gap_after: Duration, deadlines: &Deadlines) -> Self {
        Self {
            source,
            left: limit,
            gap: None,
            gap_after,
            deadlines: Some(deadlines.clone()),
            progress: Some(Rc::new(Progress::default())),
            filters: Filters::default(),
            ahead: VecDeque::new(),
        }
    }

    /// Shared view of the progress; `None` where there is no body.
    pub(super) fn progress(&self) -> Option<Rc<Progress>> {
        self.progress.clone()
    }

    /// Whether there is nothing to send.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.source, Source::Empty) && self.ahead.is_empty()
    }

    /// Reads until so many bytes have come, or there are no more; nothing is taken away. The bytes, at most `limit`, and
    /// whether there are more.
    pub(super) async fn read_ahead(&mut self, limit: usize) -> (Bytes, bool) {
        // One piece, however many it came in: clients may send a byte at a time.
        let (mut first, mut all, mut behind) = (Bytes::new(), BytesMut::new(), None);
        while first.len().max(all.len()) < limit && behind.is_none() && !self.is_source_ended() {
            let Some(frame) = poll_fn(|cx| self.poll_source(cx)).await else { break };
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) if first.is_empty() => first = data,
                Ok(Ok(data)) => {
                    if all.is_empty() {
                        all.extend_from_slice(&first);
                    }
                    all.extend_from_slice(&data);
                }
                Ok(Err(trailers)) => behind = Some(Ok(trailers)),
                Err(fault) => behind = Some(Err(fault)),
            }
        }
        let bytes = if all.is_empty() { first } else { all.freeze() };
        if !bytes.is_empty() {
            self.ahead.push_back(Ok(Frame::data(bytes.clone())));
        }
        self.ahead.extend(behind);
        (bytes.slice(..limit.min(bytes.len())), bytes.len() > limit || !self.is_source_ended())
    }

    /// Whether anything looks at its bytes on their way.
    pub(super) fn is_filtered(&self) -> bool {
        !self.filters.is_empty()
    }

    /// Lays a frame back that was taken and could not be sent.
    pub(super) fn put_back(&mut self, frame: Frame<Bytes>) {
        self.ahead.push_front(Ok(frame));
    }

    /// Bounds it anew, what was read ahead counts; and its pauses, from the next on.
    pub(super) fn limit(&mut self, limit: u64, gap_after: Option<Duration>) {
        if let Some(gap_after) = gap_after {
            self.gap_after = gap_after;
            self.gap = None;
        }
        let read = self.progress.as_ref().map_or(0, |progress| progress.bytes.get());
        if let Some(left) = limit.checked_sub(read) {
            self.left = left;
        } else {
            self.source = Source::Empty;
            self.ahead.clear();
            self.ahead.push_back(Err(self.too_large()));
        }
    }

    /// The fault of a body beyond its bound, which is noted.
    fn too_large(&self) -> Fault {
        let fault = Fault::downstream(Kind::BodyTooLarge, "the request body is longer than allowed");
        if let Some(progress) = &self.progress {
            progress.fault.set(Some(fault));
        }
        fault
    }

    /// Lets it pass `filter`, behind those that it has.
    pub(super) fn filter(&mut self, filter: Box<dyn BodyFilter>) {
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
            return self.fail(self.too_large());
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
            Source::Http1(body) => body.poll_frame(cx),
            Source::H2(body) => body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(drop))),
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

    /// The next frame, of those that were read ahead first.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Polled {
        match self.ahead.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => self.poll_source(cx),
        }
    }

    /// The next frame that the filters leave something of.
    fn poll_filtered(&mut self, cx: &mut Context<'_>) -> Polled {
        let mut filters = std::mem::take(&mut self.filters);
        let polled = filters.poll(|| self.poll_next(cx));
        self.filters = filters;
        match polled {
            Poll::Ready(Some(Err(fault))) => self.fail(fault),
            polled => polled,
        }
    }

    fn is_source_ended(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Http1(body) => body.is_end_stream(),
            Source::H2(body) => body.is_end_stream(),
            Source::H3(_) => false,
        }
    }

    /// The next frame.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled {
        if self.filters.is_empty() { self.poll_next(cx) } else { self.poll_filtered(cx) }
    }

    /// Whether nothing more comes.
    pub(super) fn is_end_stream(&self) -> bool {
        self.filters.is_empty() && self.ahead.is_empty() && self.is_source_ended()
    }

    /// What is known of the bytes that are left.
    pub(super) fn size_hint(&self) -> SizeHint {
        let ahead =
            || self.ahead.iter().filter_map(|frame| frame.as_ref().ok()?.data_ref()).map(|data| data.len() as u64);
        match &self.source {
            _ if !self.filters.is_empty() => SizeHint::default(),
            // What broke off must not look whole to the origin.
            _ if self.ahead.iter().any(Result::is_err) => SizeHint::default(),
            // A declared length stands in the header.
            Source::Http1(_) | Source::H2(_) | Source::H3(_) if !self.ahead.is_empty() => SizeHint::default(),
            Source::Empty if !self.ahead.is_empty() => SizeHint::with_exact(ahead().sum()),
            Source::Empty => SizeHint::with_exact(0),
            Source::Http1(body) => body.size_hint(),
            Source::H2(body) => body.size_hint(),
            Source::H3(body) => body.size_hint(),
        }
    }
}
