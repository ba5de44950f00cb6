//! Both halves of the decision on the same frame: the host's `decide()` over plain collections and the loaded program over
//! the same tables in maps. What the program answers and counts must be what the host says.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use proxy_common::abi::Reason;
use proxy_common::decide::{Decision, Tables, decide};
use proxy_common::parse::{LOOPBACK, parse};
use proxy_core::explain::{Explanation, Snapshot};

use crate::gate::Gate;
use crate::tables::World;
use crate::verdict_table::Row;

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// Packets and bytes by the name of what counts them.
pub type Counts = BTreeMap<String, (u64, u64)>;

/// What one frame comes to: reason, rule, shadow rule and counted checks.
pub type Outcome = (Reason, Option<u32>, Option<u32>, u64);

/// A loaded gate that holds the world.
pub struct Bench {
    /// The loaded program.
    pub gate: Gate,
    /// The same for the host.
    pub world: World,
}

impl Bench {
    /// A loaded gate that is filled with `world`.
    pub fn of(gate: Gate, world: World) -> Result<Self> {
        gate.fill(&world)?;
        Ok(Self { gate, world })
    }

    /// Runs one row through both halves.
    pub fn check(&self, row: &Row) -> Result<()> {
        self.expect(&row.frame.build(), (row.reason, row.rule, row.would, 0))
    }

    /// Runs a frame through both halves, which must say and count this.
    pub fn expect(&self, bytes: &[u8], wanted: Outcome) -> Result<()> {
        let host = self.host(bytes);
        let (reason, rule, would, counted) = wanted;
        ensure!(host.reason == reason, "the host says {:?}, the row {reason:?}", host.reason);
        ensure!(host.rule == rule, "the host counts rule {:?}, the row {rule:?}", host.rule);
        ensure!(host.would == would, "the host says that rule {:?} would, the row {would:?}", host.would);
        let (by_host, by_row) = (names(host.counted), names(counted));
        ensure!(by_host == by_row, "the host would drop by {by_host:?}, the row by {by_row:?}");
        self.program_counts(bytes, wanted)
    }

    /// What is told of a row's packet over the live maps must be what the row says.
    pub fn explains(&self, row: &Row) -> Result<()> {
        let told = self.explain(&row.frame.build())?;
        ensure!(told.reason == row.reason.name(), "{}: told {told:?}", row.name);
        ensure!(told.rule == row.rule.map(rule_name), "{}: told {told:?}", row.name);
        ensure!(told.action == if row.reason.drops() { "drop" } else { "pass" }, "{}: told {told:?}", row.name);
        Ok(())
    }

    /// What is told of a frame over the live maps.
    pub fn explain(&self, bytes: &[u8]) -> Result<Explanation> {
        self.gate.kernel.explain(&Snapshot { bytes, length: bytes.len(), interface: LOOPBACK })
    }

    /// The host's decision; it leaves its traces in the world.
    pub fn host(&self, bytes: &[u8]) -> Decision<<World as Tables>::Verdict> {
        decide(bytes, parse(bytes).as_ref(), &self.world)
    }

    /// Runs a frame, whatever it is, through both halves: they must agree.
    pub fn agree(&self, bytes: &[u8]) -> Result<()> {
        let host = self.host(bytes);
        self.program_counts(bytes, (host.reason, host.rule, host.would, host.counted))
    }

    /// Runs a frame through the program, which must answer and count what is wanted.
    fn program_counts(&self, bytes: &[u8], wanted: Outcome) -> Result<()> {
        let before = self.counts()?;
        let answered = self.program_answers(bytes, wanted.0);
        let mut expected = Counts::new();
        expect_counts(&mut expected, bytes.len() as u64, wanted);
        self.counted(&before, &expected)?;
        answered
    }

    /// Runs a frame through the program, which must answer as `reason` asks for.
    pub fn program_answers(&self, bytes: &[u8], reason: Reason) -> Result<()> {
        let (action, _) = self.gate.kernel.try_frame(bytes, 1)?;
        let wanted = if reason.drops() { XDP_DROP } else { XDP_PASS };
        ensure!(action == wanted, "the program answers {action}, wanted {wanted} for {reason:?}");
        Ok(())
    }

    /// Checks that since `before` the program counted just this.
    pub fn counted(&self, before: &Counts, expected: &Counts) -> Result<()> {
        let moved: Counts = self
            .counts()?
            .into_iter()
            .map(|(name, (packets, bytes))| {
                let old = before.get(&name).copied().unwrap_or_default();
                (name, (packets - old.0, bytes - old.1))
            })
            .filter(|(_, moved)| *moved != (0, 0))
            .collect();
        let differs = |name: &&String| moved.get(*name) != expected.get(*name);
        let names: Vec<&String> = moved.keys().chain(expected.keys()).filter(differs).collect();
        let only = |counts: &Counts| -> Counts {
            counts.iter().filter(|(name, _)| names.contains(name)).map(|(name, count)| (name.clone(), *count)).collect()
        };
        ensure!(names.is_empty(), "the program counted {:?}, wanted {:?}", only(&moved), only(expected));
        Ok(())
    }

    /// All counters that a decision moves.
    pub fn counts(&self) -> Result<Counts> {
        let kernel = &self.gate.kernel;
        let reasons = kernel.counters()?.into_iter().map(|(name, c)| (name.to_owned(), (c.packets, c.bytes)));
        let rules = kernel.rule_hits()?.into_iter().map(|(name, c)| (name, (c.packets, c.bytes)));
        let checks = kernel.would_counters()?.into_iter();
        let checks = checks.map(|(name, c)| (format!("check {name}"), (c.packets, c.bytes)));
        let would = kernel.shadow_hits()?.into_iter();
        let would = would.map(|(name, c)| (format!("would {name}"), (c.packets, c.bytes)));
        Ok(reasons.chain(rules).chain(would).chain(checks).collect())
    }
}

/// Adds to `expected` what a frame of `length` bytes is counted by.
pub fn expect_counts(expected: &mut Counts, length: u64, (reason, rule, would, counted): Outcome) {
    let rule = rule.map(rule_name);
    let would = would.map(|slot| format!("would {}", rule_name(slot)));
    let checks = names(counted).into_iter().map(|name| format!("check {name}"));
    for name in std::iter::once(reason.name().to_owned()).chain(rule).chain(would).chain(checks) {
        let sum = expected.entry(name).or_default();
        *sum = (sum.0 + 1, sum.1 + length);
    }
}

/// Name of a rule slot in a test gate.
pub fn rule_name(slot: u32) -> String {
    if slot == 0 { "operator".to_owned() } else { format!("test/r{slot}") }
}

/// Names of the reasons with these bits.
fn names(bits: u64) -> Vec<&'static str> {
    Reason::ALL.into_iter().filter(|reason| bits & reason.bit() != 0).map(Reason::name).collect()
}
