//! The bytes of the packet that a policy's test describes: headers where the parser would have found them, options as a
//! signature has them, the payload. What a rule does not look at is left zero.

use proxy_common::abi::{frag, proto};
use proxy_common::fingerprint::{SynPattern, Window, quirk};
use proxy_common::parse::{Frame, Packet};
use proxy_common::wire::{IPV4_HEADER, IPV6_HEADER, TCP_HEADER, UDP_HEADER, ether, tcp_flag};

use super::lang::signature;

/// Bytes of an ICMP header.
const ICMP_HEADER: usize = 8;

/// A frame, and where it came in.
#[derive(Debug)]
pub(super) struct SampleFrame {
    bytes: Vec<u8>,
    interface: u32,
}

impl SampleFrame {
    /// Of bytes from the Ethernet header on.
    #[cfg(test)]
    pub fn of(bytes: Vec<u8>, interface: u32) -> Self {
        Self { bytes, interface }
    }
}

impl Frame for SampleFrame {
    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        Frame::bytes(self.bytes.as_slice(), offset)
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn interface(&self) -> u32 {
        self.interface
    }
}

/// What of a SYN's signature stands in other fields of the packet too: TTL and window, where the signature has them.
pub(super) fn implied(pattern: &SynPattern) -> (Option<u8>, Option<u16>) {
    let mss = pattern.mss.unwrap_or(signature::ORDINARY_MSS);
    let headers = if pattern.version == 6 { IPV6_HEADER } else { IPV4_HEADER } + TCP_HEADER;
    let window = match pattern.window {
        Window::Any => None,
        Window::Exact(number) | Window::MultipleOf(number) => Some(number),
        Window::Mss(times) => Some(times.saturating_mul(mss)),
        Window::Mtu(times) => Some(times.saturating_mul(mss.saturating_add(headers as u16))),
    };
    let [_, most] = pattern.ttl;
    ((most != u8::MAX).then_some(most), window)
}

/// Writes the frame of `packet` and sets its places; its length too, unless it was given.
pub(super) fn frame(
    packet: &mut Packet,
    payload: &[u8],
    pattern: Option<&SynPattern>,
    interface: u32,
    length_given: bool,
) -> SampleFrame {
    let v4 = packet.src.is_v4();
    let ip_options = pattern.and_then(|pattern| pattern.ip_options).unwrap_or_default();
    let network = ether::HEADER;
    let upper = network + if v4 { IPV4_HEADER } else { IPV6_HEADER } + usize::from(ip_options);
    let options = pattern.map(signature::options).unwrap_or_default();
    let header = match packet.proto {
        proto::TCP => TCP_HEADER + options.len(),
        proto::UDP => UDP_HEADER,
        _ => ICMP_HEADER,
    };
    packet.network = network as u16;
    if packet.frag != frag::LATER {
        packet.upper = upper as u16;
        packet.payload = (upper + header) as u16;
    }
    if !length_given {
        packet.len = (upper + header + payload.len() - network).min(usize::from(u16::MAX)) as u16;
    }
    let quirks = pattern.and_then(|pattern| pattern.quirks).unwrap_or(quirk::DF | quirk::ID_SET);
    let mut bytes = vec![0; upper + header];
    if let Some(ip) = bytes.get_mut(network..upper) {
        if v4 { ipv4(ip, packet, quirks) } else { ipv6(ip, packet, quirks) }
    }
    if let Some(here) = bytes.get_mut(upper..) {
        upper_header(here, packet, quirks, &options);
    }
    bytes.extend(payload);
    bytes.resize(bytes.len().max(packet.end()), 0);
    SampleFrame { bytes, interface }
}

/// Copies `from` to `at`; the callers' places are within a header.
fn put(header: &mut [u8], at: usize, from: &[u8]) {
    if let Some(place) = header.get_mut(at..at + from.len()) {
        place.copy_from_slice(from);
    }
}

fn ipv4(header: &mut [u8], packet: &Packet, quirks: u32) {
    let has = |quirk: u32| quirks & quirk != 0;
    let words = (header.len() / 4) as u8;
    put(header, 0, &[0x40 | words, if has(quirk::ECN) { 2 } else { 0 }]);
    put(header, 2, &packet.len.to_be_bytes());
    let id = if has(quirk::DF) { has(quirk::ID_SET) } else { !has(quirk::ID_ZERO) };
    let flags = if has(quirk::DF) { 0x40 } else { 0 } | if has(quirk::RESERVED) { 0x80 } else { 0 };
    put(header, 4, &[0, u8::from(id), flags, 0, packet.ttl, packet.proto]);
    let ([.., s0, s1, s2, s3], [.., d0, d1, d2, d3]) = (packet.src.to_bytes(), packet.dst.to_bytes());
    put(header, 12, &[s0, s1, s2, s3, d0, d1, d2, d3]);
}

fn ipv6(header: &mut [u8], packet: &Packet, quirks: u32) {
    let has = |quirk: u32| quirks & quirk != 0;
    put(header, 0, &[0x60, if has(quirk::ECN) { 0x20 } else { 0 }, 0, u8::from(has(quirk::FLOW))]);
    put(header, 4, &packet.len.saturating_sub(IPV6_HEADER as u16).to_be_bytes());
    put(header, 6, &[packet.proto, packet.ttl]);
    put(header, 8, &packet.src.to_bytes());
    put(header, 24, &packet.dst.to_bytes());
}

fn upper_header(header: &mut [u8], packet: &mut Packet, quirks: u32, options: &[u8]) {
    if !packet.ports {
        put(header, 0, &[packet.icmp_type, packet.icmp_code]);
        return;
    }
    put(header, 0, &packet.sport.to_be_bytes());
    put(header, 2, &packet.dport.to_be_bytes());
    if packet.proto == proto::UDP {
        let length = (header.len() + packet.end().saturating_sub(packet.payload.into())) as u16;
        put(header, 4, &length.to_be_bytes());
        return;
    }
    let has = |quirk: u32| quirks & quirk != 0;
    for (quirk, flag) in [(quirk::URGENT, tcp_flag::URG), (quirk::PUSH, tcp_flag::PSH)] {
        packet.tcp_flags |= if has(quirk) { flag } else { 0 };
    }
    put(header, 7, &[u8::from(!has(quirk::SEQ_ZERO))]);
    put(header, 11, &[u8::from(has(quirk::ACK_SET))]);
    put(header, 12, &[((header.len() / 4) << 4) as u8, packet.tcp_flags]);
    put(header, 14, &packet.window.to_be_bytes());
    put(header, 19, &[u8::from(has(quirk::URGENT_SET))]);
    put(header, TCP_HEADER, options);
}
