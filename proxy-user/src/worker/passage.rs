//! Connections that are passed through as they are: where to, by the server name of their ClientHello where names are asked
//! for, and the bytes both ways, half-closes kept. No TLS is ended and no byte changed here.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use proxy_core::config::{Listener, Protocol};
use proxy_core::hello::Found;
use proxy_core::host::HostPattern;
use tokio::net::TcpStream;

use super::connection::Connection;
use super::hello::peek;
use super::relay::{Ended, Passed, relay};
use super::stream::ClientStream;
use crate::http::fault::{Fault, Kind};
use crate::stats::bump;
use crate::upstream::lease::Turn;
use crate::upstream::pool::Pool;

/// Bytes of a ClientHello that are looked at first.
const FIRST_BYTES: usize = 2_048;

/// Where a listener passes connections on to.
#[derive(Debug)]
pub struct Passages {
    /// By server name, and upstream.
    named: Vec<(HostPattern, String)>,
    /// Everything else.
    rest: Option<String>,
    /// Whether TLS is spoken here to whom no name fits.
    serves: bool,
}

/// What becomes of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Passage {
    /// It goes to this upstream.
    To(String),
    /// It is served here.
    Here,
    /// It is closed.
    Closed,
}

impl Passages {
    /// Those of a listener that has any.
    pub fn new(listener: &Listener) -> Option<Self> {
        let mut passages = Self { named: Vec::new(), rest: None, serves: listener.protocol == Protocol::Https };
        for forward in &listener.forward {
            let patterns = forward.hosts.iter().filter_map(|host| host.parse().ok());
            passages.named.extend(patterns.map(|pattern| (pattern, forward.upstream.clone())));
            if forward.hosts.is_empty() {
                passages.rest.get_or_insert_with(|| forward.upstream.clone());
            }
        }
        // Exact names before wildcards, long ones first.
        passages.named.sort_by_key(|(pattern, _)| match pattern {
            HostPattern::Exact(_) => (0, 0),
            HostPattern::Suffix(suffix) => (1, usize::MAX - suffix.len()),
        });
        (!listener.forward.is_empty()).then_some(passages)
    }

    /// Where a connection goes that asks for this name.
    fn of(&self, name: Option<&str>) -> Passage {
        let name = name.map(str::to_ascii_lowercase);
        let named = name.and_then(|name| self.named.iter().find(|(pattern, _)| pattern.fits(&name)));
        match (named, &self.rest) {
            (Some((_, upstream)), _) | (None, Some(upstream)) => Passage::To(upstream.clone()),
            (None, None) if self.serves => Passage::Here,
            (None, None) => Passage::Closed,
        }
    }

    /// Looks at a connection's first bytes, where they matter, and leaves them where they are.
    pub async fn find(&self, stream: &TcpStream, limit: Duration) -> Passage {
        if self.named.is_empty() {
            return self.of(None);
        }
        let mut bytes = vec![0; FIRST_BYTES];
        match tokio::time::timeout(limit, peek(stream, &mut bytes)).await {
            Ok(Ok((Found::Hello(hello), _))) => {
                self.of(hello.sni.as_deref().and_then(|name| std::str::from_utf8(name).ok()))
            }
            // Something else than TLS, or TLS that cannot be read: it names nobody.
            Ok(Ok((Found::Not(_) | Found::TooLarge, _))) => self.of(None),
            _ => Passage::Closed,
        }
    }
}

/// Passes a connection on until it ends.
pub async fn pass(connection: &Rc<Connection>, mut client: ClientStream, upstream: &str) {
    let worker = &connection.worker;
    let live = worker.live();
    let pool = live.upstream_index(upstream).and_then(|index| live.pool(index));
    let Some(pool) = pool else {
        tracing::warn!(upstream, "a listener passes connections to an upstream that a reload took away");
        return;
    };
    // From here on the connection's own time limits, which are of HTTP, do not apply.
    connection.request_started();
    let timeouts = &live.snapshot.config.timeouts;
    let outcome = match pool.passage(connection, timeouts.connect.0).await {
        Ok((mut origin, _turn)) => {
            let deadline = worker.deadlines.add();
            let ended = relay(&mut client, &mut origin, bytes::Bytes::new(), &deadline, timeouts.tunnel.0).await;
            Ok(ended)
        }
        Err(fault) => Err(fault),
    };
    bump(&worker.stats.forwarded, 1);
    match outcome {
        Ok((Passed { inwards, outwards }, ended)) => {
            bump(&worker.stats.forwarded_in, inwards);
            bump(&worker.stats.forwarded_out, outwards);
            if let Ended::Broken(error) = &ended {
                tracing::debug!(%error, client = %connection.client, "a connection that was passed through broke off");
            }
            tracing::debug!(client = %connection.client, upstream, inwards, outwards, ?ended, "passed through");
        }
        Err(fault) => {
            bump(&worker.stats.upstream_errors, 1);
            tracing::debug!(client = %connection.client, upstream, %fault, "not passed through");
            // The client learns as it would from the server itself.
            connection.cut();
        }
    }
    connection.request_ended();
}

impl Pool {
    /// A connection for a client's bytes, to the first server that has room and can be reached.
    async fn passage(
        self: &Rc<Self>,
        connection: &Connection,
        limit: Duration,
    ) -> Result<(TcpStream, Option<Turn>), Fault> {
        let client: (SocketAddr, SocketAddr) = (connection.client, connection.local);
        let hash = self.hash_of_address(connection.client.ip());
        let mut failed = Fault::upstream(Kind::Busy, "all servers of the upstream are busy");
        for server in self.order(Instant::now(), hash) {
            let Ok(turn) = self.turn(server) else { continue };
            match self.connect_tcp(server, limit, client.into()).await {
                Ok(stream) => return Ok((stream, turn)),
                Err(fault) => failed = fault,
            }
        }
        Err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passages(text: &str) -> Passages {
        Passages::new(&serde_json::from_str(text).unwrap()).unwrap()
    }

    #[test]
    fn exact_names_go_before_wildcards() {
        let listener = r#"{"name":"a","address":"127.0.0.1:1","protocol":"PROTOCOL","forward":[
            {"hosts":["*.example.com"],"upstream":"wide"},{"hosts":["*.db.example.com"],"upstream":"narrow"},
            {"hosts":["a.db.example.com"],"upstream":"exact"} REST]}"#;
        let tcp = passages(&listener.replace("PROTOCOL", "tcp").replace("REST", r#",{"upstream":"rest"}"#));
        let to = |name| match tcp.of(name) {
            Passage::To(upstream) => upstream,
            other => format!("{other:?}"),
        };
        assert_eq!(to(Some("A.db.example.com")), "exact");
        assert_eq!(to(Some("b.db.example.com")), "narrow");
        assert_eq!(to(Some("www.example.com")), "wide");
        assert_eq!([to(Some("example.com")), to(None)], ["rest", "rest"]);
        let https = passages(&listener.replace("PROTOCOL", "https").replace("REST", ""));
        assert_eq!([https.of(Some("other.test")), https.of(None)], [Passage::Here, Passage::Here]);
        let closed = passages(&listener.replace("PROTOCOL", "tcp").replace("REST", ""));
        assert_eq!(closed.of(None), Passage::Closed);
    }
}
