//! Routes: which one takes a request, and what it says is done.

use serde_json::json;

use crate::edge::{Client, Edge};
use crate::origin::Origin;

/// The request's head as the origin saw it.
fn seen(client: &mut Client, request: &str) -> String {
    let reply = client.send(request).reply("GET");
    assert_eq!(reply.status, 200, "{}", reply.head);
    reply.body
}

#[test]
fn requests_take_the_route_that_fits_best() {
    let origin = Origin::start("first");
    let other = Origin::start("second");
    let edge = Edge::start(origin.address, |config| {
        config["upstreams"]["second"] = json!({"servers": [format!("http://{}", other.address)]});
        let first = config["routes"][0]["upstream"].clone();
        config["routes"] = json!([
            {"upstream": first},
            {"path": "=/name", "methods": ["GET"], "headers": [{"name": "x-beta"}], "upstream": "second"},
            {"path": "/files/{user}/{rest*}", "upstream": first, "rewrite": "/u/{user}/f/{rest}",
             "request_headers": {"set": {"x-route": "files"}, "remove": ["x-secret"]},
             "response_headers": {"set": {"x-served": "files"}}},
            {"path": "/old", "redirect": {"to": "https://{host}/new{rest}", "status": 308}},
            {"path": "=/health", "respond": {"body": "fine\n"}},
            {"path": "/split", "split": [{"upstream": first, "weight": 0}, {"upstream": "second", "weight": 1}],
             "rewrite": "/name"},
        ]);
    });
    let mut client = Client::connect(edge.http);
    assert_eq!(client.get("/name").body, "first");
    let beta = client.send("GET /name HTTP/1.1\r\nHost: first.test\r\nX-Beta: 1\r\n\r\n").reply("GET");
    assert_eq!(beta.body, "second");
    assert_eq!(client.get("/split/x").body, "second");

    let request = "GET /files/%61nn/a/b?q=1 HTTP/1.1\r\nHost: first.test\r\nX-Secret: 1\r\n\r\n";
    let head = seen(&mut client, request).to_lowercase();
    assert!(head.starts_with("get /u/ann/f/a/b?q=1 http/1.1") && head.contains("x-route: files"), "{head}");
    assert!(!head.contains("x-secret"), "{head}");
    assert_eq!(client.get("/files/ann/x").field("x-served"), Some("files"));

    let moved = client.get("/old/page?x=1");
    assert_eq!((moved.status, moved.field("location")), (308, Some("https://first.test/new/page?x=1")));
    let health = client.get("/health");
    assert_eq!((health.status, health.body.as_str()), (200, "fine\n"));
    assert_eq!(health.field("content-type"), Some("text/plain; charset=utf-8"));
}

#[test]
fn pages_take_the_place_of_what_origins_answer_where_they_say_so() {
    let origin = Origin::start("first");
    let edge = Edge::start(origin.address, |config| {
        config["workers"] = json!(1);
        config["routes"][0]["error_pages"] = json!({
            "503": {"body": "<p>later</p>", "intercept": true},
            "4xx": {"body": "{}", "content_type": "application/json", "intercept": true},
            "5xx": {"body": "ours"},
        });
    });
    let mut client = Client::connect(edge.http);
    let later = client.get("/status=503");
    assert_eq!((later.status, later.body.as_str()), (503, "<p>later</p>"), "{}", later.head);
    assert_eq!(
        (later.field("content-type"), later.field("retry-after")),
        (Some("text/html; charset=utf-8"), Some("7"))
    );
    assert_eq!(later.field("content-encoding"), None);
    let missing = client.get("/status=404");
    assert_eq!((missing.status, missing.body.as_str()), (404, "{}"));
    assert_eq!(missing.field("content-type"), Some("application/json"));
    let own = client.get("/status=500");
    assert_eq!((own.status, own.body.as_str(), own.field("content-encoding")), (500, "origin", Some("x-none")));
    assert_eq!((client.get("/status=200").body.as_str(), client.get("/not-http").body.as_str()), ("origin", "ours"));
    let head = client.send("HEAD /status=503 HTTP/1.1\r\nHost: a\r\n\r\n").reply("HEAD");
    assert_eq!((head.status, head.field("content-length")), (503, Some("12")));
    for version in ["--http2", "--http1.1"] {
        assert_eq!(edge.curl(&[version, "-w", "%{http_code}"], "/status=404"), "{}404");
    }
    // What nobody gets was read all the same: but for the one that broke HTTP, one connection does for all.
    assert_eq!(origin.connections(), 2);
}

#[test]
fn a_route_has_bounds_times_and_error_pages_of_its_own() {
    let origin = Origin::start("first");
    let edge = Edge::start(origin.address, |config| {
        let first = config["routes"][0]["upstream"].clone();
        config["timeouts"] = json!({"response": "50s"});
        config["limits"] = json!({"body": "10B"});
        config["routes"] = json!([
            {"upstream": first},
            {"path": "/wait=20000", "upstream": first, "timeouts": {"response": "300ms"},
             "error_pages": {"5xx": {"body": "sorry"}, "502": {"body": "no"}}},
            {"path": "/small", "upstream": first, "limits": {"body": "5B"}},
            {"path": "/big", "upstream": first, "limits": {"body": "1KiB"}},
            {"path": "/slow", "upstream": first, "limits": {"body": "1KiB"}, "timeouts": {"body": "300ms"}},
        ]);
    });
    let mut client = Client::connect(edge.http);
    let late = client.get("/wait=20000");
    assert_eq!((late.status, late.body.as_str()), (504, "sorry"), "{}", late.head);
    assert_eq!(late.field("content-type"), Some("text/html; charset=utf-8"));

    let mut slow = Client::connect(edge.http);
    slow.send("POST /slow HTTP/1.1\r\nHost: first.test\r\nContent-Length: 9\r\n\r\nx");
    assert_eq!(slow.reply("POST").status, 408, "the config's own time is 30 s");

    let post = |path: &str, length: usize| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: first.test\r\nContent-Length: {length}\r\n\r\n");
        Client::connect(edge.http).send(&(head + &"x".repeat(length))).reply("POST").status
    };
    assert_eq!([post("/", 10), post("/", 11), post("/small", 5), post("/small", 6)], [200, 413, 200, 413]);
    assert_eq!([post("/big", 1_024), post("/big", 1_025)], [200, 413]);
    let chunked = |path: &str, text: &str| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: first.test\r\nTransfer-Encoding: chunked\r\n\r\n");
        let body = format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len());
        Client::connect(edge.http).send(&(head + &body)).reply("POST").status
    };
    assert_eq!(
        [chunked("/small", "12345"), chunked("/small", "123456"), chunked("/big", &"x".repeat(100))],
        [200, 413, 200]
    );
}
