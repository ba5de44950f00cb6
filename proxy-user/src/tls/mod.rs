//! TLS towards clients: one server configuration for TCP and one for QUIC, both over the same certificates, which may
//! be exchanged at any time. Shared by all workers, so that a session ticket of one is good at every other.

pub mod certificates;
pub mod client;
pub mod watch;

use std::sync::Arc;

use anyhow::Context as _;
use quinn::crypto::rustls::QuicServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ServerConfig, SupportedProtocolVersion};

use certificates::Certificates;

/// Sessions kept for TLS 1.2 clients that take no tickets.
const SESSION_CACHE: usize = 4096;
/// Tickets sent after a TLS 1.3 handshake: browsers open few connections at a time.
const TICKETS: usize = 2;

/// The server side of TLS.
#[derive(Clone)]
pub struct Servers {
    /// For TCP: ALPN `h2` and `http/1.1`.
    pub tcp: Arc<ServerConfig>,
    /// For QUIC: ALPN `h3`.
    pub quic: Arc<QuicServerConfig>,
}

/// The cryptography in use.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

impl Servers {
    /// Over certificates that may change later.
    pub fn new(certificates: &Arc<Certificates>) -> anyhow::Result<Self> {
        let tickets = aws_lc_rs::Ticketer::new().context("no session ticket keys could be made")?;
        let sessions = rustls::server::ServerSessionMemoryCache::new(SESSION_CACHE);
        let base = |versions: &[&'static SupportedProtocolVersion]| -> anyhow::Result<ServerConfig> {
            let mut config = ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(versions)?
                .with_no_client_auth()
                .with_cert_resolver(Arc::clone(certificates) as _);
            config.ticketer = Arc::clone(&tickets);
            config.session_storage = Arc::clone(&sessions) as _;
            config.send_tls13_tickets = TICKETS;
            Ok(config)
        };
        let mut tcp = base(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
        tcp.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut quic = base(&[&rustls::version::TLS13])?;
        quic.alpn_protocols = vec![b"h3".to_vec()];
        let quic = QuicServerConfig::try_from(Arc::new(quic)).context("the TLS provider cannot do QUIC")?;
        Ok(Self { tcp: Arc::new(tcp), quic: Arc::new(quic) })
    }
}
