//! Connections to servers on this host whose responses are handed over by the kernel's programs without TCP, see
//! [`crate::kernel::SameHost`]. What cannot be had that way is a connection like any other.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

use super::http1::stream::Io;
use crate::kernel::{Handover, SameHost};

/// A connection whose responses are handed over.
pub struct Near {
    handover: Handover,
    stream: TcpStream,
}

/// Connects to a loopback address; none where that is to be done as with any other.
pub(super) async fn connect(host: &Arc<SameHost>, to: SocketAddr) -> io::Result<Option<Io>> {
    let stays = |error| tracing::debug!(%error, "a connection to this host stays with TCP");
    let Some((socket, handover)) = expected(host, to).map_err(stays).ok().flatten() else { return Ok(None) };
    let stream = match socket.connect(to).await {
        // The port was free, and this way between the two ports is not.
        Err(error) if [ErrorKind::AddrInUse, ErrorKind::AddrNotAvailable].contains(&error.kind()) => return Ok(None),
        connected => connected?,
    };
    stream.set_nodelay(true)?;
    let told = handover.stands(stream.as_fd()).map_err(stays);
    Ok(Some(if told.is_ok() { Io::Near(Near { handover, stream }) } else { Io::Tcp(stream) }))
}

/// A socket whose port is known before it connects, and so to the programs before the server has the connection.
fn expected(host: &Arc<SameHost>, to: SocketAddr) -> io::Result<Option<(TcpSocket, Handover)>> {
    let (socket, any) = match to {
        SocketAddr::V4(_) => (TcpSocket::new_v4()?, SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0))),
        SocketAddr::V6(_) => (TcpSocket::new_v6()?, SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 0))),
    };
    socket.bind(any)?;
    let handover = host.expect(&socket, socket.local_addr()?, to)?;
    Ok(handover.map(|handover| (socket, handover)))
}

impl Near {
    /// A request begins, and the last response was read to its end.
    pub fn begin(&self) {
        self.handover.renew();
    }

    /// Ready when there may be something to read.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_read_ready(cx).map(drop)
    }
}

impl AsyncRead for Near {
    /// Other than the runtime's own, this does not take a read that left room for the last of what is there: what was handed
    /// over and what came through TCP are never read by one call. Only as long as nothing took the other way it is the last.
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            let room = buf.remaining();
            match self.stream.try_read_buf(buf) {
                Ok(count) => {
                    if count > 0 && count < room && self.handover.is_handed() {
                        // Nothing is read: told that there is nothing, the runtime waits for the next event.
                        let nothing = || Err::<(), _>(ErrorKind::WouldBlock.into());
                        let _ = self.stream.try_io(Interest::READABLE, nothing);
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Near {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
