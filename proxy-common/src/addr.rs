//! An IP address as two words, in the memory order of the wire, so that both packet reads and map keys are word moves.

use core::net::{IpAddr, Ipv6Addr};

use crate::abi::{HostKey, PREFIX_MARK, ServiceKey, port_bits, proto};

/// An IPv6 address, or an IPv4 one in its v4-mapped form `::ffff:a.b.c.d`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Addr {
    /// Bytes 0–7 as they lie in memory (network order), loaded as a native word.
    pub hi: u64,
    /// Bytes 8–15, likewise.
    pub lo: u64,
}

/// Bytes 8–11 of a v4-mapped address, as a native word of which the upper (later) half is free for the address.
const V4_MARK: [u8; 8] = [0, 0, 0xff, 0xff, 0, 0, 0, 0];

impl Addr {
    /// From the four bytes of an IPv4 address, loaded as a native word in network order.
    #[inline(always)]
    pub const fn from_v4_word(word: u32) -> Self {
        let mark = u64::from_ne_bytes(V4_MARK);
        // The address takes bytes 12–15: the upper half of the word on little-endian machines.
        let word = if cfg!(target_endian = "little") { (word as u64) << 32 } else { word as u64 };
        Self { hi: 0, lo: mark | word }
    }

    /// From sixteen bytes in network order.
    #[inline(always)]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
        Self { hi: u64::from_ne_bytes([a, b, c, d, e, f, g, h]), lo: u64::from_ne_bytes([i, j, k, l, m, n, o, p]) }
    }

    /// The sixteen bytes in network order.
    #[inline(always)]
    pub const fn to_bytes(self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = self.hi.to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = self.lo.to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// Whether this is a v4-mapped address.
    #[inline(always)]
    pub const fn is_v4(self) -> bool {
        let mask = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        self.hi == 0 && self.lo & mask == u64::from_ne_bytes(V4_MARK)
    }

    /// An IPv4 address as a number; of another the last 32 bits.
    #[inline(always)]
    pub const fn v4_number(self) -> u32 {
        u64::from_be(self.lo) as u32
    }

    /// Key of the exact host in `VERDICTS`.
    #[inline(always)]
    pub const fn host_key(self) -> HostKey {
        HostKey { addr: self.to_bytes() }
    }

    /// Key of the IPv6 prefix in `VERDICTS`; `mask` is [`crate::abi::GateConfig::v6_mask`].
    #[inline(always)]
    pub const fn prefix_key(self, mask: u64) -> HostKey {
        let marked = Self { hi: u64::from_ne_bytes(PREFIX_MARK), lo: self.hi & mask.to_be() };
        HostKey { addr: marked.to_bytes() }
    }

    /// An IPv4 address with all bits behind the first `bits` (1 to 32) cleared.
    #[inline(always)]
    #[must_use]
    pub const fn v4_network(self, bits: u32) -> Self {
        let mask = u64::MAX << (32_u32.wrapping_sub(bits) & 31);
        Self { hi: self.hi, lo: self.lo & mask.to_be() }
    }

    /// Key of the IPv4 prefix in `VERDICTS`; `bits` is [`crate::abi::GateConfig::v4_prefix`], 1 to 32.
    #[inline(always)]
    pub const fn v4_prefix_key(self, bits: u32) -> HostKey {
        let marked = Self { hi: (u64::from_be_bytes(PREFIX_MARK) | bits as u64).to_be(), lo: self.v4_network(bits).lo };
        HostKey { addr: marked.to_bytes() }
    }

    /// Where this is the first word pair of a key in `VERDICTS` that names an IPv4 prefix: its length.
    #[inline(always)]
    pub(crate) const fn v4_prefix_bits(self) -> Option<u32> {
        match u64::from_be(self.hi) ^ u64::from_be_bytes(PREFIX_MARK) {
            bits @ 1..=32 => Some(bits as u32),
            _ => None,
        }
    }

    /// Key of a service at this address in `BINDINGS`.
    #[inline(always)]
    pub const fn service_key(self, proto: u8, port: u16) -> ServiceKey {
        ServiceKey { addr: self.to_bytes(), port, proto, pad: 0, pad_word: 0 }
    }

    /// Whether it is of the loopback interface: `127.0.0.0/8` or `::1`.
    #[inline(always)]
    pub const fn is_loopback(self) -> bool {
        if self.is_v4() { self.v4_number() >> 24 == 127 } else { self.hi == 0 && self.lo == 1u64.to_be() }
    }

    /// "Any address" of this address's family: `::ffff:0.0.0.0` or `::`.
    #[inline(always)]
    #[must_use]
    pub const fn any(self) -> Self {
        if self.is_v4() { Self::from_v4_word(0) } else { Self { hi: 0, lo: 0 } }
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        Self::from_bytes(match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        })
    }
}

impl From<Addr> for IpAddr {
    /// A v4-mapped address comes back as IPv4.
    fn from(addr: Addr) -> Self {
        Self::V6(Ipv6Addr::from(addr.to_bytes())).to_canonical()
    }
}

impl HostKey {
    /// The first address of the prefix that the key names; `None` for a host.
    pub fn prefix(&self) -> Option<Addr> {
        let Addr { hi, lo } = Addr::from_bytes(self.addr);
        if self.v4_bits().is_some() {
            return Some(Addr { hi: 0, lo });
        }
        (hi == u64::from_ne_bytes(PREFIX_MARK)).then_some(Addr { hi: lo, lo: 0 })
    }

    /// The length of the IPv4 prefix that the key names; `None` for anything else.
    pub fn v4_bits(&self) -> Option<u32> {
        Addr::from_bytes(self.addr).v4_prefix_bits()
    }

    /// The address that the key stands for: the host's, or the first of the prefix.
    pub fn first_addr(&self) -> Addr {
        self.prefix().unwrap_or(Addr::from_bytes(self.addr))
    }
}

/// The bit of `PORTS` that says "any address" for a protocol and this address's family, and the one that says "some".
#[inline(always)]
pub const fn port_bits_of(addr: Addr, protocol: u8) -> (u8, u8) {
    match (protocol, addr.is_v4()) {
        (proto::TCP, true) => (port_bits::TCP_ANY4, port_bits::TCP_SOME),
        (proto::TCP, false) => (port_bits::TCP_ANY6, port_bits::TCP_SOME),
        (_, true) => (port_bits::UDP_ANY4, port_bits::UDP_SOME),
        (_, false) => (port_bits::UDP_ANY6, port_bits::UDP_SOME),
    }
}

/// The bit that a service with this key sets in its port's byte of `PORTS`.
pub fn port_bit(key: &ServiceKey) -> u8 {
    let addr = Addr::from_bytes(key.addr);
    let (any, some) = port_bits_of(addr, key.proto);
    if addr == addr.any() { any } else { some }
}

/// Word and shift of a port's byte in `PORTS`.
#[inline(always)]
pub const fn port_place(port: u16) -> (u32, u32) {
    ((port >> 3) as u32, ((port & 7) * 8) as u32)
}

/// The mask for [`crate::abi::GateConfig::v6_mask`] of a prefix length; lengths above 64 count as 64.
pub const fn v6_mask(bits: u8) -> u64 {
    match bits {
        0 => 0,
        1..64 => u64::MAX << (64 - bits),
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(a: u8, b: u8, c: u8, d: u8) -> Addr {
        Addr::from_v4_word(u32::from_ne_bytes([a, b, c, d]))
    }

    #[test]
    fn v4_is_mapped() {
        let addr = v4(192, 0, 2, 9);
        assert_eq!(addr.to_bytes(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 9]);
        assert_eq!(Addr::from_bytes(addr.to_bytes()), addr);
        assert!(addr.is_v4());
        assert_eq!(addr.any().to_bytes()[8..], [0, 0, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(addr.host_key().addr, addr.to_bytes());
        assert_eq!(addr.host_key().prefix(), None);
    }

    #[test]
    fn loopback() {
        assert!(v4(127, 0, 0, 1).is_loopback() && v4(127, 255, 0, 9).is_loopback());
        assert!(Addr::from(IpAddr::from(Ipv6Addr::LOCALHOST)).is_loopback());
        assert!(!v4(126, 0, 0, 1).is_loopback() && !v4(128, 0, 0, 127).is_loopback());
        assert!(!Addr::from(IpAddr::from(Ipv6Addr::UNSPECIFIED)).is_loopback());
        assert!(!Addr { hi: 1, lo: 1u64.to_be() }.is_loopback());
    }

    #[test]
    fn v6_prefix_keeps_the_masked_bits() {
        let mut bytes = [0x11; 16];
        bytes[0] = 0x20;
        let addr = Addr::from_bytes(bytes);
        assert!(!addr.is_v4());
        let key = addr.prefix_key(v6_mask(64));
        assert_eq!(key.addr[8..], bytes[..8]);
        assert_eq!(key.prefix().map(Addr::to_bytes).unwrap()[..8], bytes[..8]);
        assert_eq!(key.prefix().unwrap().lo, 0);
        let key = addr.prefix_key(v6_mask(56));
        assert_eq!(key.addr[8..], [0x20, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0]);
        assert_eq!(addr.host_key().prefix(), None);
        assert_eq!(addr.any(), Addr::default());
    }

    #[test]
    fn v4_prefix_keeps_its_length_and_its_bits() {
        let addr = v4(192, 0, 2, 9);
        for (bits, network) in [(32, [192, 0, 2, 9]), (24, [192, 0, 2, 0]), (23, [192, 0, 2, 0]), (1, [128, 0, 0, 0])] {
            let key = addr.v4_prefix_key(bits);
            assert_eq!(key.addr, {
                let [a, b, c, d] = network;
                [0xff, 0, 0, 0, 0, 0, 0, bits as u8, 0, 0, 0xff, 0xff, a, b, c, d]
            });
            assert_eq!((key.v4_bits(), key.prefix()), (Some(bits), Some(addr.v4_network(bits))));
            assert_eq!(key.first_addr(), addr.v4_network(bits));
        }
        assert_eq!(addr.host_key().v4_bits(), None);
        assert_eq!(Addr::from_bytes([0x20; 16]).prefix_key(u64::MAX).v4_bits(), None);
    }

    #[test]
    fn near_misses_are_not_v4() {
        let mut bytes = v4(1, 2, 3, 4).to_bytes();
        bytes[9] = 1;
        assert!(!Addr::from_bytes(bytes).is_v4());
        bytes[9] = 0;
        bytes[0] = 1;
        assert!(!Addr::from_bytes(bytes).is_v4());
    }
}
