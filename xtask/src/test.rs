//! `cargo xtask test`: unit tests, the verdict table, end-to-end tests; then one line that counts them all.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};

use crate::build::{self, Built};
use crate::progress::Progress;
use crate::{kernels, run, runner, setup};

/// Options of `test`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask test                       everything; needs root or sudo for the last two parts
  cargo xtask test --e2e reload          the end-to-end tests whose name has `reload`
  cargo xtask test --unit -- cidr        the unit tests whose name has `cidr`
  cargo xtask test --kernels             load, verdict table and attaching on Debian's 6.1 and 6.12, in qemu")]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub struct Args {
    /// Only tests whose name contains this
    filter: Option<String>,
    /// The unit tests of all crates
    #[arg(long)]
    unit: bool,
    /// The verdict table: each packet through the host's decision and the loaded program
    #[arg(long)]
    verdicts: bool,
    /// End-to-end tests in network namespaces
    #[arg(long)]
    e2e: bool,
    /// Load, verdict table and attaching on other kernels, which qemu boots; not among what runs without options
    #[arg(long)]
    kernels: bool,
    /// End-to-end tests side by side
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// Sums of the `test result:` lines that test programs print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Tally {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; …`; other lines change nothing.
    fn add(&mut self, line: &str) {
        let Some(rest) = line.trim().strip_prefix("test result:") else { return };
        for part in rest.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) = (words.next().and_then(|n| n.parse::<u64>().ok()), words.next()) else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

/// Runs the task.
pub fn run(args: &Args) -> Result<ExitCode> {
    let progress = Progress { quiet: false };
    let all = !(args.unit || args.verdicts || args.e2e || args.kernels);
    let toolchain = setup::for_build(progress)?;
    let python = if all || args.e2e || args.unit { Some(setup::for_tests(progress)?) } else { None };
    let built = build::workspace(&toolchain, build::TEST_PROFILE, &["proxy-user", "tidegate-tests"], progress)?;
    let mut tally = Tally::default();
    let mut good = true;
    if all || args.unit {
        progress.announce("Unit tests");
        good &= unit(args, &built, python.as_deref(), &mut tally)?;
    }
    if all || args.verdicts || args.e2e {
        progress.announce("Verdict table and end-to-end tests");
        good &= in_namespaces(args, all, &built, python.as_deref(), &mut tally)?;
    }
    if args.kernels {
        progress.announce("Other kernels");
        let left_out = kernels::run(&built, args.filter.as_deref(), progress, |line| {
            tally.add(line);
            if !line.ends_with("... ok") {
                println!("{line}");
            }
        })?;
        tally.skipped += left_out;
    }
    if tally.skipped > 0 && std::env::var("CI").is_ok_and(|ci| ci == "true") {
        progress.warn("CI=true: skipped tests count as failures");
        good = false;
    }
    println!("\n{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
    Ok(if good && tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn unit(args: &Args, built: &Built, python: Option<&Path>, tally: &mut Tally) -> Result<bool> {
    let mut cargo = run::cargo();
    cargo.args(["test", "--profile", build::TEST_PROFILE, "--workspace", "--no-fail-fast"]);
    cargo.args(["--exclude", "proxy-ebpf", "--exclude", "tidegate-tests"]);
    build::embed(&mut cargo, &built.object);
    cargo.args(&args.filter);
    // Tests of the daemon on loopback have foreign clients, too.
    cargo.envs(python.map(|python| ("TIDEGATE_TEST_PYTHON", python)));
    tallied(&mut cargo, tally)
}

fn in_namespaces(args: &Args, all: bool, built: &Built, python: Option<&Path>, tally: &mut Tally) -> Result<bool> {
    let mut command = runner::command(built, python, &[]);
    command.arg("test").args(&args.filter);
    for (flag, wanted) in [("--verdicts", all || args.verdicts), ("--e2e", all || args.e2e)] {
        if wanted {
            command.arg(flag);
        }
    }
    if let Some(threads) = args.threads {
        command.args(["--threads", &threads.to_string()]);
    }
    let status = runner::supervise(
        command,
        Some(&mut |line| {
            println!("{line}");
            tally.add(line);
        }),
    )?;
    Ok(status.success())
}

/// Runs a test program, passing its lines on and counting what they report.
fn tallied(command: &mut Command, tally: &mut Tally) -> Result<bool> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start `{}`", run::line(command)))?;
    let stdout = child.stdout.take().context("no stdout")?;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        println!("{line}");
        tally.add(&line);
    }
    Ok(child.wait()?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_summed() {
        let mut tally = Tally::default();
        for line in [
            "running 4 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.10s",
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
            "test that says: 5 passed; 5 failed",
        ] {
            tally.add(line);
        }
        assert_eq!(tally, Tally { passed: 13, failed: 2, skipped: 1 });
    }
}
