//! `tidegate reload`: read config and policies again, without losing a connection.

use std::io::Write;

use proxy_user::control::wire::Reloaded;
use serde_json::json;

use super::output::{self, WARN};
use super::remote::Ask;

/// Read config and policies again; on a fault nothing changes
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tidegate check && tidegate reload")]
pub(super) struct Args {
    #[command(flatten)]
    ask: Ask,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let done: Reloaded = args.ask.socket.post("/v1/reload", &json!({}))?;
    if args.ask.form.json {
        return output::json(&done);
    }
    let mut out = output::stdout();
    writeln!(
        out,
        "generation {} serves; kernel entries: {} written, {} removed, {} verdicts retracted",
        done.generation, done.written, done.removed, done.retracted
    )?;
    if let Some(revision) = done.held {
        writeln!(
            out,
            "{WARN}revision {revision} of the policies stays{WARN:#}: `tidegate policy apply` takes the config's files"
        )?;
    }
    for pointer in &done.needs_restart {
        writeln!(out, "{WARN}waits for a restart{WARN:#}: {pointer}")?;
    }
    Ok(())
}
