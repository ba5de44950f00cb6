//! What no honest packet looks like: flag sets, addresses, lengths and headers that are looked at in every packet before
//! the rules. Pure: a packet in, the failed checks out as the bits of their [`Reason`]s.
//!
//! [`ordinary`] lets the bulk of the traffic go by with a handful of compares: TCP with an ordinary flag set between
//! ordinary addresses. All else is [`examine`]d. What needs tables (own addresses, fragments, limits) is asked by
//! [`crate::decide`].

use crate::abi::{Reason, frag, proto};
use crate::addr::Addr;
use crate::hint::SPREAD;
use crate::parse::{Frame, Packet, mark};
use crate::wire::tcp_flag as flag;

/// UDP payload below which an Initial is to be thrown away, RFC 9000 section 14.1.
pub const QUIC_LEAST: u16 = 1_200;
/// What an IP packet can be at most, once put together.
const MOST_BYTES: u32 = 65_535;

/// ICMP types of IPv4 (RFC 792) and IPv6 (RFC 4443, RFC 4861).
mod icmp {
    pub const V4_UNREACHABLE: u8 = 3;
    pub const V4_FRAGMENTATION_NEEDED: u8 = 4;
    pub const V6_TOO_BIG: u8 = 2;
    pub const V6_ROUTER_SOLICITATION: u8 = 133;
    pub const V6_REDIRECT: u8 = 137;
    /// Multicast listener reports (RFC 2710, RFC 3810), sent from `::` while an address is tentative.
    pub const V6_LISTENER_QUERY: u8 = 130;
    pub const V6_LISTENER_DONE: u8 = 132;
    pub const V6_LISTENER_REPORT_2: u8 = 143;
}

/// The check that a set of TCP flags fails.
#[inline(always)]
pub const fn flags_fault(flags: u8) -> Option<Reason> {
    let flags = flags & flag::ALL;
    if flags == 0 {
        Some(Reason::TcpNull)
    } else if flags == flag::FIN | flag::PSH | flag::URG {
        Some(Reason::TcpXmas)
    } else if flags & (flag::SYN | flag::FIN) == flag::SYN | flag::FIN {
        Some(Reason::TcpSynFin)
    } else if flags & (flag::SYN | flag::RST) == flag::SYN | flag::RST {
        Some(Reason::TcpSynRst)
    } else if flags & (flag::ACK | flag::SYN | flag::RST) == 0 {
        Some(Reason::TcpNoAck)
    } else {
        None
    }
}

/// One bit a flag set: those that fail a check.
const FAULTY_FLAGS: u64 = {
    let mut bits = 0;
    let mut flags = 0;
    while flags <= flag::ALL {
        if flags_fault(flags).is_some() {
            bits |= 1 << flags;
        }
        flags += 1;
    }
    bits
};

/// Whether the packet fails none of the `checked` ones for sure: an ordinary TCP segment. `own_bits` is
/// [`crate::abi::GateConfig::own_bits`].
#[inline(always)]
pub const fn ordinary(packet: &Packet, checked: u64, own_bits: u64) -> bool {
    packet.proto == proto::TCP
        && packet.frag == frag::NONE
        && packet.marks == 0
        && (FAULTY_FLAGS >> (packet.tcp_flags & flag::ALL)) & 1 == 0
        && packet.sport != 0
        && packet.dport != 0
        && packet.src.lo != packet.dst.lo
        && everyday(packet.src)
        && (checked & Reason::SpecialSource.bit() == 0 || !special(packet.src))
        && (own_bits >> own_bit(packet.src)) & 1 == 0
}

/// The bit of an address in the summary of our own: 64 bits that spare most packets the look-up.
#[inline(always)]
pub const fn own_bit(addr: Addr) -> u32 {
    ((addr.hi ^ addr.lo).wrapping_mul(SPREAD) >> 58) as u32
}

/// The summary of our own addresses, [`crate::abi::GateConfig::own_bits`].
pub fn own_bits(own: impl IntoIterator<Item = Addr>) -> u64 {
    own.into_iter().fold(0, |bits, addr| bits | (1 << own_bit(addr)))
}

/// Whether a source is for sure not a [`Reason::Bogon`]: unicast IPv4, or IPv6 in `2000::/3`.
#[inline(always)]
const fn everyday(addr: Addr) -> bool {
    if addr.is_v4() {
        let first = addr.v4_number() >> 24;
        first != 0 && first != 127 && first < 224
    } else {
        u64::from_be(addr.hi) >> 61 == 1
    }
}

/// What [`examine`] wants from beyond the headers, in one word: of a later fragment its place, of a whole UDP datagram
/// the first five bytes of its payload.
#[inline(always)]
pub fn fact<F: Frame + ?Sized>(frame: &F, packet: &Packet) -> u64 {
    if packet.frag == frag::LATER {
        // IPv4 keeps the offset two bytes behind the identification, in units of eight; IPv6 two bytes before it, as bytes.
        let (at, unit) =
            if packet.network + V4_IDENT == packet.ident { (packet.ident + 2, 3) } else { (packet.ident - 2, 0) };
        let [high, low] = frame.bytes(at.into()).unwrap_or_default();
        let field = u64::from(high) << 8 | u64::from(low);
        return if unit == 3 { (field & 0x1fff) << 3 } else { field & 0xfff8 };
    }
    if packet.proto == proto::UDP && packet.payload != 0 {
        // Fewer than five bytes are no packet of QUIC.
        let [first, version @ ..]: [u8; 5] = frame.bytes(packet.payload.into()).unwrap_or_default();
        return u64::from(first) << 32 | u64::from(u32::from_be_bytes(version));
    }
    0
}

/// The identification of a fragment, sixteen bits in IPv4 and thirty-two in IPv6.
#[inline(always)]
pub fn ident<F: Frame + ?Sized>(frame: &F, packet: &Packet) -> u32 {
    if packet.network + V4_IDENT == packet.ident {
        u32::from(u16::from_be_bytes(frame.bytes(packet.ident.into()).unwrap_or_default()))
    } else {
        u32::from_be_bytes(frame.bytes(packet.ident.into()).unwrap_or_default())
    }
}

/// Offset of the identification in an IPv4 header.
const V4_IDENT: u16 = 4;

/// The failed checks of those that need no tables; more may be named than are checked. `quic`: the packet is UDP to one of
/// our services. `fact` is [`fact`].
#[inline(always)]
pub const fn examine(packet: &Packet, quic: bool, fact: u64) -> u64 {
    let mut failed = source(packet) | marks(packet.marks);
    if packet.frag != frag::NONE {
        failed |= Reason::Fragment.bit();
        // The length counts the headers in front of the fragment too: the slack errs on the side of passing.
        if packet.frag == frag::LATER && fact as u32 + packet.len as u32 > MOST_BYTES + HEADER_SLACK {
            failed |= Reason::BadLength.bit();
        }
    }
    if packet.ports {
        if packet.sport == 0 || packet.dport == 0 {
            failed |= Reason::ZeroPort.bit();
        }
        if packet.sport == packet.dport && packet.src.lo == packet.dst.lo && packet.src.hi == packet.dst.hi {
            failed |= Reason::Land.bit();
        }
        if packet.proto == proto::TCP {
            if let Some(reason) = flags_fault(packet.tcp_flags) {
                failed |= reason.bit();
            }
        } else if quic && packet.frag == frag::NONE {
            failed |= quic_faults(packet, fact);
        }
    }
    failed
}

/// Headers that `Packet::len` may count beside the fragment's bytes: IPv4 with options, or IPv6 and a fragment header.
const HEADER_SLACK: u32 = 60;

#[inline(always)]
const fn marks(marks: u8) -> u64 {
    let mut failed = 0;
    if marks & mark::IPV4_OPTIONS != 0 {
        failed |= Reason::IpOptions.bit();
    }
    if marks & mark::ROUTING_0 != 0 {
        failed |= Reason::RoutingHeader0.bit();
    } else if marks & mark::ROUTING != 0 {
        failed |= Reason::RoutingHeader.bit();
    }
    if marks & mark::UDP_LENGTH != 0 {
        failed |= Reason::BadLength.bit();
    }
    failed
}

/// Bogons and addresses for special use; <https://www.iana.org/assignments/iana-ipv4-special-registry> and its sister.
#[inline(always)]
const fn source(packet: &Packet) -> u64 {
    let addr = packet.src;
    if packet.marks & mark::MAPPED_SOURCE != 0 {
        return Reason::Bogon.bit();
    }
    if addr.is_v4() {
        let word = addr.v4_number();
        if !everyday(addr) {
            // A host that has no address yet asks a DHCP server, or speaks to a group (RFC 2131, RFC 3376).
            let asks = word == 0 && (packet.dport == 67 || packet.dst.v4_number() >> 28 >= 14);
            return if asks { 0 } else { Reason::Bogon.bit() };
        }
        return if special_v4(word) { Reason::SpecialSource.bit() } else { 0 };
    }
    let high = u64::from_be(addr.hi);
    if high >> 56 == 0xff || (high == 0 && addr.lo == 1u64.to_be()) {
        return Reason::Bogon.bit();
    }
    if high == 0 && addr.lo == 0 {
        let tentative = neighbour_discovery(packet) || multicast_listener(packet);
        return if tentative { 0 } else { Reason::Bogon.bit() };
    }
    if special_v6(high) { Reason::SpecialSource.bit() } else { 0 }
}

/// Whether a unicast source is one for special use.
#[inline(always)]
const fn special(addr: Addr) -> bool {
    if addr.is_v4() { special_v4(addr.v4_number()) } else { special_v6(u64::from_be(addr.hi)) }
}

/// RFC 6890 and its successors: shared, private, link-local, protocol, documentation, relay, benchmark.
#[inline(always)]
const fn special_v4(word: u32) -> bool {
    let [a, b, c, _] = word.to_be_bytes();
    match a {
        10 => true,
        100 => b & 0xc0 == 64,
        169 => b == 254,
        172 => b & 0xf0 == 16,
        192 => b == 168 || (b == 0 && (c == 0 || c == 2)) || (b == 88 && c == 99),
        198 => b & 0xfe == 18 || (b == 51 && c == 100),
        203 => b == 0 && c == 113,
        _ => false,
    }
}

/// The upper half of an IPv6 address: unique local, link-local, discard, protocol, documentation, segment routing.
#[inline(always)]
const fn special_v6(high: u64) -> bool {
    high >> 57 == 0xfc >> 1
        || high >> 54 == 0xfe80 >> 6
        || high == 0x0100 << 48
        || high >> 32 == 0x2001_0db8
        || high >> 41 == 0x2001_0000 >> 9
        || high >> 44 == 0x3fff0
        || high >> 48 == 0x5f00
        || high >> 16 == 0x0064_ff9b_0001
}

const fn neighbour_discovery(packet: &Packet) -> bool {
    packet.proto == proto::ICMPV6
        && packet.icmp_type >= icmp::V6_ROUTER_SOLICITATION
        && packet.icmp_type <= icmp::V6_REDIRECT
}

const fn multicast_listener(packet: &Packet) -> bool {
    let kind = packet.icmp_type;
    packet.proto == proto::ICMPV6
        && ((kind >= icmp::V6_LISTENER_QUERY && kind <= icmp::V6_LISTENER_DONE) || kind == icmp::V6_LISTENER_REPORT_2)
}

/// Whether the packet is ICMP that a limit may hold back: not what path MTU discovery and neighbour discovery live on.
#[inline(always)]
pub const fn limited_icmp(packet: &Packet) -> bool {
    match packet.proto {
        proto::ICMP => packet.icmp_type != icmp::V4_UNREACHABLE || packet.icmp_code != icmp::V4_FRAGMENTATION_NEEDED,
        proto::ICMPV6 => {
            packet.icmp_type != icmp::V6_TOO_BIG && !neighbour_discovery(packet) && !multicast_listener(packet)
        }
        _ => false,
    }
}

/// First byte of a QUIC packet with a long header, and its version; RFC 9000 section 17.2, RFC 8999 section 5.1.
mod quic {
    pub const LONG: u8 = 0x80;
    pub const KIND: u8 = 0x30;
    pub const V1: u32 = 1;
    /// RFC 9369; it also gives the packet types other numbers.
    pub const V2: u32 = 0x6b33_43cf;
    pub const V2_INITIAL: u8 = 0x10;
    /// Reserved to keep version negotiation alive, RFC 9000 section 15: `0x?a?a?a?a`.
    pub const GREASE_MASK: u32 = 0x0f0f_0f0f;
    pub const GREASE: u32 = 0x0a0a_0a0a;
}

/// Whether a datagram to a service begins a QUIC connection, as far as its first packet says.
#[inline(always)]
pub const fn quic_initial(fact: u64) -> bool {
    let (first, version) = ((fact >> 32) as u8, fact as u32);
    let initial = match version {
        quic::V1 => 0,
        quic::V2 => quic::V2_INITIAL,
        _ => return false,
    };
    first & quic::LONG != 0 && first & quic::KIND == initial
}

#[inline(always)]
const fn quic_faults(packet: &Packet, fact: u64) -> u64 {
    let (first, version) = ((fact >> 32) as u8, fact as u32);
    if first & quic::LONG == 0 {
        return 0;
    }
    let bytes = packet.network as u32 + packet.len as u32;
    if quic_initial(fact) {
        let short = bytes < packet.payload as u32 + QUIC_LEAST as u32;
        return if short { Reason::QuicShortInitial.bit() } else { 0 };
    }
    let known = matches!(version, 0 | quic::V1 | quic::V2) || version & quic::GREASE_MASK == quic::GREASE;
    if known { 0 } else { Reason::QuicVersion.bit() }
}

#[cfg(test)]
#[path = "sanity_tests.rs"]
mod tests;
