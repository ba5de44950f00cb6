//! Model: what is told of requests, to people and to other programs.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Config, Scheme, ServerUrl};
use crate::json::shape::Fault;

/// Most header fields that the access log has.
pub const MAX_LOGGED_HEADERS: u32 = 16;

/// Access log, one line a request.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLog {
    /// Whether requests are logged.
    pub enabled: bool,
    /// File, appended to and reopened at reload; stdout unless set.
    pub file: Option<PathBuf>,
    /// Form of the lines.
    pub format: LogFormat,
    /// Request header fields that JSON lines have under `headers`, such as `user-agent`.
    #[schemars(length(max = MAX_LOGGED_HEADERS))]
    pub headers: Vec<String>,
}

/// Form of access log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// The combined format of Apache and nginx, which log analysers read.
    Combined,
}

/// Traces: each request gets a span, which its origin is told of by `traceparent` (W3C Trace Context).
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tracing {
    /// Share of the traces begun here that is recorded, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample: f64,
    /// Go on with the trace of a client that brings one, and record it where the client does. For listeners that only
    /// one's own programs reach: anybody else could have everything recorded.
    pub accept: bool,
    /// Collector that recorded spans are sent to, `http://host:port`: OTLP over HTTP, as JSON, to `/v1/traces`.
    pub otlp: Option<ServerUrl>,
    /// `service.name` of the spans.
    #[schemars(length(min = 1, max = 128))]
    pub service: String,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { enabled: true, file: None, format: LogFormat::Json, headers: Vec::new() }
    }
}

impl Default for Tracing {
    fn default() -> Self {
        Self { sample: 0.01, accept: false, otlp: None, service: "tidegate".to_owned() }
    }
}

/// Faults of meaning.
pub(super) fn faults(config: &Config, faults: &mut Vec<Fault>) {
    for (index, name) in config.access_log.headers.iter().enumerate() {
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            let message = format!("`{name}` is not the name of a header field");
            faults.push(Fault::at(format!("/access_log/headers/{index}"), message));
        }
    }
    if config.access_log.format == LogFormat::Combined && !config.access_log.headers.is_empty() {
        let message = "combined lines have `Referer` and `User-Agent` and no others; leave it out, or use `json`";
        faults.push(Fault::at_key("/access_log/headers", message));
    }
    if let Some(Tracing { otlp: Some(url), .. }) = &config.tracing
        && url.scheme == Scheme::Https
    {
        let message = "the collector is reached over http; run one on this host that passes on to others by TLS";
        faults.push(Fault::at("/tracing/otlp", message));
    }
}
