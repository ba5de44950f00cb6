//! A gate that is told to stand open while the daemon stays away: the verdict table with a heart that beats, and with one
//! that stopped long ago. What would be dropped passes as `unattended`; nothing else changes.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use libtest_mimic::{Failed, Trial};
use proxy_common::abi::{DaemonState, Reason};
use proxy_core::config::Mode;
use serde_json::json;

use crate::gate::{Gate, all_checks};
use crate::halves::Bench;
use crate::verdict_table::{Scope, rows, world};
use crate::ward::{self, BPFFS, Item};

const NAME: &str = "unattended";
/// `gate.fail_after` of the gate.
const FAIL_AFTER: Duration = Duration::from_secs(60);
/// How far the programs' clock is put forward: long after the last beat, whenever that is, and before any verdict of the
/// table expires.
const AWAY: Duration = Duration::from_secs(600);

/// One trial a scope.
pub fn trials(skip: bool) -> Vec<Trial> {
    [Scope::Own, Scope::All]
        .map(|scope| {
            let check = move || {
                ward::guard(Item::Pins(PathBuf::from(BPFFS).join(format!(
                    "tidegate-{}-{}",
                    name(scope),
                    std::process::id()
                ))));
                // Loading moves its thread into another network namespace: not this one.
                let ran = std::thread::spawn(move || table(scope).map_err(|error| format!("{error:#}"))).join();
                ran.unwrap_or_else(|_| Err("the trial panicked".to_owned())).map_err(Failed::from)
            };
            Trial::test(format!("verdicts::an unattended gate stands open, scope {scope:?}"), check)
                .with_ignored_flag(skip)
        })
        .into()
}

fn name(scope: Scope) -> String {
    format!("{NAME}-{}", scope_name(scope))
}

fn scope_name(scope: Scope) -> &'static str {
    if scope == Scope::Own { "own" } else { "all" }
}

fn table(scope: Scope) -> Result<()> {
    let gate = Gate::load_with(
        &name(scope),
        json!({
            "scope": scope_name(scope), "max_verdicts": 4_096, "checks": all_checks(Mode::Off),
            "fail": "open", "fail_after": format!("{}s", FAIL_AFTER.as_secs()),
        }),
    )?;
    let mut bench = Bench::of(gate, world(scope))?;
    bench.world.fail_open = true;
    let nanos = |time: Duration| u64::try_from(time.as_nanos());
    bench.world.daemon =
        DaemonState { beat_ns: bench.world.now, fail_after_ns: nanos(FAIL_AFTER)?, ..DaemonState::default() };
    for row in rows().iter().filter(|row| row.scope == scope) {
        bench.check(row).with_context(|| format!("attended: {}", row.name))?;
    }
    bench.world.now += nanos(AWAY)?;
    bench.gate.hold_clock(bench.world.now)?;
    for row in rows().iter().filter(|row| row.scope == scope) {
        let wanted =
            if row.reason.drops() { (Reason::Unattended, None, None, 0) } else { (row.reason, row.rule, row.would, 0) };
        bench.expect(&row.frame.build(), wanted).with_context(|| format!("unattended: {}", row.name))?;
    }
    Ok(())
}
