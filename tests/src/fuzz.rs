//! `fuzz`: the long searches for defects, with a bar that says how far they are. What they search is in
//! [`crate::differential`].

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{cases, differential};

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to search
    #[arg(value_enum)]
    what: What,
    /// Packets to run
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    packets: u64,
    /// Seed of the generator; the time of day unless set
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// The searches.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum What {
    /// Packets on which the loaded program and the host's decision differ
    Differential,
}

/// Without a terminal, time between two lines about how far it is.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// Prints what the search reached; an error names the frame that differs.
pub fn run(args: &Args) -> Result<ExitCode> {
    let What::Differential = args.what;
    if let Some(why) = cases::cannot_run() {
        anyhow::bail!("nothing can be searched here: {why}");
    }
    let seed = args.seed.unwrap_or_else(time_of_day);
    eprintln!("seed {seed}");
    let shown = Shown::new(args.packets);
    let report = differential::search(seed, args.packets, &|done, name| shown.tell(done, name));
    shown.end();
    let report = report
        .with_context(|| format!("again: cargo xtask fuzz differential --packets {} --seed {seed}", args.packets))?;
    println!("{}", serde_json::to_string_pretty(&report)?);
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
            let form = "{wide_bar} {human_pos} of {human_len} packets, {per_sec}, {eta} to go";
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
            eprintln!("{:>6.0} s  {done} of {} packets  {name}", self.begun.elapsed().as_secs_f64(), self.whole);
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
