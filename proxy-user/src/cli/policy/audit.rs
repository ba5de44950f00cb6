//! `tidegate policy audit`: the audit log, as it is or checked. Reads the files; no daemon is needed.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use proxy_core::digest::Digest;
use proxy_core::store::audit::{check, holds};
use proxy_user::daemon::load;
use proxy_user::store::{self, AUDIT_FILE, HEAD_FILE};

use crate::cli::DEFAULT_CONFIG;
use crate::cli::output::{self, BAD, GOOD};
use crate::cli::remote::Form;

/// Show the audit log of policies, or check that it is whole
///
/// Each entry holds the hash of the one before, so that a changed, missing or added line shows; that the end was cut off shows
/// by the head that is kept beside it. Write the hash that --verify prints down elsewhere, and give it with --head later.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate policy audit | jq -c '[.time, .uid, .act, .revision]'
  tidegate policy audit --verify
  tidegate policy audit --verify --head 5f0c…")]
pub(super) struct Args {
    /// Check the chain; exit status 1 where it is broken
    #[arg(long)]
    verify: bool,
    /// Hash of an entry that the log must hold
    #[arg(long, value_name = "SHA256", requires = "verify")]
    head: Option<Digest>,
    /// Config that names the state directory
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// State directory, instead of the config's
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let state = if let Some(state) = &args.state {
        state.clone()
    } else {
        let (config, base) = load::read_config(&args.config).map_err(anyhow::Error::msg)?;
        base.join(config.state_dir)
    };
    let directory = store::directory(&state);
    let path = directory.join(AUDIT_FILE);
    // Before the log: a daemon may be writing both.
    let head = if args.verify { store::read_head(&directory.join(HEAD_FILE))? } else { None };
    let bytes =
        fs::read(&path).with_context(|| format!("reading {}; see `state_dir` in the config", path.display()))?;
    // What is no text is no entry either: it shows as a fault.
    let text = String::from_utf8_lossy(&bytes);
    if !args.verify {
        output::stdout().write_all(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut checked = check(text.lines(), head);
    if let Some(head) = args.head
        && !holds(text.lines(), head)
    {
        checked.faults.push(format!("no entry has the hash {head}: the log is another one, or was written anew"));
    }
    let code = if checked.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if args.form.json {
        output::json(&checked)?;
        return Ok(code);
    }
    if !checked.faults.is_empty() {
        let mut err = anstream::stderr().lock();
        for fault in &checked.faults {
            writeln!(err, "{}: {fault}", path.display())?;
        }
        writeln!(err, "{BAD}the audit log is broken{BAD:#}")?;
        return Ok(code);
    }
    let (first, last) = (checked.first, checked.head.seq);
    writeln!(output::stdout(), "{GOOD}whole{GOOD:#}: entries {first} to {last}, head {}", checked.head.hash)?;
    Ok(code)
}
