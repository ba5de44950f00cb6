//! Policies with real clients and the kernel half: each attack is met in the phase that `explain` predicted, fingerprints of
//! clients are banned over TCP and QUIC, and an applied set that shuts people out is rolled back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::Case;
use crate::clients::{Client, Version};
use crate::edge::Edge;
use crate::process::{Finished, patient, run};
use crate::street::{CROWD, EDGE_V4, GOOD_V4, SCANNER_V4, SCANNER_V6};
use crate::tools;

pub const CASES: &[Case] = &[
    Case { name: "each_attack_is_met_where_explain_says", run: each_attack_is_met_where_explain_says },
    Case { name: "fingerprints_are_banned_over_tcp_and_quic", run: fingerprints_are_banned_over_tcp_and_quic },
    Case { name: "rollback_lets_in_again_at_once", run: rollback_lets_in_again_at_once },
    Case { name: "a_push_may_be_on_a_whole_prefix", run: a_push_may_be_on_a_whole_prefix },
    Case { name: "a_push_waits_for_several_matches", run: a_push_waits_for_several_matches },
];

/// With a browser, where one is installed.
pub const BROWSER_CASES: &[Case] =
    &[Case { name: "a_browser_does_the_work_of_a_challenge", run: a_browser_does_the_work_of_a_challenge }];

/// The browser of [`BROWSER_CASES`].
pub const BROWSER: &str = "chromium-headless-shell";

const TIME: Duration = Duration::from_secs(40);
/// How long a client tries before it is taken to be dropped.
const DROPPED_AFTER: &str = "1.5";
/// curl's exit statuses for a time-out and for a handshake that failed.
const TIMED_OUT: i32 = 28;
const NO_HANDSHAKE: i32 = 35;

fn policy(rules: &Value) -> Value {
    json!({ "schema": "tidegate.policy/v1", "id": "attacks", "revision": 1, "owner": "tests", "rules": rules })
}

/// curl's exit status and words, over HTTP/1.1; `more` are its options.
fn curl(client: &Client<'_>, url: &str, more: &[&str]) -> Result<(i32, String)> {
    let mut curl = client.curl(Version::H1, url)?;
    curl.args(["--connect-timeout", DROPPED_AFTER, "-o", "/dev/null"]).args(more).arg(url);
    let Finished { status, stderr, .. } = run(&mut curl, TIME)?;
    Ok((status.code().context("curl was killed")?, stderr))
}

/// What `explain` says of a request from the scanner: where it is decided, and by which rule.
fn predicted(edge: &Edge, request: &str, more: &[&str]) -> Result<(String, String)> {
    let config = edge.config_file();
    let config = config.to_str().context("a path")?;
    let mut words = vec!["explain", "--json", "--config", config, "--from", SCANNER_V4, "--http", "1.1"];
    words.extend(more);
    words.extend(["--request", request]);
    let told: Value = serde_json::from_str(&edge.run(&words)?.ok().context("tidegate explain")?)?;
    let rule = told["rule"].as_str().with_context(|| format!("no rule decides: {told}"))?;
    let rules = told["rules"].as_array().context("rules")?;
    let found = rules.iter().find(|known| known["rule"] == rule).context("the rule")?;
    ensure!(found["outcome"] == "match", "{found}");
    Ok((found["phase"].as_str().context("phase")?.to_owned(), rule.to_owned()))
}

/// The last line of the access log that names a rule, once there is one.
fn logged(edge: &Edge, rule: &str) -> Result<Value> {
    let file = edge.dir().join("access.log");
    let mut found = None;
    edge.until("a line of the access log", TIME, || {
        Ok(std::fs::read_to_string(&file)?.lines().any(|line| line.contains(rule)))
    })?;
    for line in std::fs::read_to_string(&file)?.lines().filter(|line| line.contains(rule)) {
        found = Some(serde_json::from_str(line)?);
    }
    found.context("a line")
}

fn each_attack_is_met_where_explain_says() -> Result<()> {
    let mut edge = Edge::prepare()?;
    edge.policy(&policy(&json!([
        { "id": "port", "when": format!("ip.src eq {SCANNER_V4} and tcp.dstport eq 80"), "action": { "type": "drop" } },
        { "id": "name", "when": "tls.client.sni eq \"tls.edge.test\"", "action": { "type": "block" } },
        { "id": "path", "when": "http.request.uri.path eq \"/.env\"", "action": { "type": "block", "status": 418 } },
        { "id": "sql", "when": "lower(http.request.body.raw) contains \"union select\"", "action": { "type": "block" } },
        { "id": "type", "when": "http.response.code eq 404 and http.request.uri.path contains \"secret\"",
          "action": { "type": "block", "status": 410, "body": "gone\n" } },
    ])))?;
    edge.launch()?;
    let is = |found: (String, String), phase: &str, rule: &str| {
        ensure!(
            found == (phase.to_owned(), format!("attacks/{rule}")),
            "explain says {found:?}, not {phase} by {rule}"
        );
        Ok(())
    };

    is(predicted(&edge, "http://edge.test/", &[])?, "packet", "port")?;
    let before = edge.packets("rule")?;
    let (status, words) = curl(&edge.scanner(), "http://edge.test/", &[])?;
    ensure!(status == TIMED_OUT, "the packet phase let it in: {status} {words}");
    ensure!(edge.packets("rule")? > before, "the gate did not count a drop by rule");

    is(predicted(&edge, "https://tls.edge.test/", &[])?, "client_hello", "name")?;
    let (status, words) = curl(&edge.scanner(), "https://tls.edge.test/", &[])?;
    ensure!(
        status == NO_HANDSHAKE && words.contains("access denied"),
        "no alert came before the end: {status} {words}"
    );
    ensure!(logged(&edge, "attacks/name")?["version"] == "tls", "{}", logged(&edge, "attacks/name")?);

    is(predicted(&edge, "https://edge.test/.env", &[])?, "request", "path")?;
    let answer = edge.scanner().get(Version::H2, "https://edge.test/.env", &[])?;
    ensure!(answer.status == 418, "{answer:?}");

    is(predicted(&edge, "POST https://edge.test/app", &["--body", "q=1 UNION SELECT 2"])?, "request_body", "sql")?;
    let answer = edge.scanner().get(Version::H2, "https://edge.test/app", &["--data", "q=1 UNION SELECT 2"])?;
    ensure!(answer.status == 403, "{answer:?}");

    is(predicted(&edge, "https://edge.test/secret", &["--response", "404"])?, "response_headers", "type")?;
    for version in [Version::H1, Version::H2] {
        let answer = edge.scanner().get(version, "https://edge.test/secret", &[])?;
        ensure!(answer.status == 410 && answer.body == "gone\n", "{answer:?}");
        let id = answer.field("x-request-id").context("no request id")?;
        let told = edge.ctl(&["explain", "--id", id, "--json"])?;
        ensure!(told["explanation"]["rule"] == "attacks/type", "the kept request is explained by {told}");
    }
    // What nothing is wrong with goes through all of them.
    edge.scanner().expect_origin(Version::H2, "https://edge.test/")?;
    edge.good().expect_origin(Version::H1, "http://edge.test/").map(drop)
}

fn fingerprints_are_banned_over_tcp_and_quic() -> Result<()> {
    let mut edge = Edge::prepare()?;
    let spy = json!([{ "id": "spy", "when": "tls.client.ja4 ne \"\"", "action": { "type": "block", "status": 418 } }]);
    edge.policy(&policy(&spy))?;
    edge.launch()?;
    // What the two clients' fingerprints are.
    let seen = |id: &str| -> Result<String> {
        let told = edge.ctl(&["explain", "--id", id, "--json"])?;
        let saw = told["explanation"]["rules"][0]["comparisons"][0]["saw"][0].as_str();
        Ok(saw.with_context(|| format!("no fingerprint in {told}"))?.trim_matches('"').to_owned())
    };
    let answer = edge.scanner().get(Version::H1, "https://edge.test/", &[])?;
    let tcp = seen(answer.field("x-request-id").with_context(|| format!("{answer:?}"))?)?;
    let answers = edge.scanner().h3("https://edge.test/", &[])?;
    let id = answers.first().and_then(|answer| answer.headers.iter().find(|(name, _)| name == "x-request-id"));
    let quic = seen(&id.with_context(|| format!("{answers:?}"))?.1)?;
    ensure!(tcp.starts_with("t13d") && quic.starts_with("q13d"), "{tcp} {quic}");

    edge.policy(&policy(&json!([{
        "id": "bad", "when": format!("tls.client.ja4 in {{\"{tcp}\" \"{quic}\"}}"),
        "action": { "type": "block" }, "push": { "ttl": "10m" },
    }])))?;
    edge.reload()?;
    for ja4 in [&tcp, &quic] {
        let found = predicted(&edge, "https://edge.test/", &["--ja4", ja4])?;
        ensure!(found.0 == "client_hello", "explain says {found:?}");
    }
    let dropped = |edge: &Edge| -> Result<bool> {
        let (status, words) = curl(&edge.scanner(), "http://edge.test/", &[])?;
        ensure!(matches!(status, 0 | TIMED_OUT), "curl ended with {status}: {words}");
        Ok(status == TIMED_OUT)
    };
    ensure!(!dropped(&edge)?, "dropped before it did anything");
    let (status, words) = curl(&edge.scanner(), "https://edge.test/", &[])?;
    ensure!(status == NO_HANDSHAKE && words.contains("access denied"), "{status} {words}");
    edge.verdict(SCANNER_V4)?.context("no verdict stands after the hello")?;
    ensure!(dropped(&edge)?, "the next packet passes");

    // An allow rule takes the verdict back, and without it the same happens over QUIC, whose client proves its address first.
    let allow = json!({
        "schema": "tidegate.policy/v1", "id": "allow", "revision": 1,
        "rules": [{ "id": "in", "when": format!("ip.src eq {SCANNER_V4}"), "action": { "type": "allow" } }],
    });
    edge.policy(&allow)?;
    let done = edge.reload()?;
    ensure!(done["retracted"] == 1 && edge.verdict(SCANNER_V4)?.is_none(), "the reload says {done}");
    ensure!(!dropped(&edge)?, "still dropped");
    std::fs::remove_file(edge.dir().join("policies/allow.json"))?;
    edge.reload()?;
    let answers = edge.scanner().h3("https://edge.test/", &["--timeout", "5"])?;
    ensure!(answers.iter().all(|answer| answer.status.is_none()), "{answers:?}");
    edge.verdict(SCANNER_V4)?.context("no verdict stands after the hello over QUIC")?;
    ensure!(dropped(&edge)?, "the next packet passes");
    Ok(())
}

/// Puts policies in force, lets `harm` look at what they did, takes them back, and tells how long it took until the good client's
/// packets passed again.
fn rolled_back(edge: &Edge, policies: &Value, harm: impl FnOnce(&Edge) -> Result<()>) -> Result<(Duration, Value)> {
    let file = edge.dir().join("other.json");
    std::fs::write(&file, policies.to_string())?;
    edge.ctl(&["policy", "apply", file.to_str().context("a path")?, "--json"])?;
    harm(edge)?;
    let started = Instant::now();
    let told = edge.ctl(&["policy", "rollback", "--json"])?;
    let commanded = started.elapsed();
    edge.good().expect_origin(Version::H1, "http://edge.test/").context("after the rollback")?;
    let took = started.elapsed();
    println!("    rollback: the command took {commanded:?}, a request was answered after {took:?}");
    edge.good().expect_origin(Version::H2, "https://edge.test/").map(|_| (took, told))
}

fn rollback_lets_in_again_at_once() -> Result<()> {
    let mut edge = Edge::prepare()?;
    edge.policy(&policy(
        &json!([{ "id": "none", "when": "http.request.uri.path eq \"/.env\"", "action": { "type": "block" } }]),
    ))?;
    edge.launch()?;
    let dropped = |edge: &Edge| {
        let (status, words) = curl(&edge.good(), "http://edge.test/", &[])?;
        ensure!(status == TIMED_OUT, "nothing is dropped: {status} {words}");
        Ok(())
    };
    let all = policy(&json!([{ "id": "all", "when": format!("ip.src eq {GOOD_V4}"), "action": { "type": "drop" } }]));
    let (took, _) = rolled_back(&edge, &all, dropped)?;
    // It takes far less; a second is what is promised, and a busy machine gets some more.
    ensure!(took < patient(Duration::from_secs(5)), "the rollback took {took:?}");

    // Whom the rules had banned that are taken back is let in as well; others stay out.
    let answer = edge.scanner().get(Version::H1, "http://edge.test/.env", &[])?;
    ensure!(answer.status == 403 && edge.verdict(SCANNER_V4)?.is_none(), "{answer:?}");
    edge.ctl(&["verdict", "add", SCANNER_V6, "--ttl", "10m"])?;
    let wrong = policy(&json!([{ "id": "none", "when": "http.host eq \"edge.test\"", "action": { "type": "block" },
                                 "push": { "ttl": "10m" } }]));
    let (took, told) = rolled_back(&edge, &wrong, |edge| {
        let answer = edge.good().get(Version::H1, "http://edge.test/", &[])?;
        ensure!(answer.status == 403, "{answer:?}");
        edge.verdict(GOOD_V4)?.context("no verdict stands")?;
        dropped(edge)
    })?;
    ensure!(told["retracted"] == 1 && edge.verdict(GOOD_V4)?.is_none(), "the rollback says {told}");
    edge.verdict(SCANNER_V6)?.context("a verdict by hand went with the rules")?;
    ensure!(took < patient(Duration::from_secs(5)), "the rollback took {took:?}");
    Ok(())
}

fn a_push_may_be_on_a_whole_prefix() -> Result<()> {
    let mut edge = Edge::prepare()?;
    edge.policy(&policy(&json!([{
        "id": "env", "when": "http.request.uri.path eq \"/.env\"", "action": { "type": "block" },
        "push": { "ttl": "10m", "scope": "prefix" },
    }])))?;
    edge.launch()?;
    let network = format!("{CROWD}.7.0/24");
    let told = edge
        .run(&[
            "explain",
            "--config",
            edge.config_file().to_str().context("a path")?,
            "--from",
            &format!("{CROWD}.7.9"),
            "--request",
            "http://edge.test/.env",
        ])?
        .ok()?;
    ensure!(told.contains(&format!("writes to VERDICTS: prefix {network}, for 600 s")), "{told}");
    let ask = |edge: &Edge, last: &str, path: &str| {
        curl(&edge.scanner(), &format!("http://edge.test/{path}"), &["--interface", &format!("{CROWD}.{last}")])
    };
    for last in ["7.9", "7.200", "8.1"] {
        ensure!(ask(&edge, last, "")?.0 == 0, "{last} is dropped before anything was done");
    }
    ask(&edge, "7.9", ".env")?;
    edge.verdict(&network)?.context("no verdict on the network stands")?;
    for (last, expected) in [("7.9", TIMED_OUT), ("7.200", TIMED_OUT), ("8.1", 0)] {
        let (status, words) = ask(&edge, last, "")?;
        ensure!(status == expected, "{last}: {status} {words}");
    }
    edge.ctl(&["verdict", "remove", &network])?;
    ensure!(ask(&edge, "7.200", "")?.0 == 0, "still dropped");
    // By hand, while no rule in force wants it.
    edge.policy(&policy(
        &json!([{ "id": "none", "when": "http.request.uri.path eq \"/x\"", "action": { "type": "log" } }]),
    ))?;
    edge.reload()?;
    edge.ctl(&["verdict", "add", &network, "--ttl", "10m"])?;
    ensure!(ask(&edge, "7.200", "")?.0 == TIMED_OUT && ask(&edge, "8.1", "")?.0 == 0, "a verdict by hand on a network");
    Ok(())
}

fn a_push_waits_for_several_matches() -> Result<()> {
    let mut edge = Edge::prepare()?;
    edge.policy(&policy(&json!([{
        "id": "env", "when": "http.request.uri.path eq \"/.env\"", "action": { "type": "block" },
        "push": { "ttl": "10m", "after": { "matches": 3, "period": "1d" } },
    }])))?;
    edge.launch()?;
    for round in 1..=3 {
        ensure!(edge.verdict(SCANNER_V4)?.is_none(), "a verdict stands before match {round}");
        let answer = edge.scanner().get(Version::H1, "http://edge.test/.env", &[])?;
        ensure!(answer.status == 403, "{answer:?}");
    }
    edge.verdict(SCANNER_V4)?.context("no verdict after three matches")?;
    ensure!(curl(&edge.scanner(), "http://edge.test/", &[])?.0 == TIMED_OUT, "the next packet passes");
    Ok(())
}

fn a_browser_does_the_work_of_a_challenge() -> Result<()> {
    let mut edge = Edge::prepare()?;
    edge.policy(&policy(&json!([
        { "id": "work", "when": "http.request.uri.path eq \"/\"", "action": { "type": "challenge", "difficulty": 14 } },
    ])))?;
    edge.launch()?;
    let answer = edge.good().get(Version::H2, "https://edge.test/", &[])?;
    ensure!(answer.status == 403, "who does no work is answered {answer:?}");
    let profile = edge.dir().join("profile");
    let mut browser = edge.good().command(tools::find(BROWSER)?)?;
    // It trusts no authority of a test's; its time runs as fast as it works, up to the budget.
    browser.args(["--no-sandbox", "--disable-gpu", "--ignore-certificate-errors", "--virtual-time-budget=60000"]);
    browser.arg(format!("--user-data-dir={}", profile.display()));
    browser.arg(format!("--host-resolver-rules=MAP edge.test {EDGE_V4}")).args(["--dump-dom", "https://edge.test/"]);
    let page = run(&mut browser, TIME)?.ok().context("the browser")?;
    ensure!(page.contains(crate::origin::BODY.trim()), "the browser shows {page}");
    ensure!(logged(&edge, "attacks/work")?["action"] == "challenge", "{}", logged(&edge, "attacks/work")?);
    Ok(())
}
