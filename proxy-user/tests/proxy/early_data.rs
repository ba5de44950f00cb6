//! Early data (0-RTT) over QUIC by a foreign client (the `PyPI` package aioquic): what goes on in it, what is answered 425, and
//! that nothing can be played again.

use serde_json::{Value, json};

use crate::edge::Edge;
use crate::origin::Origin;
use crate::python::Program;

fn start(change: impl FnOnce(&mut Value)) -> (Origin, Edge) {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |config| {
        config["tls"] = json!({ "early_data": true });
        change(config);
    });
    (origin, edge)
}

fn client(edge: &Edge) -> Program {
    Program::start("h3_early.py", &[&edge.https.to_string()])
}

fn ask(client: &mut Program, line: &str) -> Value {
    let said = client.ask(line);
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{line}: {error}: {said}"))
}

#[test]
fn safe_requests_go_on_at_once_and_others_are_told_that_it_is_too_early() {
    let (_origin, edge) = start(|_| {});
    let mut client = client(&edge);
    let first = ask(&mut client, "first");
    assert_eq!((first["status"].as_u64(), first["tickets"].as_u64()), (Some(200), Some(2)), "{first}");

    let early = ask(&mut client, "early /see GET POST OPTIONS DELETE");
    assert_eq!((&early["accepted"], &early["resumed"]), (&json!(true), &json!(true)), "{early}");
    let statuses: Vec<_> = (0..4).map(|at| early["answers"][at]["status"].as_u64().unwrap_or(0)).collect();
    assert_eq!(statuses, [200, 425, 200, 425], "{early}");
    let seen = early["answers"][0]["text"].as_str().unwrap();
    assert!(seen.contains("\nearly-data: 1\n"), "{seen}");
    assert_eq!(early["later"], 200, "a POST when the handshake is done");
    let log = edge.access_log(6);
    assert_eq!(log.iter().filter(|line| line["error"] == "downstream.too_early").count(), 2, "{log:?}");

    // The same packets from somebody who has seen them: they are answered by a handshake that he cannot end.
    let again = ask(&mut client, "replay");
    assert!(again["packets"].as_u64() >= Some(1) && again["received"].as_u64() > Some(0), "{again}");

    // Who does not show his address waits for the handshake's end, and may ask for anything then.
    ask(&mut client, "first");
    let unproven = ask(&mut client, "unproven /see POST");
    assert_eq!(unproven["answers"][0]["status"], 200, "{unproven}");
    let seen = unproven["answers"][0]["text"].as_str().unwrap();
    assert!(seen.starts_with("POST /see") && !seen.contains("early-data"), "{seen}");
    // Requests: 1 + 5, 1, 1 + 1. What was played again is none of them.
    let log = edge.access_log(9);
    assert_eq!(log.iter().filter(|line| line["path"] == "/see").count(), 5, "{log:?}");
}

#[test]
fn an_origin_may_say_that_it_is_too_early_and_rules_see_it() {
    let policy = json!({ "schema": "tidegate.policy/v1", "id": "p", "rules": [
        { "id": "late", "when": "tls.early_data and http.request.uri.path eq \"/no\"", "action": { "type": "block" } },
    ] });
    let file = std::env::temp_dir().join(format!("tidegate-early-{}.json", std::process::id()));
    std::fs::write(&file, policy.to_string()).unwrap();
    let (_origin, edge) = start(|config| config["policies"] = json!([file]));
    std::fs::remove_file(file).unwrap();
    let mut client = client(&edge);
    ask(&mut client, "first");
    let early = ask(&mut client, "early /status=425 GET");
    assert_eq!((&early["answers"][0]["status"], &early["later"]), (&json!(425), &json!(200)), "{early}");
    let early = ask(&mut client, "early /no GET");
    assert_eq!((&early["accepted"], &early["answers"][0]["status"]), (&json!(true), &json!(403)), "{early}");
}

#[test]
fn sessions_with_early_data_end_with_the_daemon_and_with_the_setting() {
    let (_origin, mut edge) = start(|_| {});
    let mut client = client(&edge);
    for round in 0..2 {
        ask(&mut client, "first");
        if round == 0 {
            edge.restart();
        } else {
            edge.reload(|config| config["tls"] = json!({}));
            edge.wait_log("reloaded", 1);
        }
        let fresh = ask(&mut client, "fresh");
        assert_eq!(
            (&fresh["status"], &fresh["resumed"], &fresh["accepted"]),
            (&json!(200), &json!(false), &json!(false))
        );
    }
}
