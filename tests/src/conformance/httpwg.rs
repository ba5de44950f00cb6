//! The suite `httpwg-cli`: each of its cases on RFC 9113, held to a list of exceptions that says why each may fail. A case that
//! fails and is not in the list is a fault, and so is one that passes and is.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::{Line, Outcome};
use crate::loopback::{ADDRESS, Loopback};
use crate::process::run as run_program;

/// Variable that names the suite's program.
const PROGRAM: &str = "TIDEGATE_TEST_HTTPWG";
/// The exceptions.
const EXCEPTIONS: &str = include_str!("../../conformance/httpwg.json");
/// Cases that the suite has; fewer would mean that it is another suite.
const CASES: usize = 107;
/// How long the suite waits for a frame, in milliseconds: the machine may be busy.
const FRAME_TIMEOUT: &str = "3000";
/// How long all of it may take.
const SUITE_TIME: Duration = Duration::from_secs(300);
/// What stands before each name.
const RFC: &str = "RFC 9113 :: ";

/// A case that may fail.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    /// Its name, with that of its section.
    case: String,
    /// Where the RFC leaves room.
    rfc: String,
    /// The argument.
    why: String,
    /// What comes first at the client decides it: it may pass as well.
    #[serde(default)]
    race: bool,
}

/// What the suite said of its cases.
#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    begun: BTreeSet<String>,
    passed: BTreeSet<String>,
    failed: BTreeMap<String, String>,
}

impl Report {
    /// Reads the suite's log: a line when a case begins, and one when it ends, behind which a failed one says why.
    fn read(log: &str) -> Self {
        let mut report = Self::default();
        let mut lines = log.lines().map(plain).peekable();
        while let Some(line) = lines.next() {
            let Some((mark, name)) = line.split_once(RFC) else { continue };
            let name = name.trim().to_owned();
            if mark.contains("Running test") {
                report.begun.insert(name);
            } else if mark.contains("Test passed") {
                report.passed.insert(name);
            } else if mark.contains("Test failed") {
                while lines.next_if(|line| line.trim().is_empty()).is_some() {}
                let why = lines.peek().map(|line| line.trim().trim_start_matches("0: ").to_owned()).unwrap_or_default();
                report.failed.insert(name, why);
            }
        }
        report
    }
}

/// A line without the escape sequences of a terminal.
fn plain(line: &str) -> String {
    let mut parts = line.split('\x1b');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
}

/// Runs the suite against the clear-text listener.
pub fn run(edge: &Loopback) -> Result<Vec<Line>> {
    let program = std::env::var_os(PROGRAM).context("start this by `cargo xtask conformance`")?;
    let mut command = Command::new(program);
    command.args([
        "-v",
        "-a",
        &format!("{ADDRESS}:{}", edge.http),
        "-f",
        RFC.trim_end(),
        "--frame-timeout",
        FRAME_TIMEOUT,
    ]);
    command.env("RUST_LOG", "off").env("RUST_BACKTRACE", "0");
    // Its exit status is a failure whenever one case fails; what counts is what it says of each.
    let finished = run_program(&mut command, SUITE_TIME)?;
    let report = Report::read(&(finished.stdout + &finished.stderr));
    ensure!(report.begun.len() == CASES, "the suite has {} cases, not {CASES}", report.begun.len());
    let exceptions: Vec<Exception> = serde_json::from_str(EXCEPTIONS).context("the list of exceptions")?;
    let mut exceptions: BTreeMap<String, Exception> =
        exceptions.into_iter().map(|exception| (exception.case.clone(), exception)).collect();
    let mut lines: Vec<Line> = report.begun.iter().map(|case| judged(case, &report, exceptions.remove(case))).collect();
    lines.extend(exceptions.into_keys().map(|case| Line {
        case,
        outcome: Outcome::Failed("the list of exceptions names it, and the suite has no such case".to_owned()),
    }));
    Ok(lines)
}

fn judged(case: &str, report: &Report, exception: Option<Exception>) -> Line {
    let outcome = match (report.passed.contains(case), exception) {
        (true, Some(exception)) if !exception.race => {
            Outcome::Failed("it passes by now: take it out of the list of exceptions".to_owned())
        }
        (true, _) => Outcome::Passed,
        (false, Some(Exception { rfc, why, .. })) => Outcome::Excepted(format!("{why} ({rfc})")),
        (false, None) => Outcome::Failed(
            report.failed.get(case).cloned().unwrap_or_else(|| "the suite itself panicked in this case".to_owned()),
        ),
    };
    Line { case: case.to_owned(), outcome }
}
