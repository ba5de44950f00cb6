//! Headers of one frame: Ethernet with VLAN tags, IPv4 with options, IPv6 with extension headers, TCP, UDP, ICMP.
//!
//! Reads through [`Frame`], so that the kernel's bounds-checked packet and a host slice run the same code. It decides
//! nothing: [`crate::decide`] does.

use crate::abi::{MAX_EXTENSION_HEADERS, MAX_VLAN_TAGS, frag, proto};
use crate::addr::Addr;

/// A frame that can be read at any offset. `read` answers `None` beyond the end.
pub trait Frame {
    /// `N` bytes at `offset`.
    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
    /// Bytes in the frame, link header included.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Frame for [u8] {
    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk().copied()
    }

    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}

/// What the decision looks at. Laid out without padding: the kernel side passes it on by pointer, and the verifier
/// wants every byte of it written.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Source port, host order; 0 without `ports`.
    pub sport: u16,
    /// Destination port, host order; 0 without `ports`.
    pub dport: u16,
    /// Length of the IP packet in bytes, as its header says.
    pub len: u16,
    /// Upper protocol: the one after the extension headers that were followed.
    pub proto: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TCP flags byte; 0 for others.
    pub tcp_flags: u8,
    /// One bit of [`frag`].
    pub frag: u8,
    /// Whether TCP or UDP ports could be read.
    pub ports: bool,
    /// Whether the IPv6 extension chain went on beyond [`MAX_EXTENSION_HEADERS`].
    pub chain_too_long: bool,
    /// Zero.
    pub pad: [u8; 4],
}

const _: () = assert!(size_of::<Packet>() == 16 + 16 + 3 * 2 + 6 + 4, "Packet has padding");

/// What a frame turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// Neither IPv4 nor IPv6 (ARP, a third VLAN tag, …).
    NonIp,
    /// Headers cut short, or lengths that contradict each other (RFC 791 section 3.1, RFC 8200 section 3).
    Malformed,
    /// An IP packet.
    Ip(Packet),
}

mod ether {
    pub const ADDRESSES: usize = 12;
    pub const IPV4: u16 = 0x0800;
    pub const IPV6: u16 = 0x86dd;
    pub const VLAN: u16 = 0x8100;
    pub const QINQ: u16 = 0x88a8;
}

mod extension {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTHENTICATION: u8 = 51;
    pub const DESTINATION: u8 = 60;
}

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const ICMP_HEADER: usize = 8;

/// Parses the headers of `frame`.
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(frame: &F) -> Parsed {
    let mut offset = ether::ADDRESSES;
    let Some(mut kind) = be16(frame, offset) else { return Parsed::Malformed };
    offset += 2;
    let mut tags = 0;
    while tags < MAX_VLAN_TAGS && (kind == ether::VLAN || kind == ether::QINQ) {
        let Some(inner) = be16(frame, offset + 2) else { return Parsed::Malformed };
        kind = inner;
        offset += 4;
        tags += 1;
    }
    let parsed = match kind {
        ether::IPV4 => ipv4(frame, offset),
        ether::IPV6 => ipv6(frame, offset),
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
fn ipv4<F: Frame + ?Sized>(frame: &F, start: usize) -> Option<Packet> {
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
        src: Addr::from_v4_word(src),
        dst: Addr::from_v4_word(dst),
        sport: 0,
        dport: 0,
        len: total,
        proto: fields[3],
        ttl: fields[2],
        tcp_flags: 0,
        frag: state,
        ports: false,
        chain_too_long: false,
        pad: [0; 4],
    };
    upper(frame, start + header, usize::from(total) - header, packet)
}

/// IPv6 (RFC 8200) with a bounded chain of extension headers.
#[inline(always)]
fn ipv6<F: Frame + ?Sized>(frame: &F, start: usize) -> Option<Packet> {
    let version: [u8; 1] = frame.bytes(start)?;
    let fields: [u8; 4] = frame.bytes(start + 4)?;
    let src = Addr { hi: word64(frame.bytes(start + 8)?), lo: word64(frame.bytes(start + 16)?) };
    let dst = Addr { hi: word64(frame.bytes(start + 24)?), lo: word64(frame.bytes(start + 32)?) };
    let payload = usize::from(u16::from_be_bytes([fields[0], fields[1]]));
    if version[0] >> 4 != 6 || frame.len() < start + IPV6_HEADER + payload {
        return None;
    }
    let mut packet = Packet {
        src,
        dst,
        sport: 0,
        dport: 0,
        len: (IPV6_HEADER + payload).min(0xffff) as u16,
        proto: fields[2],
        ttl: fields[3],
        tcp_flags: 0,
        frag: frag::NONE,
        ports: false,
        chain_too_long: false,
        pad: [0; 4],
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
            packet.frag = match (place >> 3, place & 1) {
                (0, 0) => frag::NONE, // atomic fragment, RFC 6946
                (0, _) => frag::FIRST,
                _ => frag::LATER,
            };
            8
        } else if unit == 4 {
            (usize::from(head[1]) + 2) * 4
        } else {
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

/// TCP (RFC 9293), UDP (RFC 768) and ICMP: ports and flags. `room` is what the IP header leaves for it.
#[inline(always)]
fn upper<F: Frame + ?Sized>(frame: &F, start: usize, room: usize, mut packet: Packet) -> Option<Packet> {
    if packet.frag == frag::LATER {
        return Some(packet);
    }
    let least = match packet.proto {
        proto::TCP => TCP_HEADER,
        proto::UDP => UDP_HEADER,
        proto::ICMP | proto::ICMPV6 => ICMP_HEADER,
        _ => return Some(packet),
    };
    if room < least {
        return None;
    }
    if packet.proto == proto::TCP || packet.proto == proto::UDP {
        let ports: [u8; 4] = frame.bytes(start)?;
        packet.sport = u16::from_be_bytes([ports[0], ports[1]]);
        packet.dport = u16::from_be_bytes([ports[2], ports[3]]);
        packet.ports = true;
    }
    if packet.proto == proto::TCP {
        let offset_and_flags: [u8; 2] = frame.bytes(start + 12)?;
        let header = usize::from(offset_and_flags[0] >> 4) * 4;
        if header < TCP_HEADER || (packet.frag == frag::NONE && header > room) {
            return None;
        }
        packet.tcp_flags = offset_and_flags[1];
    }
    Some(packet)
}
