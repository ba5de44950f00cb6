//! `cargo xtask fuzz`: the long searches for defects, of which `cargo xtask test` runs a short slice.

use std::process::ExitCode;

use anyhow::Result;

use crate::progress::Progress;
use crate::{build, runner, setup};

/// Options of `fuzz`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask fuzz differential                           ten million packets, some minutes
  cargo xtask fuzz differential --seed 7 --packets 50000  what a report names, again")]
pub struct Args {
    /// What to search
    #[arg(value_enum)]
    what: What,
    /// Packets to run
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    packets: u64,
    /// Seed of the generator; the time of day unless set
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// The searches.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum What {
    /// Packets on which the loaded program and the host's decision differ
    Differential,
}

/// Runs the task.
pub fn run(args: &Args) -> Result<ExitCode> {
    let What::Differential = args.what;
    let progress = Progress { quiet: false };
    let toolchain = setup::for_build(progress)?;
    let built = build::workspace(&toolchain, build::TEST_PROFILE, &["proxy-user", "tidegate-tests"], progress)?;
    let mut command = runner::command(&built, None);
    command.args(["fuzz", "differential", "--packets"]).arg(args.packets.to_string());
    if let Some(seed) = args.seed {
        command.arg("--seed").arg(seed.to_string());
    }
    Ok(runner::exit_code(runner::supervise(command, None)?))
}
