//! `cargo xtask demo`: builds, then has the runner show the whole data path and the verdict loop on real traffic.

use std::process::ExitCode;

use anyhow::Result;

use crate::build;
use crate::progress::Progress;
use crate::{runner, setup};

/// Options of `demo`.
#[derive(clap::Args)]
#[command(after_help = "\
Needs root, or sudo, for network namespaces and eBPF. Without either it runs the user-space half on loopback and says
what was left out. Exit status 0: everything that was tried held.")]
pub struct Args {
    /// Keep everything up afterwards, for looking around, until Ctrl-C
    #[arg(long)]
    hold: bool,
    /// Print one JSON object on stdout instead of the story
    #[arg(long)]
    json: bool,
}

/// Runs the task.
pub fn run(args: &Args) -> Result<ExitCode> {
    let progress = Progress { quiet: args.json };
    let toolchain = setup::for_build(progress)?;
    let python = setup::for_tests(progress)?;
    let built = build::workspace(&toolchain, build::TEST_PROFILE, &["proxy-user", "tidegate-tests"], progress)?;
    let mut command = runner::command(&built, Some(&python), &[]);
    command.arg("demo");
    for (flag, wanted) in [("--hold", args.hold), ("--json", args.json)] {
        if wanted {
            command.arg(flag);
        }
    }
    let status = runner::supervise(command, None)?;
    Ok(runner::exit_code(status))
}
