//! A client's TCP connection, which can be ended by a reset: whatever server holds it at the time, what decides is the
//! connection's word when it is dropped.

use std::io;
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::connection::Connection;

/// The stream of a [`Connection`].
pub struct ClientStream {
    tcp: TcpStream,
    connection: Rc<Connection>,
}

impl ClientStream {
    /// Takes a stream over.
    pub fn new(tcp: TcpStream, connection: &Rc<Connection>) -> Self {
        connection.link.tcp(tcp.as_raw_fd());
        Self { tcp, connection: Rc::clone(connection) }
    }

    /// To look at what has come.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        self.connection.link.forget();
        if self.connection.is_cut() {
            // Closing a socket that does not linger resets its connection (socket(7)). A client that has left needs none.
            let _ = socket2::SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match bufs {
            // As TLS has it of a short answer: send(2) is cheaper than writev(2).
            [only] => Pin::new(&mut self.tcp).poll_write(cx, only),
            _ => Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
