//! `tidegate policy check` and `test`: on files, without a daemon.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use proxy_core::policy::{self, TestReport};
use proxy_user::daemon::policies;
use serde::Serialize;

use super::{counted, failed};
use crate::cli::check;
use crate::cli::output::{self, BAD, GOOD};
use crate::cli::remote::Form;

/// Look for faults in policy files, as one set; show what they come to
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate policy check login-abuse.json
  tidegate policy check policies/*.json --json | jq .faults")]
pub(super) struct Args {
    /// Policy files
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    form: Form,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    check::files(&args.files, args.form)
}

/// Run the tests that stand in policy files
///
/// Every rule counts as enforcing and not expired. Exit status 1 where a test fails or a file has faults.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate policy test login-abuse.json
  tidegate policy test policies/*.json --json | jq '.tests[] | select(.passed | not)'")]
pub(super) struct TestArgs {
    /// Policy files
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    passed: usize,
    failed: usize,
    tests: Vec<TestReport>,
    /// Of the files, beside their tests.
    faults: Vec<String>,
}

pub(super) fn test(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let (files, mut faults) = policies::read_files(&args.files);
    let (lists, _) = policies::read_lists(&files);
    let options = policy::Options { lists: &lists, ..policy::Options::new(check::now()) };
    let (tests, found) = policy::run_tests(&files, &options);
    faults.extend(found.iter().map(ToString::to_string));
    let passed = tests.iter().filter(|test| test.passed).count();
    let missed = tests.len() - passed;
    let report = Report { ok: missed == 0 && faults.is_empty(), passed, failed: missed, tests, faults };
    let code = if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if args.form.json {
        output::json(&report)?;
        return Ok(code);
    }
    let mut out = output::stdout();
    for test in &report.tests {
        let (style, word) = if test.passed { (GOOD, "ok  ") } else { (BAD, "FAIL") };
        let description = test.description.as_deref().unwrap_or_default();
        writeln!(out, "{style}{word}{style:#} {} test {}: {} {description}", test.policy, test.test, test.expect)?;
    }
    writeln!(out, "{} passed, {} failed", counted(report.passed, "test"), report.failed)?;
    drop(out);
    let failures = report.tests.iter().flat_map(|test| test.faults.iter().cloned());
    let all: Vec<String> = report.faults.iter().cloned().chain(failures).collect();
    if all.is_empty() { Ok(code) } else { failed(&all) }
}
