//! A request's body as it comes over its stream. What was taken of it opens the client's window again: the origin's pace is the
//! client's.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::header::CONTENT_LENGTH;
use http::request;
use http_body::{Frame, SizeHint};
use proxy_core::http1::decimal;

/// The receiving half of a request's stream.
pub struct StreamBody {
    stream: RecvStream,
    /// What the client has declared and not sent yet; `h2` holds it to that.
    length: Option<u64>,
    data_ended: bool,
}

impl StreamBody {
    /// The body of this request; none where its stream has ended with the header.
    pub fn of(head: &request::Parts, stream: RecvStream) -> Option<Self> {
        if stream.is_end_stream() {
            return None;
        }
        let length = head.headers.get(CONTENT_LENGTH).and_then(|length| decimal(length.as_bytes()));
        Some(Self { stream, length, data_ended: false })
    }

    /// The next piece or the trailers.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.data_ended {
            match ready!(self.stream.poll_data(cx)).map(|data| data.and_then(|data| self.take(data))) {
                None => self.data_ended = true,
                Some(polled) => return Poll::Ready(whole(polled)),
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx)).map(|trailers| trailers.map(Frame::trailers));
        Poll::Ready(trailers.transpose().and_then(whole))
    }

    fn take(&mut self, data: Bytes) -> Result<Frame<Bytes>, h2::Error> {
        self.stream.flow_control().release_capacity(data.len())?;
        self.length = self.length.map(|length| length.saturating_sub(data.len() as u64));
        Ok(Frame::data(data))
    }

    /// Whether nothing more comes.
    pub fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    /// Exact where the client has declared a length.
    pub fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A client that needs no more of its own request (RFC 9113 section 8.1) ends it; other errors break it off.
fn whole(polled: Result<Frame<Bytes>, h2::Error>) -> Option<Result<Frame<Bytes>, h2::Error>> {
    match polled {
        Err(error) if error.reason() == Some(Reason::NO_ERROR) => None,
        polled => Some(polled),
    }
}
