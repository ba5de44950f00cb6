//! `tidegate policy rules`: what request rules did and would have done.

use std::io::Write as _;

use proxy_core::policy::RuleCount;
use proxy_user::control::wire::Rules;

use crate::cli::output;
use crate::cli::remote::Ask;

/// Show what request rules did, and would have done, that are in shadow mode, have a percentage or an `abort_if`
///
/// Counted since the daemon started, over reloads. `would` are requests that a rule matched and did not act on: in shadow mode,
/// from sources outside its `percent`, or since its `abort_if`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate policy rules
  tidegate policy rules --json | jq '.rules[] | select(.would > 0)'")]
pub(super) struct Args {
    #[command(flatten)]
    ask: Ask,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let found: Rules = args.ask.socket.get("/v1/rules")?;
    if args.ask.form.json {
        return output::json(&found);
    }
    let mut out = output::stdout();
    if found.rules.is_empty() {
        return Ok(writeln!(out, "no request rule is in shadow mode, has a percentage or an abort_if")?);
    }
    let rows: Vec<_> = found.rules.iter().map(row).collect();
    Ok(output::table(&mut out, &["rule", "action", "state", "acted", "would"], 3, &rows)?)
}

fn row(rule: &RuleCount) -> Vec<String> {
    let state = match (rule.shadow, rule.aborted, rule.percent) {
        (true, ..) => "shadow".to_owned(),
        (_, true, _) => "aborted".to_owned(),
        (.., Some(percent)) => format!("{percent} %"),
        _ => "enforce".to_owned(),
    };
    vec![rule.rule.clone(), rule.action.clone(), state, rule.enforced.to_string(), rule.would.to_string()]
}
