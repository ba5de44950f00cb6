//! What rules may look at: a request whose header is there, and the header of its response. Borrowed from those.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, Method, StatusCode, Version};

/// What request rules may look at. `src` is never v4-mapped.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// Client address.
    pub src: IpAddr,
    /// Local address that the client reached.
    pub dst: SocketAddr,
    /// Name of the listener.
    pub listener: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// HTTP version.
    pub version: Version,
    /// Method.
    pub method: &'a Method,
    /// Host without port, lower case; empty when the client sent none.
    pub host: &'a str,
    /// Path as sent, without query.
    pub path: &'a str,
    /// Query without `?`, if any.
    pub query: Option<&'a str>,
    /// Headers.
    pub headers: &'a HeaderMap,
    /// Declared bytes of the body, 0 without one; None where the client did not say.
    pub body_size: Option<u64>,
    /// Milliseconds since 1970; only looked at where [`super::PolicySet::wants_wall_clock`] says so.
    pub wall_ms: u64,
}

/// What `count_when` may look at.
#[derive(Clone, Copy, Debug)]
pub struct ResponseView<'a> {
    /// Client address, never v4-mapped.
    pub src: IpAddr,
    /// Local address that the client reached.
    pub dst: IpAddr,
    /// Status that is sent.
    pub status: StatusCode,
    /// Headers that are sent.
    pub headers: &'a HeaderMap,
}
