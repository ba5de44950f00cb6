//! QUIC connections whose life is not quiet, by a foreign client (the `PyPI` package aioquic): they move to another address, begin
//! while many others do, and end in order when the daemon does.

use serde_json::{Value, json};

use crate::edge::Edge;
use crate::origin::Origin;
use crate::python::{self, Program};

/// `H3_NO_ERROR` (RFC 9114 section 8.1).
const NO_ERROR: u64 = 0x100;

fn said(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_connection_goes_on_from_another_address() {
    let origin = Origin::start("a");
    // One worker: which of several gets a packet from elsewhere is for the kernel half to say.
    let edge = Edge::start(origin.address, |config| config["workers"] = json!(1));
    let seen = said(&python::run("h3_moves.py", &["migrate", &edge.https.to_string()]));
    assert_eq!(seen["before"]["status"], 200, "{seen}");
    let after = seen["after"].as_array().unwrap();
    assert!(after.len() == 4 && after.iter().all(|answer| answer["status"] == 200), "{seen}");
    assert_eq!(after[3]["text"], 2_000_000);
    assert!(seen["received"].as_u64() > Some(1_000), "answers went to the first address: {seen}");
    // It stays the connection of the client that began it.
    assert!(after[0]["text"].as_str().unwrap().contains("x-forwarded-for: 127.0.0.1\n"), "{seen}");
    assert!(edge.access_log(5).iter().all(|line| line["client"] == edge.access_log(5)[0]["client"]));
}

#[test]
fn where_many_handshakes_hang_a_client_has_to_show_its_address_first() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |config| {
        config["workers"] = json!(1);
        // None of those that hang is given up before the last has begun.
        config["timeouts"] = json!({ "handshake": "10m", "idle": "10m" });
    });
    let few = said(&python::run("h3_moves.py", &["retry", &edge.https.to_string(), "0"]));
    assert_eq!((&few["status"], &few["retried"]), (&json!(200), &json!(false)), "{few}");
    let many = said(&python::run("h3_moves.py", &["retry", &edge.https.to_string(), "1300"]));
    assert_eq!((&many["status"], &many["retried"]), (&json!(200), &json!(true)), "{many}");
}

#[test]
fn a_drain_says_which_requests_it_takes() {
    let origin = Origin::start("a");
    let mut edge = Edge::start(origin.address, |config| config["workers"] = json!(1));
    let mut client = Program::start("h3_moves.py", &["drain", &edge.https.to_string()]);
    assert_eq!(client.line(), "open");
    edge.signal("TERM");
    let seen = said(&client.line());
    // The stream behind the one that is open, which is served; what comes later is not (RFC 9114 section 5.2).
    assert_eq!(seen["goaway"], 4, "{seen}");
    assert_eq!((&seen["slow"]["text"], &seen["slow"]["error"]), (&json!("first-last"), &Value::Null), "{seen}");
    assert_eq!(seen["late"]["error"], "reset 0x10b", "{seen}");
    assert_eq!(seen["code"].as_u64(), Some(NO_ERROR), "{seen}");
    assert!(edge.wait_end());
}
