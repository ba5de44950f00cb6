//! What rules may look at: a request whose header is there, and the header of its response. Borrowed from those.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, Method, StatusCode, Version};

use crate::geo::Places;
use crate::hello::ClientHello;
use crate::tls::Identity;

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
    /// What is known of the connection that it came over.
    pub connection: ConnectionView<'a>,
    /// What was read of its body.
    pub body: BodyView<'a>,
}

/// The beginning of a request's body; only read where [`super::PolicySet::wants_body`] says so.
#[derive(Clone, Copy, Debug, Default)]
pub struct BodyView<'a> {
    /// As many bytes as are looked at; None without a body, or before it is read.
    pub bytes: Option<&'a [u8]>,
    /// There is more.
    pub truncated: bool,
}

/// What is known of a connection. What nobody found out is missing.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectionView<'a> {
    /// The client's hello; only read where [`super::PolicySet::wants_hello`] says so.
    pub hello: Option<&'a ClientHello>,
    /// Who the client's certificate says it is; None without one.
    pub client: Option<&'a Identity>,
    /// Who knows places of addresses.
    pub places: Option<&'a dyn Places>,
}

impl<'a> RequestView<'a> {
    /// A connection whose ClientHello has come and nothing else, for [`super::PolicySet::evaluate_hello`], which looks at
    /// nothing else.
    pub fn of_hello(src: IpAddr, dst: SocketAddr, listener: &'a str, quic: bool, hello: &'a ClientHello) -> Self {
        /// No request, no headers.
        static NO_HEADERS: std::sync::LazyLock<HeaderMap> = std::sync::LazyLock::new(HeaderMap::new);
        Self {
            src,
            dst,
            listener,
            scheme: "https",
            version: if quic { Version::HTTP_3 } else { Version::HTTP_2 },
            method: &Method::GET,
            host: "",
            path: "",
            query: None,
            headers: &NO_HEADERS,
            body_size: None,
            wall_ms: 0,
            connection: ConnectionView { hello: Some(hello), ..ConnectionView::default() },
            body: BodyView::default(),
        }
    }
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
