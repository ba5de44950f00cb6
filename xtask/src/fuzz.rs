//! `cargo xtask fuzz`: the long searches for defects, of which `cargo xtask test` runs a short slice.

use std::process::ExitCode;

use anyhow::Result;

use crate::progress::Progress;
use crate::{build, runner, setup};

/// Options of `fuzz`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask fuzz --list                                 what can be searched
  cargo xtask fuzz differential                           ten million packets, some minutes
  cargo xtask fuzz differential --seed 7 --packets 50000  what a report names, again
  cargo xtask fuzz expression                             a million conditions through the policy compiler")]
pub struct Args {
    /// What to search: `differential`, or a parser
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
    Ok(runner::exit_code(runner::supervise(command, None)?))
}
