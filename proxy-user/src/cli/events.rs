//! `tidegate events`: sampled packets as they are dropped. Also what the commands that follow events share.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use proxy_core::config::Span;
use proxy_user::events::ask::{self, Ask};
use proxy_user::events::record::{Line, Losses, PacketEvent};
use tokio::time::Instant;

use super::output::{self, BAD, GOOD, WARN};
use super::remote::{self, Ask as Remote, Lines, Socket};

/// How long is looked unless told.
const LOOK: &str = "5s";

/// Show packets that the gate dropped, as they come: a sample of them
///
/// Nothing is sampled while nobody looks. The config's `gate.events.sample` says one in how many is shown.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate events --follow
  tidegate events --follow --json --reason verdict --source 192.0.2.0/24
  tidegate events --sample 1 --count 10 --rule shop/scanners

With --json each line is a packet, or {\"lost\": {\"kernel\": N, \"reader\": N}} where some did not come through.")]
pub(super) struct Args {
    /// Go on until interrupted
    #[arg(long, short, conflicts_with = "duration")]
    follow: bool,
    /// How long to look
    #[arg(long, value_name = "TIME", default_value = LOOK)]
    duration: Span,
    /// End after so many packets
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Also show each packet's first bytes in hex
    #[arg(long)]
    hex: bool,
    #[command(flatten)]
    wish: Wish,
    #[command(flatten)]
    remote: Remote,
}

/// Which packets.
#[derive(Debug, clap::Args)]
pub(super) struct Wish {
    /// Only packets of this reason, as `counters` names it; `drops` for all drops, `all` for whatever did not just pass
    #[arg(long, value_name = "REASON", value_delimiter = ',', value_parser = reason)]
    reason: Vec<String>,
    /// Only packets that this rule decided: `policy/rule`, or `operator`
    #[arg(long, value_name = "RULE")]
    rule: Option<String>,
    /// Only packets from this address or prefix
    #[arg(long, value_name = "CIDR", value_parser = |text: &str| ask::source(text))]
    source: Option<IpNet>,
    /// One packet in so many; 1 is each
    #[arg(long, value_name = "N", value_parser = sample)]
    sample: Option<u32>,
}

fn reason(text: &str) -> Result<String, String> {
    ask::add_reason(&mut Default::default(), text).map(|()| text.to_owned())
}

fn sample(text: &str) -> Result<u32, String> {
    ask::check_sample(text.parse().map_err(|_| format!("`{text}` is not a number"))?)
}

impl Wish {
    /// What is asked of the daemon. `sample` holds where none was given.
    pub(super) fn ask(&self, sample: Option<u32>, packets: bool) -> anyhow::Result<Ask> {
        let mut ask = Ask::default();
        if !self.reason.is_empty() {
            ask.reasons = Default::default();
            for name in &self.reason {
                ask::add_reason(&mut ask.reasons, name).map_err(anyhow::Error::msg)?;
            }
        }
        ask.rule.clone_from(&self.rule);
        ask.source = self.source;
        ask.sample = self.sample.or(sample);
        ask.packets = packets;
        Ok(ask)
    }
}

/// Events until a number, a time or a signal ends them.
pub(super) struct Following {
    lines: Lines,
    until: Option<Instant>,
    left: Option<u64>,
    /// Lost since the start.
    pub(super) losses: Losses,
}

/// What came.
pub(super) enum Came {
    /// A packet.
    Event(Box<PacketEvent>),
    /// Word of losses since the last word; often none.
    Losses(Losses),
}

impl Following {
    /// Asks the daemon; it samples from now on.
    pub(super) async fn start(
        socket: &Socket,
        ask: &Ask,
        time: Option<Duration>,
        count: Option<u64>,
    ) -> anyhow::Result<Self> {
        let lines = socket.lines(&format!("/v1/events?{}", ask.query())).await?;
        Ok(Self { lines, until: time.map(|time| Instant::now() + time), left: count, losses: Losses::default() })
    }

    /// The next; none at the end.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Came>> {
        if self.left == Some(0) {
            return Ok(None);
        }
        let line = tokio::select! {
            line = self.lines.next::<Line>() => Some(line?),
            () = at(self.until) => None,
            signal = tokio::signal::ctrl_c() => { signal?; None }
        };
        Ok(line.map(|line| match line {
            Line::Event(event) => {
                self.left = self.left.map(|left| left - 1);
                Came::Event(event)
            }
            Line::Status(losses) => {
                self.losses.kernel += losses.kernel;
                self.losses.reader += losses.reader;
                Came::Losses(losses)
            }
        }))
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let ask = args.wish.ask(None, args.hex)?;
    let time = (!args.follow).then_some(args.duration.0);
    remote::runtime()?.block_on(async {
        let mut events = Following::start(&args.remote.socket, &ask, time, args.count).await?;
        while let Some(came) = events.next().await? {
            match came {
                Came::Event(event) if args.remote.form.json => output::json_line(&event)?,
                Came::Event(event) => print(&mut output::stdout(), &event)?,
                Came::Losses(losses) if losses == Losses::default() => {}
                Came::Losses(losses) if args.remote.form.json => {
                    output::json_line(&serde_json::json!({ "lost": losses }))?;
                }
                Came::Losses(losses) => {
                    let Losses { kernel, reader } = losses;
                    writeln!(
                        anstream::stderr().lock(),
                        "{WARN}lost{WARN:#} {kernel} in the kernel, {reader} on the way here"
                    )?;
                }
            }
        }
        Ok(())
    })
}

fn print(out: &mut impl Write, event: &PacketEvent) -> io::Result<()> {
    let (style, what) = if event.dropped { (BAD, "drop") } else { (GOOD, "pass") };
    let end = |ip: Option<IpAddr>, port: Option<u16>| match (ip, port) {
        (Some(ip), Some(port)) => SocketAddr::new(ip, port).to_string(),
        (Some(ip), None) => ip.to_string(),
        (None, _) => "?".to_owned(),
    };
    write!(
        out,
        "{} {style}{what}{style:#} {:<8} {} -> {} {} {} bytes on {}",
        event.time,
        event.reason,
        end(event.source, event.source_port),
        end(event.destination, event.destination_port),
        event.protocol.as_deref().unwrap_or("-"),
        event.length,
        event.interface,
    )?;
    if let Some(rule) = &event.rule {
        write!(out, ", rule {rule}")?;
    }
    if let Some(service) = &event.service {
        write!(out, ", for {service}")?;
    }
    if event.sample > 1 {
        write!(out, ", one of {}", event.sample)?;
    }
    if let Some(packet) = &event.packet {
        write!(out, "\n  {packet}")?;
    }
    writeln!(out)
}
