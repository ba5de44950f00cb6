//! The body of a response on its way from an origin's HTTP/1.1 connection.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use proxy_core::http1::{Chunks, Framing, Head, Piece, Wrong};

use super::pump::Pump;
use super::{MOST_ROOM, Wire};

/// The body. Dropped before its end, it leaves the connection unfit for another request.
pub struct AnswerBody {
    wire: Rc<RefCell<Wire>>,
    left: Left,
    /// Whether the origin keeps the connection behind it.
    keeps: bool,
    /// Room for the next read of a body of unknown length.
    room: usize,
    /// Still sends the request's body, and is to end with the response.
    _pump: Option<Pump>,
}

enum Left {
    Length(u64),
    Chunks(Chunks),
    Close,
    Trailers(http::HeaderMap),
    /// It broke off.
    Broken,
    Ended,
}

/// The body cannot be read to its end.
#[derive(Debug)]
pub struct BrokenOff;

impl AnswerBody {
    pub(super) fn new(wire: Rc<RefCell<Wire>>, head: &Head, pump: Option<Pump>) -> Self {
        let left = match head.framing {
            Framing::Length(length) => Left::Length(length),
            Framing::Chunked => Left::Chunks(Chunks::default()),
            Framing::Close => Left::Close,
        };
        let mut body = Self { wire, left, keeps: head.keeps, room: super::HEAD_ROOM, _pump: pump };
        if matches!(body.left, Left::Length(0)) {
            body.end();
        }
        body
    }

    /// Whether nothing more comes.
    pub fn is_end_stream(&self) -> bool {
        matches!(self.left, Left::Ended)
    }

    /// What is known of its length.
    pub fn size_hint(&self) -> SizeHint {
        match self.left {
            Left::Length(left) => SizeHint::with_exact(left),
            Left::Ended => SizeHint::with_exact(0),
            Left::Chunks(_) | Left::Close | Left::Trailers(_) | Left::Broken => SizeHint::default(),
        }
    }

    fn end(&mut self) {
        self.left = Left::Ended;
        self.wire.borrow_mut().keeps = self.keeps;
    }

    /// The next piece or the trailers.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        loop {
            match self.take() {
                Ok(Some(Piece::Data(data))) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Some(Piece::Trailers(fields))) => return Poll::Ready(Some(Ok(Frame::trailers(fields)))),
                Ok(Some(Piece::End)) => return Poll::Ready(None),
                Ok(None) => {}
                Err(wrong) => return self.broken(cx, &io::Error::new(io::ErrorKind::InvalidData, wrong.detail())),
            }
            if let Left::Broken = self.left {
                self.left = Left::Ended;
                return Poll::Ready(Some(Err(BrokenOff)));
            }
            let expected = match self.left {
                Left::Length(left) => usize::try_from(left).unwrap_or(MOST_ROOM),
                _ => self.room,
            };
            let read = ready!(self.wire.borrow_mut().poll_fill(cx, expected));
            match (read, &self.left) {
                (Ok(0), Left::Close) => {
                    self.end();
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
        self.left = Left::Broken;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// What is there already.
    fn take(&mut self) -> Result<Option<Piece>, Wrong> {
        let mut wire = self.wire.borrow_mut();
        let came = &mut wire.came;
        let (piece, ended) = match &mut self.left {
            Left::Ended => return Ok(Some(Piece::End)),
            Left::Trailers(fields) => (Piece::Trailers(std::mem::take(fields)), true),
            Left::Broken => return Ok(None),
            Left::Length(_) | Left::Close if came.is_empty() => return Ok(None),
            Left::Close => return Ok(Some(Piece::Data(came.split().freeze()))),
            Left::Length(left) => {
                let taken = (*left).min(came.len() as u64);
                *left -= taken;
                (Piece::Data(came.split_to(taken as usize).freeze()), *left == 0)
            }
            Left::Chunks(chunks) => {
                let Some(piece) = chunks.next(came)? else { return Ok(None) };
                // What is wrong behind a piece is told when it is asked for.
                if let Piece::Data(_) = &piece
                    && let Ok(Some(Piece::Trailers(fields))) = chunks.settle(came)
                {
                    self.left = Left::Trailers(fields);
                    return Ok(Some(piece));
                }
                let ended = chunks.is_ended();
                (piece, ended)
            }
        };
        drop(wire);
        if ended {
            self.end();
        }
        Ok(Some(piece))
    }
}
