//! The gate that config and policies ask for, without a kernel: what the maps would hold right after a start, as tables of a
//! decision. What only a running gate knows is not in it: verdicts, fragments and flows seen, known sources, buckets that
//! were drawn from.
//!
//! Pure: what this host says (its ephemeral ports) is an argument.

use std::collections::HashSet;

use proxy_common::abi::{
    CheckSettings, DaemonState, GATE_HAS_ALLOW, GATE_HAS_DENY, GATE_HAS_HOSTS, GATE_HAS_RATES, GATE_HAS_RULES,
    GATE_HOST_BITS_SHIFT, GATE_OWN_ONLY, GateConfig, HostKey, LAYOUT_VERSION, RateLimit, RateSettings, ServiceKey,
    proto, verdict_bits,
};
use proxy_common::addr::{Addr, port_bit, port_place, v6_mask};
use proxy_common::classify::{ClassTable, Found, RowTable, find};
use proxy_common::decide::Tables;
use proxy_common::hosts::{self, HostFound, terms};
use proxy_common::parse::{Frame, Packet};
use proxy_common::sanity::own_bits;

use crate::config::{Config, RateImage, Scope};
use crate::hosts::{HostTable, Parts, split};
use crate::image::{KernelImage, longest, prefix_hints};

/// What this host adds to the config.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// The first port that the kernel gives to clients.
    pub ephemeral: u32,
    /// The packets come in by a loopback interface, where our own addresses talk to each other.
    pub loopback: bool,
}

/// The tables. No verdict stands in them.
#[derive(Debug)]
pub struct Planned {
    config: GateConfig,
    settings: CheckSettings,
    /// The image's prefixes by where they are kept.
    parts: Parts,
    hosts: HostTable,
    rules: Option<(Box<ClassTable>, Box<RowTable>)>,
    /// With their numbers, the listener's index.
    services: Vec<(ServiceKey, u32)>,
    own: HashSet<Addr>,
    hints: Vec<u64>,
    rates: RateImage,
}

/// Seed of the table of hosts: nobody sends packets to it.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

impl Planned {
    /// What a start with this config and these policies would put into the maps.
    pub fn new(config: &Config, image: &KernelImage, host: Host) -> Self {
        let gate = &config.gate;
        let rates = RateImage::of(config);
        let parts = split(&image.allow, &image.deny);
        let hosts = HostTable::build(&parts.hosts, SEED).unwrap_or_default();
        let mut flags = hosts.bits << GATE_HOST_BITS_SHIFT;
        for (set, flag) in [
            (gate.scope == Scope::Own, GATE_OWN_ONLY),
            (parts.hosts.iter().any(|(_, terms)| terms::denies(*terms)), GATE_HAS_HOSTS),
            (!parts.deny.is_empty(), GATE_HAS_DENY),
            (!image.allow.is_empty(), GATE_HAS_ALLOW),
            (!image.rules.is_empty(), GATE_HAS_RULES),
            (!rates.limits.is_empty(), GATE_HAS_RATES),
        ] {
            flags |= if set { flag } else { 0 };
        }
        let own: HashSet<Addr> = config.own_addresses().into_iter().map(Addr::from).collect();
        let (checked, enforced) = gate.check_words(host.loopback);
        let services = (0..).zip(&config.listeners).flat_map(|(number, listener)| {
            let addr = Addr::from(listener.address.ip());
            let udp = listener.http3.then_some(proto::UDP);
            let protocols = std::iter::once(proto::TCP).chain(udp);
            protocols.map(move |protocol| (addr.service_key(protocol, listener.address.port()), number))
        });
        Self {
            config: GateConfig {
                layout: LAYOUT_VERSION,
                flags,
                rules: image.rules.len() as u32,
                v6_mask: v6_mask(gate.ipv6_prefix),
                checked,
                enforced,
                own_bits: own_bits(own.iter().copied()),
                verdict_bits: verdict_bits(gate.max_verdicts),
                ..GateConfig::default()
            },
            settings: gate.check_settings(1, host.ephemeral),
            rules: image.tables.classes().zip(image.tables.rows()),
            services: services.collect(),
            own,
            hints: prefix_hints(&parts.deny),
            rates,
            parts,
            hosts,
        }
    }
}

impl Tables for Planned {
    type Verdict = ();

    fn config(&self) -> GateConfig {
        self.config
    }

    fn verdict_hint(&self, _: u32) -> u64 {
        0
    }

    fn verdict(&self, _: &HostKey) -> Option<()> {
        None
    }

    fn verdict_terms(&self, (): (), _: Addr) -> (u64, u32, u32) {
        (0, 0, 0)
    }

    // Nothing is remembered that a time could be compared with.
    fn now_ns(&self) -> u64 {
        0
    }

    fn hint(&self, _: u32, word: u32) -> u64 {
        self.hints.get(word as usize).copied().unwrap_or(u64::MAX)
    }

    fn host_hint(&self, _: u32, word: u32) -> u64 {
        self.hosts.hint.get(word as usize).copied().unwrap_or(0)
    }

    fn host(&self, _: u32, packet: &Packet) -> HostFound {
        hosts::find(packet.src, |line| self.hosts.lines.get(line as usize))
    }

    fn denied(&self, _: u32, addr: Addr) -> Option<u32> {
        longest(&self.parts.deny, u128::from_be_bytes(addr.to_bytes()))
    }

    fn allowed(&self, _: u32, addr: Addr) -> Option<u32> {
        longest(&self.parts.allow, u128::from_be_bytes(addr.to_bytes()))
    }

    fn port_word(&self, word: u32) -> u64 {
        let here = self.services.iter().map(|(key, _)| key).filter(|key| port_place(key.port).0 == word);
        here.fold(0, |bits, key| bits | (u64::from(port_bit(key)) << port_place(key.port).1))
    }

    fn bound(&self, key: &ServiceKey) -> bool {
        self.service(key).is_some()
    }

    fn classify<F: Frame + ?Sized>(&self, frame: &F, packet: &Packet, _: u32) -> Found {
        let Some((classes, rows)) = &self.rules else { return Found::default() };
        find(frame, packet, classes, rows)
    }

    fn daemon(&self) -> DaemonState {
        DaemonState::default()
    }

    fn check_settings(&self) -> CheckSettings {
        self.settings
    }

    fn own(&self, addr: Addr) -> bool {
        self.own.contains(&addr)
    }

    fn fragment(&self, _: u32) -> u64 {
        0
    }

    fn set_fragment(&self, _: u32, _: u64) {}

    fn bucket(&self, _: u32) -> u64 {
        0
    }

    fn advance_bucket(&self, _: u32, _: u64, _: u64) -> bool {
        true
    }

    fn service(&self, key: &ServiceKey) -> Option<u32> {
        self.services.iter().find(|(service, _)| service == key).map(|(_, number)| *number)
    }

    fn rate_settings(&self) -> RateSettings {
        self.rates.settings
    }

    fn rate_limit(&self, index: u32) -> Option<RateLimit> {
        self.rates.limits.get(index as usize).copied()
    }

    fn rate_bucket(&self, _: u32) -> u64 {
        0
    }

    fn advance_rate_bucket(&self, _: u32, _: u64, _: u64) -> bool {
        true
    }

    fn known(&self, _: u32) -> u64 {
        0
    }

    fn flow(&self, _: u32) -> u64 {
        0
    }

    fn set_flow(&self, _: u32, _: u64) {}
}
