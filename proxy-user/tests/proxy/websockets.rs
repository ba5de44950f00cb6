//! Connections that change to `WebSocket`, through HTTP/1.1, HTTP/2 and HTTP/3, by foreign clients and a foreign origin; and upgrades
//! that go wrong.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;

use serde_json::{Value, json};

use crate::edge::{Edge, PATIENCE, wait_for};
use crate::origin::Origin;
use crate::python::{self, Program};

/// Client's part of a handshake, with the key of RFC 6455 section 1.3.
const ASK: &str = "GET /chat HTTP/1.1\r\nHost: first.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// And the origin's.
const GRANT: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn foreign() -> (Program, SocketAddr) {
    let mut origin = Program::start("ws.py", &["origin"]);
    let port: u16 = origin.line().parse().unwrap();
    (origin, SocketAddr::from(([127, 0, 0, 1], port)))
}

#[test]
fn a_foreign_client_talks_over_all_versions() {
    let (_origin, address) = foreign();
    let plain = Origin::start("plain");
    let edge = Edge::start(address, |config| {
        config["upstreams"]["plain"] = json!({ "servers": [format!("http://{}", plain.address)] });
        config["routes"] = json!([{ "upstream": "origin" }, { "path": "/plain", "upstream": "plain" }]);
    });
    let seen = |words: &[&str]| -> Value { serde_json::from_str(&python::run("ws.py", words)).unwrap() };
    let ca = edge.directory().join("cert.pem");
    let clear = edge.http.to_string();
    for (fields, scheme, via) in [
        (seen(&["h1", &clear]), "http", "1.1 tidegate"),
        (seen(&["h1", &edge.https.to_string(), "--ca", ca.to_str().unwrap()]), "https", "1.1 tidegate"),
        (seen(&["h2", &clear]), "http", "2 tidegate"),
        (seen(&["h3", &edge.https.to_string()]), "https", "3 tidegate"),
    ] {
        assert_eq!(fields["x-forwarded-for"], "127.0.0.1", "{fields}");
        assert_eq!((&fields["x-forwarded-proto"], &fields["via"]), (&json!(scheme), &json!(via)), "{fields}");
        assert_eq!(fields["upgrade"], "websocket", "{fields}");
        if via == "3 tidegate" {
            // Of no other protocol, and by no other method (RFC 8441 section 4).
            assert_eq!((&fields["other"], &fields["malformed"]), (&json!("501"), &json!("reset 0x10e")), "{fields}");
        }
        if via != "1.1 tidegate" {
            assert_eq!(fields["refused"], "502", "an answer other than 101 opened a WebSocket");
        }
    }
    // Over HTTP/1.1 messages are compressed.
    let lines = edge.access_log(9);
    let opened = lines.iter().filter(|line| line["bytes_in"].as_u64() > Some(1_000)).count();
    assert_eq!(opened, 4, "{lines:?}");
    assert!(lines.iter().all(|line| line["method"] == "GET" || line["status"] == 501), "{lines:?}");
}

/// An origin that answers one request head with `answer`, and hands its connection over.
fn once(answer: &'static str) -> (SocketAddr, mpsc::Receiver<(String, TcpStream)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (give, get) = mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut head = Vec::new();
            let mut byte = [0; 1];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
                head.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            if give.send((String::from_utf8(head).unwrap(), stream)).is_err() {
                return;
            }
        }
    });
    (address, get)
}

fn read(stream: &mut TcpStream, count: usize) -> String {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn halves_close_on_their_own_and_early_bytes_wait_for_the_101() {
    let (address, origin) = once(GRANT);
    let edge = Edge::start(address, |_| {});
    let mut client = edge.connect();
    // Frames in the same packet as the request: they belong to the new protocol, should it come.
    client.send(&format!("{ASK}early"));
    let (asked, mut origin) = origin.recv_timeout(PATIENCE).unwrap();
    assert!(asked.starts_with("GET /chat HTTP/1.1\r\n") && asked.to_lowercase().contains("\r\nupgrade: websocket"));
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    assert_eq!(read(&mut origin, 5), "early");
    client.send(" and late");
    assert_eq!(read(&mut origin, 9), " and late");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(origin.read(&mut [0; 8]).unwrap(), 0, "the client's end did not come across");
    origin.write_all(b"still here").unwrap();
    assert_eq!(client.bytes(10), "still here");
    drop(origin);
    assert!(client.is_closed());
    let line = &edge.access_log(1)[0];
    assert_eq!(
        (&line["status"], &line["bytes_in"], &line["bytes_out"]),
        (&json!(101), &json!(14), &json!(10)),
        "{line}"
    );
}

#[test]
fn what_no_upgrade_was_asked_for_does_not_come() {
    // The origin answers as usual: the connection goes on in HTTP, and what came behind is the next request.
    let plain = Origin::start("plain");
    let edge = Edge::start(plain.address, |_| {});
    let mut client = edge.connect();
    client.send(&format!("{ASK}GET /name HTTP/1.1\r\nHost: first.test\r\n\r\n"));
    assert_eq!(client.reply("GET").status, 200);
    assert_eq!(client.reply("GET").body, "plain");
    // Other protocols are not asked for at all.
    for ask in [ASK.replace("websocket", "h2c"), ASK.replace("keep-alive, Upgrade", "keep-alive")] {
        let seen = client.send(&ask).reply("GET").body.to_lowercase();
        assert!(!seen.contains("\nupgrade:") && !seen.contains("connection: upgrade"), "{seen}");
    }

    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ] {
        let (address, _origin) = once(answer);
        let edge = Edge::start(address, |_| {});
        assert_eq!(edge.connect().send(ASK).reply("GET").status, 502, "{answer}");
        // Without having been asked.
        assert_eq!(edge.get("/name").status, 502);
    }
}

#[test]
fn silence_ends_a_tunnel_and_a_drain_waits_for_it() {
    let (address, origin) = once(GRANT);
    let mut edge = Edge::start(address, |config| {
        config["routes"] = json!([{ "path": "/", "upstream": "origin" },
            { "path": "/short", "upstream": "origin", "timeouts": { "tunnel": "300ms" } }]);
    });
    let mut silent = edge.connect();
    silent.send(&ASK.replace("/chat", "/short"));
    assert!(silent.head().starts_with("HTTP/1.1 101 "));
    assert!(silent.is_closed());
    let (_, mut left) = origin.recv_timeout(PATIENCE).unwrap();
    assert_eq!(left.read(&mut [0; 8]).unwrap_or(0), 0);

    let mut client = edge.connect();
    client.send(ASK);
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    let (_, mut other) = origin.recv_timeout(PATIENCE).unwrap();
    edge.signal("TERM");
    edge.wait_log("draining", 1);
    client.send("on");
    assert_eq!(read(&mut other, 2), "on");
    drop(client);
    drop(other);
    assert!(edge.wait_end());
}

#[test]
fn reloads_leave_an_open_websocket_alone() {
    let (_origin, address) = foreign();
    let mut edge = Edge::start(address, |_| {});
    let mut client = Program::start("ws.py", &["hold", &edge.http.to_string()]);
    assert_eq!(client.line(), "open");
    for round in 1..=3 {
        edge.reload(|config| config["timeouts"] = json!({ "idle": format!("{}s", 60 + round) }));
        edge.wait_log("reloaded", round);
        assert_eq!(client.ask(&format!("round {round}")), format!("round {round}"));
    }
    assert!(client.finish());
    wait_for("the log line", || if edge.access_log(1).len() == 1 { Ok(()) } else { Err(String::new()) });
}
