//! `tidegate list`: lists of the policies in force, edited while the daemon runs.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use proxy_core::config::Span;
use proxy_user::control::api::{MAX_LOAD, encode_segment};
use proxy_user::control::wire::{EditList, ListEdited, ListItem, ListState, Lists};

use super::output;
use super::remote::Ask;

/// Show and edit the policies' lists while the daemon runs
///
/// Edits lie over the lists of the policies: they survive reloads and restarts, until their time is over or they are edited again.
/// A list is named POLICY/LIST.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate list show
  tidegate list show edge/bad --json
  tidegate list add edge/bad 192.0.2.7 198.51.100.0/24 --ttl 2h
  tidegate list add edge/bad --file feed.txt
  tidegate list remove edge/bad 192.0.2.7")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show all lists, or one with what was edited in it
    #[command(after_help = "Examples:\n  tidegate list show\n  tidegate list show edge/bad")]
    Show {
        /// POLICY/LIST
        list: Option<String>,
        #[command(flatten)]
        ask: Ask,
    },
    /// Put items into a list
    #[command(
        after_help = "Examples:\n  tidegate list add edge/bad 192.0.2.7 --ttl 2h\n  tidegate list add edge/bad --file -"
    )]
    Add(Edited),
    /// Take items out of a list, those that its policy has too
    #[command(
        after_help = "Examples:\n  tidegate list remove edge/bad 192.0.2.7\n  tidegate list remove edge/bad 192.0.2.7 --ttl 10m"
    )]
    Remove(Edited),
}

#[derive(Debug, clap::Args)]
struct Edited {
    /// POLICY/LIST
    list: String,
    /// Addresses and networks, or strings, as the list's type is
    #[arg(required_unless_present = "file")]
    items: Vec<String>,
    /// File with more of them, one a line, `#` before what is for people; `-` reads stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How long it lasts, such as 90s, 2h or 7d; until it is edited again unless given
    #[arg(long, value_name = "TIME")]
    ttl: Option<Span>,
    #[command(flatten)]
    ask: Ask,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Show { list, ask } => show(list.as_deref(), ask),
        Command::Add(edited) => edit(edited, true),
        Command::Remove(edited) => edit(edited, false),
    }
}

fn edit(edited: &Edited, add: bool) -> anyhow::Result<()> {
    let mut items = edited.items.clone();
    if let Some(file) = &edited.file {
        items.extend(read(file).with_context(|| format!("reading {}", file.display()))?);
    }
    let path = path(&edited.list);
    let ttl = edited.ttl.map(|ttl| ttl.to_string());
    let mut done = None;
    for chunk in items.chunks(MAX_LOAD) {
        let (add, remove) = if add { (chunk.to_vec(), Vec::new()) } else { (Vec::new(), chunk.to_vec()) };
        let answer: ListEdited = edited.ask.socket.post(&path, &EditList { add, remove, ttl: ttl.clone() })?;
        done = Some(match done {
            None => answer,
            Some(before) => answer.after(&before),
        });
    }
    let Some(done) = done else { anyhow::bail!("there is no item to edit") };
    if edited.ask.form.json {
        return output::json(&done);
    }
    let mut out = output::stdout();
    let until = edited.ttl.map(|ttl| format!(" for {ttl}")).unwrap_or_default();
    let (added, removed) = (done.added, done.removed);
    writeln!(out, "{}: {added} added, {removed} removed{until}; generation {} serves", edited.list, done.generation)?;
    if let Some(why) = &done.not_kept {
        writeln!(out, "{}not kept{:#} over a restart: {why}", output::WARN, output::WARN)?;
    }
    Ok(())
}

fn read(file: &Path) -> io::Result<Vec<String>> {
    let text = if file == Path::new("-") { io::read_to_string(io::stdin()) } else { std::fs::read_to_string(file) }?;
    let item = |line: &str| line.split('#').next().unwrap_or_default().trim().to_owned();
    Ok(text.lines().map(item).filter(|item| !item.is_empty()).collect())
}

fn path(list: &str) -> String {
    format!("/v1/lists/{}", encode_segment(list))
}

fn show(list: Option<&str>, ask: &Ask) -> anyhow::Result<()> {
    let found: Lists = ask.socket.get(&list.map_or_else(|| "/v1/lists".to_owned(), path))?;
    if ask.form.json {
        return output::json(&found);
    }
    let mut out = output::stdout();
    if found.lists.is_empty() {
        return Ok(writeln!(out, "the policies in force have no lists")?);
    }
    let rows: Vec<_> = found.lists.iter().map(row).collect();
    output::table(&mut out, &["list", "type", "items", "added", "removed"], 2, &rows)?;
    for ListItem { item, added, until } in &found.edits {
        let sign = if *added { '+' } else { '-' };
        let until = until.map(|until| format!("  until {until:.0}")).unwrap_or_default();
        writeln!(out, "{sign} {item}{until}")?;
    }
    if found.truncated {
        writeln!(out, "and more, not listed")?;
    }
    Ok(())
}

fn row(list: &ListState) -> Vec<String> {
    let numbers = [list.items, list.added, list.removed].map(|number| number.to_string());
    [list.name.clone(), list.kind.name().to_owned()].into_iter().chain(numbers).collect()
}
