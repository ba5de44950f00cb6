//! A client's stream whose bytes are followed on their way to and from the HTTP implementation: when a head begins, whether its
//! framing is clear, how often frames come that cost more than they bring. What follows is the connection's business.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use proxy_core::abuse::Kind;
use proxy_core::abuse::frames::{Code, Frames};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::early::Between;
use crate::worker::connection::Connection;

/// A GOAWAY frame without debug data (RFC 9113 section 6.8), as far as its last stream.
const GOAWAY: [u8; 9] = [0, 0, 8, 7, 0, 0, 0, 0, 0];
/// Bytes of the whole frame.
const GOAWAY_BYTES: usize = 17;
/// `PROTOCOL_ERROR`
const PROTOCOL_ERROR: [u8; 4] = [0, 0, 0, 1];

/// What the `h2` crate writes behind a GOAWAY of `ENHANCE_YOUR_CALM`, which it tells nobody else.
const CALMED: [(&[u8], Kind); 4] = [
    (b"header_list_way_too_large", Kind::LargeHeader),
    (b"too_many_continuations", Kind::Continuation),
    (b"too_many_data_frames", Kind::EmptyFrames),
    (b"too_many_resets", Kind::Resets),
];

/// What is looked for in the bytes.
pub trait Follow: Unpin {
    /// Bytes came from the client; what it overdoes, if so.
    fn came(&mut self, connection: &Connection, bytes: &[u8]) -> Option<Kind>;
    /// So many bytes went to the client.
    fn went(&mut self, bytes: usize);
    /// The error that the client has made, where it has a name of its own.
    fn code(&self) -> Option<Code>;
    /// Whether what is sent are frames of HTTP/2.
    fn is_framed(&self) -> bool {
        false
    }
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

    fn code(&self) -> Option<Code> {
        None
    }
}

impl Follow for Frames {
    fn came(&mut self, connection: &Connection, bytes: &[u8]) -> Option<Kind> {
        let found = self.feed(bytes, connection.worker.deadlines.now());
        connection.header_block(self.in_block());
        found
    }

    fn went(&mut self, bytes: usize) {
        self.sent(bytes);
    }

    fn code(&self) -> Option<Code> {
        Frames::code(self)
    }

    fn is_framed(&self) -> bool {
        true
    }
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
        if this.follow.is_framed()
            && let Some((_, kind)) = CALMED.iter().find(|(mark, _)| buf.ends_with(mark))
        {
            this.connection.calmed.set(Some(*kind));
        }
        let stream = Pin::new(&mut this.stream);
        let polled = match this.follow.code().and_then(|code| named(buf, code)) {
            Some(named) => stream.poll_write(cx, &named),
            None => stream.poll_write(cx, buf),
        };
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

/// What is about to be written with `code` in its last frame, if that is a GOAWAY that calls the client's error a protocol error
/// and no more: the `h2` crate does so for frames of wrong size, closed streams and windows beyond the largest (RFC 9113 sections
/// 4.2, 5.1 and 6.5.2 name the codes).
fn named(bytes: &[u8], code: Code) -> Option<Vec<u8>> {
    let (_, last) = bytes.split_at_checked(bytes.len().checked_sub(GOAWAY_BYTES)?)?;
    if !last.starts_with(&GOAWAY) || !last.ends_with(&PROTOCOL_ERROR) {
        return None;
    }
    let mut named = bytes.to_vec();
    named.truncate(bytes.len() - PROTOCOL_ERROR.len());
    named.extend((code as u32).to_be_bytes());
    Some(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_protocol_error_is_named() {
        let goaway = |code: u8| [&GOAWAY[..], &[0, 0, 0, 5, 0, 0, 0, code]].concat();
        assert_eq!(named(&goaway(1), Code::FrameSize), Some(goaway(6)));
        let behind = [b"before", &goaway(1)[..]].concat();
        assert_eq!(named(&behind, Code::StreamClosed), Some([b"before", &goaway(5)[..]].concat()));
        assert_eq!(named(&goaway(0), Code::FrameSize), None, "a graceful end");
        assert_eq!(named(b"short", Code::FrameSize), None);
        assert_eq!(named(&[&goaway(1)[..], b"behind"].concat(), Code::FrameSize), None);
    }
}
