//! What rules may look at: a request whose header is there, and the header of its response. Borrowed from those.

use std::net::{IpAddr, SocketAddr};

use http::{Method, StatusCode, Version};

use crate::abuse::Record;
use crate::fields::Fields;
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
    pub headers: &'a Fields,
    /// Declared bytes of the body, 0 without one; None where the client did not say.
    pub body_size: Option<u64>,
    /// Milliseconds since 1970; only looked at where [`super::PolicySet::wants_wall_clock`] says so.
    pub wall_ms: u64,
    /// What is known of the connection that it came over.
    pub connection: ConnectionView<'a>,
    /// What was read of its body.
    pub body: BodyView<'a>,
}

/// A request that is kept: what a [`RequestView`] borrows, owned.
#[derive(Clone, Debug)]
pub struct HeldRequest {
    /// As [`RequestView::src`].
    pub src: IpAddr,
    /// As [`RequestView::dst`].
    pub dst: SocketAddr,
    /// As [`RequestView::listener`].
    pub listener: String,
    /// As [`RequestView::scheme`].
    pub scheme: String,
    /// As [`RequestView::version`].
    pub version: Version,
    /// As [`RequestView::method`].
    pub method: Method,
    /// As [`RequestView::host`].
    pub host: String,
    /// As [`RequestView::path`].
    pub path: String,
    /// As [`RequestView::query`].
    pub query: Option<String>,
    /// As [`RequestView::headers`].
    pub headers: Fields,
    /// As [`RequestView::body_size`].
    pub body_size: Option<u64>,
    /// As [`RequestView::wall_ms`].
    pub wall_ms: u64,
}

impl HeldRequest {
    /// A copy of what is borrowed, but for connection and body.
    pub fn of(view: &RequestView<'_>) -> Self {
        Self {
            src: view.src,
            dst: view.dst,
            listener: view.listener.to_owned(),
            scheme: view.scheme.to_owned(),
            version: view.version,
            method: view.method.clone(),
            host: view.host.to_owned(),
            path: view.path.to_owned(),
            query: view.query.map(str::to_owned),
            headers: view.headers.clone(),
            body_size: view.body_size,
            wall_ms: view.wall_ms,
        }
    }

    /// As policies see it.
    pub fn view<'s>(&'s self, connection: ConnectionView<'s>, body: BodyView<'s>) -> RequestView<'s> {
        RequestView {
            src: self.src,
            dst: self.dst,
            listener: &self.listener,
            scheme: &self.scheme,
            version: self.version,
            method: &self.method,
            host: &self.host,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            body_size: self.body_size,
            wall_ms: self.wall_ms,
            connection,
            body,
        }
    }
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
    /// How the connection fares; only found out where [`super::PolicySet::wants_link`] says so.
    pub link: Option<LinkView>,
    /// What its source did lately to wear the server down; only looked up where [`super::PolicySet::wants_abuse`] says so.
    pub abuse: Record,
    /// Whether the request may be one that somebody plays again: it came in early data.
    pub early_data: bool,
}

/// How a connection fares at the time of a request. What the system does not tell is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkView {
    /// Smoothed round-trip time in milliseconds: of TCP the kernel's (`TCP_INFO`), of QUIC the one of RFC 9002 section 5.
    pub rtt_ms: Option<u64>,
    /// Bytes that came over it: of TCP what was acknowledged in order, of QUIC whole datagrams.
    pub bytes_in: Option<u64>,
    /// Bytes that went over it: of TCP what the client acknowledged, of QUIC whole datagrams.
    pub bytes_out: Option<u64>,
    /// Milliseconds since it was accepted.
    pub duration_ms: Option<u64>,
    /// Requests that came over it, the one that is asked about among them.
    pub requests: Option<u64>,
}

impl<'a> RequestView<'a> {
    /// `GET https://shop.example/` from 198.51.100.1 over HTTP/2 at a listener `web`; tests change what they are about.
    #[cfg(test)]
    pub(crate) fn example(headers: &'a Fields) -> Self {
        Self {
            src: IpAddr::from([198, 51, 100, 1]),
            dst: SocketAddr::from(([192, 0, 2, 1], 443)),
            listener: "web",
            scheme: "https",
            version: Version::HTTP_2,
            method: &Method::GET,
            host: "shop.example",
            path: "/",
            query: None,
            headers,
            body_size: Some(0),
            wall_ms: 0,
            connection: ConnectionView::default(),
            body: BodyView::default(),
        }
    }

    /// A connection whose ClientHello has come and nothing else, for [`super::PolicySet::evaluate_hello`], which looks at
    /// nothing else.
    pub fn of_hello(src: IpAddr, dst: SocketAddr, listener: &'a str, quic: bool, hello: &'a ClientHello) -> Self {
        let connection = ConnectionView { hello: Some(hello), ..ConnectionView::default() };
        Self::of_connection(src, dst, listener, (true, quic), connection)
    }

    /// A connection and no request, for [`super::PolicySet::evaluate_abuse`], which looks at nothing else. It came over TLS,
    /// and over QUIC.
    pub fn of_connection(
        src: IpAddr,
        dst: SocketAddr,
        listener: &'a str,
        (tls, quic): (bool, bool),
        connection: ConnectionView<'a>,
    ) -> Self {
        /// No request, no headers.
        static NO_HEADERS: std::sync::LazyLock<Fields> = std::sync::LazyLock::new(Fields::new);
        Self {
            src,
            dst,
            listener,
            scheme: if tls { "https" } else { "http" },
            version: if quic { Version::HTTP_3 } else { Version::HTTP_2 },
            method: &Method::GET,
            host: "",
            path: "",
            query: None,
            headers: &NO_HEADERS,
            body_size: None,
            wall_ms: 0,
            connection,
            body: BodyView::default(),
        }
    }
}

/// What rules on responses and `count_when` may look at.
#[derive(Clone, Copy, Debug)]
pub struct ResponseView<'a> {
    /// Client address, never v4-mapped.
    pub src: IpAddr,
    /// Local address that the client reached.
    pub dst: IpAddr,
    /// Status that is sent.
    pub status: StatusCode,
    /// Headers that are sent.
    pub headers: &'a Fields,
}
