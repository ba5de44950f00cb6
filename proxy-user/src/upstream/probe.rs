//! Probes: each worker asks its upstreams' servers now and then whether they are well.

use std::rc::Rc;
use std::time::Instant;

use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Request};
use proxy_core::balance::Standing;
use proxy_core::config::Probing;

use super::connect::{OnBehalf, Opened};
use super::h2;
use super::pool::Pool;
use crate::http::body::RequestBody;

impl Pool {
    /// Whether servers are to be asked now how they are; the next time is counted from here then.
    pub fn probe_due(&self, now: Instant) -> bool {
        let every = self.origin.health.as_ref().map(|health| health.every.0);
        let due = every.is_some_and(|every| now.saturating_duration_since(self.probed.get()) >= every);
        if due {
            self.probed.set(now);
        }
        due
    }

    pub(super) fn probed(&self, server: usize, well: bool, health: &Probing) {
        let now = self.time(Instant::now());
        let mut balancer = self.balancer.borrow_mut();
        let before = balancer.standing(server, now);
        balancer.probed(server, now, well, health.rise, health.fall);
        let after = balancer.standing(server, now);
        let name = self.servers.get(server).map(|state| state.server.url.to_string());
        match (before == Standing::Unhealthy, after == Standing::Unhealthy) {
            (false, true) => tracing::warn!(upstream = self.origin.name, server = name, "the server is not well"),
            (true, false) => tracing::info!(upstream = self.origin.name, server = name, "the server is well again"),
            _ => {}
        }
    }

    /// Asks all servers; returns at once.
    pub fn probe(self: &Rc<Self>) {
        let Some(health) = &self.origin().health else { return };
        for server in 0..self.servers() {
            let (pool, health) = (Rc::clone(self), health.clone());
            drop(tokio::task::spawn_local(async move {
                let asked = tokio::time::timeout(health.timeout.0, pool.ask(server, &health)).await;
                pool.probed(server, matches!(asked, Ok(Ok(true))), &health);
            }));
        }
    }

    /// Whether the answer is 2xx or 3xx, over a connection of its own.
    async fn ask(&self, server: usize, health: &Probing) -> anyhow::Result<bool> {
        let opened = self.open(server, OnBehalf::default(), &mut None).await?;
        let url = self.state(server).map(|state| &state.server.url);
        let host = HeaderValue::from_str(url.map_or("", |url| &url.authority))?;
        let mut request = Request::get(health.path.as_str()).body(RequestBody::empty())?;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("tidegate-health"));
        let status = match opened {
            Opened::Http1(mut sender) => sender.send_request(request).await?.status(),
            Opened::Http2(session) => {
                let sent = h2::send(session.slot(), request).await;
                sent.map_err(|failed| anyhow::anyhow!(failed.fault))?.status()
            }
        };
        Ok(status.is_success() || status.is_redirection())
    }
}
