//! Every kind of limit and unit on the host, with time as an argument; what random sources and neighbours do to a good one.

extern crate std;
use core::cell::RefCell;
use std::collections::HashMap;
use std::vec;
use std::vec::Vec;

use super::*;
use crate::abi::{CheckSettings, DaemonState, HostKey, ServiceKey};

const SECOND: u64 = 1_000_000_000;
const KEYS: RateSettings =
    RateSettings { k0: 0x0123_4567_89ab_cdef, k1: 77, first: 0, count: 0, units: 63, known_s: 600 };

/// Limits, and what they write. All packets are in scope; port 443 is service 1 and port 80 service 0.
struct Gate {
    limits: Vec<RateLimit>,
    buckets: RefCell<Vec<u64>>,
    known: RefCell<HashMap<u32, u64>>,
    flows: RefCell<HashMap<u32, u64>>,
    now: RefCell<u64>,
}

impl Gate {
    fn new(limits: &[RateLimit]) -> Self {
        let buckets = vec![0; RATE_BUCKETS as usize];
        Self {
            limits: limits.to_vec(),
            buckets: RefCell::new(buckets),
            known: RefCell::default(),
            flows: RefCell::default(),
            now: RefCell::new(1_000 * SECOND),
        }
    }

    fn asks(&self, packet: &Packet) -> Reason {
        Reason::of(run(&[0u8; 0][..], packet, self) as u32 & NUMBER_MASK)
    }

    fn passes(&self, packet: &Packet) -> bool {
        self.asks(packet) == Reason::Pass
    }

    /// How many of `count` such packets pass at this moment.
    fn taken(&self, count: u32, packet: &Packet) -> u32 {
        (0..count).map(|_| u32::from(self.passes(packet))).sum()
    }

    fn wait(&self, ns: u64) {
        *self.now.borrow_mut() += ns;
    }

    fn note_known(&self, addr: Addr) {
        let hash = known_hash(addr, u64::MAX, &KEYS);
        let (slot, _, word) = seen::place(hash, self.now_ns(), |_| 0);
        self.known.borrow_mut().insert(slot, word);
    }
}

impl Tables for Gate {
    type Verdict = ();
    fn config(&self) -> GateConfig {
        GateConfig { v6_mask: u64::MAX, ..GateConfig::default() }
    }
    fn now_ns(&self) -> u64 {
        *self.now.borrow()
    }
    fn rate_settings(&self) -> RateSettings {
        RateSettings { count: self.limits.len() as u32, ..KEYS }
    }
    fn rate_limit(&self, index: u32) -> Option<RateLimit> {
        self.limits.get(index as usize).copied()
    }
    fn rate_bucket(&self, index: u32) -> u64 {
        self.buckets.borrow()[index as usize]
    }
    fn advance_rate_bucket(&self, index: u32, from: u64, to: u64) -> bool {
        let word = &mut self.buckets.borrow_mut()[index as usize];
        let same = *word == from;
        if same {
            *word = to;
        }
        same
    }
    fn known(&self, slot: u32) -> u64 {
        self.known.borrow().get(&slot).copied().unwrap_or(0)
    }
    fn flow(&self, slot: u32) -> u64 {
        self.flows.borrow().get(&slot).copied().unwrap_or(0)
    }
    fn set_flow(&self, slot: u32, word: u64) {
        self.flows.borrow_mut().insert(slot, word);
    }
    fn port_word(&self, word: u32) -> u64 {
        let any = u64::from(crate::abi::port_bits::TCP_ANY4 | crate::abi::port_bits::UDP_ANY4);
        [443, 80]
            .into_iter()
            .map(port_place)
            .filter(|place| place.0 == word)
            .fold(0, |bits, place| bits | any << place.1)
    }
    fn service(&self, key: &ServiceKey) -> Option<u32> {
        Some(u32::from(key.port == 443))
    }
    fn host_hint(&self, _: u32, _: u32) -> u64 {
        0
    }
    fn host(&self, _: u32, _: &Packet) -> crate::hosts::HostFound {
        crate::hosts::HostFound::default()
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
    fn hint(&self, _: u32, _: u32) -> u64 {
        0
    }
    fn denied(&self, _: u32, _: Addr) -> Option<u32> {
        None
    }
    fn allowed(&self, _: u32, _: Addr) -> Option<u32> {
        None
    }
    fn bound(&self, _: &ServiceKey) -> bool {
        false
    }
    fn classify<F: Frame + ?Sized>(&self, _: &F, _: &Packet, _: u32) -> Found {
        Found::default()
    }
    fn daemon(&self) -> DaemonState {
        DaemonState::default()
    }

    fn check_settings(&self) -> CheckSettings {
        CheckSettings::default()
    }
    fn own(&self, _: Addr) -> bool {
        false
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
}

/// A limit that drops, with the whole table to itself.
fn limit(reason: Reason, unit: u32, rate: u64, burst: u64) -> RateLimit {
    let keyed = matches!(reason, Reason::RateSource | Reason::RatePrefix);
    let row = RATE_WORDS / 2;
    let (base, row_mask, second) = match reason {
        _ if keyed => (0, row - 1, row),
        Reason::RateService => (RATE_WORDS, SERVICE_WORDS - 1, 0),
        _ => (RATE_WORDS, 0, 0),
    };
    let limit = Limit::per_second(rate, burst);
    RateLimit {
        limit,
        new_ns: if keyed { limit.burst_ns } else { limit.burst_ns / 2 },
        v6_mask: if reason == Reason::RatePrefix { u64::MAX << 16 } else { u64::MAX },
        services: u64::MAX,
        v4_mask: if reason == Reason::RatePrefix { u32::MAX << 8 } else { u32::MAX },
        base,
        row_mask,
        second,
        reason: reason as u32,
        unit,
        enforce: 1,
        pad: 0,
    }
}

fn v4(word: u32) -> Addr {
    Addr::from_v4_word(word.to_be())
}

fn v6(hi: u64, lo: u64) -> Addr {
    Addr { hi: hi.to_be(), lo: lo.to_be() }
}

fn syn(src: Addr) -> Packet {
    let between = Packet::between(src, v4(0xc000_0201));
    Packet { proto: proto::TCP, sport: 9, dport: 443, ports: true, tcp_flags: tcp_flag::SYN, len: 40, ..between }
}

fn udp(src: Addr, sport: u16) -> Packet {
    Packet { proto: proto::UDP, sport, tcp_flags: 0, len: 100, ..syn(src) }
}

/// Sources without order, never the same twice.
fn random_source(n: u64) -> Addr {
    v4(0x1000_0000 + (n as u32).wrapping_mul(0x9e37_79b1) / 2)
}

const GOOD: u32 = 0x0909_0909;

#[test]
fn layout_is_fixed() {
    assert_eq!((size_of::<RateSettings>(), align_of::<RateSettings>()), (2 * 8 + 4 * 4, 8));
    assert_eq!((size_of::<RateLimit>(), align_of::<RateLimit>()), (16 + 3 * 8 + 8 * 4, 8));
    assert_eq!(u64::from(RATE_BUCKETS) * 8, (4 << 20) + (64 << 10), "the memory that the documentation states");
}

#[test]
fn a_source_has_its_burst_and_its_rate() {
    let gate = Gate::new(&[limit(Reason::RateSource, rate_unit::SYNS, 10, 10)]);
    let (bad, good) = (syn(v4(0x0808_0808)), syn(v4(GOOD)));
    assert_eq!(gate.taken(100, &bad), 10);
    assert_eq!(gate.asks(&bad), Reason::RateSource);
    assert_eq!(gate.taken(100, &good), 10, "another source has its own");
    assert!(gate.passes(&Packet { tcp_flags: tcp_flag::ACK, ..bad }), "no SYN");
    assert!(gate.passes(&Packet { tcp_flags: tcp_flag::SYN | tcp_flag::ACK, ..bad }), "an answer");
    assert!(gate.passes(&udp(bad.src, 9)));
    gate.wait(SECOND / 2);
    assert_eq!(gate.taken(100, &bad), 5);
}

#[test]
fn an_ipv6_source_is_its_prefix() {
    let gate = Gate::new(&[limit(Reason::RateSource, rate_unit::PACKETS, 10, 10)]);
    let packet = |hi, lo| Packet { dst: v6(1, 1), ..syn(v6(hi, lo)) };
    assert_eq!((0..100).map(|lo| gate.taken(1, &packet(0x2001_0db8_0000_0001, lo))).sum::<u32>(), 10);
    assert_eq!(gate.taken(100, &packet(0x2001_0db8_0000_0002, 1)), 10);
}

#[test]
fn a_prefix_shares_its_bucket() {
    let gate = Gate::new(&[limit(Reason::RatePrefix, rate_unit::PACKETS, 20, 20)]);
    assert_eq!((0..=255).map(|last| gate.taken(1, &syn(v4(0x0909_0900 + last)))).sum::<u32>(), 20);
    assert_eq!(gate.asks(&syn(v4(GOOD))), Reason::RatePrefix);
    assert!(gate.passes(&syn(v4(0x0909_0a09))));
    let packet = |hi| Packet { dst: v6(1, 1), ..syn(v6(hi, 1)) };
    assert_eq!((0..100).map(|net| gate.taken(1, &packet(0x2001_0db8_0007_0000 + net))).sum::<u32>(), 20);
    assert!(gate.passes(&packet(0x2001_0db8_0008_0000)));
}

#[test]
fn a_service_has_a_bucket_of_its_own() {
    let gate = Gate::new(&[limit(Reason::RateService, rate_unit::PACKETS, 100, 100)]);
    let to = |n, dport| Packet { dport, ..syn(random_source(n)) };
    assert_eq!((0..200).map(|n| gate.taken(1, &to(n, 443))).sum::<u32>(), 50, "half is kept for known sources");
    assert_eq!(gate.asks(&to(1, 443)), Reason::RateService);
    assert_eq!(gate.taken(200, &to(1, 80)), 50);
    assert!(gate.passes(&to(1, 22)), "no service");
    let only = RateLimit { services: 1, ..limit(Reason::RateTotal, rate_unit::PACKETS, 100, 100) };
    let gate = Gate::new(&[only]);
    assert_eq!((gate.taken(200, &to(1, 443)), gate.taken(200, &to(1, 22))), (200, 200), "not its listener");
    assert_eq!(gate.taken(200, &to(1, 80)), 50);
}

#[test]
fn bytes_are_those_of_the_packet() {
    let gate = Gate::new(&[limit(Reason::RateSource, rate_unit::BYTES, 200_000, 100_000)]);
    let packet = Packet { len: 1_000, ..udp(v4(GOOD), 1) };
    assert_eq!(gate.taken(1_000, &packet), 100);
    gate.wait(SECOND / 100);
    assert_eq!(gate.taken(1_000, &packet), 2);
}

#[test]
fn a_flow_counts_once_until_it_is_forgotten() {
    let gate = Gate::new(&[limit(Reason::RateSource, rate_unit::UDP_FLOWS, 5, 5)]);
    assert_eq!((0..50).map(|sport| gate.taken(1, &udp(v4(GOOD), 1_000 + sport))).sum::<u32>(), 5);
    assert_eq!(gate.taken(1_000, &udp(v4(GOOD), 1_002)), 1_000, "one that passed goes on");
    assert_eq!(gate.taken(10, &udp(v4(GOOD), 1_040)), 0, "one that did not is still new");
    assert!(gate.passes(&syn(v4(GOOD))));
    gate.wait(2 * u64::from(FLOW_LIFETIME_S) * SECOND);
    assert_eq!((0..50).map(|_| gate.taken(1, &udp(v4(GOOD), 1_002))).sum::<u32>(), 50);
    assert_eq!((0..50).map(|sport| gate.taken(1, &udp(v4(GOOD), 2_000 + sport))).sum::<u32>(), 4, "it was new again");
}

#[test]
fn known_sources_come_first_when_a_total_bites() {
    let gate = Gate::new(&[limit(Reason::RateTotal, rate_unit::SYNS, 1_000, 1_000)]);
    let good = v4(GOOD);
    let mut served = [0; 2];
    for (round, known) in [false, true].into_iter().enumerate() {
        if known {
            gate.note_known(good);
        }
        // Ten seconds of 20,000 SYNs a second from anywhere, and 100 a second of one source.
        for n in 0..200_000u64 {
            gate.wait(50_000);
            gate.passes(&syn(random_source(n)));
            if n % 200 == 0 {
                served[round] += gate.taken(1, &syn(good));
            }
        }
        gate.wait(10 * SECOND);
    }
    assert_eq!(served[1], 1_000, "a known source is served whole");
    assert!(served[0] < 200, "a new one like the flood: {}", served[0]);
    gate.wait(700 * SECOND);
    assert!(!is_known(good, &gate, gate.now_ns()), "known for ten minutes only");
}

/// Whether known or not, all together never get more than the limit.
#[test]
fn known_sources_do_not_lift_the_limit() {
    let gate = Gate::new(&[limit(Reason::RateTotal, rate_unit::PACKETS, 1_000, 1_000)]);
    gate.note_known(v4(GOOD));
    let mut passed = 0;
    for n in 0..100_000u64 {
        gate.wait(100_000);
        passed += gate.taken(1, &syn(v4(GOOD))) + gate.taken(1, &syn(random_source(n)));
    }
    assert!((10_900..=11_001).contains(&passed), "{passed} in ten seconds");
}

#[test]
fn the_first_limit_decides_and_the_rest_keeps_its_tokens() {
    let source = limit(Reason::RateSource, rate_unit::PACKETS, 10, 10);
    let total = limit(Reason::RateTotal, rate_unit::PACKETS, 100, 100);
    let gate = Gate::new(&[source, total]);
    assert_eq!(gate.taken(10_000, &syn(v4(0x0808_0808))), 10);
    let others = (0..100).map(|n| gate.taken(1, &syn(random_source(n)))).sum::<u32>();
    assert_eq!(others, 40, "a half of the total, less what the first source got through");
    assert_eq!(gate.asks(&syn(random_source(1_000))), Reason::RateTotal);
}

#[test]
fn a_counted_limit_counts_and_drops_nothing() {
    let counted = RateLimit { enforce: 0, ..limit(Reason::RateSource, rate_unit::PACKETS, 10, 10) };
    let total =
        RateLimit { base: RATE_WORDS + SERVICE_WORDS, ..limit(Reason::RateTotal, rate_unit::PACKETS, 200, 200) };
    let gate = Gate::new(&[counted, total]);
    let ask = || run(&[0u8; 0][..], &syn(v4(GOOD)), &gate);
    assert!((0..10).all(|_| ask() == 0));
    assert!((0..90).all(|_| ask() == Reason::RateSource.bit()));
    assert_eq!(ask(), Reason::RateSource.bit() | Reason::RateTotal as u64);
}

/// A million random sources: the buckets are as many as before, and a good source has its whole rate.
#[test]
fn random_sources_fill_nothing_and_harm_nobody() {
    let gate = Gate::new(&[limit(Reason::RateSource, rate_unit::SYNS, 10, 10)]);
    let mut refused = 0;
    let mut asked = 0;
    // One second and a half at 666,667 SYNs a second; the good source sends at nine tenths of its limit.
    for n in 0..1_000_000u64 {
        gate.wait(1_500);
        gate.passes(&syn(random_source(n)));
        if n % 74_000 == 0 {
            asked += 1;
            refused += 1 - gate.taken(1, &syn(v4(GOOD)));
        }
    }
    assert_eq!(gate.buckets.borrow().len(), RATE_BUCKETS as usize);
    assert!(asked >= 13 && refused == 0, "{refused} of {asked} SYNs of a good source were refused");
    // And of any other source hardly one is: each of these comes for the first time.
    let harmed = (0..10_000u64).filter(|n| !gate.passes(&syn(v4(0xc900_0000 + *n as u32)))).count();
    assert!(harmed <= 1, "{harmed} of 10,000");
}

/// The stated error: sources at their limit harm (1 − e^(−n/w))² of the others.
#[test]
fn heavy_sources_harm_as_few_as_stated() {
    let gate = Gate::new(&[limit(Reason::RateSource, rate_unit::PACKETS, 10, 10)]);
    // Heavy sources, and how many in 10,000 of the others are harmed.
    for (heavy, stated) in [(10_000u64, 14u64), (100_000, 1_006)] {
        for n in 0..heavy {
            while gate.passes(&syn(random_source(n))) {}
        }
        let harmed = (0..20_000u32).filter(|n| !gate.passes(&syn(v4(0xc900_0000 + n)))).count() as u64 / 2;
        // Five standard deviations and more of so many draws.
        let slack = 16 + stated / 8;
        assert!(harmed.abs_diff(stated) <= slack, "{heavy} heavy sources: {harmed}, stated {stated}");
        gate.wait(100 * SECOND);
    }
}
