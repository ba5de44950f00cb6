//! HTTP over a TCP or TLS stream, of version 1 or 2. Which of the two: ALPN says, or in clear text the first bytes.

use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::{h1, h2};
use crate::worker::connection::Connection;
use crate::worker::stream::ClientStream;

/// First bytes of an HTTP/2 connection preface (RFC 9113 section 3.4) that no HTTP/1 method begins with.
const H2_PREFACE: &[u8] = b"PRI";
/// Pause before the first bytes are looked at again when fewer than that have come.
const PREFACE_PAUSE: Duration = Duration::from_millis(20);

/// Serves a clear-text connection until it ends.
pub async fn serve_clear(connection: Rc<Connection>, stream: ClientStream) {
    let limit = connection.worker.live().snapshot.config.timeouts.header.0;
    let is_h2 = tokio::select! {
        found = tokio::time::timeout(limit, has_h2_preface(stream.tcp())) => found.unwrap_or(None),
        () = connection.worker.drained() => has_h2_preface(stream.tcp()).await,
    };
    match is_h2 {
        Some(true) => h2::serve(connection, stream).await,
        Some(false) => h1::serve(connection, h1::Io::Clear(stream)).await,
        None => {}
    }
}

/// Serves a TLS connection until it ends.
pub async fn serve_tls(connection: Rc<Connection>, stream: Box<TlsStream<ClientStream>>) {
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        h2::serve(connection, stream).await;
    } else {
        h1::serve(connection, h1::Io::Tls(stream)).await;
    }
}

/// Whether the first bytes, which stay unread, are HTTP/2's. `None` where the client left before it sent any.
async fn has_h2_preface(stream: &TcpStream) -> Option<bool> {
    let mut first = [0; H2_PREFACE.len()];
    loop {
        let count = stream.peek(&mut first).await.ok()?;
        let seen = first.get(..count)?;
        if count == 0 {
            return None;
        }
        if count == H2_PREFACE.len() || !H2_PREFACE.starts_with(seen) {
            return Some(seen == H2_PREFACE);
        }
        tokio::time::sleep(PREFACE_PAUSE).await;
    }
}
