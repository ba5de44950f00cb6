//! `tidegate policy apply` and `rollback`: the running daemon loads a set, or keeps what it has.

use std::io::Write as _;
use std::path::PathBuf;

use proxy_user::control::api::APPLY_PATH;
use proxy_user::control::wire::{Apply, PoliciesApplied, Rollback};

use super::{counted, read};
use crate::cli::output::{self, GOOD, WARN};
use crate::cli::remote::Ask;

/// Have the running daemon load policies; on a fault nothing changes
///
/// The files become one revision, in place of all policies that are loaded. It is held: reloads and restarts keep it. Without
/// files, the daemon takes what its config names, and holds nothing any more.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate policy diff new/*.json && tidegate policy apply new/*.json
  tidegate policy apply                     the files that the config names")]
pub(super) struct Args {
    /// Policy files, in the order in which they are asked; lists that they name are sent along
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    ask: Ask,
}

/// Have the running daemon load a kept revision again
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate policy rollback                  the revision before the one in force
  tidegate policy rollback 12")]
pub(super) struct RollbackArgs {
    /// Number of the revision, as `policy history` shows it
    #[arg(value_name = "REV")]
    revision: Option<u64>,
    #[command(flatten)]
    ask: Ask,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let policies = if args.files.is_empty() { None } else { Some(read(&args.files)?) };
    let done: PoliciesApplied = args.ask.socket.post(APPLY_PATH, &Apply { policies })?;
    told(&args.ask, &done)
}

pub(super) fn rollback(args: &RollbackArgs) -> anyhow::Result<()> {
    let body = Rollback { revision: args.revision };
    let done: PoliciesApplied = args.ask.socket.post("/v1/policies/rollback", &body)?;
    told(&args.ask, &done)
}

fn told(ask: &Ask, done: &PoliciesApplied) -> anyhow::Result<()> {
    if ask.form.json {
        return output::json(done);
    }
    let mut out = output::stdout();
    for warning in &done.warnings {
        writeln!(out, "{WARN}warning{WARN:#}: {warning}")?;
    }
    let revision = done.revision.map_or_else(|| "the set".to_owned(), |number| format!("revision {number}"));
    let held = if done.held { ", held over reloads and restarts" } else { "" };
    Ok(writeln!(
        out,
        "{GOOD}{revision} is in force{GOOD:#} ({}{held}); kernel entries: {} written, {} removed, {} verdicts retracted",
        counted(done.rules, "rule"),
        done.written,
        done.removed,
        done.retracted
    )?)
}
