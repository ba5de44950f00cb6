//! `tidegate log`: what the daemon logs, and logging more or less while it runs.

use std::io::Write;

use proxy_user::control::wire::{LogFilter, NewLogFilter};

use super::output;
use super::remote::Ask;

/// Show what the daemon logs, or log more or less from now on
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate log                                   what is logged
  tidegate log debug --for 10m                   everything in detail, for ten minutes
  tidegate log info,proxy_user::upstream=debug   in detail what one module does")]
pub(super) struct Args {
    /// A level (error, warn, info, debug, trace), or levels by module
    #[arg(value_name = "FILTER")]
    filter: Option<String>,
    /// How long, such as 10m; then what was before
    #[arg(long, value_name = "TIME", requires = "filter")]
    r#for: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let now: LogFilter = match &args.filter {
        None => args.ask.socket.get("/v1/log")?,
        Some(filter) => {
            args.ask.socket.post("/v1/log", &NewLogFilter { filter: filter.clone(), r#for: args.r#for.clone() })?
        }
    };
    if args.ask.form.json {
        return output::json(&now);
    }
    Ok(writeln!(output::stdout(), "{}", now.filter)?)
}
