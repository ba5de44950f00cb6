//! The verdict table as trials, a row each, and a slice of the differential search. The rows and what they mean are in [`crate::verdict_table`].

use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, anyhow};
use libtest_mimic::{Failed, Trial};

use super::{checks, rates};
use crate::differential;
use crate::gate::Gate;
use crate::halves::Bench;
use crate::tables::World;
use crate::verdict_table::{Scope, rows, world};
use crate::ward::{self, BPFFS, Item};

/// One trial a row; ignored where the programs cannot be loaded.
pub fn trials(skip: bool) -> Vec<Trial> {
    rows()
        .into_iter()
        .map(|row| {
            let name = format!("verdicts::{}", row.name);
            let check = move || {
                let bench = bench(row.scope)?.lock().unwrap_or_else(PoisonError::into_inner);
                bench.check(&row).map_err(|error| Failed::from(format!("{error:#}")))
            };
            Trial::test(name, check).with_ignored_flag(skip)
        })
        .chain([Scope::Own, Scope::All].map(|scope| {
            let check = move || {
                let mut bench = bench(scope)?.lock().unwrap_or_else(PoisonError::into_inner);
                differential::slice(&mut bench, SEED).map_err(|error| Failed::from(format!("{error:#}")))
            };
            Trial::test(format!("verdicts::changed frames, scope {scope:?}"), check).with_ignored_flag(skip)
        }))
        .chain([Scope::Own, Scope::All].map(|scope| {
            let check = move || {
                let bench = bench(scope)?.lock().unwrap_or_else(PoisonError::into_inner);
                let mut rows = rows().into_iter().filter(|row| row.scope == scope);
                rows.try_for_each(|row| bench.explains(&row)).map_err(|error| Failed::from(format!("{error:#}")))
            };
            Trial::test(format!("verdicts::explain tells every row, scope {scope:?}"), check).with_ignored_flag(skip)
        }))
        .chain([Scope::Own, Scope::All].map(|scope| {
            let check = move || prompt(scope).map_err(|error| Failed::from(format!("{error:#}")));
            Trial::test(format!("verdicts::nothing spares them, scope {scope:?}"), check).with_ignored_flag(skip)
        }))
        .chain([{
            let check = || differential::made_up_slice(SEED).map_err(|error| Failed::from(format!("{error:#}")));
            Trial::test("verdicts::made-up worlds", check).with_ignored_flag(skip)
        }])
        .chain([super::filter::trial(skip), super::swap::trial(skip), super::syn_frames::trial(skip)])
        .chain(super::unattended::trials(skip))
        .chain(checks::trials(skip, SEED))
        .chain(rates::trials(skip, SEED))
        .collect()
}

/// Seed of the search: the same frames in every run, so that a failure is there to be looked at.
const SEED: u64 = 0x7469_6465_6761_7465;

/// The programs with the table's world in their maps, loaded once for each scope.
fn bench(scope: Scope) -> Result<&'static Mutex<Bench>, Failed> {
    static OWN: OnceLock<Result<Mutex<Bench>, String>> = OnceLock::new();
    static ALL: OnceLock<Result<Mutex<Bench>, String>> = OnceLock::new();
    let (once, name) = match scope {
        Scope::Own => (&OWN, "own"),
        Scope::All => (&ALL, "all"),
    };
    let loaded = once.get_or_init(|| {
        // The bench is never dropped: what it pins goes when the run ends.
        ward::guard(Item::Pins(PathBuf::from(BPFFS).join(format!("tidegate-{name}-{}", std::process::id()))));
        // Loading moves its thread into another network namespace: not this one.
        let loader = std::thread::spawn(move || load(scope).map(Mutex::new).map_err(|error| format!("{error:#}")));
        loader.join().unwrap_or_else(|_| Err("the loader panicked".to_owned()))
    });
    loaded.as_ref().map_err(|error| Failed::from(error.as_str()))
}

/// The table's frames, and changed ones, where neither allowed prefixes nor rules may spare a source that a verdict is on:
/// the program has a shorter way to that answer then.
fn prompt(scope: Scope) -> anyhow::Result<()> {
    // Loading moves its thread into another network namespace: not this one.
    std::thread::scope(|threads| {
        let checked = threads.spawn(|| {
            let name = if scope == Scope::Own { "own" } else { "all" };
            let gate = Gate::load(&format!("prompt-{name}"), name, 4_096)?;
            let world = World { allow: Vec::new(), rules: Vec::new(), ..world(scope) };
            let mut bench = Bench::of(gate, world.seal())?;
            for row in rows() {
                bench.agree(&row.frame.build()).with_context(|| row.name)?;
            }
            differential::slice(&mut bench, SEED)
        });
        checked.join().unwrap_or_else(|_| Err(anyhow!("the check panicked")))
    })
}

/// The programs with the table's world in their maps; all checks are off.
pub fn load(scope: Scope) -> anyhow::Result<Bench> {
    let name = if scope == Scope::Own { "own" } else { "all" };
    Bench::of(Gate::load(name, name, 4_096)?, world(scope))
}
