//! `tidegate policy`: policies from the file to what is in force, and back. One module an action.

mod apply;
mod audit;
mod bundle;
mod check;
mod diff;
mod history;
mod import;
mod rules;

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
  tidegate policy audit --verify            whether the audit log is whole
  tidegate policy bundle new/*.json --revision 42 --key release.key --out edge.bundle.json")]
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
    Keygen(bundle::KeygenArgs),
    Bundle(bundle::BundleArgs),
    Sign(bundle::SignArgs),
    Verify(bundle::VerifyArgs),
    Import(import::Args),
    Rules(rules::Args),
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let done = match &args.command {
        Command::Check(args) => return check::run(args),
        Command::Test(args) => return check::test(args),
        Command::Audit(args) => return audit::run(args),
        Command::Import(args) => return import::run(args),
        Command::Diff(args) => diff::run(args),
        Command::Apply(args) => apply::run(args),
        Command::Rollback(args) => apply::rollback(args),
        Command::History(args) => history::run(args),
        Command::Rules(args) => rules::run(args),
        Command::Keygen(args) => bundle::keygen(args),
        Command::Bundle(args) => bundle::bundle(args),
        Command::Sign(args) => bundle::sign(args),
        Command::Verify(args) => bundle::verify(args),
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
