//! Rules that a ClientHello tells: where they are placed, what they do there, and how tests and explanations show them.

use super::*;
use crate::hello::ClientHello;

fn hello(ja4: &str, sni: &str) -> ClientHello {
    ClientHello { ja4: ja4.to_owned(), sni: Some(sni.as_bytes().into()), ..ClientHello::default() }
}

fn at_handshake(set: &PolicySet, src: &str, hello: &ClientHello) -> Decision {
    let (src, dst) = (src.parse().expect("address"), "192.0.2.1:443".parse().expect("address"));
    set.evaluate_hello(&RequestView::of_hello(src, dst, "web", false, hello), Some(1))
}

#[test]
fn rules_are_decided_as_early_as_they_can_be() {
    let rules = [
        rule("office", "ip.src in {192.0.2.0/24}", "allow", &json!({})),
        rule("known", "tls.client.ja4 eq \"good\"", "allow", &json!({})),
        rule("bad", "tls.client.ja4 in {\"bad\" \"good\"}", "block", &json!({ "push": { "ttl": "1m" } })),
        rule("name", "tls.client.sni contains \"x\" and tcp.dstport eq 443", "block", &json!({})),
        rule("told", "tls.client.ja4 eq \"told\"", "block", &json!({ "action": { "type": "block", "status": 451 } })),
        rule("path", "tls.client.ja4 eq \"p\" and http.request.uri.path eq \"/x\"", "block", &json!({})),
        rule("much", "tls.client.ja4 eq \"m\"", "block", &json!({ "rate": { "limit": 1, "period": "1m" } })),
        rule("seen", "cf.bot_management.ja4 eq \"s\"", "block", &json!({ "mode": "shadow" })),
        rule("plain", "ip.src eq 198.51.100.9", "block", &json!({})),
    ];
    let set = set(&rules);
    assert!(set.wants_hello());
    let phases: Vec<Phase> = set.rules().iter().map(|rule| rule.phase).collect();
    let (early, late) = (Phase::ClientHello, Phase::Request);
    assert_eq!(phases, [Phase::Both, early, early, early, late, late, late, late, late]);
    let slot = |decision: &Decision| blocked(decision).map(|(slot, _)| slot);
    let bad = at_handshake(&set, "198.51.100.1", &hello("bad", "a"));
    assert_eq!((slot(&bad), bad.pushes.len()), (Some(3), 1));
    assert_eq!(at_handshake(&set, "192.0.2.5", &hello("bad", "a")).action, Action::Allow(RuleSlot(1)));
    assert_eq!(at_handshake(&set, "198.51.100.1", &hello("good", "a")).action, Action::Allow(RuleSlot(2)));
    assert_eq!(slot(&at_handshake(&set, "198.51.100.1", &hello("", "axb"))), Some(4));
    for later in ["told", "p", "m", "s"] {
        assert_eq!(at_handshake(&set, "198.51.100.9", &hello(later, "a")), Decision::default(), "{later}");
    }
    // The requests of a connection that was open before the rule came.
    let request = |ja4: &str| {
        let hello = hello(ja4, "a");
        let (src, dst) = ("198.51.100.1".parse().expect("address"), "192.0.2.1:443".parse().expect("address"));
        set.evaluate(&RequestView { path: "/x", ..RequestView::of_hello(src, dst, "web", false, &hello) }, 1)
    };
    assert_eq!(blocked(&request("bad")), Some((3, 403)));
    assert_eq!(blocked(&request("told")), Some((5, 451)));
    assert_eq!(blocked(&request("p")), Some((6, 403)));
    assert_eq!(request("s").logged.as_slice(), [RuleSlot(8)]);
    assert!(!super::set(&rules[8..]).wants_hello());
}

#[test]
fn scopes_and_skips_keep_rules_with_the_requests() {
    let bad = || rule("bad", "tls.client.ja4 eq \"bad\"", "block", &json!({}));
    let phase = |more: &Value| {
        let set = compile(&[policy("p", more)], &options()).unwrap_or_else(|faults| panic!("{faults:#?}"));
        set.rules().last().map(|rule| rule.phase)
    };
    assert_eq!(phase(&json!({ "rules": [bad()] })), Some(Phase::ClientHello));
    assert_eq!(phase(&json!({ "rules": [bad()], "scope": { "listeners": ["web"] } })), Some(Phase::ClientHello));
    assert_eq!(phase(&json!({ "rules": [bad()], "scope": { "hosts": ["a.test"] } })), Some(Phase::Request));
    let skip = rule("skip", "ip.src eq 192.0.2.1", "skip", &json!({}));
    assert_eq!(phase(&json!({ "rules": [skip, bad()] })), Some(Phase::Request));
    let header = json!({ "type": "set_header", "header": "x-ja4", "value_expression": "tls.client.ja4" });
    let set = set(&[rule("tell", "true", "set_header", &json!({ "action": header }))]);
    assert!(set.wants_hello(), "a value that is made of it");
}

#[test]
fn tests_give_hellos() {
    let lists =
        "any(tls.client.alpn[*] eq \"h2\") and tls.client.ciphers eq \"1301\" and tls.client.versions eq \"TLSv1.3\"";
    let rules = [
        rule("bad", "tls.client.sni eq \"bad.test\"", "block", &json!({})),
        rule("lists", lists, "log", &json!({})),
        rule("long", "tls.client.hello_length gt 4000", "log", &json!({})),
    ];
    let file = |given: Value, expect: &str| {
        let tests = json!([{ "given": given, "expect": expect }]);
        faults(&[policy("p", &json!({ "rules": rules, "tests": tests }))])
    };
    let none: [String; 0] = [];
    let ip = "192.0.2.1";
    assert_eq!(file(json!({ "ip.src": ip, "tls.client.sni": "Bad.Test" }), "block"), none);
    let given = json!({
        "ip.src": ip, "tls.client.alpn": ["h2", "http/1.1"], "tls.client.ciphers": "1301", "tls.client.versions": ["TLSv1.3"]
    });
    assert_eq!(file(given, "log"), none);
    assert_eq!(file(json!({ "ip.src": ip, "tls.client.hello_length": 5000 }), "log"), none);
    for (given, said) in [
        (json!({ "ip.src": ip, "tls.client.ciphers": "AES" }), "`AES` is none; write such as `1301`"),
        (
            json!({ "ip.src": ip, "tls.client.alpn": [1] }),
            "found the number 1, expected a string or an array of strings",
        ),
        (json!({ "ip.src": ip, "tls.client.ja4": "t", "ssl": false }), "a request in clear text that has none"),
        (json!({ "ip.src": ip, "tls.client.ja4": "t", "tcp.flags.syn": true }), "use two tests"),
    ] {
        let found = file(given, "pass");
        assert!(found.iter().any(|fault| fault.contains(said)), "{said}: {found:#?}");
    }
}

#[test]
fn hellos_of_unproven_sources_do_not_count() {
    let after = json!({ "push": { "ttl": "1m", "after": { "matches": 2, "period": "1h" } } });
    let set = set(&[rule("bad", "tls.client.ja4 eq \"bad\"", "block", &after)]);
    let hello = hello("bad", "a.test");
    let (src, dst) = ("198.51.100.1".parse().expect("address"), "192.0.2.1:443".parse().expect("address"));
    let view = RequestView::of_hello(src, dst, "web", true, &hello);
    for _ in 0..9 {
        // It has to prove itself before anything comes of it.
        assert_eq!(set.evaluate_hello(&view, None).pushes.len(), 1);
    }
    assert!(set.evaluate_hello(&view, Some(1)).pushes.is_empty(), "the first that counts");
    assert_eq!(set.evaluate_hello(&view, Some(2)).pushes.len(), 1, "the second");
}

#[test]
fn explanations_name_the_phase() {
    let set = set(&[
        rule("path", "http.request.uri.path eq \"/\"", "allow", &json!({})),
        rule("bad", "tls.client.ja4 eq \"bad\"", "block", &json!({ "push": { "ttl": "1m" } })),
    ]);
    let explain = |ja4: &str| {
        let hello = hello(ja4, "a.test");
        let (src, dst) = ("198.51.100.1".parse().expect("address"), "192.0.2.1:443".parse().expect("address"));
        set.explain(&RequestView { path: "/", ..RequestView::of_hello(src, dst, "web", false, &hello) }, None)
    };
    let told = explain("bad");
    assert_eq!((told.action, told.phase, told.status), ("block", Some(Phase::ClientHello), None));
    assert_eq!((told.rule.as_deref(), told.push_seconds), (Some("p/bad"), Some(60)));
    let outcomes: Vec<Outcome> = told.rules.iter().map(|rule| rule.outcome).collect();
    assert_eq!(outcomes, [Outcome::NotAsked, Outcome::Match]);
    assert_eq!(told.rules[1].comparisons[0].saw, ["\"bad\""]);
    let told = explain("other");
    assert_eq!((told.action, told.phase, told.rule.as_deref()), ("allow", None, Some("p/path")));
}
