//! Rows of the checks: bytes in, the checks that fail out. Each row is judged with all checks counted, with the checks
//! enforced as an operator would, and with every one enforced.

use proxy_common::abi::Reason;

use crate::packets::{ACK, Frame, RST, SYN, VLAN, ping, tcp, tcp_flags, udp};
use crate::verdict_table::{EDGE, EDGE6, OTHER};

/// One row.
pub struct Row {
    /// What it shows.
    pub name: &'static str,
    /// The packet.
    pub frame: Frame,
    /// Why it is handled as it is when no check fails or drops.
    pub otherwise: Reason,
    /// The checks that it fails, lowest number first.
    pub fails: Vec<Reason>,
    /// Whether the checks look at it in the scope `own`.
    pub own: bool,
}

// Public sources: those of the other table are for documentation and benchmarks, which is what a check looks for.
const CLIENT: &str = "9.9.9.9";
const CLIENT6: &str = "2606:4700::9";
const FIN: u8 = 1;
const PSH: u8 = 8;
const URG: u8 = 32;

/// A QUIC packet with a long header in `bytes` bytes of UDP payload.
pub fn quic(dst: &str, dport: u16, first: u8, version: u32, bytes: usize) -> Frame {
    let src = if dst.contains(':') { CLIENT6 } else { CLIENT };
    let mut upper = vec![0x9c, 0x40];
    upper.extend(dport.to_be_bytes());
    upper.extend(((8 + bytes) as u16).to_be_bytes());
    upper.extend([0, 0, first]);
    upper.extend(version.to_be_bytes());
    upper.resize(8 + bytes, 0);
    Frame::new(src, dst, 17, upper)
}

/// An ICMP message of this type and code to one of our addresses.
pub fn icmp(src: &str, dst: &str, kind: u8, code: u8) -> Frame {
    let proto = if dst.contains(':') { 58 } else { 1 };
    Frame::new(src, dst, proto, vec![kind, code, 0, 0, 0, 1, 0, 1])
}

/// All rows.
#[rustfmt::skip] // one row, one line: it reads as a table
pub fn rows() -> Vec<Row> {
    use Reason::{
        BadLength, Bogon, Fragment, FragmentStray, IpOptions, Land, Malformed, MalformedDropped, Pass, QuicShortInitial,
        QuicVersion, RoutingHeader, RoutingHeader0, SpecialSource, SpoofedOwn, TcpNoAck, TcpNull, TcpSynFin, TcpSynRst,
        TcpXmas, UdpNoService, ZeroPort,
    };
    let mut rows = Vec::new();
    let mut row = |name, frame, fails: &[Reason]| {
        rows.push(Row { name, frame, otherwise: Pass, fails: fails.to_vec(), own: true });
    };
    let flags = |flags| tcp_flags(CLIENT, EDGE, 443, flags);

    // TCP flags
    row("SYN",                               flags(SYN),                   &[]);
    row("SYN with ECN bits",                 flags(SYN | 0xc0),            &[]);
    row("SYN and ACK",                       flags(SYN | ACK),             &[]);
    row("ACK",                               flags(ACK),                   &[]);
    row("data",                              flags(ACK | PSH).payload(9),  &[]);
    row("end of data",                       flags(ACK | FIN | PSH),       &[]);
    row("urgent end of data",                flags(ACK | FIN | PSH | URG), &[]);
    row("RST",                               flags(RST),                   &[]);
    row("RST and ACK",                       flags(RST | ACK),             &[]);
    row("no flags",                          flags(0),                     &[TcpNull]);
    row("no flags but ECN's",                flags(0xc0),                  &[TcpNull]);
    row("xmas",                              flags(FIN | PSH | URG),       &[TcpXmas]);
    row("all flags",                         flags(63),                    &[TcpSynFin]);
    row("SYN and FIN",                       flags(SYN | FIN),             &[TcpSynFin]);
    row("SYN and RST",                       flags(SYN | RST),             &[TcpSynRst]);
    row("SYN, RST and ACK",                  flags(SYN | RST | ACK),       &[TcpSynRst]);
    row("FIN alone",                         flags(FIN),                   &[TcpNoAck]);
    row("PSH alone",                         flags(PSH),                   &[TcpNoAck]);
    row("URG and PSH",                       flags(URG | PSH),             &[TcpNoAck]);
    row("no flags over IPv6",                tcp_flags(CLIENT6, EDGE6, 443, 0), &[TcpNull]);
    row("no flags under a VLAN tag",         flags(0).tag(VLAN),           &[TcpNull]);

    // addresses and ports
    row("land",                              tcp(EDGE, EDGE, 443).lie(34, &[1, 187]), &[Land, SpecialSource, SpoofedOwn]);
    row("our own source, another port",      tcp(EDGE, EDGE, 443),         &[SpecialSource, SpoofedOwn]);
    row("our own source over IPv6",          tcp(EDGE6, EDGE6, 443),       &[SpecialSource, SpoofedOwn]);
    row("our own source pings",              ping(EDGE, EDGE),             &[SpecialSource, SpoofedOwn]);
    row("source port 0",                     flags(ACK).lie(34, &[0, 0]),  &[ZeroPort]);
    row("UDP source port 0",                 udp(CLIENT, EDGE, 443).lie(34, &[0, 0]), &[ZeroPort]);
    row("source 0.0.0.0",                    tcp("0.0.0.0", EDGE, 443),    &[Bogon]);
    row("source 0.1.2.3",                    tcp("0.1.2.3", EDGE, 443),    &[Bogon]);
    row("loopback source",                   tcp("127.0.0.2", EDGE, 443),  &[Bogon]);
    row("multicast source",                  udp("224.0.0.1", EDGE, 443),  &[Bogon]);
    row("reserved source",                   tcp("240.0.0.1", EDGE, 443),  &[Bogon]);
    row("broadcast source",                  ping("255.255.255.255", EDGE), &[Bogon]);
    row("last unicast source",               tcp("223.255.255.255", EDGE, 443), &[]);
    row("IPv6 loopback source",              tcp("::1", EDGE6, 443),       &[Bogon]);
    row("IPv6 unspecified source",           tcp("::", EDGE6, 443),        &[Bogon]);
    row("IPv6 multicast source",             tcp("ff02::1", EDGE6, 443),   &[Bogon]);
    row("v4-mapped source",                  tcp("::ffff:9.9.9.9", EDGE6, 443), &[Bogon]);
    row("private source",                    tcp("192.168.1.1", EDGE, 443), &[SpecialSource]);
    row("shared source",                     tcp("100.64.0.1", EDGE, 443), &[SpecialSource]);
    row("documentation source",              tcp("2001:db8:9::1", EDGE6, 443), &[SpecialSource]);
    row("link-local source",                 tcp("fe80::1", EDGE6, 443),   &[SpecialSource]);
    row("duplicate address detection",       icmp("::", EDGE6, 135, 0),    &[]);

    // headers
    row("IPv4 options",                      flags(ACK).options(&[1; 4]),  &[IpOptions]);
    row("IPv4 options on a ping",            ping(CLIENT, EDGE).options(&[7, 39]), &[IpOptions]);
    row("routing header of type 4",          tcp(CLIENT6, EDGE6, 443).extension(43, &[4, 0, 0, 0, 0, 0]), &[RoutingHeader]);
    row("routing header of type 0",          tcp(CLIENT6, EDGE6, 443).extension(43, &[0, 1, 0, 0, 0, 0]), &[RoutingHeader0]);
    row("UDP length too long",               udp(CLIENT, EDGE, 443).lie(38, &[0, 13]), &[BadLength]);
    row("UDP length too short",              udp(CLIENT, EDGE, 443).lie(38, &[0, 7]), &[BadLength]);
    row("UDP length short of the packet",    udp(CLIENT, EDGE, 443).payload(9), &[]);

    // fragments; what later ones follow is shown as a sequence
    row("later fragment that nobody began",  udp(CLIENT, EDGE, 443).fragment(9, true), &[Fragment, FragmentStray]);
    row("later IPv6 fragment that nobody began", udp(CLIENT6, EDGE6, 443).fragment(9, true), &[Fragment, FragmentStray]);
    row("fragment beyond 65,535 bytes",      udp(CLIENT, EDGE, 443).payload(600).fragment(0x1fff, false), &[BadLength, Fragment, FragmentStray]);
    row("IPv6 fragment beyond 65,535 bytes", udp(CLIENT6, EDGE6, 443).payload(600).fragment(0x1fff, false), &[BadLength, Fragment, FragmentStray]);
    row("last possible fragment",            udp(CLIENT, EDGE, 443).fragment(0x1ffe, false), &[Fragment, FragmentStray]);
    row("first fragment",                    udp(CLIENT, EDGE, 443).fragment(0, true).lie(18, &[0x77, 0x77]), &[Fragment]);
    row("first fragment, UDP length of the whole", udp(CLIENT, EDGE, 443).lie(38, &[9, 0]).fragment(0, true).lie(18, &[0x77, 0x78]), &[Fragment]);
    row("atomic IPv6 fragment",              udp(CLIENT6, EDGE6, 443).fragment(0, false), &[]);

    // QUIC
    row("Initial",                           quic(EDGE, 443, 0xc3, 1, 1_200),         &[]);
    row("Initial over IPv6",                 quic(EDGE6, 443, 0xc3, 1, 1_200),        &[]);
    row("short Initial",                     quic(EDGE, 443, 0xc3, 1, 1_199),         &[QuicShortInitial]);
    row("short Initial over IPv6",           quic(EDGE6, 443, 0xc3, 1, 1_199),        &[QuicShortInitial]);
    row("short Initial of version 2",        quic(EDGE, 443, 0xd3, 0x6b33_43cf, 100), &[QuicShortInitial]);
    row("short Initial under a VLAN tag",    quic(EDGE, 443, 0xc3, 1, 1_199).tag(VLAN), &[QuicShortInitial]);
    row("short Initial, padded frame",       quic(EDGE, 443, 0xc3, 1, 1_199).padding(9), &[QuicShortInitial]);
    row("Handshake may be short",            quic(EDGE, 443, 0xe3, 1, 60),            &[]);
    row("short header may be short",         quic(EDGE, 443, 0x43, 1, 30),            &[]);
    row("greased version",                   quic(EDGE, 443, 0xc3, 0x1a2a_3a4a, 60),  &[]);
    row("version negotiation",               quic(EDGE, 443, 0xc3, 0, 60),            &[]);
    row("unknown version",                   quic(EDGE, 443, 0xc3, 0xff00_001d, 1_200), &[QuicVersion]);
    row("no payload",                        udp(CLIENT, EDGE, 443).lie(16, &[0, 28]).lie(38, &[0, 8]), &[]);

    // UDP without a service, ICMP
    row("UDP to a port without service",     udp(CLIENT, EDGE, 11_211),   &[UdpNoService]);
    row("UDP to an ephemeral port",          udp(CLIENT, EDGE, 50_000),   &[]);
    row("ping",                              ping(CLIENT, EDGE),          &[]);

    let mut row = |name, otherwise, frame, fails: &[Reason]| {
        rows.push(Row { name, frame, otherwise, fails: fails.to_vec(), own: false });
    };
    row("cut IPv4 header",                   Malformed, flags(ACK).cut(33),          &[MalformedDropped]);
    row("TCP header cut short",              Malformed, flags(ACK).cut(50),          &[MalformedDropped]);
    row("no flags, another address",         Pass, tcp_flags(CLIENT, OTHER, 443, 0), &[TcpNull]);
    row("no flags, another port",            Pass, tcp_flags(CLIENT, EDGE, 22, 0),   &[TcpNull]);
    row("destination port 0",                Pass, tcp(CLIENT, EDGE, 0),             &[ZeroPort]);
    row("short Initial to nobody",           Pass, quic(OTHER, 443, 0xc3, 1, 60),    &[]);
    row("UDP without service, another address", Pass, udp(CLIENT, OTHER, 11_211),    &[]);
    row("ping with options, another address", Pass, ping(CLIENT, OTHER).options(&[1]), &[IpOptions]);
    row("later fragment, another address",   Pass, udp(CLIENT, OTHER, 443).fragment(9, true), &[Fragment, FragmentStray]);
    row("bogon to another UDP server of ours", Pass, udp("127.0.0.2", EDGE, 50_000), &[Bogon]);
    row("a host asks DHCP",                  Pass, udp("0.0.0.0", "255.255.255.255", 67), &[]);
    rows
}
