//! Rules on responses, lists of hashes, what a `skip` leaves out over policies and phases, and pushes after several matches.

use http::{HeaderName, HeaderValue, StatusCode};

use super::*;

/// What becomes of `GET path` that is answered with this.
fn answered(set: &PolicySet, path: &str, status: u16, headers: &[(&'static str, &'static str)]) -> Decision {
    let none = Fields::new();
    let request = RequestView { path, ..RequestView::example(&none) };
    let lines = headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    let headers: Fields = lines.collect();
    let status = StatusCode::from_u16(status).expect("a status");
    let response = ResponseView { src: request.src, dst: request.dst.ip(), status, headers: &headers };
    let mut decision = set.evaluate(&request, 1);
    if decision.action == Action::Pass {
        set.evaluate_response(&request, &response, 1, &mut decision);
    }
    let told = set.explain(&request, Some(&response));
    assert_eq!(told.action, decision.action.decided().map_or("pass", |(action, _)| action), "explain says the same");
    decision
}

#[test]
fn rules_on_responses_are_asked_last() {
    let header =
        json!({ "type": "set_header", "header": "x-was", "value_expression": "http.response.headers[\"server\"][0]" });
    let rules = [
        rule("leak", "http.response.headers[\"x-debug\"][0] ne \"\"", "block", &json!({ "push": { "ttl": "1m" } })),
        rule(
            "hidden",
            "http.response.code eq 500 and starts_with(http.request.uri.path, \"/api\")",
            "block",
            &json!({
                "action": { "type": "block", "status": 502, "body": "later" }
            }),
        ),
        rule("was", "http.response.code lt 400", "log", &json!({ "action": header })),
        rule("early", "http.request.uri.path eq \"/blocked\"", "block", &json!({})),
    ];
    let set = set(&rules);
    let phases: Vec<&str> = set.rules().iter().map(|rule| rule.phase.name()).collect();
    assert_eq!(phases, ["response_headers", "response_headers", "response_headers", "request"]);
    assert!(set.wants_response() && !super::set(&rules[3..]).wants_response());
    let leak = answered(&set, "/", 200, &[("x-debug", "trace")]);
    assert_eq!((blocked(&leak), leak.pushes.len()), (Some((1, 403)), 1));
    assert_eq!(blocked(&answered(&set, "/api/x", 500, &[])), Some((2, 502)));
    assert_eq!(answered(&set, "/x", 500, &[]), Decision::default());
    let was = answered(&set, "/x", 200, &[("server", "origin/1")]);
    let value = HeaderValue::from_static("origin/1");
    assert_eq!(was.changes, [Change::ResponseHeader(HeaderName::from_static("x-was"), Some(value))]);
    assert_eq!(
        blocked(&answered(&set, "/blocked", 500, &[("x-debug", "1")])),
        Some((4, 403)),
        "no response is asked for"
    );
    let none = Fields::new();
    let told = set.explain(&RequestView::example(&none), None);
    assert_eq!(told.rules[0].outcome, Outcome::NeedsResponse);
}

#[test]
fn what_comes_too_late_for_a_response_is_refused() {
    let found = |rule: Value| faults(&[policy("p", &json!({ "rules": [rule] }))]).join("\n");
    let on = "http.response.code eq 404";
    assert!(found(rule("r", on, "challenge", &json!({}))).contains("`challenge` comes too late for a response"));
    let body = format!("{on} and http.request.body.raw contains \"x\"");
    assert!(found(rule("r", &body, "block", &json!({}))).contains("known of a request's body, which has gone"));
    let packet = format!("{on} and tcp.flags.syn");
    assert!(found(rule("r", &packet, "block", &json!({}))).contains("known of packets only"));
    let rate = json!({ "rate": { "limit": 5, "period": "60s" } });
    assert!(found(rule("r", on, "block", &rate)).contains("whose rate has `count_when`"));
    let side = json!({ "action": { "type": "set_header", "header": "x", "value": "y", "on": "request" } });
    assert!(found(rule("r", on, "log", &side)).contains("the request has been forwarded"));
}

#[test]
fn lists_of_hashes_hold_digests_of_values() {
    // FIPS 180-4's example: the digest of `abc`.
    let digest = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";
    let lists = json!({ "tokens": { "type": "hash", "items": [digest] } });
    let rules = [
        rule("token", "http.request.uri.args[\"t\"] in $tokens", "block", &json!({})),
        rule(
            "same",
            &format!("sha256_hex(http.request.uri.args[\"u\"]) eq \"{}\"", digest.to_lowercase()),
            "log",
            &json!({}),
        ),
    ];
    let file = policy("p", &json!({ "rules": rules, "lists": lists }));
    let set = compile(&[file], &options()).unwrap_or_else(|faults| panic!("{faults:#?}"));
    let headers = Fields::new();
    let ask = |query| set.evaluate(&RequestView { query: Some(query), ..RequestView::example(&headers) }, 0);
    assert_eq!(blocked(&ask("t=abc")), Some((1, 403)));
    assert_eq!(ask("t=abd"), Decision::default());
    assert_eq!(ask("u=abc").logged.as_slice(), [RuleSlot(2)]);
    let wrong = json!({ "tokens": { "type": "hash", "items": ["abc"] } });
    let found = faults(&[policy("p", &json!({ "rules": rules, "lists": wrong }))]);
    assert!(found[0].contains("not a SHA-256 digest"), "{}", found[0]);
    let found = faults(&[policy(
        "p",
        &json!({ "lists": lists, "rules": [rule("r", "ip.src in $tokens", "log", &json!({}))] }),
    )]);
    assert!(found[0].contains("the left side is an IP address, but `$tokens` is a list of hashes"), "{}", found[0]);
}

#[test]
fn a_skip_leaves_out_policies_and_phases() {
    let skip = |terms: Value| {
        let mut action = json!({ "type": "skip" });
        action.as_object_mut().expect("an object").extend(terms.as_object().cloned().expect("an object"));
        let first = json!({ "rules": [
            { "id": "s", "when": "http.request.uri.path eq \"/free\"", "action": action },
            rule("own", "true", "log", &json!({})),
        ] });
        let block = |id: &str| policy(id, &json!({ "rules": [rule("r", "true", "block", &json!({}))] }));
        let answer = policy("c", &json!({ "rules": [rule("a", "http.response.code eq 200", "block", &json!({}))] }));
        let files = [policy("a", &first), block("b"), answer];
        compile(&files, &options())
    };
    let named = skip(json!({ "policies": ["b"] })).expect("a set");
    assert_eq!(blocked(&answered(&named, "/free", 200, &[])), Some((4, 403)), "the third is asked");
    assert_eq!(blocked(&answered(&named, "/x", 200, &[])), Some((3, 403)));
    let all = skip(json!({ "policies": ["*"] })).expect("a set");
    let free = answered(&all, "/free", 200, &[]);
    assert_eq!((free.action, free.logged.len()), (Action::Pass, 2), "its own policy goes on");
    let phase = skip(json!({ "phases": ["response_headers"], "policies": ["b"] })).expect("a set");
    assert_eq!(answered(&phase, "/free", 200, &[]).action, Action::Pass);
    let unknown = skip(json!({ "policies": ["d"] })).expect_err("refused");
    assert!(unknown[0].to_string().contains("no policy `d` follows this one"), "{}", unknown[0]);
}

#[test]
fn a_skip_over_policies_reaches_what_handshakes_would_decide() {
    let skip = json!({ "rules": [
        { "id": "s", "when": "http.request.uri.path eq \"/free\"", "action": { "type": "skip", "policies": ["b"] } },
    ] });
    let hello = || policy("b", &json!({ "rules": [rule("r", "tls.client.ja4 eq \"bad\"", "block", &json!({}))] }));
    let phase =
        |files: &[(String, String)]| compile(files, &options()).expect("a set").rules().last().map(|rule| rule.phase);
    assert_eq!(phase(&[hello()]), Some(Phase::ClientHello));
    assert_eq!(phase(&[policy("a", &skip), hello()]), Some(Phase::Request));
}

#[test]
fn a_push_waits_for_several_matches() {
    let push = json!({ "push": { "ttl": "1m", "scope": "host", "after": { "matches": 3, "period": "60s" } } });
    let set = set(&[rule("r", "http.request.uri.path eq \"/bad\"", "block", &push)]);
    let pushed = |src: &str| ask(&set, src, "/bad").pushes.len();
    assert_eq!([(); 4].map(|()| pushed("198.51.100.1")), [0, 0, 1, 1]);
    assert_eq!(pushed("198.51.100.2"), 0, "each source by itself");
    assert!(ask(&set, "198.51.100.1", "/bad").pushes[0].scope == PushScope::Host);
    let headers = Fields::new();
    let told = set.explain(&RequestView { path: "/bad", ..RequestView::example(&headers) }, None);
    assert_eq!((told.push_seconds, told.push_after), (Some(60), Some(3)));
}

#[test]
fn connections_are_looked_at_where_a_rule_wants_it() {
    let slow = [rule(
        "slow",
        "tidegate.connection.rtt_msec gt 500 and cf.timings.client_tcp_rtt_msec lt 900",
        "block",
        &json!({}),
    )];
    let slow = set(&slow);
    assert!(slow.wants_link() && !set(&[rule("r", "ssl", "log", &json!({}))]).wants_link());
    let headers = Fields::new();
    let ask = |rtt_ms| {
        let link = Some(LinkView { rtt_ms, ..LinkView::default() });
        let connection = ConnectionView { link, ..ConnectionView::default() };
        slow.evaluate(&RequestView { connection, ..RequestView::example(&headers) }, 0).action != Action::Pass
    };
    assert_eq!([None, Some(500), Some(501), Some(900)].map(ask), [false, false, true, false]);
    let tests = json!([
        { "given": { "ip.src": "192.0.2.1", "tidegate.connection.requests": 101 }, "expect": "block" },
        { "given": { "ip.src": "192.0.2.1", "tidegate.connection.requests": 100 }, "expect": "pass" },
        { "given": { "ip.src": "192.0.2.1" }, "expect": "pass" },
    ]);
    let many = [rule("many", "tidegate.connection.requests gt 100", "block", &json!({}))];
    assert_eq!(faults(&[policy("p", &json!({ "rules": many, "tests": tests }))]), [""; 0]);
}
