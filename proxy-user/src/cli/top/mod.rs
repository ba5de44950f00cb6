//! `tidegate top`: live rates at the gate, on the screen or as JSON.
//!
//! Reasons and rules come from the kernel's exact counters; sources and services from sampled drops, and are estimates.

mod screen;
mod tally;

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::bail;
use http::Method;
use proxy_core::config::Span;
use proxy_user::control::wire::Counters;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::events::{Came, Following, Wish};
use super::output;
use super::remote::{self, Ask as Remote};
use screen::{Key, Screen};
use tally::{Rates, Tally};

/// How often keys are looked for.
const KEYS_EVERY: Duration = Duration::from_millis(100);
/// Shortest time between two figures.
const SHORTEST: Duration = Duration::from_millis(100);

/// Watch the gate: packets and bytes a second by reason, rule, source and service
///
/// Sources and services are estimated from a sample of the drops (`gate.events.sample`). `q` ends it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate top
  tidegate top --json --once | jq .sources
  tidegate top --sample 1 --interval 5s")]
pub(super) struct Args {
    /// Time that each figure is taken over
    #[arg(long, value_name = "TIME", default_value = "1s")]
    interval: Span,
    /// With --json: end after one set of figures
    #[arg(long, requires = "json")]
    once: bool,
    #[command(flatten)]
    wish: Wish,
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    if args.interval.0 < SHORTEST {
        bail!("--interval must be at least {}", Span(SHORTEST));
    }
    let on_screen = !args.remote.form.json;
    if on_screen && !(io::stdout().is_terminal() && io::stdin().is_terminal()) {
        bail!("top draws on a terminal, and this is none: `tidegate top --json --once` prints the figures");
    }
    remote::runtime()?.block_on(watch(args, on_screen))
}

async fn watch(args: &Args, on_screen: bool) -> anyhow::Result<()> {
    let ask = args.wish.ask(None, false)?;
    let mut events = Following::start(&args.remote.socket, &ask, None, None).await?;
    let mut tally = Tally::default();
    tally.counters(Instant::now().into_std(), counters(args).await?);
    // Only now: what has failed so far was told on the usual screen.
    let mut screen = if on_screen { Some(Screen::open()?) } else { None };
    let start = |every: Duration| {
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    };
    let (mut figures, mut keys) = (start(args.interval.0), start(KEYS_EVERY));
    let (mut terminate, mut hangup) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    let mut shown = Rates::default();
    loop {
        tokio::select! {
            came = events.next() => match came? {
                Some(Came::Event(event)) => tally.event(&event),
                Some(Came::Losses(losses)) => tally.losses(losses),
                // Ctrl-C.
                None => return Ok(()),
            },
            _ = figures.tick() => {
                shown = tally.counters(Instant::now().into_std(), counters(args).await?);
                match &mut screen {
                    Some(screen) => screen.draw(&shown)?,
                    None if args.once => return output::json(&shown),
                    None => output::json_line(&shown)?,
                }
            }
            _ = keys.tick(), if screen.is_some() => {
                match (Screen::key()?, &mut screen) {
                    (Some(Key::End), _) => return Ok(()),
                    (Some(Key::Redraw), Some(screen)) => screen.draw(&shown)?,
                    _ => {}
                }
            }
            _ = terminate.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
        }
        io::stdout().flush()?;
    }
}

async fn counters(args: &Args) -> anyhow::Result<Counters> {
    args.remote.socket.ask(Method::GET, "/v1/counters", Vec::new()).await
}
