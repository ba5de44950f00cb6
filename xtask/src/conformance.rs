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
  cargo xtask conformance httpwg    HTTP/2 frame by frame
  cargo xtask conformance slowhttptest    a good client beside slow ones
  cargo xtask conformance testssl   how TLS is spoken")]
pub struct Args {
    /// Only this suite: `httpwg`, `slowhttptest` or `testssl`
    suite: Option<String>,
}

/// Runs the task.
pub fn run(args: &Args) -> Result<ExitCode> {
    let progress = Progress { quiet: false };
    let toolchain = setup::for_build(progress)?;
    let python = setup::for_tests(progress)?;
    setup::for_conformance(progress)?;
    let wants_httpwg = args.suite.as_deref().is_none_or(|suite| suite == "httpwg");
    let httpwg = if wants_httpwg { Some(httpwg(progress)?) } else { None };
    let built = build::workspace(&toolchain, build::TEST_PROFILE, &["proxy-user", "tidegate-tests"], progress)?;
    let variable = |program: PathBuf| {
        let mut variable = std::ffi::OsString::from("TIDEGATE_TEST_HTTPWG=");
        variable.push(program);
        variable
    };
    let variables: Vec<_> = httpwg.map(variable).into_iter().collect();
    let mut command = runner::command(&built, Some(&python), &variables);
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
