//! `tidegate policy diff`: what differs between files and what is loaded, or between two revisions.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use proxy_core::policy::{self, PolicySet};
use proxy_core::replay::{Replay, Verdict, replay};
use proxy_core::store::Texts;
use proxy_core::store::diff::{Change, ListDiff, PolicyDiff, RuleDiff, SetDiff, diff};
use proxy_user::control::wire::RevisionTexts;
use proxy_user::daemon::load;
use proxy_user::daemon::policies::Sources;
use serde_json::Value;

use super::{counted, read};
use crate::cli::output::{self, BAD, GOOD, HEADING, WARN};
use crate::cli::remote::{Ask, Socket};
use crate::cli::{DEFAULT_CONFIG, check};

/// Most characters of a value that are shown.
const MAX_SHOWN: usize = 120;

/// Show what differs between policy files and what is loaded, or between two revisions
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate policy diff                      what is loaded against the files that the config names
  tidegate policy diff new/*.json           what is loaded against these
  tidegate policy diff --from 11 --to 12    two revisions
  tidegate policy diff --from 11 --json     a revision against the one in force
  tidegate policy diff new/*.json --traffic access.log    what would have become of these requests")]
pub(super) struct Args {
    /// The newer side: policy files; those of the config unless given
    #[arg(value_name = "FILE", conflicts_with = "to")]
    files: Vec<PathBuf>,
    /// The older side: a revision; the one in force unless given
    #[arg(long, value_name = "REV")]
    from: Option<u64>,
    /// The newer side: a revision; with --from alone the one in force
    #[arg(long, value_name = "REV")]
    to: Option<u64>,
    /// Config whose files are the newer side
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Let both sides judge recorded requests: the access log's lines, with `headers` beside them where they were recorded
    #[arg(long, value_name = "FILE")]
    traffic: Option<PathBuf>,
    #[command(flatten)]
    ask: Ask,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let old = revision(&args.ask.socket, args.from)?;
    let new = newer(args)?;
    if let Some(file) = &args.traffic {
        return traffic(args, file, old, new);
    }
    let found = diff(&old, &new);
    if args.ask.form.json {
        return output::json(&found);
    }
    Ok(print(&mut output::stdout(), &found)?)
}

/// The newer side.
fn newer(args: &Args) -> anyhow::Result<Texts> {
    if !args.files.is_empty() {
        return read(&args.files);
    }
    if args.from.is_some() || args.to.is_some() {
        return revision(&args.ask.socket, args.to);
    }
    load::read_policies(&args.config).map_err(|faults| anyhow!("{faults}"))
}

fn revision(socket: &Socket, number: Option<u64>) -> anyhow::Result<Texts> {
    let name = number.map_or_else(|| "current".to_owned(), |number| number.to_string());
    let found: RevisionTexts = socket.get(&format!("/v1/policies/revisions/{name}"))?;
    Ok(found.policies)
}

/// What becomes of recorded requests.
fn traffic(args: &Args, file: &Path, old: Texts, new: Texts) -> anyhow::Result<()> {
    let text = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let text = String::from_utf8_lossy(&text);
    let found = replay(text.lines(), &compiled(old, "the older side")?, &compiled(new, "the newer side")?);
    if args.ask.form.json {
        return output::json(&found);
    }
    let mut out = output::stdout();
    for shift in &found.shifts {
        let (from, to) = (judged(&shift.old), judged(&shift.new));
        writeln!(out, "{HEADING}{}{HEADING:#} {from} -> {to}", counted(shift.requests as usize, "request"))?;
        for sample in &shift.samples {
            writeln!(out, "    {sample}")?;
        }
    }
    let Replay { requests, same, others, without_headers, unread, .. } = found;
    writeln!(out, "{} read, {same} decided alike", counted(requests as usize, "request"))?;
    if others > 0 {
        writeln!(out, "{others} more changed in other ways")?;
    }
    if without_headers > 0 {
        writeln!(out, "{WARN}{without_headers} without recorded headers{WARN:#}: rules that look at headers saw none")?;
    }
    for fault in &found.faults {
        writeln!(out, "{}: {fault}", file.display())?;
    }
    if unread > 0 {
        writeln!(out, "{BAD}{} could not be read{BAD:#}", counted(unread as usize, "line"))?;
    }
    Ok(())
}

fn compiled(texts: Texts, side: &str) -> anyhow::Result<PolicySet> {
    let sources = Sources::unsigned(texts);
    let options = policy::Options { lists: sources.lists(), ..policy::Options::new(check::now()) };
    policy::compile(&sources.texts().files, &options).map_err(|faults| {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        anyhow!("{side} has faults:\n{}", lines.join("\n"))
    })
}

/// `block by edge/scan`, and what else matched.
fn judged(verdict: &Verdict) -> String {
    let rule = verdict.rule.as_ref().map(|rule| format!(" by {rule}")).unwrap_or_default();
    let matched = if verdict.matched.is_empty() { String::new() } else { format!(" ({})", verdict.matched.join(", ")) };
    format!("{}{rule}{matched}", verdict.action)
}

fn print(out: &mut impl Write, found: &SetDiff) -> io::Result<()> {
    if found.is_empty() {
        return writeln!(out, "nothing differs");
    }
    for policy in &found.policies {
        print_policy(out, policy)?;
    }
    if found.reordered {
        writeln!(out, "{WARN}~{WARN:#} policies are asked in another order")?;
    }
    for file in &found.unread {
        writeln!(out, "{WARN}~{WARN:#} {file}: no policy, cannot be compared")?;
    }
    Ok(())
}

fn print_policy(out: &mut impl Write, policy: &PolicyDiff) -> io::Result<()> {
    let (style, sign) = sign(policy.change);
    let rules = if policy.change == Change::Changed {
        String::new()
    } else {
        format!(" ({})", counted(policy.rules.len(), "rule"))
    };
    writeln!(out, "{style}{sign}{style:#} {HEADING}{}{HEADING:#}{rules}", policy.id)?;
    if policy.change == Change::Changed && !policy.keys.is_empty() {
        writeln!(out, "  {WARN}~{WARN:#} {}", policy.keys.join(", "))?;
    }
    for rule in &policy.rules {
        print_rule(out, rule, policy.change == Change::Changed)?;
    }
    if policy.reordered {
        writeln!(out, "  {WARN}~{WARN:#} rules are asked in another order")?;
    }
    for list in &policy.lists {
        print_list(out, list)?;
    }
    Ok(())
}

fn print_rule(out: &mut impl Write, rule: &RuleDiff, with_keys: bool) -> io::Result<()> {
    let (style, sign) = sign(rule.change);
    writeln!(out, "  {style}{sign}{style:#} rule {}", rule.id)?;
    for key in rule.keys.iter().filter(|_| with_keys && rule.change == Change::Changed) {
        if let Some(old) = &key.old {
            writeln!(out, "      {BAD}- {}{BAD:#}: {}", key.key, shown(old))?;
        }
        if let Some(new) = &key.new {
            writeln!(out, "      {GOOD}+ {}{GOOD:#}: {}", key.key, shown(new))?;
        }
    }
    Ok(())
}

fn print_list(out: &mut impl Write, list: &ListDiff) -> io::Result<()> {
    let (style, sign) = sign(list.change);
    let ListDiff { name, added, removed, .. } = list;
    writeln!(out, "  {style}{sign}{style:#} list {name}: {added} added, {removed} removed")?;
    for (style, sign, first, all) in
        [(GOOD, '+', &list.first_added, list.added), (BAD, '-', &list.first_removed, list.removed)]
    {
        for item in first {
            writeln!(out, "      {style}{sign}{style:#} {item}")?;
        }
        if all > first.len() {
            writeln!(out, "      {sign} and {} more", all - first.len())?;
        }
    }
    Ok(())
}

const fn sign(change: Change) -> (anstyle::Style, char) {
    match change {
        Change::Added => (GOOD, '+'),
        Change::Removed => (BAD, '-'),
        Change::Changed => (WARN, '~'),
    }
}

/// A value on one line, bounded.
fn shown(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut shown: String = text.chars().take(MAX_SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
