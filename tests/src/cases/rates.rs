//! The rows of the rate limits as trials, a slice of the differential search under them, and limits on real traffic. The rows are in
//! [`crate::rate_rows`].

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::{Context as _, Result};
use libtest_mimic::{Failed, Trial};
use proxy_user::kernel::now_ns;
use serde_json::json;

use crate::differential;
use crate::gate::Gate;
use crate::halves::Bench;
use crate::rate_rows::{Row, Step, rows};
use crate::verdict_table::{Scope, world};
use crate::ward::{self, BPFFS, Item};

/// One trial a row, and mutated frames for each scope; ignored where the programs cannot be loaded.
pub fn trials(skip: bool, seed: u64) -> Vec<Trial> {
    let mut trials = Vec::new();
    let mut trial = |name: String, check: Box<dyn FnOnce() -> Result<()> + Send>| {
        let run = move || check().map_err(|error| Failed::from(format!("{error:#}")));
        trials.push(Trial::test(format!("rates::{name}"), run).with_ignored_flag(skip));
    };
    for row in rows() {
        trial(row.name.clone(), Box::new(move || follow(&row)));
    }
    for scope in [Scope::Own, Scope::All] {
        trial(format!("a slice of the search, scope {scope:?}"), Box::new(move || searched(scope, seed)));
    }
    trials
}

fn follow(row: &Row) -> Result<()> {
    let mut bench = bench(row.scope)?;
    set_rates(&mut bench, &row.rates)?;
    for (number, step) in row.steps.iter().enumerate() {
        match step {
            Step::Send(times, frame, reason, rule, counted) => {
                let bytes = frame.build();
                for time in 0..*times {
                    bench
                        .expect(&bytes, (*reason, *rule, None, *counted))
                        .with_context(|| format!("step {number}, packet {time}"))?;
                }
            }
            Step::Wait(ms) => {
                bench.world.now += ms * 1_000_000;
                bench.gate.hold_clock(bench.world.now)?;
            }
            Step::Known(source) => {
                let source = source.parse()?;
                bench.world.note_known(source);
                bench.gate.kernel.note_known_at(source, bench.world.now);
            }
        }
    }
    Ok(())
}

/// Frames under limits of every kind that they reach again and again.
fn searched(scope: Scope, seed: u64) -> Result<()> {
    let mut bench = bench(scope)?;
    let rates = json!([
        { "per": "source", "of": "packets", "limit": 300 },
        { "per": "source", "of": "udp_flows", "limit": 20 },
        { "per": "prefix", "of": "syns", "limit": 50, "mode": "count" },
        { "per": "prefix", "of": "bytes", "limit": 100_000, "listener": "web" },
        { "per": "service", "of": "quic_initials", "limit": 20 },
        { "per": "service", "of": "packets", "limit": 2_000, "mode": "count" },
        { "per": "total", "of": "bytes", "limit": 2_000_000 },
    ]);
    set_rates(&mut bench, &rates)?;
    differential::slice(&mut bench, seed)
}

fn set_rates(bench: &mut Bench, rates: &serde_json::Value) -> Result<()> {
    bench.gate.forget_rates(&bench.world)?;
    bench.world.rates = bench.gate.set_rates(rates)?;
    Ok(())
}

/// The programs with the verdict table's world in their maps, loaded once for each scope; the clock is held at now, and no limit
/// is in force.
fn bench(scope: Scope) -> Result<MutexGuard<'static, Bench>> {
    static LOADED: [OnceLock<Result<Mutex<Bench>, String>>; 2] = [const { OnceLock::new() }; 2];
    let loaded = LOADED[usize::from(scope == Scope::All)].get_or_init(|| {
        let name = if scope == Scope::Own { "rates-own" } else { "rates-all" };
        // The bench is never dropped: what it pins goes when the run ends.
        ward::guard(Item::Pins(PathBuf::from(BPFFS).join(format!("tidegate-{name}-{}", std::process::id()))));
        let thread = std::thread::spawn(move || load(name, scope).map(Mutex::new));
        let loaded = thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the loader panicked")));
        loaded.map_err(|error| format!("{error:#}"))
    });
    let bench = loaded.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut bench = bench.lock().unwrap_or_else(PoisonError::into_inner);
    set_rates(&mut bench, &json!([]))?;
    bench.world.now = now_ns();
    bench.gate.hold_clock(bench.world.now)?;
    Ok(bench)
}

fn load(name: &str, scope: Scope) -> Result<Bench> {
    Bench::of(Gate::load(name, if scope == Scope::Own { "own" } else { "all" }, 4_096)?, world(scope))
}
