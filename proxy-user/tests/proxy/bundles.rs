//! Signed policies, from the key to what a daemon takes and refuses.

use serde_json::{Value, json};

use crate::edge::Edge;
use crate::origin::Origin;

/// `tidegate policy` on files in the daemon's directory; with its exit status and what it said.
fn policy(edge: &Edge, words: &[&str]) -> (i32, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let output = command.current_dir(edge.directory()).arg("policy").args(words).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8(said).unwrap())
}

fn done(edge: &Edge, words: &[&str]) -> String {
    let (code, said) = policy(edge, words);
    assert_eq!(code, 0, "{words:?}: {said}");
    said
}

/// A bundle of this revision, which blocks a path, signed by a key.
fn bundle(edge: &Edge, name: &str, revision: u64, path: &str, key: &str) {
    let when = format!("http.request.uri.path eq \"{path}\"");
    let rules = json!([{ "id": "r", "when": when, "action": { "type": "block" } }]);
    let policy = json!({ "schema": "tidegate.policy/v1", "id": "p", "rules": rules });
    std::fs::write(edge.directory().join("p.json"), policy.to_string()).unwrap();
    done(edge, &["bundle", "p.json", "--revision", &revision.to_string(), "--key", key, "--out", name]);
}

fn apply(edge: &Edge, file: &str) -> (i32, String) {
    edge.ask(&["policy", "apply", file])
}

fn statuses(edge: &Edge) -> [u16; 2] {
    ["/a", "/b"].map(|path| edge.get(path).status)
}

#[test]
fn only_what_a_trusted_key_signed_is_taken_and_nothing_older() {
    let origin = Origin::start("a");
    let mut edge = Edge::start(origin.address, |_| {});
    let made: Value = serde_json::from_str(&done(&edge, &["keygen", "--out", "good.key", "--json"])).unwrap();
    let good = made["public_key"].as_str().unwrap().to_owned();
    done(&edge, &["keygen", "--out", "other.key"]);
    let (code, said) = policy(&edge, &["keygen", "--out", "good.key"]);
    assert!(code == 1 && said.contains("File exists"), "a key is never overwritten: {said}");

    bundle(&edge, "one.json", 1, "/a", "good.key");
    bundle(&edge, "two.json", 2, "/b", "good.key");
    bundle(&edge, "two-b.json", 2, "/a", "good.key");
    bundle(&edge, "foreign.json", 9, "/a", "other.key");
    let said = done(&edge, &["verify", "two.json", "--trust", &good]);
    assert!(said.contains(&format!("signed by {good}")) && said.contains("revision 2"), "{said}");
    let (code, said) = policy(&edge, &["verify", "foreign.json", "--trust", &good]);
    assert!(code == 1 && said.contains("not among the trusted keys"), "{said}");

    edge.reload(|config| {
        config["require_signature"] = json!(true);
        config["trusted_keys"] = json!([good]);
    });
    edge.wait_log("reloaded", 1);
    let (code, said) = apply(&edge, "p.json");
    assert!(code == 1 && said.contains("p.json: not signed") && said.contains("nothing was changed"), "{said}");
    let (code, said) = apply(&edge, "foreign.json");
    assert!(code == 1 && said.contains("not among the trusted keys"), "{said}");
    let text = std::fs::read_to_string(edge.directory().join("two.json")).unwrap();
    std::fs::write(edge.directory().join("altered.json"), text.replace("/b", "/c")).unwrap();
    let (code, said) = apply(&edge, "altered.json");
    assert!(code == 1 && said.contains("was altered"), "{said}");
    assert_eq!(statuses(&edge), [200, 200]);

    assert_eq!(apply(&edge, "one.json").0, 0);
    assert_eq!(apply(&edge, "two.json").0, 0);
    assert_eq!(statuses(&edge), [200, 403]);
    let (code, said) = apply(&edge, "one.json");
    assert!(code == 1 && said.contains("revision 1, and 2 was in force already"), "{said}");
    let (code, said) = apply(&edge, "two-b.json");
    assert!(code == 1 && said.contains("another bundle with revision 2"), "{said}");

    edge.restart();
    assert_eq!(statuses(&edge), [200, 403], "held and checked again");
    assert_eq!(apply(&edge, "one.json").0, 1, "what was newest is remembered");
    let said = edge.ask(&["policy", "diff", "--from", "1", "--to", "2"]).1;
    assert!(
        said.contains("+ when: http.request.uri.path eq \"/b\""),
        "bundles are compared by what is in them: {said}"
    );
    assert_eq!(edge.ask(&["policy", "rollback"]).0, 0, "the operator may go back");
    assert_eq!(statuses(&edge), [403, 200]);

    // What is held is held to the keys of the config that is to come, too.
    let foreign = std::fs::read_to_string(edge.directory().join("other.key")).unwrap();
    let other = proxy_core::store::bundle::SecretKey::read(&foreign).unwrap().public().to_string();
    edge.reload(|config| config["trusted_keys"] = json!([other]));
    edge.wait_log("no longer among the trusted keys", 1);

    // The config's own files, in the same way.
    edge.reload(|config| {
        config["trusted_keys"] = json!([good]);
        config["policies"] = json!(["two.json"]);
    });
    edge.wait_log("reloaded", 3);
    assert_eq!(edge.ask(&["policy", "apply"]).0, 0);
    assert_eq!(statuses(&edge), [200, 403]);
    edge.reload(|config| config["policies"] = json!(["one.json"]));
    edge.wait_log("not reloaded", 2);
    assert_eq!(statuses(&edge), [200, 403]);
}

#[test]
fn bundles_are_made_of_sound_policies_and_signed_elsewhere() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |_| {});
    done(&edge, &["keygen", "--out", "k"]);
    std::fs::write(edge.directory().join("bad.json"), r#"{"schema":"tidegate.policy/v1","id":"p","rules":[]}"#)
        .unwrap();
    let (code, said) = policy(&edge, &["bundle", "bad.json", "--revision", "1", "--out", "b.json"]);
    assert!(code == 1 && said.contains("no bundle was made"), "{said}");
    bundle(&edge, "b.json", 1, "/a", "k");
    std::fs::rename(edge.directory().join("b.json"), edge.directory().join("signed.json")).unwrap();
    let said = done(&edge, &["bundle", "p.json", "--revision", "1", "--out", "b.json"]);
    assert!(said.contains("not signed yet"), "{said}");
    let (code, said) = apply(&edge, "b.json");
    assert!(code == 1 && said.contains("nobody has signed"), "{said}");
    done(&edge, &["sign", "b.json", "--key", "k"]);
    let (code, said) = apply(&edge, "b.json");
    assert!(code == 1 && said.contains("not among the trusted keys"), "no key is trusted: {said}");
    for words in [["sign", "p.json", "--key", "k"], ["sign", "b.json", "--key", "p.json"]] {
        let (code, said) = policy(&edge, &words);
        assert!(code == 1 && (said.contains("this is no bundle") || said.contains("this is no secret key")), "{said}");
    }
}
