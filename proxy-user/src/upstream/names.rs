//! Names of origins: asked for both families as often as their records say, `/etc/hosts` first. How long an answer is used, and
//! what happens without one, [`proxy_core::dial`] decides.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::future::{Either, select};
use hickory_resolver::Resolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::read_system_conf;
use proxy_core::dial::{Known, Use, interleaved};
use tokio::sync::Mutex;

/// How long a name server has for an answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How often it is asked.
const ATTEMPTS: usize = 2;
/// Where IPv4 addresses have come, those of IPv6 are waited for so much longer (RFC 8305 section 3, Resolution Delay).
const FOR_IPV6: Duration = Duration::from_millis(50);
/// And the other way: without them, hosts that lack IPv6 would reach nobody.
const FOR_IPV4: Duration = Duration::from_secs(1);

/// Addresses of one server's name, as one worker knows them.
pub(super) struct Addresses {
    known: RefCell<Known>,
    /// One asks at a time.
    asking: Mutex<()>,
    start: Instant,
}

impl Default for Addresses {
    fn default() -> Self {
        Self { known: RefCell::default(), asking: Mutex::default(), start: Instant::now() }
    }
}

/// Addresses, and for how long.
type Found = (Vec<IpAddr>, Duration);

impl Addresses {
    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// In the order in which they are tried.
    pub(super) async fn get(self: &Rc<Self>, host: &str, servers: &Arc<[SocketAddr]>) -> anyhow::Result<Vec<IpAddr>> {
        let what = self.known.borrow().at(self.now());
        match what {
            Use::Known | Use::Nothing => {}
            Use::KnownAndAsk => self.ask_behind(host, servers),
            Use::Ask => {
                let _turn = self.asking.lock().await;
                // Whoever was before has asked.
                let what = self.known.borrow().at(self.now());
                if what == Use::Ask {
                    self.ask(host, servers).await;
                }
            }
        }
        let known = self.known.borrow();
        anyhow::ensure!(!known.addresses().is_empty(), "no address is known for `{host}`");
        Ok(known.addresses().to_vec())
    }

    fn ask_behind(self: &Rc<Self>, host: &str, servers: &Arc<[SocketAddr]>) {
        let (this, host, servers) = (Rc::clone(self), host.to_owned(), Arc::clone(servers));
        drop(tokio::task::spawn_local(async move {
            if let Ok(_turn) = this.asking.try_lock() {
                this.ask(&host, &servers).await;
            }
        }));
    }

    async fn ask(&self, host: &str, servers: &[SocketAddr]) {
        let found = look_up(host, servers).await;
        let mut known = self.known.borrow_mut();
        match found {
            Ok((addresses, time_to_live)) => known.found(self.now(), addresses, time_to_live),
            Err(error) => {
                known.failed(self.now());
                let kept = known.addresses().len();
                tracing::warn!(host, kept, error = format!("{error:#}"), "the name of an origin cannot be looked up");
            }
        }
    }
}

/// Asks for both families; what the second one says is waited for a while only.
async fn look_up(host: &str, servers: &[SocketAddr]) -> anyhow::Result<Found> {
    let v6 = Box::pin(family(host, servers, LookupIpStrategy::Ipv6Only));
    let v4 = Box::pin(family(host, servers, LookupIpStrategy::Ipv4Only));
    let (first, second) = match select(v4, v6).await {
        Either::Left((Ok(found), other)) => (Ok(found), tokio::time::timeout(FOR_IPV6, other).await.ok()),
        Either::Right((Ok(found), other)) => (Ok(found), tokio::time::timeout(FOR_IPV4, other).await.ok()),
        // Without the first one the second is all there is.
        Either::Left((failed, other)) | Either::Right((failed, other)) => (failed, Some(other.await)),
    };
    match (first, second) {
        (Ok((mut addresses, time)), Some(Ok((others, other_time)))) => {
            addresses.extend(others);
            Ok((interleaved(addresses), time.min(other_time)))
        }
        (Ok(found), _) | (Err(_), Some(Ok(found))) => Ok(found),
        (Err(error), _) => Err(error),
    }
}

/// Addresses of one family. The files are read each time: this is once in a time to live, and they may have changed.
async fn family(host: &str, servers: &[SocketAddr], strategy: LookupIpStrategy) -> anyhow::Result<Found> {
    let (config, mut options) = if servers.is_empty() {
        // Without the file there may still be the hosts.
        read_system_conf().unwrap_or_default()
    } else {
        (named(servers), ResolverOpts::default())
    };
    options.ip_strategy = strategy;
    options.use_hosts_file = ResolveHosts::Always;
    options.cache_size = 0;
    (options.timeout, options.attempts) = (TIMEOUT, ATTEMPTS);
    let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    let found = builder.build()?.lookup_ip(host).await.with_context(|| format!("`{host}`"))?;
    let times = found.as_lookup().answers().iter().map(|record| record.ttl);
    let time = Duration::from_secs(u64::from(times.min().unwrap_or_default()));
    Ok((found.iter().collect(), time))
}

fn named(servers: &[SocketAddr]) -> ResolverConfig {
    let servers = servers.iter().map(|server| {
        let mut config = NameServerConfig::udp_and_tcp(server.ip());
        for connection in &mut config.connections {
            connection.port = server.port();
        }
        config
    });
    ResolverConfig::from_name_servers(servers.collect())
}
