//! `cargo xtask demo`: the whole data path and the whole verdict loop on real traffic, told with figures.
//!
//! [`story`] is what happens in the namespaces, [`loopback`] what is left of it without root, [`Tale`] how it is told.

mod loopback;
mod story;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

use crate::cases;

/// Answered requests, by HTTP version.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Requests {
    /// HTTP/1.1.
    pub h1: u64,
    /// HTTP/2.
    pub h2: u64,
    /// HTTP/3.
    pub h3: u64,
}

/// What `--json` prints.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Whether everything that was tried held.
    pub ok: bool,
    /// `driver`, `generic`, or `none` on loopback.
    pub xdp_mode: String,
    /// Good clients' requests that were answered with the origin's page.
    pub requests: Requests,
    /// Connections that each worker accepted.
    pub connections_per_worker: Vec<u64>,
    /// Status of the answer to the scanner's probe.
    pub scanner_status: u16,
    /// Microseconds from the worker's decision to the first packet that XDP dropped.
    pub decision_to_drop_us: Option<u64>,
    /// Packets that XDP dropped by the verdict.
    pub dropped_packets: u64,
    /// Good clients' requests that failed, before, during and after the ban.
    pub good_failures: u64,
    /// Whether the scanner was let in again once its verdict had expired.
    pub readmitted: Option<bool>,
    /// Seconds that all of it took.
    pub seconds: f64,
    /// What could not be shown here, and why.
    pub left_out: Vec<String>,
    /// What did not hold.
    pub failures: Vec<String>,
}

impl Figures {
    /// Notes a failure unless the condition holds.
    pub(crate) fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.failures.push(what());
        }
    }
}

/// Tells the story to a person; says nothing with `--json`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tale {
    silent: bool,
    colour: bool,
}

impl Tale {
    /// What comes now.
    pub(crate) fn heading(self, text: &str) {
        match (self.silent, self.colour) {
            (true, _) => {}
            (false, true) => println!("\n\x1b[1;36m{text}\x1b[0m"),
            (false, false) => println!("\n{text}"),
        }
    }

    /// A line below it.
    pub(crate) fn line(self, text: &str) {
        if !self.silent {
            println!("  {text}");
        }
    }

    /// A command that was run, and the start of what it printed.
    pub(crate) fn command(self, command: &str, output: &str, lines: usize) {
        let (on, off) = if self.colour { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        self.line(&format!("{on}$ {command}{off}"));
        for line in output.lines().take(lines) {
            self.line(&format!("  {line}"));
        }
        let more = output.lines().count().saturating_sub(lines);
        if more > 0 {
            self.line(&format!("  ... {more} more lines"));
        }
    }
}

/// Options of the demo.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Args {
    /// Keep everything up afterwards, for looking around, until Ctrl-C
    #[arg(long)]
    pub hold: bool,
    /// Print one JSON object instead of the story
    #[arg(long)]
    pub json: bool,
}

/// Runs the demo.
pub fn run(args: Args) -> Result<ExitCode> {
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let tale = Tale { silent: args.json, colour };
    let started = Instant::now();
    let mut figures = Figures::default();
    let held = match cases::cannot_run() {
        None => story::tell(tale, &mut figures).map(|edge| story::Scene::Street(Box::new(edge))),
        Some(why) => loopback::tell(tale, &mut figures, &why).map(|local| story::Scene::Loopback(Box::new(local))),
    };
    figures.seconds = (started.elapsed().as_secs_f64() * 1_000.0).round() / 1_000.0;
    if let Err(error) = &held {
        figures.failures.push(format!("{error:#}"));
    }
    figures.ok = figures.failures.is_empty();
    if args.json {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        conclude(tale, &figures);
    }
    if let (true, Ok(scene)) = (args.hold, &held) {
        scene.invite(tale);
        // The signal that ends this also cleans up.
        loop {
            std::thread::park();
        }
    }
    Ok(if figures.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn conclude(tale: Tale, figures: &Figures) {
    if figures.ok {
        tale.heading(&format!("Everything held, in {:.1} s.", figures.seconds));
    } else {
        tale.heading("Not everything held:");
        figures.failures.iter().for_each(|failure| tale.line(failure));
    }
    for what in &figures.left_out {
        tale.line(&format!("Left out: {what}"));
    }
}
