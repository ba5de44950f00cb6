//! Origins that speak HTTP/2, made by others: gRPC through both kinds of listener, streams as many as the origin lets, and
//! connections that are refused, left and dead.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::edge::{Client, Edge, wait_for};
use crate::python::{self, Program};

/// Streams that the origin lets clients open at once.
const STREAMS: usize = 4;

fn start(file: &str, words: &[&str]) -> (Program, SocketAddr) {
    let mut origin = Program::start(file, words);
    let port: u16 = origin.line().parse().unwrap();
    (origin, SocketAddr::from(([127, 0, 0, 1], port)))
}

fn over_h2c(config: &mut Value, origin: SocketAddr) {
    config["upstreams"]["origin"] = json!({ "servers": [format!("h2c://{origin}")] });
    config["workers"] = json!(1);
}

#[test]
fn grpc_calls_of_every_kind() {
    let (_origin, address) = start("grpc_peer.py", &["origin"]);
    let edge = Edge::start(address, |config| over_h2c(config, address));
    let ca = edge.directory().join("cert.pem");
    let clear = python::run("grpc_peer.py", &["client", &edge.http.to_string()]);
    assert_eq!(clear.trim(), "all calls answered");
    let secure = python::run("grpc_peer.py", &["client", &edge.https.to_string(), ca.to_str().unwrap()]);
    assert_eq!(secure.trim(), "all calls answered");
}

#[test]
fn requests_share_connections_as_far_as_the_origin_lets_them() {
    let (_origin, address) = start("h2_origin.py", &[&STREAMS.to_string()]);
    let edge = Edge::start(address, |config| over_h2c(config, address));
    let mut one = edge.connect();
    let seen: Value = serde_json::from_str(&one.get("/see?q=1").body).unwrap();
    assert_eq!((&seen[":scheme"], &seen[":authority"]), (&json!("http"), &json!("first.test")), "{seen}");
    assert_eq!((&seen[":path"], &seen["x-forwarded-for"]), (&json!("/see?q=1"), &json!("127.0.0.1")), "{seen}");
    assert!(seen.get("connection").is_none() && seen.get("host").is_none(), "{seen}");

    // More at once than fit one connection; none may be refused for it.
    let mut clients: Vec<Client> = (0..STREAMS * 3).map(|_| edge.connect()).collect();
    for round in 0..3 {
        for client in &mut clients {
            client.send(&format!("GET /wait{round} HTTP/1.1\r\nHost: first.test\r\n\r\n"));
        }
        assert!(clients.iter_mut().all(|client| client.reply("GET").status == 200));
    }
    let count: Value = serde_json::from_str(&one.get("/count").body).unwrap();
    let (connections, streams) = (count["connections"].as_u64().unwrap(), count["streams"].as_u64().unwrap());
    assert!(streams as usize <= STREAMS, "{count}");
    assert!((1..=8).contains(&connections), "36 requests took {count}");

    // Bodies and trailers both ways, larger than any window.
    let body = "x".repeat(3_000_000);
    one.send(&format!("POST /echo HTTP/1.1\r\nHost: first.test\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    assert!(one.reply("POST").body == body, "another body came back");
    one.send(
        "POST /echo HTTP/1.1\r\nHost: first.test\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
         5\r\nhello\r\n0\r\nx-sum: 42\r\n\r\n",
    );
    let echoed = one.reply("POST");
    assert_eq!((echoed.status, echoed.body.as_str()), (200, "hello"), "{echoed:?}");
}

#[test]
fn what_the_origin_did_not_look_at_is_sent_again() {
    let (_origin, address) = start("h2_origin.py", &[&STREAMS.to_string()]);
    let edge = Edge::start(address, |config| over_h2c(config, address));
    let mut client = edge.connect();
    for path in ["/first", "/refuse", "/leave", "/last"] {
        assert_eq!(client.get(path).status, 200, "{path}");
    }
}

#[test]
fn a_connection_without_a_sign_of_life_is_given_up() {
    let (_origin, address) = start("h2_origin.py", &[&STREAMS.to_string()]);
    let edge = Edge::start(address, |config| over_h2c(config, address));
    let mut client = edge.connect();
    assert_eq!(client.get("/first").status, 200);
    let begun = Instant::now();
    // Sent on the connection that then goes dead: safe to repeat, so another one answers it.
    assert_eq!(client.get("/freeze").status, 200);
    // Far below `timeouts.response`, a minute.
    assert!(begun.elapsed() < Duration::from_secs(45), "{:?}", begun.elapsed());
    wait_for("the count", || match client.get("/count").body {
        body if body.contains("\"connections\": 2") => Ok(()),
        body => Err(body),
    });
}

#[test]
fn alpn_decides_over_tls() {
    let (_origin, address) = start("h2_origin.py", &[&STREAMS.to_string()]);
    let inner = Edge::start(address, |config| over_h2c(config, address));
    let authority = inner.directory().join("cert.pem");
    let outer = Edge::start(inner.https, |config| {
        let server = json!([format!("https://{}", inner.https)]);
        config["upstreams"] = json!({
            "two": { "servers": server, "ca": authority, "server_name": "first.test", "http2": true },
            "one": { "servers": server, "ca": authority, "server_name": "first.test" },
        });
        config["routes"] = json!([{ "upstream": "two" }, { "path": "/one", "upstream": "one" }]);
    });
    let mut client = outer.connect();
    assert_eq!([client.get("/two").status, client.get("/one").status], [200, 200]);
    let mut versions: Vec<_> =
        inner.access_log(2).iter().map(|line| (line["path"].to_string(), line["version"].to_string())).collect();
    versions.sort();
    assert_eq!(versions, [("\"/one\"".into(), "\"h1\"".into()), ("\"/two\"".into(), "\"h2\"".to_owned())]);
}
