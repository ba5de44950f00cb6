//! Streams that harm, by foreign clients (the `PyPI` packages h2 and aioquic): windows that stay closed, resets, header blocks
//! that grow when they are read. What is done is named, memory stays where it was, and good clients go on.

use serde_json::{Value, json};

use crate::edge::Edge;
use crate::origin::Origin;
use crate::python;

/// What all of a test's bombs together may take of the daemon's memory; each would be as large as this if it were believed.
const MEMORY: u64 = 64 << 20;
/// `CANCEL` of HTTP/2.
const CANCEL: u64 = 8;
/// `H3_EXCESSIVE_LOAD`
const EXCESSIVE_LOAD: u64 = 0x107;

fn harm(edge: &Edge, version: u8, mode: &str, word: &str) -> Value {
    let (program, address) = if version == 2 { ("h2_abuse.py", edge.http) } else { ("h3_abuse.py", edge.https) };
    let said = python::run(program, &[mode, &address.to_string(), word]);
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{mode}: {error}: {said}"))
}

#[test]
fn a_window_that_stays_closed_ends_its_stream_and_no_other() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |config| {
        config["workers"] = json!(1);
        config["timeouts"] = json!({ "send": "500ms" });
    });
    for (times, (version, path)) in [(2, "/name"), (2, "/large=5000000"), (3, "/large=5000000")].into_iter().enumerate()
    {
        let how = harm(&edge, version, "window", path);
        assert_eq!(how["ended"], "reset", "{version} {path}: {how}");
        if version == 2 {
            assert_eq!((how["code"].as_u64(), how["after"].as_str()), (Some(CANCEL), Some("answered")), "{how}");
        }
        edge.wait_log("\"kind\":\"slow_read\"", times + 1);
        assert_eq!(edge.get("/name").status, 200);
    }
}

#[test]
fn resets_and_pings_over_quic_end_their_connection() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |config| config["workers"] = json!(1));
    for (mode, count, kind) in [("resets", "20000", "resets"), ("pings", "200000", "ping")] {
        let how = harm(&edge, 3, mode, count);
        assert_eq!(
            (how["ended"].as_str(), how["code"].as_u64()),
            (Some("closed"), Some(EXCESSIVE_LOAD)),
            "{mode}: {how}"
        );
        edge.wait_log(&format!("\"kind\":\"{kind}\""), 1);
    }
    assert_eq!(edge.get("/name").status, 200);
}

#[test]
fn instructions_for_tables_that_nobody_has_end_the_connection() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |config| config["workers"] = json!(1));
    for (mode, word, code) in [
        // A capacity, where none was offered; an insert; nothing, said twice.
        ("encoder", "3fe11f", Some(0x201)),
        ("encoder", "4161", Some(0x201)),
        ("encoder", "2020?", None),
        // Blocks acknowledged that nobody sent; streams that are given up.
        ("decoder", "84", Some(0x202)),
        ("decoder", "01", Some(0x202)),
        ("decoder", "447f8001?", None),
        ("closes", "encoder", Some(0x104)),
        ("closes", "decoder", Some(0x104)),
    ] {
        let how = harm(&edge, 3, mode, word);
        let ended = if code.is_some() { "closed" } else { "answered" };
        assert_eq!((how["ended"].as_str(), how["code"].as_u64()), (Some(ended), code), "{mode} {word}: {how}");
    }
    edge.wait_log("\"kind\":\"malformed\"", 4);
    assert_eq!(edge.get("/name").status, 200);
}

#[test]
fn header_blocks_that_grow_take_no_memory() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |config| {
        config["workers"] = json!(1);
        // What nobody reads further is let go then.
        config["timeouts"] = json!({ "header": "3s" });
    });
    assert_eq!(edge.get("/name").status, 200);
    let before = edge.peak_memory();
    // 20,000 references of a byte to a field of 3,900.
    for _ in 0..3 {
        let how = harm(&edge, 2, "bomb", "20000");
        assert!(how["ended"] == "closed", "{how}");
    }
    edge.wait_log("\"kind\":\"large_header\"", 3);
    let how = harm(&edge, 2, "tables", "200");
    assert_eq!((how["ended"].as_str(), how["streams"].as_u64()), (Some("answered"), Some(200)), "{how}");
    for (mode, word) in [("insert", "10000"), ("bomb", "60000"), ("header", "256"), ("settings", "256")] {
        let how = harm(&edge, 3, mode, word);
        assert!(how["ended"] != "open" && how["status"] != 200, "{mode}: {how}");
        let taken = edge.peak_memory().saturating_sub(before);
        assert!(taken < MEMORY, "{mode} took {taken} bytes: {how}");
    }
    edge.wait_log("\"kind\":\"large_header\"", 5);
    assert_eq!(edge.get("/name").status, 200);
}
