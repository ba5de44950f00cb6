//! `tidegate verdict`: the sources that are dropped at the gate now; adding and lifting by hand.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::builder::NonEmptyStringValueParser;
use clap::builder::TypedValueParser as _;
use proxy_core::config::Span;
use proxy_user::control::api::{self, DEFAULT_LIST_LIMIT, LOAD_PATH, MAX_LIST_LIMIT, MAX_LOAD};
use proxy_user::control::wire::{BulkAdded, NewVerdict, NewVerdicts, Verdict, Verdicts};

use super::output;
use super::remote::Ask;

/// List, add and remove verdicts: sources that are dropped at the gate
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate verdict list
  tidegate verdict add 192.0.2.7 --ttl 10m
  tidegate verdict add 2001:db8:1:2::/64 --ttl 1h
  tidegate verdict load feed.txt --ttl 1d
  tidegate verdict remove 192.0.2.7

Verdicts outlive a restart of the daemon and end by themselves. A source that a policy allows never gets one.
A prefix must have `gate.ipv4_prefix` (24 unless set) or `gate.ipv6_prefix` bits (64 unless set), as rules push them; an
address is that host alone.")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show the standing verdicts
    List {
        /// Most verdicts to show
        #[arg(long, value_name = "N", default_value_t = DEFAULT_LIST_LIMIT as u64,
              value_parser = clap::value_parser!(u64).range(1..=MAX_LIST_LIMIT as u64))]
        limit: u64,
        #[command(flatten)]
        ask: Ask,
    },
    /// Drop a source at the gate for a while
    Add {
        /// IPv4 or IPv6 address, or a prefix of the configured length
        #[arg(value_parser = NonEmptyStringValueParser::new().try_map(|s| source(&s)))]
        source: String,
        /// How long: a whole number and ms, s, m, h or d
        #[arg(long, value_name = "TIME")]
        ttl: Span,
        #[command(flatten)]
        ask: Ask,
    },
    /// Drop many sources at the gate for a while: a file with one a line, `#` before what is for people
    Load {
        /// The file; `-` for stdin
        file: PathBuf,
        /// How long: a whole number and ms, s, m, h or d
        #[arg(long, value_name = "TIME")]
        ttl: Span,
        #[command(flatten)]
        ask: Ask,
    },
    /// Let a source in again
    Remove {
        /// Address or prefix, as `list` shows it
        #[arg(value_parser = NonEmptyStringValueParser::new().try_map(|s| source(&s)))]
        source: String,
        #[command(flatten)]
        ask: Ask,
    },
}

fn source(text: &str) -> Result<String, String> {
    api::source(text).map_err(|refusal| format!("{}; {}", refusal.error, refusal.hint))
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::List { limit, ask } => list(*limit, ask),
        Command::Add { source, ttl, ask } => {
            let body = NewVerdict { source: source.clone(), ttl: ttl.to_string() };
            ask.form.told(&ask.socket.post("/v1/verdicts", &body)?)
        }
        Command::Load { file, ttl, ask } => load(file, *ttl, ask),
        Command::Remove { source, ask } => {
            ask.form.told(&ask.socket.delete(&format!("/v1/verdicts/{}", api::encode_segment(source)))?)
        }
    }
}

/// Adds what a file lists; nothing is sent where a line is no source.
fn load(file: &Path, ttl: Span, ask: &Ask) -> anyhow::Result<()> {
    let text = if file == Path::new("-") { io::read_to_string(io::stdin()) } else { std::fs::read_to_string(file) };
    let text = text.with_context(|| format!("reading {}", file.display()))?;
    let mut sources = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let item = line.split(['#', ';']).next().unwrap_or_default().trim();
        if !item.is_empty() {
            sources.push(source(item).map_err(|error| anyhow!("{}:{number}: {error}", file.display()))?);
        }
    }
    let mut all = BulkAdded::default();
    for chunk in sources.chunks(MAX_LOAD) {
        let body = NewVerdicts { sources: chunk.to_vec(), ttl: ttl.to_string() };
        let added: BulkAdded = ask.socket.post(LOAD_PATH, &body)?;
        all = BulkAdded { written: all.written + added.written, allowed: all.allowed + added.allowed };
    }
    if ask.form.json {
        return output::json(&all);
    }
    let BulkAdded { written, allowed } = all;
    Ok(writeln!(output::stdout(), "{written} sources are dropped for {ttl}; {allowed} are allowed by a policy")?)
}

fn list(limit: u64, ask: &Ask) -> anyhow::Result<()> {
    let list: Verdicts = ask.socket.get(&format!("/v1/verdicts?limit={limit}"))?;
    if ask.form.json {
        return output::json(&list);
    }
    let mut out = output::stdout();
    if list.verdicts.is_empty() {
        return Ok(writeln!(out, "no verdicts stand")?);
    }
    let rows = list.verdicts.iter().map(row).collect::<Vec<_>>();
    let headings = ["source", "rule", "reach", "expires in", "age", "drops", "to first drop"];
    output::table(&mut out, &headings, 3, &rows)?;
    if list.truncated {
        writeln!(out, "{} of {} shown; --limit N shows more", list.verdicts.len(), list.total)?;
    }
    Ok(())
}

fn row(verdict: &Verdict) -> Vec<String> {
    vec![
        verdict.source.clone(),
        verdict.rule.clone(),
        if verdict.own_only { "listeners" } else { "gate" }.to_owned(),
        output::duration(verdict.expires_in),
        output::duration(verdict.age),
        verdict.drops.to_string(),
        verdict.first_drop_us.map_or_else(|| "-".to_owned(), |us| format!("{us}us")),
    ]
}
