//! What is told of requests: metrics by route and upstream, log lines, traces, and how much the daemon logs.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use crate::edge::{Client, Edge, PATIENCE, free_port, wait_for};
use crate::origin::Origin;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[test]
fn routes_and_upstreams_are_counted_by_name() {
    let origin = Origin::start("first");
    let metrics = free_port();
    let mut edge = Edge::start(origin.address, |config| {
        config["admin"]["metrics"] = json!(metrics.to_string());
        let upstream = config["routes"][0]["upstream"].clone();
        config["upstreams"]["away"] = json!({"servers": ["http://127.0.0.1:1"]});
        config["routes"] = json!([
            {"name": "shop", "path": "/shop", "upstream": upstream},
            {"hosts": ["first.test"], "path": "/away", "upstream": "away"},
            {"path": "=/fine", "respond": {"body": "fine"}},
        ]);
    });
    let mut client = Client::connect(edge.http);
    for (path, status) in [("/shop/a", 200), ("/shop/b", 200), ("/away", 503), ("/fine", 200), ("/none", 404)] {
        assert_eq!(client.get(path).status, status, "{path}");
    }
    let told = |lines: &[&str]| {
        wait_for("metrics", || {
            let text = Client::connect(metrics).get("/metrics").body;
            if lines.iter().all(|line| text.lines().any(|found| found == *line)) { Ok(()) } else { Err(text) }
        });
    };
    told(&[
        r#"tidegate_route_responses_total{route="shop",class="2xx"} 2"#,
        r#"tidegate_route_responses_total{route="first.test/away",class="5xx"} 1"#,
        r#"tidegate_route_responses_total{route="*=/fine",class="2xx"} 1"#,
        r#"tidegate_route_duration_seconds_count{route="shop"} 2"#,
        r#"tidegate_upstream_responses_total{upstream="origin",class="2xx"} 2"#,
        r#"tidegate_upstream_responses_total{upstream="away",class="5xx"} 1"#,
        r#"tidegate_upstream_header_seconds_count{upstream="origin"} 2"#,
        r#"tidegate_upstream_header_seconds_count{upstream="away"} 0"#,
    ]);
    edge.reload(|config| config["routes"].as_array_mut().unwrap().truncate(1));
    edge.wait_log("reloaded", 1);
    assert_eq!(Client::connect(edge.http).get("/shop/c").status, 200);
    told(&[r#"tidegate_route_responses_total{route="shop",class="2xx"} 3"#]);
}

#[test]
fn log_lines_have_the_fields_that_were_asked_for() {
    let origin = Origin::start("first");
    let mut edge = Edge::start(origin.address, |config| {
        config["access_log"]["headers"] = json!(["User-Agent", "x-absent"]);
        config["routes"][0]["name"] = json!("all");
    });
    let asked = "GET /a?b=%22 HTTP/1.1\r\nHost: first.test\r\nUser-Agent: probe \"1\"\r\nReferer: http://x/\r\n\r\n";
    assert_eq!(Client::connect(edge.http).send(asked).reply("GET").status, 200);
    let line = edge.access_log(1).remove(0);
    assert_eq!((&line["route"], &line["headers"]), (&json!("all"), &json!({"user-agent": "probe \"1\""})));
    assert_eq!(line.get("trace"), None);

    edge.reload(|config| config["access_log"] = json!({"file": "combined.log", "format": "combined"}));
    edge.wait_log("reloaded", 1);
    assert_eq!(Client::connect(edge.http).send(asked).reply("GET").status, 200);
    let text = wait_for("a line", || {
        let text = std::fs::read_to_string(edge.directory().join("combined.log")).unwrap_or_default();
        if text.ends_with('\n') { Ok(text) } else { Err(text) }
    });
    let (before, rest) = text.split_once(" - - [").unwrap();
    let (time, rest) = rest.split_once("] ").unwrap();
    assert_eq!(before, "127.0.0.1");
    assert!(jiff::fmt::strtime::parse("%d/%b/%Y:%H:%M:%S %z", time).is_ok(), "{time}");
    let (request, rest) = rest.split_once(" 200 ").unwrap();
    assert_eq!(request, r#""GET /a?b=%22 HTTP/1.1""#);
    let (bytes, rest) = rest.split_once(' ').unwrap();
    assert!(bytes.parse::<u64>().unwrap() > 0, "{bytes}");
    assert_eq!(rest, "\"http://x/\" \"probe \\x221\\x22\"\n");
}

/// A collector: answers each export with 200, and tells what it was sent.
fn collector() -> (SocketAddr, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            let (mut head, mut length) = (String::new(), 0);
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {
                let line = head.lines().last().unwrap_or_default().to_lowercase();
                length = line.strip_prefix("content-length: ").map_or(length, |value| value.parse().unwrap());
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            if tell.send((head, serde_json::from_slice(&body).unwrap())).is_err() {
                return;
            }
        }
    });
    (address, told)
}

/// The value of `traceparent` that the origin saw.
fn passed_on(client: &mut Client, sent: &str) -> String {
    let head = client.send(&format!("GET /seen HTTP/1.1\r\nHost: first.test\r\n{sent}\r\n")).reply("GET").body;
    let line = head.lines().find_map(|line| line.strip_prefix("traceparent: ")).unwrap_or_default();
    line.to_owned()
}

#[test]
fn each_request_has_a_span_that_its_origin_and_the_collector_learn_of() {
    let origin = Origin::start("first");
    let (address, told) = collector();
    let sent = format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\ntracestate: a=1\r\n");
    let mut edge = Edge::start(origin.address, |_| {});
    let untouched = passed_on(&mut Client::connect(edge.http), &sent);
    assert_eq!(untouched, format!("00-{TRACE}-00f067aa0ba902b7-01"));

    edge.reload(|config| {
        config["tracing"] = json!({"sample": 0.0, "accept": true, "otlp": format!("http://{address}")});
    });
    edge.wait_log("reloaded", 1);
    let mut client = Client::connect(edge.http);
    let own = passed_on(&mut client, "");
    assert!(own.starts_with("00-") && own.ends_with("-00") && own.len() == untouched.len(), "{own}");
    let joined = passed_on(&mut client, &sent);
    assert!(joined.starts_with(&format!("00-{TRACE}-")) && joined.ends_with("-01") && joined != untouched, "{joined}");
    // What was not sampled is not sent: the first span is the second request's.
    let (head, body) = told.recv_timeout(PATIENCE).unwrap();
    assert!(head.starts_with("POST /v1/traces HTTP/1.1"), "{head}");
    let span = &body["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    assert_eq!((&span["traceId"], &span["parentSpanId"]), (&json!(TRACE), &json!("00f067aa0ba902b7")));
    assert_eq!(span["spanId"], joined[36..52]);
    assert_eq!(span["name"], "GET */");
    let times = ["startTimeUnixNano", "endTimeUnixNano"].map(|key| span[key].as_str().unwrap().parse::<u64>().unwrap());
    assert!(times[0] <= times[1] && times[0] > 1_700_000_000_000_000_000, "{times:?}");
    let attribute = |key: &str| {
        let found = span["attributes"].as_array().unwrap().iter().find(|one| one["key"] == key);
        found.map(|one| one["value"].clone()).unwrap_or_default()
    };
    assert_eq!(attribute("http.response.status_code"), json!({"intValue": "200"}));
    assert_eq!(attribute("url.path"), json!({"stringValue": "/seen"}));
    // The first request has no trace; it was another connection's, and its line may come last.
    let lines: Vec<_> = edge.access_log(3).into_iter().filter(|line| line["trace"].is_string()).collect();
    let traces: Vec<_> = lines.iter().map(|line| line["trace"].as_str()).collect();
    assert_eq!(traces, [own.get(3..35), Some(TRACE)]);
    assert_eq!(attribute("tidegate.request_id"), json!({"stringValue": lines[1]["id"]}));

    edge.reload(|config| config["tracing"]["accept"] = json!(false));
    edge.wait_log("reloaded", 2);
    let replaced = passed_on(&mut Client::connect(edge.http), &sent);
    assert!(replaced.starts_with("00-") && !replaced.contains(TRACE), "{replaced}");
}

#[test]
fn the_log_says_more_while_it_is_asked_to() {
    let origin = Origin::start("first");
    let edge = Edge::start(origin.address, |_| {});
    assert_eq!(edge.ask(&["log"]), (0, "proxy_user=debug,info\n".to_owned()));
    let (status, said) = edge.ask(&["log", "proxy_user=loud"]);
    assert!(status != 0 && said.contains("is not a log filter"), "{said}");
    assert_eq!(edge.ask(&["log", "warn"]), (0, "warn\n".to_owned()));
    assert_eq!(edge.ask(&["log", "trace", "--for", "500ms"]), (0, "trace\n".to_owned()));
    wait_for("the filter before", || {
        let (_, said) = edge.ask(&["log", "--json"]);
        if said.contains("warn") { Ok(()) } else { Err(said) }
    });
}
