//! Bounds and time limits.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::edge::Edge;
use crate::origin::Origin;

#[test]
fn a_body_beyond_the_limit() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |config| config["limits"] = json!({ "body": 1000 }));
    let declared = edge.connect().send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n").reply("POST");
    assert_eq!(declared.status, 413);
    let chunk = format!("1f4\r\n{}\r\n", "x".repeat(500));
    let mut client = edge.connect();
    client.send("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let streamed = client.send(&chunk.repeat(3)).reply("POST");
    assert_eq!(streamed.status, 413, "{streamed:?}");
    let fits = edge
        .connect()
        .send(&format!("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(2)))
        .reply("POST");
    assert_eq!(fits.status, 200);
    // Three connections, perhaps of two workers: their lines come in any order.
    let log = edge.access_log(3);
    for line in &log {
        let expected = if line["status"] == 413 { "downstream.body_too_large".into() } else { Value::Null };
        assert_eq!(line["error"], expected, "{line}");
    }
    assert_eq!(log.iter().filter(|line| line["status"] == 413).count(), 2);
}

#[test]
fn a_header_beyond_the_limits() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |config| {
        config["limits"] = json!({ "header_bytes": 8192, "headers": 20 });
    });
    let long =
        edge.connect().send(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(9000))).reply("GET");
    assert_eq!(long.status, 431);
    let many = (0..30).fold(String::new(), |fields, n| fields + &format!("X-{n}: 1\r\n"));
    let many = edge.connect().send(&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n")).reply("GET");
    assert_eq!(many.status, 431);
    let fields: Vec<String> = (0..30).map(|n| format!("-HX-{n}: 1")).collect();
    for version in ["--http1.1", "--http2"] {
        let mut arguments = vec![version, "-o", "/dev/null", "-w", "%{http_code}"];
        arguments.extend(fields.iter().map(String::as_str));
        assert_eq!(edge.curl(&arguments, "/name"), "431", "{version}");
    }
}

#[test]
fn slow_clients() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |config| {
        config["timeouts"] = json!({ "header": "600ms", "idle": "1200ms", "body": "600ms", "handshake": "600ms" });
    });
    let soon = |begun: Instant, from: u64| {
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(from) && took < Duration::from_millis(from + 10_000), "{took:?}");
    };
    // Says nothing.
    let begun = Instant::now();
    assert!(edge.connect().is_closed());
    soon(begun, 500);
    // Begins a header and never ends it, byte by byte.
    let begun = Instant::now();
    let mut client = edge.connect();
    client.send("GET /name HTTP/1.1\r\nHost: a\r\n");
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(100));
        client.send("X: y\r\n");
    }
    assert!(client.is_closed());
    soon(begun, 500);
    // Is served, and then idle.
    let mut client = edge.connect();
    assert_eq!(client.get("/name").status, 200);
    let begun = Instant::now();
    assert!(client.is_closed());
    soon(begun, 1100);
    // Stops in its body.
    let begun = Instant::now();
    let reply = edge.connect().send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc").reply("POST");
    assert_eq!(reply.status, 408, "{reply:?}");
    soon(begun, 500);
    // Never begins TLS.
    let begun = Instant::now();
    assert!(crate::edge::Client::connect(edge.https).is_closed());
    soon(begun, 500);
}

#[test]
fn slow_origins() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |config| {
        config["timeouts"] = json!({ "response": "600ms", "read": "600ms" });
    });
    let begun = Instant::now();
    assert_eq!(edge.get("/wait=5000").status, 504);
    assert!(begun.elapsed() < Duration::from_millis(4500));
    let mut client = edge.connect();
    client.send("GET /first-then-wait=5000 HTTP/1.1\r\nHost: a\r\n\r\n").head();
    assert_eq!(client.bytes(5), "first");
    assert!(client.is_closed());
    assert!(begun.elapsed() < Duration::from_millis(4500));
    // A client that takes its time with its body is not the origin's delay.
    let mut client = edge.connect();
    client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(client.send("b").reply("POST").status, 200);
    let log = edge.access_log(3);
    for (path, error) in
        [("/wait=5000", "upstream.response_timeout"), ("/first-then-wait=5000", "upstream.read_timeout")]
    {
        assert!(log.iter().any(|line| line["path"] == path && line["error"] == error), "{path}: {log:?}");
    }
}

#[test]
fn more_connections_than_allowed_wait_and_lose_nothing() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |config| {
        config["workers"] = json!(1);
        config["limits"] = json!({ "connections": 2 });
    });
    let mut first = edge.connect();
    let mut second = edge.connect();
    assert_eq!((first.get("/name").status, second.get("/name").status), (200, 200));
    let mut third = edge.connect();
    third.send("GET /name HTTP/1.1\r\nHost: a\r\n\r\n");
    third.stream.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    assert!(third.stream.peek(&mut [0; 1]).is_err(), "served beyond the limit");
    drop(first);
    third.stream.set_read_timeout(Some(crate::edge::PATIENCE)).unwrap();
    assert_eq!(third.reply("GET").body, "a");
}
