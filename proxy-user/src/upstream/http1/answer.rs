//! The body of a response on its way from an origin's HTTP/1.1 connection.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use proxy_core::http1::{Head, Piece, Rest};

use super::pump::Pump;
use super::{HEAD_ROOM, MOST_ROOM, Wire};

/// The body. Dropped before its end, it leaves the connection unfit for another request.
pub struct AnswerBody {
    wire: Rc<RefCell<Wire>>,
    rest: Rest,
    /// It broke off, and nobody was told yet.
    broken: bool,
    /// Whether the origin keeps the connection behind it.
    keeps: bool,
    /// Room for the next read of a body of unknown length.
    room: usize,
    /// Still sends the request's body, and is to end with the response.
    _pump: Option<Pump>,
}

/// The body cannot be read to its end.
#[derive(Debug)]
pub struct BrokenOff;

impl AnswerBody {
    pub(super) fn new(wire: Rc<RefCell<Wire>>, head: &Head, pump: Option<Pump>) -> Self {
        let rest = Rest::from(head.framing);
        let body = Self { wire, rest, broken: false, keeps: head.keeps, room: HEAD_ROOM, _pump: pump };
        body.settle();
        body
    }

    /// Whether nothing more comes.
    pub fn is_end_stream(&self) -> bool {
        !self.broken && self.rest.is_ended()
    }

    /// What is known of its length.
    pub fn size_hint(&self) -> SizeHint {
        self.rest.exact().filter(|_| !self.broken).map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// Lets another request have the connection once the body was read.
    fn settle(&self) {
        if self.rest.is_ended() {
            let wire = &mut *self.wire.borrow_mut();
            wire.keeps = self.keeps;
            // While it waits it holds no more than the room for a small response.
            if wire.came.capacity() > HEAD_ROOM && wire.came.is_empty() {
                wire.came = BytesMut::new();
            }
        }
    }

    /// The next piece or the trailers.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        loop {
            if std::mem::take(&mut self.broken) {
                return Poll::Ready(Some(Err(BrokenOff)));
            }
            let piece = self.rest.take(&mut self.wire.borrow_mut().came);
            match piece {
                Ok(None) => {}
                Ok(Some(piece)) => {
                    self.settle();
                    return Poll::Ready(match piece {
                        Piece::Data(data) => Some(Ok(Frame::data(data))),
                        Piece::Trailers(fields) => Some(Ok(Frame::trailers(fields))),
                        Piece::End => None,
                    });
                }
                Err(wrong) => return self.broken(cx, &io::Error::new(io::ErrorKind::InvalidData, wrong.detail())),
            }
            let left = self.rest.exact().map(|left| usize::try_from(left).unwrap_or(MOST_ROOM));
            let expected = left.map_or(self.room, |left| left.saturating_add(1));
            let read = ready!(self.wire.borrow_mut().poll_fill(cx, expected));
            match (read, &self.rest) {
                (Ok(0), Rest::Close) => {
                    self.rest = Rest::Ended;
                    self.settle();
                    return Poll::Ready(None);
                }
                (Ok(count), _) if count > 0 => {
                    if count >= self.room {
                        self.room = (self.room * 2).min(MOST_ROOM);
                    }
                }
                (Ok(_), _) => return self.broken(cx, &io::ErrorKind::UnexpectedEof.into()),
                (Err(error), _) => return self.broken(cx, &error),
            }
        }
    }

    /// Told only at the next poll: whoever sends the response on gets to send what it has, so that the client sees as much of the
    /// response as there was, and that it is not whole.
    fn broken<T>(&mut self, cx: &Context<'_>, error: &io::Error) -> Poll<T> {
        tracing::debug!(%error, "an origin's response broke off");
        self.rest = Rest::Ended;
        self.broken = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
