//! Connections from a balancer in front: the PROXY protocol's header is read before anything else, and what it says of the
//! client is what policies, logs and origins get to know. What the header may look like is `proxy_core::proxy_protocol`'s.

use std::net::SocketAddr;
use std::time::Duration;

use proxy_core::proxy_protocol::{Found, MAX_HEADER, parse};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// Pause before the first bytes are looked at again when a part of the header has come.
const PAUSE: Duration = Duration::from_millis(5);

/// The client and the address that it reached, by the header that the stream begins with, which is taken away; those of
/// the stream itself where the header names nobody. None where there is no valid header in time: nothing can be said to
/// such a peer then.
pub async fn read(
    stream: &mut TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
    limit: Duration,
) -> Option<(SocketAddr, SocketAddr)> {
    let why = match tokio::time::timeout(limit, header(stream)).await {
        Ok(Ok(Some((length, about)))) => {
            let mut header = vec![0; length];
            stream.read_exact(&mut header).await.ok()?;
            return Some(about.unwrap_or((peer, local)));
        }
        Ok(Ok(None)) => "it closed the connection".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it did not come in time".to_owned(),
    };
    tracing::warn!(%peer, why, "no PROXY protocol header from a source that is to send one; the connection is closed");
    None
}

type Header = (usize, Option<(SocketAddr, SocketAddr)>);

/// Looks at the first bytes until they are a header; None where the peer left.
async fn header(stream: &TcpStream) -> std::io::Result<Option<Header>> {
    let mut first = [0; MAX_HEADER];
    loop {
        let count = stream.peek(&mut first).await?;
        if count == 0 {
            return Ok(None);
        }
        match parse(first.get(..count).unwrap_or_default()) {
            Found::Header { length, about } => return Ok(Some((length, about))),
            Found::Not(why) => return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, why)),
            Found::More => tokio::time::sleep(PAUSE).await,
        }
    }
}
