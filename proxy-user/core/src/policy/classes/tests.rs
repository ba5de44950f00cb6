//! The compiled tables against a scan of the rules, and the bounds.

use proptest::prelude::*;
use proxy_common::abi::{frag, rule_action};
use proxy_common::addr::Addr;
use proxy_common::classify::{Base, Bits, ClassTable, Found, Probe, Question, RowTable, find};
use proxy_common::parse::{Frame, NO_VLAN, Packet};

use super::{PacketRule, compile};
use crate::policy::cubes::{ANY_PROTO, Cube};
use crate::ranges::{RangeSet, V4_FIRST, number};

/// Address blocks that overlap: addresses of both families, near each other at every level of the tries.
const BLOCKS: [&str; 10] = [
    "192.0.2.0/24",
    "192.0.2.128/25",
    "192.0.2.129/32",
    "192.0.0.0/16",
    "10.0.0.0/8",
    "0.0.0.0/0",
    "2001:db8::/32",
    "2001:db8:0:1::/64",
    "2001:db8:0:1::7/128",
    "::/0",
];

fn addresses() -> impl Strategy<Value = RangeSet> {
    let block = prop::sample::select(BLOCKS.to_vec())
        .prop_map(|text| crate::ranges::network_ranges(crate::ranges::parse_network(text).expect("a network")));
    prop_oneof![
        3 => Just(RangeSet::full(u128::MAX)),
        3 => prop::collection::vec(block, 1..4).prop_map(|list| RangeSet::new(list.concat())),
        1 => (0_u128..300, 0_u128..300).prop_map(|(low, more)| {
            let low = V4_FIRST + 0xc000_0200 + low;
            RangeSet::new(vec![(low, low + more)]).complement(u128::MAX)
        }),
    ]
}

fn numbers(max: u16) -> impl Strategy<Value = RangeSet> {
    let range = (0..=max, 0_u16..4).prop_map(move |(low, more)| (low.into(), low.saturating_add(more).min(max).into()));
    prop_oneof![
        2 => Just(RangeSet::full(max.into())),
        1 => prop::collection::vec(range, 1..3).prop_map(RangeSet::new),
        1 => (0_u128..5, 1_u128..4).prop_map(|(low, more)| RangeSet::new(vec![(low, low + more)])),
    ]
}

/// Bytes and an interface, to ask for in probes. Its places are those of no real frame.
#[derive(Clone, Debug)]
struct Bytes {
    bytes: Vec<u8>,
    interface: u32,
}

impl Frame for Bytes {
    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        Frame::bytes(self.bytes.as_slice(), offset)
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn interface(&self) -> u32 {
        self.interface
    }
}

prop_compose! {
    fn probe()(
        negated: bool, proto in prop::sample::select(vec![0_u8, 6, 17, 1]), offset in 0_u16..6, length in 1_u8..9,
        base in prop::sample::select(vec![Base::Network, Base::Upper, Base::Payload]),
        mask in prop::sample::select(vec![0, 0xff, 0xff00, 1, u64::MAX]), low in 0_u64..600, more in 0_u64..600,
    ) -> Probe {
        let bits = Bits { proto, base, offset, length, mask, low, high: low + more };
        Probe { negated, question: Question::Bits(bits) }
    }
}

fn probes() -> impl Strategy<Value = Vec<Probe>> {
    prop_oneof![
        2 => Just(Vec::new()),
        1 => prop::collection::btree_set(probe(), 1..4).prop_map(|set| set.into_iter().collect()),
    ]
}

prop_compose! {
    fn cube()(
        src in addresses(), dst in addresses(), sport in numbers(u16::MAX), dport in numbers(u16::MAX),
        len in numbers(u16::MAX), ttl in numbers(u8::MAX.into()),
        protos in prop_oneof![Just(ANY_PROTO), 1..=ANY_PROTO], frag in prop_oneof![2 => Just(frag::ANY), 1 => 1..=frag::ANY],
        flags in prop_oneof![2 => Just(None), 1 => (1_u8..8, 0_u8..8).prop_map(Some)],
        rare in prop_oneof![
            2 => Just(None),
            1 => (numbers(u8::MAX.into()), numbers(u8::MAX.into()), numbers(u16::MAX), numbers(u16::MAX)).prop_map(Some),
        ],
        interfaces in prop_oneof![
            3 => Just(RangeSet::full(u32::MAX.into())),
            1 => (0_u128..4).prop_map(|index| RangeSet::new(vec![(index, index)])),
            1 => (0_u128..4).prop_map(|index| RangeSet::new(vec![(index, index)]).complement(u32::MAX.into())),
        ],
        probes in probes(),
    ) -> Cube {
        let cube = Cube { src, dst, protos, frag, sport, dport, len, ttl, interfaces, probes, ..Cube::all() };
        let cube = match rare {
            None => cube,
            Some((icmp_type, icmp_code, vlan, window)) => Cube { icmp_type, icmp_code, vlan, window, ..cube },
        };
        match flags {
            None => cube,
            Some((mask, flags)) => {
                Cube { protos: 1, frag: frag::NONE | frag::FIRST, tcp_mask: mask, tcp_flags: mask & flags, ..cube }
            }
        }
    }
}

fn address() -> impl Strategy<Value = Addr> {
    let near =
        ["192.0.2.0", "192.0.2.129", "192.0.3.1", "10.1.2.3", "2001:db8::1", "2001:db8:0:1::7", "2001:db8:0:1::8"];
    let near = prop::sample::select(near.to_vec()).prop_map(|ip| number(ip.parse().expect("an address")));
    prop_oneof![4 => near, 1 => any::<u128>(), 2 => any::<u32>().prop_map(|v4| V4_FIRST + u128::from(v4))]
        .prop_map(|n| Addr::from_bytes(n.to_be_bytes()))
}

fn small_or_any() -> impl Strategy<Value = u16> {
    prop_oneof![3 => 0_u16..8, 1 => any::<u16>()]
}

prop_compose! {
    fn packet()(
        src in address(), dst in address(), sport in small_or_any(), dport in small_or_any(), len in small_or_any(),
        proto in prop::sample::select(vec![6_u8, 6, 17, 1, 58, 47, 0, 255]), ttl in prop_oneof![0_u8..8, any::<u8>()],
        rare in (0_u8..6, 0_u8..6, prop_oneof![Just(NO_VLAN), 0_u16..6], 0_u16..6),
        flags in 0_u8..64, frag in prop::sample::select(vec![frag::NONE, frag::NONE, frag::FIRST, frag::LATER]),
        bytes in prop::collection::vec(0_u8..3, 4..20), interface in 0_u32..5,
    ) -> (Bytes, Packet) {
        let ports = frag != frag::LATER && (proto == 6 || proto == 17);
        let upper = frag != frag::LATER;
        let packet = Packet {
            network: 2,
            upper: if upper { 5 } else { 0 },
            payload: if upper { 7 } else { 0 },
            len, proto, ttl, frag, ports,
            sport: if ports { sport } else { 0 },
            dport: if ports { dport } else { 0 },
            tcp_flags: if ports && proto == 6 { flags } else { 0 },
            icmp_type: rare.0,
            icmp_code: rare.1,
            vlan: rare.2,
            window: rare.3,
            ..Packet::between(src, dst)
        };
        (Bytes { bytes, interface }, packet)
    }
}

fn found(packet: &Packet, classes: &ClassTable, rows: &RowTable) -> Found {
    find(&[][..], packet, classes, rows)
}

/// The first allow rule that matches, or else the first rule; enforced and in shadow.
fn scan(rules: &[PacketRule], frame: &Bytes, packet: &Packet) -> Found {
    let first = |shadow| {
        let matching = || rules.iter().filter(|rule| rule.shadow == shadow && rule.matches(frame, packet));
        let found = matching().find(|rule| rule.action == rule_action::ALLOW).or_else(|| matching().next());
        found.map_or((0, 0), |rule| (rule.action, rule.slot))
    };
    let ((action, slot), (shadow_action, shadow_slot)) = (first(false), first(true));
    Found { action, slot, shadow_action, shadow_slot }
}

fn numbered(cubes: Vec<(Cube, bool)>) -> Vec<PacketRule> {
    let action = |allow| if allow { rule_action::ALLOW } else { rule_action::DROP };
    let rule = |(slot, (cube, allow))| PacketRule { cube, action: action(allow), slot, shadow: false };
    (1..).zip(cubes).map(rule).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn tables_agree_with_a_scan(
        cubes in prop_oneof![
            prop::collection::vec((cube(), prop::bool::weighted(0.2)), 1..8),
            prop::collection::vec((cube(), prop::bool::weighted(0.05)), 100..300),
        ],
        packets in prop::collection::vec(packet(), 200),
        shadows in prop_oneof![Just(0), Just(3_u32), Just(2)],
    ) {
        let mut rules = numbered(cubes);
        for rule in &mut rules {
            rule.shadow = shadows > 0 && rule.slot % shadows == 0;
        }
        let tables = compile(&rules).expect("room");
        let (classes, rows) = (tables.classes().expect("a table"), tables.rows().expect("a table"));
        for (frame, packet) in &packets {
            let here = find(frame, packet, &classes, &rows);
            prop_assert_eq!(here, scan(&rules, frame, packet), "{:?} of {:?}", packet, frame);
        }
    }
}

/// `count` rules, each with a source network and a port of its own.
fn many(count: u32, source: fn(u32) -> (u128, u128)) -> Vec<PacketRule> {
    let cube = |n: u32| Cube {
        src: RangeSet::new(vec![source(n)]),
        dport: RangeSet::new(vec![(u128::from(n % 9_000), u128::from(n % 9_000) + 3)]),
        protos: 1,
        ..Cube::all()
    };
    numbered((0..count).map(|n| (cube(n), false)).collect())
}

#[test]
fn as_many_rules_as_there_may_be() {
    let v4 = |n: u32| (V4_FIRST + u128::from(n << 12), V4_FIRST + u128::from((n << 12) + 255));
    let rules = many(4_096, v4);
    let tables = compile(&rules).expect("room");
    let (classes, rows) = (tables.classes().expect("a table"), tables.rows().expect("a table"));
    for n in (0..4_096).step_by(7) {
        let (src, dst) = (Addr::from_bytes((v4(n).0 + 9).to_be_bytes()), Addr::from_bytes(V4_FIRST.to_be_bytes()));
        let packet = Packet {
            sport: 1,
            dport: n as u16,
            len: 40,
            proto: 6,
            ttl: 64,
            tcp_flags: 2,
            ports: true,
            ..Packet::between(src, dst)
        };
        assert_eq!(
            found(&packet, &classes, &rows),
            Found { action: rule_action::DROP, slot: n + 1, ..Found::default() }
        );
        let beside = Packet { dport: n as u16 + 4, ..packet };
        assert_eq!(found(&beside, &classes, &rows), Found::default());
    }
}

#[test]
fn bounds_are_named() {
    let v4 = |n: u32| (V4_FIRST + u128::from(n), V4_FIRST + u128::from(n));
    assert!(compile(&many(4_097, v4)).unwrap_err().contains("4097 packet rules in all policies, at most 4096 fit"));
    // Hosts spread so that each takes trie nodes of its own.
    let spread = |n: u32| {
        let low = u128::from(n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        (low, low)
    };
    assert!(compile(&many(4_000, spread)).unwrap_err().contains("look-up tables"));
    let mut mixed = many(4_096, v4);
    mixed.truncate(4_095);
    if let Some(rule) = mixed.first_mut() {
        rule.shadow = true;
    }
    assert!(compile(&mixed).unwrap_err().contains("4094 packet rules and 1 in shadow mode"));
    assert_eq!(compile(&[]).expect("nothing").print, 0);
    assert_ne!(compile(&many(2, v4)).expect("room").print, compile(&many(3, v4)).expect("room").print);
}
