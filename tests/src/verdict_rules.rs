//! The packet rules of the verdict table's world.

use proxy_common::abi::{frag, rule_action};
use proxy_common::classify::{Base, Bits, Probe, Question};
use proxy_common::fingerprint::{SynPattern, Window, quirk};
use proxy_common::parse::LOOPBACK;
use proxy_core::policy::{Cube, PacketRule};
use proxy_core::ranges::{RangeSet, network_ranges};

use crate::packets::{RST, SYN};

const RULE_NET: &str = "198.18.99.0/24";
const SHADOWED: &str = "198.18.98.0/24"; // sources of a shadow rule

/// Protocol bits of a cube.
const TCP: u8 = 1;
const UDP: u8 = 2;
const ICMP: u8 = 4;
const ICMP6: u8 = 8;
/// Sources of rules on rare fields.
const RARE_NET: &str = "198.18.97.0/24";
const RARE_NET6: &str = "2001:db8:97::/48";

/// Sources of rules that look at the packet's bytes.
pub const PROBED_NET: &str = "198.18.96.0/24";
/// The same for IPv6.
const PROBED_NET6: &str = "2001:db8:96::/48";

fn probed() -> Cube {
    Cube { src: net(PROBED_NET), frag: frag::NONE | frag::FIRST, ..Cube::all() }
}

fn syns() -> Cube {
    Cube { protos: TCP, tcp_mask: SYN | RST, tcp_flags: SYN, src: net(PROBED_NET).union(&net(PROBED_NET6)), ..probed() }
}

fn bits(base: Base, offset: u16, length: u8, mask: u64, value: u64) -> Probe {
    let bits = Bits { proto: 0, base, offset, length, mask, low: value, high: value };
    Probe { negated: false, question: Question::Bits(bits) }
}

fn not(probe: Probe) -> Probe {
    Probe { negated: true, ..probe }
}

fn interface(index: u32) -> RangeSet {
    RangeSet::new(vec![(index.into(), index.into())])
}

/// `*:64:0:1460:mss*44,7:mss,sok,ts,nop,ws:df,id+:0`
fn linux() -> SynPattern {
    SynPattern {
        ttl: [29, 64],
        ip_options: Some(0),
        mss: Some(1_460),
        window: Window::Mss(44),
        scale: Some(7),
        layout: Some((5, [0, 0x02_0408_0103], 0)),
        quirks: Some(quirk::DF | quirk::ID_SET),
        data: Some(0),
        ..SynPattern::ANY
    }
}

/// `*:*:*:*:*,*:*:seq-,bad:*`
fn malformed() -> SynPattern {
    SynPattern { quirks: Some(quirk::SEQ_ZERO | quirk::BAD | quirk::ID_SET | quirk::DF), ..SynPattern::ANY }
}

/// Numbers from `low` to `high`.
fn range(low: u16, high: u16) -> RangeSet {
    RangeSet::new(vec![(low.into(), high.into())])
}

fn net(text: &str) -> RangeSet {
    RangeSet::new(network_ranges(text.parse().expect("a prefix")))
}

/// The rules, in order.
#[rustfmt::skip] // one rule, one line
pub fn rules() -> Vec<PacketRule> {
    let all = || Cube { src: net(RULE_NET), ..Cube::all() };
    let drop = |slot, cube| PacketRule { cube, action: rule_action::DROP, slot, shadow: false };
    let allow = |slot, cube| PacketRule { cube, action: rule_action::ALLOW, slot, shadow: false };
    let syn_rst = SYN | RST;
    vec![
        allow(20, Cube { protos: TCP, dport: range(9_000, 9_100), ..all() }),
        drop(21, Cube { protos: TCP, frag: frag::NONE | frag::FIRST, tcp_mask: syn_rst, tcp_flags: syn_rst, ..all() }),
        drop(22, Cube { protos: TCP, dport: range(80, 80), sport: range(1, 1_023), ..all() }),
        drop(23, Cube { protos: UDP, dport: range(443, 443), len: range(0, 40), ..all() }),
        drop(24, Cube { protos: TCP, ttl: range(0, 4), ..all() }),
        drop(25, Cube { frag: frag::FIRST | frag::LATER, ..all() }),
        drop(26, Cube { protos: ICMP, ..all() }),
        // Not bound to the source net: an allow rule that beats a verdict on one port of one destination.
        allow(27, Cube { src: Cube::all().src, dst: net("192.0.2.1/32"), protos: TCP, dport: range(8_080, 8_080), ..all() }),
        drop(28, Cube { protos: TCP, dport: range(4_000, 4_999), ..all() }),
        drop(29, Cube { protos: ICMP6, frag: frag::NONE | frag::FIRST, icmp_type: range(130, 132), src: net(RARE_NET6), ..Cube::all() }),
        drop(30, Cube { vlan: range(7, 7), src: net(RARE_NET), dport: range(1, 100), ..Cube::all() }),
        drop(31, Cube { protos: TCP, frag: frag::NONE | frag::FIRST, window: range(0, 1_024), src: net(RARE_NET), ..Cube::all() }),
        // Behind candidates whose records do not hold.
        drop(32, Cube { protos: TCP, dport: range(25, 25), src: net(RARE_NET), ..Cube::all() }),
        // What the packet's bytes tell: port 9 on UDP, the header with a mask, SYNs; and where it came in.
        drop(33, Cube { protos: UDP, probes: vec![bits(Base::Payload, 2, 2, u64::MAX, 0x0304)], ..probed() }),
        drop(34, Cube { protos: UDP, probes: vec![bits(Base::Payload, 0, 8, 0xff00_0000_00ff_0000, 0xaa00_0000_00aa_0000)], ..probed() }),
        drop(35, Cube { protos: UDP, probes: vec![not(bits(Base::Upper, 0, 1, 0, 0))], dport: range(7, 7), ..probed() }),
        drop(36, Cube { probes: vec![bits(Base::Network, 1, 1, 0xfc, 0xb8)], src: net(PROBED_NET).union(&net(PROBED_NET6)), ..Cube::all() }),
        drop(37, Cube { probes: vec![Probe { negated: false, question: Question::Syn(linux()) }], ..syns() }),
        drop(38, Cube { probes: vec![Probe { negated: false, question: Question::Syn(malformed()) }], ..syns() }),
        drop(39, Cube { interfaces: interface(LOOPBACK), protos: TCP, dport: range(1, 1), ..probed() }),
        drop(44, Cube { interfaces: interface(LOOPBACK + 1), protos: TCP, dport: range(2, 3), ..probed() }),
        drop(45, Cube { interfaces: interface(LOOPBACK + 1).complement(u32::MAX.into()), protos: TCP, dport: range(3, 3), ..probed() }),
        // All of several, and behind candidates whose probes do not hold.
        drop(46, Cube { protos: TCP, probes: vec![not(bits(Base::Payload, 3, 1, 0, 0)), bits(Base::Payload, 0, 3, u64::MAX, 0xaa_aaaa)], dport: range(4, 4), ..probed() }),
        drop(47, Cube { protos: UDP, dport: range(5, 5), ..probed() }),
        // Shadow rules: a drop beside the enforced ones, and an allow rule that would have spared.
        PacketRule { shadow: true, ..drop(40, Cube { protos: TCP, dport: range(4_900, 5_100), ..all() }) },
        PacketRule { shadow: true, ..drop(41, Cube { src: net(SHADOWED), ..all() }) },
        PacketRule { shadow: true, ..allow(42, Cube { protos: TCP, dport: range(4_001, 4_010), ..all() }) },
        PacketRule { shadow: true, ..allow(43, Cube { src: net("203.0.113.0/24"), dport: range(80, 80), ..all() }) },
    ]
}
