//! The tables of `decide()` as plain collections: the host half of the verdict table and of the differential check.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use proxy_common::abi::{
    CheckSettings, DEFAULT_MAX_VERDICTS, DaemonState, FRAGMENT_SLOTS, GATE_FAIL_OPEN, GATE_HAS_ALLOW, GATE_HAS_DENY,
    GATE_HAS_HOSTS, GATE_HAS_RATES, GATE_HAS_RULES, GATE_HOST_BITS_SHIFT, GATE_OWN_ONLY, GATE_V4_PREFIX_SHIFT,
    GateConfig, HINT_WORDS, HostKey, LAYOUT_VERSION, RATE_BUCKETS, RateLimit, RateSettings, SEEN_SLOTS, ServiceKey,
    VerdictValue, rule_action, verdict_bits,
};
use proxy_common::addr::{Addr, port_bit, port_place, v6_mask};
use proxy_common::classify::Found;
use proxy_common::decide::Tables;
use proxy_common::hint;
use proxy_common::hosts::{HostFound, hint_place, host_bits, prefix_of, terms};
use proxy_common::parse::{Frame, Packet};
use proxy_common::{rates, sanity, seen};
use proxy_core::config::RateImage;
use proxy_core::hosts::{Parts, split};
use proxy_core::policy::PacketRule;

/// Bits of the IPv4 prefixes that verdicts are on: the default of `gate.ipv4_prefix`.
pub const V4_PREFIX: u32 = 24;

/// Everything that a decision reads. `now` is the clock that it is asked for.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Drop only what is addressed to a service.
    pub own_only: bool,
    /// Verdicts.
    pub verdicts: HashMap<HostKey, VerdictValue>,
    /// Allowed prefixes.
    pub allow: Vec<(IpNet, u32)>,
    /// Denied prefixes.
    pub deny: Vec<(IpNet, u32)>,
    /// Ordered rules.
    pub rules: Vec<PacketRule>,
    /// Services.
    pub bindings: HashSet<ServiceKey>,
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub now: u64,
    /// Checks that are made.
    pub checked: u64,
    /// Those of them that drop.
    pub enforced: u64,
    /// Nothing is dropped while the daemon stays away.
    pub fail_open: bool,
    /// When the daemon was last there.
    pub daemon: DaemonState,
    /// Our own addresses.
    pub own: HashSet<Addr>,
    /// What the checks go by.
    pub settings: CheckSettings,
    /// Words of the table of fragments.
    pub fragments: RefCell<HashMap<u32, u64>>,
    /// Words of the buckets.
    pub buckets: RefCell<HashMap<u32, u64>>,
    /// Rate limits, with the secret and the place of the first as the loaded gate has them.
    pub rates: RateImage,
    /// Words of the rate limits' buckets.
    pub rate_buckets: RefCell<HashMap<u32, u64>>,
    /// Words of the table of known sources.
    pub known: RefCell<HashMap<u32, u64>>,
    /// Words of the table of UDP flows.
    pub flows: RefCell<HashMap<u32, u64>>,
    /// Words of the hint; [`World::seal`] computes them.
    pub hints: BTreeMap<u32, u64>,
    /// Words of the filter before the verdicts, likewise.
    pub verdict_hints: BTreeMap<u32, u64>,
    /// The prefixes by where the gate keeps them, likewise.
    pub parts: Parts,
    /// Words of the filter before the hosts, likewise.
    pub host_hints: BTreeMap<u32, u64>,
}

/// An address in the form of the maps.
pub fn addr(ip: IpAddr) -> Addr {
    ip.into()
}

fn longest(list: &[(IpNet, u32)], addr: Addr) -> Option<u32> {
    let ip = IpAddr::from(addr);
    list.iter().filter(|(net, _)| net.contains(&ip)).max_by_key(|(net, _)| net.prefix_len()).map(|(_, rule)| *rule)
}

impl World {
    /// Computes the hint; to be called when the denied prefixes stand.
    pub fn seal(mut self) -> Self {
        self.parts = split(&self.allow, &self.deny);
        let bits = self.host_bits();
        for (key, _) in self.parts.hosts.iter().filter(|(_, terms)| terms::denies(*terms)) {
            let (word, mask) = hint_place(key.first_addr(), bits);
            *self.host_hints.entry(word).or_default() |= mask;
        }
        for (net, _) in &self.parts.deny {
            hint::mark(addr(net.network()), net.prefix_len(), |word, bit| {
                *self.hints.entry(word).or_default() |= 1 << bit;
            });
        }
        for key in self.verdicts.keys() {
            let (word, bit) = hint::verdict_place(key.first_addr(), v6_mask(64), verdict_bits(DEFAULT_MAX_VERDICTS));
            *self.verdict_hints.entry(word).or_default() |= 1 << bit;
        }
        self
    }
}

impl World {
    /// The highest rule slot that anything in it names.
    pub fn last_slot(&self) -> u32 {
        let prefixes = self.allow.iter().chain(&self.deny).map(|(_, slot)| *slot);
        let rules = self.rules.iter().map(|rule| rule.slot);
        prefixes.chain(rules).chain(self.verdicts.values().map(|value| value.rule)).max().unwrap_or(0)
    }

    /// The services in the order of their numbers.
    pub fn services(&self) -> Vec<ServiceKey> {
        let mut services: Vec<ServiceKey> = self.bindings.iter().copied().collect();
        services.sort_unstable_by_key(|key| (key.proto, key.port, key.addr));
        services
    }

    /// Notes a source that completed a handshake.
    pub fn note_known(&self, source: IpAddr) {
        let hash = rates::known_hash(addr(source), v6_mask(64), &self.rates.settings);
        let mut known = self.known.borrow_mut();
        let (slot, _, word) = seen::place(hash, self.now, |slot| known.get(&slot).copied().unwrap_or(0));
        known.insert(slot, word);
    }
}

impl World {
    /// The bits of `GATE` for verdicts on IPv4 prefixes.
    fn v4_prefix(&self) -> u32 {
        let any = self.verdicts.keys().any(|key| key.v4_bits() == Some(V4_PREFIX));
        if any { V4_PREFIX << GATE_V4_PREFIX_SHIFT } else { 0 }
    }

    fn host_bits(&self) -> u32 {
        let denied = self.parts.hosts.iter().filter(|(_, terms)| terms::denies(*terms)).count();
        if self.parts.hosts.is_empty() { 0 } else { host_bits(denied as u32) }
    }

    fn host_terms(&self, key: HostKey) -> u32 {
        self.parts.hosts.iter().find(|(known, _)| *known == key).map_or(0, |(_, terms)| *terms)
    }
}

impl Tables for World {
    type Verdict = VerdictValue;

    fn config(&self) -> GateConfig {
        let mut flags = 0;
        for (set, flag) in [
            (self.own_only, GATE_OWN_ONLY),
            (self.parts.hosts.iter().any(|(_, terms)| terms::denies(*terms)), GATE_HAS_HOSTS),
            (self.fail_open, GATE_FAIL_OPEN),
            (!self.parts.deny.is_empty(), GATE_HAS_DENY),
            (!self.allow.is_empty(), GATE_HAS_ALLOW),
            (!self.rules.is_empty(), GATE_HAS_RULES),
            (!self.rates.limits.is_empty(), GATE_HAS_RATES),
        ] {
            flags |= if set { flag } else { 0 };
        }
        GateConfig {
            layout: LAYOUT_VERSION,
            flags: flags | (self.host_bits() << GATE_HOST_BITS_SHIFT) | self.v4_prefix(),
            rules: self.rules.len() as u32,
            revision: 1,
            v6_mask: v6_mask(64),
            checked: self.checked,
            enforced: self.enforced,
            verdict_seed: 0,
            own_bits: sanity::own_bits(self.own.iter().copied()),
            verdict_bits: verdict_bits(DEFAULT_MAX_VERDICTS),
            cookies: 0,
            rules_print: 0,
        }
    }

    fn verdict_hint(&self, word: u32) -> u64 {
        self.verdict_hints.get(&word).copied().unwrap_or(0)
    }

    fn verdict(&self, key: &HostKey) -> Option<VerdictValue> {
        self.verdicts.get(key).copied()
    }

    fn verdict_terms(&self, verdict: VerdictValue, _: Addr) -> (u64, u32, u32) {
        (verdict.expires_ns, verdict.rule, verdict.flags)
    }

    fn now_ns(&self) -> u64 {
        self.now
    }

    fn hint(&self, _: u32, word: u32) -> u64 {
        assert!(word < 2 * HINT_WORDS, "hint word {word} is beyond the map");
        self.hints.get(&word).copied().unwrap_or(0)
    }

    fn host_hint(&self, _: u32, word: u32) -> u64 {
        self.host_hints.get(&word).copied().unwrap_or(0)
    }

    fn host(&self, _: u32, packet: &Packet) -> HostFound {
        let host = self.host_terms(packet.src.host_key());
        let prefix = if packet.src.is_v4() { 0 } else { self.host_terms(prefix_of(packet.src)) };
        let pick = |half: u32| if host & half != 0 { host & half } else { prefix & half };
        HostFound { terms: pick(0xffff) | pick(0xffff_0000), line: 0 }
    }

    fn denied(&self, _: u32, addr: Addr) -> Option<u32> {
        longest(&self.parts.deny, addr)
    }

    fn allowed(&self, _: u32, addr: Addr) -> Option<u32> {
        longest(&self.parts.allow, addr)
    }

    fn port_word(&self, word: u32) -> u64 {
        let here = self.bindings.iter().filter(|key| port_place(key.port).0 == word);
        here.fold(0, |bits, key| bits | (u64::from(port_bit(key)) << port_place(key.port).1))
    }

    fn bound(&self, key: &ServiceKey) -> bool {
        self.bindings.contains(key)
    }

    /// A plain scan, on purpose: what the program finds by its tables must be what the rules say.
    fn classify<F: Frame + ?Sized>(&self, frame: &F, packet: &Packet, _: u32) -> Found {
        let first = |shadow| {
            let matching = || self.rules.iter().filter(|rule| rule.shadow == shadow && rule.matches(frame, packet));
            let found = matching().find(|rule| rule.action == rule_action::ALLOW).or_else(|| matching().next());
            found.map_or((0, 0), |rule| (rule.action, rule.slot))
        };
        let ((action, slot), (shadow_action, shadow_slot)) = (first(false), first(true));
        Found { action, slot, shadow_action, shadow_slot }
    }

    fn daemon(&self) -> DaemonState {
        self.daemon
    }

    fn check_settings(&self) -> CheckSettings {
        self.settings
    }

    fn own(&self, addr: Addr) -> bool {
        self.own.contains(&addr)
    }

    fn fragment(&self, slot: u32) -> u64 {
        assert!(slot < FRAGMENT_SLOTS, "fragment slot {slot} is beyond the map");
        self.fragments.borrow().get(&slot).copied().unwrap_or(0)
    }

    fn set_fragment(&self, slot: u32, word: u64) {
        self.fragments.borrow_mut().insert(slot, word);
    }

    fn bucket(&self, index: u32) -> u64 {
        self.buckets.borrow().get(&index).copied().unwrap_or(0)
    }

    fn advance_bucket(&self, index: u32, from: u64, to: u64) -> bool {
        self.buckets.borrow_mut().insert(index, to).unwrap_or(0) == from
    }

    fn service(&self, key: &ServiceKey) -> Option<u32> {
        self.services().iter().position(|service| service == key).map(|index| index as u32)
    }

    fn rate_settings(&self) -> RateSettings {
        self.rates.settings
    }

    fn rate_limit(&self, index: u32) -> Option<RateLimit> {
        self.rates.limits.get((index - self.rates.settings.first) as usize).copied()
    }

    fn rate_bucket(&self, index: u32) -> u64 {
        assert!(index < RATE_BUCKETS, "bucket {index} is beyond the map");
        self.rate_buckets.borrow().get(&index).copied().unwrap_or(0)
    }

    fn advance_rate_bucket(&self, index: u32, from: u64, to: u64) -> bool {
        self.rate_buckets.borrow_mut().insert(index, to).unwrap_or(0) == from
    }

    fn known(&self, slot: u32) -> u64 {
        assert!(slot < SEEN_SLOTS, "slot {slot} is beyond the map");
        self.known.borrow().get(&slot).copied().unwrap_or(0)
    }

    fn flow(&self, slot: u32) -> u64 {
        assert!(slot < SEEN_SLOTS, "slot {slot} is beyond the map");
        self.flows.borrow().get(&slot).copied().unwrap_or(0)
    }

    fn set_flow(&self, slot: u32, word: u64) {
        self.flows.borrow_mut().insert(slot, word);
    }
}
