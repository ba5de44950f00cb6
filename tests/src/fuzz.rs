//! `fuzz`: the long searches for defects, with a bar that says how far they are. What they search is in
//! [`crate::differential`] and [`crate::parsers`].

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::parsers::{self, TARGETS};
use crate::{cases, differential};

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to search: `differential`, or a parser
    #[arg(required_unless_present = "list")]
    what: Option<String>,
    /// Packets or inputs to run
    #[arg(long, visible_alias = "cases", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    packets: Option<u64>,
    /// Seed of the generator; the time of day unless set
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Name what can be searched
    #[arg(long)]
    list: bool,
}

/// The search of the decision.
const DIFFERENTIAL: &str = "differential";
/// Packets and inputs, unless told.
const PACKETS: u64 = 10_000_000;
const INPUTS: u64 = 1_000_000;

/// Without a terminal, time between two lines about how far it is.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// Searches; the error names what differs or breaks.
pub fn run(args: &Args) -> Result<ExitCode> {
    let Some(what) = args.what.as_deref().filter(|_| !args.list) else {
        println!("{DIFFERENTIAL:<14} packets on which the loaded program and the host's decision differ");
        for target in TARGETS {
            println!("{:<14} {}", target.name, target.about);
        }
        return Ok(ExitCode::SUCCESS);
    };
    let seed = args.seed.unwrap_or_else(time_of_day);
    let again = |count| format!("again: cargo xtask fuzz {what} --packets {count} --seed {seed}");
    if what == DIFFERENTIAL {
        let count = args.packets.unwrap_or(PACKETS);
        return differences(count, seed).with_context(|| again(count));
    }
    let Some(target) = TARGETS.iter().find(|target| target.name == what) else {
        bail!("there is no search `{what}`: `cargo xtask fuzz --list` names them");
    };
    eprintln!("seed {seed}");
    let count = args.packets.unwrap_or(INPUTS);
    let shown = Shown::new(count);
    let result = parsers::search(target, seed, count, &|done| shown.tell(done, ""));
    shown.end();
    result.with_context(|| again(count))?;
    println!("{count} inputs, none breaks {what}");
    Ok(ExitCode::SUCCESS)
}

/// Prints what the search of the decision reached.
fn differences(packets: u64, seed: u64) -> Result<ExitCode> {
    if let Some(why) = cases::cannot_run() {
        bail!("nothing can be searched here: {why}");
    }
    eprintln!("seed {seed}");
    let shown = Shown::new(packets);
    let report = differential::search(seed, packets, &|done, name| shown.tell(done, name));
    shown.end();
    println!("{}", serde_json::to_string_pretty(&report?)?);
    Ok(ExitCode::SUCCESS)
}

fn time_of_day() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |since| since.as_secs())
}

/// A bar on a terminal, lines elsewhere.
struct Shown {
    bar: Option<ProgressBar>,
    whole: u64,
    begun: Instant,
    line: Mutex<Instant>,
}

impl Shown {
    fn new(whole: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let form = "{wide_bar} {human_pos} of {human_len}, {per_sec}, {eta} to go";
            let style = ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(whole).with_style(style)
        });
        Self { bar, whole, begun: Instant::now(), line: Mutex::new(Instant::now()) }
    }

    fn tell(&self, done: u64, name: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            if !name.is_empty() {
                bar.println(name);
            }
            return;
        }
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if !name.is_empty() || line.elapsed() >= LINE_EVERY {
            *line = Instant::now();
            eprintln!("{:>6.0} s  {done} of {}  {name}", self.begun.elapsed().as_secs_f64(), self.whole);
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
