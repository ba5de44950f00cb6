//! `cargo xtask bench`: what the gate costs, measured on this machine.

use std::process::ExitCode;

use anyhow::Result;

use crate::build;
use crate::progress::Progress;
use crate::{runner, setup};

/// Options of `bench`.
#[derive(clap::Args)]
pub struct Args {
    /// What to measure
    #[arg(value_enum)]
    what: What,
}

/// The benches.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum What {
    /// ns per packet of the XDP gate, beside an empty program and xdp-filter
    Xdp,
    /// ns per packet of the XDP gate by the number of packet rules
    Rules,
    /// From a worker's decision to the verdict in the kernel map
    Verdicts,
}

/// Runs the task.
pub fn run(args: &Args) -> Result<ExitCode> {
    let progress = Progress { quiet: false };
    let toolchain = setup::for_build(progress)?;
    let built = build::workspace(&toolchain, build::TEST_PROFILE, &["proxy-user", "tidegate-tests"], progress)?;
    let mut command = runner::command(&built, None);
    command.arg("bench").arg(match args.what {
        What::Xdp => "xdp",
        What::Rules => "rules",
        What::Verdicts => "verdicts",
    });
    Ok(runner::exit_code(runner::supervise(command, None)?))
}
