//! `tidegate policy import`: rules of other products as a policy file, with a report of each line.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use clap::ValueEnum;
use proxy_core::import::{Line, MAX_IMPORT_BYTES, Outcome, Product, import};

use crate::cli::output::{self, BAD, GOOD, WARN};
use crate::cli::remote::Form;

/// Turn rules of another product into a policy file; tell of each line what became of it
///
/// The policy goes to stdout, or to --out, and `policy check` accepts it; the report goes to stderr. Exit status 1 where nothing
/// could be taken.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate policy import --from cloudflare ruleset.json --out policies/cloudflare.json
  cscli decisions list -o json | tidegate policy import --from decisions - --id crowdsec > crowdsec.json
  fail2ban-client banned | tidegate policy import --from decisions - --id fail2ban > fail2ban.json
  tidegate policy import --from nginx access.conf --json | jq '.lines[] | select(.outcome != \"mapped\")'")]
pub(super) struct Args {
    /// The text; `-` reads stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What it is
    #[arg(long, value_enum)]
    from: From,
    /// Id of the policy; the product's name unless given
    #[arg(long, value_name = "NAME")]
    id: Option<String>,
    /// File for the policy
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    /// A ruleset or rules, in JSON, as Cloudflare's API gives them
    Cloudflare,
    /// Decisions of `CrowdSec` (JSON, raw), bans of fail2ban, or an address a line
    Decisions,
    /// `allow`, `deny` and `limit_req` of an nginx configuration
    Nginx,
}

impl From {
    const fn product(self) -> (Product, &'static str) {
        match self {
            Self::Cloudflare => (Product::Cloudflare, "cloudflare"),
            Self::Decisions => (Product::Decisions, "decisions"),
            Self::Nginx => (Product::Nginx, "nginx"),
        }
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let text = read(&args.file).with_context(|| format!("reading {}", args.file.display()))?;
    let (product, name) = args.from.product();
    let report = import(product, &text, args.id.as_deref().unwrap_or(name), jiff::Timestamp::now())
        .map_err(|error| anyhow!("{}: {error}", args.file.display()))?;
    let code = if report.policy.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if let (Some(path), Some(policy)) = (&args.out, &report.policy) {
        let text = serde_json::to_string_pretty(policy)? + "\n";
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    if args.form.json {
        output::json(&report)?;
        return Ok(code);
    }
    if report.lines.is_empty() {
        anyhow::bail!("{}: nothing in it could be imported; `--help` tells what is read", args.file.display());
    }
    let mut err = anstream::stderr().lock();
    for Line { number, text, outcome, into, note } in &report.lines {
        let (style, word) = match outcome {
            Outcome::Mapped => (GOOD, "mapped"),
            Outcome::Approximated => (WARN, "approximated"),
            Outcome::Refused => (BAD, "refused"),
        };
        let into = into.as_ref().map(|into| format!(" -> {into}")).unwrap_or_default();
        let note = note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
        writeln!(err, "{number}: {style}{word}{style:#} `{text}`{into}{note}")?;
    }
    let count = |outcome| report.count(outcome);
    let (mapped, nearly) = (count(Outcome::Mapped), count(Outcome::Approximated));
    writeln!(err, "{mapped} mapped, {nearly} approximated, {} refused", count(Outcome::Refused))?;
    if let (None, Some(policy)) = (&args.out, &report.policy) {
        output::json(policy)?;
    }
    Ok(code)
}

/// At most a byte more than is taken, so that a text that is too long is told from one that is not.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let most = MAX_IMPORT_BYTES as u64 + 1;
    if path == Path::new("-") {
        io::stdin().lock().take(most).read_to_string(&mut text)?;
    } else {
        fs::File::open(path)?.take(most).read_to_string(&mut text)?;
    }
    Ok(text)
}
