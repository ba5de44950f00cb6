//! The body of a request on its way from a client's HTTP/1 connection.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use proxy_core::http1::Piece;

use super::wire::Wire;

/// The body; where it is dropped before its end the connection sees to the rest.
pub struct H1RequestBody {
    wire: Rc<RefCell<Wire>>,
    turn: u64,
}

impl H1RequestBody {
    pub(super) fn new(wire: &Rc<RefCell<Wire>>, turn: u64) -> Self {
        Self { wire: Rc::clone(wire), turn }
    }

    /// The next piece or the trailers; an error where it ended early or is malformed.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ()>>> {
        let wire = &mut *self.wire.borrow_mut();
        if wire.turn != self.turn {
            return Poll::Ready(Some(Err(())));
        }
        Poll::Ready(match ready!(wire.poll_body(cx)) {
            Ok(Piece::Data(data)) => Some(Ok(Frame::data(data))),
            Ok(Piece::Trailers(fields)) => Some(Ok(Frame::trailers(fields))),
            Ok(Piece::End) => None,
            Err(()) => Some(Err(())),
        })
    }

    /// Whether nothing more comes.
    pub fn is_end_stream(&self) -> bool {
        self.wire.borrow().rest.is_ended()
    }

    /// What is known of its length.
    pub fn size_hint(&self) -> SizeHint {
        self.wire.borrow().rest.exact().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
