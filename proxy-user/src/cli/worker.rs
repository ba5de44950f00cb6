//! `tidegate worker`: the workers, taking one out and bringing it back.

use std::io::{self, Write};

use proxy_user::control::wire::{Done, WorkerState, Workers};
use serde_json::json;

use super::output;
use super::remote::Ask;

/// List the workers, take one out, bring it back
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate worker list
  tidegate worker stop 2     its listeners close, its open connections end
  tidegate worker start 2    it takes connections again")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show what each worker does
    List(Ask),
    /// Take a worker out
    Stop(One),
    /// Bring a stopped worker back
    Start(One),
}

#[derive(Debug, clap::Args)]
struct One {
    /// Number of the worker, from 0
    #[arg(value_name = "N")]
    worker: u32,
    #[command(flatten)]
    ask: Ask,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::List(ask) => {
            let workers: Workers = ask.socket.get("/v1/workers")?;
            if ask.form.json {
                return output::json(&workers);
            }
            Ok(print(&mut output::stdout(), &workers.workers)?)
        }
        Command::Stop(one) => one.tell("stop"),
        Command::Start(one) => one.tell("start"),
    }
}

impl One {
    fn tell(&self, what: &str) -> anyhow::Result<()> {
        let done: Done = self.ask.socket.post(&format!("/v1/workers/{}/{what}", self.worker), &json!({}))?;
        self.ask.form.told(&done)
    }
}

/// The workers as a table.
pub(super) fn print(out: &mut impl Write, workers: &[WorkerState]) -> io::Result<()> {
    let requests = |w: &WorkerState, version: &str| w.requests.get(version).copied().unwrap_or(0).to_string();
    let row = |w: &WorkerState| {
        vec![
            w.worker.to_string(),
            if w.accepting { "accepting" } else { "out" }.to_owned(),
            w.active.to_string(),
            w.accepted.to_string(),
            requests(w, "h1"),
            requests(w, "h2"),
            requests(w, "h3"),
        ]
    };
    let rows = workers.iter().map(row).collect::<Vec<_>>();
    output::table(out, &["worker", "state", "active", "accepted", "h1", "h2", "h3"], 2, &rows)
}
