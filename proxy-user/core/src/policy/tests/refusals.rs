//! Refusing without an answer, work to do, and rates by other keys than the source.

use http::{HeaderName, HeaderValue};

use super::*;

#[test]
fn resets_tarpits_and_challenges() {
    let set = set(&[
        rule("r", "http.request.uri.path eq \"/r\"", "reset", &json!({ "push": { "ttl": "1m" } })),
        rule("t", "http.request.uri.path eq \"/t\"", "", &json!({ "action": { "type": "tarpit", "hold": "2m" } })),
        rule(
            "c",
            "http.request.uri.path eq \"/c\"",
            "",
            &json!({ "action": { "type": "challenge", "difficulty": 1 } }),
        ),
        rule("after", "true", "log", &json!({})),
    ]);
    assert!(set.wants_wall_clock());
    let src = "198.51.100.1";
    let reset = ask(&set, src, "/r");
    assert_eq!((reset.action, reset.pushes.len()), (Action::Reset { rule: RuleSlot(1) }, 1));
    assert_eq!(ask(&set, src, "/t").action, Action::Tarpit { rule: RuleSlot(2), hold: Duration::from_secs(120) });
    assert_eq!(ask(&set, src, "/c").action, Action::Challenge { rule: RuleSlot(3), status: 403 });
    // With the work done, the rules behind are asked.
    let page = set.challenge(RuleSlot(3), src.parse().expect("address"), true, 0).expect("a page");
    let (_, token) = page.html.split_once("data-token=\"").expect("a token");
    let token = token.split('"').next().expect("its value");
    let passed = (0..64).any(|n| {
        let cookie = HeaderValue::try_from(format!("tidegate_pass_p={token}.{n}")).expect("a value");
        let decision = ask_with(&set, src, "/c", &Fields::from_iter([(http::header::COOKIE, cookie)]));
        decision.action == Action::Pass && decision.logged.as_slice() == [RuleSlot(4)]
    });
    assert!(passed, "one of two answers is enough");
    assert_eq!(set.challenge(RuleSlot(1), src.parse().expect("address"), true, 0), None);
}

#[test]
fn keys_of_rates() {
    let key = json!(["http.request.headers[\"x\"][0]", "cidr(ip.src, 24, 64)", "len(http.request.uri.path)"]);
    let set = set(&[rule("many", "true", "block", &json!({ "rate": { "key": key, "limit": 2, "period": "1m" } }))]);
    let blocked = |src: &str, path: &str, x: Option<&'static str>| {
        let headers = x.map(|x| (HeaderName::from_static("x"), HeaderValue::from_static(x)));
        matches!(ask_with(&set, src, path, &headers.into_iter().collect()).action, Action::Block { .. })
    };
    assert_eq!([1, 2, 3].map(|n| blocked(&format!("192.0.2.{n}"), "/a", Some("k"))), [false, false, true]);
    assert!(blocked("192.0.2.9", "/b", Some("k")), "the same of all three");
    assert!(!blocked("192.0.3.9", "/b", Some("k")), "another network");
    assert!(!blocked("192.0.2.9", "/bb", Some("k")), "another length");
    assert!(!blocked("192.0.2.9", "/b", Some("l")) && !blocked("192.0.2.9", "/b", Some("")), "another header");
    assert_eq!([1, 2, 3].map(|_| blocked("192.0.2.9", "/b", None)), [false, false, true], "none is one of its own");
}

#[test]
fn what_does_not_fit_is_said() {
    let fault = |rule: Value, said: &str| {
        let found = faults(&[policy("p", &json!({ "rules": [rule] }))]);
        assert!(found.iter().any(|fault| fault.contains(said)), "{said}: {found:#?}");
    };
    let rate = |key: Value| rule("a", "true", "block", &json!({ "rate": { "key": key, "limit": 1, "period": "1m" } }));
    fault(rate(json!(["ip.src", "http.request.headers[\"x\"]"])), "/rules/0/rate/key/1: one value is needed here");
    fault(rate(json!(["ip.sorc"])), "did you mean `ip.src`");
    fault(rate(json!(["ssl"])), "rates count by strings, numbers and addresses");
    fault(rate(json!(["http.response.code"])), "/rules/0/rate/key: `http.response.code`: requests do not have it");
    fault(rate(json!([])), "/rules/0/rate/key");
    let action = |action: Value| rule("a", "true", "", &json!({ "action": action }));
    fault(action(json!({ "type": "tarpit", "hold": "10m" })), "/rules/0/action/hold: found 10m, expected 1s to 5m");
    fault(action(json!({ "type": "challenge", "pass_for": "1s" })), "expected 1m to 7d");
    fault(action(json!({ "type": "challenge", "difficulty": 40 })), "/rules/0/action/difficulty");
    fault(action(json!({ "type": "challenge", "status": 302 })), "`challenge` answers with 400 to 599");
    fault(action(json!({ "type": "block", "hold": "1m" })), "`hold` is for `tarpit`; `block` does not take it");
    let push = rule("a", "true", "challenge", &json!({ "push": { "ttl": "1m" } }));
    fault(push, "`push` is for `block`, `reset` and `tarpit`; `challenge` bans nobody");
    let timeout = json!({ "rate": { "limit": 1, "period": "1m", "mitigation_timeout": "2d" } });
    fault(rule("a", "true", "block", &timeout), "expected 1s to 1d");
}
