//! A client's socket below `h2`. What comes is followed frame by frame: whether a header block is open, how often frames come that
//! cost more than they bring. What goes is put together: `h2` writes each DATA frame by itself, and a socket call for each
//! would be the dearest part of a short answer. What follows from it is the connection's business.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use proxy_core::abuse::frames::Frames;
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::goaway;
use crate::worker::connection::Connection;

/// Longest write that is copied to go out with others.
const SMALL: usize = 8 << 10;
/// Bytes that wait at most; more are sent before others are taken.
const FULL: usize = 48 << 10;
/// Plaintext of one record of TLS (RFC 8446 section 5.1): what is longer by a few bytes would cost a second one.
const RECORD: usize = 16 << 10;
/// Slices of one write: what waits, a frame's header and what it carries.
const SLICES: usize = 8;

thread_local! {
    /// Room for what waits: connections of a worker have it in turn, and idle ones hold none.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A client's stream; clones are the same one.
pub(super) struct Wire<I>(Rc<RefCell<Inner<I>>>);

struct Inner<I> {
    stream: I,
    frames: Frames,
    connection: Rc<Connection>,
    /// Taken and not sent, from `sent` on.
    waiting: Vec<u8>,
    sent: usize,
    /// The stream may hold back what it has been given.
    unflushed: bool,
    /// The socket takes nothing now.
    blocked: bool,
    /// Something has come since it was last asked.
    heard: bool,
}

impl<I> Clone for Wire<I> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<I> Wire<I> {
    /// Takes a stream over.
    pub(super) fn new(stream: I, frames: Frames, connection: &Rc<Connection>) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            stream,
            frames,
            connection: Rc::clone(connection),
            waiting: Vec::new(),
            sent: 0,
            unflushed: false,
            blocked: false,
            heard: false,
        })))
    }

    /// Whether the socket takes nothing now.
    pub(super) fn is_blocked(&self) -> bool {
        self.0.borrow().blocked
    }

    /// Whether anything has come since this was last asked.
    pub(super) fn has_heard(&self) -> bool {
        std::mem::take(&mut self.0.borrow_mut().heard)
    }
}

impl<I: AsyncWrite + Unpin> Wire<I> {
    /// Sends what waits.
    pub(super) fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_drain(cx)
    }
}

impl<I: AsyncWrite + Unpin> Inner<I> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.waiting.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let polled = Pin::new(&mut self.stream).poll_write(cx, rest);
            let count = ready!(self.wrote(polled))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
        }
        self.emptied();
        self.poll_flush(cx)
    }

    /// All that waited was sent.
    fn emptied(&mut self) {
        self.sent = 0;
        if self.waiting.capacity() > 0 {
            self.waiting.clear();
            ROOM.set(std::mem::take(&mut self.waiting));
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unflushed {
            let polled = Pin::new(&mut self.stream).poll_flush(cx).map_ok(|()| 0);
            ready!(self.wrote(polled))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// The socket was written to.
    fn wrote(&mut self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = polled {
            self.unflushed |= bytes > 0;
            self.frames.sent(bytes);
        }
        self.blocked = polled.is_pending();
        self.connection.wrote(&polled);
        polled
    }

    /// Takes this to be sent with the rest.
    fn keep(&mut self, bufs: &[IoSlice<'_>]) {
        if self.waiting.capacity() == 0 {
            self.waiting = ROOM.take();
        }
        for buf in bufs {
            self.waiting.extend_from_slice(buf);
        }
    }

    /// Sends what waits, and as much of `bufs` as makes up whole records; keeps the rest of them, or leaves it to the caller.
    fn poll_send(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let wanted = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        loop {
            let waits = self.waiting.len() - self.sent;
            let whole = (waits + wanted) / RECORD * RECORD;
            if whole <= waits {
                self.keep(bufs);
                return Poll::Ready(Ok(wanted));
            }
            let polled = self.poll_records(cx, bufs, whole);
            if polled.is_pending() && self.connection.listener.tls {
                ready!(self.poll_flush(cx))?;
                continue;
            }
            let count = ready!(polled)?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if count < waits {
                self.sent += count;
                continue;
            }
            self.emptied();
            let mut taken = count - waits;
            if count < whole && taken > 0 {
                return Poll::Ready(Ok(taken));
            }
            if count == whole {
                for buf in bufs {
                    let now = taken.min(buf.len());
                    taken -= now;
                    self.keep(&[IoSlice::new(buf.get(now..).unwrap_or_default())]);
                }
                return Poll::Ready(Ok(wanted));
            }
        }
    }

    /// Writes the first `whole` bytes of what waits and of `bufs`.
    fn poll_records(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>], whole: usize) -> Poll<io::Result<usize>> {
        let tls = self.connection.listener.tls;
        let polled = {
            let mut left = whole;
            let slices: SmallVec<[IoSlice<'_>; SLICES]> =
                std::iter::once(self.waiting.get(self.sent..).unwrap_or_default())
                    .chain(bufs.iter().map(|buf| &**buf))
                    .filter_map(|part| {
                        let now = part.len().min(left);
                        left -= now;
                        part.get(..now).filter(|part| !part.is_empty()).map(IoSlice::new)
                    })
                    .collect();
            // TLS puts records together for one write to the socket, as many as it holds.
            self.connection.corked.set(tls);
            let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, &slices);
            self.connection.corked.set(false);
            polled
        };
        if !tls {
            return self.wrote(polled);
        }
        self.unflushed = true;
        if let Poll::Ready(Ok(count)) = polled {
            self.frames.sent(count);
        }
        polled
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Wire<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self.0.borrow_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        let bytes = buf.filled().get(before..).unwrap_or_default();
        if bytes.is_empty() {
            return polled;
        }
        this.heard = true;
        let found = this.frames.feed(bytes, this.connection.worker.deadlines.now());
        this.connection.header_block(this.frames.in_block());
        if let Some(kind) = found {
            this.connection.abused(kind);
            return Poll::Ready(Err(io::Error::other(kind.name())));
        }
        polled
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Wire<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self.0.borrow_mut();
        let wanted = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        if wanted > SMALL {
            return this.poll_send(cx, bufs);
        }
        if this.waiting.len() >= FULL {
            ready!(this.poll_drain(cx))?;
        }
        if let Some(kind) = bufs.iter().find_map(|buf| goaway::calmed(buf)) {
            this.connection.calmed.set(Some(kind));
        }
        let named = bufs.iter().rfind(|buf| !buf.is_empty());
        match named.zip(this.frames.code()).and_then(|(buf, code)| goaway::named(buf, code)) {
            Some(named) if named.len() == wanted => this.keep(&[IoSlice::new(&named)]),
            _ => this.keep(bufs),
        }
        Poll::Ready(Ok(wanted))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// `h2` flushes after each frame: the task of the connection does when all were written.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self.0.borrow_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}
