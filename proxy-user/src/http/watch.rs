//! A client's stream whose bytes are followed on their way to and from the HTTP implementation: when a head begins, whether its
//! framing is clear, how often frames come that cost more than they bring. What follows is the connection's business.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use proxy_core::abuse::Kind;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::early::Between;
use crate::worker::connection::Connection;

/// What is looked for in the bytes.
pub trait Follow: Unpin {
    /// Bytes came from the client; what it overdoes, if so.
    fn came(&mut self, connection: &Connection, bytes: &[u8]) -> Option<Kind>;
    /// So many bytes went to the client.
    fn went(&mut self, bytes: usize);
}

/// Heads of HTTP/1 requests; what was found stands in the connection, where its requests look it up.
pub struct Heads;

impl Follow for Heads {
    fn came(&mut self, connection: &Connection, bytes: &[u8]) -> Option<Kind> {
        connection.framing.borrow_mut().feed(bytes);
        connection.header_begun();
        None
    }

    fn went(&mut self, _: usize) {}
}

/// The stream of a connection.
pub struct Watched<I, F> {
    stream: I,
    follow: F,
    connection: Rc<Connection>,
}

impl<I, F> Watched<I, F> {
    /// Takes a stream over.
    pub fn new(stream: I, follow: F, connection: &Rc<Connection>) -> Self {
        Self { stream, follow, connection: Rc::clone(connection) }
    }

    /// Gives the stream back.
    pub fn into_inner(self) -> I {
        self.stream
    }
}

impl<I: Unpin, F: Follow> Watched<I, F> {
    fn wrote(&mut self, polled: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = polled {
            self.follow.went(*bytes);
        }
        self.connection.wrote(polled);
    }
}

impl<I: AsyncRead + Unpin, F: Follow> AsyncRead for Watched<I, F> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        let bytes = buf.filled().get(before..).unwrap_or_default();
        if !bytes.is_empty()
            && let Some(kind) = this.follow.came(&this.connection, bytes)
        {
            this.connection.abused(kind);
            return Poll::Ready(Err(io::Error::other(kind.name())));
        }
        polled
    }
}

impl<I: AsyncWrite + Unpin, F: Follow> Watched<I, F> {
    /// Writes what stands between messages.
    fn poll_between(&mut self, cx: &mut Context<'_>, next: impl Fn(&Between) -> Option<Bytes>) -> Poll<io::Result<()>> {
        while let Some(wire) = next(&self.connection.between) {
            let polled = Pin::new(&mut self.stream).poll_write(cx, &wire);
            self.wrote(&polled);
            self.connection.between.wrote(ready!(polled)?);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin, F: Follow> AsyncWrite for Watched<I, F> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.poll_between(cx, Between::rest))?;
        let polled = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.wrote(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut full = bufs.iter().filter(|buf| !buf.is_empty());
        if let (Some(only), None) = (full.next(), full.next()) {
            return self.poll_write(cx, only);
        }
        let this = &mut *self;
        ready!(this.poll_between(cx, Between::rest))?;
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.wrote(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when it has nothing left to write: while a request is served, that is between two messages.
        ready!(self.poll_between(cx, Between::next))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
