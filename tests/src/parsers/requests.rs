//! What requests for files and routes are read by, and what each promises.

use std::sync::LazyLock;

use anyhow::{Context as _, Result, ensure};
use http::{HeaderValue, Method, header};
use proxy_core::config;
use proxy_core::fields::Fields;
use proxy_core::files::{self, Reply, Validators};
use proxy_core::http2::priority::{LEVELS, Urgency};
use proxy_core::proxy_protocol::{self, Found, MAX_HEADER, Version};
use proxy_core::route::{Request, Router, Template};
use proxy_core::trace::{Parent, Span};

use super::texts;

/// A path, and under it a line each: `Range`, `If-Range`, `If-None-Match`, `If-Modified-Since`, `Accept-Encoding`.
pub(super) fn wants() -> Vec<Vec<u8>> {
    texts([
        "/a/b.txt\nbytes=0-1,-5\n\"x\"\nW/\"y\", *\nSun, 06 Nov 1994 08:49:37 GMT\ngzip;q=0.5, br, *;q=0",
        "/.well-known/%2e%2E/%2f\nbytes=5-\nSun, 06 Nov 1994 08:49:37 GMT\n\n\nidentity;q=0",
    ])
}

pub(super) fn want(bytes: &[u8]) -> Result<()> {
    const SIZE: u64 = 1_000;
    let mut lines = bytes.split(|b| *b == b'\n');
    if let Some(name) = lines.next().and_then(|path| files::local(std::str::from_utf8(path).ok()?, false)) {
        let up = name.file.split('/').any(|segment| segment == "..") || name.file.starts_with('/');
        ensure!(!up, "a name that leads out of the root: {}", name.file);
    }
    let names =
        [header::RANGE, header::IF_RANGE, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::ACCEPT_ENCODING];
    let fields = names.into_iter().zip(lines);
    let headers: Fields =
        fields.filter_map(|(name, value)| Some((name, HeaderValue::from_bytes(value).ok()?))).collect();
    let spans = match files::decide(&Method::GET, &headers, &Validators::new(784_111_777, SIZE), SIZE) {
        Reply::Part(span) => vec![span],
        Reply::Parts(spans) => spans,
        _ => vec![],
    };
    ensure!(spans.iter().all(|span| span.first <= span.last && span.last < SIZE), "a range beyond the file");
    ensure!(spans.iter().map(|span| span.len()).sum::<u64>() <= SIZE, "more than the file");
    ensure!(files::preferred(&headers).count() <= files::Coding::ALL.len(), "a coding twice");
    Ok(())
}

pub(super) fn priorities() -> Vec<Vec<u8>> {
    texts(["u=0, i", "i;x=1,u=7;y", " u=3 ,u=9", "u"])
}

/// Each urgency is one that there is, and a member behind those that are not readable counts.
pub(super) fn priority(bytes: &[u8]) -> Result<()> {
    ensure!(Urgency::of(bytes).level() < LEVELS, "an urgency that there is not");
    let more = Urgency::of(&[bytes, b",u=6"].concat()).level();
    ensure!(more == 6, "the last member says 6, and {more} was read");
    Ok(())
}

pub(super) fn targets() -> Vec<Vec<u8>> {
    texts(["/users/7/a%2fb/%41?x=1&%61=%zz", "*", "/api/%7e?a", "//x"])
}

/// A table with something of each kind; made once for all inputs.
static ROUTER: LazyLock<std::result::Result<Router, String>> = LazyLock::new(|| {
    let config = config::parse(
        r#"{"listeners": [{"name": "a", "address": "127.0.0.1:1", "protocol": "http"}],
            "upstreams": {"u": {"servers": ["http://127.0.0.1:2"]}},
            "routes": [{"upstream": "u"}, {"path": "/users/{id}/{rest*}", "query": [{"name": "a"}], "upstream": "u"},
                       {"path": "/api", "split": [{"upstream": "u", "weight": 1}], "split_by": {"query": "x"}}]}"#,
    );
    config.map(|config| Router::new(&config)).map_err(|faults| format!("{faults:?}"))
});

/// A path always leads to the route whose form it fits; what is filled in never names another host.
pub(super) fn route(bytes: &[u8]) -> Result<()> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Ok(()) };
    let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
    let headers = Fields::new();
    let request = Request { host: "a", path, query, method: &Method::GET, headers: &headers };
    let router = ROUTER.as_ref().map_err(|faults| anyhow::anyhow!("{faults}"))?;
    let found = router.find(&request).context("the route for all takes what no other does")?;
    ensure!(found.upstream(&request, std::net::Ipv4Addr::LOCALHOST.into()) == Some(0), "no upstream");
    let to = Template::parse("{rest}", &found.rule.path).or_else(|_| Template::parse("{path}", &found.rule.path));
    let to = to.map_err(anyhow::Error::msg)?.location(&found.rule.path, "a", path, query);
    ensure!(!to.starts_with("//") && !to.starts_with("/\\"), "a redirect to another host: {to}");
    Ok(())
}

pub(super) fn traceparents() -> Vec<Vec<u8>> {
    texts([
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more",
    ])
}

/// What is read is what was written, but for flags and versions that nobody knows.
pub(super) fn traceparent(bytes: &[u8]) -> Result<()> {
    let Some(parent) = Parent::parse(bytes) else { return Ok(()) };
    let Parent { trace, span, sampled } = parent;
    let again = Span { trace, id: span, parent: None, sampled }.traceparent();
    ensure!(bytes.get(2..53) == again.as_bytes().get(2..53), "{again} of {}", bytes.escape_ascii());
    ensure!(Parent::parse(again.as_bytes()) == Some(parent), "{again} is read otherwise");
    Ok(())
}

/// Headers of the PROXY protocol, both versions.
pub(super) fn introductions() -> Vec<Vec<u8>> {
    let clients = [("192.0.2.1:1", "198.51.100.1:443"), ("[2001:db8::1]:65535", "[2001:db8::2]:80")];
    let clients = clients.iter().filter_map(|(client, reached)| Some((client.parse().ok()?, reached.parse().ok()?)));
    let mut all = vec![b"PROXY UNKNOWN\r\n".to_vec()];
    for (client, reached) in clients {
        all.push(proxy_protocol::write(Version::V1, client, reached));
        let mut extended = proxy_protocol::write(Version::V2, client, reached);
        // With an extension (TLV) of two bytes.
        extended.extend_from_slice(&[1, 0, 2, b'h', b'2']);
        if let Some(length) = extended.get_mut(15) {
            *length += 5;
        }
        all.push(extended);
    }
    all
}

pub(super) fn introduction(bytes: &[u8]) -> Result<()> {
    let found = proxy_protocol::parse(bytes);
    if let Found::Header { length, about } = found {
        ensure!((1..=MAX_HEADER.min(bytes.len())).contains(&length), "a header of {length} bytes");
        let again = bytes.get(..length).map(proxy_protocol::parse);
        ensure!(again == Some(found), "what lies behind a header changes it");
        let same_family = about.is_none_or(|(client, reached)| client.is_ipv4() == reached.is_ipv4());
        ensure!(same_family, "addresses of two families: {about:?}");
        for cut in 0..length {
            let part = bytes.get(..cut).map(proxy_protocol::parse);
            ensure!(part == Some(Found::More), "a header is taken for whole at {cut} of {length} bytes: {part:?}");
        }
    }
    Ok(())
}
