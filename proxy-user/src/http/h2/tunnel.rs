//! The client's end of a tunnel: a stream of HTTP/2 as the bytes that its DATA frames carry (RFC 8441 section 5).

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes};
use proxy_core::http2::{Code, FRAME_MOST};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::state::{Over, Stream};

/// Both halves of the stream. Dropped, it ends as a connection that is closed does.
pub(super) struct ClientEnd {
    stream: Rc<Stream>,
    /// Came, and was not read.
    rest: Bytes,
}

impl ClientEnd {
    /// Of a stream whose CONNECT was answered.
    pub(super) fn new(stream: Rc<Stream>) -> Self {
        Self { stream, rest: Bytes::new() }
    }

    /// Ends our side.
    fn poll_end(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if self.stream.is_said() {
            return Poll::Ready(Ok(()));
        }
        self.stream.poll_data(cx, &mut Bytes::new(), true).map_err(broken)
    }
}

fn broken(Over(code): Over) -> io::Error {
    io::Error::other(format!("the stream has ended with code {code}"))
}

impl Drop for ClientEnd {
    fn drop(&mut self) {
        self.stream.unwant();
        // A client that has reset the stream needs no end of it; no window is needed for one.
        let _ = self.poll_end(&Context::from_waker(Waker::noop()));
    }
}

impl AsyncRead for ClientEnd {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.rest.is_empty() {
            match ready!(this.stream.poll_coming(cx)) {
                // Trailers have no meaning in it.
                Some(Ok(frame)) => this.rest = frame.into_data().unwrap_or_default(),
                None => return Poll::Ready(Ok(())),
                // Left: RFC 8441 section 5 has that for a connection's end.
                Some(Err(Over(code))) if code == Code::Cancel as u32 => return Poll::Ready(Ok(())),
                Some(Err(over)) => return Poll::Ready(Err(broken(over))),
            }
        }
        let count = this.rest.len().min(buf.remaining());
        buf.put_slice(this.rest.get(..count).unwrap_or_default());
        this.rest.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientEnd {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut piece = Bytes::copy_from_slice(buf.get(..FRAME_MOST).unwrap_or(buf));
        let whole = piece.len();
        let polled = self.stream.poll_data(cx, &mut piece, false).map_err(broken)?;
        match whole - piece.len() {
            0 if polled.is_pending() => Poll::Pending,
            // As much as there was room for.
            count => Poll::Ready(Ok(count)),
        }
    }

    /// The connection's task writes all that is handed in.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_end(cx)
    }
}
