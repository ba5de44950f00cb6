//! The verdict loop on the wire: blocked, dropped in XDP, let in again; by policy, by hand and by allow rules.

use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::Case;
use crate::clients::Version;
use crate::edge::{Edge, probe_policy};
use crate::process::{Finished, run};
use crate::street::{CROWD, EDGE_V4, GOOD_V4, SCANNER_V4, SCANNER_V6};

/// How long a client tries before it is taken to be dropped.
const DROPPED_AFTER: &str = "1.5";
/// curl's exit status for a time-out.
const TIMED_OUT: i32 = 28;

pub const CASES: &[Case] = &[
    Case { name: "scanner_is_blocked_dropped_and_readmitted", run: scanner_is_blocked_dropped_and_readmitted },
    Case { name: "ipv6_source_is_banned_by_prefix", run: ipv6_source_is_banned_by_prefix },
    Case { name: "http3_source_is_banned_too", run: http3_source_is_banned_too },
    Case { name: "allow_rule_retracts_verdicts", run: allow_rule_retracts_verdicts },
    Case { name: "allowed_source_is_never_banned", run: allowed_source_is_never_banned },
    Case { name: "by_hand_and_over_a_restart", run: by_hand_and_over_a_restart },
    Case { name: "only_own_traffic_is_dropped", run: only_own_traffic_is_dropped },
    Case { name: "denied_prefix", run: denied_prefix },
];

/// Whether packets from the scanner's address `source` are dropped on their way to the edge.
fn is_dropped(edge: &Edge, source: &str) -> Result<bool> {
    let client = if source.contains(':') { edge.scanner_v6() } else { edge.scanner() };
    let mut curl = client.curl(Version::H1, "http://edge.test/")?;
    curl.args(["--interface", source, "--connect-timeout", DROPPED_AFTER, "-o", "/dev/null", "http://edge.test/"]);
    let Finished { status, stderr, .. } = run(&mut curl, Duration::from_secs(40))?;
    match status.code() {
        Some(0) => Ok(false),
        Some(TIMED_OUT) => Ok(true),
        other => anyhow::bail!("curl ended with {other:?}: {stderr}"),
    }
}

/// Sends a probe from the scanner's main address, expecting 403.
fn probe(edge: &Edge) -> Result<()> {
    let answer = edge.scanner().get(Version::H1, "http://edge.test/.env", &[])?;
    ensure!(answer.status == 403, "the probe was answered {answer:?}");
    Ok(())
}

fn scanner_is_blocked_dropped_and_readmitted() -> Result<()> {
    let mut edge = Edge::prepare()?;
    edge.policy(&probe_policy("4s"))?;
    edge.launch()?;
    ensure!(!is_dropped(&edge, SCANNER_V4)?, "dropped before it did anything");
    let dropped_before = edge.packets("verdict")?;
    probe(&edge)?;
    let verdict = edge.verdict(SCANNER_V4)?.context("no verdict stands after the 403")?;
    ensure!(verdict["rule"] == "probes/env" && verdict["own_only"] == true, "{verdict}");
    ensure!(is_dropped(&edge, SCANNER_V4)?, "not dropped although a verdict stands");
    // The neighbours in the same /24 and the good client do not notice.
    ensure!(!is_dropped(&edge, &format!("{CROWD}.0.1"))?, "another source was dropped too");
    edge.good().expect_origin(Version::H2, "https://edge.test/")?;
    let verdict = edge.verdict(SCANNER_V4)?.context("the verdict went too early")?;
    let drops = verdict["drops"].as_u64().context("drops")?;
    let first_drop = verdict["first_drop_us"].as_u64().context("no first_drop_us although packets were dropped")?;
    ensure!(drops >= 1 && first_drop > 0, "{verdict}");
    ensure!(edge.packets("verdict")? >= dropped_before + drops, "the counter and the verdict disagree");
    edge.until("readmission", Duration::from_secs(8), || Ok(!is_dropped(&edge, SCANNER_V4)?))?;
    edge.scanner().expect_origin(Version::H1, "http://edge.test/")?;
    Ok(())
}

fn ipv6_source_is_banned_by_prefix() -> Result<()> {
    let mut edge = Edge::prepare()?;
    edge.policy(&probe_policy("60s"))?;
    edge.launch()?;
    // A second address in the same /64.
    edge.street.scanner.ip("address add fd71:2::77/64 dev eth0")?;
    ensure!(!is_dropped(&edge, "fd71:2::77")?, "dropped before anything happened");
    let answer = edge.scanner_v6().get(Version::H2, "https://edge.test/.env", &["--interface", SCANNER_V6])?;
    ensure!(answer.status == 403, "{answer:?}");
    edge.verdict("fd71:2::/64")?.context("no verdict on the prefix")?;
    ensure!(is_dropped(&edge, SCANNER_V6)?, "the source itself is not dropped");
    ensure!(is_dropped(&edge, "fd71:2::77")?, "another address of the /64 is not dropped");
    edge.good_v6().expect_origin(Version::H1, "https://edge.test/")?;
    ensure!(!is_dropped(&edge, SCANNER_V4)?, "its IPv4 address did nothing");
    Ok(())
}

fn http3_source_is_banned_too() -> Result<()> {
    let mut edge = Edge::prepare()?;
    edge.policy(&probe_policy("60s"))?;
    edge.launch()?;
    let answers = edge.scanner().h3("https://edge.test/.env", &[])?;
    ensure!(answers.iter().all(|answer| answer.status == Some(403)), "{answers:?}");
    edge.verdict(SCANNER_V4)?.context("no verdict")?;
    let answers = edge.scanner().h3("https://edge.test/", &["--timeout", "2"])?;
    ensure!(answers.iter().all(|answer| answer.status.is_none()), "QUIC packets still pass: {answers:?}");
    ensure!(is_dropped(&edge, SCANNER_V4)?, "TCP still passes");
    let answers = edge.good().h3("https://edge.test/", &[])?;
    ensure!(answers.iter().all(|answer| answer.status == Some(200)), "{answers:?}");
    Ok(())
}

/// A policy that allows one prefix.
fn allow_policy(prefix: &str) -> Value {
    json!({
        "schema": "tidegate.policy/v1", "id": "partners", "revision": 1, "owner": "tests",
        "lists": { "partners": { "type": "cidr", "items": [prefix] } },
        "rules": [{ "id": "in", "when": "ip.src in $partners", "action": { "type": "allow" } }],
    })
}

fn allow_rule_retracts_verdicts() -> Result<()> {
    let mut edge = Edge::prepare()?;
    edge.policy(&probe_policy("10m"))?;
    edge.launch()?;
    probe(&edge)?;
    let other = format!("{CROWD}.9.9");
    edge.ctl(&["verdict", "add", &other, "--ttl", "10m"])?;
    ensure!(is_dropped(&edge, SCANNER_V4)? && is_dropped(&edge, &other)?, "not dropped at first");
    edge.policy(&allow_policy("10.71.2.0/24"))?;
    let done = edge.reload()?;
    ensure!(done["retracted"] == 1, "the reload says {done}");
    ensure!(edge.verdict(SCANNER_V4)?.is_none(), "the verdict still stands");
    ensure!(!is_dropped(&edge, SCANNER_V4)?, "still dropped");
    ensure!(is_dropped(&edge, &other)?, "a verdict that the rule does not cover is gone");
    Ok(())
}

fn allowed_source_is_never_banned() -> Result<()> {
    let mut edge = Edge::prepare()?;
    edge.policy(&probe_policy("10m"))?;
    edge.policy(&allow_policy("10.71.2.0/24"))?;
    edge.launch()?;
    // Its requests are not blocked either: an allow rule beats the others.
    let answer = edge.scanner().get(Version::H1, "http://edge.test/.env", &[])?;
    ensure!(answer.status == 404 && answer.body == "not here\n", "{answer:?}");
    ensure!(edge.verdict(SCANNER_V4)?.is_none(), "an allowed source got a verdict");
    let refused = edge.ctl(&["verdict", "add", SCANNER_V4, "--ttl", "10m"]);
    ensure!(refused.is_err(), "an allowed source was banned by hand: {refused:?}");
    ensure!(!is_dropped(&edge, SCANNER_V4)?, "an allowed source is dropped");
    Ok(())
}

fn by_hand_and_over_a_restart() -> Result<()> {
    let mut edge = Edge::start()?;
    edge.ctl(&["verdict", "add", SCANNER_V4, "--ttl", "10m"])?;
    edge.ctl(&["verdict", "add", "fd71:2::/64", "--ttl", "10m"])?;
    for source in [SCANNER_V4, "fd71:2::/64"] {
        let verdict = edge.verdict(source)?.with_context(|| format!("{source} is not listed"))?;
        ensure!(verdict["rule"] == "operator", "{verdict}");
    }
    ensure!(is_dropped(&edge, SCANNER_V4)? && is_dropped(&edge, SCANNER_V6)?, "not dropped");
    edge.stop()?;
    edge.launch()?;
    let verdict = edge.verdict(SCANNER_V4)?.context("the verdict did not survive the restart")?;
    ensure!(verdict["expires_in"].as_f64().is_some_and(|s| s > 500.0 && s < 600.0), "{verdict}");
    ensure!(is_dropped(&edge, SCANNER_V4)?, "not dropped after the restart");
    edge.ctl(&["verdict", "remove", SCANNER_V4])?;
    ensure!(edge.verdict(SCANNER_V4)?.is_none(), "still listed");
    ensure!(!is_dropped(&edge, SCANNER_V4)?, "still dropped after it was removed");
    ensure!(is_dropped(&edge, SCANNER_V6)?, "the other verdict went too");
    let unknown = edge.ctl(&["verdict", "remove", SCANNER_V4]);
    ensure!(unknown.is_err(), "removing a verdict that is not there is no error: {unknown:?}");
    let nonsense = edge.ctl(&["verdict", "add", "not-an-address", "--ttl", "10m"]);
    ensure!(nonsense.is_err(), "nonsense was taken: {nonsense:?}");
    Ok(())
}

fn only_own_traffic_is_dropped() -> Result<()> {
    let edge = Edge::start()?;
    // Another service on the edge, say SSH; not Tidegate's.
    let other = edge.street.edge.enter(|| std::net::TcpListener::bind((EDGE_V4, 2222)))??;
    edge.ctl(&["verdict", "add", SCANNER_V4, "--ttl", "10m"])?;
    ensure!(is_dropped(&edge, SCANNER_V4)?, "not dropped");
    let knock = || {
        TcpStream::connect_timeout(&(EDGE_V4.parse::<std::net::IpAddr>()?, 2222).into(), Duration::from_secs(3))
            .map_err(anyhow::Error::from)
    };
    edge.street.scanner.enter(knock)?.context("a banned source no longer reaches another service of the host")?;
    drop(other);
    let mut ping = edge.scanner().command(crate::tools::find("ping")?)?;
    run(ping.args(["-c", "1", "-W", "3", EDGE_V4]), Duration::from_secs(10))?
        .ok()
        .context("ping from a banned source")?;
    ensure!(edge.packets("not_own")? > 0, "nothing was counted as not own");
    Ok(())
}

fn denied_prefix() -> Result<()> {
    let mut edge = Edge::prepare()?;
    edge.policy(&json!({
        "schema": "tidegate.policy/v1", "id": "lists", "revision": 1, "owner": "tests",
        "lists": { "bad": { "type": "cidr", "items": [format!("{CROWD}.0.0/17"), "fd71:2::/48"] } },
        "rules": [{ "id": "bad", "when": "ip.src in $bad", "action": { "type": "drop" } }],
    }))?;
    edge.launch()?;
    ensure!(is_dropped(&edge, &format!("{CROWD}.127.255"))?, "a denied source passes");
    ensure!(!is_dropped(&edge, &format!("{CROWD}.128.0"))?, "the next address after the prefix is dropped");
    ensure!(is_dropped(&edge, SCANNER_V6)?, "a denied IPv6 source passes");
    ensure!(!is_dropped(&edge, SCANNER_V4)?, "a source that no list names is dropped");
    ensure!(edge.packets("denied")? > 0, "nothing was counted as denied");
    edge.good().expect_origin(Version::H1, "http://edge.test/")?;
    // An edited list takes effect with a reload.
    edge.policy(&json!({
        "schema": "tidegate.policy/v1", "id": "lists", "revision": 2, "owner": "tests",
        "lists": { "bad": { "type": "cidr", "items": [format!("{GOOD_V4}/32")] } },
        "rules": [{ "id": "bad", "when": "ip.src in $bad", "action": { "type": "drop" } }],
    }))?;
    edge.reload()?;
    ensure!(!is_dropped(&edge, &format!("{CROWD}.127.255"))?, "still dropped after the list was edited");
    let answer = edge.good().get(Version::H1, "http://edge.test/", &["--connect-timeout", DROPPED_AFTER]);
    ensure!(answer.is_err(), "the newly listed source still passes");
    // Over IPv6 it is another source.
    edge.good_v6().expect_origin(Version::H1, "http://edge.test/")?;
    Ok(())
}
