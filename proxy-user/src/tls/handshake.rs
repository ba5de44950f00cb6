//! The handshake of a TCP connection. Where hosts differ in what they ask, the name in the ClientHello says which
//! configuration it goes on with.

use std::io;
use std::sync::Arc;

use rustls::server::Acceptor;
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use super::Current;
use super::secured::Secured;

/// A fatal alert, `unrecognized_name` (RFC 6066 section 3), in a record of its own.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Bytes that are encrypted ahead of a client that does not take them; also what is sent at once to one that does, and a system
/// call for each of twice as many pieces costs more than the room.
const MOST_SEALED: usize = 128 << 10;

/// Does the handshake, and tells what it has shown.
///
/// # Errors
/// It failed, and the client was told so where it can be.
pub async fn accept<I: AsyncRead + AsyncWrite + Unpin>(
    current: &Current,
    stream: I,
) -> io::Result<(TlsStream<I>, Secured)> {
    let (mut stream, index) = if current.by_name {
        let mut start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let hello = start.client_hello();
        let looks = |acme: &&Arc<ServerConfig>| {
            acme.alpn_protocols.iter().map(Vec::as_slice).eq(hello.alpn().into_iter().flatten())
        };
        if let Some(config) = current.acme.as_ref().filter(looks).map(Arc::clone) {
            start.into_stream(config).await?.shutdown().await?;
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "an ACME server has looked at its challenge"));
        }
        let chosen = current.for_tcp(hello.server_name());
        let Some((index, config)) = chosen else {
            start.io.write_all(&UNRECOGNIZED_NAME).await?;
            start.io.shutdown().await?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the client asks for no name that is served here"));
        };
        let config = Arc::clone(config);
        (start.into_stream(config).await?, index)
    } else {
        let config = current.first_tcp().map_err(io::Error::other)?;
        (TlsAcceptor::from(Arc::clone(config)).accept(stream).await?, 0)
    };
    stream.get_mut().1.set_buffer_limit(Some(MOST_SEALED));
    let session = stream.get_ref().1;
    let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    tracing::debug!(name = session.server_name(), resumed, "TLS handshake done");
    let secured = Secured::new(current, index, session.server_name(), session.peer_certificates());
    let secured = secured.map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
    Ok((stream, secured))
}
