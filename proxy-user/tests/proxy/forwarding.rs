//! What reaches the origin and what comes back: fields, bodies, trailers, connections.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::edge::Edge;
use crate::origin::Origin;

fn pair() -> (Origin, Edge) {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |_| {});
    (origin, edge)
}

#[test]
fn fields_at_the_border() {
    let (_origin, edge) = pair();
    let mut client = edge.connect();
    client.send(
        "GET /see?q=1 HTTP/1.1\r\nHost: First.Test:80\r\nConnection: x-secret, keep-alive\r\nX-Secret: 1\r\n\
         Keep-Alive: timeout=1\r\nTE: gzip\r\nUpgrade: websocket\r\nProxy: evil\r\nX-Forwarded-For: 10.0.0.1\r\n\
         X-Forwarded-Proto: https\r\nX-Request-Id: mine\r\nX-Kept: yes\r\n\r\n",
    );
    let reply = client.reply("GET");
    assert_eq!(reply.status, 200);
    let id = reply.field("x-request-id").unwrap().to_owned();
    let lines: Vec<_> = reply.body.lines().take_while(|line| *line != "--body--").collect();
    assert_eq!(lines[0], "GET /see?q=1 HTTP/1.1");
    let has = |line: &str| lines.iter().any(|found| found.eq_ignore_ascii_case(line));
    assert!(has("Host: First.Test:80") && has("X-Kept: yes") && has("Via: 1.1 tidegate"), "{lines:?}");
    assert!(has("X-Forwarded-For: 10.0.0.1, 127.0.0.1") && has("X-Forwarded-Proto: http"), "{lines:?}");
    assert!(has(&format!("x-request-id: {id}")), "{lines:?}");
    for gone in ["x-secret", "keep-alive", "te:", "upgrade", "proxy:", "connection", "transfer-encoding"] {
        assert!(!lines.iter().any(|line| line.to_ascii_lowercase().starts_with(gone)), "{gone} in {lines:?}");
    }

    let reply = client.get("/hop");
    assert_eq!((reply.field("x-hop"), reply.field("keep-alive")), (None, None));
    assert_eq!((reply.field("x-end"), reply.field("via")), (Some("1"), Some("1.1 tidegate")));
    assert_eq!(reply.field("alt-svc"), None, "only TLS listeners have HTTP/3");
}

#[test]
fn both_sides_keep_their_connections() {
    let (origin, edge) = pair();
    let mut client = edge.connect();
    for _ in 0..50 {
        assert_eq!(client.get("/name").body, "a");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn responses_without_a_body() {
    let (origin, edge) = pair();
    let mut client = edge.connect();
    let reply = client.send("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n").reply("HEAD");
    assert_eq!((reply.status, reply.field("content-length")), (200, Some("77")));
    let reply = client.get("/no-content");
    assert_eq!((reply.status, reply.field("x-origin")), (204, Some("yes")));
    assert_eq!(reply.field("content-length"), None);
    let reply = client.get("/not-modified");
    assert_eq!((reply.status, reply.field("etag")), (304, Some("\"1\"")));
    assert_eq!(client.get("/name").body, "a");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn bodies_of_both_framings_arrive_whole() {
    let (_origin, edge) = pair();
    let mut client = edge.connect();
    let reply = client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").reply("POST");
    assert!(reply.body.contains("\n--body--\nhello\n"), "{}", reply.body);
    client.send("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    std::thread::sleep(Duration::from_millis(50));
    let reply = client.send("4;x=y\r\ndefg\r\n0\r\n\r\n").reply("POST");
    assert!(reply.body.contains("\n--body--\nabcdefg\n"), "{}", reply.body);
    let reply = client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").reply("POST");
    assert!(reply.body.to_lowercase().contains("content-length: 0"), "{}", reply.body);
}

#[test]
fn a_response_streams() {
    let (_origin, edge) = pair();
    let mut client = edge.connect();
    let begun = Instant::now();
    client.send("GET /first-then-wait=8000 HTTP/1.1\r\nHost: a\r\n\r\n").head();
    assert_eq!(client.bytes(5), "first");
    assert!(begun.elapsed() < Duration::from_millis(7900), "the first bytes waited for the last");
    assert_eq!(client.bytes(5), "-last");
    assert!(begun.elapsed() >= Duration::from_secs(8));
}

#[test]
fn a_large_response_arrives_whole() {
    let (_origin, edge) = pair();
    let reply = edge.get("/large=8000000");
    assert_eq!(reply.body.len(), 8_000_000);
    assert!(reply.body.bytes().all(|byte| byte == b'x'));
}

#[test]
fn trailers_pass_both_ways() {
    let (_origin, edge) = pair();
    let mut client = edge.connect();
    client.send("GET /chunked-with-trailers HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n");
    let reply = client.reply("GET");
    assert_eq!((reply.body.as_str(), reply.trailers.to_lowercase().trim()), ("hello", "x-sum: 42"));
    let reply = client
        .send(
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Check\r\n\r\n\
             1\r\nz\r\n0\r\nX-Check: ok\r\n\r\n",
        )
        .reply("POST");
    assert!(reply.body.to_lowercase().ends_with("--trailers--\nx-check: ok\n"), "{}", reply.body);
}

#[test]
fn a_kept_connection_that_the_origin_closed_costs_no_request() {
    let (origin, edge) = pair();
    let mut client = edge.connect();
    for _ in 0..20 {
        assert_eq!(client.get("/answer-then-close").status, 200);
    }
    assert_eq!(origin.requests.load(Ordering::SeqCst), 20);
}

#[test]
fn what_goes_wrong_at_the_origin() {
    let (_origin, edge) = pair();
    let mut client = edge.connect();
    for path in ["/close-without-answer", "/not-http"] {
        let reply = client.get(path);
        assert_eq!(reply.status, 502, "{path}");
        assert!(reply.body.contains(reply.field("x-request-id").unwrap()), "{}", reply.body);
    }
    // The client must see that this one is not whole.
    client.send("GET /half-then-close HTTP/1.1\r\nHost: a\r\n\r\n").head();
    assert_eq!(client.bytes(5), "first");
    assert!(client.is_closed());
    let errors: Vec<_> = edge.access_log(3).iter().map(|line| line["error"].clone()).collect();
    // One connection is one worker's: in order.
    assert_eq!(errors, ["upstream.closed", "upstream.protocol", "upstream.closed"]);
}

#[test]
fn the_next_server_takes_over() {
    let origin = Origin::start("alive");
    let edge = Edge::start(origin.address, |config| {
        // Port 1 refuses.
        config["upstreams"]["origin"]["servers"] = json!(["http://127.0.0.1:1", format!("http://{}", origin.address)]);
    });
    for _ in 0..10 {
        assert_eq!(edge.get("/name").body, "alive");
    }
}

#[test]
fn no_server_and_no_route() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |config| {
        config["upstreams"]["dead"] = json!({ "servers": ["http://127.0.0.1:1"] });
        config["routes"] = json!([{ "hosts": ["first.test"], "path": "/name", "upstream": "origin" },
            { "hosts": ["first.test"], "path": "/dead", "upstream": "dead" }]);
    });
    let mut client = edge.connect();
    assert_eq!(client.get("/name").status, 200);
    assert_eq!(client.get("/dead/x").status, 503);
    assert_eq!(client.get("/nam").status, 404);
    assert_eq!(client.send("GET /name HTTP/1.1\r\nHost: other.test\r\n\r\n").reply("GET").status, 404);
    let log = edge.access_log(4);
    assert_eq!(log[1]["error"], "upstream.connect");
    assert_eq!(log[2]["error"], "internal.no_route");
}

#[test]
fn the_access_log_tells_the_request() {
    let (_origin, edge) = pair();
    let reply =
        edge.connect().send("POST /x?y=%22z HTTP/1.1\r\nHost: A.test\r\nContent-Length: 3\r\n\r\nabc").reply("POST");
    let line = &edge.access_log(1)[0];
    let expected = json!({ "listener": "clear", "version": "h1", "method": "POST", "host": "a.test", "path": "/x",
        "query": "y=%22z", "status": 200, "bytes_in": 3, "bytes_out": reply.body.len(), "upstream": "origin",
        "id": reply.field("x-request-id") });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&line[key], value, "{key} of {line}");
    }
    assert!(line["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    assert!(line["duration_us"].as_u64() >= line["upstream_us"].as_u64() && line.get("error").is_none(), "{line}");
}
