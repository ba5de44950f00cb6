//! Origins as a snapshot holds them: parsed and checked when the config is loaded, so that nothing about them can
//! fail later except reaching them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proxy_core::balance::{After, Ejection, Rules};
use proxy_core::config::{Balancing, Config, OriginVerify, Probing, Queue, Retries, Scheme, ServerUrl, Upstream};
use proxy_core::digest::Digest;
use proxy_core::proxy_protocol::Version;
use proxy_core::route::{Key, hash_bytes};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::tls::client;

/// A named upstream.
#[derive(Debug)]
pub struct Origin {
    /// Name in the config.
    pub name: String,
    /// Its servers.
    pub servers: Vec<Server>,
    /// Idle connections kept by each worker.
    pub keepalive: usize,
    /// For `https` servers.
    pub tls: Option<Arc<ClientConfig>>,
    /// The same with HTTP/2 on offer, where it is.
    pub tls_http2: Option<Arc<ClientConfig>>,
    /// How servers are told who the client is.
    pub proxy_protocol: Option<Version>,
    /// Its responses are to be handed over without TCP.
    pub same_host: bool,
    /// How requests are shared out.
    pub rules: Rules,
    /// What a consistent hash goes by.
    pub key: Key,
    /// How many requests wait while no server has room.
    pub queue: Option<Queue>,
    /// When a request is sent again.
    pub retries: Retries,
    /// When a request is sent to a second server, too.
    pub hedge: Option<After>,
    /// How servers are asked whether they are well.
    pub health: Option<Probing>,
    /// Who is asked for addresses of its servers; none for those of the system.
    pub resolver: Arc<[SocketAddr]>,
    /// What TLS was made of, to tell whether it changed.
    made_of: Option<Digest>,
}

/// One server of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it is.
    pub url: ServerUrl,
    /// Name to ask for and check, for `https`.
    pub tls_name: Option<ServerName<'static>>,
}

impl Origin {
    /// All upstreams of a config, sorted by name. The error names each that cannot be used.
    pub fn all(config: &Config, base: &Path) -> Result<Vec<Arc<Self>>, String> {
        let mut faults = Vec::new();
        let mut origins = Vec::new();
        let resolver: Arc<[SocketAddr]> = config.resolver.servers.iter().copied().collect();
        for (name, upstream) in &config.upstreams {
            match Self::new(name, upstream, base, &resolver) {
                Ok(origin) => origins.push(Arc::new(origin)),
                Err(fault) => faults.push(format!("/upstreams/{name}{fault}")),
            }
        }
        if faults.is_empty() { Ok(origins) } else { Err(faults.join("\n")) }
    }

    fn new(name: &str, upstream: &Upstream, base: &Path, resolver: &Arc<[SocketAddr]>) -> Result<Self, String> {
        let mut servers = Vec::new();
        for (index, url) in upstream.servers.iter().enumerate() {
            let tls_name = match url.scheme {
                Scheme::Http | Scheme::H2c | Scheme::Tcp => None,
                Scheme::Https => {
                    let name = upstream.server_name.as_ref().unwrap_or(&url.host);
                    let parsed = ServerName::try_from(name.clone()).map_err(|_| {
                        format!("/servers/{index}: `{name}` cannot be a certificate's name; set `server_name`")
                    })?;
                    Some(parsed)
                }
            };
            servers.push(Server { url: url.clone(), tls_name });
        }
        let with_tls = servers.iter().any(|server| server.tls_name.is_some());
        let client = with_tls.then(|| client::config(upstream, base)).transpose()?;
        if with_tls && upstream.tls.verify == OriginVerify::Off {
            tracing::warn!(upstream = name, "certificates of its servers are not checked: anybody may answer for them");
        }
        let (tls, made_of) = client.map(|client| (client.config, client.made_of)).unzip();
        let tls_http2 = tls.as_ref().filter(|_| upstream.http2).map(|tls| {
            let mut tls = ClientConfig::clone(tls);
            tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            Arc::new(tls)
        });
        let keepalive = upstream.keepalive as usize;
        let rules = rules(&upstream.balance, &servers);
        let key = upstream.balance.hash_by.as_ref().map(Key::new).unwrap_or_default();
        let (retries, health) = (upstream.retries.clone(), upstream.health.clone());
        let queue = upstream.balance.queue.clone();
        let hedge = upstream.hedge.as_ref().and_then(|hedge| {
            let time = hedge.after.map(|after| After::Time(after.0));
            time.or(hedge.percentile.map(After::Percentile))
        });
        let proxy_protocol = upstream.proxy_protocol;
        Ok(Self {
            name: name.to_owned(),
            servers,
            keepalive,
            tls,
            tls_http2,
            proxy_protocol,
            same_host: upstream.same_host,
            rules,
            key,
            queue,
            retries,
            hedge,
            health,
            resolver: Arc::clone(resolver),
            made_of,
        })
    }

    /// Whether connections made for `self` are as good for `other`; which way responses come is the pool's to tell.
    pub fn same_as(&self, other: &Self) -> bool {
        self.name == other.name
            && self.servers == other.servers
            && self.keepalive == other.keepalive
            && (&self.rules, &self.key, &self.queue) == (&other.rules, &other.key, &other.queue)
            && (&self.retries, &self.hedge, &self.health) == (&other.retries, &other.hedge, &other.health)
            && self.resolver == other.resolver
            && self.made_of == other.made_of
            && self.tls_http2.is_some() == other.tls_http2.is_some()
            && self.proxy_protocol == other.proxy_protocol
    }
}

/// Servers are told apart by their URLs, so that a key stays with its server over reloads and in other processes.
fn rules(balance: &Balancing, servers: &[Server]) -> Rules {
    let weights = balance.weights.iter().copied().chain(std::iter::repeat(1));
    let servers = servers.iter().map(|server| hash_bytes(server.url.to_string().as_bytes())).zip(weights);
    let ejection = balance.ejection.as_ref().map(|ejection| Ejection {
        failures: ejection.failures,
        time: ejection.time.0,
        max_percent: ejection.max_percent,
    });
    Rules {
        balance: balance.prefer,
        servers: servers.collect(),
        ejection,
        slow_start: balance.slow_start.map_or(Duration::ZERO, |time| time.0),
        max_requests: balance.max_requests,
    }
}
