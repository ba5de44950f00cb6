//! TLS towards clients: server configurations for TCP and for QUIC over one table of certificates, one for each kind of
//! security that hosts ask for. Shared by all workers, so that a session ticket of one is good at every other; exchanged
//! whole when config or files change.

pub mod acme;
pub mod certificates;
pub mod client;
pub mod client_auth;
pub mod files;
mod handshake;
pub mod key_log;
pub mod secured;
mod tickets;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use arc_swap::{ArcSwap, Guard};
use proxy_core::config::{AcmeChallenge, Config, StrictSni, TlsVersion};
use proxy_core::tls::Hosts;
use proxy_core::tls::tickets::Key;
use quinn::ValidationTokenConfig;
use quinn::crypto::rustls::QuicServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache, StoresServerSessions};
use rustls::version::{TLS12, TLS13};
use rustls::{KeyLog, ServerConfig, SupportedProtocolVersion};

use acme::Challenges;
use certificates::{Resolver, Table};
use client_auth::ClientCheck;
pub use handshake::accept;
use tickets::{Bound, NoTickets, Tickets};

use crate::watch::Stamps;

/// Sessions kept for TLS 1.2 clients that take no tickets.
const SESSION_CACHE: usize = 4096;
/// Sessions kept for clients that may come back with early data.
const EARLY_SESSIONS: usize = 32_768;
/// Early data over QUIC is bounded by the windows of streams and connection (RFC 9001 section 4.6.1).
const EARLY_BYTES: u32 = u32::MAX;
/// Address tokens that a client gets, as many as tickets.
const TOKENS: u32 = 2;
/// How long one is good: as long as the session that it is for.
const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3_600);
/// Tickets sent after a TLS 1.3 handshake: browsers open few connections at a time.
const TICKETS: usize = 2;

/// The server side of TLS; one for the process.
#[derive(Debug)]
pub struct Tls {
    current: ArcSwap<Current>,
    tickets: Arc<Tickets>,
    kept: Kept,
    challenges: Arc<Challenges>,
    key_log: Option<Arc<dyn KeyLog>>,
    /// What all QUIC endpoints have the same of: the key of their tokens among it.
    quic: quinn::ServerConfig,
    /// Tokens by which clients that come back show their address at once (RFC 9000 section 8.1.3), each good once.
    tokens: ValidationTokenConfig,
    /// [`Current::quic_by_name`], for who looks at each packet.
    wants_names: AtomicBool,
}

/// Sessions in memory.
#[derive(Debug)]
struct Kept {
    /// Of TLS 1.2 without tickets.
    old: Arc<ServerSessionMemoryCache>,
    /// Of TLS 1.3 with early data; made when a config wants it first. A session is taken out as it is used, which is what
    /// keeps early data from being played again (RFC 8446 section 8.1): one store for all workers, and none over a restart.
    early: OnceLock<Arc<ServerSessionMemoryCache>>,
}

/// What is in force.
pub struct Current {
    /// What holds for which host.
    pub hosts: Arc<Hosts>,
    /// The certificates.
    pub table: Arc<Table>,
    /// What becomes of unknown names.
    pub strict: StrictSni,
    /// For TCP, ALPN `h2` and `http/1.1`; by the index of [`Hosts::securities`].
    pub tcp: Vec<Arc<ServerConfig>>,
    /// For QUIC, ALPN `h3`, likewise.
    pub quic: Vec<Arc<QuicServerConfig>>,
    /// Whether early data is taken.
    early_data: bool,
    /// For ACME servers that look at a challenge; none where they have no reason to.
    pub acme: Option<Arc<ServerConfig>>,
    /// Whether the name that a client asks for says more than which certificate it gets.
    pub by_name: bool,
    /// The same over QUIC.
    pub quic_by_name: bool,
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current").field("hosts", &self.hosts).field("strict", &self.strict).finish_non_exhaustive()
    }
}

/// What a config's TLS part leads to: files that were read whole.
#[derive(Debug)]
pub struct Loaded {
    hosts: Arc<Hosts>,
    table: Arc<Table>,
    strict: StrictSni,
    /// In the order of [`Hosts::securities`].
    checks: Vec<ClientCheck>,
    tickets: bool,
    early_data: bool,
    lifetime: u32,
    keys: Option<Vec<Key>>,
    /// Whether ACME servers look at handshakes.
    acme: bool,
    state_dir: PathBuf,
    /// Of the files, before they were read.
    pub stamps: Stamps,
}

impl Loaded {
    /// Reads the files that a config names.
    ///
    /// # Errors
    /// All that cannot be used, a line each, with its place in the config.
    pub fn read(config: &Config, base: &Path) -> Result<Self, String> {
        let mut faults = Vec::new();
        let stamps = Stamps::take(files::files(config, base));
        let hosts = Arc::new(Hosts::new(&config.tls));
        let issued = acme::certificates(config, base);
        let table = Table::read(&config.certificates, &issued, base);
        let table = table.map_err(|fault| faults.push(fault)).unwrap_or_default();
        let checks: Vec<_> = hosts
            .securities()
            .iter()
            .filter_map(|security| {
                let place = config.tls.client_auths().find(|(_, auth)| security.client_auth.as_ref() == Some(*auth));
                let pointer = place.map(|(pointer, _)| pointer).unwrap_or_default();
                let check = ClientCheck::read(security.client_auth.as_ref(), base);
                check.map_err(|fault| faults.push(format!("{pointer}{fault}"))).ok()
            })
            .collect();
        let keys = config.tls.tickets.keys.as_ref().and_then(|file| {
            let keys = tickets::read(&base.join(file));
            keys.map_err(|fault| faults.push(format!("/tls/tickets/keys: {fault}"))).ok()
        });
        if !faults.is_empty() {
            return Err(faults.join("\n"));
        }
        Ok(Self {
            hosts,
            table: Arc::new(table),
            strict: config.tls.strict_sni,
            checks,
            tickets: config.tls.tickets.enabled,
            early_data: config.tls.early_data,
            lifetime: u32::try_from(config.tls.tickets.lifetime.0.as_secs()).unwrap_or(u32::MAX),
            keys,
            acme: config.acme.as_ref().is_some_and(|acme| acme.challenge == AcmeChallenge::TlsAlpn),
            state_dir: base.join(&config.state_dir),
            stamps,
        })
    }
}

/// The cryptography in use.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

impl Tls {
    /// With what was read first, and where secrets of sessions are written to, if anywhere.
    pub fn new(loaded: Loaded, key_log: Option<Arc<dyn KeyLog>>) -> anyhow::Result<Arc<Self>> {
        let tickets = Arc::new(Tickets::new(loaded.state_dir.clone()));
        let kept = Kept { old: ServerSessionMemoryCache::new(SESSION_CACHE), early: OnceLock::new() };
        let challenges = Arc::new(Challenges::default());
        let current = Current::new(loaded, &tickets, &kept, &challenges, key_log.as_ref())?;
        let wants_names = AtomicBool::new(current.quic_by_name);
        let first = current.quic.first().map(Arc::clone).context("there is no TLS configuration")?;
        let mut tokens = ValidationTokenConfig::default();
        tokens.lifetime(TOKEN_LIFE).sent(0);
        let mut quic = quinn::ServerConfig::with_crypto(first);
        quic.validation_token_config(tokens.clone());
        let current = ArcSwap::from_pointee(current);
        Ok(Arc::new(Self { current, tickets, kept, challenges, key_log, quic, tokens, wants_names }))
    }

    /// New handshakes go by what was read now; tickets stay good where nobody asks more of their client.
    ///
    /// # Errors
    /// It cannot be made a configuration; what was in force stays.
    pub fn replace(&self, loaded: Loaded) -> Result<(), String> {
        let current = Current::new(loaded, &self.tickets, &self.kept, &self.challenges, self.key_log.as_ref())
            .map_err(|error| format!("/tls: {error:#}"))?;
        self.wants_names.store(current.quic_by_name, Ordering::Relaxed);
        self.current.store(Arc::new(current));
        Ok(())
    }

    /// What is in force, for a look.
    pub fn now(&self) -> Guard<Arc<Current>> {
        self.current.load()
    }

    /// What is in force, to be kept.
    pub fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }

    /// Whether QUIC connections have to be told apart by name before their handshake.
    pub fn wants_names(&self) -> bool {
        self.wants_names.load(Ordering::Relaxed)
    }

    /// What endpoints of QUIC begin with.
    pub fn quic(&self) -> &quinn::ServerConfig {
        &self.quic
    }

    /// What clients are given to show their address with, where early data is taken: it would be of no use to others.
    pub fn tokens(&self) -> ValidationTokenConfig {
        let mut tokens = self.tokens.clone();
        tokens.sent(TOKENS);
        tokens
    }

    /// What ACME servers are shown.
    pub fn challenges(&self) -> &Arc<Challenges> {
        &self.challenges
    }

    /// What is due now and then: keys of tickets are exchanged.
    pub fn tick(&self) {
        self.tickets.advance();
    }
}

impl Current {
    fn new(
        loaded: Loaded,
        tickets: &Arc<Tickets>,
        kept: &Kept,
        challenges: &Arc<Challenges>,
        key_log: Option<&Arc<dyn KeyLog>>,
    ) -> anyhow::Result<Self> {
        let Loaded { hosts, table, strict, checks, early_data, .. } = loaded;
        if loaded.tickets {
            tickets.configure(loaded.lifetime, loaded.keys);
        }
        let resolver = Arc::new(Resolver { table: Arc::clone(&table), refuse_unknown: strict == StrictSni::Refuse });
        let base = |versions: &[&'static SupportedProtocolVersion], check: &ClientCheck| {
            let mut config = ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(versions)?
                .with_client_cert_verifier(Arc::clone(&check.verifier))
                .with_cert_resolver(Arc::clone(&resolver) as _);
            // Ours begins with the strongest.
            config.ignore_client_order = true;
            if loaded.tickets {
                let bound = Bound::new(check.binding);
                config.ticketer = Arc::new(bound.tickets(tickets));
                config.session_storage =
                    Arc::new(bound.sessions(Arc::clone(&kept.old) as Arc<dyn StoresServerSessions>));
                config.send_tls13_tickets = TICKETS;
            } else {
                config.session_storage = Arc::new(NoServerSessionStorage {});
                config.send_tls13_tickets = 0;
            }
            if let Some(log) = key_log {
                config.key_log = Arc::clone(log);
            }
            anyhow::Ok(config)
        };
        let (mut tcp, mut quic) = (Vec::new(), Vec::new());
        for (security, check) in hosts.securities().iter().zip(&checks) {
            let versions: &[_] = if security.min_version == TlsVersion::V13 { &[&TLS13] } else { &[&TLS13, &TLS12] };
            let mut config = base(versions, check)?;
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            tcp.push(Arc::new(config));
            let mut config = base(&[&TLS13], check)?;
            config.alpn_protocols = vec![b"h3".to_vec()];
            if early_data && security.client_auth.is_none() {
                let sessions = kept.early.get_or_init(|| ServerSessionMemoryCache::new(EARLY_SESSIONS));
                let sessions = Arc::clone(sessions) as Arc<dyn StoresServerSessions>;
                config.session_storage = Arc::new(Bound::new(check.binding).sessions(sessions));
                config.ticketer = Arc::new(NoTickets);
                config.max_early_data_size = EARLY_BYTES;
            }
            let config = QuicServerConfig::try_from(Arc::new(config)).context("the TLS provider cannot do QUIC")?;
            quic.push(Arc::new(config));
        }
        let acme = if loaded.acme { Some(acme::answering(challenges)?) } else { None };
        let by_name = hosts.differ() || strict == StrictSni::Refuse || acme.is_some();
        let quic_by_name = hosts.differ_in_clients();
        Ok(Self { hosts, table, strict, tcp, quic, early_data, acme, by_name, quic_by_name })
    }

    /// The configuration for a TCP client that asks for a name, with its index; `None` where it is to be refused.
    pub fn for_tcp(&self, name: Option<&str>) -> Option<(usize, &Arc<ServerConfig>)> {
        if self.strict == StrictSni::Refuse && !name.is_some_and(|name| self.table.knows(name)) {
            return None;
        }
        let index = self.hosts.index_of(name);
        Some((index, self.tcp.get(index)?))
    }

    /// Whether early data is taken under a QUIC configuration: not where clients show certificates, which they do at the
    /// handshake's end.
    pub fn takes_early(&self, index: usize) -> bool {
        let security = self.hosts.securities().get(index);
        self.early_data && security.is_some_and(|security| security.client_auth.is_none())
    }

    /// The configuration of those of whom nothing is known.
    pub fn first_tcp(&self) -> anyhow::Result<&Arc<ServerConfig>> {
        self.tcp.first().ok_or_else(|| anyhow!("there is no TLS configuration"))
    }
}
