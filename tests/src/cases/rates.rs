//! The rows of the rate limits as trials, a slice of the differential search under them, and limits on real traffic. The rows are in
//! [`crate::rate_rows`].

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::{Failed, Trial};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use proxy_common::abi::Reason;
use proxy_core::explain::to_hex;
use proxy_user::kernel::{frags_supported, now_ns};
use serde_json::json;

use super::Case;
use crate::bench_xdp::Range;
use crate::clients::Version;
use crate::differential;
use crate::edge::Edge;
use crate::gate::Gate;
use crate::halves::{Bench, Counts};
use crate::packets::tcp;
use crate::process::Daemon;
use crate::rate_rows::{Row, Step, rows};
use crate::street::{EDGE_V4, EDGE_V6, GOOD_V4, GOOD_V6, SCANNER_V4};
use crate::tools;
use crate::verdict_table::{EDGE, Scope, world};
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
    trial("a million random sources".to_owned(), Box::new(a_million_sources));
    trial("every CPU at one bucket".to_owned(), Box::new(every_cpu_at_once));
    trials
}

/// All CPUs take from one bucket at the same moment, under a clock that stands: together they get what one alone would, to the
/// packet. A limit per source has two words a bucket, one in all a single one, half of it for sources that are known.
fn every_cpu_at_once() -> Result<()> {
    const BURST: u32 = 200_000;
    const RUNS: u32 = 40;
    let mut bench = bench(Scope::Own)?;
    let frame = tcp("9.9.9.9", EDGE, 443).build();
    for (per, wanted) in [("source", BURST), ("total", BURST / 2)] {
        set_rates(&mut bench, &json!([]))?;
        set_rates(&mut bench, &json!([{ "per": per, "of": "packets", "limit": BURST }]))?;
        let before = bench.counts()?;
        let kernel = &bench.gate.kernel;
        // Each of them asks for all there is, and in parts: so they meet however late one of them begins.
        on_every_cpu(|| (0..RUNS).try_for_each(|_| kernel.try_frame(&frame, BURST / RUNS).map(|_| ())))?;
        let after = bench.counts()?;
        let packets = |counts: &Counts| counts.get(Reason::Pass.name()).map_or(0, |count| count.0);
        let passed = packets(&after) - packets(&before);
        ensure!(passed.abs_diff(u64::from(wanted)) <= 1, "{passed} packets passed a limit per {per} of {wanted}");
    }
    Ok(())
}

/// Runs `work` on all CPUs that this process may have, each in a thread that stays there; at least twice.
fn on_every_cpu(work: impl Fn() -> Result<()> + Sync) -> Result<()> {
    let this_thread = Pid::from_raw(0);
    let allowed = sched_getaffinity(this_thread)?;
    let cpus: Vec<usize> = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect();
    let stay = |cpu: usize| -> Result<()> {
        let mut one = CpuSet::new();
        one.set(cpu)?;
        sched_setaffinity(this_thread, &one)?;
        work()
    };
    std::thread::scope(|scope| {
        let cpus = cpus.iter().cycle().take(cpus.len().max(2));
        let threads: Vec<_> = cpus.map(|cpu| scope.spawn(|| stay(*cpu))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked"))))
    })
}

/// A million packets of random sources at one moment: the maps take as much memory as before, and a good source has nearly all
/// of its burst, although nothing came in meanwhile.
fn a_million_sources() -> Result<()> {
    const BURST: u32 = 100;
    let mut bench = bench(Scope::Own)?;
    set_rates(&mut bench, &json!([{ "per": "source", "of": "packets", "limit": BURST }]))?;
    let memory = || ["RATE_BUCKETS", "KNOWN", "FLOWS"].map(|name| bench.gate.memory(name));
    let before = memory();
    let mut range = Range::load(&tools::object()?, frags_supported())?;
    range.run(&bench.gate.kernel.front()?.fd()?.try_clone()?, 1_000_000, XDP_PASS)?;
    for (before, after) in before.into_iter().zip(memory()) {
        let (before, after) = (before?, after?);
        ensure!(before == after, "a map took {before} before, {after} after");
    }
    // Random sources share the words with it: with four packets a word, far less than a tenth of the burst.
    let good = tcp("9.9.9.9", EDGE, 443).build();
    for number in 0..BURST * 9 / 10 {
        let (action, _) = bench.gate.kernel.try_frame(&good, 1)?;
        ensure!(action == XDP_PASS, "packet {number} of a good source was dropped");
    }
    Ok(())
}

const XDP_PASS: u32 = 2;

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

/// Limits on real traffic.
pub const CASES: &[Case] = &[
    Case { name: "a_source_at_its_limit_harms_nobody_else", run: a_source_at_its_limit },
    Case { name: "a_total_limit_spares_known_sources", run: a_total_spares_the_known },
];

/// How long a counter may take to show.
const SHOWS_WITHIN: Duration = Duration::from_secs(60);
/// Some source that nobody has seen.
const STRANGER: &str = "203.0.113.77";

/// hping3 in the scanner's namespace against the edge's HTTPS port; it ends by itself after `count` packets.
fn flood(edge: &Edge, flags: &[&str], count: u64) -> Result<Daemon> {
    let mut hping = edge.street.scanner.command(tools::find("hping3")?)?;
    hping.args(["-q", "-n", "-S", "-p", "443", "-c", &count.to_string(), "-i", "u1000"]).args(flags).arg(EDGE_V4);
    Daemon::spawn(hping, &edge.dir().join("hping3.log"))
}

/// What the gate would do with a SYN now: the reason, and whether a rate limit was asked.
fn told(edge: &Edge, source: &str, target: &str) -> Result<(String, bool)> {
    let hex = to_hex(&tcp(source, target, 443).build());
    let told = edge.ctl(&["explain", "--packet", &hex, "--json"])?;
    let reason = told[0]["reason"].as_str().with_context(|| format!("no reason in {told}"))?;
    Ok((reason.to_owned(), told.to_string().contains("RATE_LIMITS")))
}

fn a_source_at_its_limit() -> Result<()> {
    let edge = Edge::start_with(|config| {
        config["gate"]["rates"] = json!([{ "per": "source", "of": "syns", "limit": 20 }]);
    })?;
    let status = edge.ctl(&["status", "--json"])?;
    ensure!(status["kernel"]["rates"][0] == "20 SYNs a second per source, 20 at once", "{status}");
    edge.good().expect_origin(Version::H2, "https://edge.test/")?;
    ensure!(edge.packets("rate_source")? == 0, "an honest client was held to a limit that it did not reach");
    let hping = flood(&edge, &[], 20_000)?;
    edge.until("drops by the limit", SHOWS_WITHIN, || Ok(edge.packets("rate_source")? >= 500))
        .with_context(|| hping.log_tail())?;
    for _ in 0..5 {
        edge.good().expect_origin(Version::H2, "https://edge.test/")?;
    }
    edge.until("what explain says of the flooder", SHOWS_WITHIN, || {
        Ok(told(&edge, SCANNER_V4, EDGE_V4)? == ("rate_source".to_owned(), true))
    })?;
    ensure!(told(&edge, GOOD_V4, EDGE_V4)? == ("pass".to_owned(), true), "explain says otherwise of the good client");
    drop(hping);
    // Its bucket fills again by itself.
    edge.until("the flooder's return", SHOWS_WITHIN, || Ok(told(&edge, SCANNER_V4, EDGE_V4)?.0 == "pass"))?;
    edge.scanner().expect_origin(Version::H1, "http://edge.test/")?;
    Ok(())
}

fn a_total_spares_the_known() -> Result<()> {
    let mut edge = Edge::start()?;
    // Known before there is a limit: by TCP here, by QUIC there.
    edge.good().expect_origin(Version::H2, "https://edge.test/")?;
    let answers = edge.good_v6().h3("https://edge.test/", &[])?;
    ensure!(answers.iter().all(|answer| answer.status == Some(200)), "{answers:?}");
    edge.config["gate"]["rates"] = json!([{ "per": "total", "of": "syns", "limit": 50, "burst": 100 }]);
    edge.reload()?;
    let hping = flood(&edge, &["--rand-source"], 60_000)?;
    edge.until("drops by the limit", SHOWS_WITHIN, || Ok(edge.packets("rate_total")? >= 500))
        .with_context(|| hping.log_tail())?;
    for _ in 0..5 {
        edge.good().expect_origin(Version::H2, "https://edge.test/")?;
    }
    edge.until("what explain says of a stranger", SHOWS_WITHIN, || {
        Ok(told(&edge, STRANGER, EDGE_V4)? == ("rate_total".to_owned(), true))
    })?;
    for (source, target) in [(GOOD_V4, EDGE_V4), (GOOD_V6, EDGE_V6)] {
        let (reason, asked) = told(&edge, source, target)?;
        ensure!(reason == "pass" && asked, "explain says {reason} of {source}, which is known");
    }
    // A reload takes the limit away.
    edge.config["gate"]["rates"] = json!([]);
    edge.reload()?;
    ensure!(!told(&edge, STRANGER, EDGE_V4)?.1, "the limit is still asked");
    Ok(())
}
