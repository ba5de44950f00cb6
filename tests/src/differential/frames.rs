//! The frames of the search: composed a field at a time from what the world knows, taken from the verdict tables, or sent
//! once more as a later fragment; then changed blindly or not at all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::mutations::mutate;
use crate::packets::{ACK, Frame, QINQ, RST, SYN, VLAN};
use crate::random::Random;

/// What frames are composed of, so that they meet what stands in the world's tables.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Sources.
    pub sources: Vec<IpAddr>,
    /// Destinations.
    pub destinations: Vec<IpAddr>,
    /// Ports of either end.
    pub ports: Vec<u16>,
    /// Finished frames.
    pub corpus: Vec<Vec<u8>>,
}

/// Most changes of one frame.
const CHANGES: usize = 4;
/// One in so many addresses or ports is any.
const STRANGER: usize = 10;
/// Frames that one may repeat.
const RECENT: usize = 32;
const IPV4_FRAGMENT: usize = 20;
const ETHERTYPE: usize = 12;

const FIN: u8 = 1;
const PSH: u8 = 8;
const URG: u8 = 32;
const FLAGS: [u8; 16] = [
    SYN,
    SYN,
    SYN | ACK,
    ACK,
    ACK | PSH,
    ACK | FIN,
    RST,
    RST | ACK,
    0,
    FIN,
    FIN | PSH | URG,
    SYN | FIN,
    SYN | RST,
    63,
    0xff,
    SYN | 0xc0,
];
const WINDOWS: [u16; 6] = [0, 1_024, 1_025, 29_200, 64_240, 65_535];
const TTLS: [u8; 8] = [0, 1, 4, 5, 63, 64, 128, 255];
const ICMP: [(u8, u8); 8] = [(0, 0), (8, 0), (3, 3), (3, 4), (5, 1), (11, 0), (13, 0), (42, 9)];
const ICMP6: [(u8, u8); 9] = [(1, 4), (2, 0), (3, 0), (128, 0), (129, 0), (130, 0), (133, 0), (135, 0), (200, 1)];
/// Protocol numbers that are none of TCP, UDP and ICMP; among them IPv6 extension headers.
const PROTOCOLS: [u8; 12] = [0, 2, 4, 41, 43, 44, 47, 50, 51, 59, 60, 132];
const EXTENSIONS: [u8; 4] = [0, 43, 51, 60];
/// TCP options as stacks send them, and as none does.
const TCP_OPTIONS: [&[u8]; 10] = [
    &[],
    &[2, 4, 5, 180],
    &[2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7],
    &[2, 4, 5, 180, 1, 3, 3, 8, 1, 1, 4, 2],
    &[2, 4, 5, 180, 1, 3, 3, 6, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 4, 2, 0, 0],
    &[1, 1, 1, 1],
    &[2, 0, 0, 0],
    &[2, 40, 5, 180],
    &[0, 2, 4, 5],
    &[254, 4, 0xf9, 0x89, 3, 3, 14, 1],
];
/// First byte and version of QUIC long headers.
const QUIC: [(u8, u32); 6] =
    [(0xc3, 1), (0xc3, 0x6b33_43cf), (0xd3, 0x6b33_43cf), (0xc3, 0xff00_001d), (0xc0, 0), (0x83, 0x0a0a_0a0a)];

impl Pool {
    /// A frame; `recent` are those before it.
    pub fn frame(&self, recent: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
        let mut frame = match random.below(8) {
            0 | 1 if !recent.is_empty() => repeated(recent, random),
            2 | 3 if !self.corpus.is_empty() => self.corpus[random.below(self.corpus.len())].clone(),
            _ => self.composed(random),
        };
        if random.once_in(2) {
            for _ in 0..=random.below(CHANGES) {
                mutate(&mut frame, random);
            }
        }
        frame
    }

    fn composed(&self, random: &mut Random) -> Vec<u8> {
        let v6 = random.below(5) < 2;
        let (src, dst) = (address(&self.sources, v6, random), address(&self.destinations, v6, random));
        let (proto, upper) = match random.below(16) {
            0..8 => (6, self.tcp(random)),
            8..12 => (17, self.udp(random)),
            12..15 => (if v6 { 58 } else { 1 }, icmp(v6, random)),
            _ => (random.pick(&PROTOCOLS), vec![random.word() as u8; random.below(40)]),
        };
        let mut frame = Frame::between(src, dst, proto, upper).ttl(random.pick(&TTLS));
        for _ in 0..random.pick(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3]) {
            frame = frame.vlan(random.pick(&[VLAN, QINQ]), random.pick(&[0, 7, 8, 100, 0x1064, 0xffff]));
        }
        if v6 {
            for _ in 0..random.pick(&[0, 0, 0, 0, 1, 2, 6, 7]) {
                let length = random.below(20);
                frame = frame.extension(random.pick(&EXTENSIONS), &vec![random.pick(&[0, 2, 4]); length]);
            }
        } else if random.once_in(12) {
            let length = random.below(41);
            frame = frame.options(&vec![1; length]);
        }
        if random.once_in(8) {
            frame = frame.fragment(random.pick(&[0, 0, 1, 9, 185, 8_191]), !random.once_in(3));
        }
        if random.once_in(8) {
            frame = frame.padding(random.below(12));
        }
        frame.build()
    }

    fn port(&self, random: &mut Random) -> u16 {
        if self.ports.is_empty() || random.once_in(STRANGER) { random.word() as u16 } else { random.pick(&self.ports) }
    }

    fn tcp(&self, random: &mut Random) -> Vec<u8> {
        let mut upper = [self.port(random).to_be_bytes(), self.port(random).to_be_bytes()].concat();
        upper.extend((random.word() as u32).to_be_bytes());
        upper.extend([0; 4]);
        let options = random.pick(&TCP_OPTIONS);
        upper.extend([((5 + options.len() / 4) as u8) << 4, random.pick(&FLAGS)]);
        upper.extend(random.pick(&WINDOWS).to_be_bytes());
        upper.extend([0; 4]);
        upper.extend(options);
        upper.extend(payload(random));
        upper
    }

    fn udp(&self, random: &mut Random) -> Vec<u8> {
        let mut upper = [self.port(random).to_be_bytes(), self.port(random).to_be_bytes()].concat();
        let mut body = payload(random);
        if random.once_in(2) {
            let (first, version) = random.pick(&QUIC);
            body = vec![first];
            body.extend(version.to_be_bytes());
            body.resize(random.pick(&[5, 6, 60, 1_199, 1_200, 1_252]), 0);
        }
        let lie = random.pick(&[0, 0, 0, 0, 0, 1, 9, 0xff00]);
        upper.extend(((8 + body.len()) as u16).wrapping_add(lie).to_be_bytes());
        upper.extend([0, 0]);
        upper.extend(body);
        upper
    }
}

fn address(pool: &[IpAddr], v6: bool, random: &mut Random) -> IpAddr {
    let count = pool.iter().filter(|ip| ip.is_ipv6() == v6).count();
    if count == 0 || random.once_in(STRANGER) {
        return if v6 {
            Ipv6Addr::from_bits((u128::from(random.word()) << 64) | u128::from(random.word())).into()
        } else {
            Ipv4Addr::from_bits(random.word() as u32).into()
        };
    }
    let place = random.below(count);
    let mut family = pool.iter().filter(|ip| ip.is_ipv6() == v6);
    family.nth(place).copied().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

fn icmp(v6: bool, random: &mut Random) -> Vec<u8> {
    let (kind, code) = if v6 { random.pick(&ICMP6) } else { random.pick(&ICMP) };
    let mut upper = vec![kind, code, 0, 0, 0, 1, 0, 1];
    upper.extend(payload(random));
    upper
}

/// A few bytes of a small alphabet.
fn payload(random: &mut Random) -> Vec<u8> {
    let length = random.pick(&[0, 0, 1, 4, 16, 100]);
    (0..length).map(|_| random.pick(b"GET\0\x16\xff")).collect()
}

/// One of the last frames once more, often as a later fragment of the same datagram.
fn repeated(recent: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let from = recent.len().saturating_sub(RECENT);
    let mut frame = recent[from + random.below(recent.len() - from)].clone();
    let untagged = frame.get(ETHERTYPE..ETHERTYPE + 2) == Some(&[8, 0]);
    if untagged && random.once_in(2) && frame.len() > IPV4_FRAGMENT + 1 {
        let field: u16 = random.pick(&[0x2000, 0x2009, 9, 0x4000]);
        frame[IPV4_FRAGMENT..IPV4_FRAGMENT + 2].copy_from_slice(&field.to_be_bytes());
    }
    frame
}
