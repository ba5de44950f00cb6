//! Model: times and bounds, their defaults and what they may be set to.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Size, Span};

/// Longest time that may be set.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3_600);
/// Least `limits.header_bytes`: HTTP/1 needs a read buffer of this size.
pub const MIN_HEADER_BYTES: u64 = 8 << 10;
/// Upper bound of `limits.header_bytes`.
pub const MAX_HEADER_BYTES: u64 = 1 << 20;
/// Upper bound of `limits.headers`.
pub const MAX_HEADERS: u32 = 1_024;
/// Upper bound of `limits.streams`.
pub const MAX_STREAMS: u32 = 65_535;
/// Least `limits.memory`.
pub const MIN_MEMORY: u64 = 1 << 20;
/// Upper bound of `limits.resets`.
pub const MAX_RESETS: u32 = 65_535;
/// Upper bound of `limits.inspect`.
pub const MAX_INSPECT: u64 = 1 << 20;
/// Upper bound of `limits.tarpit`.
pub const MAX_TARPIT: u32 = 65_535;
/// Upper bound of `limits.connections`.
pub const MAX_CONNECTIONS: u32 = 1 << 24;

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
    /// Client that takes nothing of what is sent to it; of HTTP/2 and HTTP/3 also on one stream.
    pub send: Span,
    /// Connecting to an origin, TLS included.
    pub connect: Span,
    /// From the request sent to the origin's response header.
    pub response: Span,
    /// Between two pieces of a response body.
    pub read: Span,
    /// Idle origin connection.
    pub upstream_idle: Span,
    /// Upgraded connection (WebSocket) on which nothing comes from either side.
    pub tunnel: Span,
    /// At shutdown: how long open requests may go on; may be 0.
    pub drain: Span,
}

/// Bounds on what clients may send and hold.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of a request body; 413 beyond.
    pub body: Size,
    /// Bytes of a request's header section, 8 KiB to 1 MiB.
    pub header_bytes: Size,
    /// Header fields of a request.
    #[schemars(range(min = 1, max = MAX_HEADERS))]
    pub headers: u32,
    /// Concurrent HTTP/2 or HTTP/3 request streams of a connection.
    #[schemars(range(min = 1, max = MAX_STREAMS))]
    pub streams: u32,
    /// HTTP/2 or HTTP/3 streams that a client of one connection may reset a second, twice that at once; more end the connection.
    #[schemars(range(min = 1, max = MAX_RESETS))]
    pub resets: u32,
    /// Bytes of a request body that policies look at, 1 to 1 MiB; it is held back until they have come, where a rule asks for it.
    pub inspect: Size,
    /// Connections of each worker that `tarpit` rules hold; one more is reset at once.
    #[schemars(range(max = MAX_TARPIT))]
    pub tarpit: u32,
    /// Connections of each worker.
    #[schemars(range(min = 1, max = MAX_CONNECTIONS))]
    pub connections: u32,
    /// Connections of one client address over all workers; one more is reset. Sources that an allow rule covers have no bound.
    #[schemars(range(min = 1, max = MAX_CONNECTIONS))]
    pub connections_per_source: u32,
    /// Memory of each worker, as its share of what the process holds; beyond it requests are answered 503 with `Retry-After`
    /// until less than nine tenths are held. No bound unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
}

const fn secs(n: u64) -> Span {
    Span(Duration::from_secs(n))
}

impl Timeouts {
    /// Each time with its key, and whether it may be zero.
    pub(super) fn entries(&self) -> [(&'static str, Span, bool); 11] {
        [
            ("handshake", self.handshake, false),
            ("header", self.header, false),
            ("idle", self.idle, false),
            ("body", self.body, false),
            ("send", self.send, false),
            ("connect", self.connect, false),
            ("response", self.response, false),
            ("read", self.read, false),
            ("upstream_idle", self.upstream_idle, false),
            ("tunnel", self.tunnel, false),
            ("drain", self.drain, true),
        ]
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: secs(10),
            header: secs(10),
            idle: secs(75),
            body: secs(30),
            send: secs(60),
            connect: secs(5),
            response: secs(60),
            read: secs(60),
            upstream_idle: secs(60),
            tunnel: secs(3_600),
            drain: secs(30),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: Size(100 << 20),
            header_bytes: Size(64 << 10),
            headers: 100,
            streams: 256,
            resets: 100,
            inspect: Size(64 << 10),
            tarpit: 256,
            connections: 65_536,
            connections_per_source: 4_096,
            memory: None,
        }
    }
}
