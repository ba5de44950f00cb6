//! First stage: a request that breaks HTTP, or that could be read in two ways, goes no further
//! (RFC 9110 section 7.2, RFC 9112 sections 3.2 and 6, RFC 9113 section 8.3, RFC 9114 section 4.3).

use http::header::{CONTENT_LENGTH, COOKIE, HOST, TE, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Uri};
use proxy_core::fields::Fields;
use proxy_core::http1::decimal;
use proxy_core::special::Special;

use super::exchange::{Exchange, Host};
use super::hooks::{self, Hooks, Site};
use super::{Flow, Stage};
use crate::http::fault::{Fault, Kind};
use crate::http::head::RequestHead;
use crate::http::upgrade::Upgrade;
use crate::stats::{HttpVersion, bump};

pub(super) struct Validate;

impl Stage for Validate {
    fn name(&self) -> &'static str {
        "validate"
    }

    fn join(&self, _: &Site<'_>, hooks: &mut Hooks) -> Result<(), hooks::Fault> {
        hooks.entry(|exchange| match check(exchange) {
            Ok(()) => Flow::Continue,
            Err(fault) => Flow::Respond(exchange.fail(fault)),
        });
        Ok(())
    }
}

fn check(exchange: &mut Exchange) -> Result<(), Fault> {
    if exchange.worker.sheds() {
        bump(&exchange.worker.stats.shed, 1);
        return Err(Fault::internal(Kind::Overloaded, "too much is going on here: ask again later"));
    }
    let limits = &exchange.live.snapshot.config.limits;
    let request = &exchange.request;
    let special = request.headers.special();
    if exchange.version == HttpVersion::H1 {
        if let Some(detail) = exchange.connection.ambiguous_head().or(misplaced_target(request)) {
            return Err(Fault::bad_request(detail));
        }
    } else {
        well_formed(request).map_err(|detail| Fault::malformed(exchange.version, detail))?;
        if special.has(Special::COOKIE) {
            one_cookie_field(&mut exchange.request.headers);
        }
    }
    let request = &exchange.request;
    if request.headers.len() > limits.headers as usize {
        return Err(Fault::downstream(Kind::HeaderTooLarge, "too many header fields"));
    }
    if request.method == Method::CONNECT {
        exchange.upgrade = Some(Box::new(Upgrade::from_connect(&mut exchange.request)?));
    }
    let request = &exchange.request;
    if request.method == Method::TRACE {
        return Err(Fault::downstream(Kind::NotImplemented, "this method is not served"));
    }
    if request.uri.path() == "*" && request.method != Method::OPTIONS {
        return Err(Fault::bad_request("the target `*` is for OPTIONS"));
    }
    if !escapes_are_whole(request.uri.path()) {
        return Err(Fault::bad_request("a `%` in the path that two hexadecimal digits do not follow"));
    }
    if special.has(Special::TRANSFER_ENCODING | Special::CONTENT_LENGTH) {
        framing(&request.headers, exchange.version)?;
    }
    let (host, field) = host(&request.uri, &request.headers, exchange.version)?;
    exchange.host = host;
    if let Some(field) = field {
        exchange.request.headers.insert(HOST, field);
    }
    Ok(())
}

/// A target in a form that is not for this method, or of a scheme that is not HTTP's (RFC 9112 section 3.2).
fn misplaced_target(request: &RequestHead) -> Option<&'static str> {
    request.uri.authority()?;
    match request.uri.scheme_str() {
        None if request.method != Method::CONNECT => Some("the request's target is not a path"),
        None | Some("http" | "https") => None,
        Some(_) => Some("the target's scheme is not HTTP's"),
    }
}

/// What makes a message of HTTP/2 or 3 malformed (RFC 9113 sections 8.2 and 8.5, RFC 9114 sections 4.2 and 4.4) and is not left
/// to the implementation, which does not look at all of it.
fn well_formed(request: &RequestHead) -> Result<(), &'static str> {
    let headers = &request.headers;
    let special = headers.special();
    if special.has(Special::OF_HTTP1) {
        return Err("connection-specific fields are not allowed in this version of HTTP");
    }
    if special.has(Special::TE) && headers.get_all(TE).any(|value| value != "trailers") {
        return Err("TE says something other than `trailers`");
    }
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let padded = |value: &HeaderValue| blank(value.as_bytes().first()) || blank(value.as_bytes().last());
    if headers.values().any(padded) {
        return Err("white space at an end of a field's value");
    }
    if request.method == Method::CONNECT && request.uri.authority().is_none() {
        return Err("CONNECT without :authority");
    }
    Ok(())
}

/// Cookies that came in several fields, which HTTP/2 and 3 allow, become one for everybody behind (RFC 9113 section 8.2.3, RFC 9114
/// section 4.2.1).
fn one_cookie_field(headers: &mut Fields) {
    if headers.get_all(COOKIE).nth(1).is_none() {
        return;
    }
    let pieces: Vec<&[u8]> = headers.get_all(COOKIE).map(HeaderValue::as_bytes).collect();
    // Values of fields that are joined by what fields may hold are one.
    if let Ok(whole) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
        headers.insert(COOKIE, whole);
    }
}

/// Whether each `%` begins an escape (RFC 3986 section 2.1). Decoded piece by piece, `%%32%65` would come to `%2e` here and
/// to `.` at the next who decodes.
fn escapes_are_whole(path: &str) -> bool {
    let bytes = path.as_bytes();
    memchr::memchr_iter(b'%', bytes)
        .all(|at| bytes.get(at + 1..at + 3).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit)))
}

/// Transfer codings and the declared length.
fn framing(headers: &Fields, version: HttpVersion) -> Result<(), Fault> {
    if let Some(coding) = headers.get(TRANSFER_ENCODING) {
        let only_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if !only_chunked || headers.get_all(TRANSFER_ENCODING).count() > 1 {
            return Err(Fault::downstream(Kind::NotImplemented, "the only transfer coding served is chunked"));
        }
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH);
    let Some(length) = lengths.next() else { return Ok(()) };
    if lengths.next().is_some() {
        return Err(Fault::malformed(version, "more than one Content-Length"));
    }
    decimal(length.as_bytes()).map(drop).ok_or_else(|| Fault::malformed(version, "Content-Length is not a number"))
}

/// The host that the request is for, and the `Host` field that the origin shall see where it differs from the one sent.
fn host(uri: &Uri, headers: &Fields, version: HttpVersion) -> Result<(Host, Option<HeaderValue>), Fault> {
    let field = headers.get_special(Special::HOST, HOST);
    if field.is_some() && headers.get_all(HOST).nth(1).is_some() {
        return Err(Fault::bad_request("more than one Host"));
    }
    if let Some(authority) = uri.authority() {
        if authority.as_str().contains('@') {
            return Err(Fault::bad_request("user information in the request's authority"));
        }
        // HTTP/1: the absolute form wins over Host. HTTP/2 and 3: they must say the same.
        if version != HttpVersion::H1
            && field.is_some_and(|field| !field.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()))
        {
            return Err(Fault::malformed(version, "Host and :authority differ"));
        }
        let value = HeaderValue::from_str(authority.as_str())
            .map_err(|_| Fault::bad_request("the request's authority is not valid"))?;
        return Ok((Host::new(checked(authority.as_str())?), Some(value)));
    }
    match field {
        Some(field) => {
            let text = field.to_str().map_err(|_| Fault::bad_request("Host is not valid"))?;
            Ok((Host::new(checked(text)?), None))
        }
        None => Err(Fault::bad_request("the request names no host")),
    }
}

/// The host of `host[:port]`, if both are well formed (RFC 3986 section 3.2.2).
fn checked(authority: &str) -> Result<&str, Fault> {
    const BAD: Fault = Fault::bad_request("the host is not valid");
    let (host, port, valid) = if let Some(inside) = authority.strip_prefix('[') {
        let (inside, rest) = inside.split_once(']').ok_or(BAD)?;
        let (host, _) = authority.split_at(authority.len() - rest.len());
        (host, rest, inside.parse::<std::net::Ipv6Addr>().is_ok())
    } else {
        let is_of_name = |byte: u8| OF_NAME.get(usize::from(byte)).is_some_and(|is| *is);
        let end = authority.bytes().position(|byte| !is_of_name(byte)).unwrap_or(authority.len());
        // What is no name is ASCII or begins a character.
        let (host, rest) = authority.split_at_checked(end).ok_or(BAD)?;
        (host, rest, !host.is_empty())
    };
    let port_valid = match port.strip_prefix(':') {
        Some(port) => port.is_empty() || port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit()),
        None => port.is_empty(),
    };
    if valid && port_valid { Ok(host) } else { Err(BAD) }
}

/// Which bytes may stand in a name (`reg-name`). A table: each request has a host.
static OF_NAME: [bool; 256] = {
    let mut of_name = [false; 256];
    let mut rest: &[u8] = b"-._~%!$&'()*+,;=0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    while let [byte, others @ ..] = rest {
        of_name[*byte as usize] = true;
        rest = others;
    }
    of_name
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        for (path, whole) in [
            ("/a", true),
            ("/%2e%2E/%41", true),
            ("/%", false),
            ("/%4", false),
            ("/%%32%65", false),
            ("/%zz", false),
            ("/%+1", false),
        ] {
            assert_eq!(escapes_are_whole(path), whole, "{path}");
        }
    }

    #[test]
    fn hosts() {
        for (authority, host) in [
            ("Shop.example", Some("Shop.example")),
            ("shop.example:8443", Some("shop.example")),
            ("[2001:db8::1]:443", Some("[2001:db8::1]")),
            ("[::1]", Some("[::1]")),
            ("", None),
            (":80", None),
            ("a:b", None),
            ("a:99999", None),
            ("a:+80", None),
            ("a b", None),
            ("a/b", None),
            ("[::1", None),
            ("[::1]x", None),
            ("[nonsense]", None),
            ("a@b", None),
            ("a\u{e9}", None),
            ("[::1]:443:", None),
            ("[::1]]", None),
            ("a:", Some("a")),
            ("a_~%41!$&'()*+,;=-.Z9:1", Some("a_~%41!$&'()*+,;=-.Z9")),
        ] {
            assert_eq!(checked(authority).ok(), host, "{authority}");
        }
    }

    #[test]
    fn lengths() {
        let map = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = Fields::new();
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_static(value));
            }
            headers
        };
        let kind = |pairs: &[(&'static str, &'static str)]| {
            framing(&map(pairs), HttpVersion::H1).err().map(|fault| fault.kind)
        };
        assert_eq!(kind(&[("content-length", "10")]), None);
        assert_eq!(kind(&[("content-length", "+1")]), Some(Kind::BadRequest));
        assert_eq!(kind(&[("content-length", "1, 1")]), Some(Kind::BadRequest));
        assert_eq!(kind(&[("content-length", "1"), ("content-length", "1")]), Some(Kind::BadRequest));
        assert_eq!(kind(&[("content-length", "99999999999999999999")]), Some(Kind::BadRequest));
        assert_eq!(kind(&[("transfer-encoding", "Chunked")]), None);
        assert_eq!(kind(&[("transfer-encoding", "gzip, chunked")]), Some(Kind::NotImplemented));
        assert_eq!(
            kind(&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]),
            Some(Kind::NotImplemented)
        );
    }
}
