//! Conditions on packets as unions of cubes: each cube is one set of values for every packet field. Exact, also for fields
//! that a packet does not have, so that what the kernel does is what the expression says.

use proxy_common::abi::frag;
use proxy_common::parse::NO_VLAN;

use super::lang::{Expr, FlagField, IntField, IntTerm, IpField, ProtoSet};
use crate::ranges::RangeSet;

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
        }
    }

    /// Whether it looks at nothing but the source.
    pub fn is_source_only(&self) -> bool {
        Self { src: RangeSet::full(u128::MAX), ..self.clone() } == Self::all()
    }

    /// Sets of the fields that few rules look at: ICMP type and code, VLAN id, TCP window.
    pub fn rare(&self) -> [&RangeSet; 4] {
        [&self.icmp_type, &self.icmp_code, &self.vlan, &self.window]
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
        };
        let sets = [&cube.src, &cube.dst, &cube.sport, &cube.dport, &cube.len, &cube.ttl];
        let empty = sets.into_iter().chain(cube.rare()).any(RangeSet::is_empty);
        (cube.protos != 0 && cube.frag != 0 && !empty).then_some(cube)
    }
}

/// The cubes of an expression over packet fields; together they hold exactly the packets for which it holds.
pub(super) fn cubes(expr: &Expr) -> Result<Vec<Cube>, String> {
    of(expr, false)
}

fn of(expr: &Expr, negated: bool) -> Result<Vec<Cube>, String> {
    Ok(match expr {
        Expr::Const(value) if *value != negated => vec![Cube::all()],
        Expr::Const(_) => Vec::new(),
        Expr::Not(inner) => of(inner, !negated)?,
        Expr::And(list) if negated => either(list, true)?,
        Expr::Or(list) if !negated => either(list, false)?,
        Expr::And(list) | Expr::Or(list) => all(list, negated)?,
        Expr::Xor(a, b) => {
            let first = product(&of(a, false)?, &of(b, !negated)?)?;
            joined(first, product(&of(a, true)?, &of(b, negated)?)?)?
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
        Expr::Int(..) | Expr::Bits(..) | Expr::Text(..) | Expr::All(_) | Expr::Flag(FlagField::Ssl) => {
            return Err(NO_REQUEST.to_owned());
        }
    })
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

fn either(list: &[Expr], negated: bool) -> Result<Vec<Cube>, String> {
    list.iter().try_fold(Vec::new(), |found, expr| joined(found, of(expr, negated)?))
}

fn all(list: &[Expr], negated: bool) -> Result<Vec<Cube>, String> {
    list.iter().try_fold(vec![Cube::all()], |found, expr| product(&found, &of(expr, negated)?))
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
    if cubes.len() > MAX_CUBES {
        return Err("this combines too many alternatives for the packet phase; split it into several rules".to_owned());
    }
    Ok(cubes)
}
