//! Access log: one JSON object a line. What a line says stands here, how it gets written in `lines`.

mod lines;

use proxy_core::policy::Action;
use serde::Serialize;

use super::Stage;
use super::exchange::{Exchange, Summary};
use super::hooks::{self, Hooks, Site};

pub use lines::{LineBuffer, LogWriter};

/// The fields of one line. Durations in microseconds, sizes in bytes.
#[derive(Debug, Serialize)]
pub struct AccessRecord<'a, 't> {
    /// End of the request, RFC 3339 in UTC.
    pub time: &'t str,
    /// `x-request-id`.
    pub id: &'a str,
    /// Client address.
    pub client: std::net::SocketAddr,
    /// Listener's name.
    pub listener: &'a str,
    /// Worker's index.
    pub worker: u32,
    /// `h1`, `h2` or `h3`.
    pub version: &'static str,
    /// Method.
    pub method: &'a str,
    /// Host, lower case, without port.
    pub host: &'a str,
    /// Path as sent.
    pub path: &'a str,
    /// Query without `?`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<&'a str>,
    /// Status; 499 when the client left before the answer.
    pub status: u16,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// Bytes of the response body.
    pub bytes_out: u64,
    /// From the complete request header to the end of the response.
    pub duration_us: u64,
    /// Upstream's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<&'a str>,
    /// The server that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<&'a str>,
    /// From the complete request header to the origin's response header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_us: Option<u64>,
    /// `allow` or `block`, where a policy rule decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<&'static str>,
    /// `policy/rule` that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<&'a str>,
    /// Rules that matched in shadow mode or only log.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matched: Vec<&'a str>,
    /// What went wrong: source and kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
}

pub(super) struct Write;

impl Stage for Write {
    fn name(&self) -> &'static str {
        "access_log"
    }

    fn join(&self, site: &Site<'_>, hooks: &mut Hooks) -> Result<(), hooks::Fault> {
        if site.config.access_log.enabled {
            hooks.log(write);
        }
        Ok(())
    }
}

fn write(exchange: &Exchange, summary: &Summary) {
    let Some(log) = &exchange.worker.log else { return };
    let policies = &exchange.live.snapshot.policies;
    let (action, rule) = match exchange.decision.action {
        Action::Pass => (None, None),
        Action::Allow(rule) => (Some("allow"), policies.rule_name(rule)),
        Action::Block { rule, .. } => (Some("block"), policies.rule_name(rule)),
        Action::Redirect { rule, .. } => (Some("redirect"), policies.rule_name(rule)),
    };
    log.write(|time| AccessRecord {
        time,
        id: exchange.id.to_str().unwrap_or_default(),
        client: exchange.connection.client,
        listener: &exchange.connection.listener.name,
        worker: exchange.worker.index,
        version: exchange.version.name(),
        method: exchange.request.method.as_str(),
        host: exchange.host.as_str(),
        path: super::path(&exchange.request),
        query: exchange.request.uri.query(),
        status: summary.status,
        bytes_in: summary.bytes_in,
        bytes_out: summary.bytes_out,
        duration_us: summary.duration_us,
        upstream: exchange.upstream.and_then(|index| exchange.live.upstream_name(index)),
        server: exchange.server.as_deref(),
        upstream_us: exchange.upstream_us,
        action,
        rule,
        matched: exchange.decision.logged.iter().filter_map(|slot| policies.rule_name(*slot)).collect(),
        error: summary.fault.map(|fault| fault.label()),
    });
}
