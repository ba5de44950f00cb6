//! A parsed IP packet, as [`crate::parse`] fills it in and the decision reads it.

use crate::abi::frag;
use crate::addr::Addr;

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
    /// Id of the outermost VLAN tag (0 for a priority tag, IEEE 802.1Q), or [`NO_VLAN`]. A tag that the network card took
    /// out of the frame is not seen here.
    pub vlan: u16,
    /// TCP window as sent, not scaled; 0 for others.
    pub window: u16,
    /// Frame offset of the IP header.
    pub network: u16,
    /// Frame offset of the upper header; 0 where there is none to read: later fragments, a chain too long.
    pub upper: u16,
    /// Frame offset behind the TCP, UDP or ICMP header; 0 for others. In a first fragment it may lie beyond [`Self::end`].
    pub payload: u16,
    /// Frame offset of the fragment identification: two bytes in IPv4, four in IPv6. 0 in IPv6 without a fragment header.
    pub ident: u16,
    /// ICMP or ICMPv6 type; 0 for others.
    pub icmp_type: u8,
    /// ICMP or ICMPv6 code; 0 for others.
    pub icmp_code: u8,
    /// Type of the first IPv6 routing header; 0 without [`mark::ROUTING`].
    pub routing_type: u8,
    /// Bits of [`mark`].
    pub marks: u8,
    /// Zero.
    pub pad: [u8; 4],
}

impl Packet {
    /// A packet between two addresses, of which nothing else is known: not a fragment, without ports, untagged.
    #[inline(always)]
    pub const fn between(src: Addr, dst: Addr) -> Self {
        Self {
            src,
            dst,
            sport: 0,
            dport: 0,
            len: 0,
            proto: 0,
            ttl: 0,
            tcp_flags: 0,
            frag: frag::NONE,
            ports: false,
            chain_too_long: false,
            vlan: NO_VLAN,
            window: 0,
            network: 0,
            upper: 0,
            payload: 0,
            ident: 0,
            icmp_type: 0,
            icmp_code: 0,
            routing_type: 0,
            marks: 0,
            pad: [0; 4],
        }
    }

    #[inline(always)]
    pub(crate) fn note_routing(&mut self, kind: u8) {
        if self.marks & mark::ROUTING == 0 {
            self.routing_type = kind;
        }
        self.marks |= if kind == 0 { mark::ROUTING | mark::ROUTING_0 } else { mark::ROUTING };
    }

    /// The packet as it lies in memory, in words: the kernel's stack takes aligned stores only, and the compiler joins
    /// those of neighbouring fields wherever they stand.
    #[inline(always)]
    pub const fn words(&self) -> [u64; size_of::<Self>() / 8] {
        let [s, port] = self.sport.to_ne_bytes();
        let [d, dport] = self.dport.to_ne_bytes();
        let [l, len] = self.len.to_ne_bytes();
        let [v, vlan] = self.vlan.to_ne_bytes();
        let [w, window] = self.window.to_ne_bytes();
        let [n, network] = self.network.to_ne_bytes();
        let [u, upper] = self.upper.to_ne_bytes();
        let [p, payload] = self.payload.to_ne_bytes();
        let [i, ident] = self.ident.to_ne_bytes();
        let (ports, chain) = (self.ports as u8, self.chain_too_long as u8);
        let [a, b, c, e] = self.pad;
        [
            self.src.hi,
            self.src.lo,
            self.dst.hi,
            self.dst.lo,
            u64::from_ne_bytes([s, port, d, dport, l, len, self.proto, self.ttl]),
            u64::from_ne_bytes([self.tcp_flags, self.frag, ports, chain, v, vlan, w, window]),
            u64::from_ne_bytes([n, network, u, upper, p, payload, i, ident]),
            u64::from_ne_bytes([self.icmp_type, self.icmp_code, self.routing_type, self.marks, a, b, c, e]),
        ]
    }

    /// Frame offset where the IP packet ends; what follows is padding.
    #[inline(always)]
    pub const fn end(&self) -> usize {
        self.network as usize + self.len as usize
    }
}

const _: () = assert!(size_of::<Packet>() == 16 + 16 + 3 * 2 + 6 + 6 * 2 + 4 + 4, "Packet has padding");

/// [`Packet::vlan`] of an untagged frame; no tag can carry it, an id has twelve bits.
pub const NO_VLAN: u16 = 0xffff;

/// [`Packet::marks`]: what is seldom seen in a header, and some would rather not see at all.
pub mod mark {
    /// IPv4 options (RFC 791): a header of more than twenty bytes.
    pub const IPV4_OPTIONS: u8 = 1;
    /// An IPv6 routing header of any type (RFC 8200 section 4.4).
    pub const ROUTING: u8 = 2;
    /// An IPv6 routing header of type 0, which RFC 5095 took out of use.
    pub const ROUTING_0: u8 = 4;
    /// A UDP length below its header, or beyond what the IP header leaves for it (RFC 768). Less than that is in order:
    /// RFC 9868 puts options there.
    pub const UDP_LENGTH: u8 = 8;
    /// An IPv6 source in the v4-mapped form, which has no place on a wire (RFC 4942 section 2.2).
    pub const MAPPED_SOURCE: u8 = 16;
}
