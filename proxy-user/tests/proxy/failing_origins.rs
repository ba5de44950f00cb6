//! Origins that refuse, hang, break off, answer garbage or close kept connections: what clients see of it, and that such a
//! server is left alone; and events that must not wait for each other.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::bad::{Bad, Way};
use crate::edge::{Client, Edge, free_port, wait_for};
use crate::origin::Origin;
use crate::upstreams::one_worker;

/// What one request of its own connection came to: the status, and whether the body was whole.
fn outcome(edge: &Edge) -> (u16, bool) {
    let mut client = Client::connect(edge.http);
    client.send("GET /name HTTP/1.1\r\nHost: first.test\r\nConnection: close\r\n\r\n");
    let head = client.head();
    let status = head.split(' ').nth(1).map_or(0, |status| status.parse().unwrap());
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut came = 0;
    while came < length.unwrap_or(0) && !client.is_closed() {
        came += 1;
    }
    (status, length == Some(came))
}

/// How a server stands.
fn standing(edge: &Edge, server: &str) -> Option<Value> {
    let (_, said) = edge.ask(&["status", "--json"]);
    let status: Value = serde_json::from_str(&said).ok()?;
    let servers = status["upstreams"][0]["servers"].as_array()?.clone();
    servers.into_iter().find(|found| found["server"].as_str().is_some_and(|name| name.contains(server)))
}

fn is_left_alone(edge: &Edge, server: &str) {
    wait_for("the server to be left alone", || match standing(edge, server) {
        Some(found) if found.to_string().contains("ejected") => Ok(()),
        found => Err(format!("{found:?}")),
    });
}

#[test]
fn whatever_way_a_server_fails_it_is_left_alone() {
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst";
    let chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\nnot a size\r\n";
    let ways = [
        (Way::Hang, (504, true)),
        (Way::Answer("what?\r\n\r\n"), (502, true)),
        (Way::Answer(""), (502, true)),
        (Way::Reset(""), (502, true)),
        (Way::Answer(half), (200, false)),
        // Or the reset has overtaken what was sent before.
        (Way::Reset(half), (200, false)),
        (Way::Answer(chunk), (200, false)),
    ];
    for (number, (way, seen)) in ways.into_iter().enumerate() {
        let (good, bad) = (Origin::start("good"), Bad::start(way));
        let ejection = json!({"balance": {"ejection": {"failures": 3, "for": "1h"}}});
        let edge = one_worker(&[good.address, bad.address], ejection, |config| {
            config["timeouts"] = json!({"response": "3s"});
        });
        let outcomes: Vec<_> = (0..20).map(|_| outcome(&edge)).collect();
        let overtaken = |outcome| matches!(way, Way::Reset(_)) && outcome == (502, true);
        let failed = outcomes.iter().filter(|outcome| **outcome == seen || overtaken(**outcome)).count();
        let fine = outcomes.iter().filter(|outcome| **outcome == (200, true)).count();
        assert_eq!((failed, fine, bad.requests()), (3, 17, 3), "way {number}: {outcomes:?}");
        is_left_alone(&edge, &bad.address.to_string());
    }
}

#[test]
fn a_server_that_refuses_costs_no_request_and_is_left_alone() {
    let good = Origin::start("good");
    let refusing = "127.0.0.1:1".parse().unwrap();
    let edge =
        one_worker(&[good.address, refusing], json!({"balance": {"ejection": {"failures": 1, "for": "1h"}}}), |_| {});
    for _ in 0..10 {
        assert_eq!(outcome(&edge), (200, true));
    }
    is_left_alone(&edge, "127.0.0.1:1");
}

#[test]
fn a_server_that_takes_nothing_of_a_body_is_given_up() {
    let deaf = Bad::start(Way::Deaf);
    let edge = one_worker(&[deaf.address], json!({}), |config| {
        config["timeouts"] = json!({"response": "1s"});
        config["limits"] = json!({"body": "128MiB"});
    });
    // More than all buffers on the way hold.
    let file = edge.directory().join("large");
    std::fs::write(&file, vec![b'x'; 64 << 20]).unwrap();
    // What curl thinks of an answer in the middle of its body is its own business.
    let url = format!("https://127.0.0.1:{}/large", edge.https.port());
    let body = format!("@{}", file.display());
    let curl =
        Command::new("curl").args(["-sSk", "--max-time", "60", "--http2", "--data-binary", &body, &url]).output();
    curl.expect("curl is needed: apt-get install curl");
    let line = &edge.access_log(1)[0];
    assert_eq!((&line["status"], &line["error"]), (&json!(504), &json!("upstream.response_timeout")), "{line}");
}

#[test]
fn closing_kept_connections_is_no_failure() {
    let origins = [Origin::start("one"), Origin::start("two")];
    let ejection = json!({"balance": {"ejection": {"failures": 1, "for": "1h"}}});
    let edge = one_worker(&[origins[0].address, origins[1].address], ejection, |_| {});
    let mut client = Client::connect(edge.http);
    for _ in 0..20 {
        assert_eq!(client.get("/answer-then-close").status, 200);
    }
    assert_eq!(origins.each_ref().map(Origin::requests), [10; 2]);
}

#[test]
fn a_second_server_answers_for_one_that_hangs() {
    let (good, bad) = (Origin::start("good"), Bad::start(Way::Hang));
    let metrics = free_port();
    let rules = json!({
        "hedge": {"after": "100ms"}, "retries": {"per_second": 1000},
        "balance": {"ejection": {"failures": 1, "for": "1h"}},
    });
    let edge = one_worker(&[good.address, bad.address], rules, |config| {
        config["admin"]["metrics"] = json!(metrics.to_string());
        config["timeouts"] = json!({"response": "3s"});
    });
    let mut client = Client::connect(edge.http);
    for _ in 0..10 {
        let reply = client.get("/name");
        assert_eq!((reply.status, reply.body.as_str()), (200, "good"));
    }
    // One request in two went there first, one failure would have been enough, and it would have been asked once.
    assert_eq!(bad.requests(), 5);
    let standing = wait_for("the server in the status", || {
        standing(&edge, &bad.address.to_string()).map(|found| found.to_string()).ok_or_else(String::new)
    });
    assert!(!standing.contains("ejected"), "{standing}");
    wait_for(
        "the other attempts to be given up",
        || if bad.left() == 5 { Ok(()) } else { Err(bad.left().to_string()) },
    );
    wait_for("the hedges in the metrics", || {
        let text = Client::connect(metrics).get("/metrics").body;
        let won = text.lines().filter(|line| line.starts_with("tidegate_upstream_hedges_won_total"));
        let won: u64 = won.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
        if won >= 5 { Ok(()) } else { Err(text) }
    });

    // What is not safe is not sent twice, and fails.
    let post = "POST /name HTTP/1.1\r\nHost: first.test\r\nContent-Length: 1\r\n\r\nx";
    let mut posted = [(); 2].map(|()| Client::connect(edge.http).send(post).reply("POST").status);
    posted.sort_unstable();
    assert_eq!((posted, bad.requests()), ([200, 504], 6));
}

#[test]
fn hedges_are_bounded_by_the_budget() {
    let (good, bad) = (Origin::start("good"), Bad::start(Way::Hang));
    let rules = json!({"hedge": {"after": "50ms"}, "retries": {"percent": 0, "per_second": 0}});
    let edge = one_worker(&[good.address, bad.address], rules, |config| {
        config["timeouts"] = json!({"response": "2s"});
    });
    let mut outcomes: Vec<u16> = (0..4).map(|_| outcome(&edge).0).collect();
    outcomes.sort_unstable();
    assert_eq!((outcomes.as_slice(), bad.requests()), ([200, 200, 504, 504].as_slice(), 2));
}

#[test]
fn events_come_as_they_are_sent() {
    let origin = Origin::start("events");
    let edge = Edge::start(origin.address, |_| {});
    for version in ["--http1.1", "--http2"] {
        let url = format!("https://127.0.0.1:{}/events", edge.https.port());
        let curl =
            Command::new("curl").args(["-sSkN", "--max-time", "60", version, &url]).stdout(Stdio::piped()).spawn();
        let mut curl = curl.expect("curl is needed: apt-get install curl");
        let mut events = BufReader::new(curl.stdout.take().unwrap()).lines();
        for number in 0..3 {
            // The origin sends the next one only now: had this one been kept back for more, it would never come.
            origin.release();
            assert_eq!(events.next().unwrap().unwrap(), format!("data: {number}"), "{version}");
            assert_eq!(events.next().unwrap().unwrap(), "", "{version}");
        }
        assert!(curl.wait().unwrap().success(), "{version}");
    }
}
