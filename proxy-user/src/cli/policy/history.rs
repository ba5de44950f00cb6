//! `tidegate policy history`: what is kept, and who brought it in.

use std::io::Write as _;

use proxy_core::store::Revision;
use proxy_user::control::wire::History;

use crate::cli::output::{self, WARN};
use crate::cli::remote::Ask;

/// Show the kept revisions: who brought what in, and when
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate policy history
  tidegate policy history --json | jq '.revisions[-1]'")]
pub(super) struct Args {
    #[command(flatten)]
    ask: Ask,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let history: History = args.ask.socket.get("/v1/policies/revisions")?;
    if args.ask.form.json {
        return output::json(&history);
    }
    let mut out = output::stdout();
    if history.revisions.is_empty() {
        return Ok(writeln!(out, "no revision is kept: no policies were loaded yet")?);
    }
    let rows: Vec<_> = history.revisions.iter().map(|revision| row(revision, history.current)).collect();
    output::table(&mut out, &["", "revision", "since", "by", "from", "rules", "sha256", "files"], 8, &rows)?;
    if let (true, Some(current)) = (history.held, history.current) {
        writeln!(
            out,
            "{WARN}held{WARN:#}: {current} stays over reloads and restarts; `tidegate policy apply` lets go"
        )?;
    }
    Ok(writeln!(out, "audit log: entry {}, {}", history.audit.seq, history.audit.hash)?)
}

fn row(revision: &Revision, current: Option<u64>) -> Vec<String> {
    let names = revision.files.iter().map(|file| file.name.rsplit('/').next().unwrap_or(&file.name));
    vec![
        if current == Some(revision.number) { "*" } else { "" }.to_owned(),
        revision.number.to_string(),
        format!("{:.0}", revision.time),
        revision.who.to_string(),
        revision.origin.name().to_owned(),
        revision.rules.to_string(),
        revision.digest.short(),
        names.collect::<Vec<_>>().join(" "),
    ]
}
