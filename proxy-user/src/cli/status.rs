//! `tidegate status`: what the running daemon does, at a glance.

use std::io::{self, Write};

use proxy_common::same_host::Way;
use proxy_user::control::wire::{GateState, SameHostState, Status};

use super::output::{self, GOOD, HEADING, WARN};
use super::remote::Ask;
use super::worker;

/// Show what the running daemon does
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tidegate status\n  tidegate status --json | jq .workers")]
pub(super) struct Args {
    #[command(flatten)]
    ask: Ask,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let status: Status = args.ask.socket.get("/v1/status")?;
    if args.ask.form.json {
        return output::json(&status);
    }
    Ok(print(&mut output::stdout(), &status)?)
}

fn print(out: &mut impl Write, status: &Status) -> io::Result<()> {
    let uptime = output::duration(status.uptime_seconds);
    writeln!(
        out,
        "{HEADING}tidegate {}{HEADING:#}  pid {}, up {uptime}, generation {}",
        status.version, status.pid, status.generation
    )?;
    match (&status.kernel, &status.kernel_missing) {
        (Some(gate), _) => print_gate(out, gate)?,
        (None, Some(why)) => writeln!(out, "gate       {WARN}not loaded{WARN:#}: {why}")?,
        (None, None) => writeln!(out, "gate       {WARN}not loaded{WARN:#}")?,
    }
    if let Some(verdicts) = status.verdicts {
        writeln!(out, "verdicts   {verdicts} standing")?;
    }
    let policies = if status.policies.is_empty() { "none".to_owned() } else { status.policies.join(", ") };
    writeln!(out, "policies   {policies}")?;
    if let Some(revision) = status.revision {
        let held = if status.held { ", held: the config's files are not looked at" } else { "" };
        writeln!(out, "revision   {revision}{held}")?;
    }
    for rule in &status.aborted {
        writeln!(out, "rule       {WARN}{rule} only counts{WARN:#}: it matched more than its abort_if lets it")?;
    }
    if let Some(why) = &status.not_kept {
        writeln!(out, "revision   {WARN}not kept{WARN:#}: {why}")?;
    }
    for listener in &status.listeners {
        let http3 = if listener.http3 { " + http3" } else { "" };
        writeln!(out, "listener   {} {} {}{http3}", listener.name, listener.address, listener.protocol)?;
    }
    for upstream in &status.upstreams {
        for server in &upstream.servers {
            let standing: Vec<_> =
                server.standing.iter().map(|(name, workers)| format!("{name} ({workers})")).collect();
            let good = server.standing.keys().all(|name| name == "well");
            let style = if good { GOOD } else { WARN };
            writeln!(
                out,
                "upstream   {} {} {style}{}{style:#}, {} requests, {} connections kept",
                upstream.name,
                server.server,
                standing.join(", "),
                server.requests,
                server.connections
            )?;
        }
        if upstream.waiting > 0 {
            writeln!(out, "upstream   {} {WARN}{} requests wait{WARN:#}", upstream.name, upstream.waiting)?;
        }
    }
    if let Some(host) = &status.same_host {
        print_same_host(out, host)?;
    }
    writeln!(out)?;
    worker::print(out, &status.workers)
}

fn print_same_host(out: &mut impl Write, host: &SameHostState) -> io::Result<()> {
    if let Some(why) = &host.missing {
        return writeln!(out, "same host  {WARN}through TCP{WARN:#}: {why}");
    }
    let sent = |way: Way| host.sent.get(way.name()).copied().unwrap_or_default();
    let (handed, tcp) = (sent(Way::Handed), sent(Way::Tcp));
    writeln!(
        out,
        "same host  {} connections, {} messages handed over, {} through TCP",
        host.connections, handed.messages, tcp.messages
    )
}

fn print_gate(out: &mut impl Write, gate: &GateState) -> io::Result<()> {
    let interfaces = gate.interfaces.iter().map(|i| format!("{} ({})", i.name, i.mode)).collect::<Vec<_>>();
    let on = if interfaces.is_empty() { "on no interface".to_owned() } else { format!("on {}", interfaces.join(", ")) };
    let steer = if gate.steer { "steering" } else { "not steering" };
    writeln!(out, "gate       {GOOD}loaded{GOOD:#} {on}, {steer}, policy revision {}", gate.revision)?;
    for rate in &gate.rates {
        writeln!(out, "rate       {rate}")?;
    }
    if let Some(seconds) = gate.open_after_seconds {
        writeln!(out, "gate       drops nothing once the daemon was away for {seconds} s (gate.fail is open)")?;
    }
    for address in &gate.syn_cookies {
        writeln!(out, "gate       {WARN}SYN cookies{WARN:#} at {address}")?;
    }
    Ok(())
}
