//! The everyday frame read in one go: untagged IPv4 without options, whole, TCP or UDP.
//!
//! Nearly all of the traffic is that. Every header lies where it always does, so one bounds check covers all reads;
//! [`crate::parse`] takes four times the instructions. Whatever is else in any way, malformed frames too, is left to the
//! general parser, which finds the same in a plain frame as [`plain`] does.

use crate::abi::{frag, proto};
use crate::addr::Addr;
use crate::parse::{Frame, NO_VLAN, Packet, mark};
use crate::wire::{IPV4_HEADER, TCP_HEADER, UDP_HEADER, ether};

/// Offsets in the frame.
const NETWORK: usize = ether::HEADER;
const UPPER: usize = NETWORK + IPV4_HEADER;
/// Where the words are read from: the IP header lies on a border of words, the `EtherType` in the upper half of one.
const FIRST_WORD: usize = NETWORK % 4;
/// Words up to the eighth byte of the upper header: a UDP header is there as a whole.
const WORDS: usize = (UPPER + UDP_HEADER - FIRST_WORD) / 4;
/// Version 4, five words of header.
const VERSION_AND_WORDS: u8 = 0x45;
/// More fragments, and the fragment offset (RFC 791 section 3.1).
const FRAGMENT: u32 = 0x3fff;

/// The packet in a plain frame, `None` for all others.
#[inline(always)]
pub fn plain<F: Frame + ?Sized>(frame: &F) -> Option<Packet> {
    read(frame, false)
}

/// [`plain`] once more, for a frame in which it found a packet: reads without asking again whether it is a plain one. What was
/// read the first time need not be kept until then.
#[inline(always)]
pub fn plain_again<F: Frame + ?Sized>(frame: &F) -> Option<Packet> {
    read(frame, true)
}

/// `known` where the frame is a plain one for sure.
#[inline(always)]
fn read<F: Frame + ?Sized>(frame: &F, known: bool) -> Option<Packet> {
    let [_, _, kind, version_length, id_fragment, ttl_proto, src, dst, ports, udp_length]: [u32; WORDS] =
        frame.words(FIRST_WORD)?;
    let [version, _, total @ ..] = version_length.to_ne_bytes();
    let total = u16::from_be_bytes(total);
    let [ttl, upper, ..] = ttl_proto.to_ne_bytes();
    let whole = u32::from_be(kind) as u16 == ether::IPV4
        && version == VERSION_AND_WORDS
        && u32::from_be(id_fragment) & FRAGMENT == 0
        && usize::from(total) >= IPV4_HEADER + UDP_HEADER
        && frame.len() >= NETWORK + usize::from(total);
    if !known && !whole {
        return None;
    }
    let room = usize::from(total) - IPV4_HEADER;
    let (header, flags, window, marks) = match upper {
        proto::TCP => {
            let [offset, flags, window @ ..]: [u8; 4] = frame.bytes(UPPER + 12)?;
            let header = usize::from(offset >> 4) * 4;
            if !known && (header < TCP_HEADER || header > room) {
                return None;
            }
            (header, flags, u16::from_be_bytes(window), 0)
        }
        proto::UDP => {
            let length = (u32::from_be(udp_length) >> 16) as usize;
            let lies = length < UDP_HEADER || length > room;
            (UDP_HEADER, 0, 0, if lies { mark::UDP_LENGTH } else { 0 })
        }
        _ => return None,
    };
    let ports = u32::from_be(ports);
    Some(Packet {
        src: Addr::from_v4_word(src),
        dst: Addr::from_v4_word(dst),
        sport: (ports >> 16) as u16,
        dport: ports as u16,
        len: total,
        proto: upper,
        ttl,
        tcp_flags: flags,
        frag: frag::NONE,
        ports: true,
        chain_too_long: false,
        vlan: NO_VLAN,
        window,
        network: NETWORK as u16,
        upper: UPPER as u16,
        payload: (UPPER + header) as u16,
        ident: (NETWORK + 4) as u16,
        icmp_type: 0,
        icmp_code: 0,
        routing_type: 0,
        marks,
        pad: [0; 4],
    })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;
    use crate::parse::{Parsed, parse_any};

    fn frame(proto: u8, upper: &[u8]) -> Vec<u8> {
        let total = (IPV4_HEADER + upper.len()) as u8;
        let mut frame = std::vec![0x55; ether::ADDRESSES];
        frame.extend([8, 0, 0x45, 0, 0, total, 0xbe, 0xef, 0x40, 0, 61, proto, 0, 0, 32, 0, 0, 1, 192, 0, 2, 1]);
        frame.extend_from_slice(upper);
        frame
    }

    const TCP: [u8; 24] = [4, 1, 1, 187, 0, 0, 0, 1, 0, 0, 0, 2, 0x60, 0x12, 0x72, 0x10, 0, 0, 0, 0, 2, 4, 5, 0xb4];
    const UDP: [u8; 12] = [4, 1, 1, 187, 0, 12, 0, 0, 0xc0, 0, 0, 1];

    #[test]
    fn both_are_read() {
        for (proto, upper) in [(proto::TCP, &TCP[..]), (proto::UDP, &UDP[..])] {
            let frame = frame(proto, upper);
            let packet = plain(&frame[..]);
            assert_eq!(packet.map(|p| (p.sport, p.dport, p.ttl, p.proto)), Some((1025, 443, 61, proto)));
            assert_eq!(packet.map(Parsed::Ip), Some(parse_any(&frame[..])));
            assert_eq!(plain_again(&frame[..]), packet);
            // SAFETY: both are 64 bytes without padding.
            let words = packet.map(|packet| unsafe { std::mem::transmute::<Packet, [u64; 8]>(packet) });
            assert_eq!(packet.map(|packet| packet.words()), words);
        }
    }

    /// Whatever one byte of a plain frame becomes, and wherever it is cut: what is still plain is what the general parser
    /// finds.
    #[test]
    fn it_never_differs_from_the_general_parser() {
        let mut plain_ones = 0;
        for (proto, upper) in [(proto::TCP, &TCP[..]), (proto::UDP, &UDP[..])] {
            let whole = frame(proto, upper);
            for at in 0..whole.len() {
                for value in 0..=u8::MAX {
                    let mut frame = whole.clone();
                    frame[at] = value;
                    for frame in [&frame[..], &frame[..at]] {
                        let Some(packet) = plain(frame) else { continue };
                        plain_ones += 1;
                        assert_eq!(plain_again(frame), Some(packet), "byte {at} is {value}");
                        assert_eq!(Parsed::Ip(packet), parse_any(frame), "byte {at} is {value}");
                    }
                }
            }
        }
        assert!(plain_ones > 5_000, "{plain_ones}");
    }
}
