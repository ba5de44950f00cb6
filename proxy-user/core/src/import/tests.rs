use super::*;

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().expect("a time")
}

fn done(product: Product, text: &str) -> Report {
    import(product, text, "imported", now()).expect("imported")
}

fn outcomes(report: &Report) -> Vec<Outcome> {
    report.lines.iter().map(|line| line.outcome).collect()
}

fn rules(report: &Report) -> Vec<Value> {
    report.policy.as_ref().and_then(|policy| policy["rules"].as_array()).cloned().unwrap_or_default()
}

/// What the imported policy does with requests: `(fields, block or pass)`.
fn behaves(report: &Report, rows: &[(Value, &str)]) {
    let mut policy = report.policy.clone().expect("a policy");
    policy["tests"] = rows.iter().map(|(given, expect)| json!({ "given": given, "expect": expect })).collect();
    let found = policy::compile(&[("p", policy.to_string())], &Options::new(jiff::Timestamp::UNIX_EPOCH));
    if let Err(faults) = found {
        panic!("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }
}

#[test]
fn a_ruleset_of_cloudflare() {
    use Outcome::{Approximated, Mapped, Refused};
    let text = json!({ "result": { "phase": "http_request_firewall_custom", "rules": [
        { "id": "abc", "description": "Block WordPress!", "expression": "(http.request.uri.path contains \"/wp-\")", "action": "block" },
        { "description": "own", "expression": "ip.src eq 192.0.2.1", "action": "block",
          "action_parameters": { "response": { "status_code": 418, "content": "{}", "content_type": "application/json" } } },
        { "description": "bots", "expression": "cf.client.bot", "action": "block" },
        { "description": "challenge", "expression": "http.request.method eq \"POST\"", "action": "managed_challenge" },
        { "description": "off", "expression": "true", "action": "block", "enabled": false },
        { "expression": "true", "action": "execute" },
        { "action": "block" },
        { "description": "Limit", "expression": "http.request.uri.path eq \"/login\"", "action": "block",
          "ratelimit": { "characteristics": ["ip.src", "cf.colo.id"], "period": 60, "requests_per_period": 5, "mitigation_timeout": 600 } },
        { "description": "go", "expression": "http.host eq \"a.example\"", "action": "redirect", "action_parameters": { "from_value": {
          "status_code": 301, "preserve_query_string": true, "target_url": { "expression": "concat(\"https://b.example\", http.request.uri.path)" } } } },
        { "description": "header", "expression": "true", "action": "rewrite", "action_parameters": { "headers": {
          "x-a": { "operation": "set", "value": "1" }, "x-b": { "operation": "remove" } } } },
        { "description": "skip", "expression": "true", "action": "skip", "action_parameters": { "ruleset": "current" } },
    ] } });
    let report = done(Product::Cloudflare, &text.to_string());
    assert_eq!(
        outcomes(&report),
        [Mapped, Mapped, Refused, Approximated, Refused, Refused, Refused, Mapped, Mapped, Mapped, Mapped, Mapped]
    );
    let ids: Vec<Value> = rules(&report).iter().map(|rule| rule["id"].clone()).collect();
    assert_eq!(ids, ["block-wordpress", "own", "challenge", "limit", "go", "header", "header-2", "skip"]);
    assert!(report.lines[2].note.as_ref().is_some_and(|note| note.contains("cf.client.bot")), "{:?}", report.lines[2]);
    assert_eq!(rules(&report)[1]["action"]["status"], 418);
    assert_eq!(
        rules(&report)[3]["rate"],
        json!({ "key": ["ip.src"], "limit": 5, "period": "60s", "mitigation_timeout": "600s" })
    );
    behaves(
        &report,
        &[
            (json!({ "ip.src": "203.0.113.9", "http.request.uri.path": "/wp-login.php" }), "block"),
            (json!({ "ip.src": "203.0.113.9", "http.host": "a.example" }), "redirect"),
        ],
    );
    for bad in ["", "{}", "[1", "{\"rules\": 7}"] {
        assert!(import(Product::Cloudflare, bad, "x", now()).is_err(), "{bad}");
    }
    let older = r#"[{ "id": "1", "action": "block", "filter": { "expression": "raw.http.request.uri.path eq \"/x\"" } },
        { "id": "2", "action": "block", "paused": true, "filter": { "expression": "true" } }]"#;
    let report = done(Product::Cloudflare, older);
    assert_eq!(outcomes(&report), [Mapped, Refused], "rules of the older API: {:?}", report.lines);
    behaves(&report, &[(json!({ "ip.src": "203.0.113.9", "http.request.uri.path": "/x" }), "block")]);
    assert_eq!(done(Product::Cloudflare, "[]").policy, None);
    assert_eq!(outcomes(&done(Product::Cloudflare, "[1, null]")), [Refused, Refused]);
}

#[test]
fn decisions_and_bans() {
    use Outcome::{Approximated, Mapped, Refused};
    let crowdsec = r#"[{"decisions":[
        {"scope":"Ip","value":"192.0.2.1","type":"ban","duration":"3h59m"},
        {"scope":"Range","value":"198.51.100.0/24","type":"ban","duration":"1h"},
        {"scope":"Ip","value":"192.0.2.2","type":"captcha","duration":"1h"},
        {"scope":"Country","value":"XX","type":"ban","duration":"1h"}]}]"#;
    let report = done(Product::Decisions, crowdsec);
    assert_eq!(outcomes(&report), [Mapped, Mapped, Approximated, Refused]);
    let ends: Vec<Value> = rules(&report).iter().map(|rule| rule["expires"].clone()).collect();
    assert_eq!(ends, ["2026-11-22T13:00:00Z", "2026-11-22T15:59:00Z", "2026-11-22T13:00:00Z"]);
    behaves(&report, &[(json!({ "ip.src": "198.51.100.7" }), "drop"), (json!({ "ip.src": "192.0.2.2" }), "challenge")]);
    let raw = "id,source,ip,reason,action,country,as,events_count,expiration,simulated,alert_id\n\
               7,crowdsec,Ip:192.0.2.1,crowdsecurity/ssh-bf,ban,DE,\"AS1 A, Inc\",6,3h59m,false,3\n\
               8,crowdsec,Ip:192.0.2.2,crowdsecurity/ssh-bf,ban,DE,,6,3h59m,true,3\n\
               9,crowdsec,Ip:192.0.2.3,crowdsecurity/ssh-bf,ban,DE,,6,-1m2s,false,3\n";
    let report = done(Product::Decisions, raw);
    assert_eq!(outcomes(&report), [Mapped, Refused, Refused], "{:?}", report.lines);
    assert_eq!(rules(&report)[0]["expires"], "2026-11-22T15:59:00Z");
    let banned = "[{'sshd': ['192.0.2.1', '2001:db8::1']}, {'nginx.limit': []}]";
    let report = done(Product::Decisions, banned);
    assert_eq!(outcomes(&report), [Mapped, Mapped, Refused], "{:?}", report.lines);
    let timed = "192.0.2.1 \t2026-11-22 12:00:00 + 600 = 2026-11-22 12:10:00\n# a comment\n192.0.2.9\nnobody\n192.0.2.10 \t2026-11-22 12:00:00 + -1 = 9999-12-31 23:59:59\n";
    let report = done(Product::Decisions, timed);
    assert_eq!(outcomes(&report), [Approximated, Mapped, Refused, Mapped]);
    let policy = report.policy.as_ref().expect("a policy");
    assert_eq!(policy["lists"]["banned"]["items"], json!(["192.0.2.9", "192.0.2.10"]));
    assert_eq!(policy["lists"]["banned_1"]["items"], json!(["192.0.2.1"]));
    assert_eq!(policy["rules"][1]["expires"], "2026-11-22T12:10:00Z");
    let status = "Status for the jail: sshd\n|- Filter\n|  |- Total failed: 9\n`- Actions\n   |- Currently banned: 2\n   \
                  `- Banned IP list:   192.0.2.9 2001:db8::9\n";
    let report = done(Product::Decisions, status);
    assert_eq!(outcomes(&report), [Mapped, Mapped], "{:?}", report.lines);
    let report = done(Product::Decisions, "0.0.0.0/0\n::/0 1h\n192.0.2.0/24\n");
    assert_eq!(outcomes(&report), [Refused, Refused, Mapped], "who would ban everybody is not believed");
    assert_eq!(done(Product::Decisions, "null\n"), Report::default());
    assert_eq!(done(Product::Decisions, "nothing here").policy, None);
    assert!(import(Product::Decisions, "[", "x", now()).is_err());
}

#[test]
fn many_ends_become_few_lists() {
    let lines: Vec<String> = (1..=200).map(|n| format!("192.0.2.{n} {}m30s", n * 7)).collect();
    let text = lines.join("\n");
    let report = done(Product::Decisions, &text);
    assert_eq!(report.count(Outcome::Refused), 0);
    assert!((2..=16).contains(&rules(&report).len()), "{} lists", rules(&report).len());
    let ends: Vec<Timestamp> =
        rules(&report).iter().filter_map(|rule| rule["expires"].as_str()?.parse().ok()).collect();
    assert_eq!(ends.len(), rules(&report).len());
    for line in &report.lines {
        // Never shorter, and at most a step longer.
        let n: i64 = line.text.rsplit('.').next().and_then(|n| n.parse().ok()).expect("a number");
        let list =
            line.into.as_deref().and_then(|list| list.rsplit('_').next()?.parse::<usize>().ok()).expect("a list");
        let late = ends[list - 1].as_second() - (now().as_second() + n * 420 + 30);
        assert!((0..6 * 3_600).contains(&late), "{line:?} ends {late} s late");
    }
    assert_eq!(done(Product::Decisions, "192.0.2.1 100000h\n192.0.2.2 soon\n").count(Outcome::Approximated), 1);
}

#[test]
fn rates_of_cloudflare_by_what_they_count() {
    let rule = |limit: Value| {
        let text = json!([{ "description": "r", "expression": "(http.request.uri.path eq \"/login\")", "action": "block", "ratelimit": limit }]);
        let report = done(Product::Cloudflare, &text.to_string());
        let rate = rules(&report).first().map(|rule| rule["rate"].clone());
        (report.lines[0].outcome, rate.unwrap_or_default(), report.lines[0].note.clone().unwrap_or_default())
    };
    let limit = |more: &Value| {
        let mut limit = json!({ "period": 10, "requests_per_period": 4 });
        limit.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        limit
    };
    let (outcome, rate, note) = rule(limit(&json!({ "characteristics":
        ["cf.colo.id", "ip.src", "http.request.headers[\"x-api-key\"]", "cf.bot_management.ja4"] })));
    assert_eq!((outcome, note.as_str()), (Outcome::Mapped, ""));
    assert_eq!(rate["key"], json!(["ip.src", "http.request.headers[\"x-api-key\"][0]", "cf.bot_management.ja4"]));
    let (outcome, rate, note) = rule(limit(&json!({ "characteristics": ["cf.unique_visitor_id", "cf.colo.id"] })));
    assert_eq!((outcome, &rate["key"]), (Outcome::Approximated, &json!(["ip.src"])));
    assert!(note.contains("by visitor"), "{note}");
    let (outcome, rate, note) = rule(limit(&json!({ "characteristics": ["ip.src", "no.such.field"] })));
    assert_eq!((outcome, &rate["key"]), (Outcome::Approximated, &json!(["ip.src"])));
    assert!(note.contains("no.such.field"), "{note}");
    let counting = "(http.request.uri.path eq \"/login\") and (http.response.code eq 401)";
    let (outcome, rate, note) = rule(limit(&json!({ "counting_expression": counting, "mitigation_timeout": 60 })));
    assert_eq!((outcome, &rate["count_when"]), (Outcome::Mapped, &json!("http.response.code eq 401")), "{note}");
    assert_eq!(rate["mitigation_timeout"], "60s");
    let counting = "http.request.method eq \"POST\" and http.response.code eq 401";
    let (outcome, _, note) = rule(limit(&json!({ "counting_expression": counting, "requests_to_origin": true })));
    assert_eq!(outcome, Outcome::Approximated);
    assert!(note.contains("POST") && note.contains("cache"), "{note}");
    let (outcome, _, note) = rule(json!({ "period": 10, "score_per_period": 4 }));
    assert!(outcome == Outcome::Refused && note.contains("scores"), "{note}");
}

#[test]
fn zones_of_nginx_by_what_they_count() {
    let text = r"
        limit_req_zone $http_x_api_key zone=keys:10m rate=2r/s;
        limit_req_zone $binary_remote_addr$request_uri zone=pages:10m rate=30r/m;
        limit_req_zone $upstream_addr zone=none:10m rate=2r/s;
        limit_req_status 429;
        location /api { limit_req zone=keys; limit_req_status 430; }
        location /page { limit_req zone=pages; limit_req_dry_run on; }
    ";
    let report = done(Product::Nginx, text);
    assert_eq!(
        outcomes(&report),
        [Outcome::Refused, Outcome::Approximated, Outcome::Approximated],
        "{:?}",
        report.lines
    );
    let rules = rules(&report);
    assert_eq!(rules[0]["rate"]["key"], json!(["http.request.headers[\"x-api-key\"][0]"]));
    assert!(rules[0]["when"].as_str().is_some_and(|when| when.ends_with("[\"x-api-key\"][0] ne \"\"")), "{rules:?}");
    assert_eq!((&rules[0]["action"]["status"], &rules[1]["action"]["status"]), (&json!(430), &json!(429)));
    assert_eq!(rules[1]["rate"]["key"], json!(["ip.src", "http.request.uri"]));
    assert_eq!((&rules[0]["mode"], &rules[1]["mode"]), (&Value::Null, &json!("shadow")));
}

#[test]
fn an_excerpt_of_nginx() {
    use Outcome::{Approximated, Mapped, Refused};
    let text = r#"
        limit_req_zone $binary_remote_addr zone=login:10m rate=2r/s;
        limit_req_zone $http_x_key zone=keys:10m rate=2r/s;
        server {
            server_name shop.example *.shop.example;  # two names
            deny 192.0.2.66;
            location /admin {
                allow 192.0.2.0/24;
                allow 2001:db8::/32;
                deny all;
                deny 203.0.113.1;
            }
            location = /login { limit_req zone=login burst=5 nodelay; limit_req_status 429; }
            location ~* "\.(bak|sql)$" { deny all; }
            proxy_pass http://app;
        }
    "#;
    let report = done(Product::Nginx, text);
    let shown: Vec<(usize, Outcome)> = report.lines.iter().map(|line| (line.number, line.outcome)).collect();
    assert_eq!(
        shown,
        [
            (6, Mapped),
            (8, Mapped),
            (9, Mapped),
            (10, Approximated),
            (11, Refused),
            (13, Approximated),
            (14, Approximated),
            (15, Refused),
        ],
        "{:#?}",
        report.lines
    );
    let at =
        |src: &str, host: &str, path: &str| json!({ "ip.src": src, "http.host": host, "http.request.uri.path": path });
    behaves(
        &report,
        &[
            (at("192.0.2.66", "shop.example", "/"), "block"),
            (at("192.0.2.66", "other.example", "/"), "pass"),
            (at("203.0.113.9", "a.shop.example", "/admin/x"), "block"),
            (at("192.0.2.9", "shop.example", "/admin/x"), "pass"),
            (at("203.0.113.9", "shop.example", "/dump.SQL"), "block"),
        ],
    );
    let login = rules(&report).into_iter().find(|rule| rule.get("rate").is_some()).expect("a rate");
    assert_eq!((&login["rate"]["limit"], &login["rate"]["period"]), (&json!(25), &json!("10s")));
    for bad in ["deny all", "location \"x { }", &"a {".repeat(40)] {
        assert!(import(Product::Nginx, bad, "x", now()).is_err(), "{bad}");
    }
}

#[test]
fn rules_of_an_nginx_server_stay_with_its_names() {
    for nameless in ["server { server_name _; deny all; }", "server { listen 80; location / { deny all; } }"] {
        let report = done(Product::Nginx, nameless);
        assert_eq!((report.policy, report.lines.last().map(|line| line.outcome)), (None, Some(Outcome::Refused)));
    }
    let report = done(Product::Nginx, "server { deny all; server_name a.example _; server_name b.example; }");
    assert_eq!(report.count(Outcome::Mapped), 1, "{:?}", report.lines);
    let at = |host: &str| json!({ "ip.src": "192.0.2.1", "http.host": host });
    let expected = [(at("a.example"), "block"), (at("b.example"), "block"), (at("c.example"), "pass")];
    behaves(&report, &expected);
    assert_eq!(done(Product::Nginx, "deny all;").count(Outcome::Mapped), 1, "an excerpt without servers");
}

#[test]
fn names_are_made_of_what_people_wrote() {
    let mut draft = Draft::new("x", now());
    for (wanted, id) in [("Block WP!", "block-wp"), ("", "rule"), ("§§", "rule"), ("a.b_c", "a.b_c")] {
        assert_eq!(draft.rule_id(wanted), id);
    }
    draft.rules.push(json!({ "id": "a" }));
    draft.rules.push(json!({ "id": "a-2" }));
    assert_eq!(draft.rule_id("A"), "a-3");
    let long = draft.rule_id(&"x".repeat(99));
    assert_eq!(long.len(), MAX_ID);
    draft.rules.push(json!({ "id": long }));
    assert_eq!(draft.rule_id(&"x".repeat(99)), format!("{}-2", "x".repeat(MAX_ID - 2)));
    assert!(import(Product::Nginx, "deny all;", "No Name", now()).is_err_and(|e| e.contains("cannot be the id")));
    assert_eq!(quoted("a\"\\\n"), r#""a\"\\\x0a""#);
}

proptest::proptest! {
    #[test]
    fn never_panics_and_what_comes_out_loads(text in "\\PC{0,120}", which in 0_usize..3) {
        let product = [Product::Cloudflare, Product::Decisions, Product::Nginx][which];
        if let Ok(Report { policy: Some(policy), .. }) = import(product, &text, "p", now()) {
            let loaded = policy::compile(&[("p", policy.to_string())], &Options::new(jiff::Timestamp::UNIX_EPOCH));
            proptest::prop_assert!(loaded.is_ok());
        }
    }
}
