//! Access log: one line a request. What it says stands here, how it gets written in `lines`.

mod combined;
mod lines;

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{REFERER, USER_AGENT};
use http::{HeaderName, HeaderValue};
use proxy_core::config::LogFormat;
use proxy_core::hello::ClientHello;
use proxy_core::policy::{Action, Decision, PolicySet};
use proxy_core::trace::Span;
use serde::Serialize;
use smallvec::SmallVec;

use super::exchange::{Exchange, Summary};
use super::hooks::{self, Hooks, Site};
use super::{Flow, Stage};
use crate::shared::Snapshot;
use crate::worker::connection::Connection;

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
    /// `h1`, `h2` or `h3`; `tls` for a connection that was refused before any request, whose method and path are empty.
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
    /// Status; 0 where there was none, 499 when the client left before the answer.
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
    /// `allow`, `block`, `challenge`, `redirect`, `reset` or `tarpit`, where a policy rule decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<&'static str>,
    /// `policy/rule` that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<&'a str>,
    /// Rules that matched in shadow mode or only log.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matched: Vec<&'a str>,
    /// Fingerprint of the client's TLS, where a policy looks at ClientHellos.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ja4: Option<&'a str>,
    /// What went wrong: source and kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
    /// Name of the route, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<&'a str>,
    /// The trace that the request belongs to, where there are traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// Request header fields that the config names.
    #[serde(skip_serializing_if = "Fields::is_empty")]
    pub headers: Fields<'a>,
}

/// Names and values.
#[derive(Debug, Default)]
pub struct Fields<'a>(pub Vec<(&'a str, Cow<'a, str>)>);

impl Fields<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Fields<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// Logged fields of a request whose header went to an origin.
struct Sent(SmallVec<[Option<HeaderValue>; 2]>);

pub(super) struct Write;

impl Stage for Write {
    fn name(&self) -> &'static str {
        "access_log"
    }

    fn join(&self, site: &Site<'_>, hooks: &mut Hooks) -> Result<(), hooks::Fault> {
        let settings = &site.config.access_log;
        if !settings.enabled {
            return Ok(());
        }
        let names: Vec<HeaderName> = match settings.format {
            LogFormat::Combined => vec![REFERER, USER_AGENT],
            // What cannot be a name was refused with the config.
            LogFormat::Json => settings.headers.iter().filter_map(|name| name.parse().ok()).collect(),
        };
        let names: Arc<[HeaderName]> = names.into();
        if !names.is_empty() {
            let names = Arc::clone(&names);
            hooks.upstream_request(move |exchange| {
                let values = names.iter().map(|name| exchange.request.headers.get(name).cloned()).collect();
                exchange.context.put(Sent(values));
                Flow::Continue
            });
        }
        let format = settings.format;
        hooks.log(move |exchange, summary| write(exchange, summary, format, &names));
        Ok(())
    }
}

/// The logged fields of a request, from what was kept of them where they went to an origin.
fn fields<'a>(exchange: &'a Exchange, names: &'a [HeaderName]) -> Fields<'a> {
    let sent = exchange.context.get::<Sent>();
    let value = |(index, name): (usize, &'a HeaderName)| {
        let value = match sent {
            Some(Sent(values)) => values.get(index)?.as_ref()?,
            None => exchange.request.headers.get(name)?,
        };
        Some((name.as_str(), String::from_utf8_lossy(value.as_bytes())))
    };
    Fields(names.iter().enumerate().filter_map(value).collect())
}

fn write(exchange: &Exchange, summary: &Summary, format: LogFormat, names: &[HeaderName]) {
    let Some(log) = &exchange.worker.log else { return };
    let policies = &exchange.live.snapshot.policies;
    let (action, rule) = named(exchange.decision.action, policies);
    log.write(format, |time| AccessRecord {
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
        ja4: exchange.connection.hello().map(|hello| hello.ja4.as_str()),
        error: summary.fault.map(|fault| fault.label()),
        route: exchange.route().and_then(|route| route.name.as_deref()),
        trace: exchange.context.get::<Span>().map(|span| span.trace.to_string()),
        headers: fields(exchange, names),
    });
}

/// Name of an action, and of the rule that decided.
fn named(action: Action, policies: &PolicySet) -> (Option<&'static str>, Option<&str>) {
    match action.decided() {
        Some((name, rule)) => (Some(name), policies.rule_name(rule)),
        None => (None, None),
    }
}

/// A line about a connection that was refused for its ClientHello: it has no request, and its host is the one of TLS.
pub(crate) fn refused(connection: &Connection, snapshot: &Snapshot, hello: &ClientHello, decision: &Decision) {
    let worker = &connection.worker;
    let Some(log) = &worker.log else { return };
    let (action, rule) = named(decision.action, &snapshot.policies);
    let id = worker.next_request_id();
    let host = String::from_utf8_lossy(hello.sni.as_deref().unwrap_or_default());
    log.write(snapshot.config.access_log.format, |time| AccessRecord {
        time,
        id: id.to_str().unwrap_or_default(),
        client: connection.client,
        listener: &connection.listener.name,
        worker: worker.index,
        version: "tls",
        method: "",
        host: &host,
        path: "",
        query: None,
        status: 0,
        bytes_in: 0,
        bytes_out: 0,
        duration_us: 0,
        upstream: None,
        server: None,
        upstream_us: None,
        action,
        rule,
        matched: Vec::new(),
        ja4: Some(&hello.ja4),
        error: None,
        route: None,
        trace: None,
        headers: Fields::default(),
    });
}
