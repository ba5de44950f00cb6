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

#[test]
fn a_blocked_request_is_explained_by_the_id_in_its_answer() {
    let (_origin, edge) = start();
    let answer = edge.connect().send("GET /x?y=1 HTTP/1.1\r\nHost: evil.test\r\nX-Mark: 7\r\n\r\n").reply("GET");
    let id = answer.field("x-request-id").unwrap().to_owned();
    assert!(answer.body.contains(&id), "{}", answer.body);
    let said = done(&edge, &["explain", "--id", &id]);
    for part in [
        &format!("id        {id} at 20"),
        "request   GET http://evil.test/x?y=1 from 127.0.0.1 at clear\n",
        "p/source (request, block): no match\n",
        "p/host (request, block): match\n",
        "true  http.host in $hosts; saw \"evil.test\", in $hosts",
        "block 410 by p/host\n",
    ] {
        assert!(said.contains(part), "{part} is missing in {said}");
    }
    let told: Value = serde_json::from_str(&done(&edge, &["explain", "--id", &id, "--json"])).unwrap();
    assert_eq!(
        (&told["id"], &told["explanation"]["rule"], &told["reloaded"]),
        (&json!(id), &json!("p/host"), &json!(false))
    );
    done(&edge, &["list", "remove", "p/hosts", "evil.test"]);
    let said = done(&edge, &["explain", "--id", &id]);
    assert!(said.contains("loaded anew since then") || said.contains("block 410"), "{said}");
    let (code, said) = edge.ask(&["explain", "--id", "00000000000000000"]);
    assert!(code == 1 && said.contains("no request 00000000000000000 is kept"), "{said}");
}

#[test]
fn rules_are_rolled_out_by_percentage_and_stop_where_they_match_too_much() {
    let (_origin, mut edge) = start();
    let rules = json!([
        { "id": "wide", "when": "http.request.uri.path eq \"/wide\"", "action": { "type": "block" },
          "abort_if": { "match_percent": 10, "period": "1h", "requests": 20 } },
        { "id": "would", "when": "http.request.uri.path eq \"/would\"", "action": { "type": "block" }, "mode": "shadow" },
    ]);
    let policy = json!({ "schema": "tidegate.policy/v1", "id": "p", "rules": rules });
    std::fs::write(edge.directory().join("p.json"), policy.to_string()).unwrap();
    edge.reload(|_| {});
    edge.wait_log("reloaded", 2);
    let mut client = edge.connect();
    assert_eq!(client.get("/wide").status, 403);
    assert_eq!(client.get("/would").status, 200);
    for _ in 0..17 {
        assert_eq!(client.get("/name").status, 200);
    }
    assert_eq!(client.get("/wide").status, 403, "two of twenty");
    assert_eq!(client.get("/wide").status, 200, "three of twenty-one");
    edge.wait_log("it only counts from now on", 1);
    let counts: Value = serde_json::from_str(&done(&edge, &["policy", "rules", "--json"])).unwrap();
    let row = |n: usize| ["enforced", "would", "aborted"].map(|key| counts["rules"][n][key].clone());
    assert_eq!(row(0), [json!(2), json!(1), json!(true)]);
    assert_eq!(row(1), [json!(0), json!(1), json!(false)]);
    assert!(done(&edge, &["status"]).contains("p/wide only counts"));
    let said = done(&edge, &["policy", "rules"]);
    assert!(said.contains("p/wide") && said.contains("aborted") && said.contains("shadow"), "{said}");
}

#[test]
fn a_watched_file_is_taken_up_when_it_changes() {
    let origin = Origin::start("a");
    let mut edge = Edge::start(origin.address, |_| {});
    let rules = json!([{ "id": "host", "when": "http.host in $hosts", "action": { "type": "block", "status": 410 } }]);
    let tests = json!([{ "given": { "ip.src": "192.0.2.1", "http.host": "spared.test" }, "expect": "pass" }]);
    let lists = json!({ "hosts": { "type": "string", "file": "feeds/hosts.txt", "watch": true } });
    let policy = json!({ "schema": "tidegate.policy/v1", "id": "p", "lists": lists, "rules": rules, "tests": tests })
        .to_string();
    std::fs::write(edge.directory().join("p.json"), &policy).unwrap();
    let feeds = edge.directory().join("feeds");
    std::fs::create_dir(&feeds).unwrap();
    let put = |text: &str| {
        std::fs::write(feeds.join("new"), text).unwrap();
        std::fs::rename(feeds.join("new"), feeds.join("hosts.txt")).unwrap();
    };
    put("evil.test\n");
    edge.reload(|config| config["policies"] = json!(["p.json"]));
    edge.wait_log("reloaded", 1);
    let becomes = |edge: &Edge, wanted: [u16; 2]| {
        wait_for("the list", || {
            let found = ["evil.test", "other.test"].map(|host| status(edge, host));
            if found == wanted { Ok(()) } else { Err(format!("{found:?}")) }
        });
    };
    becomes(&edge, [410, 200]);
    put("evil.test\nother.test\n");
    becomes(&edge, [410, 410]);
    put("# no item\nother.test\n");
    becomes(&edge, [200, 410]);

    // What cannot be taken leaves the list as it was: no items, a test of the policy that fails, no file.
    put("# none\n");
    edge.wait_log("no item is left in it", 1);
    put("spared.test\n");
    edge.wait_log("was not taken up", 2);
    std::fs::remove_file(feeds.join("hosts.txt")).unwrap();
    edge.wait_log("was not taken up", 3);
    becomes(&edge, [200, 410]);
    put("evil.test\n");
    becomes(&edge, [410, 200]);
    let audit = std::fs::read_to_string(edge.directory().join("state/policies/audit.jsonl")).unwrap();
    assert!(audit.contains("feeds/hosts.txt: 1 items") && audit.contains("no item is left in it"), "{audit}");

    // Behind a link that is replaced, as mounted config maps have it.
    for (directory, host) in [("a", "other.test"), ("b", "evil.test")] {
        std::fs::create_dir(feeds.join(directory)).unwrap();
        std::fs::write(feeds.join(directory).join("hosts.txt"), host).unwrap();
    }
    let link = |to: &str| {
        std::os::unix::fs::symlink(to, feeds.join("link")).unwrap();
        std::fs::rename(feeds.join("link"), feeds.join("current")).unwrap();
    };
    link("a");
    std::os::unix::fs::symlink("current/hosts.txt", feeds.join("new")).unwrap();
    std::fs::rename(feeds.join("new"), feeds.join("hosts.txt")).unwrap();
    becomes(&edge, [200, 410]);
    link("b");
    becomes(&edge, [410, 200]);

    // An applied set brings its lists along; the files count again when the config's own policies do.
    done(&edge, &["policy", "apply", "p.json"]);
    link("a");
    done(&edge, &["reload"]);
    becomes(&edge, [410, 200]);
    done(&edge, &["policy", "apply"]);
    becomes(&edge, [200, 410]);
    link("b");
    becomes(&edge, [410, 200]);
}
