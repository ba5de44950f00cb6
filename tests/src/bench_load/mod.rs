//! `cargo xtask bench load`: how fast verdicts and lists of hosts are loaded, and what packets notice of it.
//!
//! ```text
//!   probe (sends a datagram each PERIOD) ──── veth ──── gate (front attached, receives)
//! ```
//!
//! A policy whose list stands in a file of a million hosts goes through the daemon's own steps: read, compile, write what
//! differs, flip. Meanwhile the probe's datagrams pass the gate. Two controls take turns with it: the same probe for as long
//! while nothing is done, and while the files are read and compiled but nothing is written; the second has all of the load's
//! work on the processors in it.

#![allow(clippy::cast_precision_loss, reason = "counts and times far below 2^53")]

mod probe;

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use proxy_common::abi::DEFAULT_MAX_VERDICTS;
use proxy_core::config::Mode;
use proxy_core::policy::{self, PolicySet};
use proxy_user::control::api::MAX_LOAD;
use proxy_user::daemon::policies::read_lists;
use proxy_user::kernel::Applied;
use serde::Serialize;
use serde_json::json;

use crate::bench_xdp::Filter;
use crate::gate::{Gate, all_checks};
use crate::netns::{End, Netns, wire};
use crate::packets::tcp;
use crate::scratch::Scratch;
use probe::{Probed, probed};

/// Hosts of a list.
const HOSTS: u32 = 1_000_000;
/// Verdicts of one load, and hosts that xdp-filter's map is given one by one.
const VERDICTS: u32 = 250_000;
/// Replacements, each with both controls before it.
const ROUNDS: usize = 4;
/// The target.
const VERDICTS_A_SECOND: f64 = 100_000.0;
/// Odd: numbers times this are all different, and spread over the addresses.
const SPREAD: u32 = 0x9e37_79b1;
const TTL: Duration = Duration::from_secs(3_600);
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// One load of a list.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Loaded {
    /// Reading and checking the files.
    pub read_ms: f64,
    /// Compiling the policy.
    pub compile_ms: f64,
    /// Writing what differs, and the flip.
    pub write_ms: f64,
    /// Hosts written and removed.
    pub changed: u32,
}

/// All that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Hosts of each list.
    pub hosts: u32,
    /// The first list, into an empty gate.
    pub first: Loaded,
    /// The same list again.
    pub again: Loaded,
    /// One host more.
    pub one_more: Loaded,
    /// Another list in its place, the slowest.
    pub replaced: Loaded,
    /// The probe while nothing was loaded, the worst of the rounds.
    pub control: Probed,
    /// The probe while the same files were read and compiled, and nothing was written.
    pub compiling: Probed,
    /// The probe while lists were replaced, the worst of the rounds.
    pub replacing: Probed,
    /// Verdicts loaded a second.
    pub verdicts_per_second: f64,
    /// Hosts a second that xdp-filter's map takes, one by one, as its loader writes them.
    pub filter_per_second: Option<f64>,
    /// Whether the targets held: no stall over 1 ms in the gate, nothing lost, the rate of verdicts.
    pub ok: bool,
}

/// Runs everything; `say` is told of progress.
pub fn run(mut say: impl FnMut(&str)) -> Result<Report> {
    let scratch = Scratch::new()?;
    let (edge, probe) = (Netns::create("gate")?, Netns::create("probe")?);
    wire(
        End { netns: &edge, name: "in0", addresses: &["10.82.0.1/24"] },
        End { netns: &probe, name: "out0", addresses: &["10.82.0.2/24"] },
    )?;
    let settings = json!({ "scope": "all", "checks": all_checks(Mode::Off), "interfaces": ["in0"], "max_verdicts": DEFAULT_MAX_VERDICTS });
    let gate = edge.enter(|| Gate::load_here("bench-load", settings))??;
    let lists = Lists { dir: scratch.path() };

    say(&format!("a list of {HOSTS} hosts"));
    lists.write(0, 0)?;
    let first = lists.load(&gate)?;
    for (n, action) in [(0, XDP_DROP), (HOSTS - 1, XDP_DROP), (HOSTS, XDP_PASS)] {
        let frame = tcp(&host(n).to_string(), "192.0.2.1", 443).build();
        let (answer, _) = gate.kernel.try_frame(&frame, 1)?;
        ensure!(answer == action, "host {n} is answered {answer}, not {action}");
    }
    let again = lists.load(&gate)?;
    ensure!(again.changed == 0, "the same list again: {again:?}");
    lists.write(0, 1)?;
    let one_more = lists.load(&gate)?;
    ensure!(one_more.changed == 1, "one host more: {one_more:?}");

    let (mut control, mut compiling, mut replacing) = (Probed::default(), Probed::default(), Probed::default());
    let mut replaced = Loaded::default();
    for round in 0..ROUNDS {
        say(&format!("replacing it, round {} of {ROUNDS}", round + 1));
        // Two lists without a common host take turns.
        lists.write(if round % 2 == 0 { HOSTS + 1 } else { 0 }, 0)?;
        let time = Duration::from_secs_f64((first.read_ms + first.compile_ms + first.write_ms) / 1e3);
        let (seen, ()) = probed(&edge, &probe, || {
            std::thread::sleep(time);
            Ok(())
        })?;
        control = control.worst(seen);
        let (seen, _) = probed(&edge, &probe, || lists.compile())?;
        compiling = compiling.worst(seen);
        let (seen, loaded) = probed(&edge, &probe, || lists.load(&gate))?;
        ensure!(loaded.changed >= 2 * HOSTS, "hardly anything was replaced: {loaded:?}");
        replacing = replacing.worst(seen);
        if loaded.total() > replaced.total() {
            replaced = loaded;
        }
    }

    say(&format!("{VERDICTS} verdicts"));
    let verdicts_per_second = verdicts(&gate)?;
    let filter_per_second = Filter::find().map(|object| filter(&object)).transpose()?;
    let ok = replacing.stalled == 0 && replacing.lost == 0 && verdicts_per_second >= VERDICTS_A_SECOND;
    Ok(Report {
        hosts: HOSTS,
        first,
        again,
        one_more,
        replaced,
        control,
        compiling,
        replacing,
        verdicts_per_second,
        filter_per_second,
        ok,
    })
}

/// The `n`th host: never the probe's, whose network no list names.
fn host(n: u32) -> Ipv4Addr {
    let bits = n.wrapping_mul(SPREAD);
    Ipv4Addr::from_bits(if bits >> 24 == 10 { bits ^ 0x1000_0000 } else { bits })
}

impl Loaded {
    fn total(&self) -> f64 {
        self.read_ms + self.compile_ms + self.write_ms
    }
}

/// The policy and its list file.
struct Lists<'a> {
    dir: &'a Path,
}

impl Lists<'_> {
    /// Writes the list of `HOSTS` hosts from number `from` on, and `more` after those of two lists.
    fn write(&self, from: u32, more: u32) -> Result<()> {
        let mut text = String::with_capacity(HOSTS as usize * 16);
        for n in (from..from + HOSTS).chain(3 * HOSTS..3 * HOSTS + more) {
            writeln!(text, "{}", host(n))?;
        }
        Ok(std::fs::write(self.dir.join("bad.txt"), text)?)
    }

    /// The daemon's steps up to what is to be written, and how long reading and compiling took.
    fn compile(&self) -> Result<(PolicySet, Duration, Duration)> {
        let policy = json!({
            "schema": "tidegate.policy/v1", "id": "bench", "revision": 1,
            "lists": { "bad": { "type": "cidr", "file": "bad.txt" } },
            "rules": [{ "id": "bad", "when": "ip.src in $bad", "action": { "type": "drop" } }],
        });
        let files = [(self.dir.join("bench.json").display().to_string(), policy.to_string())];
        let start = Instant::now();
        let lists = read_lists(&files).0;
        let read = start.elapsed();
        let options = policy::Options { lists: &lists, ..policy::Options::new("2026-11-22T00:00:00Z".parse()?) };
        let set = policy::compile(&files, &options)
            .map_err(|faults| anyhow::anyhow!("{}", faults.iter().map(ToString::to_string).collect::<String>()))?;
        Ok((set, read, start.elapsed().saturating_sub(read)))
    }

    /// All of the daemon's steps.
    fn load(&self, gate: &Gate) -> Result<Loaded> {
        let (set, read, compile) = self.compile()?;
        let start = Instant::now();
        let Applied { written, removed, .. } = gate.kernel.apply(set.kernel_image())?;
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let changed = written + removed;
        Ok(Loaded { read_ms: ms(read), compile_ms: ms(compile), write_ms: ms(start.elapsed()), changed })
    }
}

/// Verdicts a second as `tidegate verdict load` has them written: sources as text, checked, in portions.
fn verdicts(gate: &Gate) -> Result<f64> {
    let sources: Vec<String> = (0..VERDICTS).map(|n| host(4 * HOSTS + n).to_string()).collect();
    let start = Instant::now();
    for chunk in sources.chunks(MAX_LOAD) {
        let added = gate.kernel.add_verdicts(chunk, TTL)?;
        ensure!(added.written as usize == chunk.len(), "of {} sources: {added:?}", chunk.len());
    }
    Ok(f64::from(VERDICTS) / start.elapsed().as_secs_f64())
}

/// Hosts that xdp-filter's map takes a second.
fn filter(object: &Path) -> Result<f64> {
    let mut filter = Filter::load(object)?;
    let start = Instant::now();
    filter.fill(0x2000_0000, VERDICTS)?;
    Ok(f64::from(VERDICTS) / start.elapsed().as_secs_f64())
}

/// The report for people.
pub fn table(report: &Report) -> String {
    let mut text =
        format!("{:<30} {:>9} {:>11} {:>9} {:>10}\n", "list of hosts", "read ms", "compile ms", "write ms", "changed");
    let lines = [
        ("first", report.first),
        ("the same again", report.again),
        ("one host more", report.one_more),
        ("another in its place, slowest", report.replaced),
    ];
    // Writing to a string does not fail.
    for (name, Loaded { read_ms, compile_ms, write_ms, changed }) in lines {
        let _ = writeln!(text, "{name:<30} {read_ms:>9.0} {compile_ms:>11.0} {write_ms:>9.0} {changed:>10}");
    }
    let _ = writeln!(
        text,
        "\n{:<26} {:>7} {:>8} {:>6} {:>11} {:>9} {:>8} {:>5}",
        "probe", "sent", "gate us", "> 1ms", "process us", "p99.9 us", "gap us", "lost"
    );
    let lines = [
        ("nothing done (control)", report.control),
        ("read and compiled only", report.compiling),
        ("while lists are replaced", report.replacing),
    ];
    for (name, seen) in lines {
        let Probed { sent, lost, gate_us, stalled, longest_us, p999_us, longest_gap_us } = seen;
        let _ = writeln!(
            text,
            "{name:<26} {sent:>7} {gate_us:>8.0} {stalled:>6} {longest_us:>11.0} {p999_us:>9.0} {longest_gap_us:>8.0} {lost:>5}"
        );
    }
    let _ = writeln!(text, "\nverdicts loaded a second       {:>9.0}", report.verdicts_per_second);
    if let Some(rate) = report.filter_per_second {
        let _ = writeln!(text, "xdp-filter's map, one by one   {rate:>9.0}");
    }
    text
}
