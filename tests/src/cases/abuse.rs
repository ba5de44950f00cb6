//! Clients that want to wear the edge down: what they do is named, and a policy has the gate drop them for it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::Case;
use crate::clients::Version;
use crate::edge::Edge;
use crate::process::{Daemon, Finished, run};
use crate::street::{EDGE_V4, SCANNER_V4};
use crate::tools;

pub const CASES: &[Case] =
    &[Case { name: "rapid_reset_is_dropped_by_the_gate", run: rapid_reset_is_dropped_by_the_gate }];

/// How long a client tries before it is taken to be dropped.
const DROPPED_AFTER: &str = "1.5";
/// curl's exit status for a time-out.
const TIMED_OUT: i32 = 28;
const TIME: Duration = Duration::from_secs(90);
/// How long the verdict stands.
const TTL: Duration = Duration::from_secs(15);

/// curl's exit status for a request of the scanner.
fn asks(edge: &Edge) -> Result<i32> {
    let mut curl = edge.scanner().curl(Version::H1, "http://edge.test/")?;
    curl.args(["--connect-timeout", DROPPED_AFTER, "-o", "/dev/null", "http://edge.test/"]);
    let Finished { status, .. } = run(&mut curl, TIME)?;
    status.code().context("curl was killed")
}

fn rapid_reset_is_dropped_by_the_gate() -> Result<()> {
    let mut edge = Edge::prepare()?;
    // Never asked with a request: whoever is dropped sends none.
    edge.policy(&json!({
        "schema": "tidegate.policy/v1", "id": "abuse", "revision": 1, "owner": "tests",
        "rules": [{
            "id": "resets", "when": "tidegate.abuse.kind eq \"resets\" and tidegate.abuse.score ge 20",
            "action": { "type": "block" }, "push": { "ttl": format!("{}s", TTL.as_secs()) },
        }],
    }))?;
    edge.launch()?;
    ensure!(asks(&edge)? == 0, "dropped before it did anything");
    let mut client = edge.scanner().command(tools::python()?)?;
    client.arg(tools::client("h2_abuse.py")).args(["resets", &format!("{EDGE_V4}:80"), "20000"]);
    // Its connection may end, or its packets find nobody any more: then it is ended here.
    let client = Daemon::spawn(client, &edge.dir().join("client.log"))?;
    edge.until("a verdict on the scanner", TIME, || Ok(edge.verdict(SCANNER_V4)?.is_some()))?;
    let verdict: Value = edge.verdict(SCANNER_V4)?.context("the verdict went at once")?;
    ensure!(verdict["rule"] == "abuse/resets" && verdict["own_only"] == true, "{verdict}");
    ensure!(asks(&edge)? == TIMED_OUT, "its next packet was not dropped");
    edge.good().expect_origin(Version::H2, "https://edge.test/")?;
    let log = edge.daemon()?.log();
    let line = log.lines().find(|line| line.contains("\"kind\":\"resets\"")).context("the log does not name it")?;
    ensure!(line.contains(SCANNER_V4), "{line}");
    drop(client);
    edge.until("readmission", TIME, || Ok(asks(&edge)? == 0))
}
