//! HTTP/3: a QUIC endpoint on this worker's UDP socket, its connections, and their requests. Connection ids come from
//! the kernel half, so that packets keep reaching this worker.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use nix::sys::socket::{setsockopt, sockopt};
use proxy_core::http3::Code;
use quinn::crypto::rustls::HandshakeData;
use quinn::{
    Connecting, ConnectionError, EndpointConfig, IdleTimeout, Runtime as _, TokioRuntime, TransportConfig, VarInt,
    ZeroRttAccepted,
};
use rustls::pki_types::CertificateDer;
use tokio::task::JoinSet;

use super::h3::{self, Gone};
use super::initials::Hellos;
use super::quic_servers::Servers;
use super::quic_socket::Socket;
use crate::kernel::Kernel;
use crate::stats::bump;
use crate::tls::secured::Secured;
use crate::tls::{Current, Tls};
use crate::worker::Worker;
use crate::worker::accept;
use crate::worker::connection::{Connection, ListenerInfo};
use crate::worker::hello::{self, Admission, Over};
use crate::worker::hold::hold;

/// Flow-control window of one request stream.
const STREAM_WINDOW: u32 = 256 << 10;
/// Flow-control window of a connection: several stalled uploads do not block the rest.
const CONNECTION_WINDOW: u32 = 2 << 20;
/// Bytes in flight to one client.
const SEND_WINDOW: u64 = 4 << 20;
/// Unidirectional streams of a client: control, two of QPACK, and room for greasing (RFC 9114 section 6.2).
const UNI_STREAMS: u32 = 8;
/// Handshakes that wait at one endpoint; beyond this, clients must prove their address first (Retry).
const UNVALIDATED_HANDSHAKES: usize = 1_000;

/// One worker's end of a QUIC listener.
pub struct Endpoint {
    quic: quinn::Endpoint,
    hellos: Arc<Hellos>,
    servers: Rc<Servers>,
    local: SocketAddr,
}

impl Endpoint {
    /// Takes the socket over.
    pub fn bind(worker: &Worker, socket: std::net::UdpSocket, tls: &Arc<Tls>) -> anyhow::Result<Self> {
        let live = worker.live();
        let config = &live.snapshot.config;
        let mut transport = TransportConfig::default();
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(config.limits.streams))
            .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS))
            .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
            .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
            .send_window(SEND_WINDOW)
            .datagram_receive_buffer_size(None)
            .max_idle_timeout(IdleTimeout::try_from(config.timeouts.idle.0).ok());
        let mut server = tls.quic().clone();
        server.transport_config(Arc::new(transport));

        let cid = Kernel::cid_generator(worker.shared.kernel.as_deref(), worker.index);
        let mut endpoint = EndpointConfig::default();
        endpoint.cid_generator(move || cid());

        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        let same = socket.try_clone()?;
        let runtime = Arc::new(TokioRuntime);
        let wrapped = runtime.wrap_udp_socket(socket)?;
        // quinn turns GRO on. It merges datagrams of different connections that share a 4-tuple, and steering then
        // sees only the first connection id: off again.
        setsockopt(&same, sockopt::UdpGroSegment, &false)?;
        let hellos = Arc::new(Hellos::default());
        let servers = Rc::new(Servers::new(tls, server.clone()));
        let wrapped = Arc::new(Socket::new(wrapped, &worker.shared, tls, &hellos));
        let quic = quinn::Endpoint::new_with_abstract_socket(endpoint, Some(server), wrapped, runtime)?;
        Ok(Self { quic, hellos, servers, local })
    }

    /// Serves until the worker drains and all connections have ended.
    pub async fn run(self, worker: Rc<Worker>, info: Rc<ListenerInfo>) {
        let mut connections = JoinSet::new();
        let drained = worker.drained();
        let mut drained = std::pin::pin!(drained);
        loop {
            let incoming = tokio::select! {
                biased;
                () = &mut drained => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                incoming = self.quic.accept() => incoming,
            };
            let Some(incoming) = incoming else { return };
            if worker.active() >= worker.live().snapshot.config.limits.connections {
                incoming.refuse();
                continue;
            }
            // Those whose hello is waited for are not open yet.
            let waiting = self.quic.open_connections().max(connections.len());
            if !incoming.remote_address_validated() && waiting > UNVALIDATED_HANDSHAKES {
                prove(incoming, &self.hellos);
                continue;
            }
            let local = SocketAddr::new(incoming.local_ip().unwrap_or(self.local.ip()), self.local.port());
            let connection = Connection::new(&worker, &info, incoming.remote_address(), local);
            if !connection.within_source_limit() {
                // Nobody knows yet whether it came from there: it is refused and not scored.
                incoming.refuse();
                continue;
            }
            connections.spawn_local(serve(connection, incoming, Arc::clone(&self.hellos), Rc::clone(&self.servers)));
        }
        self.quic.set_server_config(None);
        while connections.join_next().await.is_some() {}
        self.quic.wait_idle().await;
    }
}

/// Lets a client that is not validated show that it receives what is sent to its address, and begin again.
fn prove(incoming: quinn::Incoming, hellos: &Hellos) {
    hellos.forget(incoming.remote_address(), &incoming.orig_dst_cid());
    // Only fails for a client that has done so.
    let _ = incoming.retry();
}

async fn serve(connection: Rc<Connection>, incoming: quinn::Incoming, hellos: Arc<Hellos>, servers: Rc<Servers>) {
    let limits = connection.worker.live();
    let handshake = limits.snapshot.config.timeouts.handshake.0;
    let current = servers.current();
    let wants_hello = limits.snapshot.policies.wants_hello();
    let mut index = 0;
    if wants_hello || current.quic_by_name {
        let (validated, retried) = (incoming.remote_address_validated(), !incoming.may_retry());
        let chosen = incoming.orig_dst_cid();
        let hello = tokio::time::timeout(handshake, hellos.take(incoming.remote_address(), &chosen, retried)).await;
        let Ok(Some(hello)) = hello else {
            if !validated {
                // A flood may have taken the place of its hello: a real client sends it again.
                return prove(incoming, &hellos);
            }
            accept::failed(&connection, "no readable ClientHello in time");
            return incoming.refuse();
        };
        index = current.hosts.index_of(hello.sni.as_deref().and_then(|name| std::str::from_utf8(name).ok()));
        let admission =
            if wants_hello { hello::judge(&connection, hello, Over::Quic { validated }) } else { Admission::Accepted };
        match admission {
            Admission::Accepted => {}
            Admission::Refused | Admission::Reset => return incoming.refuse(),
            Admission::Held(time) => {
                hold(&connection.worker, time).await;
                return incoming.ignore();
            }
            Admission::Unproven => return prove(incoming, &hellos),
        }
    }
    let Some(config) = servers.get(&current, index) else { return incoming.refuse() };
    // Requests before the handshake is done could be in another's name: the address has to be shown by a token.
    let early = incoming.remote_address_validated() && current.takes_early(index);
    let quic = match incoming.accept_with(config) {
        Ok(connecting) => tokio::time::timeout(handshake, open(connecting, early)).await,
        Err(error) => Ok(Err(error)),
    };
    let (quic, rest) = match quic {
        Ok(Ok(opened)) => opened,
        failed => {
            let failed = failed.map(|opened| opened.map(drop));
            bump(&connection.worker.stats.tls_errors, 1);
            tracing::debug!(client = %connection.client, ?failed, "QUIC handshake failed");
            return;
        }
    };
    match secured(&current, index, &quic) {
        Ok(secured) => connection.secure(secured),
        Err(why) => {
            accept::failed(&connection, why);
            return quic.close(h3::said(Code::RequestRejected), b"");
        }
    }
    drop(current);
    connection.set_early(rest.is_some());
    let rest: h3::Rest = rest.map(|rest| Box::pin(tokio::time::timeout(handshake, rest)));
    if let Some(kernel) = &connection.worker.shared.kernel {
        // Its handshake is done, or a token has shown it: it receives what is sent to it; where it began may be elsewhere by now.
        kernel.note_known(quic.remote_address().ip());
    }
    connection.link.quic(quic.clone());
    connection.worker.followed.add(&connection, limits.snapshot.config.limits.resets);
    // A client that opens no window for the settings keeps HTTP/3 from starting.
    let started = h3::Shared::start(quic, &connection, limits.snapshot.config.limits.header_bytes.0);
    let started = tokio::time::timeout(limits.snapshot.config.timeouts.header.0, started).await;
    match started.unwrap_or_else(|_| Err(Gone("its streams did not open in time".to_owned()))) {
        Ok(shared) => {
            if let Err(Gone(error)) = h3::serve(&shared, rest).await {
                tracing::debug!(client = %connection.client, error, "HTTP/3 connection ended with an error");
            }
        }
        Err(Gone(error)) => tracing::debug!(client = %connection.client, error, "HTTP/3 did not start"),
    }
    connection.link.forget();
}

/// Waits for the handshake's end, or with `early` only until it is known whom the client asks for: what it sent in early data
/// can be read then.
async fn open(
    mut connecting: Connecting,
    early: bool,
) -> Result<(quinn::Connection, Option<ZeroRttAccepted>), ConnectionError> {
    if early {
        connecting.handshake_data().await?;
        match connecting.into_0rtt() {
            Ok((quic, rest)) => return Ok((quic, Some(rest))),
            Err(whole) => connecting = whole,
        }
    }
    Ok((connecting.await?, None))
}

/// What the handshake has shown. That it was for the name that its first packet said is checked here: anybody can send
/// first packets in another's name.
fn secured(current: &Current, index: usize, quic: &quinn::Connection) -> Result<Secured, &'static str> {
    let data = quic.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let chain = quic.peer_identity().and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
    let name = data.as_ref().and_then(|data| data.server_name.as_deref());
    Secured::new(current, index, name, chain.as_ref().map(|chain| chain.as_slice()))
}
