//! Numbers of the wire that more than one module reads or writes: `EtherType`s, lengths of headers, TCP flags.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use network_types::tcp::TcpHdr;
use network_types::udp::UdpHdr;

/// Ethernet II, IEEE 802.1Q.
pub mod ether {
    use network_types::eth::{EthHdr, EtherType};

    /// Bytes of both addresses, in front of the `EtherType`.
    pub const ADDRESSES: usize = 12;
    /// Bytes of the header without tags.
    pub const HEADER: usize = EthHdr::LEN;
    // The crate has them in network order.
    /// IPv4.
    pub const IPV4: u16 = u16::from_be(EtherType::Ipv4 as u16);
    /// IPv6.
    pub const IPV6: u16 = u16::from_be(EtherType::Ipv6 as u16);
    /// A VLAN tag.
    pub const VLAN: u16 = u16::from_be(EtherType::Ieee8021q as u16);
    /// A service provider's VLAN tag.
    pub const QINQ: u16 = u16::from_be(EtherType::Ieee8021ad as u16);
}

/// Bytes of an IPv4 header without options.
pub const IPV4_HEADER: usize = Ipv4Hdr::LEN;
/// Bytes of an IPv6 header.
pub const IPV6_HEADER: usize = Ipv6Hdr::LEN;
/// Bytes of a TCP header without options.
pub const TCP_HEADER: usize = TcpHdr::LEN;
/// Bytes of a UDP header.
pub const UDP_HEADER: usize = UdpHdr::LEN;

/// TCP flags, RFC 9293 section 3.1.
pub mod tcp_flag {
    /// No more data.
    pub const FIN: u8 = 1;
    /// Begins a connection.
    pub const SYN: u8 = 2;
    /// Ends a connection at once.
    pub const RST: u8 = 4;
    /// Hand the data on.
    pub const PSH: u8 = 8;
    /// The acknowledgment counts.
    pub const ACK: u8 = 16;
    /// The urgent pointer counts.
    pub const URG: u8 = 32;
    /// All but those of ECN.
    pub const ALL: u8 = 63;
}
