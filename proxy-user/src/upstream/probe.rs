//! Probes: each worker asks its upstreams' servers now and then whether they are well.

use std::rc::Rc;
use std::time::Instant;

use http::header::{HOST, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method};
use proxy_core::balance::Standing;
use proxy_core::config::Probing;
use proxy_core::fields::Fields;

use super::connect::{OnBehalf, Opened};
use super::pool::Pool;
use super::{Outgoing, h2};
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
        let opened = self.open(server, OnBehalf::default(), false).await?;
        let url = self.state(server).map(|state| &state.server.url);
        let host = HeaderValue::from_str(url.map_or("", |url| &url.authority))?;
        let target = PathAndQuery::try_from(health.path.as_str())?;
        let mut fields = Fields::new();
        fields.insert(HOST, host);
        fields.insert(USER_AGENT, HeaderValue::from_static("tidegate-health"));
        let outgoing = Outgoing {
            method: &Method::GET,
            target: Some(&target),
            fields: &fields,
            early: None,
            patience: health.timeout.0,
        };
        let sent = match opened {
            Opened::Http1(connection) => {
                connection.send(outgoing, RequestBody::empty()).await.map(|(head, _)| head.status)
            }
            Opened::Http2(session) => {
                h2::send(session.slot(), outgoing, RequestBody::empty()).await.map(|(head, _)| head.status)
            }
        };
        let status = sent.map_err(|failed| anyhow::anyhow!(failed.fault))?;
        Ok(status.is_success() || status.is_redirection())
    }
}
