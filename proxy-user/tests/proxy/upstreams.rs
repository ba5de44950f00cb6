//! Upstreams whose servers fail on purpose: who gets the requests, and what clients see of it.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::bad::{Bad, Way};
use crate::edge::{Client, Edge, wait_for};
use crate::origin::Origin;

const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy";

/// One worker, so that it alone counts; `upstream` beside the servers.
fn edge(servers: &[SocketAddr], upstream: Value) -> Edge {
    one_worker(servers, upstream, |_| {})
}

/// The same, changed.
pub fn one_worker(servers: &[SocketAddr], upstream: Value, change: impl FnOnce(&mut Value)) -> Edge {
    let servers: Vec<String> = servers.iter().map(|server| format!("http://{server}")).collect();
    Edge::start(([127, 0, 0, 1], 1).into(), |config| {
        config["workers"] = json!(1);
        config["upstreams"]["origin"] = upstream;
        config["upstreams"]["origin"]["servers"] = json!(servers);
        change(config);
    })
}

fn statuses(edge: &Edge, path: &str, count: usize) -> Vec<u16> {
    let mut client = Client::connect(edge.http);
    (0..count).map(|_| client.get(path).status).collect()
}

#[test]
fn what_a_server_does_not_answer_is_sent_to_another_within_the_budget() {
    for (answer, bad_status) in [("", 502), ("what?\r\n\r\n", 502), (UNAVAILABLE, 503)] {
        let (good, bad) = (Origin::start("good"), Bad::start(Way::Answer(answer)));
        let servers = [good.address, bad.address];
        let retries = json!({"attempts": 1, "on_status": [503], "per_second": 1000});
        let retrying = edge(&servers, json!({"retries": retries}));
        assert_eq!(statuses(&retrying, "/name", 10), [200; 10], "{answer:?}");
        assert_eq!(bad.requests(), 5, "{answer:?}");

        let without = edge(&servers, json!({}));
        let seen = statuses(&without, "/name", 10);
        assert_eq!(seen.iter().filter(|status| **status == bad_status).count(), 5, "{answer:?} {seen:?}");

        // A tenth of the requests may be sent again: twenty requests have one failure each to mend twice at most.
        let short =
            edge(&servers, json!({"retries": {"attempts": 1, "on_status": [503], "percent": 10, "per_second": 0}}));
        let mended = statuses(&short, "/name", 20).iter().filter(|status| **status == 200).count();
        assert_eq!(mended, 12, "{answer:?}");
        // What is not safe to repeat is not.
        let posted = (0..2).map(|_| {
            let request = "POST /name HTTP/1.1\r\nHost: first.test\r\nContent-Length: 1\r\n\r\nx";
            Client::connect(retrying.http).send(request).reply("POST").status
        });
        let posted: Vec<u16> = posted.collect();
        assert!(posted.contains(&200) && posted.contains(&bad_status), "{posted:?}");
    }
}

#[test]
fn a_server_that_fails_is_left_alone() {
    let (good, bad) = (Origin::start("good"), Bad::start(Way::Answer(UNAVAILABLE)));
    let balance = json!({"ejection": {"failures": 3, "for": "1h"}});
    let edge = edge(&[good.address, bad.address], json!({"balance": balance}));
    let seen = statuses(&edge, "/name", 40);
    assert_eq!(seen.iter().filter(|status| **status == 503).count(), 3, "{seen:?}");
    assert_eq!(bad.requests(), 3);
}

#[test]
fn probes_find_a_server_that_is_not_well() {
    let (good, bad) = (Origin::start("good"), Bad::start(Way::Answer(UNAVAILABLE)));
    let health = json!({"path": "/health", "every": "100ms", "fall": 1});
    let edge = edge(&[good.address, bad.address], json!({"health": health}));
    edge.wait_log("the server is not well", 1);
    let mut client = Client::connect(edge.http);
    for _ in 0..10 {
        assert_eq!(client.get("/name").body, "good");
    }
}

#[test]
fn a_key_stays_with_its_server() {
    let (first, second) = (Origin::start("first"), Origin::start("second"));
    let balance = json!({"prefer": "hash", "hash_by": {"header": "x-user"}});
    let edge = edge(&[first.address, second.address], json!({"balance": balance}));
    let of = |user: &str| {
        let request = format!("GET /name HTTP/1.1\r\nHost: first.test\r\nX-User: {user}\r\n\r\n");
        Client::connect(edge.http).send(&request).reply("GET").body
    };
    let users: Vec<String> = (0..32).map(|user| of(&user.to_string())).collect();
    assert!(users.iter().any(|name| name == "first") && users.iter().any(|name| name == "second"), "{users:?}");
    for (user, before) in users.iter().enumerate() {
        assert_eq!(of(&user.to_string()), *before);
    }
}

#[test]
fn weights_and_open_requests_decide() {
    let (first, second) = (Origin::start("first"), Origin::start("second"));
    let servers = [first.address, second.address];
    let weighted = edge(&servers, json!({"balance": {"weights": [3, 1]}}));
    let mut client = Client::connect(weighted.http);
    let names: Vec<String> = (0..40).map(|_| client.get("/name").body).collect();
    assert_eq!(names.iter().filter(|name| *name == "first").count(), 30, "{names:?}");

    let least = edge(&servers, json!({"balance": {"prefer": "least_requests"}}));
    let begun = || first.requests.load(Ordering::SeqCst) + second.requests.load(Ordering::SeqCst);
    let before = (first.requests.load(Ordering::SeqCst), begun());
    let mut slow = Client::connect(least.http);
    slow.send("GET /wait=4000 HTTP/1.1\r\nHost: first.test\r\n\r\n");
    wait_for("the slow request", || if begun() > before.1 { Ok(()) } else { Err("not there".to_owned()) });
    let other = if first.requests.load(Ordering::SeqCst) > before.0 { "second" } else { "first" };
    let mut client = Client::connect(least.http);
    // Only as long as the slow one is open for sure.
    assert!((0..5).all(|_| client.get("/name").body == other));
    assert_eq!(slow.reply("GET").body, "waited");
}

#[test]
fn a_full_upstream_says_so() {
    let origin = Origin::start("only");
    let edge = edge(&[origin.address], json!({"balance": {"max_requests": 1}}));
    let mut slow = Client::connect(edge.http);
    slow.send("GET /wait=4000 HTTP/1.1\r\nHost: first.test\r\n\r\n");
    let begun = || origin.requests.load(Ordering::SeqCst);
    wait_for("the slow request", || if begun() > 0 { Ok(()) } else { Err("not there".to_owned()) });
    assert_eq!(statuses(&edge, "/name", 1), [503]);
    assert_eq!(slow.reply("GET").body, "waited");
    assert_eq!(statuses(&edge, "/name", 2), [200; 2]);
}

#[test]
fn requests_wait_in_the_queue_of_a_full_upstream() {
    let origin = Origin::start("only");
    let queue = |time: &str| json!({"balance": {"max_requests": 1, "queue": {"requests": 1, "for": time}}});
    let waiting = |edge: &Edge| {
        wait_for("a request in the queue", || {
            let (_, said) = edge.ask(&["status", "--json"]);
            if said.contains("\"waiting\": 1") || said.contains("\"waiting\":1") { Ok(()) } else { Err(said) }
        });
    };
    let begun = |count: usize| {
        wait_for("a request at the origin", || if origin.requests() >= count { Ok(()) } else { Err(String::new()) });
    };
    let hold = "GET /hold HTTP/1.1\r\nHost: first.test\r\n\r\n";
    let patient = edge(&[origin.address], queue("1m"));
    let (mut first, mut second) = (Client::connect(patient.http), Client::connect(patient.http));
    first.send(hold);
    begun(1);
    second.send(hold);
    waiting(&patient);
    assert_eq!(statuses(&patient, "/name", 1), [503], "one more than may wait");
    origin.release();
    assert_eq!(first.reply("GET").body, "only");
    begun(2);
    origin.release();
    assert_eq!(second.reply("GET").body, "only");

    let hasty = edge(&[origin.address], queue("200ms"));
    let mut first = Client::connect(hasty.http);
    first.send(hold);
    begun(3);
    assert_eq!(statuses(&hasty, "/name", 1), [503], "waited in vain");
    origin.release();
    assert_eq!(first.reply("GET").body, "only");
    assert_eq!(statuses(&hasty, "/name", 2), [200; 2]);
}
