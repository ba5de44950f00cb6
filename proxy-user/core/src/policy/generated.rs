//! Generated expressions: the evaluator against a naive interpreter, and the packet rules against the evaluator.

use proptest::prelude::*;
use proxy_common::abi::{frag, rule_action};
use proxy_common::addr::Addr;
use proxy_common::parse::{NO_VLAN, Packet};

use super::classes::PacketRule;
use super::lang::{Facts, FlagField, IntField, IpField, Lists, ProtoSet, TextField, parse};
use super::packet::{Lowered, lower};

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
}

/// What a tree is about: a packet, and strings that may be missing.
#[derive(Clone, Debug)]
struct World {
    packet: Packet,
    host: Option<&'static str>,
    many: Vec<&'static str>,
}

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

fn naive_number(packet: &Packet, field: &str) -> Option<u64> {
    Some(match field {
        "ip.ttl" => packet.ttl.into(),
        "ip.len" => packet.len.into(),
        "tcp.dstport" if packet.proto == 6 && packet.ports => packet.dport.into(),
        "tcp.window_size_value" if packet.proto == 6 && packet.ports => packet.window.into(),
        "icmp.type" if matches!(packet.proto, 1 | 58) && packet.frag != frag::LATER => packet.icmp_type.into(),
        "icmp.code" if matches!(packet.proto, 1 | 58) && packet.frag != frag::LATER => packet.icmp_code.into(),
        "vlan.id" if packet.vlan != NO_VLAN => packet.vlan.into(),
        "tcp.srcport" if packet.proto == 6 && packet.ports => packet.sport.into(),
        "udp.dstport" if packet.proto == 17 && packet.ports => packet.dport.into(),
        _ => return None,
    })
}

impl Facts for World {
    fn ip(&self, field: IpField) -> Option<u128> {
        let addr = if field == IpField::Src { self.packet.src } else { self.packet.dst };
        Some(u128::from_be_bytes(addr.to_bytes()))
    }

    fn int(&self, field: IntField) -> Option<u128> {
        let name = match field {
            IntField::Ttl => "ip.ttl",
            IntField::Len => "ip.len",
            IntField::TcpSrc => "tcp.srcport",
            IntField::TcpDst => "tcp.dstport",
            IntField::UdpSrc => "udp.srcport",
            IntField::UdpDst => "udp.dstport",
            IntField::TcpWindow => "tcp.window_size_value",
            IntField::IcmpType => "icmp.type",
            IntField::IcmpCode => "icmp.code",
            IntField::Vlan => "vlan.id",
            IntField::Http(_) => return None,
        };
        naive_number(&self.packet, name).map(Into::into)
    }

    fn proto(&self) -> Option<ProtoSet> {
        ProtoSet::NAMES
            .iter()
            .find(|(_, n)| *n == self.packet.proto)
            .and_then(|(name, _)| ProtoSet::by_name(name.as_bytes()))
    }

    fn flag(&self, field: FlagField) -> Option<bool> {
        match field {
            FlagField::Fragment => Some(self.packet.frag != frag::NONE),
            FlagField::Tcp(bit) => {
                (self.packet.proto == 6 && self.packet.ports).then_some(self.packet.tcp_flags & bit != 0)
            }
            FlagField::Ssl => None,
        }
    }

    fn text(&self, field: &TextField, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        match field {
            TextField::Host => self.host.is_some_and(|host| test(host.as_bytes())),
            _ => self.many.iter().any(|value| test(value.as_bytes())),
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
        World {
            packet: Packet {
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
            },
            host,
            many,
        }
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
        match lower(&expr) {
            Err(message) => prop_assert!(message.contains("packet phase"), "{}", message),
            Ok(Lowered::Sources(set)) => for world in &worlds {
                let source = u128::from_be_bytes(world.packet.src.to_bytes());
                prop_assert_eq!(set.contains(source), expr.holds(world), "{}", text);
            },
            Ok(Lowered::Rules(cubes)) => {
                let rules: Vec<PacketRule> =
                    cubes.into_iter().map(|cube| PacketRule { cube, action: rule_action::DROP, slot: 1, shadow: false }).collect();
                for world in &worlds {
                    let dropped = rules.iter().any(|rule| rule.matches(&world.packet));
                    prop_assert_eq!(dropped, expr.holds(world), "{} of {:?}", text, world.packet);
                }
            }
        }
    }
}
