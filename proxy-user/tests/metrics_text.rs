//! The metrics listener over real TCP: the text is sound, complete, and holds what the workers counted.

#[path = "support/state.rs"]
mod state;
mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proxy_user::control;
use proxy_user::metrics::CONTENT_TYPE;
use proxy_user::stats::bump;
use state::shared;
use support::Scratch;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn ask(address: SocketAddr, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), head.to_owned(), body.to_owned())
}

/// Checks one sample line, `name{label="value",…} number`, and returns the name.
fn sample(line: &str) -> &str {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
    assert!(value.parse::<f64>().is_ok(), "not a number: {line}");
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}').unwrap_or_else(|| panic!("open labels: {line}"))),
        None => (series, ""),
    };
    assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "name: {line}");
    assert!(name.starts_with("tidegate_"), "prefix: {line}");
    for label in labels.split(',').filter(|l| !l.is_empty()) {
        let (key, value) = label.split_once('=').unwrap_or_else(|| panic!("label: {line}"));
        assert!(!key.is_empty() && value.len() >= 2 && value.starts_with('"') && value.ends_with('"'), "label: {line}");
    }
    name
}

#[tokio::test]
async fn every_line_is_sound_and_the_figures_are_the_workers() {
    let scratch = Scratch::new("metrics");
    let (shared, _commands) = shared(&scratch);
    shared.stats[0].accepting.store(true, Ordering::Relaxed);
    bump(&shared.stats[0].accepted, 11);
    bump(&shared.stats[1].active, 4);
    bump(&shared.stats[1].requests[1], 9);
    shared.stats[0].outcomes.finish(200, Duration::from_micros(700));
    shared.stats[1].outcomes.finish(503, Duration::from_secs(60));
    let handle = control::start(shared).unwrap();
    let address = handle.metrics().unwrap();

    let (status, head, body) = ask(address, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(status, 200, "{head}");
    assert!(head.contains(CONTENT_TYPE), "{head}");
    assert!(body.ends_with("# EOF\n"), "{body}");
    let mut names = BTreeSet::new();
    let mut described = BTreeSet::new();
    for line in body.lines() {
        match line.strip_prefix("# ") {
            Some("EOF") => {}
            Some(comment) => {
                let (kind, rest) = comment.split_once(' ').unwrap();
                assert!(["HELP", "TYPE", "UNIT"].contains(&kind), "{line}");
                if kind == "TYPE" {
                    let new = described.insert(rest.split(' ').next().unwrap());
                    assert!(new, "described twice: {line}");
                }
            }
            None => {
                names.insert(sample(line));
            }
        }
    }
    for name in &names {
        let family = ["_total", "_sum", "_count", "_bucket", "_info"].iter().find_map(|s| name.strip_suffix(s));
        assert!(described.contains(family.unwrap_or(name)) || described.contains(name), "{name} has no type");
    }
    let expected = [
        "tidegate_build_info{version=",
        "tidegate_connections_accepted_total{worker=\"0\"} 11\n",
        "tidegate_connections_active{worker=\"1\"} 4\n",
        "tidegate_requests_total{worker=\"1\",version=\"h2\"} 9\n",
        "tidegate_responses_total{worker=\"0\",class=\"2xx\"} 1\n",
        "tidegate_responses_total{worker=\"1\",class=\"5xx\"} 1\n",
        "tidegate_request_duration_seconds_count 2\n",
        "tidegate_request_duration_seconds_bucket{le=\"0.0005\"} 0\n",
        "tidegate_request_duration_seconds_bucket{le=\"0.001\"} 1\n",
        "tidegate_request_duration_seconds_bucket{le=\"10.0\"} 1\n",
        "tidegate_request_duration_seconds_bucket{le=\"+Inf\"} 2\n",
        "tidegate_blocked_total{worker=\"0\"} 0\n",
        "tidegate_verdicts_pushed_total{",
        "tidegate_push_refused_total{",
        "tidegate_tls_errors_total{",
        "tidegate_upstream_errors_total{",
        "tidegate_upstream_connects_total{",
        "tidegate_upstream_reused_total{",
        "tidegate_worker_accepting{worker=\"0\"} 1\n",
        "tidegate_worker_accepting{worker=\"1\"} 0\n",
        "tidegate_gate_loaded 0\n",
        "tidegate_generation 7\n",
    ];
    for text in expected {
        assert!(body.contains(text), "{text} is missing in\n{body}");
    }
}

#[tokio::test]
async fn only_metrics_are_served() {
    let scratch = Scratch::new("metrics-only");
    let (shared, _commands) = shared(&scratch);
    let handle = control::start(shared).unwrap();
    let address = handle.metrics().unwrap();
    assert_eq!(ask(address, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.0, 404);
    assert_eq!(ask(address, "GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n").await.0, 404);
    let (status, head, _) = ask(address, "POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(status, 405);
    assert!(head.to_lowercase().contains("allow: get, head"), "{head}");
    let (status, _, body) = ask(address, "HEAD /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!((status, body.as_str()), (200, ""));
    assert_eq!(ask(address, "\u{1}\u{2}\r\n\r\n").await.0, 400);
}
