//! `tidegate explain --config`: what config and policies alone make of a packet, without a daemon, root or eBPF.

mod support;

use std::process::{Command, Output};

use serde_json::{Value, json};
use support::Scratch;

/// Ethernet and IPv4 headers, then TCP with these flags, from `src` to 192.0.2.1.
fn tcp(src: [u8; 4], port: u16, flags: u8) -> String {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0];
    bytes.extend(src);
    bytes.extend([192, 0, 2, 1, 0x9c, 0x40]);
    bytes.extend(port.to_be_bytes());
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    proxy_user::events::record::to_hex(&bytes)
}

fn explain(scratch: &Scratch, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.current_dir(scratch.path()).arg("explain").args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// A config whose certificates do not exist: no packet is decided by them.
fn write(scratch: &Scratch, scope: &str) {
    let config = json!({
        "listeners": [{"name": "web", "address": "192.0.2.1:443", "protocol": "https"}],
        "certificates": [{"cert": "none.pem", "key": "none.key"}],
        "routes": [{"upstream": "app"}],
        "upstreams": {"app": {"servers": ["http://127.0.0.1:9000"]}},
        "policies": ["p.json"],
        "gate": {"scope": scope},
    });
    let policy = json!({
        "schema": "tidegate.policy/v1", "id": "edge", "revision": 1,
        "rules": [
            {"id": "office", "when": "ip.src in {9.9.8.0/24}", "action": {"type": "allow"}},
            {"id": "scan", "when": "ip.src in {9.9.0.0/16}", "action": {"type": "drop"}},
            {"id": "odd", "when": "tcp.dstport eq 443 and ip.ttl eq 64 and ip.src eq 8.8.8.8", "action": {"type": "drop"}},
        ],
    });
    for (name, value) in [("edge.json", &config), ("p.json", &policy)] {
        std::fs::write(scratch.path().join(name), serde_json::to_string_pretty(value).unwrap()).unwrap();
    }
}

fn answers(scratch: &Scratch, packet: &str) -> Vec<Value> {
    let out = explain(scratch, &["--packet", packet, "--config", "edge.json", "--json"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("edge.json alone"), "{}", text(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn config_and_policies_decide_without_a_daemon() {
    const SYN: u8 = 2;
    let scratch = Scratch::new("explain-planned");
    // What no scope spares, then what the listeners' scope spares and the other does not.
    for (scope, rows) in [
        (
            "own",
            [
                ([9, 9, 9, 9], 443, SYN, "denied", Some("edge/scan")),
                ([9, 9, 9, 9], 22, SYN, "not_own", None),
                ([9, 9, 8, 1], 443, SYN, "allowed", Some("edge/office")),
                ([8, 8, 8, 8], 443, SYN, "rule", Some("edge/odd")),
                ([1, 1, 1, 1], 443, SYN, "pass", None),
                ([1, 1, 1, 1], 443, 0, "tcp_null", None),
                ([192, 0, 2, 1], 443, SYN, "spoofed_own", None),
            ],
        ),
        (
            "all",
            [
                ([9, 9, 9, 9], 443, SYN, "denied", Some("edge/scan")),
                ([9, 9, 9, 9], 22, SYN, "denied", Some("edge/scan")),
                ([9, 9, 8, 1], 22, SYN, "allowed", Some("edge/office")),
                ([8, 8, 8, 8], 80, SYN, "pass", None),
                ([1, 1, 1, 1], 22, SYN, "pass", None),
                ([1, 1, 1, 1], 22, 0, "tcp_null", None),
                ([127, 0, 0, 1], 22, SYN, "bogon", None),
            ],
        ),
    ] {
        write(&scratch, scope);
        for (src, port, flags, reason, rule) in rows {
            let told = answers(&scratch, &tcp(src, port, flags)).remove(0);
            assert_eq!((&told["reason"], &told["rule"]), (&json!(reason), &json!(rule)), "{scope} {src:?}: {told}");
        }
    }
}

#[test]
fn the_text_tells_each_step_and_the_key() {
    let scratch = Scratch::new("explain-text");
    write(&scratch, "own");
    let out = explain(&scratch, &["--packet", &tcp([9, 9, 9, 9], 443, 2), "--config", "edge.json"]);
    let said = text(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    for part in
        ["TCP 9.9.9.9:40000 -> 192.0.2.1:443", "DENY_A", "drop      reason denied, rule edge/scan, entry DENY_A"]
    {
        assert!(said.contains(part), "{part} is missing in\n{said}");
    }
}

#[test]
fn faults_are_told_and_end_with_1() {
    let scratch = Scratch::new("explain-faults");
    let packet = tcp([9, 9, 9, 9], 443, 2);
    let out = explain(&scratch, &["--packet", &packet, "--config", "none.json"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("none.json"), "{}", text(&out.stderr));
    write(&scratch, "own");
    std::fs::write(scratch.path().join("p.json"), r#"{"schema":"tidegate.policy/v1","id":"x","rules":[{"id":"a"}]}"#)
        .unwrap();
    let out = explain(&scratch, &["--packet", &packet, "--config", "edge.json"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("p.json:1:"), "{}", text(&out.stderr));
    let both = explain(&scratch, &["--packet", &packet, "--config", "edge.json", "--socket", "s"]);
    assert_eq!(both.status.code(), Some(2), "{}", text(&both.stderr));
}
