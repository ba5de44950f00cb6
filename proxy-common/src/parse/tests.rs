//! Offsets, marks and ids that the parser fills in; the verdict table holds what is malformed.

extern crate std;
use std::vec::Vec;

use super::*;

/// Ethernet up to the EtherType's place.
fn ethernet(tail: &[&[u8]]) -> Vec<u8> {
    let mut frame = std::vec![0; ether::ADDRESSES];
    for part in tail {
        frame.extend_from_slice(part);
    }
    frame
}

fn packet(frame: &[u8]) -> Packet {
    match parse(frame) {
        Parsed::Ip(packet) => packet,
        other => panic!("{other:?}"),
    }
}

fn ipv4_header(words: u8, total: u8, fragment: [u8; 2], proto: u8) -> Vec<u8> {
    let mut header = std::vec![
        0x40 | words,
        0,
        0,
        total,
        0xbe,
        0xef,
        fragment[0],
        fragment[1],
        64,
        proto,
        0,
        0,
        192,
        0,
        2,
        1,
        192,
        0,
        2,
        2
    ];
    header.resize(usize::from(words) * 4, 1);
    header
}

#[test]
fn tcp_behind_options_and_two_tags() {
    let tcp = [0, 7, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0x60, 0x12, 0x72, 0x10, 0, 0, 0, 0, 2, 4, 5, 0xb4, 0xaa];
    let frame =
        ethernet(&[&[0x88, 0xa8, 0xe1, 0x23, 0x81, 0x00, 0, 7, 8, 0], &ipv4_header(6, 49, [0, 0], 6), &tcp, &[0; 9]]);
    let found = packet(&frame);
    assert_eq!((found.vlan, found.network, found.upper, found.payload), (0x123, 22, 46, 70));
    assert_eq!((found.sport, found.dport, found.tcp_flags, found.window), (7, 9, 0x12, 0x7210));
    assert_eq!((found.marks, found.end(), found.ident), (mark::IPV4_OPTIONS, 71, 26));
}

#[test]
fn udp_length_contradicts() {
    let frame = |length: u8, fragment| {
        let udp = [0, 7, 1, 0xbb, 0, length, 0, 0, 1, 2, 3, 4];
        packet(&ethernet(&[&[8, 0], &ipv4_header(5, 32, fragment, 17), &udp])).marks
    };
    for (length, fragment, marks) in [
        (12, [0, 0], 0),
        (8, [0, 0], 0),
        (7, [0, 0], mark::UDP_LENGTH),
        (0, [0, 0], mark::UDP_LENGTH),
        (13, [0, 0], mark::UDP_LENGTH),
        (200, [0x20, 0], 0), // the rest is in later fragments
        (200, [0, 9], 0),
    ] {
        assert_eq!(frame(length, fragment), marks, "length {length}, fragment {fragment:?}");
    }
}

#[test]
fn later_fragments_have_an_identification_and_no_upper_header() {
    let found = packet(&ethernet(&[&[8, 0], &ipv4_header(5, 28, [0, 9], 17), &[0; 8]]));
    assert_eq!((found.frag, found.upper, found.payload, found.ident, found.vlan), (frag::LATER, 0, 0, 18, NO_VLAN));
    let mut ipv6 = std::vec![0x60, 0, 0, 0, 0, 16, extension::FRAGMENT, 64];
    ipv6.extend([0x20; 32]);
    ipv6.extend([17, 0, 0, 9, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0, 0, 0, 0, 0]);
    let found = packet(&ethernet(&[&[0x86, 0xdd], &ipv6]));
    assert_eq!((found.frag, found.proto, found.upper, found.ident), (frag::LATER, 17, 0, 58));
}

#[test]
fn icmp_and_routing_headers() {
    let frame = |types: [u8; 2]| {
        let mut ipv6 = std::vec![0x60, 0, 0, 0, 0, 24, extension::ROUTING, 64];
        ipv6.extend([0x20; 32]);
        ipv6.extend([extension::ROUTING, 0, types[0], 0, 0, 0, 0, 0]);
        ipv6.extend([58, 0, types[1], 0, 0, 0, 0, 0]);
        ipv6.extend([2, 1, 0, 0, 0, 0, 5, 0]);
        packet(&ethernet(&[&[0x86, 0xdd], &ipv6]))
    };
    let found = frame([4, 2]);
    assert_eq!((found.icmp_type, found.icmp_code, found.upper, found.payload), (2, 1, 70, 78));
    assert_eq!((found.marks, found.routing_type), (mark::ROUTING, 4));
    assert_eq!(frame([4, 0]).marks, mark::ROUTING | mark::ROUTING_0);
    assert_eq!(frame([0, 4]).routing_type, 0);
}
