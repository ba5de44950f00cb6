//! Flag sets, sources and QUIC first bytes one by one; that what is called ordinary fails nothing.

extern crate std;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::*;

fn addr(text: &str) -> Addr {
    Addr::from_bytes(match text.parse().unwrap() {
        IpAddr::V4(v4) => Ipv4Addr::to_ipv6_mapped(&v4).octets(),
        IpAddr::V6(v6) => Ipv6Addr::octets(&v6),
    })
}

fn tcp(src: &str, flags: u8) -> Packet {
    let dst = if src.contains(':') { "2001:db8::1" } else { "192.0.2.1" };
    let between = Packet::between(addr(src), addr(dst));
    Packet { proto: proto::TCP, sport: 40_000, dport: 443, ports: true, tcp_flags: flags, ..between }
}

#[test]
fn every_flag_set_has_its_check() {
    for flags in 0..=255u8 {
        let bare = flags & 63;
        let want = match bare {
            0 => Some(Reason::TcpNull),
            41 => Some(Reason::TcpXmas),
            _ if bare & 3 == 3 => Some(Reason::TcpSynFin),
            _ if bare & 6 == 6 => Some(Reason::TcpSynRst),
            _ if bare & 0x16 == 0 => Some(Reason::TcpNoAck),
            _ => None,
        };
        assert_eq!(flags_fault(flags), want, "{flags:#04x}");
        assert_eq!(FAULTY_FLAGS >> bare & 1 == 1, want.is_some());
    }
    for legitimate in [0x02, 0x12, 0x10, 0x18, 0x11, 0x14, 0x04, 0xc2, 0x52, 0x30, 0x39] {
        assert_eq!(flags_fault(legitimate), None, "{legitimate:#04x}");
    }
}

#[test]
fn sources() {
    let bogon = Reason::Bogon.bit();
    let special = Reason::SpecialSource.bit();
    for (source, want) in [
        ("0.0.0.0", bogon),
        ("0.1.2.3", bogon),
        ("127.0.0.1", bogon),
        ("224.0.0.1", bogon),
        ("239.255.255.255", bogon),
        ("240.0.0.1", bogon),
        ("255.255.255.255", bogon),
        ("::", bogon),
        ("::1", bogon),
        ("ff02::1", bogon),
        ("10.0.0.1", special),
        ("100.64.0.1", special),
        ("100.127.255.255", special),
        ("169.254.1.1", special),
        ("172.16.0.1", special),
        ("172.31.255.255", special),
        ("192.0.0.8", special),
        ("192.0.2.9", special),
        ("192.88.99.1", special),
        ("192.168.1.1", special),
        ("198.18.0.1", special),
        ("198.19.255.255", special),
        ("198.51.100.1", special),
        ("203.0.113.1", special),
        ("fc00::1", special),
        ("fdff::1", special),
        ("fe80::1", special),
        ("febf::1", special),
        ("100::1", special),
        ("2001:db8::9", special),
        ("2001:1ff::1", special),
        ("3fff:fff::1", special),
        ("5f00::1", special),
        ("64:ff9b:1::1", special),
        ("1.0.0.1", 0),
        ("100.63.255.255", 0),
        ("100.128.0.0", 0),
        ("126.255.255.255", 0),
        ("128.0.0.1", 0),
        ("172.32.0.1", 0),
        ("192.0.1.1", 0),
        ("198.20.0.1", 0),
        ("223.255.255.255", 0),
        ("2001:200::1", 0),
        ("2606:4700::1", 0),
        ("3ffe::1", 0),
        ("fec0::1", 0),
    ] {
        assert_eq!(examine(&tcp(source, 0x10), false, 0), want, "{source}");
    }
    let mapped = Packet { marks: mark::MAPPED_SOURCE, ..tcp("198.20.0.1", 0x10) };
    assert_eq!(examine(&mapped, false, 0), bogon);
}

#[test]
fn who_has_no_address_yet_may_ask() {
    let dhcp = Packet { proto: proto::UDP, dport: 67, ..tcp("0.0.0.0", 0) };
    assert_eq!(examine(&dhcp, false, 0), 0);
    for (kind, passes) in [(135, true), (133, true), (143, true), (131, true), (128, false)] {
        let icmp = Packet { proto: proto::ICMPV6, icmp_type: kind, ports: false, ..tcp("::", 0) };
        assert_eq!(examine(&icmp, false, 0) == 0, passes, "type {kind}");
    }
}

#[test]
fn quic_first_bytes() {
    let long = |first: u64, version: u64| first << 32 | version;
    let (short, unknown) = (Reason::QuicShortInitial.bit(), Reason::QuicVersion.bit());
    for (fact, len, want) in [
        (long(0xc0, 1), 28 + 1_199, short),
        (long(0xc0, 1), 28 + 1_200, 0),
        (long(0x80, 1), 28 + 1_199, short), // the fixed bit may be greased, RFC 9287
        (long(0xd0, 1), 60, 0),             // 0-RTT
        (long(0xe0, 1), 60, 0),             // handshake
        (long(0xd0, 0x6b33_43cf), 60, short),
        (long(0xc0, 0x6b33_43cf), 60, 0), // retry
        (long(0xc0, 0), 60, 0),           // version negotiation
        (long(0xc0, 0x1a2a_3a4a), 60, 0), // grease
        (long(0xc0, 0xff00_001d), 60, unknown),
        (long(0xc0, 2), 1_300, unknown),
        (long(0x40, 0xff00_001d), 60, 0), // short header
    ] {
        let packet = Packet { proto: proto::UDP, len, payload: 28, ..tcp("198.20.0.1", 0) };
        assert_eq!(examine(&packet, true, fact), want, "{fact:#x} in {len}");
        assert_eq!(examine(&packet, false, fact), 0, "not to a service");
    }
}

#[test]
fn lengths_and_ports() {
    let later = |len| Packet { frag: frag::LATER, ports: false, len, ..tcp("198.20.0.1", 0) };
    assert_eq!(examine(&later(1_500), false, 65_528), Reason::Fragment.bit() | Reason::BadLength.bit());
    assert_eq!(examine(&later(1_500), false, 64_000), Reason::Fragment.bit());
    let land = Packet { sport: 443, src: addr("192.0.2.1"), ..tcp("198.20.0.1", 2) };
    assert_eq!(examine(&land, false, 0), Reason::Land.bit() | Reason::SpecialSource.bit());
    assert_eq!(examine(&Packet { sport: 0, ..tcp("198.20.0.1", 2) }, false, 0), Reason::ZeroPort.bit());
    assert_eq!(examine(&Packet { dport: 0, ..tcp("198.20.0.1", 2) }, false, 0), Reason::ZeroPort.bit());
}

#[test]
fn limited_icmp_spares_what_networks_live_on() {
    let icmp = |proto, icmp_type, icmp_code| Packet { proto, icmp_type, icmp_code, ..tcp("198.20.0.1", 0) };
    for (proto, kind, code, limited) in [
        (proto::ICMP, 3, 4, false),
        (proto::ICMP, 3, 3, true),
        (proto::ICMP, 8, 0, true),
        (proto::ICMPV6, 2, 0, false),
        (proto::ICMPV6, 133, 0, false),
        (proto::ICMPV6, 137, 0, false),
        (proto::ICMPV6, 128, 0, true),
        (proto::UDP, 0, 0, false),
    ] {
        assert_eq!(limited_icmp(&icmp(proto, kind, code)), limited, "{proto} {kind}/{code}");
    }
}

/// Random TCP packets: whatever the fast way lets by fails no check.
#[test]
fn the_ordinary_fail_nothing() {
    let mut random = 1u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random >> 20
    };
    let (mut ordinary_ones, mut under_all_checks) = (0, 0);
    for _ in 0..400_000 {
        let word = next() as u32;
        let src = match next() % 4 {
            0 => Addr { hi: next() << 30 | next(), lo: next() },
            1 => addr("192.0.2.1"),
            _ => Addr::from_v4_word(word),
        };
        let packet = Packet {
            src,
            tcp_flags: next() as u8,
            sport: [0, 443, 40_000][next() as usize % 3],
            marks: if next() % 8 == 0 { next() as u8 & 31 } else { 0 },
            ..tcp("198.20.0.1", 0)
        };
        let checked = if next() % 2 == 0 { u64::MAX } else { !Reason::SpecialSource.bit() };
        if ordinary(&packet, checked, 1 << own_bit(addr("192.0.2.1"))) {
            ordinary_ones += 1;
            under_all_checks += u32::from(checked == u64::MAX);
            assert_eq!(examine(&packet, false, 0) & checked, 0, "{packet:?}");
            assert_ne!(packet.src, addr("192.0.2.1"));
        }
    }
    assert!(ordinary_ones > 10_000 && under_all_checks > 5_000, "{ordinary_ones}, {under_all_checks}");
}
