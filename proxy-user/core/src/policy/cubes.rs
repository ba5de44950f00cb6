//! Conditions on packets as unions of cubes: each cube is one set of values for every packet field. Exact, also for fields
//! that a packet does not have, so that what the kernel does is what the expression says.

use proxy_common::abi::{frag, proto};
use proxy_common::classify::{MAX_PROBES, Probe, Question};
use proxy_common::fingerprint::SynPattern;
use proxy_common::parse::NO_VLAN;
use proxy_common::wire::tcp_flag;

use super::interfaces::Interfaces;
use super::lang::{Expr, FlagField, IntField, IntTerm, IpField, PacketTerm, Place, ProtoSet};
use crate::ranges::{RangeSet, V4_FIRST, V4_LAST};

/// Most cubes that an expression may come to on the way.
const MAX_CUBES: usize = 4_096;
/// The bit of [`Cube::protos`] that stands for all protocols without a name.
pub(super) const OTHER: u8 = 1 << ProtoSet::NAMES.len();
/// Every protocol.
pub(super) const ANY_PROTO: u8 = ProtoSet::ALL.0 | OTHER;
/// Bits of [`Cube::protos`], in the order of [`ProtoSet::NAMES`].
const TCP: u8 = 1;
const UDP: u8 = 2;
/// ICMP and `ICMPv6`.
const ICMP: u8 = 4 | 8;
/// Fragment states in which the transport header can be read.
const WITH_HEADER: u8 = frag::NONE | frag::FIRST;

/// Sets of values; a packet is in the cube if each of its values is in the field's set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cube {
    /// Source addresses, v4-mapped.
    pub src: RangeSet,
    /// Destination addresses.
    pub dst: RangeSet,
    /// Protocols: bit 0 is TCP, 1 UDP, 2 ICMP, 3 `ICMPv6`, 4 all others.
    pub protos: u8,
    /// Fragment states, bits of [`frag`].
    pub frag: u8,
    /// Source ports; the full set also holds packets without ports.
    pub sport: RangeSet,
    /// Destination ports, likewise.
    pub dport: RangeSet,
    /// Length of the IP packet in bytes, as its header says.
    pub len: RangeSet,
    /// TTL or hop limit.
    pub ttl: RangeSet,
    /// ICMP and `ICMPv6` types.
    pub icmp_type: RangeSet,
    /// ICMP and `ICMPv6` codes.
    pub icmp_code: RangeSet,
    /// VLAN ids; [`NO_VLAN`] stands for an untagged frame.
    pub vlan: RangeSet,
    /// TCP windows as sent.
    pub window: RangeSet,
    /// Mask over the TCP flags byte; 0 does not look at flags. With a mask, `protos` is TCP and `frag` has no later ones.
    pub tcp_mask: u8,
    /// Value of the flags byte under the mask.
    pub tcp_flags: u8,
    /// Indexes of interfaces.
    pub interfaces: RangeSet,
    /// What the packet's bytes must answer, sorted; all of them.
    pub probes: Vec<Probe>,
}

impl Cube {
    /// All packets.
    pub fn all() -> Self {
        let (ports, bytes) = (RangeSet::full(u16::MAX.into()), RangeSet::full(u8::MAX.into()));
        Self {
            src: RangeSet::full(u128::MAX),
            dst: RangeSet::full(u128::MAX),
            protos: ANY_PROTO,
            frag: frag::ANY,
            sport: ports.clone(),
            dport: ports.clone(),
            len: ports.clone(),
            ttl: bytes.clone(),
            icmp_type: bytes.clone(),
            icmp_code: bytes,
            vlan: ports.clone(),
            window: ports,
            tcp_mask: 0,
            tcp_flags: 0,
            interfaces: RangeSet::full(u32::MAX.into()),
            probes: Vec::new(),
        }
    }

    /// Whether it looks at nothing but the source.
    pub fn is_source_only(&self) -> bool {
        Self { src: RangeSet::full(u128::MAX), ..self.clone() } == Self::all()
    }

    /// Sets of the fields that few rules look at: ICMP type and code, VLAN id, TCP window, interface.
    pub fn rare(&self) -> [&RangeSet; 5] {
        [&self.icmp_type, &self.icmp_code, &self.vlan, &self.window, &self.interfaces]
    }

    fn and(&self, other: &Self) -> Option<Self> {
        let shared = self.tcp_mask & other.tcp_mask;
        if self.tcp_flags & shared != other.tcp_flags & shared {
            return None;
        }
        let cube = Self {
            src: self.src.intersection(&other.src),
            dst: self.dst.intersection(&other.dst),
            protos: self.protos & other.protos,
            frag: self.frag & other.frag,
            sport: self.sport.intersection(&other.sport),
            dport: self.dport.intersection(&other.dport),
            len: self.len.intersection(&other.len),
            ttl: self.ttl.intersection(&other.ttl),
            icmp_type: self.icmp_type.intersection(&other.icmp_type),
            icmp_code: self.icmp_code.intersection(&other.icmp_code),
            vlan: self.vlan.intersection(&other.vlan),
            window: self.window.intersection(&other.window),
            tcp_mask: self.tcp_mask | other.tcp_mask,
            tcp_flags: self.tcp_flags | other.tcp_flags,
            interfaces: self.interfaces.intersection(&other.interfaces),
            probes: self.probes_with(other)?,
        };
        let sets = [&cube.src, &cube.dst, &cube.sport, &cube.dport, &cube.len, &cube.ttl];
        let empty = sets.into_iter().chain(cube.rare()).any(RangeSet::is_empty);
        (cube.protos != 0 && cube.frag != 0 && !empty).then_some(cube)
    }

    /// The probes of both, each once; none where one is to hold and not to.
    fn probes_with(&self, other: &Self) -> Option<Vec<Probe>> {
        let mut probes = self.probes.clone();
        probes.extend(&other.probes);
        probes.sort_unstable();
        probes.dedup();
        let opposite = |probe: &Probe| Probe { negated: !probe.negated, ..*probe };
        let contradicts = probes.iter().any(|probe| probes.binary_search(&opposite(probe)).is_ok());
        (!contradicts).then_some(probes)
    }
}

/// The cubes of an expression over packet fields; together they hold exactly the packets for which it holds.
pub(super) fn cubes(expr: &Expr, interfaces: Interfaces<'_>) -> Result<Vec<Cube>, String> {
    Lowering { interfaces }.of(expr, false)
}

/// What lowering goes by.
struct Lowering<'a> {
    interfaces: Interfaces<'a>,
}

impl Lowering<'_> {
    fn of(&self, expr: &Expr, negated: bool) -> Result<Vec<Cube>, String> {
        Ok(match expr {
            Expr::Const(value) if *value != negated => vec![Cube::all()],
            Expr::Const(_) => Vec::new(),
            Expr::Not(inner) => self.of(inner, !negated)?,
            Expr::And(list) if negated => self.either(list, true)?,
            Expr::Or(list) if !negated => self.either(list, false)?,
            Expr::And(list) | Expr::Or(list) => self.all(list, negated)?,
            Expr::Xor(a, b) => {
                let first = product(&self.of(a, false)?, &self.of(b, !negated)?)?;
                joined(first, product(&self.of(a, true)?, &self.of(b, negated)?)?)?
            }
            Expr::Ip(field, set) => {
                let set = if negated { set.complement(u128::MAX) } else { (**set).clone() };
                let cube = match field {
                    IpField::Src => Cube { src: set, ..Cube::all() },
                    IpField::Dst => Cube { dst: set, ..Cube::all() },
                };
                cube.and(&Cube::all()).into_iter().collect()
            }
            Expr::Proto(set) => {
                let protos = if negated { ANY_PROTO & !set.0 } else { set.0 };
                Cube { protos, ..Cube::all() }.and(&Cube::all()).into_iter().collect()
            }
            Expr::Flag(FlagField::Fragment) => {
                let state = if negated { frag::NONE } else { frag::FIRST | frag::LATER };
                vec![Cube { frag: state, ..Cube::all() }]
            }
            Expr::Flag(FlagField::Tcp(bit)) => {
                let flags = if negated { 0 } else { *bit };
                let here = Cube { tcp_mask: *bit, tcp_flags: flags, ..with_header(TCP) };
                if negated { joined(without_header(TCP), vec![here])? } else { vec![here] }
            }
            Expr::Int(IntTerm::Field(field), set) => number(*field, set, negated)?,
            Expr::Int(IntTerm::Slice(place), set) => bits(*place, set, negated)?,
            Expr::Bits(IntTerm::Slice(place), mask) => {
                let mask = (mask << place.shift) & place.mask;
                let some = RangeSet::new(vec![(1, u128::from(mask >> place.shift))]);
                bits(Place { mask, ..*place }, &some, negated)?
            }
            Expr::Packet(term) => self.packet(term, negated)?,
            Expr::Int(..)
            | Expr::Bits(..)
            | Expr::Text(..)
            | Expr::All(_)
            | Expr::Flag(
                FlagField::Ssl | FlagField::BodyTruncated | FlagField::ClientVerified | FlagField::EarlyData,
            ) => {
                return Err(NO_REQUEST.to_owned());
            }
        })
    }

    fn either(&self, list: &[Expr], negated: bool) -> Result<Vec<Cube>, String> {
        list.iter().try_fold(Vec::new(), |found, expr| joined(found, self.of(expr, negated)?))
    }

    fn all(&self, list: &[Expr], negated: bool) -> Result<Vec<Cube>, String> {
        list.iter().try_fold(vec![Cube::all()], |found, expr| product(&found, &self.of(expr, negated)?))
    }

    fn packet(&self, term: &PacketTerm, negated: bool) -> Result<Vec<Cube>, String> {
        match term {
            PacketTerm::Interface(names) => {
                let index = |name: &String| self.interfaces.index(name).map(|index| (index.into(), index.into()));
                let set = RangeSet::new(names.iter().map(index).collect::<Result<_, _>>()?);
                let set = if negated { set.complement(u32::MAX.into()) } else { set };
                Ok(vec![Cube { interfaces: set, ..Cube::all() }])
            }
            PacketTerm::Syn(pattern) => Ok(vec![syn(*pattern, negated)]),
        }
    }
}

/// A probe is missing where its packet is of another protocol or too short: so that its negation holds there.
fn bits(place: Place, set: &RangeSet, negated: bool) -> Result<Vec<Cube>, String> {
    /// Negations of more ranges than this are the other ranges instead: probes of one rule are few.
    const NEGATED: usize = 2;
    let probe = |place: Place, low: u128, high: u128, negated: bool| Probe {
        negated,
        question: Question::Bits(place.bits(low as u64, high as u64)),
    };
    let here = |set: &RangeSet| {
        let known = match place.proto {
            0 => Cube::all(),
            proto::TCP => with_header(TCP),
            proto::UDP => with_header(UDP),
            _ => with_header(ICMP),
        };
        let one = |(low, high): &(u128, u128)| Cube { probes: vec![probe(place, *low, *high, false)], ..known.clone() };
        set.ranges().iter().map(one).collect::<Vec<_>>()
    };
    if !negated {
        return bounded(here(set));
    }
    if set.ranges().len() <= NEGATED {
        let mut probes: Vec<Probe> = set.ranges().iter().map(|(low, high)| probe(place, *low, *high, true)).collect();
        probes.sort_unstable();
        return Ok(vec![Cube { probes, ..Cube::all() }]);
    }
    let missing = Cube { probes: vec![probe(Place { mask: 0, ..place }, 0, 0, true)], ..Cube::all() };
    joined(vec![missing], here(&set.complement(place.most().into())))
}

/// The fields that every such SYN has spare all other packets the probe.
fn syn(pattern: SynPattern, negated: bool) -> Cube {
    let probes = vec![Probe { negated, question: Question::Syn(pattern) }];
    if negated {
        return Cube { probes, ..Cube::all() };
    }
    let [least, most] = pattern.ttl;
    // The other way round it is not sure: a v4-mapped source may stand in an IPv6 header.
    let src = if pattern.version == 4 { RangeSet::new(vec![(V4_FIRST, V4_LAST)]) } else { Cube::all().src };
    Cube {
        probes,
        src,
        ttl: RangeSet::new(vec![(least.into(), most.into())]),
        tcp_mask: tcp_flag::SYN | tcp_flag::ACK | tcp_flag::RST | tcp_flag::FIN,
        tcp_flags: tcp_flag::SYN,
        ..with_header(TCP)
    }
}

/// For what packets do not have.
const NO_REQUEST: &str = "this looks at the request, which the packet phase does not know";

fn number(field: IntField, set: &RangeSet, negated: bool) -> Result<Vec<Cube>, String> {
    let set = if negated { set.complement(field.max()) } else { set.clone() };
    let (protos, cube) = match field {
        IntField::Ttl => (None, Cube { ttl: set, ..Cube::all() }),
        IntField::Len => (None, Cube { len: set, ..Cube::all() }),
        // An untagged frame has no id, so that it is in the negation.
        IntField::Vlan if negated => {
            let untagged = RangeSet::new(vec![(NO_VLAN.into(), NO_VLAN.into())]);
            (None, Cube { vlan: set.union(&untagged), ..Cube::all() })
        }
        IntField::Vlan => (None, Cube { vlan: set, ..Cube::all() }),
        IntField::TcpSrc => (Some(TCP), Cube { sport: set, ..with_header(TCP) }),
        IntField::TcpDst => (Some(TCP), Cube { dport: set, ..with_header(TCP) }),
        IntField::TcpWindow => (Some(TCP), Cube { window: set, ..with_header(TCP) }),
        IntField::UdpSrc => (Some(UDP), Cube { sport: set, ..with_header(UDP) }),
        IntField::UdpDst => (Some(UDP), Cube { dport: set, ..with_header(UDP) }),
        IntField::IcmpType => (Some(ICMP), Cube { icmp_type: set, ..with_header(ICMP) }),
        IntField::IcmpCode => (Some(ICMP), Cube { icmp_code: set, ..with_header(ICMP) }),
        IntField::Http(_) => return Err(NO_REQUEST.to_owned()),
    };
    let here = cube.and(&Cube::all()).into_iter().collect();
    // A packet without the field does not match, so its negation does.
    match protos {
        Some(protos) if negated => joined(without_header(protos), here),
        _ => Ok(here),
    }
}

/// Packets of the protocols whose upper header can be read.
fn with_header(protos: u8) -> Cube {
    Cube { protos, frag: WITH_HEADER, ..Cube::all() }
}

/// All others.
fn without_header(protos: u8) -> Vec<Cube> {
    vec![Cube { protos: ANY_PROTO & !protos, ..Cube::all() }, Cube { protos, frag: frag::LATER, ..Cube::all() }]
}

fn joined(mut a: Vec<Cube>, b: Vec<Cube>) -> Result<Vec<Cube>, String> {
    a.extend(b);
    bounded(a)
}

fn product(a: &[Cube], b: &[Cube]) -> Result<Vec<Cube>, String> {
    let mut found = Vec::new();
    for x in a {
        for y in b {
            found.extend(x.and(y));
        }
        found = bounded(found)?;
    }
    Ok(found)
}

fn bounded(cubes: Vec<Cube>) -> Result<Vec<Cube>, String> {
    if cubes.iter().any(|cube| cube.probes.len() > MAX_PROBES) {
        return Err(format!(
            "this asks for more than {MAX_PROBES} places of one packet's bytes at once; split it into several rules"
        ));
    }
    if cubes.len() > MAX_CUBES {
        return Err("this combines too many alternatives for the packet phase; split it into several rules".to_owned());
    }
    Ok(cubes)
}
