//! `testssl.sh` against the listener with TLS: each of its findings, held to a list of exceptions that says why each may stand.
//! What it calls good or merely tells passes; all else is a fault.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::json;

use super::{Line, Outcome};
use crate::edge::SITE;
use crate::loopback::{ADDRESS, Loopback};
use crate::process::run;
use crate::tools;

/// The exceptions.
const EXCEPTIONS: &str = include_str!("../../conformance/testssl.json");
/// Fewer findings would mean that it did not look at everything.
const FINDINGS: usize = 100;
/// How long it may take: it opens hundreds of connections, one after another.
const SUITE_TIME: Duration = Duration::from_secs(900);
/// What it calls good, or has no opinion on.
const FINE: [&str; 2] = ["OK", "INFO"];

/// What it could not find out, as where a connection of its own did not come about.
const UNTOLD: &str = "WARN";
/// So much of that may be.
const MOST_UNTOLD: usize = 3;

/// A finding that may stand.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    /// Its id.
    id: String,
    /// The argument.
    why: String,
}

/// As the suite writes it.
#[derive(Debug, Deserialize)]
struct Finding {
    id: String,
    severity: String,
    #[serde(rename = "finding")]
    text: String,
}

/// Runs it.
pub fn run_all() -> Result<Vec<Line>> {
    let edge = Loopback::start(|config, _| {
        config["tls"] = json!({ "hsts": { "max_age": "365d" } });
        config["routes"][0]["response_headers"] = json!({ "set": {
            "content-security-policy": "default-src 'self'",
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
            "x-frame-options": "DENY",
        } });
        Ok(())
    })?;
    let report = edge.dir().join("testssl.json");
    let mut command = Command::new(tools::find("testssl")?);
    command.arg("--jsonfile").arg(&report).args(["--quiet", "--color", "0", "--warnings", "off", "--ip", ADDRESS]);
    command.arg(format!("{SITE}:{}", edge.https)).current_dir(edge.dir());
    // Its exit status counts what it did not like; what counts here is what it says of each.
    let finished = run(&mut command, SUITE_TIME)?;
    let text = std::fs::read_to_string(&report).with_context(|| finished.stdout.clone() + &finished.stderr)?;
    let findings: Vec<Finding> = serde_json::from_str(&text).context("its report")?;
    ensure!(findings.len() >= FINDINGS, "only {} findings, not {FINDINGS}: {}", findings.len(), finished.stdout);
    let untold = findings.iter().filter(|finding| finding.severity == UNTOLD).count();
    ensure!(untold <= MOST_UNTOLD, "it could not find out {untold} things: {}", finished.stdout);
    let exceptions: Vec<Exception> = serde_json::from_str(EXCEPTIONS).context("the list of exceptions")?;
    let exceptions: BTreeMap<String, String> =
        exceptions.into_iter().map(|exception| (exception.id, exception.why)).collect();
    Ok(findings.into_iter().map(|finding| judged(finding, &exceptions)).collect())
}

fn judged(finding: Finding, exceptions: &BTreeMap<String, String>) -> Line {
    let Finding { id, severity, text } = finding;
    // Behind it stands which of several certificates is meant.
    let name = id.split(' ').next().unwrap_or_default();
    let outcome = match exceptions.get(name) {
        _ if FINE.contains(&severity.as_str()) => Outcome::Passed,
        _ if severity == UNTOLD => Outcome::Excepted(format!("the suite could not find out: {text}")),
        Some(why) => Outcome::Excepted(format!("{severity}: {text}: {why}")),
        None => Outcome::Failed(format!("{severity}: {text}")),
    };
    Line { case: id, outcome }
}
