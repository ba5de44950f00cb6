//! Policies that come and go while the daemon runs: applied, refused, rolled back, held over restarts, and logged.

use serde_json::{Value, json};

use crate::edge::Edge;
use crate::origin::Origin;

/// A policy file in the daemon's directory that blocks a path; `condition` may be any.
fn write(edge: &Edge, name: &str, condition: &str) {
    let rules = json!([{ "id": "r", "when": condition, "action": { "type": "block" } }]);
    let policy = json!({ "schema": "tidegate.policy/v1", "id": name, "rules": rules });
    std::fs::write(edge.directory().join(format!("{name}.json")), serde_json::to_vec_pretty(&policy).unwrap()).unwrap();
}

fn path(path: &str) -> String {
    format!("http.request.uri.path eq \"{path}\"")
}

fn statuses(edge: &Edge) -> [u16; 3] {
    ["/a", "/b", "/c"].map(|path| edge.get(path).status)
}

/// A daemon whose config names `a.json`, which blocks `/a`; `b.json` and `c.json` lie beside it.
fn start() -> (Origin, Edge) {
    let origin = Origin::start("a");
    let mut edge = Edge::start(origin.address, |_| {});
    for name in ["a", "b", "c"] {
        write(&edge, name, &path(&format!("/{name}")));
    }
    edge.reload(|config| config["policies"] = json!(["a.json"]));
    edge.wait_log("reloaded", 1);
    assert_eq!(statuses(&edge), [403, 200, 200]);
    (origin, edge)
}

fn done(edge: &Edge, words: &[&str]) -> String {
    let (code, said) = edge.ask(words);
    assert_eq!(code, 0, "{words:?}: {said}");
    said
}

#[test]
fn applied_rolled_back_and_held_over_restarts() {
    let (_origin, mut edge) = start();
    let said = done(&edge, &["policy", "apply", "b.json", "c.json"]);
    assert!(said.contains("revision 2 is in force (2 rules, held"), "{said}");
    assert_eq!(statuses(&edge), [200, 403, 403]);
    done(&edge, &["policy", "apply", "c.json"]);
    assert_eq!(statuses(&edge), [200, 200, 403]);

    edge.restart();
    assert_eq!(statuses(&edge), [200, 200, 403], "held over a restart");
    let said = done(&edge, &["reload"]);
    assert!(said.contains("revision 3 of the policies stays"), "{said}");
    assert_eq!(statuses(&edge), [200, 200, 403], "and over a reload");

    done(&edge, &["policy", "rollback"]);
    assert_eq!(statuses(&edge), [200, 403, 403]);
    let said = done(&edge, &["policy", "rollback", "1"]);
    assert!(said.contains("revision 1 is in force"), "{said}");
    assert_eq!(statuses(&edge), [403, 200, 200]);
    let (code, said) = edge.ask(&["policy", "rollback"]);
    assert!(code == 1 && said.contains("no revision before 1 is kept"), "{said}");
    let (code, said) = edge.ask(&["policy", "rollback", "9"]);
    assert!(code == 1 && said.contains("there is no revision 9; 1 to 3 are kept"), "{said}");

    write(&edge, "a", &path("/b"));
    done(&edge, &["reload"]);
    assert_eq!(statuses(&edge), [403, 200, 200], "a rollback is held too");
    let said = done(&edge, &["policy", "apply"]);
    assert!(said.contains("revision 4 is in force (1 rule)"), "{said}");
    assert_eq!(statuses(&edge), [200, 403, 200], "the config's files");

    let history: Value = serde_json::from_str(&done(&edge, &["policy", "history", "--json"])).unwrap();
    assert_eq!((&history["current"], &history["held"]), (&json!(4), &json!(false)));
    let origins: Vec<&Value> = history["revisions"].as_array().unwrap().iter().map(|r| &r["origin"]).collect();
    assert_eq!(origins, ["reload", "apply", "apply", "reload"]);
    let uid = nix::unistd::getuid().as_raw();
    assert_eq!(history["revisions"][1]["who"]["uid"], json!(uid));
    assert_eq!(history["revisions"][0]["who"]["uid"], Value::Null, "a signal tells nobody");
    let shown = done(&edge, &["policy", "history"]);
    assert!(shown.lines().any(|line| line.starts_with("*  4")), "{shown}");
    assert!(done(&edge, &["status"]).contains("revision   4\n"));
}

#[test]
fn a_rollback_leads_to_what_was_in_force_before() {
    let (_origin, mut edge) = start();
    done(&edge, &["policy", "apply", "b.json"]);
    done(&edge, &["policy", "rollback"]);
    done(&edge, &["policy", "apply", "c.json"]);
    assert_eq!(statuses(&edge), [200, 200, 403]);
    // Not to `b`, which was taken back.
    let said = done(&edge, &["policy", "rollback"]);
    assert!(said.contains("revision 1 is in force"), "{said}");
    done(&edge, &["policy", "apply", "b.json"]);
    done(&edge, &["policy", "apply", "c.json"]);
    edge.restart();
    done(&edge, &["policy", "rollback"]);
    assert_eq!(statuses(&edge), [200, 403, 200], "a set that came in once more, over a restart");
    done(&edge, &["policy", "rollback"]);
    assert_eq!(statuses(&edge), [403, 200, 200]);
}

#[test]
fn what_has_faults_changes_nothing_and_everything_is_logged() {
    let (_origin, mut edge) = start();
    write(&edge, "bad", "htpp.host eq \"x\"");
    let (code, said) = edge.ask(&["policy", "apply", "b.json", "bad.json"]);
    assert_eq!(code, 1);
    for part in ["bad.json:", "/rules/0/when", "^^^^", "nothing was changed"] {
        assert!(said.contains(part), "{part} is missing in {said}");
    }
    assert_eq!(statuses(&edge), [403, 200, 200]);
    let (code, said) = edge.ask(&["policy", "apply", "b.json", "none.json"]);
    assert!(code == 1 && said.contains("none.json: No such file") && said.contains("nothing was sent"), "{said}");
    let history: Value = serde_json::from_str(&done(&edge, &["policy", "history", "--json"])).unwrap();
    assert_eq!(history["revisions"].as_array().unwrap().len(), 1, "what was refused is not kept");

    // Broken files at a start: what was in force before stays.
    std::fs::write(edge.directory().join("a.json"), "{").unwrap();
    edge.restart();
    edge.wait_log("those that were in force before stay", 1);
    assert_eq!(statuses(&edge), [403, 200, 200]);

    let verify = |edge: &Edge| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"));
        let output = command.args(["policy", "audit", "--verify", "--state"]).arg(edge.directory().join("state"));
        let output = output.output().unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (whole, said) = verify(&edge);
    assert!(whole && said.contains("whole: entries 1 to"), "{said}");
    let file = edge.directory().join("state/policies/audit.jsonl");
    let log = std::fs::read_to_string(&file).unwrap();
    let entries: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let refused: Vec<&Value> = entries.iter().filter(|entry| entry["outcome"] == "refused").collect();
    assert_eq!((refused.len(), &refused[0]["act"]), (1, &json!("apply")));
    assert!(refused[0]["detail"].as_str().unwrap().contains("bad.json:"), "{refused:?}");
    assert!(refused[0]["pid"].as_i64().is_some());
    std::fs::write(&file, log.replacen("\"outcome\":\"refused\"", "\"outcome\":\"done\"", 1)).unwrap();
    let (whole, said) = verify(&edge);
    assert!(!whole && said.contains("it was altered"), "{said}");
}

#[test]
fn a_held_revision_stays_where_the_store_cannot_be_opened() {
    let (_origin, mut edge) = start();
    done(&edge, &["policy", "apply", "b.json"]);
    let lock = edge.directory().join("state/policies/lock");
    std::fs::remove_file(&lock).unwrap();
    std::fs::create_dir(&lock).unwrap();
    edge.restart();
    edge.wait_log("policies are not kept", 1);
    assert_eq!(statuses(&edge), [200, 403, 200]);
    let said = done(&edge, &["reload"]);
    assert!(said.contains("revision 2 of the policies stays"), "{said}");
    assert_eq!(statuses(&edge), [200, 403, 200]);
}

#[test]
fn differences_are_shown_rule_by_rule() {
    let (_origin, edge) = start();
    write(&edge, "a", &path("/z"));
    let said = done(&edge, &["policy", "diff", "a.json", "b.json"]);
    for part in ["~ a\n", "~ rule r\n", "- when: http.request.uri.path eq \"/a\"", "eq \"/z\"", "+ b (1 rule)\n"] {
        assert!(said.contains(part), "{part} is missing in {said}");
    }
    done(&edge, &["policy", "apply", "a.json", "b.json"]);
    assert_eq!(done(&edge, &["policy", "diff", "a.json", "b.json"]), "nothing differs\n");
    let found: Value = serde_json::from_str(&done(&edge, &["policy", "diff", "--from", "1", "--json"])).unwrap();
    assert_eq!(
        found["policies"][1],
        json!({ "id": "b", "change": "added", "keys": [], "reordered": false, "lists": [],
        "rules": [{ "id": "r", "change": "added", "keys": found["policies"][1]["rules"][0]["keys"] }] })
    );
    let (code, said) = edge.ask(&["policy", "diff", "--from", "7"]);
    assert!(code == 1 && said.contains("there is no revision 7"), "{said}");
    let said = done(&edge, &["policy", "diff", "--config", "tidegate.json"]);
    assert!(said.contains("- b (1 rule)"), "{said}");
}

#[test]
fn lists_in_files_are_sent_and_kept() {
    let (_origin, mut edge) = start();
    let policy = json!({ "schema": "tidegate.policy/v1", "id": "l",
        "lists": { "bad": { "type": "cidr", "file": "bad.txt" } },
        "rules": [{ "id": "r", "when": "http.request.uri.path eq \"/a\" and ip.src in $bad", "action": { "type": "block" } }] });
    std::fs::write(edge.directory().join("l.json"), policy.to_string()).unwrap();
    let (code, said) = edge.ask(&["policy", "apply", "l.json"]);
    assert!(code == 1 && said.contains("bad.txt: No such file"), "{said}");
    std::fs::write(edge.directory().join("bad.txt"), "127.0.0.0/8 # caf\u{e9}\n").unwrap();
    done(&edge, &["policy", "apply", "l.json"]);
    assert_eq!(statuses(&edge), [403, 200, 200]);
    std::fs::write(edge.directory().join("bad.txt"), "192.0.2.0/24\n").unwrap();
    let said = done(&edge, &["policy", "diff", "l.json"]);
    assert!(said.contains("~ list bad: 1 added, 1 removed"), "{said}");
    edge.restart();
    assert_eq!(statuses(&edge), [403, 200, 200], "the list as it was sent");
    done(&edge, &["policy", "apply", "l.json"]);
    assert_eq!(statuses(&edge), [200, 200, 200]);
    done(&edge, &["policy", "rollback"]);
    assert_eq!(statuses(&edge), [403, 200, 200]);
}
