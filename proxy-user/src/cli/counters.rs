//! `tidegate counters`: what the gate did with packets, by reason and by rule.

use std::collections::BTreeMap;
use std::io::Write;

use proxy_user::control::wire::{Count, Counters};

use super::output;
use super::remote::Ask;

/// Show what the gate did with packets, by reason and by rule
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tidegate counters\n  tidegate counters --json | jq .reasons.verdict")]
pub(super) struct Args {
    #[command(flatten)]
    ask: Ask,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let counters: Counters = args.ask.socket.get("/v1/counters")?;
    if args.ask.form.json {
        return output::json(&counters);
    }
    let mut out = output::stdout();
    print(&mut out, "reason", &counters.reasons)?;
    // All checks stand here, most at zero: only what counts is shown.
    let checks: BTreeMap<_, _> = counters.checks.into_iter().filter(|(_, count)| count.packets > 0).collect();
    if !checks.is_empty() {
        writeln!(out)?;
        print(&mut out, "check, would drop", &checks)?;
    }
    if !counters.rules.is_empty() {
        writeln!(out)?;
        print(&mut out, "rule", &counters.rules)?;
    }
    if !counters.would.is_empty() {
        writeln!(out)?;
        print(&mut out, "would, in shadow mode", &counters.would)?;
    }
    Ok(())
}

fn print(out: &mut impl Write, heading: &str, counts: &BTreeMap<String, Count>) -> std::io::Result<()> {
    let row = |(name, count): (&String, &Count)| vec![name.clone(), count.packets.to_string(), count.bytes.to_string()];
    let rows = counts.iter().map(row).collect::<Vec<_>>();
    output::table(out, &[heading, "packets", "bytes"], 1, &rows)
}
