//! `cargo xtask bench rules`: nanoseconds a packet through `front` with 10, 1,000 and 4,096 packet rules: packets that meet
//! none of them, packets that meet one, that meet one by their payload or as a SYN by its fingerprint, and random packets. One
//! rule in six asks for bytes of the payload, one in a hundred for a fingerprint. The whole packet counts, an empty program is quoted beside it.
//!
//! The sets of rules take turns within a round. Each round compares them, and the median of the rounds is printed: what
//! else runs on the machine changes from round to round more than within one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use proxy_common::abi::{proto, rule_action};
use proxy_common::classify::{Base, Bits, Probe, Question};
use proxy_common::fingerprint::{SynPattern, Window};
use proxy_core::policy::{Cube, PacketRule, RuleTables, compile_rules};
use proxy_core::ranges::{RangeSet, network_ranges};
use serde::Serialize;

use crate::gate::Gate;
use crate::packets::{Frame, LINUX_OPTIONS, SYN, syn_with, tcp, udp};
use crate::tables::World;

/// Sizes of the sets.
const SIZES: [u32; 3] = [10, 1_000, 4_096];
/// Runs of one measurement of one frame.
const REPEAT: u32 = 100_000;
/// Frames of the random case.
const RANDOM_FRAMES: u32 = 128;
/// Runs of each random frame.
const RANDOM_REPEAT: u32 = 1_000;
/// Rounds; the median is taken.
const ROUNDS: usize = 25;
/// What 1,000 rules may cost at most, beside 10.
const TARGET: f64 = 1.3;

/// One line of the result.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Which packets.
    pub case: &'static str,
    /// Packet rules loaded.
    pub rules: u32,
    /// Median nanoseconds a packet through `front`, the harness included.
    pub ns: u64,
    /// Median over the rounds of the cost beside the smallest set's.
    pub ratio: f64,
}

/// What was measured, and whether the target is met.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// By case and set.
    pub lines: Vec<Line>,
    /// Bytes of the compiled tables, by set.
    pub table_bytes: Vec<(u32, usize)>,
    /// Whether 1,000 rules cost at most [`TARGET`] times 10, in every case.
    pub ok: bool,
}

/// A small generator, so that each run measures the same rules and frames.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        // xorshift64*, Vigna 2016.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % u64::from(bound)) as u32
    }
}

fn net(address: u32, length: u8) -> RangeSet {
    let net = ipnet::Ipv4Net::new_assert(Ipv4Addr::from(address), length).trunc();
    RangeSet::new(network_ranges(net.into()))
}

fn range(low: u32, more: u32) -> RangeSet {
    RangeSet::new(vec![(low.into(), (low + more).min(u16::MAX.into()).into())])
}

/// Rules as people write them: networks with ports, hosts with a service, ports with TTL or length, flag sets. Their sources
/// lie in 32.0.0.0/4, their destinations in 192.0.0.0/8; the first is met by [`hit`] in every set.
fn rules(count: u32) -> Vec<PacketRule> {
    const TCP: u8 = 1;
    const UDP: u8 = 2;
    let mut random = Random(0x7469_6465);
    (0..count)
        .map(|n| {
            let source = 0x2000_0000 + random.below(1 << 28);
            let destination = 0xc000_0000 + random.below(1 << 24);
            let port = random.below(60_000);
            let all = Cube::all();
            let cube = match n % 6 {
                _ if n == 1 || n % 100 == 50 => Cube {
                    src: if n == 1 { net(0x2003_0300, 24) } else { net(source, 20) },
                    protos: TCP,
                    tcp_mask: SYN,
                    tcp_flags: SYN,
                    probes: vec![Probe { negated: false, question: Question::Syn(linux()) }],
                    ..all
                },
                5 => Cube {
                    src: if n == 5 { net(0x2002_0200, 24) } else { net(source, 20) },
                    protos: UDP,
                    probes: vec![payload(n)],
                    ..all
                },
                0 => Cube { src: net(source, 24), dport: range(port, 0), protos: TCP, ..all },
                1 => Cube { src: net(source, 16), dst: net(destination, 24), protos: UDP, ..all },
                2 => Cube { dst: net(destination, 32), dport: range(port, random.below(100)), protos: TCP, ..all },
                3 => Cube {
                    src: net(source, 20),
                    len: range(random.below(1_000), 200),
                    ttl: range(0, 10 + n % 50),
                    ..all
                },
                _ => Cube { sport: range(port, 10), dport: range(random.below(60_000), 10), protos: UDP, ..all },
            };
            let cube = if n == 0 { Cube { src: net(0x2001_0200, 24), dport: range(443, 0), ..cube } } else { cube };
            PacketRule { cube, action: rule_action::DROP, slot: n % 4_095 + 1, shadow: false }
        })
        .collect()
}

/// Four bytes of payload under a mask: those of [`udp`] for the first such rule, others for the rest.
fn payload(n: u32) -> Probe {
    let value = if n == 5 { 0x0100_0304 } else { u64::from(n) << 8 };
    let (proto, base) = (proto::UDP, Base::Payload);
    let bits = Bits { proto, base, offset: 0, length: 4, mask: 0xff00_ffff, low: value, high: value };
    Probe { negated: false, question: Question::Bits(bits) }
}

/// `*:64:*:*:mss*44,7:mss,sok,ts,nop,ws`
fn linux() -> SynPattern {
    let layout = Some((5, [0, 0x02_0408_0103], 0));
    SynPattern { ttl: [29, 64], window: Window::Mss(44), scale: Some(7), layout, ..SynPattern::ANY }
}

fn miss() -> Frame {
    tcp("198.18.0.9", "192.0.2.1", 443)
}

fn hit() -> Frame {
    tcp("32.1.2.3", "192.0.2.1", 443)
}

/// Frames whose addresses and ports are anywhere that rules look.
fn random_frames() -> Vec<Vec<u8>> {
    let mut random = Random(0x6761_7465);
    (0..RANDOM_FRAMES)
        .map(|n| {
            let source = Ipv4Addr::from(0x2000_0000 + random.below(1 << 28)).to_string();
            let destination = Ipv4Addr::from(0xc000_0000 + random.below(1 << 24)).to_string();
            let port = random.below(60_000) as u16;
            let frame = if n % 2 == 0 { tcp(&source, &destination, port) } else { udp(&source, &destination, port) };
            frame.payload(random.below(1_000) as usize).build()
        })
        .collect()
}

/// Measures; `say` is told of progress.
pub fn run(mut say: impl FnMut(&str)) -> Result<Report> {
    let mut gates = Vec::new();
    let mut table_bytes = Vec::new();
    for size in SIZES {
        let rules = rules(size);
        table_bytes.push((size, compile_rules(&rules).map(|tables: RuleTables| tables.bytes()).unwrap_or_default()));
        let gate = Gate::load(&format!("rules-{size}"), "all", 4_096)?;
        gate.fill(&World { rules, ..World::default() })?;
        gates.push((size, gate));
    }
    let (miss, hit, random) = (miss().build(), hit().build(), random_frames());
    let by_payload = udp("32.2.2.3", "192.0.2.1", 443).build();
    let by_fingerprint = syn_with("32.3.3.3", "192.0.2.1", 443, &LINUX_OPTIONS).build();
    let mut times: BTreeMap<(&'static str, u32), Vec<u64>> = BTreeMap::new();
    for round in 1..=ROUNDS {
        say(&format!("round {round} of {ROUNDS}"));
        for (size, gate) in &gates {
            for (case, frame, action) in [
                ("miss", &miss, XDP_PASS),
                ("hit", &hit, XDP_DROP),
                ("payload", &by_payload, XDP_DROP),
                ("fingerprint", &by_fingerprint, XDP_DROP),
            ] {
                let (found, ns) = gate.kernel.try_frame(frame, REPEAT)?;
                ensure!(found == action, "`front` answers {found} to a {case}, not {action}");
                times.entry((case, *size)).or_default().push(ns);
            }
            let mut sum = 0;
            for frame in &random {
                sum += gate.kernel.try_frame(frame, RANDOM_REPEAT)?.1;
            }
            times.entry(("random", *size)).or_default().push(sum / u64::from(RANDOM_FRAMES));
        }
    }
    let of = |case, size| times.get(&(case, size)).cloned().unwrap_or_default();
    let mut lines = Vec::new();
    for case in ["miss", "hit", "payload", "fingerprint", "random"] {
        let least = of(case, SIZES[0]);
        for rules in SIZES {
            let here = of(case, rules);
            let ratios = here.iter().zip(&least).map(|(ns, least)| as_f64(*ns) / as_f64(*least).max(1.0)).collect();
            lines.push(Line { case, rules, ns: median(here), ratio: median(ratios) });
        }
    }
    let ok = lines.iter().filter(|line| line.rules == SIZES[1]).all(|line| line.ratio <= TARGET);
    Ok(Report { lines, table_bytes, ok })
}

/// Nanoseconds of a packet are far below the bound of exactness.
fn as_f64(ns: u64) -> f64 {
    u32::try_from(ns).map_or(f64::INFINITY, f64::from)
}

fn median<T: PartialOrd + Copy + Default>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values.get(values.len() / 2).copied().unwrap_or_default()
}

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// The report for people.
pub fn table(report: &Report) -> String {
    let mut text = String::from("packets        rules   ns/packet   beside 10 rules\n");
    for Line { case, rules, ns, ratio } in &report.lines {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{case:<12} {rules:>7} {ns:>11} {ratio:>17.2}");
    }
    for (rules, bytes) in &report.table_bytes {
        let _ = writeln!(text, "tables of {rules} rules: {} KiB", bytes / 1_024);
    }
    text
}
