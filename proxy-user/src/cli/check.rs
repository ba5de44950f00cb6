//! `tidegate check`: reads config and policies as `run` would, and shows every fault, or what they amount to.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use proxy_core::config::{self, Config, Listener, Protocol, Rate, Route, ServerUrl, Upstream};
use proxy_core::policy::{self, ListInfo, PolicySet, RuleInfo};
use proxy_core::route::Router;
use proxy_user::daemon::{load, policies};
use serde::Serialize;

use super::output::{self, BAD, GOOD, WARN};
use super::remote::Form;
use super::{DEFAULT_CONFIG, faults};

/// Look for faults in config and policies; show what they amount to
///
/// Every fault is shown at once, each with its file, line and JSON pointer. Nothing is changed, no daemon is needed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate check
  tidegate check --config edge.json
  tidegate check --policy login-abuse.json --policy partners.json
  tidegate check --json | jq .rules")]
pub(super) struct Args {
    /// Config, with all that it names; /etc/tidegate/tidegate.json unless --policy is given
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Policy file to check by itself, as one set with the other --policy files
    #[arg(long = "policy", value_name = "FILE", num_args = 1..)]
    policies: Vec<PathBuf>,
    #[command(flatten)]
    form: Form,
}

/// What was found; with faults, the rest is what could be read in spite of them.
#[derive(Debug, Default, Serialize)]
struct Report {
    ok: bool,
    /// As they are printed, `file:line:column: /pointer: message`.
    faults: Vec<String>,
    /// Not wrong, but likely not meant; in the same form.
    warnings: Vec<String>,
    listeners: Vec<Listener>,
    routes: Vec<Route>,
    upstreams: Vec<UpstreamLine>,
    rates: Vec<Rate>,
    rules: Vec<RuleInfo>,
    /// Lists from files.
    lists: Vec<ListInfo>,
    gate: GateLine,
}

/// What the policies put into the kernel's tables.
#[derive(Debug, Default, Serialize)]
struct GateLine {
    /// Hosts, allowed and denied.
    hosts: usize,
    /// Allowed and denied prefixes, hosts among them.
    allowed: usize,
    denied: usize,
    /// Packet rules.
    rules: usize,
}

#[derive(Debug, Serialize)]
struct UpstreamLine {
    name: String,
    servers: Vec<ServerUrl>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut report = Report::default();
    if let Some(path) = config_path(args) {
        match load::load(path, &[]) {
            Ok(loaded) => {
                report.take_config(&loaded.config);
                report.warnings.extend(shadowed(path, &loaded.snapshot.router));
                report.take_policies(&loaded.policies);
            }
            Err(text) => report.faults.extend(faults::split(&text)),
        }
    }
    if !args.policies.is_empty() {
        match compile(&args.policies) {
            Ok(set) => report.take_policies(&set),
            Err(found) => report.faults.extend(found),
        }
    }
    report.ok = report.faults.is_empty();
    if args.form.json {
        output::json(&report)?;
    } else {
        print(&report)?;
    }
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The config to read, if one is to be read.
fn config_path(args: &Args) -> Option<&Path> {
    match &args.config {
        Some(path) => Some(path),
        None if args.policies.is_empty() => Some(Path::new(DEFAULT_CONFIG)),
        None => None,
    }
}

/// Now, by the wall clock.
pub(super) fn now() -> jiff::Timestamp {
    jiff::Timestamp::try_from(SystemTime::now()).unwrap_or(jiff::Timestamp::MIN)
}

/// Checks policy files by themselves, as `check --policy` does.
pub(super) fn files(paths: &[PathBuf], form: Form) -> anyhow::Result<ExitCode> {
    run(&Args { config: None, policies: paths.to_vec(), form })
}

/// Routes that no request reaches, in the form of faults.
fn shadowed(path: &Path, router: &Router) -> Vec<String> {
    let said =
        |(route, by)| (format!("/routes/{route}"), format!("no request gets here: /routes/{by} takes all of them"));
    let found = router.shadowed().into_iter().map(said).collect();
    // It was read a moment ago; without it the places in it stay unknown.
    let text = std::fs::read_to_string(path).unwrap_or_default();
    config::locate(&text, found).iter().map(|warning| format!("{}:{warning}", path.display())).collect()
}

/// Compiles policy files by themselves: without the names of listeners, which only a config has.
fn compile(paths: &[PathBuf]) -> Result<PolicySet, Vec<String>> {
    let (files, unread) = policies::read_files(paths);
    let (lists, _) = policies::read_lists(&files);
    match policy::compile(&files, &policy::Options { lists: &lists, ..policy::Options::new(now()) }) {
        Ok(set) if unread.is_empty() => Ok(set),
        Ok(_) => Err(unread),
        Err(found) => Err(unread.into_iter().chain(found.iter().map(ToString::to_string)).collect()),
    }
}

impl Report {
    fn take_config(&mut self, config: &Config) {
        self.listeners.clone_from(&config.listeners);
        self.routes.clone_from(&config.routes);
        self.rates.clone_from(&config.gate.rates);
        let line = |(name, upstream): (&String, &Upstream)| UpstreamLine {
            name: name.clone(),
            servers: upstream.servers.clone(),
        };
        self.upstreams = config.upstreams.iter().map(line).collect();
    }

    fn take_policies(&mut self, set: &PolicySet) {
        self.rules.extend_from_slice(set.rules());
        self.warnings.extend(set.warnings().iter().map(ToString::to_string));
        self.lists.extend_from_slice(set.lists());
        let image = set.kernel_image();
        self.gate.hosts += set.hosts();
        self.gate.allowed += image.allow.len();
        self.gate.denied += image.deny.len();
        self.gate.rules += image.rules.len();
    }
}

/// Faults and warnings go to stderr, what the files amount to goes to stdout.
fn print(report: &Report) -> io::Result<()> {
    let mut err = anstream::stderr().lock();
    for warning in &report.warnings {
        writeln!(err, "{WARN}warning{WARN:#}: {warning}")?;
    }
    for fault in &report.faults {
        writeln!(err, "{fault}")?;
    }
    if !report.ok {
        return writeln!(err, "{BAD}{}{BAD:#}", faults::count(report.faults.len()));
    }
    let mut out = output::stdout();
    writeln!(out, "{GOOD}ok{GOOD:#}")?;
    for listener in &report.listeners {
        let protocol = match listener.protocol {
            Protocol::Https if listener.http3 => "https + http3",
            protocol => protocol.name(),
        };
        writeln!(out, "listener  {} {} {protocol}", listener.name, listener.address)?;
    }
    for route in &report.routes {
        writeln!(out, "route     {} -> {}", route.is_for(), route.leads_to())?;
    }
    for upstream in &report.upstreams {
        let servers = upstream.servers.iter().map(ToString::to_string).collect::<Vec<_>>();
        writeln!(out, "upstream  {} {}", upstream.name, servers.join(", "))?;
    }
    for rate in &report.rates {
        writeln!(out, "rate      {rate}")?;
    }
    for ListInfo { name, file, items, .. } in &report.lists {
        writeln!(out, "list      {name} {file} {items} items")?;
    }
    let GateLine { hosts, allowed, denied, rules } = report.gate;
    if allowed + denied + rules > 0 {
        writeln!(out, "gate      {denied} denied and {allowed} allowed sources ({hosts} hosts), {rules} packet rules")?;
    }
    if report.rules.is_empty() {
        return writeln!(out, "rules     none");
    }
    writeln!(out)?;
    let rows = report.rules.iter().map(rule_row).collect::<Vec<_>>();
    output::table(&mut out, &["rule", "phase", "action", "mode", "expires", "file"], 6, &rows)
}

fn rule_row(rule: &RuleInfo) -> Vec<String> {
    vec![
        rule.name.clone(),
        rule.phase.name().to_owned(),
        rule.action.to_owned(),
        if rule.shadow { "shadow" } else { "enforce" }.to_owned(),
        rule.expires.clone().unwrap_or_else(|| "-".to_owned()),
        rule.file.clone(),
    ]
}
