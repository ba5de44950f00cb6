//! Generated expressions: the evaluator against a naive interpreter, and the packet rules against the evaluator.

use proptest::prelude::*;
use proxy_common::abi::{frag, rule_action};
use proxy_common::addr::Addr;
use proxy_common::classify::Base;
use proxy_common::fingerprint::{self, Syn};
use proxy_common::parse::{NO_VLAN, Packet};

use super::classes::PacketRule;
use super::interfaces::{Interfaces, stand_in};
use super::lang::{
    Facts, FlagField, IntField, IpField, Lists, PacketTerm, Place, ProtoSet, TextField, parse, signature,
};
use super::packet::{Lowered, lower};
use super::sample_frame::{self, SampleFrame};
use proxy_common::parse::Frame as _;

mod world;

use world::{World, naive_number};

/// An expression, apart from how it is written.
#[derive(Clone, Debug)]
enum Tree {
    Not(Box<Tree>),
    And(Box<Tree>, Box<Tree>),
    Or(Box<Tree>, Box<Tree>),
    Xor(Box<Tree>, Box<Tree>),
    Source(&'static str, u32, u32),
    Number(&'static str, &'static str, u64),
    Ports(&'static str, Vec<(u64, u64)>),
    Proto(&'static str, &'static str),
    Flag(&'static str),
    Text(bool, &'static str, &'static str, &'static str),
    Interface(&'static str, &'static str),
    /// Header, bits from and to, operator, number.
    Bits(&'static str, u64, u64, &'static str, u64),
    /// Header, offset, mask, value.
    Slice(&'static str, usize, Option<Vec<u8>>, &'static str, Vec<u8>),
    /// Operator, and one of [`WANTED`].
    Fingerprint(&'static str, usize),
}

/// What SYNs look like, and which of [`WANTED`] say so whatever the rest of the packet is.
const SENT: [(&str, [bool; 4]); 3] = [
    ("*:*:0:1460:*,7:mss,sok,ts,nop,ws", [true, true, false, false]),
    ("*:*:0:1460:*,2:mss,nop,ws,nop,nop,sok", [true, false, true, false]),
    ("*:*:0:536:*,0:mss", [true, false, false, true]),
];

/// Signatures of rules; the last two ask for the IP version and for the TTL.
const WANTED: [&str; 6] = [
    "*:*:*:*:*,*:*",
    "*:*:0:*:*,7:mss,sok,ts,nop,ws",
    "*:*:*:*:*,2:*:df,id+:*",
    "*:*:*:536:*,*:mss",
    "4:*:*:*:*,*:*",
    "*:4:*:*:*,*:*",
];

impl Tree {
    /// As text; `level` is how tightly the place binds.
    fn write(&self, level: u8) -> String {
        let (own, text) = match self {
            Self::Or(a, b) => (0, format!("{} or {}", a.write(0), b.write(0))),
            Self::Xor(a, b) => (1, format!("{} ^^ {}", a.write(1), b.write(2))),
            Self::And(a, b) => (2, format!("{} && {}", a.write(2), b.write(2))),
            Self::Not(a) => (3, format!("not {}", a.write(3))),
            Self::Source(op, low, high) => {
                let (low, high) = (std::net::Ipv4Addr::from_bits(*low), std::net::Ipv4Addr::from_bits(*high));
                (4, if *op == "in" { format!("ip.src in {{{low}..{high}}}") } else { format!("ip.src {op} {low}") })
            }
            Self::Number(field, op, n) => (4, format!("{field} {op} {n}")),
            Self::Ports(field, ranges) => {
                let items: Vec<String> = ranges.iter().map(|(low, high)| format!("{low}..{high}")).collect();
                (4, format!("{field} in {{{}}}", items.join(" ")))
            }
            Self::Proto(op, name) => (4, format!("ip.proto {op} \"{name}\"")),
            Self::Flag(name) => (4, (*name).to_owned()),
            Self::Text(lower, field, op, literal) => {
                let value = if *lower { format!("lower({field})") } else { (*field).to_owned() };
                let call = matches!(*op, "starts_with" | "ends_with");
                (4, if call { format!("{op}({value}, \"{literal}\")") } else { format!("{value} {op} \"{literal}\"") })
            }
            Self::Interface(op, name) => (4, format!("tidegate.interface {op} \"{name}\"")),
            Self::Bits(header, from, to, op, n) => (4, format!("bit_slice({header}, {from}, {to}) {op} {n}")),
            Self::Slice(header, offset, mask, op, value) => {
                let string = |bytes: &[u8]| -> String {
                    bytes.iter().fold(String::new(), |text, byte| text + &format!("\\x{byte:02x}"))
                };
                let mask = mask.as_ref().map_or_else(String::new, |mask| format!(" & \"{}\"", string(mask)));
                let slice = format!("{header}.payload[{offset}:{}]{mask}", value.len());
                (4, format!("{slice} {op} \"{}\"", string(value)))
            }
            Self::Fingerprint(op, wanted) => (4, format!("tcp.syn.fingerprint {op} \"{}\"", WANTED[*wanted])),
        };
        if own < level { format!("({text})") } else { text }
    }

    /// What it means, word by word.
    fn holds(&self, world: &World) -> bool {
        let packet = &world.packet;
        match self {
            Self::Not(a) => !a.holds(world),
            Self::And(a, b) => a.holds(world) && b.holds(world),
            Self::Or(a, b) => a.holds(world) || b.holds(world),
            Self::Xor(a, b) => a.holds(world) ^ b.holds(world),
            Self::Source(op, low, high) => {
                let bytes = packet.src.to_bytes();
                let v4 = bytes.starts_with(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
                let n = u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
                match *op {
                    "in" => v4 && (*low..=*high).contains(&n),
                    "eq" => v4 && n == *low,
                    _ => !(v4 && n == *low),
                }
            }
            Self::Number(field, op, n) => naive_number(packet, field).is_some_and(|value| match *op {
                "eq" => value == *n,
                "ne" => value != *n,
                "lt" => value < *n,
                "le" => value <= *n,
                "gt" => value > *n,
                _ => value >= *n,
            }),
            Self::Ports(field, ranges) => {
                naive_number(packet, field).is_some_and(|n| ranges.iter().any(|(low, high)| *low <= n && n <= *high))
            }
            Self::Proto(op, name) => {
                let own = match packet.proto {
                    6 => "tcp",
                    17 => "udp",
                    1 => "icmp",
                    58 => "icmpv6",
                    _ => return false,
                };
                (own == *name) == (*op == "eq")
            }
            Self::Interface(op, name) => (world.interface == *name) == (*op == "eq"),
            Self::Bits(header, from, to, op, n) => {
                let start = match *header {
                    "ip" => Some(packet.network),
                    name => world.has_header(name).then_some(packet.upper),
                };
                let bit = |at: u64| {
                    let byte = usize::from(start?) + (at / 8) as usize;
                    let inside = byte < packet.end();
                    inside.then(|| world.frame[byte] >> (7 - at % 8) & 1)
                };
                let bits: Option<u64> = (*from..*to).map(bit).try_fold(0, |n, bit| Some(n << 1 | u64::from(bit?)));
                bits.is_some_and(|value| match *op {
                    "eq" => value == *n,
                    "ne" => value != *n,
                    "lt" => value < *n,
                    _ => value >= *n,
                })
            }
            Self::Slice(header, offset, mask, op, value) => {
                let at = usize::from(packet.payload) + offset;
                if !world.has_header(header) || at + value.len() > packet.end() {
                    return false;
                }
                let bytes = &world.frame[at..at + value.len()];
                let mask = mask.clone().unwrap_or_else(|| vec![0xff; value.len()]);
                let same = bytes.iter().zip(&mask).map(|(byte, mask)| byte & mask).eq(value.iter().copied());
                same == (*op == "eq")
            }
            Self::Fingerprint(op, wanted) => {
                let known = world.has_header("tcp")
                    && packet.tcp_flags & 0x17 == 2
                    && usize::from(packet.payload) <= packet.end();
                let looks = match wanted {
                    4 => packet.src.is_v4(),
                    5 => packet.ttl <= 4,
                    wanted => SENT[world.sent].1[*wanted],
                };
                known && looks == (*op == "eq")
            }
            Self::Flag("ip.fragment") => packet.frag != frag::NONE,
            Self::Flag(name) => {
                let bit = if *name == "tcp.flags.syn" { 2 } else { 16 };
                packet.proto == 6 && packet.ports && packet.tcp_flags & bit != 0
            }
            Self::Text(lower, field, op, literal) => {
                let values: Vec<&str> =
                    if *field == "http.host" { world.host.into_iter().collect() } else { world.many.clone() };
                values.iter().any(|value| {
                    let value = if *lower { value.to_lowercase() } else { (*value).to_owned() };
                    match *op {
                        "eq" => value == *literal,
                        "ne" => value != *literal,
                        "ge" => value.as_str() >= *literal,
                        "contains" => value.contains(literal),
                        "starts_with" => value.starts_with(literal),
                        _ => value.ends_with(literal),
                    }
                })
            }
        }
    }
}

const SOURCES: u32 = 0x0a00_0000;

fn packet_leaf() -> impl Strategy<Value = Tree> {
    let number = prop::sample::select(vec![
        "ip.ttl",
        "ip.len",
        "tcp.dstport",
        "tcp.srcport",
        "udp.dstport",
        "tcp.window_size_value",
        "icmp.type",
        "icmp.code",
        "vlan.id",
    ]);
    let order = prop::sample::select(vec!["eq", "ne", "lt", "le", "gt", "ge"]);
    let ports = prop::collection::vec((0_u64..6, 0_u64..3).prop_map(|(low, more)| (low, low + more)), 1..3);
    let source = prop::sample::select(vec!["in", "eq", "ne"]);
    prop_oneof![
        (source, 0_u32..8, 0_u32..4).prop_map(|(op, low, more)| Tree::Source(op, SOURCES + low, SOURCES + low + more)),
        (number.clone(), order, 0_u64..8).prop_map(|(field, op, n)| Tree::Number(field, op, n)),
        (number, ports).prop_map(|(field, ranges)| Tree::Ports(field, ranges)),
        (prop::sample::select(vec!["eq", "ne"]), prop::sample::select(vec!["tcp", "udp", "icmp", "icmpv6"]))
            .prop_map(|(op, name)| Tree::Proto(op, name)),
        prop::sample::select(vec!["tcp.flags.syn", "tcp.flags.ack", "ip.fragment"]).prop_map(Tree::Flag),
        probe_leaf(),
    ]
}

fn probe_leaf() -> impl Strategy<Value = Tree> {
    let equal = || prop::sample::select(vec!["eq", "ne"]);
    let order = prop::sample::select(vec!["eq", "ne", "lt", "ge"]);
    let header = prop::sample::select(vec!["ip", "tcp", "udp", "icmp"]);
    let upper = prop::sample::select(vec!["tcp", "udp", "icmp"]);
    let value = prop_oneof![prop::collection::vec(0_u8..3, 1..4), prop::collection::vec(0_u8..2, 9..12)];
    prop_oneof![
        (equal(), prop::sample::select(vec!["lan", "wan"])).prop_map(|(op, name)| Tree::Interface(op, name)),
        (header, 0_u64..70, 1_u64..12, order, 0_u64..4).prop_map(|(header, from, bits, op, n)| {
            Tree::Bits(header, from, from + bits, op, n.min((1 << bits) - 1))
        }),
        (upper, 0_usize..4, any::<bool>(), equal(), value).prop_map(|(header, offset, masked, op, value)| {
            // What the mask leaves out is not asked for.
            let mask: Vec<u8> = (0..value.len() as u8).map(|n| if n % 2 == 0 { 0xff } else { 1 }).collect();
            let value = if masked { value.iter().zip(&mask).map(|(v, m)| v & m).collect() } else { value };
            Tree::Slice(header, offset, masked.then_some(mask), op, value)
        }),
        (equal(), 0..WANTED.len()).prop_map(|(op, wanted)| Tree::Fingerprint(op, wanted)),
    ]
}

fn text_leaf() -> impl Strategy<Value = Tree> {
    (
        any::<bool>(),
        prop::sample::select(vec!["http.host", "http.request.headers[\"x\"]"]),
        prop::sample::select(vec!["eq", "ne", "ge", "contains", "starts_with", "ends_with"]),
        prop::sample::select(vec!["", "a", "A", "ab", "b"]),
    )
        .prop_map(|(lower, field, op, literal)| Tree::Text(lower, field, op, literal))
}

fn tree(leaf: impl Strategy<Value = Tree> + 'static) -> impl Strategy<Value = Tree> {
    leaf.prop_recursive(4, 16, 2, |inner| {
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            inner.prop_map(|a| Tree::Not(Box::new(a))),
            pair.clone().prop_map(|(a, b)| Tree::And(Box::new(a), Box::new(b))),
            pair.clone().prop_map(|(a, b)| Tree::Or(Box::new(a), Box::new(b))),
            pair.prop_map(|(a, b)| Tree::Xor(Box::new(a), Box::new(b))),
        ]
    })
}

prop_compose! {
    fn world()(
        v4 in any::<bool>(), source in 0_u32..10, proto in prop::sample::select(vec![6_u8, 17, 1, 58, 47]),
        state in prop::sample::select(vec![frag::NONE, frag::FIRST, frag::LATER]), flags in 0_u8..32,
        numbers in (0_u16..9, 0_u16..9, 0_u16..9, 0_u8..9),
        rare in (0_u8..9, 0_u8..9, prop_oneof![Just(NO_VLAN), 0_u16..9], 0_u16..9),
        host in prop::sample::select(vec![None, Some(""), Some("a"), Some("AB"), Some("b")]),
        many in prop::collection::vec(prop::sample::select(vec!["", "a", "Ab", "b"]), 0..3),
        payload in prop::collection::vec(0_u8..3, 0..14), sized in any::<bool>(),
        interface in prop::sample::select(vec!["lan", "wan"]), sent in 0..SENT.len(),
    ) -> World {
        let mut bytes = [0; 16];
        if v4 {
            bytes[10] = 0xff;
            bytes[11] = 0xff;
        }
        bytes[12..].copy_from_slice(&(SOURCES + source).to_be_bytes());
        let ports = state != frag::LATER && (proto == 6 || proto == 17);
        let (sport, dport, len, ttl) = numbers;
        let icmp = state != frag::LATER && (proto == 1 || proto == 58);
        let mut packet = Packet {
                sport: if ports { sport } else { 0 },
                dport: if ports { dport } else { 0 },
                len,
                proto,
                ttl,
                tcp_flags: if proto == 6 && ports { flags } else { 0 },
                frag: state,
                ports,
                icmp_type: if icmp { rare.0 } else { 0 },
                icmp_code: if icmp { rare.1 } else { 0 },
                vlan: rare.2,
                window: if proto == 6 && ports { rare.3 } else { 0 },
                ..Packet::between(Addr::from_bytes(bytes), Addr::from_bytes(bytes))
            };
        let pattern = signature::parse(SENT[sent].0).expect("a signature");
        let frame = sample_frame::frame(&mut packet, &payload, Some(&pattern), stand_in(interface), sized);
        let frame = (0..frame.len()).map(|at| frame.bytes::<1>(at).expect("a byte")[0]).collect();
        World { packet, frame, interface, sent, host, many }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn as_the_naive_interpreter(tree in tree(prop_oneof![packet_leaf(), text_leaf()].boxed()), world in world()) {
        let text = tree.write(0);
        let expr = parse(&text, &Lists::new(), None).unwrap_or_else(|e| panic!("{}", e.render(&text)));
        prop_assert_eq!(expr.holds(&world), tree.holds(&world), "{}", text);
    }

    #[test]
    fn packet_rules_are_the_expression(
        tree in tree(packet_leaf().boxed()), worlds in prop::collection::vec(world(), 1..40),
    ) {
        let text = tree.write(0);
        let expr = parse(&text, &Lists::new(), None).unwrap_or_else(|e| panic!("{}", e.render(&text)));
        match lower(&expr, Interfaces(&[])) {
            Err(message) => {
                let bound = message.contains("packet phase") || message.contains("places of one packet's bytes");
                prop_assert!(bound, "{}", message);
            }
            Ok(Lowered::Sources(set)) => for world in &worlds {
                let source = u128::from_be_bytes(world.packet.src.to_bytes());
                prop_assert_eq!(set.contains(source), expr.holds(world), "{}", text);
            },
            Ok(Lowered::Rules(cubes)) => {
                let rules: Vec<PacketRule> =
                    cubes.into_iter().map(|cube| PacketRule { cube, action: rule_action::DROP, slot: 1, shadow: false }).collect();
                for world in &worlds {
                    let dropped = rules.iter().any(|rule| rule.matches(&world.frame(), &world.packet));
                    prop_assert_eq!(dropped, expr.holds(world), "{} of {:?}", text, world.packet);
                }
            }
        }
    }
}
