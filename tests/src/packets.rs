//! Frames made by hand, a field at a time: what the verdict table, the differential search and the benches feed to `front`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of an 802.1Q tag.
pub const VLAN: u16 = 0x8100;
/// EtherType of an 802.1ad tag.
pub const QINQ: u16 = 0x88a8;
/// TCP flag SYN.
pub const SYN: u8 = 0x02;
/// TCP flag ACK.
pub const ACK: u8 = 0x10;
/// TCP flag RST.
pub const RST: u8 = 0x04;

/// A frame in the making. Lengths are filled in when it is built, unless a `lie` was told.
#[derive(Clone, Debug)]
pub struct Frame {
    src: IpAddr,
    dst: IpAddr,
    tags: Vec<(u16, u16)>,
    ethertype: Option<u16>,
    options: Vec<u8>,
    extensions: Vec<(u8, Vec<u8>)>,
    fragment: u16,
    ttl: u8,
    proto: u8,
    upper: Vec<u8>,
    lies: Vec<(usize, Vec<u8>)>,
    cut: Option<usize>,
    padding: usize,
}

/// A TCP segment without options.
pub fn tcp(src: &str, dst: &str, dport: u16) -> Frame {
    tcp_flags(src, dst, dport, SYN)
}

/// A TCP segment with the given flags byte.
pub fn tcp_flags(src: &str, dst: &str, dport: u16, flags: u8) -> Frame {
    let mut upper = ports(40_000, dport);
    upper.extend([0; 8]);
    upper.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    Frame::new(src, dst, 6, upper)
}

/// A UDP datagram with four bytes of payload.
pub fn udp(src: &str, dst: &str, dport: u16) -> Frame {
    let mut upper = ports(40_000, dport);
    upper.extend([0, 12, 0, 0, 1, 2, 3, 4]);
    Frame::new(src, dst, 17, upper)
}

/// Bytes of the options of an ordinary SYN of Linux: MSS 1,460, SACK, timestamps, window scale 7.
pub const LINUX_OPTIONS: [u8; 20] = [2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];

/// A SYN with these options, padded to whole words with zeros, sequence number 1 and window 64,240.
pub fn syn_with(src: &str, dst: &str, dport: u16, options: &[u8]) -> Frame {
    let mut upper = ports(40_000, dport);
    let padded = options.len().next_multiple_of(4);
    upper.extend([0, 0, 0, 1, 0, 0, 0, 0]);
    upper.extend([(5 + padded as u8 / 4) << 4, SYN, 0xfa, 0xf0, 0, 0, 0, 0]);
    upper.extend(options);
    upper.resize(20 + padded, 0);
    Frame::new(src, dst, 6, upper)
}

/// An ICMP or ICMPv6 echo request.
pub fn ping(src: &str, dst: &str) -> Frame {
    let (proto, kind) = if src.contains(':') { (58, 128) } else { (1, 8) };
    Frame::new(src, dst, proto, vec![kind, 0, 0, 0, 0, 1, 0, 1])
}

fn ports(sport: u16, dport: u16) -> Vec<u8> {
    [sport.to_be_bytes(), dport.to_be_bytes()].concat()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is not an address"))
}

impl Frame {
    /// An IP packet of any protocol; the family follows the addresses.
    pub fn new(src: &str, dst: &str, proto: u8, upper: Vec<u8>) -> Self {
        Self::between(ip(src), ip(dst), proto, upper)
    }

    /// As [`Frame::new`], from addresses of one family.
    pub fn between(src: IpAddr, dst: IpAddr, proto: u8, upper: Vec<u8>) -> Self {
        Self {
            src,
            dst,
            tags: Vec::new(),
            ethertype: None,
            options: Vec::new(),
            extensions: Vec::new(),
            fragment: 0,
            ttl: 64,
            proto,
            upper,
            lies: Vec::new(),
            cut: None,
            padding: 0,
        }
    }

    /// Adds a tag of VLAN 7 with the given EtherType, outermost first.
    pub fn tag(self, ethertype: u16) -> Self {
        self.vlan(ethertype, 7)
    }

    /// Adds a tag with the given EtherType and tag control information, outermost first.
    pub fn vlan(mut self, ethertype: u16, control: u16) -> Self {
        self.tags.push((ethertype, control));
        self
    }

    /// Claims another EtherType.
    pub fn ethertype(mut self, ethertype: u16) -> Self {
        self.ethertype = Some(ethertype);
        self
    }

    /// IPv4 options (padded to words).
    pub fn options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self.options.resize(options.len().next_multiple_of(4), 0);
        self
    }

    /// Appends an IPv6 extension header: its own number and its bytes from the third on (lengths are filled in).
    pub fn extension(mut self, number: u8, rest: &[u8]) -> Self {
        self.extensions.push((number, rest.to_vec()));
        self
    }

    /// The IPv4 flags-and-offset field, or an IPv6 fragment header with the same meaning.
    pub fn fragment(mut self, offset_units: u16, more: bool) -> Self {
        if self.src.is_ipv4() {
            self.fragment = offset_units | if more { 0x2000 } else { 0 };
            self
        } else {
            let field = (offset_units << 3) | u16::from(more);
            let mut rest = field.to_be_bytes().to_vec();
            rest.extend([0, 0, 0, 1]);
            self.extension(44, &rest)
        }
    }

    /// Another source, of the same family.
    pub fn from(mut self, src: &str) -> Self {
        self.src = ip(src);
        self
    }

    /// TTL or hop limit.
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// Adds payload behind the upper header.
    pub fn payload(mut self, bytes: usize) -> Self {
        self.upper.resize(self.upper.len() + bytes, 0xaa);
        self
    }

    /// Overwrites bytes of the finished frame.
    pub fn lie(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.lies.push((offset, bytes.to_vec()));
        self
    }

    /// Cuts the finished frame.
    pub fn cut(mut self, length: usize) -> Self {
        self.cut = Some(length);
        self
    }

    /// Trailing bytes behind the IP packet, as short Ethernet frames carry.
    pub fn padding(mut self, bytes: usize) -> Self {
        self.padding = bytes;
        self
    }

    /// The bytes.
    pub fn build(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for (ethertype, control) in &self.tags {
            frame.extend(ethertype.to_be_bytes());
            frame.extend(control.to_be_bytes());
        }
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.ipv4(&mut frame, src, dst),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.ipv6(&mut frame, src, dst),
            _ => panic!("addresses of two families"),
        }
        frame.resize(frame.len() + self.padding, 0);
        for (offset, bytes) in &self.lies {
            frame[*offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        if let Some(length) = self.cut {
            frame.truncate(length);
        }
        frame
    }

    fn ipv4(&self, frame: &mut Vec<u8>, src: Ipv4Addr, dst: Ipv4Addr) {
        frame.extend(self.ethertype.unwrap_or(IPV4).to_be_bytes());
        let header = 20 + self.options.len();
        let total = (header + self.upper.len()) as u16;
        frame.extend([0x40 | (header / 4) as u8, 0]);
        frame.extend(total.to_be_bytes());
        frame.extend([0, 1]);
        frame.extend(self.fragment.to_be_bytes());
        frame.extend([self.ttl, self.proto, 0, 0]);
        frame.extend(src.octets());
        frame.extend(dst.octets());
        frame.extend(&self.options);
        frame.extend(&self.upper);
    }

    fn ipv6(&self, frame: &mut Vec<u8>, src: Ipv6Addr, dst: Ipv6Addr) {
        frame.extend(self.ethertype.unwrap_or(IPV6).to_be_bytes());
        let mut chain = Vec::new();
        for (index, (number, rest)) in self.extensions.iter().enumerate() {
            let next = self.extensions.get(index + 1).map_or(self.proto, |(number, _)| *number);
            let mut body = rest.clone();
            // Authentication headers count words less two, the others eight bytes less one; fragments have no length.
            let length = match number {
                51 => {
                    body.resize((body.len() + 2).next_multiple_of(4).max(8) - 2, 0);
                    ((body.len() + 2) / 4 - 2) as u8
                }
                44 => 0,
                _ => {
                    body.resize((body.len() + 2).next_multiple_of(8) - 2, 0);
                    ((body.len() + 2) / 8 - 1) as u8
                }
            };
            chain.extend([next, length]);
            chain.extend(body);
        }
        let first = self.extensions.first().map_or(self.proto, |(number, _)| *number);
        frame.extend([0x60, 0, 0, 0]);
        frame.extend(((chain.len() + self.upper.len()) as u16).to_be_bytes());
        frame.extend([first, self.ttl]);
        frame.extend(src.octets());
        frame.extend(dst.octets());
        frame.extend(chain);
        frame.extend(&self.upper);
    }
}
