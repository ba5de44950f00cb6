//! The UDP socket of a QUIC endpoint between quinn's own and the endpoint: it passes everything on as it is.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::initials::Hellos;
use crate::shared::Shared;
use crate::tls::Tls;

/// quinn's socket, told that it gets one datagram at a time, and looked at for ClientHellos where a policy wants them.
#[derive(Debug)]
pub(super) struct Socket {
    inner: Arc<dyn AsyncUdpSocket>,
    shared: Arc<Shared>,
    tls: Arc<Tls>,
    hellos: Arc<Hellos>,
}

impl Socket {
    /// Takes quinn's over; what comes for those who want names is kept in `hellos`.
    pub(super) fn new(
        inner: Arc<dyn AsyncUdpSocket>,
        shared: &Arc<Shared>,
        tls: &Arc<Tls>,
        hellos: &Arc<Hellos>,
    ) -> Self {
        Self { inner, shared: Arc::clone(shared), tls: Arc::clone(tls), hellos: Arc::clone(hellos) }
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let polled = self.inner.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(count)) = polled
            && (self.tls.wants_names() || self.shared.snapshot.load().policies.wants_hello())
        {
            for (buffer, meta) in bufs.iter().zip(meta.iter()).take(count) {
                self.hellos.see(meta.addr, buffer.get(..meta.len).unwrap_or_default());
            }
        }
        polled
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        1
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}
