//! Policies as a whole: compiled from text, asked about requests, seen by the kernel.

use std::time::Duration;

use http::{Method, Version};
use serde_json::{Value, json};

use super::*;
use crate::fields::Fields;

mod abuse;
mod bodies;
mod effects;
mod handshakes;
mod places;
mod refusals;
mod responses;

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
    ask_with(set, src, path, &Fields::new())
}

/// The same with headers.
fn ask_with(set: &PolicySet, src: &str, path: &str, headers: &Fields) -> Decision {
    let request = RequestView { src: src.parse().expect("address"), path, ..RequestView::example(headers) };
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
    assert_eq!(
        decision.pushes.as_slice(),
        [Push { rule: RuleSlot(3), ttl: Duration::from_secs(600), scope: PushScope::Source }]
    );
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

#[test]
fn pushes_spare_allowed_sources() {
    let set = set(&[
        rule("block", "http.request.uri.path eq \"/x\"", "block", &json!({ "push": { "ttl": "1s" } })),
        rule("friends", "ip.src in {192.0.2.0/24}", "allow", &json!({})),
    ]);
    let decision = ask(&set, "192.0.2.7", "/x");
    assert_eq!((blocked(&decision), decision.pushes.len()), (Some((1, 403)), 0), "blocked in order, but not banned");
    assert_eq!(ask(&set, "192.0.3.7", "/x").pushes.len(), 1);
}

#[test]
fn shadow_counts_and_lets_through() {
    let rules = [
        rule("a", "http.request.uri.path eq \"/x\"", "block", &json!({ "mode": "shadow", "push": { "ttl": "1s" } })),
        rule("b", "ip.src eq 192.0.2.1", "drop", &json!({ "mode": "shadow" })),
        rule("c", "tcp.flags.syn", "drop", &json!({ "mode": "shadow" })),
        rule("d", "ip.src eq 192.0.2.1", "allow", &json!({ "mode": "shadow" })),
    ];
    let set = set(&rules);
    let decision = ask(&set, "192.0.2.1", "/x");
    assert_eq!(decision.action, Action::Pass);
    assert_eq!(decision.logged.as_slice(), [1, 4].map(RuleSlot), "packets are the kernel's");
    assert!(decision.pushes.is_empty() && !set.allows_source("192.0.2.1".parse().expect("address")));
    let image = set.kernel_image();
    assert!(image.allow.is_empty() && image.deny.is_empty() && set.warnings().is_empty());
    let shown: Vec<_> = image.rules.iter().map(|rule| (rule.slot, rule.action, rule.shadow)).collect();
    assert_eq!(shown, [(2, 2, true), (3, 2, true), (4, 1, true)]);
}

#[test]
fn expired_rules_are_off_and_the_next_expiry_is_known() {
    let set = set(&[
        rule("old", "true", "block", &json!({ "expires": "2026-11-22T00:00:00Z" })),
        rule("later", "http.request.uri.path eq \"/x\"", "block", &json!({ "expires": "2027-01-01T00:00:00Z" })),
        rule("soon", "ip.src eq 192.0.2.9", "allow", &json!({ "expires": "2026-11-23T00:00:00Z" })),
    ]);
    assert_eq!(blocked(&ask(&set, "192.0.2.1", "/x")), Some((2, 403)));
    assert_eq!(ask(&set, "192.0.2.1", "/").action, Action::Pass);
    assert_eq!(set.next_expiry().map(|at| at.to_string()), Some("2026-11-23T00:00:00Z".to_owned()));
    assert_eq!(set.rules()[0].phase, Phase::Off);
    assert_eq!(set.rules()[2].phase, Phase::Both);
    assert_eq!(set.warnings().len(), 1);
}

#[test]
fn scopes_bound_policies() {
    let block = [rule("all", "true", "block", &json!({}))];
    let scoped = |scope: Value| {
        compile(&[policy("p", &json!({ "scope": scope, "rules": block }))], &options()).expect("a policy")
    };
    for (scope, applies) in [
        (json!({}), true),
        (json!({ "hosts": ["Shop.*"] }), true),
        (json!({ "hosts": ["other", "*.example"] }), true),
        (json!({ "hosts": ["example"] }), false),
        (json!({ "listeners": ["web"] }), true),
        (json!({ "listeners": ["web"], "hosts": ["x"] }), false),
        (json!({ "listeners": ["other"] }), false),
    ] {
        assert_eq!(blocked(&ask(&scoped(scope.clone()), "192.0.2.1", "/")).is_some(), applies, "{scope}");
    }
    let allow = [rule("friends", "ip.src eq 192.0.2.1", "allow", &json!({}))];
    let set = compile(&[policy("p", &json!({ "scope": { "hosts": ["shop.*"] }, "rules": allow }))], &options());
    let set = set.expect("a policy");
    assert_eq!(set.rules()[0].phase, Phase::Request);
    assert!(!set.allows_source("192.0.2.1".parse().expect("address")));
    let names = ["web".to_owned()];
    let options = Options { listeners: &names, ..options() };
    let unknown = policy("p", &json!({ "scope": { "listeners": ["wbe"] }, "rules": block }));
    let faults = compile(&[unknown], &options).unwrap_err();
    assert!(faults[0].to_string().ends_with("the config has no listener `wbe`; did you mean `web`?"), "{}", faults[0]);
}

#[test]
fn a_root_dot_gets_around_nothing() {
    let rules = [rule("r", "http.host eq \"shop.example\"", "block", &json!({}))];
    let files = [policy("p", &json!({ "scope": { "hosts": ["shop.example"] }, "rules": rules }))];
    let set = compile(&files, &options()).expect("a policy");
    let headers = Fields::new();
    let request = RequestView {
        src: "192.0.2.1".parse().expect("address"),
        version: Version::HTTP_11,
        host: "shop.example.",
        ..RequestView::example(&headers)
    };
    assert_eq!(blocked(&set.evaluate(&request, 0)), Some((1, 403)));
}

#[test]
fn packet_rules_go_to_the_kernel() {
    let set = set(&[
        rule("bad", "ip.src in {198.51.100.0/24 203.0.113.7}", "drop", &json!({})),
        rule("bad-again", "ip.src eq 203.0.113.7 or ip.src eq 203.0.113.8", "drop", &json!({})),
        rule("mgmt", "tcp.dstport in {22 8000..8100} and not tcp.flags.ack", "drop", &json!({})),
        rule("dns", "ip.src in {192.0.2.0/24} and udp.dstport eq 53", "allow", &json!({})),
    ]);
    let image = set.kernel_image();
    let net = |text: &str| text.parse::<ipnet::IpNet>().expect("net");
    assert_eq!(image.deny, [(net("198.51.100.0/24"), 1), (net("203.0.113.7/32"), 1), (net("203.0.113.8/32"), 2)]);
    assert!(image.deny.is_sorted());
    let shown: Vec<_> = image
        .rules
        .iter()
        .map(|r| (r.slot, r.action, r.cube.protos, r.cube.dport.ranges(), r.cube.tcp_mask, r.cube.tcp_flags))
        .collect();
    let ports: [&[(u128, u128)]; 2] = [&[(22, 22), (8000, 8100)], &[(53, 53)]];
    assert_eq!(shown, [(3, 2, 1, ports[0], 0x10, 0), (4, 1, 2, ports[1], 0, 0)]);
    assert_eq!(
        set.rules().iter().map(|r| r.phase).collect::<Vec<_>>(),
        [Phase::Packet, Phase::Packet, Phase::Packet, Phase::Both]
    );
    assert!(!set.allows_source("192.0.2.1".parse().expect("address")), "not on the source alone");
}

#[test]
fn everyone_but_partners() {
    let set = set(&[rule("rest", "not ip.src in {192.0.2.0/24 2001:db8::/32}", "drop", &json!({}))]);
    let covers = |ip: &str| {
        let ip = crate::ranges::number(ip.parse().expect("address"));
        let net = |net: &ipnet::IpNet| {
            let length = net.prefix_len() + if net.addr().is_ipv4() { 96 } else { 0 };
            let shift = 128 - u32::from(length);
            crate::ranges::number(net.network()).checked_shr(shift) == ip.checked_shr(shift)
        };
        set.kernel_image().deny.iter().any(|(n, _)| net(n))
    };
    assert!(covers("192.0.3.1") && covers("2001:db9::1") && covers("8.8.8.8") && covers("::1"));
    assert!(!covers("192.0.2.1") && !covers("2001:db8:ffff::1"));
}

#[test]
fn rates_count_over_a_reload() {
    let limited = |limit: u32| {
        let rate = json!({ "rate": { "limit": limit, "period": "60s" }, "push": { "ttl": "1m" } });
        [policy("p", &json!({ "rules": [rule("r", "http.request.uri.path eq \"/login\"", "block", &rate)] }))]
    };
    let first = compile(&limited(2), &options()).expect("a policy");
    let over = |set: &PolicySet| blocked(&ask(set, "192.0.2.1", "/login")).is_some();
    assert!(!over(&first));
    assert_eq!(ask(&first, "192.0.2.1", "/other"), Decision::default());
    assert!(!over(&first), "only matching requests count");
    let same = compile(&limited(2), &Options { previous: Some(&first), ..options() }).expect("a policy");
    let decision = ask(&same, "192.0.2.1", "/login");
    assert_eq!((blocked(&decision), decision.pushes.len()), (Some((1, 403)), 1), "the counts went on");
    assert!(!over(&compile(&limited(1), &Options { previous: Some(&first), ..options() }).expect("a policy")));
    assert!(!over(&compile(&limited(2), &options()).expect("a policy")));
}

#[test]
fn slots_stay_with_names() {
    let known = [(7, "p/b".to_owned()), (1, "gone/x".to_owned())];
    let rules = [rule("a", "true", "log", &json!({})), rule("b", "true", "log", &json!({}))];
    let files = [policy("p", &json!({ "rules": rules }))];
    let first = compile(&files, &Options { known_slots: &known, ..options() }).expect("a policy");
    assert_eq!(first.kernel_image().names, [(2, "p/a".to_owned()), (7, "p/b".to_owned())]);
    let again = compile(&files, &Options { previous: Some(&first), ..options() }).expect("a policy");
    assert_eq!(again.kernel_image(), first.kernel_image());
    assert!(again.kernel_image().diff(first.kernel_image()).is_empty());
}

#[test]
fn what_files_take_together_is_bounded() {
    // Each alternative is a packet rule of its own.
    let rules: Vec<Value> = (0..9)
        .map(|n| {
            let pairs: Vec<String> = (0..250).map(|m| format!("ip.ttl eq {n} and tcp.dstport eq {m}")).collect();
            rule(&format!("r{n}"), &pairs.join(" or "), "drop", &json!({}))
        })
        .collect();
    let files = [policy("a", &json!({ "rules": rules })), policy("b", &json!({ "rules": rules }))];
    let found = faults(&files);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("b.json:1:"), "{}", found[0]);
    assert!(
        found[0].contains("with this rule there are 4250 packet rules in all policies, at most 4096 fit"),
        "{}",
        found[0]
    );

    let list = |from: u32, count: u32| -> Vec<String> {
        (from..from + count).map(|n| format!("{}/24", std::net::Ipv4Addr::from_bits(n * 512))).collect()
    };
    let with_list = |id: &str, from| {
        let lists = json!({ "bad": { "type": "cidr", "items": list(from, 40_000) } });
        policy(id, &json!({ "lists": lists, "rules": [rule("r", "ip.src in $bad", "drop", &json!({}))] }))
    };
    assert!(faults(&[with_list("a", 0)]).is_empty());
    let found = faults(&[with_list("a", 0), with_list("b", 100_000)]);
    assert!(found[0].contains("there are 80000 denied prefixes in all policies, at most 65536 fit"), "{}", found[0]);
    assert!(found[0].contains("this rule has 40000 of them"), "{}", found[0]);

    let rate = json!({ "rate": { "limit": 1, "period": "1s" } });
    let rules: Vec<Value> = (0..65).map(|n| rule(&format!("r{n}"), "true", "block", &rate)).collect();
    assert!(faults(&[policy("p", &json!({ "rules": rules }))])[0].contains("more than 64 rules with a rate"));
    let rules: Vec<Value> = (0..16_383).map(|n| rule(&format!("r{n}"), "true", "log", &json!({}))).collect();
    let found = faults(&[policy("a", &json!({ "rules": rules })), policy("b", &json!({ "rules": rules[..1] }))]);
    assert!(found[0].contains("16384 rules in all policies, at most 16383 are taken"), "{}", found[0]);
}

#[test]
fn ids_are_unique_over_files() {
    let rules = [rule("r", "true", "log", &json!({}))];
    let (_, text) = policy("same", &json!({ "rules": rules }));
    let found = faults(&[("a.json".to_owned(), text.clone()), ("b.json".to_owned(), text)]);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("b.json:1:") && found[0].contains("taken by the policy in a.json"), "{}", found[0]);
}

#[test]
fn tests_see_rates_and_shadow_rules() {
    let rate = json!({ "rate": { "limit": 3, "period": "60s" }, "mode": "shadow", "expires": "2020-01-01T00:00:00Z" });
    let rules = [rule("r", "http.request.uri.path eq \"/login\"", "block", &rate)];
    let given = json!({ "ip.src": "192.0.2.9", "http.request.uri.path": "/login" });
    let tests = json!([
        { "given": given, "times": 3, "expect": "pass" },
        { "given": given, "times": 4, "expect": "block", "rule": "r" },
        { "given": given, "times": 3, "expect": "allow" },
    ]);
    assert_eq!(faults(&[policy("p", &json!({ "rules": rules, "tests": tests }))]), Vec::<String>::new());
}

proptest::proptest! {
    #[test]
    fn never_panics(text in "\\PC*") {
        let _ = compile(&[("p.json", text)], &options());
    }

    #[test]
    fn never_panics_on_changed_policies(at in 0_usize..400, by in "\\PC{0,4}", cut in 0_usize..30) {
        let more = json!({
            "lists": { "l": { "type": "cidr", "items": ["10.0.0.0/8"] } },
            "rules": [rule("r", "ip.src in $l and http.host eq \"a\"", "block", &json!({ "push": { "ttl": "1m" } }))],
            "tests": [{ "given": { "ip.src": "10.0.0.1", "http.host": "a" }, "expect": "block" }],
        });
        let (name, mut text) = policy("p", &more);
        let start = at.min(text.len());
        let end = (start + cut).min(text.len());
        text.replace_range(start..end, &by);
        let _ = compile(&[(name, text)], &options());
    }
}
