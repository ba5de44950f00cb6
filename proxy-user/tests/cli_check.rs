//! `tidegate check` on good and bad files: the summary, every fault at its place, and the exit status.

mod support;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use support::Scratch;

fn check(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate")).current_dir(dir).arg("check").args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

fn write(scratch: &Scratch, name: &str, value: &Value) {
    std::fs::write(scratch.path().join(name), serde_json::to_string_pretty(value).unwrap()).unwrap();
}

fn config() -> Value {
    json!({
        "listeners": [{"name": "web", "address": "127.0.0.1:8080", "protocol": "http"}],
        "routes": [{"hosts": ["shop.example"], "path": "/api", "upstream": "app"}],
        "upstreams": {"app": {"servers": ["http://127.0.0.1:9000"]}},
    })
}

fn policy(when: &str) -> Value {
    json!({
        "schema": "tidegate.policy/v1", "id": "edge", "revision": 1,
        "rules": [
            {"id": "office", "when": "ip.src in {192.0.2.0/24}", "action": {"type": "allow"}},
            {"id": "scan", "when": when, "action": {"type": "block", "status": 403}, "push": {"ttl": "10m"}},
        ],
    })
}

#[test]
fn a_good_config_is_summed_up() {
    let scratch = Scratch::new("check-good");
    write(&scratch, "edge.json", &config());
    let out = check(scratch.path(), &["--config", "edge.json"]);
    let said = text(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    for part in ["ok\n", "web 127.0.0.1:8080 http", "shop.example /api -> app", "app http://127.0.0.1:9000", "none"] {
        assert!(said.contains(part), "{part} is missing in\n{said}");
    }
    let report: Value =
        serde_json::from_slice(&check(scratch.path(), &["--config", "edge.json", "--json"]).stdout).unwrap();
    assert_eq!((&report["ok"], &report["listeners"][0]["name"]), (&json!(true), &json!("web")));
}

#[test]
fn routes_are_explained_and_unreachable_ones_told() {
    let scratch = Scratch::new("check-routes");
    let mut config = config();
    config["upstreams"]["canary"] = json!({"servers": ["http://127.0.0.1:9001"]});
    config["routes"] = json!([
        {"upstream": "app"},
        {"path": "/u/{id}", "split": [{"upstream": "app", "weight": 1}, {"upstream": "canary", "weight": 0}]},
        {"path": "/u/{name}", "upstream": "canary"},
        {"path": "/old", "methods": ["GET"], "redirect": {"to": "/new{rest}"}},
    ]);
    write(&scratch, "edge.json", &config);
    let out = check(scratch.path(), &["--config", "edge.json"]);
    let (said, warned) = (text(&out.stdout), text(&out.stderr));
    assert_eq!(out.status.code(), Some(0), "{warned}");
    for part in ["any host /u/{id} -> app 1, canary 0\n", "GET any host /old -> 302 to /new{rest}\n"] {
        assert!(said.contains(part), "{part} is missing in\n{said}");
    }
    let warning = "/routes/2: no request gets here: /routes/1 takes all of them";
    assert!(warned.contains("edge.json:") && warned.contains(warning), "{warned}");

    let explain = |request: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.current_dir(scratch.path()).args(["explain", "--config", "edge.json", "--from", "192.0.2.1"]);
        let out = command.args(["--request", request]).args(more).output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        text(&out.stdout).to_owned()
    };
    let said = explain("GET http://a.test/u/7", &[]);
    assert!(said.contains("route     /routes/1 any host /u/{id} -> app 1, canary 0; 192.0.2.1 gets app\n"), "{said}");
    let told: Value = serde_json::from_str(&explain("GET http://a.test/old/x", &["--json"])).unwrap();
    assert_eq!((&told["route"]["pointer"], &told["action"]), (&json!("/routes/3"), &json!("pass")));
    let told: Value = serde_json::from_str(&explain("POST http://a.test/old/x", &["--json"])).unwrap();
    assert_eq!(told["route"]["leads_to"], "app");
}

#[test]
fn every_fault_of_a_config_is_shown_at_its_line() {
    let scratch = Scratch::new("check-bad");
    let mut bad = config();
    bad["listeners"][0]["protcol"] = json!("http");
    bad["routes"][0]["upstream"] = json!("nowhere");
    write(&scratch, "edge.json", &bad);
    let out = check(scratch.path(), &["--config", "edge.json"]);
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(out.stdout.is_empty());
    let first = said.lines().find(|line| line.contains("protcol")).unwrap_or_else(|| panic!("{said}"));
    let place =
        first.strip_prefix("edge.json:").and_then(|rest| rest.split_once(": ")).unwrap_or_else(|| panic!("{said}"));
    let (line, column) = place.0.split_once(':').unwrap();
    assert!(line.parse::<u32>().unwrap() > 1 && column.parse::<u32>().is_ok(), "{first}");
    assert!(place.1.starts_with("/listeners/0"), "{first}");
    let report: Value =
        serde_json::from_slice(&check(scratch.path(), &["--config", "edge.json", "--json"]).stdout).unwrap();
    assert_eq!(report["ok"], json!(false));
    assert!(report["faults"].as_array().is_some_and(|faults| !faults.is_empty()), "{report}");
}

#[test]
fn a_missing_file_is_a_fault_not_a_crash() {
    let scratch = Scratch::new("check-missing");
    for args in [["--config", "no.json"], ["--policy", "no.json"]] {
        let out = check(scratch.path(), &args);
        assert_eq!(out.status.code(), Some(1));
        assert!(text(&out.stderr).contains("no.json") && text(&out.stderr).contains("1 fault"), "{args:?}");
    }
}

#[test]
fn a_request_is_explained_rule_by_rule() {
    let scratch = Scratch::new("explain-request");
    let mut all = config();
    all["policies"] = json!(["edge.policy.json"]);
    write(&scratch, "edge.json", &all);
    write(&scratch, "edge.policy.json", &policy("lower(http.user_agent) contains \"sqlmap\""));
    let explain = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        let command = command.current_dir(scratch.path()).args(["explain", "--config", "edge.json"]).args(args);
        command.output().unwrap()
    };
    let request = ["--request", "GET http://shop.example/api", "--header", "User-Agent: SQLMap/1.8", "--from"];
    let out = explain(&[&request[..], &["2001:db8::9"]].concat());
    let said = text(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    for part in [
        "edge/office (both, allow): no match\n    false ip.src in {192.0.2.0/24}; saw 2001:db8::9\n",
        "edge/scan (request, block): match\n    true  lower(http.user_agent) contains \"sqlmap\"; saw \"sqlmap/1.8\"\n",
        "block 403 by edge/scan; writes to VERDICTS: prefix 2001:db8::/64, for 600 s",
    ] {
        assert!(said.contains(part), "{part} is missing in\n{said}");
    }
    let out = explain(&[&request[..], &["192.0.2.9", "--json"]].concat());
    let told: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((&told["action"], &told["rule"]), (&json!("allow"), &json!("edge/office")));
    assert_eq!(told["rules"][1]["outcome"], json!("not-asked"));
    for (args, said) in [
        (&["--request", "GET /x", "--from", "192.0.2.9"][..], "not a whole URL"),
        (&["--request", "GET http://a/"], "--from"),
        (&[], "--packet"),
    ] {
        let out = explain(args);
        assert!(!out.status.success() && text(&out.stderr).contains(said), "{args:?}: {}", text(&out.stderr));
    }
}

#[test]
fn policies_are_checked_by_themselves_and_each_rule_tells_its_phase() {
    let scratch = Scratch::new("check-policy");
    write(&scratch, "good.json", &policy("http.request.uri.path eq \"/wp-login.php\""));
    let out = check(scratch.path(), &["--policy", "good.json"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let rows = text(&out.stdout).lines().map(|l| l.split_whitespace().collect::<Vec<_>>()).collect::<Vec<_>>();
    let row = |name: &str| rows.iter().find(|row| row.first() == Some(&name)).unwrap_or_else(|| panic!("{rows:?}"));
    assert_eq!(row("edge/office")[1..4], ["both", "allow", "enforce"]);
    assert_eq!(row("edge/scan")[1..4], ["request", "block", "enforce"]);

    write(&scratch, "bad.json", &policy("htpp.request.uri.path eq \"/x\""));
    let out = check(scratch.path(), &["--policy", "bad.json"]);
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with("bad.json:") && said.contains("/rules/1/when") && said.contains("http.request.uri.path"),
        "{said}"
    );
}

#[test]
fn policy_check_and_test_work_on_files_alone() {
    let scratch = Scratch::new("policy-check");
    let mut good = policy("http.request.uri.path eq \"/x\"");
    good["tests"] = json!([
        { "description": "a probe", "given": { "ip.src": "203.0.113.9", "http.request.uri.path": "/x" }, "expect": "block" },
        { "given": { "ip.src": "192.0.2.9", "http.request.uri.path": "/x" }, "expect": "allow" },
    ]);
    write(&scratch, "good.json", &good);
    let mut failing = good.clone();
    failing["tests"][1]["expect"] = json!("block");
    write(&scratch, "failing.json", &failing);
    write(&scratch, "bad.json", &policy("htpp.request.uri.path eq \"/x\""));
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.current_dir(scratch.path()).arg("policy").args(args).output().unwrap()
    };
    let out = run(&["test", "good.json"]);
    let said = text(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(said.contains("ok   edge test 0: block a probe") && said.contains("2 tests passed, 0 failed"), "{said}");
    let out = run(&["test", "failing.json", "--json"]);
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert_eq!((&report["ok"], &report["passed"], &report["failed"]), (&json!(false), &json!(1), &json!(1)));
    let fault = report["tests"][1]["faults"][0].as_str().unwrap();
    assert!(fault.starts_with("failing.json:") && fault.contains("expected `block`, got `allow`"), "{fault}");
    for args in [["check", "bad.json"], ["test", "bad.json"], ["check", "failing.json"], ["test", "none.json"]] {
        let out = run(&args);
        let said = text(&out.stderr);
        assert!(out.status.code() == Some(1) && said.contains(args[1]) && said.contains("1 fault"), "{args:?}: {said}");
    }
    assert!(text(&run(&["check", "bad.json"]).stderr).contains("^^^^"), "the caret line");
    let report: Value = serde_json::from_slice(&run(&["check", "good.json", "--json"]).stdout).unwrap();
    assert_eq!((&report["ok"], &report["rules"][1]["name"]), (&json!(true), &json!("edge/scan")));
    assert_eq!(run(&["check"]).status.code(), Some(2));
    for command in ["check", "test", "diff", "apply", "rollback", "history", "audit"] {
        let out = run(&[command, "--help"]);
        assert!(text(&out.stdout).contains("Examples:\n"), "{command}");
    }
}
