//! Made-up packet rules: of any field, of the packet's bytes, of a SYN's fingerprint.

use std::net::IpAddr;

use ipnet::IpNet;
use proxy_common::abi::{frag, proto, rule_action};
use proxy_common::classify::{Base, Bits, Probe, Question};
use proxy_common::fingerprint::{SynPattern, Window, quirk};
use proxy_common::parse::LOOPBACK;
use proxy_core::policy::{Cube, PacketRule, compile_rules};
use proxy_core::ranges::{RangeSet, network_ranges};

use super::worlds::destinations;
use crate::packets::{RST, SYN};
use crate::random::Random;

/// Layouts of options that frames have, as a pattern names them.
const LAYOUTS: [(u8, [u64; 2], u8); 5] = [
    (0, [0, 0], 0),
    (1, [0, 0x02], 0),
    (5, [0, 0x02_0408_0103], 0),
    (6, [0, 0x0201_0301_0104], 0),
    (4, [0, 0x0101_0101], 0),
];

/// Packet rules; fewer than asked for where their tables would not fit.
pub fn rules(sources: &[IpAddr], ports: &[u16], count: usize, random: &mut Random) -> Vec<PacketRule> {
    let mut rules: Vec<PacketRule> = (1..=count as u32)
        .map(|slot| PacketRule {
            cube: cube(sources, ports, random),
            action: random.pick(&[rule_action::DROP, rule_action::DROP, rule_action::DROP, rule_action::ALLOW]),
            slot,
            shadow: random.once_in(4),
        })
        .collect();
    while compile_rules(&rules).is_err() {
        rules.truncate(rules.len() * 3 / 4);
    }
    rules
}

/// A set of packets: mostly a source and a field or two.
fn cube(sources: &[IpAddr], ports: &[u16], random: &mut Random) -> Cube {
    let mut cube = Cube::all();
    let around = |random: &mut Random| {
        let source = random.pick(sources);
        let bits = if source.is_ipv4() { random.between(16, 32) } else { random.between(32, 128) };
        let net = IpNet::new(source, bits as u8).unwrap_or_default().trunc();
        RangeSet::new(network_ranges(net))
    };
    let range = |of: &[u16], random: &mut Random| {
        let (a, b) = (random.pick(of), random.pick(of));
        RangeSet::new(vec![(a.min(b).into(), a.max(b).into())])
    };
    cube.src = around(random);
    if random.once_in(4) {
        probe(&mut cube, random);
    }
    for _ in 0..random.between(1, 3) {
        match random.below(13) {
            0 => cube.src = Cube::all().src,
            1 => cube.dst = RangeSet::new(network_ranges(random.pick(&destinations()).into())),
            2 => cube.protos = random.pick(&[1, 2, 3, 4, 8, 12, 16, 31]),
            3 => cube.frag = random.pick(&[frag::NONE, frag::FIRST, frag::LATER, frag::FIRST | frag::LATER]),
            4 => cube.sport = range(ports, random),
            5 => cube.dport = range(ports, random),
            6 => cube.len = range(&[0, 28, 40, 60, 64, 120, 1_500, 65_535], random),
            7 => cube.ttl = range(&[0, 1, 4, 63, 64, 128, 255], random),
            8 => cube.icmp_type = range(&[0, 3, 8, 128, 130, 135, 255], random),
            9 => cube.vlan = range(&[0, 7, 8, 100, 4_095, 65_535], random),
            10 => cube.window = range(&[0, 1_024, 29_200, 65_535], random),
            11 => cube.interfaces = range(&[0, 1, LOOPBACK as u16, 2, 9], random),
            _ => {
                cube.protos = 1;
                cube.frag = frag::NONE | frag::FIRST;
                cube.tcp_mask = random.pick(&[2, 3, 6, 18, 63]);
                cube.tcp_flags = random.word() as u8 & cube.tcp_mask;
            }
        }
    }
    if cube.tcp_mask != 0 {
        // As the compiler has it: who looks at flags looks at TCP headers.
        cube.protos = 1;
        cube.frag &= frag::NONE | frag::FIRST;
        cube.frag |= frag::NONE;
    }
    cube
}

/// Asks of up to three places in the packet, or for a SYN.
fn probe(cube: &mut Cube, random: &mut Random) {
    if random.once_in(3) {
        cube.probes = vec![Probe { negated: false, question: Question::Syn(pattern(random)) }];
        (cube.protos, cube.tcp_mask, cube.tcp_flags) = (1, SYN | RST, SYN);
        return;
    }
    let mut probes: Vec<Probe> = (0..random.between(1, 3))
        .map(|_| {
            let length = random.between(1, 8) as u8;
            let all = u64::MAX >> (64 - 8 * u32::from(length));
            // Of the alphabet of payloads, of zeros, or any.
            let (any, some) = (random.word(), random.word());
            let value = random.pick(&[0, 0x47, 0x4745, 0x16, 0xff, 0x4554_0016, any]) & all;
            let mask = random.pick(&[all, all, 0xff, 0x80, some & all]);
            let bits = Bits {
                proto: random.pick(&[0, proto::TCP, proto::UDP, proto::ICMP]),
                base: random.pick(&[Base::Network, Base::Upper, Base::Payload, Base::Payload]),
                offset: random.pick(&[0, 0, 1, 2, 4, 12, 13, 60, 99]),
                length,
                mask,
                low: random.pick(&[0, value & mask]),
                high: value & mask,
            };
            Probe { negated: random.once_in(4), question: Question::Bits(bits) }
        })
        .collect();
    probes.sort_unstable();
    probes.dedup();
    cube.probes = probes;
}

/// A signature that leaves most open.
fn pattern(random: &mut Random) -> SynPattern {
    SynPattern {
        version: random.pick(&[0, 0, 4, 6]),
        ttl: random.pick(&[[0, 255], [29, 64], [64, 64], [5, 128]]),
        ip_options: random.pick(&[None, None, Some(0)]),
        mss: random.pick(&[None, None, Some(1_460), Some(0)]),
        window: random.pick(&[
            Window::Any,
            Window::Exact(1_024),
            Window::Mss(44),
            Window::Mss(20),
            Window::Mtu(1),
            Window::MultipleOf(1_024),
        ]),
        scale: random.pick(&[None, None, Some(7), Some(0)]),
        layout: if random.once_in(2) { Some(random.pick(&LAYOUTS)) } else { None },
        quirks: random.pick(&[None, None, Some(quirk::DF | quirk::ID_SET), Some(quirk::ID_ZERO), Some(quirk::BAD)]),
        data: random.pick(&[None, Some(0), Some(1)]),
    }
}
