//! A new connection to a server: its address, TCP or a Unix socket, PROXY protocol, TLS, and the HTTP that both sides speak.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme as UriScheme;
use proxy_core::config::Scheme;
use proxy_core::proxy_protocol;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::attempts;
use super::h2::Session;
use super::http1::Connection;
use super::http1::stream::Io;
use super::pool::{Pool, State};
use super::same_host;
use crate::http::fault::{Fault, Kind};

/// What the server speaks.
pub(super) enum Opened {
    /// HTTP/1.1.
    Http1(Connection),
    /// HTTP/2.
    Http2(Rc<Session>),
}

/// Whom a connection is made for.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnBehalf {
    /// The client, and the address that it reached; none where nobody asked.
    pub(super) client: Option<(SocketAddr, SocketAddr)>,
}

impl From<(SocketAddr, SocketAddr)> for OnBehalf {
    fn from(client: (SocketAddr, SocketAddr)) -> Self {
        Self { client: Some(client) }
    }
}

impl Pool {
    /// A new connection to one server, within `limit`.
    pub(super) async fn connect(
        &self,
        server: usize,
        limit: Duration,
        behalf: OnBehalf,
        upgrade: bool,
    ) -> Result<Opened, Fault> {
        let opened = tokio::time::timeout(limit, self.open(server, behalf, upgrade)).await;
        self.reached(server, limit, opened)
    }

    /// A new connection to one server whose bytes are nobody's business, within `limit`.
    pub(crate) async fn connect_tcp(
        &self,
        server: usize,
        limit: Duration,
        behalf: OnBehalf,
    ) -> Result<TcpStream, Fault> {
        let dialled = tokio::time::timeout(limit, async {
            let state = self.state(server).ok_or_else(|| anyhow::anyhow!("no such server"))?;
            self.dial(state, behalf).await
        });
        self.reached(server, limit, dialled.await)
    }

    fn reached<T>(
        &self,
        server: usize,
        limit: Duration,
        opened: Result<anyhow::Result<T>, tokio::time::error::Elapsed>,
    ) -> Result<T, Fault> {
        let (fault, reason) = match opened {
            Ok(Ok(opened)) => {
                self.reachable(server);
                return Ok(opened);
            }
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

    /// The same, without a limit and without telling the balancer.
    pub(super) async fn open(&self, server: usize, behalf: OnBehalf, upgrade: bool) -> anyhow::Result<Opened> {
        let state = self.state(server).ok_or_else(|| anyhow::anyhow!("no such server"))?;
        let url = &state.server.url;
        // An upgrade is one of HTTP/1.1.
        let in_clear = (url.scheme == Scheme::H2c && !upgrade).then_some(UriScheme::HTTP);
        if let Some(path) = &url.socket {
            let mut stream = UnixStream::connect(path).await?;
            self.introduce(&mut stream, behalf).await?;
            return speak(Io::Unix(stream), in_clear).await;
        }
        if let Some(host) = &self.same_host
            && let Some(ip) = url.ip()
            && let Some(mut stream) = same_host::connect(host, (ip, url.port).into()).await?
        {
            self.introduce(&mut stream, behalf).await?;
            return speak(stream, None).await;
        }
        let stream = self.dial(state, behalf).await?;
        let origin = self.origin();
        let tls = origin.tls_http2.as_ref().filter(|_| !upgrade).or(origin.tls.as_ref());
        let (Some(name), Some(tls)) = (&state.server.tls_name, tls) else {
            return speak(Io::Tcp(stream), in_clear).await;
        };
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name.clone(), stream).await?;
        let http2 = (stream.get_ref().1.alpn_protocol() == Some(b"h2")).then_some(UriScheme::HTTPS);
        speak(Io::Tls(Box::new(stream)), http2).await
    }

    /// TCP to one server.
    async fn dial(&self, state: &State, behalf: OnBehalf) -> anyhow::Result<TcpStream> {
        let url = &state.server.url;
        let mut stream = if let Some(ip) = url.ip() {
            TcpStream::connect((ip, url.port)).await?
        } else {
            let addresses = state.addresses.get(&url.host, &self.origin().resolver).await?;
            attempts::connect(addresses, url.port).await?
        };
        stream.set_nodelay(true)?;
        self.introduce(&mut stream, behalf).await?;
        Ok(stream)
    }

    /// Says who the client is, where the upstream wants to know.
    async fn introduce<I: AsyncWrite + Unpin>(&self, stream: &mut I, behalf: OnBehalf) -> std::io::Result<()> {
        let Some(version) = self.origin().proxy_protocol else { return Ok(()) };
        let header = match behalf.client {
            Some((client, reached)) => proxy_protocol::write(version, client, reached),
            None => proxy_protocol::write_own(version),
        };
        stream.write_all(&header).await
    }
}

/// Begins HTTP/2, with the scheme of its requests, or HTTP/1.1.
async fn speak(io: Io, http2: Option<UriScheme>) -> anyhow::Result<Opened> {
    Ok(match http2 {
        Some(scheme) => Opened::Http2(Session::start(io, scheme).await?),
        None => Opened::Http1(Connection::new(io)),
    })
}
