//! The client's end of a tunnel: a stream of HTTP/2 as the bytes that its DATA frames carry (RFC 8441 section 5).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::window;

/// Both halves of the stream. Dropped, it ends as a connection that is closed does.
pub(super) struct ClientEnd {
    sender: SendStream<Bytes>,
    receiver: RecvStream,
    /// Came, and was not read.
    rest: Bytes,
    ended: bool,
}

impl ClientEnd {
    /// Of a stream whose CONNECT was answered.
    pub(super) fn new(sender: SendStream<Bytes>, receiver: RecvStream) -> Self {
        Self { sender, receiver, rest: Bytes::new(), ended: false }
    }

    fn end(&mut self) -> Result<(), h2::Error> {
        if std::mem::replace(&mut self.ended, true) { Ok(()) } else { self.sender.send_data(Bytes::new(), true) }
    }
}

impl Drop for ClientEnd {
    fn drop(&mut self) {
        // A client that has reset the stream needs no end of it.
        let _ = self.end();
    }
}

impl AsyncRead for ClientEnd {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.rest.is_empty() {
            match ready!(this.receiver.poll_data(cx)) {
                Some(Ok(data)) => this.rest = data,
                None => return Poll::Ready(Ok(())),
                // Left: RFC 8441 section 5 has that for a connection's end.
                Some(Err(error)) if matches!(error.reason(), Some(Reason::NO_ERROR | Reason::CANCEL)) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        let count = this.rest.len().min(buf.remaining());
        buf.put_slice(this.rest.get(..count).unwrap_or_default());
        this.rest.advance(count);
        // The window opens by what was read; a stream that has ended needs none.
        let _ = this.receiver.flow_control().release_capacity(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientEnd {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = ready!(window::poll_room(&mut self.sender, cx, buf.len())).map_err(io::Error::other)?;
        let now = buf.get(..room).unwrap_or(buf);
        self.sender.send_data(Bytes::copy_from_slice(now), false).map_err(io::Error::other)?;
        Poll::Ready(Ok(now.len()))
    }

    /// The connection's task writes all that there is.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.end().map_err(io::Error::other))
    }
}
