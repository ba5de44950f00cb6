//! Copies of requests to another upstream, which no client waits for.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::bad::{Bad, Way};
use crate::edge::{Client, Edge, free_port, wait_for};
use crate::origin::Origin;

/// A daemon that sends copies to `shadow`, and where its metrics are.
fn mirroring(origin: &Origin, shadow: SocketAddr, mut mirror: Value) -> (Edge, SocketAddr) {
    let metrics = free_port();
    mirror["upstream"] = json!("shadow");
    let edge = Edge::start(origin.address, |config| {
        config["admin"]["metrics"] = json!(metrics.to_string());
        config["upstreams"]["shadow"] = json!({ "servers": [format!("http://{shadow}")] });
        config["routes"][0]["mirror"] = mirror;
    });
    (edge, metrics)
}

/// Waits until the counter has this value.
fn counted(metrics: SocketAddr, name: &str, expected: u64) {
    wait_for(&format!("{expected} {name}"), || {
        let text = Client::connect(metrics).get("/metrics").body;
        let prefix = format!("tidegate_stage_mirror_{name}_total ");
        let value = text.lines().find_map(|line| line.strip_prefix(&prefix)?.parse::<u64>().ok());
        if value == Some(expected) { Ok(()) } else { Err(format!("{value:?}")) }
    });
}

#[test]
fn copies_are_whole_and_their_answers_nobodys() {
    let (origin, shadow) = (Origin::start("origin"), Origin::start("shadow"));
    let (edge, metrics) = mirroring(&origin, shadow.address, json!({"body": "10B"}));
    let mut client = edge.connect();
    assert_eq!(client.get("/name").body, "origin");
    assert_eq!(client.get("/status=500").status, 500);
    let head = "POST /x?y=1 HTTP/1.1\r\nHost: a\r\n";
    let declared = client.send(&format!("{head}Content-Length: 5\r\n\r\nhello")).reply("POST");
    assert!(declared.body.contains("--body--\nhello\n"), "{}", declared.body);
    let chunked = client.send(&format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"));
    assert!(chunked.reply("POST").body.contains("--body--\nabcde\n"));
    assert_eq!(edge.curl(&["--http2", "--data", "over http2"], "/name"), "origin");
    counted(metrics, "sent", 5);
    let expected =
        ["GET /name ", "GET /status=500 ", "POST /name over http2", "POST /x?y=1 abcde", "POST /x?y=1 hello"];
    let mut seen = shadow.seen();
    seen.sort_unstable();
    assert_eq!(seen, expected);

    // What is longer reaches the origin all the same.
    let long = client.send(&format!("{head}Content-Length: 11\r\n\r\nhello world")).reply("POST");
    assert!(long.body.contains("--body--\nhello world\n"));
    let chunk = "6\r\nsix...\r\n";
    let long =
        client.send(&format!("{head}Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(2))).reply("POST");
    assert!(long.body.contains("--body--\nsix...six...\n"));
    counted(metrics, "left_out", 2);
    assert_eq!((shadow.requests(), origin.requests()), (5, 7));
}

#[test]
fn no_client_waits_for_an_upstream_that_hangs_or_is_not_there() {
    let origin = Origin::start("origin");
    let shadow = Bad::start(Way::Hang);
    let (edge, metrics) = mirroring(&origin, shadow.address, json!({"in_flight": 2}));
    let mut client = edge.connect();
    for _ in 0..20 {
        assert_eq!(client.get("/name").body, "origin");
    }
    counted(metrics, "left_out", 18);
    wait_for("two copies", || if shadow.requests() == 2 { Ok(()) } else { Err(shadow.requests().to_string()) });

    let (edge, metrics) = mirroring(&origin, ([127, 0, 0, 1], 1).into(), json!({}));
    let mut client = edge.connect();
    for _ in 0..5 {
        assert_eq!(client.get("/name").body, "origin");
    }
    counted(metrics, "failed", 5);
}

#[test]
fn a_share_is_always_of_the_same_clients() {
    let (origin, shadow) = (Origin::start("origin"), Origin::start("shadow"));
    let (edge, _) = mirroring(&origin, shadow.address, json!({"percent": 30, "by": {"header": "x-user"}}));
    let mut client = edge.connect();
    for user in (0..100).chain(0..100) {
        client.send(&format!("GET /{user} HTTP/1.1\r\nHost: a\r\nX-User: {user}\r\n\r\n"));
        assert_eq!(client.reply("GET").status, 200);
    }
    // Of whom there is one copy, there comes another one.
    wait_for("two copies of each client's", || {
        let mut times: BTreeMap<String, u32> = BTreeMap::new();
        for seen in shadow.seen() {
            *times.entry(seen).or_default() += 1;
        }
        let right = (10..60).contains(&times.len()) && times.values().all(|count| *count == 2);
        if right { Ok(()) } else { Err(format!("{times:?}")) }
    });
}
