//! The stream below an origin's connection.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::AsyncWrite as _;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use crate::one_of::one_of;
use crate::upstream::same_host::Near;

/// Whichever it is.
pub enum Io {
    /// In clear text.
    Tcp(TcpStream),
    /// Likewise, to a server on this host whose responses are handed over.
    Near(Near),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
    /// A Unix socket.
    Unix(UnixStream),
}

one_of!(Io: Tcp, Near, Tls, Unix);

impl Io {
    /// Ready when there may be something to read: no room for it need be held before. Of TLS, which may hold some itself, that is
    /// not known.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        // What is wrong with it is told when it is read.
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx).map(drop),
            Self::Near(stream) => stream.poll_readable(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx).map(drop),
            Self::Tls(_) => Poll::Ready(()),
        }
    }

    /// A request begins, behind a response that was read to its end.
    pub fn begin(&self) {
        if let Self::Near(stream) = self {
            stream.begin();
        }
    }
}

impl Drop for Io {
    /// Ends TLS in order, as far as that goes without waiting (RFC 8446 section 6.1).
    fn drop(&mut self) {
        if let Self::Tls(stream) = self {
            // Whether it goes out or not, the connection is closed behind it.
            let _ = Pin::new(stream).poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
    }
}
