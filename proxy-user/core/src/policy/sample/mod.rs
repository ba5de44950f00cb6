//! The packet or request that a policy's test describes. What is not given is that of an ordinary one: a TCP SYN of 60 bytes
//! with TTL 64 to port 443, a `GET /` over HTTP/1.1.

mod given;
mod read;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{Method, StatusCode, Version};
use proxy_common::abi::{frag, proto};
use proxy_common::addr::Addr;
use proxy_common::fingerprint::SynPattern;
use proxy_common::parse::{NO_VLAN, Packet};
use serde_json::Value;

use super::interfaces::Interfaces;
use super::sample_frame::{self, SampleFrame};
use super::{BodyView, ConnectionView, HeldRequest, LinkView, RequestView, ResponseView};
use crate::abuse::Record;
use crate::fields::Fields;
use crate::geo::Place;
use crate::hello::ClientHello;
use crate::json::shape::Fault;
use crate::ranges::number;
use crate::tls::Identity;
use given::Reader;

/// Source port of a packet that names none.
const SOURCE_PORT: u16 = 50_000;
/// The SYN bit of the TCP flags byte.
const SYN: u8 = 0x02;

/// What a test gives, as both phases see it.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "fields of packets and requests are what they are")]
pub(super) struct Sample {
    src: IpAddr,
    dst: IpAddr,
    proto: u8,
    sport: Option<u16>,
    dport: u16,
    len: u16,
    ttl: u8,
    tcp_flags: u8,
    fragment: bool,
    window: u16,
    icmp_type: u8,
    icmp_code: u8,
    vlan: u16,
    /// Index of the interface; 0 is one without a name.
    interface: u32,
    payload: Vec<u8>,
    syn: Option<SynPattern>,
    /// The length was given, and does not follow from the payload.
    sized: bool,
    /// Values that only packets have were given: no request is meant.
    pub packet_only: bool,
    /// Of the request; source and destination are put in with the rest.
    asked: HeldRequest,
    hello: Option<ClientHello>,
    place: Place,
    body: Option<String>,
    body_truncated: bool,
    client: Option<Identity>,
    early_data: bool,
    link: LinkView,
    /// Of the source.
    abuse: Record,
    status: StatusCode,
    /// Headers of the response.
    answered: Fields,
}

impl Sample {
    /// Reads `given`; faults are placed below `pointer`.
    pub fn new(given: &BTreeMap<String, Value>, pointer: &str, interfaces: Interfaces<'_>) -> Result<Self, Vec<Fault>> {
        let mut reader = Reader::new(pointer, interfaces);
        let mut sample = Self {
            src: Ipv4Addr::UNSPECIFIED.into(),
            dst: Ipv4Addr::UNSPECIFIED.into(),
            proto: proto::TCP,
            sport: None,
            dport: 443,
            len: 60,
            ttl: 64,
            tcp_flags: 0,
            fragment: false,
            window: u16::MAX,
            icmp_type: 0,
            icmp_code: 0,
            vlan: NO_VLAN,
            interface: 0,
            payload: Vec::new(),
            syn: None,
            sized: true,
            packet_only: false,
            asked: HeldRequest {
                src: Ipv4Addr::UNSPECIFIED.into(),
                dst: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                listener: String::new(),
                scheme: "https".to_owned(),
                version: Version::HTTP_11,
                method: Method::GET,
                host: String::new(),
                path: "/".to_owned(),
                query: None,
                headers: Fields::new(),
                body_size: Some(0),
                wall_ms: 0,
            },
            hello: None,
            place: Place::default(),
            body: None,
            body_truncated: false,
            client: None,
            early_data: false,
            link: LinkView::default(),
            abuse: Record::default(),
            status: StatusCode::OK,
            answered: Fields::new(),
        };
        for (key, value) in given {
            if let Err(fault) = reader.entry(&mut sample, key, value) {
                reader.faults.push(fault);
            }
        }
        reader.finish(&mut sample, given);
        if reader.faults.is_empty() { Ok(sample) } else { Err(reader.faults) }
    }

    /// As a worker sees it.
    pub fn request(&self) -> RequestView<'_> {
        let connection = ConnectionView {
            hello: self.hello.as_ref(),
            client: self.client.as_ref(),
            places: Some(&self.place),
            link: Some(self.link),
            abuse: self.abuse,
            early_data: self.early_data,
        };
        let body = BodyView { bytes: self.body.as_deref().map(str::as_bytes), truncated: self.body_truncated };
        let dst = SocketAddr::new(self.dst, self.dport);
        RequestView { src: self.src, dst, ..self.asked.view(connection, body) }
    }

    /// Its ClientHello, an empty one at first.
    fn hello(&mut self) -> &mut ClientHello {
        self.hello.get_or_insert_default()
    }

    /// Its response: an empty one with status 200 unless the test says otherwise.
    pub fn response(&self) -> ResponseView<'_> {
        ResponseView { src: self.src, dst: self.dst, status: self.status, headers: &self.answered }
    }

    /// As the kernel sees it.
    pub fn packet(&self) -> (SampleFrame, Packet) {
        let addr = |ip| Addr::from_bytes(number(ip).to_be_bytes());
        let tcp = self.proto == proto::TCP;
        // A fragment whose ports are given is the first one.
        let state = match (self.fragment, self.sport.is_some()) {
            (false, _) => frag::NONE,
            (true, true) => frag::FIRST,
            (true, false) => frag::LATER,
        };
        let ports = state != frag::LATER && (tcp || self.proto == proto::UDP);
        let upper = state != frag::LATER && matches!(self.proto, proto::ICMP | proto::ICMPV6);
        let mut packet = Packet {
            sport: if ports { self.sport.unwrap_or(SOURCE_PORT) } else { 0 },
            dport: if ports { self.dport } else { 0 },
            len: self.len,
            proto: self.proto,
            ttl: self.ttl,
            tcp_flags: if tcp && ports { self.tcp_flags } else { 0 },
            frag: state,
            ports,
            vlan: self.vlan,
            window: if tcp && ports { self.window } else { 0 },
            icmp_type: if upper { self.icmp_type } else { 0 },
            icmp_code: if upper { self.icmp_code } else { 0 },
            ..Packet::between(addr(self.src), addr(self.dst))
        };
        let frame = sample_frame::frame(&mut packet, &self.payload, self.syn.as_ref(), self.interface, self.sized);
        (frame, packet)
    }
}
