//! What is to be sent to a client: small things are put together, content of some length is sent from where it is.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use proxy_core::http2::{flag, kind, write};
use smallvec::SmallVec;
use tokio::io::AsyncWrite;

use crate::worker::connection::Connection;

/// Content that is copied to stand with the rest.
const SMALL: usize = 4 << 10;
/// Bytes that wait at most before streams wait with theirs: what more urgent ones have comes behind no more than this.
const FULL: usize = 64 << 10;
/// Bytes of frames that a client had us owe it; it is not read from before it has taken them.
const OWED: usize = 32 << 10;
/// Bytes that wait at most before the client is not read from: headers wait for no turn, and a client that takes nothing must not
/// have ever more of them made.
const BEHIND: usize = 256 << 10;
/// Parts of one write.
const PARTS: usize = 16;

thread_local! {
    /// Room for small things: connections of a worker have it in turn, and idle ones hold none.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What waits.
#[derive(Default)]
pub(super) struct Out {
    small: Vec<u8>,
    /// Sent of those.
    gone: usize,
    /// Content, and how many of the small bytes stand before it.
    large: VecDeque<(usize, Bytes)>,
    /// Bytes of that content.
    content: usize,
    /// Bytes of frames that are no answers to requests.
    owed: usize,
    /// The stream may hold back what it was given.
    unflushed: bool,
    /// The socket takes nothing now.
    blocked: bool,
    /// Bytes that were sent since this was last asked.
    sent: usize,
}

impl Out {
    /// Where frames are written to.
    pub(super) fn frames(&mut self) -> &mut Vec<u8> {
        if self.small.capacity() == 0 {
            self.small = ROOM.take();
        }
        &mut self.small
    }

    /// Writes a frame that the client had us owe it.
    pub(super) fn owe(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.small.len();
        write(self.frames());
        self.owed += self.small.len() - before;
    }

    /// Writes a piece of a stream's content, which fits into a frame.
    pub(super) fn data(&mut self, stream: u32, piece: Bytes, ends: bool) {
        let flags = if ends { flag::END_STREAM } else { 0 };
        let small = self.frames();
        write::head(kind::DATA, flags, stream, piece.len(), small);
        if piece.len() <= SMALL {
            small.extend_from_slice(&piece);
        } else {
            let before = small.len();
            self.content += piece.len();
            self.large.push_back((before, piece));
        }
    }

    /// Bytes that wait.
    fn waits(&self) -> usize {
        self.small.len() - self.gone + self.content
    }

    /// Whether streams have to wait.
    pub(super) fn is_full(&self) -> bool {
        self.waits() >= FULL
    }

    /// Whether the client has to take something before it is heard.
    pub(super) fn owes(&self) -> bool {
        self.owed >= OWED || self.waits() >= BEHIND
    }

    /// Whether the socket takes nothing now.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Bytes that were sent since this was last asked.
    pub(super) fn take_sent(&mut self) -> usize {
        std::mem::take(&mut self.sent)
    }

    /// Sends all of it.
    pub(super) fn poll_drain<I: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut I,
        connection: &Connection,
    ) -> Poll<io::Result<()>> {
        while self.waits() > 0 {
            let polled = self.poll_write(cx, io);
            self.blocked = polled.is_pending();
            connection.wrote(&polled);
            let count = ready!(polled)?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.sent += count;
            self.advance(count);
        }
        self.owed = 0;
        if self.small.capacity() > 0 {
            self.small.clear();
            self.gone = 0;
            ROOM.set(std::mem::take(&mut self.small));
        }
        if self.unflushed {
            let polled = Pin::new(io).poll_flush(cx).map_ok(|()| 0);
            self.blocked = polled.is_pending();
            connection.wrote(&polled);
            ready!(polled)?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write<I: AsyncWrite + Unpin>(&self, cx: &mut Context<'_>, io: &mut I) -> Poll<io::Result<usize>> {
        if self.large.is_empty() {
            return Pin::new(io).poll_write(cx, self.small.get(self.gone..).unwrap_or_default());
        }
        let mut parts: SmallVec<[IoSlice<'_>; PARTS]> = SmallVec::new();
        let mut from = self.gone;
        for (before, piece) in self.large.iter().take(PARTS / 2) {
            let small = self.small.get(from..*before).unwrap_or_default();
            if !small.is_empty() {
                parts.push(IoSlice::new(small));
            }
            parts.push(IoSlice::new(piece));
            from = *before;
        }
        if self.large.len() < PARTS / 2
            && let Some(small) = self.small.get(from..).filter(|small| !small.is_empty())
        {
            parts.push(IoSlice::new(small));
        }
        Pin::new(io).poll_write_vectored(cx, &parts)
    }

    /// So many bytes were sent.
    fn advance(&mut self, mut count: usize) {
        while let Some((before, piece)) = self.large.front_mut() {
            let small = count.min(*before - self.gone);
            self.gone += small;
            count -= small;
            let now = count.min(piece.len());
            piece.advance(now);
            self.content -= now;
            count -= now;
            if !piece.is_empty() {
                return;
            }
            self.large.pop_front();
        }
        if self.large.capacity() > PARTS {
            self.large = VecDeque::new();
        }
        self.gone += count;
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn a_client_that_takes_nothing_is_not_heard() {
        let mut out = Out::default();
        out.data(1, Bytes::from(vec![0; FULL]), true);
        assert!(out.is_full() && !out.owes());
        out.frames().resize(BEHIND - FULL, 0);
        assert!(out.owes(), "headers");
        let mut out = Out::default();
        out.owe(|frames| frames.resize(OWED, 0));
        assert!(out.owes() && !out.is_full(), "answers to frames");
    }

    #[test]
    fn all_is_sent_in_order_however_little_is_taken() {
        for step in [1, 7, 100, 5_000, 100_000] {
            let mut out = Out::default();
            let mut expected = Vec::new();
            for (stream, length) in [(1, 10), (3, SMALL + 1), (5, 0), (7, 16_384), (9, 16_384), (11, 5)] {
                let piece = Bytes::from(vec![stream as u8; length]);
                write::head(kind::DATA, 1, stream, length, &mut expected);
                expected.extend_from_slice(&piece);
                out.data(stream, piece, true);
            }
            let mut sent = Vec::new();
            while out.waits() > 0 {
                assert_eq!(out.waits(), expected.len() - sent.len());
                let mut taken = Taking { sent: Vec::new(), most: step };
                let cx = &mut Context::from_waker(Waker::noop());
                let Poll::Ready(Ok(count)) = out.poll_write(cx, &mut taken) else { panic!() };
                out.advance(count);
                sent.extend(taken.sent);
            }
            assert!(sent == expected, "by {step}");
        }
    }

    struct Taking {
        sent: Vec<u8>,
        most: usize,
    }

    impl AsyncWrite for Taking {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let count = buf.len().min(self.most);
            self.sent.extend_from_slice(&buf[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).take(self.most).collect();
            self.sent.extend_from_slice(&all);
            Poll::Ready(Ok(all.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
}
