//! A new connection to a server: address look-up (cached for a bounded time), TCP, TLS, HTTP/1.1.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::pool::{Lease, Pool, Turn};
use super::tunnel::{self, Handover};
use crate::http::body::RequestBody;
use crate::http::fault::{Fault, Kind};
use crate::stages::exchange::Exchange;
use crate::worker::deadlines::Deadlines;

/// How long looked-up addresses are used. `getaddrinfo` does not tell the records' own time.
const LOOKUP_FOR: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;
/// Read and write buffer of an origin connection: large bodies come in pieces of up to this size.
const BUFFER: usize = 256 << 10;

/// Addresses of a server's name, as of the last look-up.
#[derive(Default)]
pub(super) struct Addresses(RefCell<Option<(Instant, Rc<[SocketAddr]>)>>);

impl Addresses {
    async fn get(&self, host: &str, port: u16) -> std::io::Result<Rc<[SocketAddr]>> {
        if let Some((since, known)) = &*self.0.borrow()
            && since.elapsed() < LOOKUP_FOR
        {
            return Ok(Rc::clone(known));
        }
        match tokio::net::lookup_host((host, port)).await {
            Ok(found) => {
                let found: Rc<[SocketAddr]> = found.take(MAX_ADDRESSES).collect();
                *self.0.borrow_mut() = Some((Instant::now(), Rc::clone(&found)));
                Ok(found)
            }
            // The addresses that were good a moment ago are a better guess than none.
            Err(error) => match &*self.0.borrow() {
                Some((_, known)) => Ok(Rc::clone(known)),
                None => Err(error),
            },
        }
    }
}

impl Pool {
    /// A new connection to one server, within `timeouts.connect`.
    pub(super) async fn connect(
        self: &Rc<Self>,
        server: usize,
        turn: Option<Turn>,
        exchange: &Exchange,
        handover: &mut Option<Handover>,
    ) -> Result<Lease, Fault> {
        let limit = exchange.connect_timeout();
        let opened = tokio::time::timeout(limit, self.open(server, turn, &exchange.worker.deadlines, handover)).await;
        let (fault, reason) = match opened {
            Ok(Ok(lease)) => return Ok(lease),
            Ok(Err(error)) => {
                (Fault::upstream(Kind::Connect, "no server of the upstream can be reached"), format!("{error:#}"))
            }
            Err(_) => (
                Fault::upstream(Kind::ConnectTimeout, "connecting to the origin took too long"),
                format!("not connected within {limit:?}"),
            ),
        };
        self.unreachable(server);
        let name = self.state(server).map(|state| state.server.url.to_string());
        tracing::warn!(upstream = self.origin().name, server = name, reason, "cannot connect to the origin");
        Err(fault)
    }

    pub(super) async fn open(
        self: &Rc<Self>,
        server: usize,
        turn: Option<Turn>,
        deadlines: &Deadlines,
        handover: &mut Option<Handover>,
    ) -> anyhow::Result<Lease> {
        let state = self.state(server).ok_or_else(|| anyhow::anyhow!("no such server"))?;
        let url = &state.server.url;
        let stream = if let Some(ip) = url.ip() {
            TcpStream::connect((ip, url.port)).await?
        } else {
            let addresses = state.addresses.get(&url.host, url.port).await?;
            TcpStream::connect(&*addresses).await?
        };
        stream.set_nodelay(true)?;
        let sender = match (&state.server.tls_name, &self.origin().tls) {
            (Some(name), Some(config)) => {
                let stream = TlsConnector::from(std::sync::Arc::clone(config)).connect(name.clone(), stream).await?;
                handshake(stream, handover.take()).await?
            }
            _ => handshake(stream, handover.take()).await?,
        };
        Ok(self.opened(server, turn, sender, deadlines))
    }
}

/// hyper's two ends: the sender, and the connection's task on this worker.
async fn handshake<I: AsyncRead + AsyncWrite + Unpin + 'static>(
    stream: I,
    handover: Option<Handover>,
) -> hyper::Result<http1::SendRequest<RequestBody>> {
    let (sender, connection) =
        http1::Builder::new().max_buf_size(BUFFER).handshake::<_, RequestBody>(TokioIo::new(stream)).await?;
    let Some(handover) = handover else {
        tokio::task::spawn_local(async move { told(connection.await) });
        return Ok(sender);
    };
    let mut connection = connection;
    tokio::task::spawn_local(async move {
        let ended = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
        if ended.is_ok() {
            let parts = connection.into_parts();
            tunnel::hand_over(parts.io, parts.read_buf, handover);
        }
        told(ended);
    });
    Ok(sender)
}

fn told(ended: hyper::Result<()>) {
    // Whoever waits for a response gets the error; an idle connection that fails is simply gone.
    if let Err(error) = ended {
        tracing::debug!(%error, "origin connection ended");
    }
}
