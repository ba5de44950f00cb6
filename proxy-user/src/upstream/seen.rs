//! How upstreams stand, as one worker sees them: what status and metrics show.

use std::time::Instant;

use proxy_core::balance::Standing;

use super::pool::Pool;

/// An upstream as one worker sees it.
#[derive(Clone, Debug)]
pub struct UpstreamSeen {
    /// Name in the config.
    pub name: String,
    /// Requests in its queue.
    pub waiting: u64,
    /// Its servers.
    pub servers: Vec<ServerSeen>,
}

/// One server of it.
#[derive(Clone, Debug)]
pub struct ServerSeen {
    /// As the config writes it.
    pub server: String,
    /// How it stands.
    pub standing: Standing,
    /// Open requests that are counted: those of HTTP/2, and of upstreams whose balancing goes by them.
    pub requests: u64,
    /// Kept connections: idle ones of HTTP/1.1, all of HTTP/2.
    pub connections: u64,
}

impl Pool {
    /// How its servers stand, as this worker sees them now.
    pub fn seen(&self, now: Instant) -> UpstreamSeen {
        let balancer = self.balancer.borrow();
        let time = self.time(now);
        let servers = self.servers.iter().enumerate().map(|(index, state)| {
            let (connections, streams) = state.sessions.count();
            ServerSeen {
                server: state.server.url.to_string(),
                standing: balancer.standing(index, time),
                requests: u64::from(balancer.active(index)).max(streams as u64),
                connections: (state.idle.borrow().len() + connections) as u64,
            }
        });
        UpstreamSeen {
            name: self.origin.name.clone(),
            waiting: u64::from(self.waiting.get()),
            servers: servers.collect(),
        }
    }
}
