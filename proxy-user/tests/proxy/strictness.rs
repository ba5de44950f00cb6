//! Requests that break HTTP or could be read in two ways.

use crate::edge::Edge;
use crate::origin::Origin;
use std::sync::atomic::Ordering;

#[test]
fn refused_and_closed() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |_| {});
    let cases: &[(&str, &str, u16)] = &[
        (
            "two framings",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "two framings, other way",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        ("two equal lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", 400),
        ("list of lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na", 400),
        ("signed length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na", 400),
        ("bare line feed", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
        ("bare carriage return", "GET / HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n", 400),
        ("folded field", "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n", 400),
        ("space before colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("NUL in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", 400),
        ("no host", "GET / HTTP/1.1\r\n\r\n", 400),
        ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("bad host", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("bad port", "GET / HTTP/1.1\r\nHost: a:http\r\n\r\n", 400),
        ("user in host", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
        ("dot segments", "GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("encoded dot segments", "GET /a/%2e%2E/b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("no HTTP", "hello\r\n\r\n", 400),
        ("tunnel", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501),
        ("unknown coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        ("coding in HTTP/1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ];
    for (name, wire, status) in cases {
        let mut client = edge.connect();
        let reply = client.send(wire).reply("GET");
        assert_eq!(reply.status, *status, "{name}: {reply:?}");
    }
    assert_eq!(origin.requests.load(Ordering::SeqCst), 0, "none of them may reach an origin");
}

#[test]
fn nothing_is_smuggled_behind_a_refused_request() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |_| {});
    let mut client = edge.connect();
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
         GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert_eq!(client.reply("POST").status, 400);
    assert!(client.is_closed());
    assert_eq!(origin.requests.load(Ordering::SeqCst), 0);
}

#[test]
fn a_clear_request_before_a_bad_one_is_served() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |_| {});
    let mut client = edge.connect();
    client.send("GET /name HTTP/1.1\r\nHost: a\r\n\r\nGET /name HTTP/1.1\r\nHost: a\n\r\n");
    assert_eq!(client.reply("GET").body, "a");
    assert_eq!(client.reply("GET").status, 400);
    assert!(client.is_closed());
}

#[test]
fn pipelined_and_absolute_requests_are_served() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |_| {});
    let mut client = edge.connect();
    let body = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let chunked = "POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ndef\r\n0\r\n\r\n";
    let absolute = "GET http://right.test/3 HTTP/1.1\r\nHost: wrong.test\r\n\r\n";
    client.send(&format!("{body}{chunked}{absolute}"));
    assert!(client.reply("POST").body.contains("\nabc\n"));
    assert!(client.reply("POST").body.contains("\ndef\n"));
    let seen = client.reply("GET").body;
    assert!(seen.starts_with("GET /3 HTTP/1.1\n") && seen.to_lowercase().contains("\nhost: right.test\n"), "{seen}");
    assert!(!seen.contains("wrong.test"), "{seen}");
}
