//! Probes: each worker asks its upstreams' servers now and then whether they are well.

use std::rc::Rc;

use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Request};
use proxy_core::config::Probing;

use super::pool::Pool;
use crate::http::body::RequestBody;
use crate::worker::deadlines::Deadlines;

impl Pool {
    /// Asks all servers; returns at once.
    pub fn probe(self: &Rc<Self>, deadlines: &Deadlines) {
        let Some(health) = &self.origin().health else { return };
        for server in 0..self.servers() {
            let (pool, health, deadlines) = (Rc::clone(self), health.clone(), deadlines.clone());
            drop(tokio::task::spawn_local(async move {
                let asked = tokio::time::timeout(health.timeout.0, pool.ask(server, &health, &deadlines)).await;
                pool.probed(server, matches!(asked, Ok(Ok(true))), &health);
            }));
        }
    }

    /// Whether the answer is 2xx or 3xx, over a connection of its own.
    async fn ask(self: &Rc<Self>, server: usize, health: &Probing, deadlines: &Deadlines) -> anyhow::Result<bool> {
        let mut lease = self.open(server, None, deadlines, &mut None).await?;
        let host = HeaderValue::from_str(&lease.server())?;
        let mut request = Request::get(health.path.as_str()).body(RequestBody::empty())?;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("tidegate-health"));
        let status = lease.sender.send_request(request).await?.status();
        Ok(status.is_success() || status.is_redirection())
    }
}
