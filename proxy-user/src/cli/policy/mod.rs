//! `tidegate policy`: policies from the file to what is in force, and back. One module an action.

mod apply;
mod audit;
mod check;
mod diff;
mod history;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use proxy_core::store::Texts;
use proxy_user::daemon::policies;

use super::output::BAD;

/// Check, test, compare, load and roll back policies
///
/// `check`, `test` and `diff` of files need no daemon's leave and change nothing. `apply` and `rollback` have the running daemon
/// load a set: all or nothing, and it stays in force over reloads and restarts until `apply` without files.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate policy check new/*.json          faults with their lines, or what the files come to
  tidegate policy test new/*.json           each test of each policy
  tidegate policy diff new/*.json           what would change against what is loaded
  tidegate policy apply new/*.json          load them
  tidegate policy rollback                  back to the revision before
  tidegate policy history                   who brought what in, and when
  tidegate policy audit --verify            whether the audit log is whole")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Args),
    Test(check::TestArgs),
    Diff(diff::Args),
    Apply(apply::Args),
    Rollback(apply::RollbackArgs),
    History(history::Args),
    Audit(audit::Args),
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let done = match &args.command {
        Command::Check(args) => return check::run(args),
        Command::Test(args) => return check::test(args),
        Command::Audit(args) => return audit::run(args),
        Command::Diff(args) => diff::run(args),
        Command::Apply(args) => apply::run(args),
        Command::Rollback(args) => apply::rollback(args),
        Command::History(args) => history::run(args),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Reads policy files with their lists; every fault is shown.
fn read(files: &[PathBuf]) -> anyhow::Result<Texts> {
    policies::read_texts(files).or_else(|faults| {
        let mut err = anstream::stderr().lock();
        for fault in &faults {
            writeln!(err, "{fault}")?;
        }
        bail!("{}; nothing was sent", super::faults::count(faults.len()))
    })
}

/// `3 rules`, `1 rule`.
fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("{count} {what}") } else { format!("{count} {what}s") }
}

/// Faults to stderr, and how many there are.
fn failed(faults: &[String]) -> anyhow::Result<ExitCode> {
    let mut err = anstream::stderr().lock();
    for fault in faults {
        writeln!(err, "{fault}")?;
    }
    writeln!(err, "{BAD}{}{BAD:#}", super::faults::count(faults.len()))?;
    Ok(ExitCode::FAILURE)
}
