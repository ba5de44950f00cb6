//! A packet event as people and programs read it: names instead of numbers, addresses out of the packet.
//!
//! The packet is parsed by the code that decided on it. Opens nothing; names are looked up by the caller.

use std::net::IpAddr;

use proxy_common::abi::{Reason, proto};
use proxy_common::event::{EVENT_SNAP, Event};
use proxy_common::parse::{Frame, Packet, Parsed, parse};
use proxy_common::wire::ether;
use proxy_core::explain::Snapshot;
pub use proxy_core::explain::to_hex;
use serde::{Deserialize, Serialize};

/// One line of `GET /v1/events`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// A sampled packet.
    Event(Box<PacketEvent>),
    /// Every second: what was lost since the last such line.
    Status(Losses),
}

/// A sampled packet.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct PacketEvent {
    /// When, RFC 3339 in UTC.
    pub time: String,
    /// Interface that it came in on.
    pub interface: String,
    /// Why it was handled as it was.
    pub reason: String,
    /// Whether it was dropped.
    pub dropped: bool,
    /// `policy/rule` that decided, `operator`, or none.
    pub rule: Option<String>,
    /// Policy revision that decided.
    pub revision: u32,
    /// How many packets it stands for, about.
    pub sample: u32,
    /// Bytes, link header included.
    pub length: u32,
    /// Source address, where the packet has a readable one.
    pub source: Option<IpAddr>,
    /// Destination address.
    pub destination: Option<IpAddr>,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, or the protocol's number.
    pub protocol: Option<String>,
    /// Source port.
    pub source_port: Option<u16>,
    /// Destination port.
    pub destination_port: Option<u16>,
    /// Name of the listener that it was for.
    pub service: Option<String>,
    /// The packet's first bytes from the link header on, in hex, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packet: Option<String>,
}

/// Events that did not come through.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Losses {
    /// Found the kernel's ring full: the daemon was too slow.
    pub kernel: u64,
    /// Found this reader's queue full: he was too slow.
    pub reader: u64,
}

/// What stands in an event's packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// Source address.
    pub source: Option<IpAddr>,
    /// Destination address.
    pub destination: Option<IpAddr>,
    /// IP protocol.
    pub protocol: Option<u8>,
    /// Source and destination port.
    pub ports: Option<(u16, u16)>,
}

/// The captured bytes of an event.
pub fn snap(event: &Event) -> &[u8] {
    event.snap.get(..(event.captured as usize).min(EVENT_SNAP)).unwrap_or_default()
}

/// Why the packet was handled as it was; none for a reason of another build.
pub fn reason(event: &Event) -> Option<Reason> {
    Reason::ALL.get(event.reason as usize).copied()
}

impl Headers {
    /// Reads them from an event's packet.
    pub fn of(event: &Event) -> Self {
        let bytes = snap(event);
        match parse(&Snapshot { bytes, length: event.length as usize, interface: event.ifindex }) {
            Parsed::Ip(packet) => Self::of_packet(&packet),
            _ => Self::of_addresses(bytes),
        }
    }

    fn of_packet(packet: &Packet) -> Self {
        Self {
            source: Some(packet.src.into()),
            destination: Some(packet.dst.into()),
            protocol: Some(packet.proto),
            ports: packet.ports.then_some((packet.sport, packet.dport)),
        }
    }

    /// What a packet with faulty headers still says of its addresses: without tags, and where the version fits.
    fn of_addresses(bytes: &[u8]) -> Self {
        let mut headers = Self::default();
        let kind = Frame::bytes(bytes, ether::ADDRESSES).map(u16::from_be_bytes);
        match (kind, Frame::bytes(bytes, ether::HEADER)) {
            (Some(ether::IPV4), Some([version])) if version >> 4 == 4 => {
                headers.source = Frame::bytes::<4>(bytes, 26).map(IpAddr::from);
                headers.destination = Frame::bytes::<4>(bytes, 30).map(IpAddr::from);
            }
            (Some(ether::IPV6), Some([version])) if version >> 4 == 6 => {
                headers.source = Frame::bytes::<16>(bytes, 22).map(IpAddr::from);
                headers.destination = Frame::bytes::<16>(bytes, 38).map(IpAddr::from);
            }
            _ => {}
        }
        headers
    }
}

/// An IP protocol's name, or its number.
pub fn protocol_name(number: u8) -> String {
    match number {
        proto::TCP => "tcp".to_owned(),
        proto::UDP => "udp".to_owned(),
        proto::ICMP => "icmp".to_owned(),
        proto::ICMPV6 => "icmpv6".to_owned(),
        other => other.to_string(),
    }
}

/// Bytes from hex; blanks, colons and line ends between them are taken.
///
/// # Errors
/// Says what is not a hex digit.
pub fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let text = text.trim();
    let text = text.strip_prefix("0x").unwrap_or(text);
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let mut half = None;
    for c in text.chars().filter(|c| !c.is_whitespace() && *c != ':') {
        let digit = c.to_digit(16).ok_or_else(|| format!("{c:?} is not a hex digit"))? as u8;
        match half.take() {
            Some(high) => bytes.push(high << 4 | digit),
            None => half = Some(digit),
        }
    }
    if half.is_some() { Err("an odd number of hex digits".to_owned()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(bytes: &[u8], length: u32) -> Event {
        let mut snap = [0xee; EVENT_SNAP];
        snap[..bytes.len()].copy_from_slice(bytes);
        Event {
            time_ns: 1,
            length,
            captured: bytes.len() as u32,
            ifindex: 1,
            reason: Reason::Verdict as u32,
            rule: 0,
            revision: 1,
            dropped: 1,
            sample: 1,
            snap,
        }
    }

    /// TCP 192.0.2.1:40000 to 198.51.100.2:443 with `length` bytes of IP packet.
    fn tcp(length: u16) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 1, 198, 51, 100, 2]);
        frame.extend([0x9c, 0x40, 0x01, 0xbb, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0]);
        frame
    }

    #[test]
    fn headers_of_a_packet_longer_than_its_snapshot() {
        let headers = Headers::of(&event(&tcp(1_500), 1_514));
        assert_eq!(headers.source, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(headers.destination, Some("198.51.100.2".parse().unwrap()));
        assert_eq!((headers.protocol, headers.ports), (Some(proto::TCP), Some((40_000, 443))));
    }

    #[test]
    fn a_malformed_packet_still_has_addresses() {
        // It claims more bytes than it has.
        let headers = Headers::of(&event(&tcp(1_500), 54));
        assert_eq!(headers.source, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(headers.ports, None);
        assert_eq!(Headers::of(&event(&tcp(1_500)[..20], 20)), Headers::default());
        assert_eq!(Headers::of(&event(&[], 0)), Headers::default());
    }

    #[test]
    fn hex_there_and_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&to_hex(&bytes)), Ok(bytes));
        assert_eq!(from_hex(" 0x0A:0b 0C\n"), Ok(vec![10, 11, 12]));
        assert!(from_hex("abc").is_err() && from_hex("zz").is_err());
    }

    #[test]
    fn a_reason_of_another_build_is_none() {
        let mut event = event(&[], 0);
        assert_eq!(reason(&event), Some(Reason::Verdict));
        event.reason = 10_000;
        assert_eq!(reason(&event), None);
    }

    #[test]
    fn lines_read_back() {
        let event =
            PacketEvent { reason: "verdict".to_owned(), packet: Some("00ff".to_owned()), ..PacketEvent::default() };
        for line in [Line::Event(Box::new(event)), Line::Status(Losses { kernel: 1, reader: 2 })] {
            let text = serde_json::to_string(&line).unwrap();
            assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line, "{text}");
        }
    }
}
