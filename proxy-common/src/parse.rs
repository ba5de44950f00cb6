//! Headers of one frame: Ethernet with VLAN tags, IPv4 with options, IPv6 with extension headers, TCP, UDP, ICMP.
//!
//! Reads through [`Frame`], so that the kernel's bounds-checked packet and a host slice run the same code. It decides
//! nothing: [`crate::decide`] does.

use crate::abi::{MAX_EXTENSION_HEADERS, MAX_VLAN_TAGS, frag, proto};
use crate::addr::Addr;
pub use crate::packet::{NO_VLAN, Packet, mark};
use crate::plain::plain;
use crate::wire::{IPV4_HEADER, IPV6_HEADER, TCP_HEADER, UDP_HEADER, ether};

/// A frame that can be read at any offset. `read` answers `None` beyond the end.
pub trait Frame {
    /// `N` bytes at `offset`.
    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
    /// `N` words in the machine's order at `offset`, whatever its alignment. One bounds check and `N` loads, where an array
    /// of bytes may become as many loads as it has bytes.
    fn words<const N: usize>(&self, offset: usize) -> Option<[u32; N]> {
        let mut words = [0; N];
        for (at, word) in (offset..).step_by(size_of::<u32>()).zip(&mut words) {
            *word = u32::from_ne_bytes(self.bytes(at)?);
        }
        Some(words)
    }
    /// Bytes in the frame, link header included.
    fn len(&self) -> usize;
    /// Index of the interface that it came in on.
    fn interface(&self) -> u32 {
        LOOPBACK
    }
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Index of the loopback interface, the first of every network namespace. Frames that came in on none count as its, as
/// `BPF_PROG_TEST_RUN` has it.
pub const LOOPBACK: u32 = 1;

impl Frame for [u8] {
    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk().copied()
    }

    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}

/// What a frame turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed<P = Packet> {
    /// Neither IPv4 nor IPv6 (ARP, a third VLAN tag, …).
    NonIp,
    /// Headers cut short, or lengths that contradict each other (RFC 791 section 3.1, RFC 8200 section 3).
    Malformed,
    /// An IP packet.
    Ip(P),
}

impl Parsed {
    /// The same with a reference to the packet.
    pub const fn as_ref(&self) -> Parsed<&Packet> {
        match self {
            Parsed::NonIp => Parsed::NonIp,
            Parsed::Malformed => Parsed::Malformed,
            Parsed::Ip(packet) => Parsed::Ip(packet),
        }
    }
}

mod extension {
    use network_types::ip::IpProto;

    pub const HOP_BY_HOP: u8 = IpProto::HopOpt as u8;
    pub const ROUTING: u8 = IpProto::Ipv6Route as u8;
    pub const FRAGMENT: u8 = IpProto::Ipv6Frag as u8;
    pub const AUTHENTICATION: u8 = IpProto::Ah as u8;
    pub const DESTINATION: u8 = IpProto::Ipv6Opts as u8;
}

/// Offset of the identification in an IPv4 header, and in an IPv6 fragment header.
const IPV4_IDENT: usize = 4;
const IPV6_IDENT: usize = 4;
const ICMP_HEADER: usize = 8;

/// Parses the headers of `frame`.
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(frame: &F) -> Parsed {
    match plain(frame) {
        Some(packet) => Parsed::Ip(packet),
        None => parse_any(frame),
    }
}

/// [`parse`] without the short way for everyday frames: what the kernel side has in a function of its own.
#[inline(always)]
pub fn parse_any<F: Frame + ?Sized>(frame: &F) -> Parsed {
    let mut offset = ether::ADDRESSES;
    let Some(mut kind) = be16(frame, offset) else { return Parsed::Malformed };
    offset += 2;
    let mut tags = 0;
    let mut vlan = NO_VLAN;
    while tags < MAX_VLAN_TAGS && (kind == ether::VLAN || kind == ether::QINQ) {
        let Some([high, low, inner @ ..]) = frame.bytes::<4>(offset) else { return Parsed::Malformed };
        kind = u16::from_be_bytes(inner);
        if tags == 0 {
            vlan = u16::from_be_bytes([high & 0x0f, low]);
        }
        offset += 4;
        tags += 1;
    }
    let parsed = match kind {
        ether::IPV4 => ipv4(frame, offset, vlan),
        ether::IPV6 => ipv6(frame, offset, vlan),
        _ => return Parsed::NonIp,
    };
    match parsed {
        Some(packet) => Parsed::Ip(packet),
        None => Parsed::Malformed,
    }
}

#[inline(always)]
fn be16<F: Frame + ?Sized>(frame: &F, offset: usize) -> Option<u16> {
    frame.bytes(offset).map(u16::from_be_bytes)
}

#[inline(always)]
fn word64(bytes: [u8; 8]) -> u64 {
    u64::from_ne_bytes(bytes)
}

/// IPv4 (RFC 791). Options are skipped by the header length.
#[inline(always)]
fn ipv4<F: Frame + ?Sized>(frame: &F, start: usize, vlan: u16) -> Option<Packet> {
    let first: [u8; 4] = frame.bytes(start)?;
    let header = usize::from(first[0] & 0x0f) * 4;
    let total = u16::from_be_bytes([first[2], first[3]]);
    let fields: [u8; 4] = frame.bytes(start + 6)?;
    let src = u32::from_ne_bytes(frame.bytes(start + 12)?);
    let dst = u32::from_ne_bytes(frame.bytes(start + 16)?);
    let lies = first[0] >> 4 != 4
        || header < IPV4_HEADER
        || usize::from(total) < header
        || frame.len() < start + usize::from(total);
    if lies {
        return None;
    }
    let fragment = u16::from_be_bytes([fields[0], fields[1]]);
    let state = match (fragment & 0x1fff, fragment & 0x2000) {
        (0, 0) => frag::NONE,
        (0, _) => frag::FIRST,
        _ => frag::LATER,
    };
    let packet = Packet {
        len: total,
        proto: fields[3],
        ttl: fields[2],
        frag: state,
        vlan,
        network: start as u16,
        ident: (start + IPV4_IDENT) as u16,
        marks: if header > IPV4_HEADER { mark::IPV4_OPTIONS } else { 0 },
        ..Packet::between(Addr::from_v4_word(src), Addr::from_v4_word(dst))
    };
    upper(frame, start + header, usize::from(total) - header, packet)
}

/// IPv6 (RFC 8200) with a bounded chain of extension headers.
#[inline(always)]
fn ipv6<F: Frame + ?Sized>(frame: &F, start: usize, vlan: u16) -> Option<Packet> {
    let version: [u8; 1] = frame.bytes(start)?;
    let fields: [u8; 4] = frame.bytes(start + 4)?;
    let src = Addr { hi: word64(frame.bytes(start + 8)?), lo: word64(frame.bytes(start + 16)?) };
    let dst = Addr { hi: word64(frame.bytes(start + 24)?), lo: word64(frame.bytes(start + 32)?) };
    let payload = usize::from(u16::from_be_bytes([fields[0], fields[1]]));
    if version[0] >> 4 != 6 || frame.len() < start + IPV6_HEADER + payload {
        return None;
    }
    let mut packet = Packet {
        len: (IPV6_HEADER + payload).min(0xffff) as u16,
        proto: fields[2],
        ttl: fields[3],
        vlan,
        network: start as u16,
        marks: if src.is_v4() { mark::MAPPED_SOURCE } else { 0 },
        ..Packet::between(src, dst)
    };
    let end = start + IPV6_HEADER + payload;
    let mut offset = start + IPV6_HEADER;
    let mut followed = 0;
    while followed < MAX_EXTENSION_HEADERS {
        let unit = match packet.proto {
            extension::HOP_BY_HOP | extension::ROUTING | extension::DESTINATION => 8,
            extension::AUTHENTICATION => 4,
            extension::FRAGMENT => 0,
            _ => break,
        };
        let head: [u8; 4] = frame.bytes(offset)?;
        let size = if unit == 0 {
            let place = u16::from_be_bytes([head[2], head[3]]);
            packet.ident = (offset + IPV6_IDENT) as u16;
            packet.frag = match (place >> 3, place & 1) {
                (0, 0) => frag::NONE, // atomic fragment, RFC 6946
                (0, _) => frag::FIRST,
                _ => frag::LATER,
            };
            8
        } else if unit == 4 {
            (usize::from(head[1]) + 2) * 4
        } else {
            if packet.proto == extension::ROUTING {
                packet.note_routing(head[2]);
            }
            (usize::from(head[1]) + 1) * 8
        };
        packet.proto = head[0];
        offset += size;
        if offset > end {
            return None;
        }
        followed += 1;
        if packet.frag == frag::LATER {
            // What follows is the middle of another header.
            return Some(packet);
        }
    }
    if is_extension(packet.proto) {
        packet.chain_too_long = true;
        return Some(packet);
    }
    upper(frame, offset, end - offset, packet)
}

#[inline(always)]
fn is_extension(proto: u8) -> bool {
    matches!(
        proto,
        extension::HOP_BY_HOP
            | extension::ROUTING
            | extension::DESTINATION
            | extension::AUTHENTICATION
            | extension::FRAGMENT
    )
}

/// TCP (RFC 9293), UDP (RFC 768) and ICMP (RFC 792, RFC 4443). `room` is what the IP header leaves for it.
#[inline(always)]
fn upper<F: Frame + ?Sized>(frame: &F, start: usize, room: usize, mut packet: Packet) -> Option<Packet> {
    if packet.frag == frag::LATER {
        return Some(packet);
    }
    packet.upper = start as u16;
    match packet.proto {
        proto::TCP => tcp(frame, start, room, packet),
        proto::UDP => udp(frame, start, room, packet),
        proto::ICMP | proto::ICMPV6 => icmp(frame, start, room, packet),
        _ => Some(packet),
    }
}

#[inline(always)]
fn tcp<F: Frame + ?Sized>(frame: &F, start: usize, room: usize, mut packet: Packet) -> Option<Packet> {
    if room < TCP_HEADER {
        return None;
    }
    let ports: [u8; 4] = frame.bytes(start)?;
    let [offset, flags, window @ ..]: [u8; 4] = frame.bytes(start + 12)?;
    let header = usize::from(offset >> 4) * 4;
    if header < TCP_HEADER || (packet.frag == frag::NONE && header > room) {
        return None;
    }
    packet.sport = u16::from_be_bytes([ports[0], ports[1]]);
    packet.dport = u16::from_be_bytes([ports[2], ports[3]]);
    packet.ports = true;
    packet.tcp_flags = flags;
    packet.window = u16::from_be_bytes(window);
    packet.payload = (start + header) as u16;
    Some(packet)
}

#[inline(always)]
fn udp<F: Frame + ?Sized>(frame: &F, start: usize, room: usize, mut packet: Packet) -> Option<Packet> {
    if room < UDP_HEADER {
        return None;
    }
    let header: [u8; 8] = frame.bytes(start)?;
    packet.sport = u16::from_be_bytes([header[0], header[1]]);
    packet.dport = u16::from_be_bytes([header[2], header[3]]);
    packet.ports = true;
    packet.payload = (start + UDP_HEADER) as u16;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if length < UDP_HEADER || (packet.frag == frag::NONE && length > room) {
        packet.marks |= mark::UDP_LENGTH;
    }
    Some(packet)
}

#[inline(always)]
fn icmp<F: Frame + ?Sized>(frame: &F, start: usize, room: usize, mut packet: Packet) -> Option<Packet> {
    if room < ICMP_HEADER {
        return None;
    }
    [packet.icmp_type, packet.icmp_code] = frame.bytes(start)?;
    packet.payload = (start + ICMP_HEADER) as u16;
    Some(packet)
}

#[cfg(test)]
mod tests;
