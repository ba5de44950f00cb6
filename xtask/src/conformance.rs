//! `cargo xtask conformance`: suites of others against the daemon, each case told by name.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::progress::Progress;
use crate::{build, run, runner, setup, tree};

/// The suite on RFC 9113, and the version whose cases the list of exceptions names.
const HTTPWG: (&str, &str) = ("httpwg-cli", "0.2.5");

/// Options of `conformance`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask conformance           all suites
  cargo xtask conformance httpwg    HTTP/2 frame by frame")]
pub struct Args {
    /// Only this suite: `httpwg`
    suite: Option<String>,
}

/// Runs the task.
pub fn run(args: &Args) -> Result<ExitCode> {
    let progress = Progress { quiet: false };
    let toolchain = setup::for_build(progress)?;
    let python = setup::for_tests(progress)?;
    let httpwg = httpwg(progress)?;
    let built = build::workspace(&toolchain, build::TEST_PROFILE, &["proxy-user", "tidegate-tests"], progress)?;
    let mut variable = std::ffi::OsString::from("TIDEGATE_TEST_HTTPWG=");
    variable.push(httpwg);
    let mut command = runner::command(&built, Some(&python), &[variable]);
    command.arg("conformance").args(&args.suite);
    Ok(runner::exit_code(runner::supervise(command, None)?))
}

/// The suite's program, built into the cache.
fn httpwg(progress: Progress) -> Result<PathBuf> {
    let (package, version) = HTTPWG;
    let root = tree::cache()?.join(format!("{package}-{version}"));
    let program = root.join("bin/httpwg");
    if !program.exists() {
        progress.step(&format!("Building {package} {version} (about a minute, once)"), || {
            let mut install = run::cargo();
            // Not in the workspace: its settings must not reach another project's build.
            install.current_dir("/").args(["install", package, "--locked", "--version", version, "--root"]).arg(&root);
            run::quietly(&mut install)
        })?;
    }
    Ok(program)
}
