//! How a client's connection fares: what the kernel or QUIC tell of round trips and bytes, and how long it is open. Asked only
//! where a policy looks at it. One of the places of unsafe.

use std::cell::{Cell, RefCell};
use std::mem::size_of;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use proxy_core::abuse::quic::Seen;
use proxy_core::policy::LinkView;

/// Where a connection's numbers come from.
#[derive(Default)]
enum Source {
    /// It is gone, or has none yet.
    #[default]
    Gone,
    /// A socket that is open as long as this stands here.
    Tcp(RawFd),
    /// A connection of QUIC.
    Quic(quinn::Connection),
}

/// The numbers of one connection.
#[derive(Default)]
pub struct Link {
    source: RefCell<Source>,
    opened: Cell<Option<Instant>>,
}

impl Link {
    /// From now on its time counts.
    pub fn opened(&self) {
        self.opened.set(Some(Instant::now()));
    }

    /// It goes over this socket, until [`Self::forget`].
    pub fn tcp(&self, socket: RawFd) {
        self.source.replace(Source::Tcp(socket));
    }

    /// It goes over this connection, until [`Self::forget`].
    pub fn quic(&self, connection: quinn::Connection) {
        self.source.replace(Source::Quic(connection));
    }

    /// Whether it is one of QUIC.
    pub fn is_quic(&self) -> bool {
        matches!(*self.source.borrow(), Source::Quic(_))
    }

    /// Its socket is being closed.
    pub fn forget(&self) {
        self.source.take();
    }

    /// What has come over QUIC; None where it is gone, or TCP.
    pub fn seen(&self) -> Option<Seen> {
        let Source::Quic(connection) = &*self.source.borrow() else { return None };
        let stats = connection.stats();
        let came = &stats.frame_rx;
        Some(Seen {
            // Who gives a stream up resets one half and stops the other.
            resets: came.reset_stream.max(came.stop_sending),
            pings: came.ping,
            control: [
                came.max_data,
                came.max_stream_data,
                came.max_streams_bidi,
                came.max_streams_uni,
                came.data_blocked,
                came.stream_data_blocked,
                came.streams_blocked_bidi,
                came.streams_blocked_uni,
                came.new_connection_id,
                came.retire_connection_id,
                came.path_challenge,
                came.path_response,
                came.crypto,
            ]
            .into_iter()
            .sum(),
            bytes: stats.udp_rx.bytes + stats.udp_tx.bytes,
        })
    }

    /// Ends it, where it is QUIC.
    pub fn close(&self, code: quinn::VarInt) {
        if let Source::Quic(connection) = &*self.source.borrow() {
            connection.close(code, b"");
        }
    }

    /// As policies see it; `requests` came so far.
    pub fn view(&self, requests: u64) -> LinkView {
        let duration_ms = self.opened.get().map(|opened| opened.elapsed().as_millis() as u64);
        let known = LinkView { duration_ms, requests: Some(requests), ..LinkView::default() };
        match &*self.source.borrow() {
            Source::Gone => known,
            Source::Tcp(socket) => tcp_info(*socket).map_or(known, |info| LinkView {
                rtt_ms: Some(Duration::from_micros(info.tcpi_rtt.into()).as_millis() as u64),
                bytes_in: Some(info.tcpi_bytes_received),
                bytes_out: Some(info.tcpi_bytes_acked),
                ..known
            }),
            Source::Quic(connection) => {
                let stats = connection.stats();
                LinkView {
                    rtt_ms: Some(stats.path.rtt.as_millis() as u64),
                    bytes_in: Some(stats.udp_rx.bytes),
                    bytes_out: Some(stats.udp_tx.bytes),
                    ..known
                }
            }
        }
    }
}

/// What the kernel tells of a TCP connection (tcp(7), `TCP_INFO`); None where it tells less than is asked for.
fn tcp_info(socket: RawFd) -> Option<libc::tcp_info> {
    // SAFETY: the struct consists of integers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes no more than `length` bytes into `info`, which has as many, and says in `length` how many.
    let result =
        unsafe { libc::getsockopt(socket, libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut length) };
    let enough = std::mem::offset_of!(libc::tcp_info, tcpi_bytes_received) + size_of::<u64>();
    (result == 0 && length as usize >= enough).then_some(info)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn the_kernel_tells_of_a_socket_until_it_is_forgotten() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(&[0; 1_000]).unwrap();
        server.read_exact(&mut [0; 1_000]).unwrap();
        let link = Link::default();
        assert_eq!(link.view(1), LinkView { requests: Some(1), ..LinkView::default() });
        link.opened();
        link.tcp(server.as_raw_fd());
        let seen = link.view(2);
        assert_eq!((seen.bytes_in, seen.requests), (Some(1_000), Some(2)));
        assert!(seen.rtt_ms.is_some() && seen.bytes_out.is_some() && seen.duration_ms.is_some());
        link.forget();
        assert_eq!(link.view(2).rtt_ms, None);
    }
}
