//! A tunnel whose client's end is a stream of HTTP/3: the bytes that its DATA frames carry (RFC 9220 section 3). Where the stream
//! is reset, the tunnel breaks off; where a half ends, the other goes on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, DuplexStream, ReadBuf};

use super::Gone;
use super::receive::H3RequestBody;
use super::send::Sender;
use crate::http::upgrade::Tunnel;

/// Bytes on their way to the client's stream.
const BUFFER: usize = 16 << 10;

/// Runs it to its end, and ends the stream. The answer that opens it may wait.
pub(super) async fn run(tunnel: Box<Tunnel>, reply: Sender, body: Box<H3RequestBody>) -> Result<(), Gone> {
    let (pipe, outlet) = tokio::io::duplex(BUFFER);
    let mut client = ClientEnd { body, rest: Bytes::new(), pipe };
    let copying = async move {
        tunnel.run(&mut client).await;
        // What is on its way still goes, and the stream ends.
        drop(client);
    };
    tokio::join!(copying, send(outlet, reply)).1
}

/// Hands on what the tunnel gives. Where the client takes no more, the tunnel learns of it by its next piece.
async fn send(mut outlet: DuplexStream, mut reply: Sender) -> Result<(), Gone> {
    reply.flush().await?;
    let mut bytes = BytesMut::with_capacity(BUFFER);
    while outlet.read_buf(&mut bytes).await.map_err(|error| Gone(error.to_string()))? > 0 {
        reply.data(bytes.split().freeze()).await?;
        bytes.reserve(BUFFER);
    }
    reply.finish()
}

/// The client's stream: read as it is, written by way of [`send`].
struct ClientEnd {
    body: Box<H3RequestBody>,
    /// Came, and was not read.
    rest: Bytes,
    pipe: DuplexStream,
}

impl AsyncRead for ClientEnd {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.rest.is_empty() {
            match ready!(this.body.poll_frame(cx)) {
                // Trailers have no meaning in it.
                Some(Ok(frame)) => this.rest = frame.into_data().unwrap_or_default(),
                None => return Poll::Ready(Ok(())),
                Some(Err(Gone(error))) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        let count = this.rest.len().min(buf.remaining());
        buf.put_slice(this.rest.get(..count).unwrap_or_default());
        this.rest.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientEnd {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}
