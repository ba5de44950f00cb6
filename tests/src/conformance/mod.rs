//! `cargo xtask conformance`: suites of others against a daemon on loopback, each case told by name.
//!
//! [`httpwg`] asks whether RFC 9113 is kept, [`slowhttptest`] whether good clients notice slow ones, and [`testssl`] whether there
//! is something to mend in how TLS is spoken.

mod httpwg;
mod slowhttptest;
mod testssl;

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use crate::loopback::Loopback;

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this suite
    #[arg(value_enum)]
    suite: Option<Suite>,
}

/// The suites.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Suite {
    /// HTTP/2 frame by frame (RFC 9113)
    Httpwg,
    /// Slow headers, bodies and readers, and ranges, beside a good client
    Slowhttptest,
    /// Versions, ciphers, curves and known weaknesses of TLS
    Testssl,
}

/// What became of one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Passed,
    /// It fails, and the list of exceptions says why it may.
    Excepted(String),
    /// It fails.
    Failed(String),
}

/// One case of a suite.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name.
    pub case: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// Runs the suites; says for each case what became of it.
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut good = true;
    let suites = [(Suite::Httpwg, "httpwg"), (Suite::Slowhttptest, "slowhttptest"), (Suite::Testssl, "testssl")];
    for (suite, name) in suites {
        if args.suite.is_some_and(|wanted| wanted != suite) {
            continue;
        }
        let lines = match suite {
            Suite::Httpwg => httpwg::run(&httpwg_edge()?)?,
            Suite::Slowhttptest => slowhttptest::run_all()?,
            Suite::Testssl => testssl::run_all()?,
        };
        good &= tell(name, &lines);
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A daemon whose only route takes any host, as the suite names addresses. Its answers take a second, so that cases on open
/// streams find them open.
fn httpwg_edge() -> Result<Loopback> {
    Loopback::start(|config, _| {
        config["routes"] = json!([{ "path": "/", "upstream": "app", "rewrite": "/slow" }]);
        Ok(())
    })
}

/// Prints a suite's cases and their sum; whether none failed.
fn tell(suite: &str, lines: &[Line]) -> bool {
    let (mut passed, mut excepted, mut failed) = (0, 0, 0);
    for Line { case, outcome } in lines {
        match outcome {
            Outcome::Passed => {
                passed += 1;
                println!("{suite}: {case} ... ok");
            }
            Outcome::Excepted(why) => {
                excepted += 1;
                println!("{suite}: {case} ... excepted: {why}");
            }
            Outcome::Failed(why) => {
                failed += 1;
                println!("{suite}: {case} ... FAILED: {why}");
            }
        }
    }
    println!("{suite}: {passed} of {} passed, {excepted} excepted, {failed} failed\n", lines.len());
    failed == 0
}
