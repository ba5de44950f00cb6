//! Reads what a test gives into a sample, field by field, and what follows from several of them together.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::{HeaderName, Method, StatusCode, Version};
use proxy_common::abi::proto;
use proxy_common::syn_ack::MAX_OPTIONS;
use serde_json::Value;

use super::super::interfaces::Interfaces;
use super::super::lang::{
    Availability, CertField, Field, FlagField, HttpInt, IntField, IpField, PacketField, ProtoSet, TextField, Type,
    signature,
};
use super::super::sample_frame::implied;
use super::super::sample_hello;
use super::read::{field_of, header_value, hex};
use super::{SOURCE_PORT, SYN, Sample};
use crate::abuse::Kind;
use crate::diagnostic::hint;
use crate::json::join;
use crate::json::shape::{Fault, describe};

pub(super) struct Reader<'a> {
    pointer: &'a str,
    interfaces: Interfaces<'a>,
    pub(super) faults: Vec<Fault>,
    src: Option<IpAddr>,
    dst: Option<IpAddr>,
    /// A port was given.
    ports: bool,
    icmp: bool,
    /// What port fields and the HTTP version say of the protocol.
    udp: Option<bool>,
}

impl<'a> Reader<'a> {
    /// Whose faults are placed below `pointer`.
    pub(super) fn new(pointer: &'a str, interfaces: Interfaces<'a>) -> Self {
        Self { pointer, interfaces, faults: Vec::new(), src: None, dst: None, ports: false, icmp: false, udp: None }
    }

    pub(super) fn entry(&mut self, sample: &mut Sample, key: &str, value: &Value) -> Result<(), Fault> {
        let at = join(self.pointer, key);
        let wrong = |message: String| Fault::at(at.clone(), message);
        let field = field_of(key).map_err(|message| Fault::at_key(at.clone(), message))?;
        match field.availability() {
            Availability::Packet => sample.packet_only = true,
            Availability::Both
            | Availability::Hello
            | Availability::Request
            | Availability::Body
            | Availability::Response => {}
        }
        let expected = |kind: Type| wrong(format!("found {}, expected {}", describe(value), kind.name()));
        match field {
            Field::Ip(field) => {
                let ip = value.as_str().ok_or_else(|| expected(Type::Ip))?;
                let ip: IpAddr = ip.parse().map_err(|_| wrong(format!("`{ip}` is not an IP address")))?;
                let place = if field == IpField::Src { &mut self.src } else { &mut self.dst };
                *place = Some(ip.to_canonical());
            }
            Field::Int(field) => {
                let number = value.as_u64().ok_or_else(|| expected(Type::Int))?;
                if u128::from(number) > field.max() {
                    return Err(wrong(format!("{number} is beyond {}, the largest value there is", field.max())));
                }
                self.int(sample, field, number);
            }
            Field::Flag(field) => {
                let set = value.as_bool().ok_or_else(|| expected(Type::Bool))?;
                match field {
                    FlagField::Fragment => sample.fragment = set,
                    FlagField::Tcp(bit) if set => sample.tcp_flags |= bit,
                    FlagField::Ssl => if set { "https" } else { "http" }.clone_into(&mut sample.asked.scheme),
                    FlagField::BodyTruncated => sample.body_truncated = set,
                    FlagField::ClientVerified => sample.client = set.then(|| sample.client.take().unwrap_or_default()),
                    FlagField::EarlyData => sample.early_data = set,
                    FlagField::Tcp(_) => {}
                }
            }
            Field::Proto => {
                let name = value.as_str().ok_or_else(|| expected(Type::Text))?;
                let known = ProtoSet::NAMES.iter().find(|(known, _)| *known == name);
                let names = ProtoSet::NAMES.iter().map(|(known, _)| *known);
                sample.proto =
                    known.ok_or_else(|| wrong(format!("unknown protocol \"{name}\"{}", hint(name, names))))?.1;
            }
            Field::Text(TextField::Hello(field)) => sample_hello::text(sample.hello(), field, value).map_err(wrong)?,
            Field::Text(field) => {
                let text = value.as_str().ok_or_else(|| expected(Type::Text))?;
                self.text(sample, &field, text).map_err(wrong)?;
            }
            Field::Packet(field) => {
                let text = value.as_str().ok_or_else(|| expected(Type::Text))?;
                self.packet(sample, field, text).map_err(wrong)?;
            }
            Field::Headers | Field::Args | Field::Cookies | Field::ResponseHeaders => {}
        }
        Ok(())
    }

    fn int(&mut self, sample: &mut Sample, field: IntField, number: u64) {
        let port = number as u16;
        match field {
            IntField::Ttl => sample.ttl = number as u8,
            IntField::Len => sample.len = port,
            IntField::TcpSrc | IntField::UdpSrc => sample.sport = Some(port),
            IntField::TcpDst | IntField::UdpDst => sample.dport = port,
            IntField::TcpWindow => sample.window = port,
            IntField::IcmpType => sample.icmp_type = number as u8,
            IntField::IcmpCode => sample.icmp_code = number as u8,
            IntField::Vlan => sample.vlan = port,
            IntField::Http(HttpInt::BodySize) => sample.asked.body_size = Some(number),
            IntField::Http(HttpInt::Asn) => sample.place.asn = Some(number as u32),
            IntField::Http(HttpInt::HelloLength) => sample.hello().length = number as u32,
            IntField::Http(HttpInt::Score) => {
                self.faults
                    .push(Fault::at(self.pointer, "rules give a request its `tidegate.score`; it cannot be given"));
            }
            IntField::Http(HttpInt::Abuse) => sample.abuse.score = u32::try_from(number).unwrap_or(u32::MAX),
            IntField::Http(HttpInt::Link(field)) => field.set(&mut sample.link, number),
            IntField::Http(HttpInt::Seconds) => sample.asked.wall_ms = number.saturating_mul(1_000),
            IntField::Http(HttpInt::Milliseconds) => sample.asked.wall_ms = number,
            IntField::Http(HttpInt::Status) => match StatusCode::from_u16(port) {
                Ok(status) => sample.status = status,
                Err(_) => self.faults.push(Fault::at(self.pointer, "an HTTP status has three digits, 100 to 999")),
            },
        }
        if matches!(field, IntField::IcmpType | IntField::IcmpCode) {
            self.icmp = true;
        }
        if field == IntField::TcpWindow {
            self.transport(false);
        }
        if matches!(field, IntField::TcpSrc | IntField::TcpDst | IntField::UdpSrc | IntField::UdpDst) {
            self.ports = true;
            self.transport(matches!(field, IntField::UdpSrc | IntField::UdpDst));
        }
    }

    fn packet(&mut self, sample: &mut Sample, field: PacketField, text: &str) -> Result<(), String> {
        match field {
            PacketField::Interface => sample.interface = self.interfaces.index(text)?,
            PacketField::Fingerprint => {
                let pattern = signature::parse(text)?;
                let options = signature::options(&pattern).len();
                if options > MAX_OPTIONS || !options.is_multiple_of(4) {
                    return Err(format!(
                        "these options take {options} bytes; TCP has whole words, and at most {MAX_OPTIONS} bytes: \
                         write the `nop`s and the `eol+N` between and behind them"
                    ));
                }
                sample.syn = Some(pattern);
                self.transport(false);
            }
            PacketField::Payload(protocol) => {
                sample.payload =
                    hex(text).ok_or_else(|| format!("`{text}` is not a payload in hex, two digits a byte"))?;
                match protocol {
                    proto::ICMP => self.icmp = true,
                    protocol => self.transport(protocol == proto::UDP),
                }
            }
            // A function is no field: no key names it.
            PacketField::Bits => {}
        }
        Ok(())
    }

    /// A port or the HTTP version says that it is UDP, or TCP.
    fn transport(&mut self, udp: bool) {
        if self.udp.replace(udp) == Some(!udp) {
            let message = "ports of TCP and of UDP, or a port that contradicts the HTTP version";
            self.faults.push(Fault::at(self.pointer, message));
        }
    }

    fn text(&mut self, sample: &mut Sample, field: &TextField, text: &str) -> Result<(), String> {
        match field {
            TextField::Method => {
                sample.asked.method =
                    Method::from_bytes(text.as_bytes()).map_err(|_| format!("`{text}` is not a method"))?;
            }
            TextField::Uri => {
                let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
                path.clone_into(&mut sample.asked.path);
                sample.asked.query = query.map(str::to_owned);
            }
            TextField::Cert(field) => {
                let client = sample.client.get_or_insert_default();
                let place = match field {
                    CertField::Subject => &mut client.subject,
                    CertField::Issuer => &mut client.issuer,
                    CertField::Serial => &mut client.serial,
                    CertField::Fingerprint => &mut client.fingerprint,
                    CertField::Names => {
                        client.names.push(text.to_owned());
                        return Ok(());
                    }
                };
                text.clone_into(place);
            }
            TextField::Country => sample.place.country = Some(text.to_owned()),
            TextField::Continent => sample.place.continent = Some(text.to_owned()),
            TextField::AbuseKind => {
                let names = Kind::ALL.into_iter().map(Kind::name);
                let unknown = || format!("no abuse is called `{text}`{}", hint(text, names));
                sample.abuse.last = Some(Kind::by_name(text).ok_or_else(unknown)?);
            }
            TextField::Body => sample.body = Some(text.to_owned()),
            TextField::Path => text.clone_into(&mut sample.asked.path),
            TextField::Query => sample.asked.query = Some(text.to_owned()),
            TextField::Arg(name) => {
                let query = sample.asked.query.get_or_insert_default();
                if !query.is_empty() {
                    query.push('&');
                }
                query.extend([&*String::from_utf8_lossy(name), "=", text]);
            }
            TextField::Version => {
                sample.asked.version = match text {
                    "HTTP/1.0" => Version::HTTP_10,
                    "HTTP/1.1" => Version::HTTP_11,
                    "HTTP/2" => Version::HTTP_2,
                    "HTTP/3" => Version::HTTP_3,
                    _ => return Err(format!("`{text}` is none of HTTP/1.0, HTTP/1.1, HTTP/2 and HTTP/3")),
                };
                self.transport(sample.asked.version == Version::HTTP_3);
            }
            TextField::Scheme => text.clone_into(&mut sample.asked.scheme),
            TextField::Host => sample.asked.host = text.to_ascii_lowercase(),
            TextField::Listener => text.clone_into(&mut sample.asked.listener),
            TextField::UserAgent => header(sample, http::header::USER_AGENT, text)?,
            TextField::Referer => header(sample, http::header::REFERER, text)?,
            TextField::ForwardedFor => header(sample, HeaderName::from_static("x-forwarded-for"), text)?,
            TextField::CookieHeader => header(sample, http::header::COOKIE, text)?,
            TextField::Cookie(name) => {
                header(sample, http::header::COOKIE, &format!("{}={text}", String::from_utf8_lossy(name)))?;
            }
            TextField::Header(name) => header(sample, name.clone(), text)?,
            TextField::HeaderNames
            | TextField::HeaderValues
            | TextField::ArgNames
            | TextField::ArgValues
            | TextField::ResponseHeaderNames
            | TextField::ResponseHeaderValues => {
                return Err("this follows from the single values: give `[\"name\"]` entries instead".to_owned());
            }
            TextField::Languages => {
                return Err("this follows from `http.request.headers[\"accept-language\"]`: give that".to_owned());
            }
            TextField::FullUri | TextField::Extension => {
                return Err("this follows from `http.host` and `http.request.uri`: give those".to_owned());
            }
            TextField::ResponseHeader(name) => {
                sample.answered.append(name.clone(), header_value(text)?);
            }
            // Read by `sample_hello`.
            TextField::Hello(_) => {}
        }
        Ok(())
    }

    /// What follows from several values together.
    pub(super) fn finish(&mut self, sample: &mut Sample, given: &BTreeMap<String, Value>) {
        match self.src {
            Some(src) => sample.src = src,
            None if self.faults.is_empty() => {
                self.faults.push(Fault::at(self.pointer, "the field `ip.src` is missing: a test says who asks"));
            }
            None => {}
        }
        sample.dst = self.dst.unwrap_or(if sample.src.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        });
        if sample.dst.is_ipv4() != sample.src.is_ipv4() {
            self.faults.push(Fault::at(self.pointer, "`ip.src` and `ip.dst` are of different families"));
        }
        let named = given.contains_key("ip.proto");
        if let Some(udp) = self.udp {
            let wanted = if udp { proto::UDP } else { proto::TCP };
            if !named {
                sample.proto = wanted;
            } else if sample.proto != wanted {
                self.faults.push(Fault::at(self.pointer, "`ip.proto` contradicts a port or the HTTP version"));
            }
        }
        if self.icmp {
            let wanted = if sample.src.is_ipv4() { proto::ICMP } else { proto::ICMPV6 };
            if self.udp.is_some() || named && sample.proto != wanted {
                self.faults
                    .push(Fault::at(self.pointer, "`icmp.type` and `icmp.code` contradict a port or `ip.proto`"));
            }
            sample.proto = wanted;
        }
        if let Some(pattern) = &sample.syn {
            if pattern.version != 0 && (pattern.version == 4) != sample.src.is_ipv4() {
                self.faults.push(Fault::at(self.pointer, "`tcp.syn.fingerprint` and `ip.src` are of two IP versions"));
            }
            let (ttl, window) = implied(pattern);
            sample.ttl = ttl.filter(|_| !given.contains_key("ip.ttl")).unwrap_or(sample.ttl);
            let window = window.filter(|_| !given.contains_key("tcp.window_size_value"));
            sample.window = window.unwrap_or(sample.window);
        }
        sample.sized = given.contains_key("ip.len") || sample.syn.is_none() && sample.payload.is_empty();
        let http = sample.asked.scheme == "http";
        if http && sample.hello.is_some() {
            self.faults.push(Fault::at(self.pointer, "a ClientHello, and a request in clear text that has none"));
        }
        let request = sample.hello.is_some()
            || given.keys().any(|key| key.starts_with("http.") || key == "tidegate.listener" || key == "ssl");
        match sample.proto {
            proto::TCP => {}
            proto::UDP => sample.asked.version = Version::HTTP_3,
            _ => sample.packet_only = true,
        }
        if request && sample.packet_only {
            self.faults
                .push(Fault::at(self.pointer, "values of a request and values that only packets have; use two tests"));
        }
        if sample.fragment && self.ports && sample.sport.is_none() {
            sample.sport = Some(SOURCE_PORT);
        }
        if !given.keys().any(|key| key.starts_with("tcp.flags.")) {
            sample.tcp_flags = SYN;
        }
    }
}

fn header(sample: &mut Sample, name: HeaderName, value: &str) -> Result<(), String> {
    sample.asked.headers.append(name, header_value(value)?);
    Ok(())
}
