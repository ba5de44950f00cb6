//! Header fields at the border: hop-by-hop fields end here in both directions (RFC 9110 section 7.6.1), the origin
//! learns who asked (`X-Forwarded-For`, `X-Forwarded-Proto`), both sides see `Via`, and the client gets `Alt-Svc` and
//! the request's id. Fields are changed in place.

use std::collections::HashSet;

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE, VIA};
use http::{HeaderName, HeaderValue};
use proxy_core::fields::Fields;
use proxy_core::http1::names;
use proxy_core::special::Special;

use super::exchange::Exchange;
use super::hooks::{self, Hooks, Site};
use super::tls::EARLY_DATA;
use super::{Flow, Stage};
use crate::http::fault::Kind;
use crate::http::head::ResponseHead;
use crate::http::upgrade::Upgrade;
use crate::stats::HttpVersion;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const ALT_SVC: HeaderName = HeaderName::from_static("alt-svc");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// CGI programs take a request's `Proxy` field for the environment variable `HTTP_PROXY`; it has no other use.
const PROXY: HeaderName = HeaderName::from_static("proxy");

pub(super) struct Forwarded;

impl Stage for Forwarded {
    fn name(&self) -> &'static str {
        "headers"
    }

    fn join(&self, _: &Site<'_>, hooks: &mut Hooks) -> Result<(), hooks::Fault> {
        hooks.upstream_request(to_origin);
        hooks.response(to_client);
        Ok(())
    }
}

fn to_origin(exchange: &mut Exchange) -> Flow {
    let connection = &exchange.connection;
    let headers = &mut exchange.request.headers;
    let special = headers.special();
    let wants_trailers = special.has(Special::TE) && headers.get_all(TE).any(|te| names(te, "trailers"));
    if let Some(protocol) = strip_hop_by_hop(headers)
        && exchange.upgrade.is_none()
    {
        exchange.upgrade = Upgrade::from_fields(&exchange.request, &protocol).map(Box::new);
    }
    let headers = &mut exchange.request.headers;
    if special.has(Special::EXPECT | Special::PROXY) {
        // The server side has answered it with 100 by itself.
        headers.remove(EXPECT);
        headers.remove(PROXY);
    }
    if wants_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    append_client(headers, &connection.client_text);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(connection.listener.scheme()));
    headers.insert(X_REQUEST_ID, exchange.id.clone());
    headers.append(VIA, via(exchange.version));
    Flow::Continue
}

fn to_client(exchange: &mut Exchange, response: &mut ResponseHead) {
    let headers = &mut response.headers;
    strip_hop_by_hop(headers);
    let bad = exchange.fault.get().is_some_and(|fault| fault.kind == Kind::BadRequest);
    if bad && exchange.version == HttpVersion::H1 {
        // What follows on the connection may not be what the client meant.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    headers.append(VIA, HeaderValue::from_static("1.1 tidegate"));
    let mut id = exchange.id.clone();
    // No two responses have the same: HPACK is told not to remember it, which would push out what it can use again.
    id.set_sensitive(true);
    headers.insert(X_REQUEST_ID, id);
    if let Some(alt_svc) = &exchange.connection.listener.alt_svc {
        headers.insert(ALT_SVC, alt_svc.clone());
    }
}

fn via(version: HttpVersion) -> HeaderValue {
    HeaderValue::from_static(match version {
        HttpVersion::H1 => "1.1 tidegate",
        HttpVersion::H2 => "2 tidegate",
        HttpVersion::H3 => "3 tidegate",
    })
}

/// Takes the fields away that end here. The `Upgrade` field, where it is one and `Connection` names it.
fn strip_hop_by_hop(headers: &mut Fields) -> Option<HeaderValue> {
    let special = headers.special();
    let mut upgrade = None;
    if special.has(Special::OPTIONS) {
        // As many options as fit a header section of the configured size, and in one pass whatever they are.
        let named: HashSet<HeaderName> = headers.get_all(CONNECTION).flat_map(options).collect();
        if named.contains(&UPGRADE) {
            let single = headers.get_all(UPGRADE).count() == 1;
            upgrade = headers.remove(UPGRADE).filter(|_| single);
        }
        headers.retain(|name, _| is_kept(name) || !named.contains(name));
    }
    if special.has(Special::CONNECTION) {
        headers.retain(|name, _| *name != CONNECTION);
    }
    if special.has(Special::HOP_BY_HOP - Special::CONNECTION) {
        headers.retain(|name, _| ![KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE].contains(name));
    }
    upgrade
}

/// Names of fields in a `Connection`.
fn options(list: &HeaderValue) -> impl Iterator<Item = HeaderName> {
    let options = list.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii);
    options
        .filter(|option| !option.eq_ignore_ascii_case(b"keep-alive"))
        .filter_map(|option| HeaderName::from_bytes(option).ok())
}

/// Framing, routing and what tells of early data are not the peer's to take away (RFC 8470 section 5.1).
fn is_kept(name: &HeaderName) -> bool {
    *name == HOST || *name == CONTENT_LENGTH || *name == EARLY_DATA
}

/// Adds the client to `X-Forwarded-For`, as one field.
fn append_client(headers: &mut Fields, client: &HeaderValue) {
    // `Connection` may have named it.
    if headers.get_special(Special::X_FORWARDED_FOR, X_FORWARDED_FOR).is_none() {
        return headers.append(X_FORWARDED_FOR, client.clone());
    }
    let mut list = Vec::new();
    for value in headers.get_all(X_FORWARDED_FOR).chain([client]) {
        if !list.is_empty() {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(value.as_bytes());
    }
    // Joined from valid values, so this holds; the client alone is the safe rest.
    headers.insert(X_FORWARDED_FOR, HeaderValue::from_maybe_shared(list).unwrap_or_else(|_| client.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> Fields {
        pairs.iter().fold(Fields::new(), |mut headers, (name, value)| {
            headers.append(*name, HeaderValue::from_static(value));
            headers
        })
    }

    #[test]
    fn hop_by_hop_fields_and_those_named_by_connection_go() {
        let mut headers = map(&[
            ("connection", "close, X-Secret"),
            ("connection", "x-other, host"),
            ("x-secret", "1"),
            ("x-other", "2"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("host", "a"),
            ("x-kept", "3"),
        ]);
        strip_hop_by_hop(&mut headers);
        let left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["host", "x-kept"]);
    }

    #[test]
    fn no_option_of_a_long_connection_field_is_left_out() {
        let names: Vec<String> = (0..100).map(|n| format!("x-{n}")).collect();
        let mut headers = Fields::new();
        headers.insert(CONNECTION, HeaderValue::from_str(&names.join(", ")).unwrap());
        for name in &names {
            headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("1"));
        }
        strip_hop_by_hop(&mut headers);
        assert!(headers.is_empty(), "{headers:?}");
    }

    #[test]
    fn the_client_is_appended() {
        let client = HeaderValue::from_static("192.0.2.1");
        let mut headers = map(&[("x-forwarded-for", "10.0.0.1"), ("x-forwarded-for", "10.0.0.2, 10.0.0.3")]);
        append_client(&mut headers, &client);
        let all: Vec<_> = headers.get_all(X_FORWARDED_FOR).collect();
        assert_eq!(all, ["10.0.0.1, 10.0.0.2, 10.0.0.3, 192.0.2.1"]);
        let mut headers = Fields::new();
        append_client(&mut headers, &client);
        assert_eq!(headers[X_FORWARDED_FOR], "192.0.2.1");
    }
}
