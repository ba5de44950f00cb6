//! Both directions of a client's connection, which the task that serves it shares with whoever reads a request's body: what came
//! and was not read yet, what is to be sent and is not gone yet.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use proxy_core::http1::{Body, Piece, Rest};
use proxy_core::route::hints::MAX_HINTS;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, ReadBuf};

use super::stream::Io;
use crate::worker::connection::Connection;

/// Room on the stack for what comes first, so that an idle connection holds none.
const FIRST_ROOM: usize = 4 << 10;
/// Room that is made at once where more is expected.
const ROOM: usize = 8 << 10;
/// A body is read in pieces of up to so many bytes.
const MOST_ROOM: usize = 256 << 10;
/// Requests that came while one is served: so many bytes of them are read.
const PIPELINED: usize = 16 << 10;
/// A piece of a response that is laid behind what else is to be sent; larger ones are sent from where they are.
pub(super) const MOST_COPIED: usize = 4 << 10;
/// Sent to who waits for it before sending a body (RFC 9110 section 10.1.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A client's connection.
pub struct Wire {
    pub(super) io: Io,
    connection: Rc<Connection>,
    /// What has come and was not read yet.
    pub(super) came: BytesMut,
    /// What is to be sent, and how much of it is gone.
    pub(super) out: Vec<u8>,
    gone: usize,
    /// What is left of the request's body.
    pub(super) rest: Rest,
    /// That body is not valid, or broke off: nothing behind it can be trusted.
    broken: bool,
    /// The client waits to be told that it may send the body.
    pub(super) expects: bool,
    /// The final answer has begun: interim ones are out of place.
    answered: bool,
    hints: usize,
    /// Room for the next piece of a body.
    room: usize,
    /// Which request's body this is about.
    pub(super) turn: u64,
}

impl Wire {
    pub(super) fn new(io: Io, connection: Rc<Connection>) -> Self {
        Self {
            io,
            connection,
            came: BytesMut::new(),
            out: Vec::new(),
            gone: 0,
            rest: Rest::Ended,
            broken: false,
            expects: false,
            answered: false,
            hints: 0,
            room: ROOM,
            turn: 0,
        }
    }

    /// A request's header was read: the body behind it begins. Its number.
    pub(super) fn begin(&mut self, body: Body, expects: bool) -> u64 {
        self.rest = body.into();
        self.expects = expects && body != Body::None;
        self.answered = false;
        self.hints = 0;
        self.room = ROOM;
        self.turn += 1;
        self.turn
    }

    /// The final answer begins.
    pub(super) fn answer(&mut self) {
        self.answered = true;
    }

    /// Gives back what an idle connection has no use for.
    pub(super) fn release(&mut self) {
        if self.came.is_empty() {
            self.came = BytesMut::new();
        }
        self.out = Vec::new();
        self.gone = 0;
    }

    /// An interim answer, if it can still be sent.
    pub fn hint(&mut self, wire: &[u8]) {
        if !self.answered && self.hints < MAX_HINTS {
            self.hints += 1;
            self.out.extend_from_slice(wire);
        }
    }

    /// Whether something came, or is to come, that belongs to no request that was answered.
    pub(super) fn is_unread(&self) -> bool {
        self.broken || !self.rest.is_ended() || !self.came.is_empty()
    }

    /// Reads for another protocol: what came already first.
    pub(super) fn poll_beyond(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.came.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        buf.put_slice(&self.came.split_to(self.came.len().min(buf.remaining())));
        Poll::Ready(Ok(()))
    }

    /// Reads what comes next, with no room held until it does; 0 is the end.
    pub(super) fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.came.capacity() > 0 {
            return self.poll_fill(cx, ROOM);
        }
        let mut room = [const { MaybeUninit::uninit() }; FIRST_ROOM];
        let mut room = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut room))?;
        self.came.extend_from_slice(room.filled());
        Poll::Ready(Ok(room.filled().len()))
    }

    /// Reads more, with room for about as much as is expected; 0 is the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>, expected: usize) -> Poll<io::Result<usize>> {
        if self.came.capacity() - self.came.len() < expected.min(ROOM / 4) {
            self.came.reserve(expected.clamp(ROOM, MOST_ROOM));
        }
        pin!(self.io.read_buf(&mut self.came)).poll(cx)
    }

    /// Ready when the client is gone while its request is served; requests that it has sent meanwhile are kept.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Whoever reads the body is told by it.
        while self.rest.is_ended() && self.came.len() < PIPELINED {
            match ready!(self.poll_first(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        Poll::Pending
    }

    /// The next piece of the last request's body.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, ()>> {
        if self.broken {
            return Poll::Ready(Err(()));
        }
        let polled = self.poll_piece(cx);
        self.broken = matches!(polled, Poll::Ready(Err(())));
        polled
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, ()>> {
        loop {
            match self.rest.take(&mut self.came) {
                Ok(Some(piece)) => return Poll::Ready(Ok(piece)),
                Ok(None) => {}
                Err(_) => return Poll::Ready(Err(())),
            }
            if !self.answered {
                if std::mem::take(&mut self.expects) {
                    self.out.extend_from_slice(CONTINUE);
                }
                // What cannot go now goes when there is room: reading does not wait for it.
                if let Poll::Ready(Err(_)) = self.poll_own(cx) {
                    return Poll::Ready(Err(()));
                }
            }
            // However much is announced, room is made for what has come at that pace.
            let expected = self.rest.exact().map_or(self.room, |left| left.min(self.room as u64) as usize);
            match ready!(self.poll_fill(cx, expected)) {
                Ok(0) | Err(_) => return Poll::Ready(Err(())),
                Ok(count) if count >= self.room => self.room = (self.room * 2).min(MOST_ROOM),
                Ok(_) => {}
            }
        }
    }

    /// Sends what is to be sent, and behind it a piece and what follows that.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        piece: &mut Bytes,
        behind: &mut &'static [u8],
    ) -> Poll<io::Result<()>> {
        if !self.out.is_empty() && piece.len() <= MOST_COPIED {
            self.out.extend_from_slice(piece);
            self.out.extend_from_slice(std::mem::take(behind));
            piece.clear();
        }
        loop {
            let head = self.out.get(self.gone..).unwrap_or_default();
            let rest = [head, piece, behind];
            let mut full = rest.iter().filter(|part| !part.is_empty());
            let io = Pin::new(&mut self.io);
            let polled = match (full.next(), full.next()) {
                (None, _) => {
                    self.out.clear();
                    self.gone = 0;
                    return Poll::Ready(Ok(()));
                }
                (Some(only), None) => io.poll_write(cx, only),
                _ => io.poll_write_vectored(cx, &rest.map(IoSlice::new)),
            };
            self.connection.wrote(&polled);
            let count = ready!(polled)?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_head = count.min(self.out.len() - self.gone);
            let of_piece = (count - of_head).min(piece.len());
            self.gone += of_head;
            piece.advance(of_piece);
            behind.advance(count - of_head - of_piece);
        }
    }

    /// Sends what is to be sent.
    pub(super) fn poll_own(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx, &mut Bytes::new(), &mut &b""[..]))?;
        self.poll_flush(cx)
    }

    /// Sees to it that what was sent is on its way.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Tells the client that nothing more is sent.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    /// Takes what comes and throws it away; how much, 0 at the end.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.came.clear();
        self.poll_first(cx)
    }
}
