//! Lists that are edited while the daemon runs, and policies that are compared over its access log.

use serde_json::{Value, json};

use crate::edge::{Edge, wait_for};
use crate::origin::Origin;

/// A daemon whose policy blocks sources of one list and hosts of another.
fn start() -> (Origin, Edge) {
    let origin = Origin::start("a");
    let mut edge = Edge::start(origin.address, |_| {});
    let policy = json!({ "schema": "tidegate.policy/v1", "id": "p",
        "lists": { "bad": { "type": "cidr", "items": ["192.0.2.0/24"] }, "hosts": { "type": "string", "items": ["evil.test"] } },
        "rules": [
            { "id": "source", "when": "ip.src in $bad and http.request.uri.path ne \"/spared\"", "action": { "type": "block" } },
            { "id": "host", "when": "http.host in $hosts", "action": { "type": "block", "status": 410 } },
        ] });
    std::fs::write(edge.directory().join("p.json"), policy.to_string()).unwrap();
    edge.reload(|config| config["policies"] = json!(["p.json"]));
    edge.wait_log("reloaded", 1);
    (origin, edge)
}

fn done(edge: &Edge, words: &[&str]) -> String {
    let (code, said) = edge.ask(words);
    assert_eq!(code, 0, "{words:?}: {said}");
    said
}

fn status(edge: &Edge, host: &str) -> u16 {
    edge.connect().send(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).reply("GET").status
}

#[test]
fn items_come_and_go_and_stay_over_reloads_and_restarts() {
    let (_origin, mut edge) = start();
    assert_eq!((status(&edge, "a.test"), status(&edge, "evil.test")), (200, 410));
    let said = done(&edge, &["list", "add", "p/bad", "127.0.0.1", "198.51.100.0/24"]);
    assert!(said.contains("2 added, 0 removed"), "{said}");
    assert_eq!(status(&edge, "a.test"), 403);
    done(&edge, &["list", "remove", "p/bad", "127.0.0.1/32"]);
    done(&edge, &["list", "remove", "p/hosts", "evil.test"]);
    done(&edge, &["list", "add", "p/hosts", "other.test", "--ttl", "1d"]);
    let now = |edge: &Edge| ["a.test", "evil.test", "other.test"].map(|host| status(edge, host));
    assert_eq!(now(&edge), [200, 200, 410]);
    done(&edge, &["reload"]);
    assert_eq!(now(&edge), [200, 200, 410], "over a reload");
    edge.restart();
    assert_eq!(now(&edge), [200, 200, 410], "over a restart");

    let all: Value = serde_json::from_str(&done(&edge, &["list", "show", "--json"])).unwrap();
    assert_eq!(all["lists"][0], json!({ "name": "p/bad", "type": "cidr", "items": 1, "added": 1, "removed": 0 }));
    assert_eq!(all["lists"][1], json!({ "name": "p/hosts", "type": "string", "items": 1, "added": 1, "removed": 1 }));
    let said = done(&edge, &["list", "show", "p/hosts"]);
    assert!(said.contains("- evil.test\n") && said.contains("+ other.test  until 20"), "{said}");
    done(&edge, &["list", "add", "p/hosts", "evil.test"]);
    assert!(!done(&edge, &["list", "show", "p/hosts"]).contains("evil.test"), "what the policy says is no edit");
    assert_eq!(now(&edge), [200, 410, 410]);

    std::fs::write(edge.directory().join("feed.txt"), "# a feed\n127.0.0.0/8\n\n203.0.113.7 # one\n").unwrap();
    assert!(done(&edge, &["list", "add", "p/bad", "--file", "feed.txt"]).contains("2 added"));
    assert_eq!(status(&edge, "a.test"), 403);
}

#[test]
fn items_go_when_their_time_is_over() {
    let (_origin, edge) = start();
    done(&edge, &["list", "add", "p/bad", "127.0.0.0/8", "--ttl", "2s"]);
    wait_for("the item's end", || match status(&edge, "a.test") {
        200 => Ok(()),
        other => Err(other.to_string()),
    });
    let said = done(&edge, &["list", "show", "p/bad", "--json"]);
    let shown: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&shown["edits"], &shown["lists"][0]["added"]), (&json!([]), &json!(0)));
}

#[test]
fn what_cannot_be_edited_is_told_and_changes_nothing() {
    let (_origin, edge) = start();
    for (words, expected) in [
        (&["list", "add", "p/bad", "127.0.0.1", "nobody"][..], "nobody"),
        (&["list", "add", "p/bda", "127.0.0.1"], "did you mean `p/bad`?"),
        (&["list", "add", "bad", "127.0.0.1"], "not the name of a list"),
        (&["list", "add", "p/bad", "127.0.0.1", "--ttl", "0s"], "a time of zero"),
        (&["list", "add", "p/bad", "--file", "none.txt"], "none.txt"),
        (&["list", "show", "p/none"], "has the list `p/none`"),
    ] {
        let (code, said) = edge.ask(words);
        assert!(code == 1 && said.contains(expected), "{words:?}: {said}");
    }
    assert_eq!(status(&edge, "a.test"), 200);
    let log = std::fs::read_to_string(edge.directory().join("state/policies/audit.jsonl")).unwrap();
    let refused = log.lines().filter(|line| line.contains("\"act\":\"list\",\"outcome\":\"refused\"")).count();
    assert_eq!(refused, 2, "what reached the list: {log}");
}

#[test]
fn two_sets_are_compared_over_the_access_log() {
    let (_origin, edge) = start();
    for host in ["a.test", "evil.test", "evil.test"] {
        status(&edge, host);
    }
    edge.access_log(3);
    let policy = json!({ "schema": "tidegate.policy/v1", "id": "p", "rules": [
        { "id": "here", "when": "ip.src in {127.0.0.0/8} and http.host eq \"a.test\"", "action": { "type": "block" } }] });
    std::fs::write(edge.directory().join("new.json"), policy.to_string()).unwrap();
    let said = done(&edge, &["policy", "diff", "new.json", "--traffic", "access.log"]);
    for part in [
        "2 requests block by p/host -> pass\n",
        "1 request pass -> block by p/here\n",
        "GET evil.test/ from 127.0.0.1",
        "3 requests read, 0 decided alike",
        "3 without recorded headers",
    ] {
        assert!(said.contains(part), "{part} is missing in {said}");
    }
    let found = done(&edge, &["policy", "diff", "p.json", "--traffic", "access.log", "--json"]);
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!((&found["same"], &found["shifts"]), (&json!(3), &json!([])));
    let (code, said) = edge.ask(&["policy", "diff", "new.json", "--traffic", "none.log"]);
    assert!(code == 1 && said.contains("none.log"), "{said}");
}
