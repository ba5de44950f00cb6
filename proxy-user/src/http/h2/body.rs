//! A request's body as it comes over its stream. What was taken of it opens the client's window again: the origin's pace is the
//! client's.

use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::state::{Over, Stream};

/// The receiving half of a request's stream.
pub struct StreamBody(Rc<Stream>);

impl StreamBody {
    /// The body that comes over a stream; none where that has ended with the header.
    pub(super) fn of(stream: &Rc<Stream>) -> Option<Self> {
        (!stream.is_read()).then(|| Self(Rc::clone(stream)))
    }

    /// The next piece or the trailers.
    pub fn poll_frame(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Over>>> {
        self.0.poll_coming(cx)
    }

    /// Whether nothing more comes.
    pub fn is_end_stream(&self) -> bool {
        self.0.is_read()
    }

    /// Exact where the client has declared a length.
    pub fn size_hint(&self) -> SizeHint {
        self.0.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.0.unwant();
    }
}
