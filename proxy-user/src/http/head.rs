//! The headers of requests and responses on their journey, of whatever version.

use bytes::Bytes;
use http::{Method, StatusCode, Uri, Version, response};
use proxy_core::fields::Fields;

/// A request's header.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// Its method.
    pub method: Method,
    /// Its target.
    pub uri: Uri,
    /// As the client has it.
    pub version: Version,
    /// Its fields.
    pub headers: Fields,
    /// `:protocol` of an extended CONNECT (RFC 8441, RFC 9220).
    pub protocol: Option<Bytes>,
}

/// A response's header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: Fields,
}

impl From<response::Parts> for ResponseHead {
    fn from(parts: response::Parts) -> Self {
        Self { status: parts.status, headers: Fields::from(parts.headers) }
    }
}
