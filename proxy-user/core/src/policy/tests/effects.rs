//! What rules do beside letting through and blocking, what counts, and how it is explained.

use super::*;

#[test]
fn explanations_say_what_was_seen_and_agree_with_the_evaluation() {
    let rules = [
        rule("deny", "ip.src in {198.51.100.0/24}", "drop", &json!({})),
        rule("flags", "tcp.flags.syn", "drop", &json!({})),
        rule("seen", "len(http.request.uri.path) gt 3", "log", &json!({})),
        rule("limited", "http.host eq \"shop.example\"", "block", &json!({ "rate": { "limit": 5, "period": "60s" } })),
        rule("friends", "ip.src in $friends and not ssl eq false", "allow", &json!({})),
        rule(
            "admin",
            "starts_with(lower(http.request.uri.path), \"/admin\")",
            "block",
            &json!({ "push": { "ttl": "10m" } }),
        ),
        rule("none", "http.user_agent eq \"\"", "block", &json!({})),
        rule("old", "true", "block", &json!({ "expires": "2020-01-01T00:00:00Z" })),
    ];
    let lists = json!({ "friends": { "type": "cidr", "items": ["192.0.2.0/24"] } });
    let set = compile(&[policy("p", &json!({ "rules": rules, "lists": lists }))], &options()).expect("a policy");
    let view = |src: &str| RequestView {
        src: src.parse().expect("address"),
        path: "/ADMIN/x",
        ..RequestView::example(Box::leak(Box::default()))
    };
    let told = set.explain(&view("203.0.113.9"), None);
    let outcomes: Vec<Outcome> = told.rules.iter().map(|rule| rule.outcome).collect();
    assert_eq!(
        outcomes,
        [
            Outcome::NoMatch,
            Outcome::NeedsPacket,
            Outcome::Match,
            Outcome::MatchWithinRate,
            Outcome::NoMatch,
            Outcome::Match,
            Outcome::NotAsked,
            Outcome::Off,
        ]
    );
    assert_eq!((told.action, told.status, told.push_seconds), ("block", Some(403), Some(600)));
    assert_eq!((told.rule.as_deref(), told.logged.as_slice()), (Some("p/admin"), &["p/seen".to_owned()][..]));
    assert_eq!(blocked(&set.evaluate(&view("203.0.113.9"), 0)), Some((6, 403)));
    let saw = |rule: usize, comparison: usize| told.rules[rule].comparisons[comparison].saw.join(" ");
    assert_eq!([saw(0, 0), saw(2, 0), saw(5, 0)], ["203.0.113.9", "8", "\"/admin/x\""]);
    assert_eq!((told.rules[1].comparisons[0].saw.len(), told.rules[6].comparisons[0].saw.len()), (0, 0), "missing");
    let friend = set.explain(&view("192.0.2.7"), None);
    assert_eq!((friend.action, friend.rule.as_deref()), ("allow", Some("p/friends")));
    let comparison = &friend.rules[4].comparisons[0];
    assert_eq!((comparison.text.as_str(), comparison.list.as_deref()), ("ip.src in $friends", Some("$friends")));
    assert_eq!(set.evaluate(&view("192.0.2.7"), 0).action, Action::Allow(RuleSlot(5)));
    let dropped = set.explain(&view("198.51.100.3"), None);
    assert_eq!((dropped.action, dropped.rule.as_deref(), dropped.status), ("drop", Some("p/deny"), None));
    assert_eq!(dropped.rules[5].outcome, Outcome::NotAsked);
}

#[test]
fn changes_redirects_and_skips() {
    let action = |id: &str, when: &str, action: Value| json!({ "id": id, "when": when, "action": action });
    let set = set(&[
        action(
            "name",
            "http.request.uri.path eq \"/go\"",
            json!({
                "type": "redirect", "status": 308, "to_expression": "concat(\"https://new.example/\", http.host, \"\\x0d\\x0aX: y\")",
            }),
        ),
        action(
            "path",
            "http.request.uri.path contains \"/a\"",
            json!({
                "type": "rewrite", "path_expression": "regex_replace(http.request.uri.path, \"/a\", \"/b ?\")", "query": "q=1",
            }),
        ),
        action(
            "none",
            "true",
            json!({ "type": "set_header", "header": "x-ua", "value_expression": "http.user_agent" }),
        ),
        action(
            "set",
            "true",
            json!({ "type": "set_header", "header": "x-host", "value_expression": "upper(http.host)" }),
        ),
        action("gone", "true", json!({ "type": "remove_header", "header": "server", "on": "response" })),
        action("skip", "http.request.uri.path eq \"/a1\"", json!({ "type": "skip", "rules": ["stop"] })),
        action(
            "stop",
            "starts_with(http.request.uri.path, \"/a\")",
            json!({ "type": "block", "status": 410, "body": "gone" }),
        ),
        action("skip-all", "true", json!({ "type": "skip" })),
        action("never", "true", json!({ "type": "block" })),
    ]);
    let header = |text: &'static str| http::HeaderValue::from_static(text);
    let name = |text: &'static str| http::HeaderName::from_static(text);
    let moved = ask(&set, "192.0.2.1", "/go");
    assert_eq!(moved.action, Action::Redirect { rule: RuleSlot(1), status: 308 });
    assert_eq!(moved.location, Some(header("https://new.example/shop.example%0D%0AX:%20y")), "no line is added");
    let changed = ask(&set, "192.0.2.1", "/a1");
    assert_eq!((changed.action, changed.location.as_ref()), (Action::Pass, None));
    assert_eq!(
        changed.changes,
        [
            Change::Path("/b%20%3F1".to_owned()),
            Change::Query("q=1".to_owned()),
            Change::RequestHeader(name("x-host"), Some(header("SHOP.EXAMPLE"))),
            Change::ResponseHeader(name("server"), None),
        ]
    );
    assert_eq!(changed.logged.as_slice(), [2, 3, 4, 5, 6, 8].map(RuleSlot));
    assert_eq!(blocked(&ask(&set, "192.0.2.1", "/a2")), Some((7, 410)));
    assert_eq!(set.answer(RuleSlot(7)).map(|answer| answer.body.as_str()), Some("gone"));
    assert_eq!(ask(&set, "192.0.2.1", "/").action, Action::Pass);
}

#[test]
fn rates_count_by_the_response() {
    let rate = json!({ "rate": { "limit": 2, "period": "60s", "count_when": "http.response.code eq 401" } });
    let set = set(&[rule("r", "http.request.uri.path eq \"/login\"", "block", &rate)]);
    let respond = |status: u16| {
        let decision = ask(&set, "192.0.2.1", "/login");
        let response = ResponseView {
            src: "192.0.2.1".parse().expect("address"),
            dst: "192.0.2.1".parse().expect("address"),
            status: http::StatusCode::from_u16(status).expect("a status"),
            headers: &Fields::new(),
        };
        set.count(&decision.pending, &response, 1);
        blocked(&decision).is_some()
    };
    assert_eq!([200, 401, 303, 200, 401].map(respond), [false; 5]);
    assert!(respond(200) && respond(401), "two were counted");
    assert!(ask(&set, "192.0.2.1", "/other").pending.is_empty());
    assert_eq!(ask(&set, "192.0.2.2", "/login").action, Action::Pass);
}

#[test]
fn what_packets_decide_of_alternatives_is_in_the_kernel() {
    let set =
        set(&[rule("in", "ip.src in {192.0.2.0/24} or http.host eq \"a\" or tcp.dstport eq 81", "allow", &json!({}))]);
    assert_eq!(set.rules()[0].phase, Phase::Both);
    assert_eq!(set.kernel_image().rules.len(), 2);
    let set = self::set(&[rule("in", "ip.src in {192.0.2.0/24} or http.host eq \"a\"", "allow", &json!({}))]);
    assert_eq!(set.kernel_image().allow, [("192.0.2.0/24".parse().expect("net"), 1)]);
    assert!(set.allows_source("192.0.2.1".parse().expect("address")));
}

/// Decisions on `GET /path` of a source.
fn decide(set: &PolicySet, src: &str, path: &str, now_ns: u64) -> Decision {
    let headers = Fields::new();
    let hello = crate::hello::ClientHello::default();
    let to = "192.0.2.1:443".parse().expect("address");
    let view = RequestView {
        path,
        headers: &headers,
        ..RequestView::of_hello(src.parse().expect("address"), to, "web", false, &hello)
    };
    set.evaluate(&view, now_ns)
}

#[test]
fn scores_add_up_for_the_rules_that_follow() {
    let rules = [
        rule("early", "tidegate.score ge 1", "block", &json!({})),
        rule(
            "sql",
            "http.request.uri.path contains \"union\"",
            "log",
            &json!({ "action": { "type": "score", "points": 3 } }),
        ),
        rule(
            "xss",
            "http.request.uri.path contains \"script\"",
            "log",
            &json!({ "action": { "type": "score", "points": 2 } }),
        ),
        rule("high", "tidegate.score ge 5", "block", &json!({})),
        rule("odd", "not tidegate.score eq 0 and http.request.uri.path contains \"u\"", "log", &json!({})),
    ];
    let set = compile(&[policy("p", &json!({ "rules": rules }))], &options()).expect("a policy");
    let blocked = |path: &str| matches!(decide(&set, "203.0.113.9", path, 0).action, Action::Block { .. });
    assert_eq!(["/", "/union", "/script", "/union/script"].map(blocked), [false, false, false, true]);
    assert_eq!(decide(&set, "203.0.113.9", "/union", 0).logged.len(), 2, "the points, and who reads them");
    let faults = |action: serde_json::Value| {
        let rules = [rule("r", "true", "log", &json!({ "action": action }))];
        compile(&[policy("p", &json!({ "rules": rules }))], &options()).expect_err("refused")[0].to_string()
    };
    assert!(faults(json!({ "type": "score" })).contains("needs `points`"));
    assert!(faults(json!({ "type": "log", "points": 3 })).contains("`points` is for `score`"));
}

#[test]
fn rules_act_on_their_share_until_they_match_too_much() {
    let make = |extra: &serde_json::Value, previous: Option<&PolicySet>| {
        let rules = [rule("r", "http.request.uri.path eq \"/x\"", "block", extra)];
        compile(&[policy("p", &json!({ "rules": rules }))], &Options { previous, ..options() }).expect("a policy")
    };
    let blocks = |set: &PolicySet, src: &str, now| matches!(decide(set, src, "/x", now).action, Action::Block { .. });
    let half = make(&json!({ "percent": 50 }), None);
    let sources: Vec<String> = (0..200).map(|n| format!("198.51.100.{n}")).collect();
    let acted: Vec<bool> = sources.iter().map(|src| blocks(&half, src, 0)).collect();
    let count = acted.iter().filter(|acted| **acted).count();
    assert!((50..150).contains(&count), "{count} of 200");
    assert_eq!(sources.iter().map(|src| blocks(&half, src, 0)).collect::<Vec<_>>(), acted, "the same ones each time");
    let more = make(&json!({ "percent": 80 }), Some(&half));
    assert!(sources.iter().zip(&acted).all(|(src, before)| !before || blocks(&more, src, 0)), "who is in stays in");
    let counts = &more.rule_counts()[0];
    assert_eq!(counts.enforced + counts.would, 400 + count as u64, "counts go on over a reload");
    assert_eq!(counts.percent, Some(80));

    let abort = json!({ "abort_if": { "match_percent": 10, "period": "60s", "requests": 100 } });
    let watched = make(&abort, None);
    for n in 0..95 {
        decide(&watched, "203.0.113.9", "/", n);
    }
    assert!((0..10).all(|_| blocks(&watched, "203.0.113.9", 100)), "ten of 105");
    assert!(watched.newly_aborted().is_empty());
    assert!(!blocks(&watched, "203.0.113.9", 100), "eleven of 106");
    assert_eq!(watched.newly_aborted(), ["p/r"]);
    assert!(watched.newly_aborted().is_empty() && watched.rule_counts()[0].aborted);
    let again = make(&abort, Some(&watched));
    assert!(!blocks(&again, "203.0.113.9", 200), "over a reload too");
    let other = make(&json!({ "abort_if": { "match_percent": 99 } }), Some(&watched));
    assert!(blocks(&other, "203.0.113.9", 200), "until its terms are others");
    let rules = [rule("r", "ip.src in {192.0.2.0/24}", "allow", &json!({ "percent": 5 }))];
    let fault = compile(&[policy("p", &json!({ "rules": rules }))], &options()).expect_err("refused")[0].to_string();
    assert!(fault.contains("acts on all or on none"), "{fault}");
}
