//! `cargo xtask fuzz`: the long searches for defects, of which `cargo xtask test` runs a short slice.

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context as _, Result};

use crate::progress::Progress;
use crate::{build, run, runner, setup};

/// What is searched by [`naive`].
const NAIVE: &str = "naive";
/// Requests of that search unless told otherwise.
const NAIVE_CASES: u64 = 1_000_000;

/// Options of `fuzz`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask fuzz --list                                 what can be searched
  cargo xtask fuzz differential                           ten million packets, some minutes
  cargo xtask fuzz differential --seed 7 --packets 50000  what a report names, again
  cargo xtask fuzz expression                             a million conditions through the policy compiler
  cargo xtask fuzz naive                                  a million requests through compiled rules and a naive interpreter")]
pub struct Args {
    /// What to search: `differential`, `naive`, or a parser
    #[arg(required_unless_present = "list")]
    what: Option<String>,
    /// Packets or inputs to run; ten million packets or a million inputs unless set
    #[arg(long, visible_alias = "cases", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    packets: Option<u64>,
    /// Seed of the generator; the time of day unless set
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Name what can be searched
    #[arg(long)]
    list: bool,
}

/// Runs the task.
pub fn run(args: &Args) -> Result<ExitCode> {
    if args.what.as_deref() == Some(NAIVE) {
        return naive(args);
    }
    let progress = Progress { quiet: false };
    let toolchain = setup::for_build(progress)?;
    let built = build::workspace(&toolchain, build::TEST_PROFILE, &["proxy-user", "tidegate-tests"], progress)?;
    let mut command = runner::command(&built, None, &[]);
    command.arg("fuzz").args(&args.what);
    if args.list {
        command.arg("--list");
    }
    for (flag, number) in [("--packets", args.packets), ("--seed", args.seed)] {
        if let Some(number) = number {
            command.args([flag, &number.to_string()]);
        }
    }
    if args.list {
        println!("{NAIVE:<15}requests that compiled rules judge otherwise than their words");
    }
    Ok(runner::exit_code(runner::supervise(command, None)?))
}

/// The search beside the naive interpreter, which is among the tests of `proxy-core`.
fn naive(args: &Args) -> Result<ExitCode> {
    let time_of_day = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |since| since.as_secs());
    let seed = args.seed.unwrap_or_else(time_of_day);
    eprintln!("seed {seed}");
    let mut cargo = run::cargo();
    cargo.args([
        "test",
        "--package",
        "proxy-core",
        "--profile",
        build::TEST_PROFILE,
        "--lib",
        NAIVE,
        "--",
        "--nocapture",
    ]);
    cargo.env("TIDEGATE_CASES", args.packets.unwrap_or(NAIVE_CASES).to_string());
    cargo.env("TIDEGATE_SEED", seed.to_string());
    let status = cargo.status().with_context(|| format!("could not start `{}`", run::line(&cargo)))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
