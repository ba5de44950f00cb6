//! Rules on what a source did to wear the server down: asked with its requests, and when it does something.

use super::*;
use crate::abuse::{Kind, Record};

/// What follows for 198.51.100.1, which did so much and this last, before it asks for anything.
fn pushed(set: &PolicySet, score: u32, last: Kind) -> usize {
    let connection = ConnectionView { abuse: Record { score, last: Some(last) }, ..ConnectionView::default() };
    let (src, dst) = ([198, 51, 100, 1].into(), ([192, 0, 2, 1], 443).into());
    set.evaluate_abuse(&RequestView::of_connection(src, dst, "web", (true, false), connection), 1).len()
}

fn bad(more: &Value) -> Value {
    let mut bad = json!({ "push": { "ttl": "10m" } });
    for (key, value) in more.as_object().expect("an object") {
        bad[key] = value.clone();
    }
    rule("bad", "tidegate.abuse.score ge 50 or tidegate.abuse.kind eq \"resets\"", "block", &bad)
}

#[test]
fn what_a_source_does_is_judged_when_it_does_it_and_with_its_requests() {
    let set = set(&[bad(&json!({}))]);
    assert!(set.wants_abuse() && set.acts_on_abuse());
    assert_eq!((pushed(&set, 49, Kind::Ping), pushed(&set, 50, Kind::Ping), pushed(&set, 25, Kind::Resets)), (0, 1, 1));
    let headers = Fields::new();
    let asked = |score| {
        let connection = ConnectionView { abuse: Record { score, last: None }, ..ConnectionView::default() };
        set.evaluate(&RequestView { connection, ..RequestView::example(&headers) }, 1)
    };
    assert_eq!(asked(49), Decision::default());
    assert_eq!((blocked(&asked(50)), asked(50).pushes.len()), (Some((1, 403)), 1));
}

#[test]
fn only_rules_that_know_enough_then_push_a_verdict_then() {
    let acting = |rules: &[Value]| pushed(&set(rules), 100, Kind::Resets);
    let with = |when: &str| {
        rule("bad", &format!("tidegate.abuse.score gt 0 and {when}"), "block", &json!({ "push": { "ttl": "1m" } }))
    };
    assert_eq!(acting(&[with("tidegate.listener eq \"web\" and ssl")]), 1);
    assert_eq!(acting(&[with("not ssl")]), 0);
    assert_eq!(acting(&[with("http.request.uri.path ne \"/x\"")]), 0, "there is no request");
    assert_eq!(acting(&[bad(&json!({ "mode": "shadow" }))]), 0);
    assert_eq!(acting(&[bad(&json!({ "rate": { "limit": 5, "period": "60s" } }))]), 0, "rates count requests");
    let skip = rule("spare", "http.request.uri.path eq \"/x\"", "skip", &json!({}));
    assert_eq!(acting(&[skip, bad(&json!({}))]), 0, "nobody knows whether it would be left out");
    let friend = rule("friends", "ip.src in {198.51.100.0/24}", "allow", &json!({}));
    assert_eq!(acting(&[friend, bad(&json!({}))]), 0, "who is allowed gets no verdict");
}

#[test]
fn tests_of_policies_say_what_a_source_did() {
    let tests = json!([
        { "given": { "ip.src": "192.0.2.1", "tidegate.abuse.score": 50 }, "expect": "block" },
        { "given": { "ip.src": "192.0.2.1", "tidegate.abuse.kind": "resets" }, "expect": "block" },
        { "given": { "ip.src": "192.0.2.1" }, "expect": "pass" },
    ]);
    assert_eq!(faults(&[policy("p", &json!({ "rules": [bad(&json!({}))], "tests": tests }))]), [""; 0]);
    let wrong = json!([{ "given": { "ip.src": "192.0.2.1", "tidegate.abuse.kind": "reset" }, "expect": "block" }]);
    let found = faults(&[policy("p", &json!({ "rules": [bad(&json!({}))], "tests": wrong }))]);
    assert!(found[0].contains("no abuse is called `reset`") && found[0].contains("resets"), "{found:?}");
}
