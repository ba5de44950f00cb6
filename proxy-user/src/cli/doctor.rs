//! `tidegate doctor`: what on this host would hinder, and how to mend it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use proxy_core::config::{self, Gate};
use proxy_core::doctor::{self, Finding, Level};
use proxy_user::doctor as host;

use super::output::{self, BAD, GOOD, WARN};
use super::remote::Form;
use super::{DEFAULT_CONFIG, faults};

/// Look for what on this host would hinder the gate, and say how to mend it
///
/// Kernel, rights, limits and each interface of the config (or of the host, without one). Nothing is changed. The exit
/// status is 1 where something cannot work.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate doctor
  tidegate doctor --interface eth0
  tidegate doctor --json | jq '.findings[] | select(.level != \"ok\")'")]
pub(super) struct Args {
    /// Config that names interfaces and pins; /etc/tidegate/tidegate.json if it is there
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Interface to look at, instead of the config's
    #[arg(long, value_name = "NAME")]
    interface: Vec<String>,
    #[command(flatten)]
    form: Form,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let gate = gate(args.config.as_deref())?;
    let interfaces = match (&args.interface, &gate.interfaces) {
        (named, _) if !named.is_empty() => named.clone(),
        (_, configured) if !configured.is_empty() => configured.clone(),
        _ => host::all_interfaces(),
    };
    let findings = doctor::judge(&host::facts(&gate.pins, &interfaces));
    let fails = doctor::fails(&findings);
    if args.form.json {
        output::json(&serde_json::json!({ "ok": !fails, "findings": findings }))?;
    } else {
        print(&findings)?;
    }
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The gate's part of the config; of the usual one only if it is there.
fn gate(named: Option<&Path>) -> anyhow::Result<Gate> {
    let path = named.unwrap_or(Path::new(DEFAULT_CONFIG));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => return Ok(Gate::default()),
        Err(error) => return Err(error).with_context(|| format!("cannot read the config {}", path.display())),
    };
    let config = config::parse(&text).map_err(|found| {
        let lines = found.iter().map(|fault| format!("{}:{fault}", path.display())).collect::<Vec<_>>();
        anyhow!("{}\n{}", faults::count(lines.len()), lines.join("\n"))
    })?;
    Ok(config.gate)
}

fn print(findings: &[Finding]) -> std::io::Result<()> {
    let mut out = output::stdout();
    let width = findings.iter().map(|finding| finding.check.chars().count()).max().unwrap_or(0);
    for finding in findings {
        let (style, level) = match finding.level {
            Level::Ok => (GOOD, "ok  "),
            Level::Warn => (WARN, "warn"),
            Level::Fail => (BAD, "fail"),
        };
        writeln!(out, "{style}{level}{style:#}  {:<width$}  {}", finding.check, finding.found)?;
        if let Some(mend) = &finding.mend {
            writeln!(out, "      {:<width$}  -> {mend}", "")?;
        }
    }
    Ok(())
}
