//! The config file: model, defaults, bounds. One JSON object; unknown keys are errors.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A duration written as `"500ms"`, `"10s"`, `"5m"`, `"2h"` or `"1d"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A size written as a number of bytes or `"64KiB"`, `"10MiB"`, `"1GiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// `/etc/tidegate/tidegate.json`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the JSON Schema of this file lies; for editors, not read.
    #[serde(rename = "$schema", default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Worker threads; the number of CPUs that the process may use, unless set.
    #[serde(default)]
    pub workers: Option<u32>,
    /// Refuse to start without the kernel half instead of going on without it.
    #[serde(default)]
    pub require_ebpf: bool,
    /// Where clients connect.
    pub listeners: Vec<Listener>,
    /// Certificates for the `https` listeners; chosen by SNI among the names inside them, the first is the default.
    #[serde(default)]
    pub certificates: Vec<Certificate>,
    /// Tried in order of: exact host before wildcard before none, then longest path prefix.
    pub routes: Vec<Route>,
    /// Named origins.
    pub upstreams: BTreeMap<String, Upstream>,
    /// Policy files; glob patterns are taken, relative paths start at the config file's directory.
    #[serde(default)]
    pub policies: Vec<String>,
    /// The kernel half.
    #[serde(default)]
    pub gate: Gate,
    /// Times after which Tidegate gives up.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Bounds on what clients may send and hold.
    #[serde(default)]
    pub limits: Limits,
    /// Admin socket and metrics.
    #[serde(default)]
    pub admin: Admin,
    /// Access log.
    #[serde(default)]
    pub access_log: AccessLog,
}

/// One address that clients reach.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Name in logs, metrics and policies; unique.
    pub name: String,
    /// `address:port`, e.g. `0.0.0.0:443` or `[::]:443`. `0.0.0.0` serves IPv4 only and `[::]` IPv6 only.
    pub address: SocketAddr,
    /// What is spoken here.
    pub protocol: Protocol,
    /// Serve HTTP/3 on the same UDP port and advertise it by `Alt-Svc`; `https` only.
    #[serde(default)]
    pub http3: bool,
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/2 with prior knowledge, in clear.
    Http,
    /// TLS, with ALPN `h2` and `http/1.1`.
    Https,
}

/// A certificate chain and its key, PEM.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// Chain, leaf first.
    pub cert: PathBuf,
    /// Private key (PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
}

/// Which requests go where.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Hosts: exact, `*.example.com`, or none for any.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Path prefix on segment borders; `/` unless set.
    #[serde(default = "slash")]
    pub path: String,
    /// Name in `upstreams`.
    pub upstream: String,
}

/// A named set of origin servers.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// `http://host:port` or `https://host:port`; tried round robin, the next after a failed connect.
    pub servers: Vec<String>,
    /// Idle connections kept by each worker, all servers together.
    #[serde(default = "Upstream::default_keepalive")]
    pub keepalive: u32,
    /// PEM file of certificate authorities for `https` servers; the system's unless set.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Name to ask for and check instead of the URL's host (SNI and certificate).
    #[serde(default)]
    pub server_name: Option<String>,
}

/// The kernel half: XDP gate and steering.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// Load the kernel programs at all.
    pub enabled: bool,
    /// Interfaces that `front` is attached to; none attaches nowhere (steering still works).
    pub interfaces: Vec<String>,
    /// How `front` is attached.
    pub mode: XdpMode,
    /// What `front` may drop.
    pub scope: Scope,
    /// Bound on standing verdicts; at most 1,048,576.
    pub max_verdicts: u32,
    /// Bits of an IPv6 source that count as one client, 32 to 64.
    pub ipv6_prefix: u8,
    /// Bound on verdicts that each worker may push a second.
    pub max_pushes_per_second: u32,
    /// Log level of the kernel programs.
    pub log: KernelLog,
    /// Directory in bpffs for pinned maps and links.
    pub pins: PathBuf,
}

/// XDP attach mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// Driver mode, else generic mode with a warning.
    Auto,
    /// Driver mode or an error.
    Driver,
    /// Generic mode.
    Generic,
}

/// What `front` may drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Only packets addressed to one of the listeners.
    Own,
    /// Any packet that comes in on the interfaces. Verdicts pushed by request rules stay bound to the listeners.
    All,
}

/// Log level of the kernel programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KernelLog {
    /// Nothing; the verifier prunes the log calls.
    Off,
    /// Drops.
    Info,
    /// Every decision.
    Debug,
}

/// Times after which Tidegate gives up.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// TLS handshake, from accept.
    pub handshake: Span,
    /// Request header, from its first byte (from accept for the first request).
    pub header: Span,
    /// Connection without a request.
    pub idle: Span,
    /// Between two pieces of a request body.
    pub body: Span,
    /// Connecting to an origin, TLS included.
    pub connect: Span,
    /// From the request sent to the origin's response header.
    pub response: Span,
    /// Between two pieces of a response body.
    pub read: Span,
    /// Idle origin connection.
    pub upstream_idle: Span,
    /// At shutdown: how long open requests may go on.
    pub drain: Span,
}

/// Bounds on what clients may send and hold.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of a request body; 413 beyond.
    pub body: Size,
    /// Bytes of a request's header section.
    pub header_bytes: Size,
    /// Header fields of a request.
    pub headers: u32,
    /// Concurrent HTTP/2 or HTTP/3 request streams of a connection.
    pub streams: u32,
    /// Connections of each worker.
    pub connections: u32,
}

/// Admin socket and metrics.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Unix socket of the admin API.
    pub socket: PathBuf,
    /// `address:port` of the Prometheus listener; none unless set.
    pub metrics: Option<SocketAddr>,
}

/// Access log, one JSON object a line.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLog {
    /// Whether requests are logged.
    pub enabled: bool,
    /// File, appended to and reopened at reload; stdout unless set.
    pub file: Option<PathBuf>,
}

fn slash() -> String {
    "/".to_owned()
}

// ---- defaults ----

impl Upstream {
    fn default_keepalive() -> u32 {
        128
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            enabled: true,
            interfaces: Vec::new(),
            mode: XdpMode::Auto,
            scope: Scope::Own,
            max_verdicts: proxy_common::abi::DEFAULT_MAX_VERDICTS,
            ipv6_prefix: 64,
            max_pushes_per_second: 10_000,
            log: KernelLog::Off,
            pins: PathBuf::from("/sys/fs/bpf/tidegate"),
        }
    }
}

const fn secs(n: u64) -> Span {
    Span(Duration::from_secs(n))
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: secs(10),
            header: secs(10),
            idle: secs(75),
            body: secs(30),
            connect: secs(5),
            response: secs(60),
            read: secs(60),
            upstream_idle: secs(60),
            drain: secs(30),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { body: Size(100 << 20), header_bytes: Size(64 << 10), headers: 100, streams: 256, connections: 65_536 }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { socket: PathBuf::from("/run/tidegate/admin.sock"), metrics: None }
    }
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { enabled: true, file: None }
    }
}

// ---- text forms ----

const SPAN_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZE_UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];

fn number_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

impl std::str::FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        number_with_unit(text, &SPAN_UNITS).map(|ms| Span(Duration::from_millis(ms))).ok_or_else(|| {
            format!("`{text}` is not a duration: write a whole number and ms, s, m, h or d, e.g. \"10s\"")
        })
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let (unit, factor) =
            SPAN_UNITS.iter().rev().find(|(_, factor)| ms != 0 && ms % factor == 0).unwrap_or(&SPAN_UNITS[0]);
        write!(f, "{}{unit}", ms / factor)
    }
}

impl std::str::FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        number_with_unit(text, &SIZE_UNITS)
            .map(Size)
            .ok_or_else(|| format!("`{text}` is not a size: write bytes as a number, or e.g. \"64KiB\", \"10MiB\""))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$", "examples": ["500ms", "10s"] })
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a number of bytes, or a string such as \"64KiB\"")]
        enum Form {
            Bytes(u64),
            Text(String),
        }
        match Form::deserialize(d)? {
            Form::Bytes(n) => Ok(Size(n)),
            Form::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(self.0)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Size".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "oneOf": [
            { "type": "integer", "minimum": 0 },
            { "type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB)$" },
        ] })
    }
}
