//! Start, reload, drain, and the loss of a worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::edge::{Client, Edge, wait_for};
use crate::origin::Origin;

#[test]
fn a_reload_swaps_routes_and_a_bad_one_changes_nothing() {
    let first = Origin::start("first");
    let second = Origin::start("second");
    let mut edge = Edge::start(first.address, |_| {});
    let mut client = edge.connect();
    assert_eq!(client.get("/name").body, "first");
    edge.reload(|config| config["upstreams"]["origin"]["servers"] = json!([format!("http://{}", second.address)]));
    edge.wait_log("reloaded", 1);
    assert_eq!(client.get("/name").body, "second", "the same connection, the new route");

    edge.reload(|config| config["routes"][0]["upstream"] = json!("nowhere"));
    edge.wait_log("not reloaded, the old config stays in force", 1);
    assert_eq!(client.get("/name").body, "second");
    edge.reload(|config| {
        config["routes"][0]["upstream"] = json!("origin");
        config["certificates"][0]["cert"] = json!("missing.pem");
    });
    edge.wait_log("not reloaded, the old config stays in force", 2);
    edge.wait_log("missing.pem", 1);
    assert_eq!(client.get("/name").body, "second");
}

#[test]
fn a_reload_under_load_loses_no_request() {
    let origin = Origin::start("a");
    let mut edge = Edge::start(origin.address, |_| {});
    let load = Load::start(&edge, 4);
    for round in 1..=5 {
        edge.reload(|config| config["limits"] = json!({ "headers": 90 + round }));
        edge.wait_log("reloaded", round);
        std::thread::sleep(Duration::from_millis(50));
    }
    let (served, failed) = load.stop();
    assert_eq!(failed, Vec::<String>::new());
    assert!(served > 100, "only {served} requests");
}

#[test]
fn a_drain_finishes_what_is_open() {
    let origin = Origin::start("a");
    let mut edge = Edge::start(origin.address, |_| {});
    let mut busy = edge.connect();
    let mut idle = edge.connect();
    assert_eq!(idle.get("/name").status, 200);
    busy.send("GET /first-then-wait=1500 HTTP/1.1\r\nHost: a\r\n\r\n").head();
    let mut waiting = edge.connect();
    waiting.send("GET /wait=1000 HTTP/1.1\r\nHost: a\r\n\r\n");
    std::thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    edge.signal("TERM");
    edge.wait_log("draining", 1);
    // An idle connection may still bring one request, and is told that it was the last.
    let last = idle.get("/name");
    assert_eq!((last.status, last.body.as_str()), (200, "a"));
    assert!(idle.is_closed());
    assert_eq!(busy.bytes(10), "first-last");
    let waited = waiting.reply("GET");
    assert_eq!((waited.status, waited.field("connection")), (200, Some("close")));
    edge.wait_log("tidegate has ended", 1);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(edge.wait_end());
}

#[test]
fn a_drain_has_an_end_and_a_second_signal_too() {
    let origin = Origin::start("a");
    let mut edge = Edge::start(origin.address, |config| config["timeouts"] = json!({ "drain": "1s" }));
    edge.connect().send("GET /wait=90000 HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut open = edge.connect();
    open.send("GET /wait=90000 HTTP/1.1\r\nHost: a\r\n\r\n");
    std::thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    edge.signal("TERM");
    edge.wait_log("tidegate has ended", 1);
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(20), "{took:?}");
    assert!(edge.wait_end());

    let mut edge = Edge::start(origin.address, |_| {});
    let mut open = edge.connect();
    open.send("GET /wait=90000 HTTP/1.1\r\nHost: a\r\n\r\n");
    std::thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    edge.signal("INT");
    edge.wait_log("draining", 1);
    edge.signal("INT");
    edge.wait_log("tidegate has ended", 1);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(edge.wait_end());
}

#[test]
fn http2_connections_drain_too() {
    let origin = Origin::start("a");
    let mut edge = Edge::start(origin.address, |_| {});
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| edge.curl(&["--http2"], "/wait=1200"));
        wait_for(
            "the request",
            || if origin.requests.load(Ordering::SeqCst) > 0 { Ok(()) } else { Err(String::new()) },
        );
        edge.signal("TERM");
        assert_eq!(slow.join().unwrap(), "waited");
    });
    assert!(edge.wait_end());
}

#[test]
fn bad_configs_do_not_start() {
    let directory = std::env::temp_dir().join(format!("tidegate-bad-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("tidegate.json");
    let listener = json!({ "name": "a", "address": "127.0.0.1:0", "protocol": "https" });
    let config = json!({ "listeners": [listener], "certificates": [{ "cert": "no.pem", "key": "no.pem" }],
        "routes": [{ "upstream": "o" }], "gate": { "enabled": false },
        "upstreams": { "o": { "servers": ["https://127.0.0.1:1"], "ca": "none.pem" } } });
    std::fs::write(&file, config.to_string()).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["run", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    let _ = std::fs::remove_dir_all(&directory);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("/certificates/0") && said.contains("no.pem"), "{said}");
    assert!(said.contains("/upstreams/o/ca") && said.contains("none.pem"), "{said}");
}

/// Clients that ask one request after the other over kept connections, and count.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    clients: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(edge: &Edge, clients: usize) -> Self {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let address = edge.http;
        let one = |_| {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            std::thread::spawn(move || {
                let mut failed = Vec::new();
                let mut client = Client::connect(address);
                while !stop.load(Ordering::SeqCst) {
                    let reply = client.get("/name");
                    if reply.status == 200 && reply.body == "a" {
                        served.fetch_add(1, Ordering::SeqCst);
                    } else {
                        failed.push(format!("{reply:?}"));
                    }
                    if reply.status == 0 || reply.field("connection") == Some("close") {
                        client = Client::connect(address);
                    }
                }
                failed
            })
        };
        let clients = (0..clients).map(one).collect();
        Self { stop, served, clients }
    }

    fn stop(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::SeqCst);
        let failed = self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (self.served.load(Ordering::SeqCst), failed)
    }
}
