//! Policies as a whole: compiled from text, asked about requests, seen by the kernel.

use std::time::Duration;

use http::{HeaderMap, Method, Version};
use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-11-22T00:00:00Z";

fn options() -> Options<'static> {
    Options::new(NOW.parse().expect("a time"))
}

fn policy(id: &str, more: &Value) -> (String, String) {
    let mut policy = json!({ "schema": "tidegate.policy/v1", "id": id, "rules": [] });
    for (key, value) in more.as_object().expect("an object") {
        policy[key] = value.clone();
    }
    (format!("{id}.json"), policy.to_string())
}

fn rule(id: &str, when: &str, action: &str, more: &Value) -> Value {
    let mut rule = json!({ "id": id, "when": when, "action": { "type": action } });
    for (key, value) in more.as_object().expect("an object") {
        rule[key] = value.clone();
    }
    rule
}

fn set(rules: &[Value]) -> PolicySet {
    compile(&[policy("p", &json!({ "rules": rules }))], &options()).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn faults(files: &[(String, String)]) -> Vec<String> {
    compile(files, &options()).err().into_iter().flatten().map(|f| f.to_string()).collect()
}

/// Asks about `GET path` from a source at host `shop.example`.
fn ask(set: &PolicySet, src: &str, path: &str) -> Decision {
    let request = RequestView {
        src: src.parse().expect("address"),
        dst: "192.0.2.1:443".parse().expect("address"),
        listener: "web",
        scheme: "https",
        version: Version::HTTP_2,
        method: &Method::GET,
        host: "shop.example",
        path,
        query: None,
        headers: &HeaderMap::new(),
    };
    set.evaluate(&request, 1)
}

fn blocked(decision: &Decision) -> Option<(u32, u16)> {
    match decision.action {
        Action::Block { rule, status } => Some((rule.0, status)),
        _ => None,
    }
}

#[test]
fn the_set_is_shared_by_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<PolicySet>();
}

#[test]
fn the_first_terminating_rule_decides() {
    let set = set(&[
        rule("seen", "http.request.uri.path contains \"a\"", "log", &json!({})),
        rule("friends", "ip.src in {192.0.2.0/24}", "allow", &json!({})),
        rule("admin", "starts_with(http.request.uri.path, \"/a\")", "block", &json!({ "push": { "ttl": "10m" } })),
        rule("all", "http.request.uri.path eq \"/all\"", "block", &json!({})),
    ]);
    let decision = ask(&set, "198.51.100.1", "/admin");
    assert_eq!(blocked(&decision), Some((3, 403)));
    assert_eq!(decision.logged.as_slice(), [RuleSlot(1)]);
    assert_eq!(decision.pushes.as_slice(), [Push { rule: RuleSlot(3), ttl: Duration::from_secs(600) }]);
    assert_eq!(ask(&set, "192.0.2.7", "/admin").action, Action::Allow(RuleSlot(2)));
    assert_eq!(ask(&set, "198.51.100.1", "/x"), Decision::default());
    assert_eq!(set.rule_name(RuleSlot(3)), Some("p/admin"));
    assert!(set.allows_source("192.0.2.255".parse().expect("address")));
    assert!(!set.allows_source("192.0.3.0".parse().expect("address")));
    let image = set.kernel_image();
    assert_eq!(image.allow, [("192.0.2.0/24".parse().expect("net"), 2)]);
    assert!(image.deny.is_empty() && image.rules.is_empty());
    assert_eq!(image.names.len(), 4);
}
