//! The accept loop of one TCP listener, and TLS before HTTP.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt as _;
use proxy_core::abuse::Kind;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;

use super::Worker;
use super::connection::{Connection, ListenerInfo};
use super::fronted;
use super::hello;
use super::passage::{self, Passage};
use super::stream::ClientStream;
use crate::http::tcp;
use crate::stats::bump;
use crate::tls;

/// Pause after an accept that failed, so that a full file table does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections taken from the backlog before the listener closes at drain.
const DRAIN_BACKLOG: usize = 4096;

/// Accepts until the worker drains, then takes what already waits in the backlog and closes the listener.
pub async fn run(worker: Rc<Worker>, info: Rc<ListenerInfo>, listener: TcpListener) {
    // Accepted sockets inherit it: one system call for all of them.
    if let Err(error) = socket2::SockRef::from(&listener).set_tcp_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set on the listener");
    }
    let drained = worker.drained();
    let mut drained = std::pin::pin!(drained);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut drained => break,
            accepted = async { worker.room().await; listener.accept().await } => accepted,
        };
        match accepted {
            Ok((stream, client)) => start(&worker, &info, stream, client),
            Err(error) => {
                tracing::warn!(listener = info.name, %error, "accept failed; raise the limit on open files if this stays");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    for _ in 0..DRAIN_BACKLOG {
        let Some(Ok((stream, client))) = listener.accept().now_or_never() else { break };
        start(&worker, &info, stream, client);
    }
}

fn start(worker: &Rc<Worker>, info: &Rc<ListenerInfo>, stream: TcpStream, client: SocketAddr) {
    if let Some(kernel) = &worker.shared.kernel {
        kernel.accepted(info.service);
        kernel.note_known(client.ip());
    }
    // The client may have left already; then there is nobody to serve.
    let Ok(local) = stream.local_addr() else { return };
    if !info.is_fronted(client.ip()) {
        return serve(worker, info, stream, (client, local));
    }
    let (worker, info) = (Rc::clone(worker), Rc::clone(info));
    drop(tokio::task::spawn_local(async move {
        let mut stream = stream;
        let limit = worker.live().snapshot.config.timeouts.header.0;
        if let Some(about) = fronted::read(&mut stream, client, local, limit).await {
            serve(&worker, &info, stream, about);
        }
    }));
}

/// Serves a connection of this client, which reached this address.
fn serve(worker: &Rc<Worker>, info: &Rc<ListenerInfo>, stream: TcpStream, (client, local): (SocketAddr, SocketAddr)) {
    let connection = Connection::new(worker, info, client, local);
    let stream = ClientStream::new(stream, &connection);
    if !connection.within_source_limit() {
        connection.abused(Kind::Connections);
        return connection.cut();
    }
    let tls = info.tls && worker.shared.tls.is_some();
    if info.passages.is_some() {
        let info = Rc::clone(info);
        let limit = worker.live().snapshot.config.timeouts.handshake.0;
        drop(tokio::task::spawn_local(async move {
            let Some(passages) = &info.passages else { return };
            match passages.find(stream.tcp(), limit).await {
                Passage::To(upstream) => passage::pass(&connection, stream, &upstream).await,
                Passage::Here if tls => secured(connection, stream).await,
                Passage::Here | Passage::Closed => {}
            }
        }));
    } else if tls {
        drop(tokio::task::spawn_local(secured(connection, stream)));
    } else {
        drop(tokio::task::spawn_local(tcp::serve_clear(connection, stream)));
    }
}

/// TLS, and what is spoken within.
async fn secured(connection: Rc<Connection>, stream: ClientStream) {
    // In a place of its own: what is left of the task idles for long, without the room that a handshake takes.
    if let Some(stream) = Box::pin(shake(&connection, stream)).await {
        tcp::serve_tls(connection, stream).await;
    }
}

/// The handshake; none where it came to nothing.
async fn shake(connection: &Rc<Connection>, stream: ClientStream) -> Option<Box<TlsStream<ClientStream>>> {
    let tls = connection.worker.shared.tls.as_ref()?;
    let current = tls.current();
    let live = connection.worker.live();
    let limit = live.snapshot.config.timeouts.handshake.0;
    if live.snapshot.policies.wants_hello() && !hello::admits(connection, stream.tcp(), limit).await {
        return None;
    }
    drop(live);
    let done = tokio::time::timeout(limit, tls::accept(&current, stream)).await;
    // Its certificates may be exchanged while it lasts.
    drop(current);
    match done {
        Ok(Ok((stream, secured))) => {
            connection.secure(secured);
            return Some(Box::new(stream));
        }
        Ok(Err(error)) => failed(connection, &error.to_string()),
        Err(_) => failed(connection, "not done in time"),
    }
    None
}

/// Counts a handshake that came to nothing.
pub(crate) fn failed(connection: &Connection, error: &str) {
    bump(&connection.worker.stats.tls_errors, 1);
    tracing::debug!(client = %connection.client, listener = connection.listener.name, error, "TLS handshake failed");
}
