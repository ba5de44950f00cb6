//! The live maps as tables of a decision on this side: what `tidegate explain` asks. Reads only.
//!
//! A map that cannot be read answers as an empty one would; the error is kept, and the caller refuses to explain from it.

use std::cell::RefCell;
use std::io;

use anyhow::{Context, Result};
use proxy_common::abi::{
    CheckSettings, DaemonState, GateConfig, HINT_WORDS, HostKey, PrefixValue, RateLimit, RateSettings, ServiceKey,
    VerdictValue,
};
use proxy_common::addr::Addr;
use proxy_common::classify::{Found, find};
use proxy_common::decide::Tables;
use proxy_common::hosts::HostFound;
use proxy_common::parse::{Frame, Packet};
use proxy_core::explain::{Explanation, Snapshot, explain};

use super::hosts::Hosts;
use super::load::{Maps, TrieKey};
use super::syscall::Map;
use super::verdict_table::VerdictTable;
use super::{Kernel, now_ns};

/// Bits of a full address in the tries.
const FULL: u32 = 128;

struct Live<'a> {
    maps: &'a Maps,
    verdicts: &'a VerdictTable,
    hosts: &'a Hosts,
    failed: RefCell<Option<io::Error>>,
}

impl Live<'_> {
    fn read<T>(&self, outcome: io::Result<Option<T>>) -> Option<T> {
        outcome.unwrap_or_else(|error| {
            self.failed.borrow_mut().get_or_insert(error);
            None
        })
    }
}

impl Tables for Live<'_> {
    type Verdict = VerdictValue;

    fn config(&self) -> GateConfig {
        self.read(self.maps.gate.get(&0)).unwrap_or_default()
    }

    fn verdict_hint(&self, word: u32) -> u64 {
        self.read(self.maps.verdict_hint.get(&word)).unwrap_or(u64::MAX)
    }

    fn verdict(&self, key: &HostKey) -> Option<VerdictValue> {
        self.verdicts.get(key)
    }

    fn verdict_terms(&self, verdict: VerdictValue, _: Addr) -> (u64, u32, u32) {
        (verdict.expires_ns, verdict.rule, verdict.flags)
    }

    fn now_ns(&self) -> u64 {
        now_ns()
    }

    fn hint(&self, side: u32, word: u32) -> u64 {
        self.read(self.maps.deny_hint.get(&(side * 2 * HINT_WORDS + word))).unwrap_or(u64::MAX)
    }

    fn host_hint(&self, side: u32, word: u32) -> u64 {
        self.hosts.hint(side, word)
    }

    fn host(&self, side: u32, packet: &Packet) -> HostFound {
        self.hosts.find(side, packet.src)
    }

    fn denied(&self, side: u32, addr: Addr) -> Option<u32> {
        longest(self, self.maps.deny.get(side as usize)?, addr)
    }

    fn allowed(&self, side: u32, addr: Addr) -> Option<u32> {
        longest(self, self.maps.allow.get(side as usize)?, addr)
    }

    fn port_word(&self, word: u32) -> u64 {
        self.read(self.maps.ports.get(&word)).unwrap_or(0)
    }

    fn bound(&self, key: &ServiceKey) -> bool {
        self.read(self.maps.bindings.get(key)).is_some()
    }

    fn classify<F: Frame + ?Sized>(&self, frame: &F, packet: &Packet, side: u32) -> Found {
        let classes = self.read(self.maps.rule_classes.get_boxed(&side));
        let rows = self.read(self.maps.rule_rows.get_boxed(&side));
        match (classes, rows) {
            (Some(classes), Some(rows)) => find(frame, packet, &classes, &rows),
            _ => Found::default(),
        }
    }

    fn daemon(&self) -> DaemonState {
        self.read(self.maps.daemon.get(&0)).unwrap_or_default()
    }

    fn check_settings(&self) -> CheckSettings {
        self.read(self.maps.checks.get(&0)).unwrap_or_default()
    }

    fn own(&self, addr: Addr) -> bool {
        self.read(self.maps.own.get(&addr.host_key())).is_some()
    }

    fn fragment(&self, slot: u32) -> u64 {
        self.read(self.maps.fragments.get(&slot)).unwrap_or(0)
    }

    // What is asked here changes nothing.
    fn set_fragment(&self, _: u32, _: u64) {}

    fn bucket(&self, index: u32) -> u64 {
        self.read(self.maps.buckets.get(&index)).unwrap_or(0)
    }

    fn advance_bucket(&self, _: u32, _: u64, _: u64) -> bool {
        true
    }

    fn service(&self, key: &ServiceKey) -> Option<u32> {
        self.read(self.maps.bindings.get(key)).map(|binding| binding.service)
    }

    fn rate_settings(&self) -> RateSettings {
        self.read(self.maps.rates.get(&0)).unwrap_or_default()
    }

    fn rate_limit(&self, index: u32) -> Option<RateLimit> {
        self.read(self.maps.rate_limits.get(&index))
    }

    fn rate_bucket(&self, index: u32) -> u64 {
        self.read(self.maps.rate_buckets.get(&index)).unwrap_or(0)
    }

    fn advance_rate_bucket(&self, _: u32, _: u64, _: u64) -> bool {
        true
    }

    fn known(&self, slot: u32) -> u64 {
        self.read(self.maps.known.get(&slot)).unwrap_or(0)
    }

    fn flow(&self, slot: u32) -> u64 {
        self.read(self.maps.flows.get(&slot)).unwrap_or(0)
    }

    fn set_flow(&self, _: u32, _: u64) {}
}

fn longest(live: &Live<'_>, trie: &Map<TrieKey, PrefixValue>, addr: Addr) -> Option<u32> {
    live.read(trie.get(&TrieKey { bits: FULL, addr: addr.to_bytes() })).map(|value| value.rule)
}

impl Kernel {
    /// What the loaded gate would do with a frame now, and why. Nothing is counted.
    pub fn explain(&self, frame: &Snapshot<'_>) -> Result<Explanation> {
        let names = self.slot_names()?;
        let name = |slot: u32| names.get(&slot).cloned().unwrap_or_else(|| format!("slot {slot}"));
        let (verdicts, hosts) = (&self.verdicts, &self.hosts);
        let live = Live { maps: &self.maps, verdicts, hosts, failed: RefCell::default() };
        let explanation = explain(frame, &live, &name);
        match live.failed.into_inner() {
            Some(error) => Err(error).context("reading the gate's maps"),
            None => Ok(explanation),
        }
    }
}
