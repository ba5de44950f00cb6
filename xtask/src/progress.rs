//! What a person sees while a task runs: one line a step, a spinner on a terminal, nothing when a program reads along.
//!
//! Everything goes to stderr; stdout belongs to results.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// Steps shorter than this are shown without their time.
const WORTH_TIMING: Duration = Duration::from_millis(500);

/// SGR codes; see [`paint`].
pub const RED: &str = "1;31";
/// For what succeeded.
pub const GREEN: &str = "1;32";
/// For what was left out.
pub const YELLOW: &str = "1;33";

/// Colours `text` where stderr is a terminal and `NO_COLOR` is not set.
pub fn paint(sgr: &str, text: &str) -> String {
    if std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) {
        format!("\x1b[{sgr}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// The task's progress.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Say nothing; errors still come out.
    pub quiet: bool,
}

impl Progress {
    /// Shows `what` while `work` runs and its time when it ends. `work` must not print: see [`Self::announce`].
    pub fn step<T>(self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.quiet {
            return work();
        }
        let started = Instant::now();
        let spinner = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bar = ProgressBar::new_spinner().with_style(style).with_message(what.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if spinner.is_none() {
            eprintln!("   {what} ...");
        }
        let result = work();
        if let Some(bar) = spinner {
            bar.finish_and_clear();
        }
        let took = started.elapsed();
        let time = if took < WORTH_TIMING { String::new() } else { format!(" ({:.1} s)", took.as_secs_f64()) };
        match &result {
            Ok(_) => eprintln!("{} {what}{time}", paint(GREEN, "ok")),
            Err(_) => eprintln!("{} {what}{time}", paint(RED, "failed")),
        }
        result
    }

    /// Says what comes next, for work that prints for itself.
    pub fn announce(self, what: &str) {
        if !self.quiet {
            eprintln!("{} {what}", paint(GREEN, "->"));
        }
    }

    /// Says something that is not a step.
    pub fn note(self, what: &str) {
        if !self.quiet {
            eprintln!("   {what}");
        }
    }

    /// Says that something was left out, and why.
    pub fn warn(self, what: &str) {
        if !self.quiet {
            eprintln!("{} {what}", paint(YELLOW, "note:"));
        }
    }
}
