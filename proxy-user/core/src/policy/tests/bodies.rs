//! Rules on the body of a request: when they are asked, and what holds them back.

use super::*;

/// Asks about a `POST /p` with a body, as a worker does.
fn post(set: &PolicySet, body: Option<&str>, truncated: bool) -> Decision {
    let headers = Fields::new();
    let request = RequestView {
        method: &Method::POST,
        path: "/p",
        body_size: None,
        body: BodyView { bytes: body.map(str::as_bytes), truncated },
        ..RequestView::example(&headers)
    };
    let before = RequestView { body: BodyView::default(), ..request };
    let mut decision = set.evaluate(&before, 1);
    if decision.action == Action::Pass && set.awaits_body(&before, &decision) {
        set.evaluate_body(&request, 1, &mut decision);
    }
    decision
}

#[test]
fn bodies_are_asked_about_when_headers_have_been() {
    let rules = [
        rule(
            "sql",
            "lower(http.request.body.raw) contains \"union select\"",
            "block",
            &json!({ "push": { "ttl": "1m" } }),
        ),
        rule("long", "http.request.body.truncated", "block", &json!({ "action": { "type": "block", "status": 413 } })),
        rule("none", "not http.request.body.raw contains \"token\"", "log", &json!({})),
        rule("path", "http.request.uri.path eq \"/q\"", "allow", &json!({})),
    ];
    let set = set(&rules);
    assert!(set.wants_body() && !super::set(&rules[3..]).wants_body());
    let phases: Vec<&str> = set.rules().iter().map(|rule| rule.phase.name()).collect();
    assert_eq!(phases, ["request_body", "request_body", "request_body", "request"]);
    let found = post(&set, Some("id=1 UNION SELECT 2"), false);
    assert_eq!((blocked(&found), found.pushes.len()), (Some((1, 403)), 1));
    assert_eq!(blocked(&post(&set, Some("id=1"), true)), Some((2, 413)));
    assert_eq!(post(&set, Some("token=1"), false), Decision::default());
    assert_eq!(post(&set, None, false).logged.as_slice(), [RuleSlot(3)], "missing, as other fields are");
}

#[test]
fn what_ends_or_skips_on_the_header_holds_for_the_body() {
    let sql = || rule("sql", "http.request.body.raw contains \"union\"", "block", &json!({}));
    let allow = set(&[sql(), rule("mine", "http.request.uri.path eq \"/p\"", "allow", &json!({}))]);
    assert_eq!(post(&allow, Some("union"), false).action, Action::Allow(RuleSlot(2)));
    let skip = set(&[
        rule("skip", "ip.src eq 198.51.100.1", "skip", &json!({ "action": { "type": "skip", "rules": ["sql"] } })),
        sql(),
        rule("other", "http.request.body.raw contains \"uni\"", "log", &json!({})),
    ]);
    let decision = post(&skip, Some("union"), false);
    assert_eq!((decision.action, decision.logged.as_slice()), (Action::Pass, &[RuleSlot(1), RuleSlot(3)][..]));
}

#[test]
fn tests_and_explanations_have_bodies() {
    let rules = json!([
        rule("sql", "http.request.body.raw contains \"union\"", "block", &json!({})),
        rule("mine", "http.request.uri.path eq \"/mine\"", "allow", &json!({})),
    ]);
    let tests = json!([
        { "given": { "ip.src": "192.0.2.1", "http.request.body.raw": "a union b" }, "expect": "block", "rule": "sql" },
        { "given": { "ip.src": "192.0.2.1", "http.request.uri.path": "/mine", "http.request.body.raw": "union" }, "expect": "allow" },
        { "given": { "ip.src": "192.0.2.1", "http.request.body.truncated": true }, "expect": "pass" },
    ]);
    let none: [String; 0] = [];
    assert_eq!(faults(&[policy("p", &json!({ "rules": rules, "tests": tests }))]), none);
    let found =
        faults(&[policy("p", &json!({ "rules": [rule("d", "http.request.body.raw eq \"x\"", "drop", &json!({}))] }))]);
    assert!(found.iter().any(|fault| fault.contains("packets, which have no `http.request.body.raw`")), "{found:#?}");
}

#[test]
fn json_in_bodies_is_looked_into() {
    let set = set(&[
        rule(
            "text",
            "lower(lookup_json_string(http.request.body.raw, \"user\", \"name\")) matches \"^root\"",
            "block",
            &json!({}),
        ),
        rule("number", "lookup_json_integer(http.request.body.raw, \"n\") gt 3", "block", &json!({})),
    ]);
    for (body, blocked) in [
        (r#"{"user":{"name":"Rooty"}}"#, true),
        (r#"{"user":{"name":"ann"},"n":4}"#, true),
        (r#"{"user":{"name":"ann"},"n":3}"#, false),
        ("no JSON", false),
    ] {
        assert_eq!(super::blocked(&post(&set, Some(body), false)).is_some(), blocked, "{body}");
    }
}
