//! `cargo xtask bench xdp`: nanoseconds a packet through `front`, an empty program and xdp-filter, in one run, on the same
//! packets: TCP from random IPv4 sources, each run drawing a new one.
//!
//! Each program stands behind a randomiser that rewrites the source and tail-calls it; the empty program behind the same
//! randomiser is what the others are quoted net of. Programs take turns in rounds of some hundredths of a second, and the median
//! of the rounds is printed. Beside xdp-filter it is the median of the ratios, round by round, each less the empty program of
//! the same round, and the quartiles: whatever else the machine does is there for all three of a round, or for none.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, PerCpuHashMap, PerCpuValues, ProgramArray};
use aya::programs::{ProgramFd, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use ipnet::{IpNet, Ipv4Net};
use proxy_common::abi::{MAX_VERDICTS, VERDICT_OWN_ONLY, VerdictValue, proto};
use proxy_core::config::Mode;
use proxy_user::kernel::{frags_supported, now_ns, object_for};
use serde::Serialize;
use serde_json::{Value, json};

use crate::bench_cases;
use crate::packets::tcp;
use crate::tables::{World, addr};

/// Sources of each size of the bench.
const SIZES: [u32; 3] = [1_000, 100_000, 1_000_000];
/// Runs of one measurement; with a random source each, so that the larger tables are visited all over.
const REPEAT: u32 = 200_000;
/// Rounds; the median is taken.
const ROUNDS: usize = 25;
/// Rounds of the SYN cookies, whose runs are longer.
const SYN_ROUNDS: usize = 5;
/// Where the randomiser begins; each run goes on where the one before it ended.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
/// First source, as in the randomiser.
const FIRST_SOURCE: u32 = 0x2000_0000;
/// Denied prefixes are /24: this many sources share one.
const PER_PREFIX: u32 = 256;
/// xdp-filter's value: the source bit and both directions' protocols (`MAP_FLAG_SRC`, `MAP_FLAG_TCP`, `MAP_FLAG_UDP`).
const FILTER_SOURCE: u64 = 1;
/// Where packages put xdp-filter's programs.
const FILTER_DIRS: [&str; 2] = ["/usr/lib/x86_64-linux-gnu/bpf", "/usr/lib/bpf"];

/// What the others are quoted net of.
const BASELINE: &str = "empty program";
/// The case with checks, 1,000 packet rules, denied and allowed prefixes, of which none applies, and a rate limit that is not reached.
const EVERYTHING: &str = "front: pass, all on";
/// The case of a packet that nothing applies to.
const PASS: &str = "front: pass";
/// The case of a packet that a verdict drops.
const VERDICT_HIT: &str = "front: verdict hit";
/// Sources of the SYNs that are answered.
const SYN_SOURCES: u32 = 1 << 28;

/// One line of the result.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Program and path.
    pub case: &'static str,
    /// Sources.
    pub sources: u32,
    /// Median nanoseconds a packet, the randomiser included.
    pub ns: u64,
    /// The same less the empty program's.
    pub net_ns: i64,
    /// What it takes of what xdp-filter does, both less the empty program, in hundredths: lower quartile, median and upper
    /// quartile of the rounds.
    pub of_peer: Option<[i32; 3]>,
}

/// The randomiser with a program behind it.
pub(crate) struct Range {
    ebpf: Ebpf,
}

impl Range {
    /// `frags` as the programs have it that are to stand behind it.
    pub(crate) fn load(object: &Path, frags: bool) -> Result<Self> {
        let bytes = std::fs::read(object).with_context(|| object.display().to_string())?;
        let mut ebpf = EbpfLoader::new()
            .load(&object_for(&bytes, frags))
            .with_context(|| format!("{}: run `cargo xtask bench xdp`, which builds it", object.display()))?;
        for name in ["empty", "randomize"] {
            let program: &mut Xdp = ebpf.program_mut(name).context("a bench program is missing")?.try_into()?;
            program.load()?;
        }
        let mut state: Array<_, u64> = Array::try_from(ebpf.map_mut("STATE").context("`STATE` is missing")?)?;
        state.set(1, SEED, 0)?;
        Ok(Self { ebpf })
    }

    fn empty(&self) -> Result<ProgramFd> {
        let program: &Xdp = self.ebpf.program("empty").context("`empty` is missing")?.try_into()?;
        Ok(program.fd()?.try_clone()?)
    }

    /// Mean nanoseconds of a run of `program` over `sources` random sources; checks that it answers `action`.
    pub(crate) fn run(&mut self, program: &ProgramFd, sources: u32, action: u32) -> Result<u64> {
        let mut next = ProgramArray::try_from(self.ebpf.map_mut("NEXT").context("`NEXT` is missing")?)?;
        next.set(0, program, 0)?;
        let mut state: Array<_, u64> = Array::try_from(self.ebpf.map_mut("STATE").context("`STATE` is missing")?)?;
        state.set(0, u64::from(sources), 0)?;
        let frame = tcp("32.0.0.1", "192.0.2.1", 443).build();
        let randomize: &Xdp = self.ebpf.program("randomize").context("`randomize` is missing")?.try_into()?;
        let options = TestRunOptions { data_in: Some(&frame), repeat: REPEAT, ..TestRunOptions::default() };
        let result = randomize.test_run(options)?;
        ensure!(result.return_value == action, "a bench program answers {}, not {action}", result.return_value);
        Ok(result.duration.as_nanos() as u64)
    }
}

/// xdp-filter's program with all features and the policy "allow what does not match".
pub(crate) struct Filter {
    ebpf: Ebpf,
    pins: PathBuf,
}

impl Filter {
    pub(crate) fn find() -> Option<PathBuf> {
        let named = std::env::var_os("XDP_FILTER_OBJECT").map(PathBuf::from);
        let standard = FILTER_DIRS.iter().map(|dir| Path::new(dir).join("xdpfilt_alw_all.o"));
        named.into_iter().chain(standard).find(|path| path.exists())
    }

    pub(crate) fn load(object: &Path) -> Result<Self> {
        let pins = PathBuf::from(format!("/sys/fs/bpf/tidegate-bench-filter-{}", std::process::id()));
        std::fs::create_dir_all(&pins)?;
        let mut ebpf = EbpfLoader::new()
            .default_map_pin_directory(&pins)
            .map_max_entries("filter_ipv4", MAX_VERDICTS)
            .load_file(object)
            .context("loading xdp-filter's program")?;
        let program: &mut Xdp =
            ebpf.program_mut("xdpfilt_alw_all").context("xdp-filter's program has another name")?.try_into()?;
        program.load()?;
        Ok(Self { ebpf, pins })
    }

    fn fd(&self) -> Result<ProgramFd> {
        let program: &Xdp = self.ebpf.program("xdpfilt_alw_all").context("gone")?.try_into()?;
        Ok(program.fd()?.try_clone()?)
    }

    pub(crate) fn fill(&mut self, first: u32, count: u32) -> Result<()> {
        let cpus = aya::util::nr_cpus().map_err(|(path, error)| anyhow::anyhow!("{path}: {error}"))?;
        let mut map: PerCpuHashMap<_, u32, u64> =
            PerCpuHashMap::try_from(self.ebpf.map_mut("filter_ipv4").context("`filter_ipv4` is missing")?)?;
        for source in first..first + count {
            let values = PerCpuValues::try_from(vec![FILTER_SOURCE; cpus])?;
            map.insert(source.to_be(), values, 0)?;
        }
        Ok(())
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.pins) {
            eprintln!("removing {}: {error}", self.pins.display());
        }
    }
}

/// What `front` holds in a case.
fn world(hit: Option<&str>, sources: u32) -> World {
    let now = now_ns();
    let value = VerdictValue {
        expires_ns: now + 3_600_000_000_000,
        created_ns: now,
        flags: VERDICT_OWN_ONLY,
        ..VerdictValue::default()
    };
    // On a miss the tables are as full, with entries that no packet meets.
    let base = if hit == Some("verdict") { FIRST_SOURCE } else { 0x6000_0000 };
    let verdicts = (0..sources).map(|n| (addr(Ipv4Addr::from(base + n).into()).host_key(), value)).collect();
    let base = if hit == Some("lpm") { FIRST_SOURCE } else { 0x7000_0000 };
    let prefixes = (0..sources.div_ceil(PER_PREFIX)).map(|n| (Ipv4Addr::from(base + n * PER_PREFIX), 24));
    // Hosts that a list names: those that come, or others.
    let hosts = match hit {
        Some("host") => Some(FIRST_SOURCE),
        Some("other hosts") => Some(0x7000_0000),
        _ => None,
    };
    let hosts = hosts.into_iter().flat_map(|base| (0..sources).map(move |n| (Ipv4Addr::from(base + n), 32)));
    let listed = hosts.chain(prefixes.filter(|_| !matches!(hit, Some("host" | "other hosts"))));
    let deny = listed.map(|(first, length)| (IpNet::V4(Ipv4Net::new_assert(first, length)), 1)).collect();
    let any = addr(Ipv4Addr::UNSPECIFIED.into());
    World {
        own_only: true,
        verdicts,
        deny,
        bindings: [any.service_key(proto::TCP, 443)].into(),
        now,
        ..World::default()
    }
}

/// The rate limits of a case: one per source that no source reaches, or one in all that lets hardly a packet by.
fn rates(hit: Option<&str>) -> Value {
    match hit {
        Some("source rate") => json!([{ "per": "source", "of": "packets", "limit": 1_000_000 }]),
        Some("total rate") => json!([{ "per": "total", "of": "packets", "limit": 2 }]),
        _ => json!([]),
    }
}

/// What xdp-filter does of the same, where it is installed: the name of that case, its program, and what holds it.
fn peer(case: &str, sources: u32, object: Option<&Path>) -> Result<Option<(&'static str, ProgramFd, Filter)>> {
    let (name, first) = match case {
        PASS => ("xdp-filter: pass", 0x6000_0000),
        VERDICT_HIT => ("xdp-filter: host hit", FIRST_SOURCE),
        _ => return Ok(None),
    };
    let Some(object) = object else { return Ok(None) };
    let mut filter = Filter::load(object)?;
    filter.fill(first, sources)?;
    Ok(Some((name, filter.fd()?, filter)))
}

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// Measures and returns all lines; `say` is told of progress.
pub fn run(object: &Path, mut say: impl FnMut(&str)) -> Result<Vec<Line>> {
    let mut times: BTreeMap<(u32, &'static str), Vec<u64>> = BTreeMap::new();
    let mut ratios: BTreeMap<(u32, &'static str), Vec<i32>> = BTreeMap::new();
    let mut range = Range::load(object, frags_supported())?;
    let mut plain_range = Range::load(object, false)?;
    let empty = range.empty()?;
    let filter_object = Filter::find();
    if filter_object.is_none() {
        say("xdp-filter is not installed (Debian's xdp-tools): its lines are left out");
    }
    for sources in SIZES {
        say(&format!("{sources} sources"));
        let cases = [
            (PASS, None, XDP_PASS, Mode::Off),
            ("front: pass, all checks", None, XDP_PASS, Mode::Enforce),
            (EVERYTHING, Some("source rate"), XDP_PASS, Mode::Enforce),
            ("front: within a rate limit", Some("source rate"), XDP_PASS, Mode::Off),
            ("front: beyond a rate limit", Some("total rate"), XDP_DROP, Mode::Off),
            (VERDICT_HIT, Some("verdict"), XDP_DROP, Mode::Off),
            ("front: LPM hit", Some("lpm"), XDP_DROP, Mode::Off),
            ("front: listed host hit", Some("host"), XDP_DROP, Mode::Off),
            ("front: pass, hosts listed", Some("other hosts"), XDP_PASS, Mode::Off),
        ];
        for (case, hit, action, checks) in cases {
            let gate = bench_cases::gate(checks)?;
            let world = world(hit, sources);
            gate.fill(&if case == EVERYTHING { bench_cases::with_everything(world) } else { world })?;
            gate.set_rates(&rates(hit))?;
            let front = gate.kernel.front()?.fd()?.try_clone()?;
            // What is compared takes turns: this machine's neighbours are there for both, or for neither.
            let peer = peer(case, sources, filter_object.as_deref())?;
            for _ in 0..ROUNDS {
                let theirs = match &peer {
                    Some((name, program, _)) => Some((*name, plain_range.run(program, sources, action)?)),
                    None => None,
                };
                let nothing = range.run(&empty, sources, XDP_PASS)?;
                let ours = range.run(&front, sources, action)?;
                times.entry((sources, BASELINE)).or_default().push(nothing);
                times.entry((sources, case)).or_default().push(ours);
                if let Some((name, theirs)) = theirs {
                    times.entry((sources, name)).or_default().push(theirs);
                    let net = |ns: u64| ns.cast_signed() - nothing.cast_signed();
                    let ratio = i32::try_from(100 * net(ours) / net(theirs).max(1)).unwrap_or(i32::MAX);
                    ratios.entry((sources, case)).or_default().push(ratio);
                }
            }
        }
    }
    say("SYN cookies");
    let (without, with) = bench_cases::cookies(object, SYN_ROUNDS)?;
    times.insert((SYN_SOURCES, BASELINE), without);
    times.insert((SYN_SOURCES, "front_syn: cookie"), with);
    let median = |times: &[u64]| quarters(times)[1];
    let baseline: BTreeMap<u32, u64> = times
        .iter()
        .filter(|((_, case), _)| *case == BASELINE)
        .map(|((sources, _), times)| (*sources, median(times)))
        .collect();
    Ok(times
        .iter()
        .map(|((sources, case), times)| {
            let ns = median(times);
            let net_ns = ns.cast_signed() - baseline.get(sources).copied().unwrap_or_default().cast_signed();
            let of_peer = ratios.get(&(*sources, *case)).map(|ratios| quarters(ratios));
            Line { case, sources: *sources, ns, net_ns, of_peer }
        })
        .collect())
}

/// Lower quartile, median and upper quartile.
fn quarters<T: Copy + Ord + Default>(values: &[T]) -> [T; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    [1, 2, 3].map(|quarter| sorted.get(sorted.len() * quarter / 4).copied().unwrap_or_default())
}

/// The lines as a table for people.
pub fn table(lines: &[Line]) -> String {
    let mut text =
        String::from("case                        sources      ns/packet   net of empty   of xdp-filter (quartiles)\n");
    for line in lines {
        let Line { case, sources, ns, net_ns, of_peer } = line;
        let of_peer = of_peer.map_or_else(String::new, |[low, median, high]| {
            let [low, median, high] = [low, median, high].map(|hundredths| f64::from(hundredths) / 100.0);
            format!("   {median:.2} ({low:.2} to {high:.2})")
        });
        // Writing to a string does not fail.
        let _ = writeln!(text, "{case:<26} {sources:>9} {ns:>14} {net_ns:>14}{of_peer}");
    }
    text
}
