//! The fields that expressions may look at: their types, and in which phase each is known. Their names are in `names`.

use super::link::LinkField;
use super::names::KNOWN_FIELDS;
use crate::hello::MAX_HELLO_BYTES;
use http::HeaderName;

/// Type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// Bytes.
    Text,
    /// An address.
    Ip,
}

impl Type {
    /// With its article, for messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "a boolean",
            Self::Int => "a number",
            Self::Text => "a string",
            Self::Ip => "an IP address",
        }
    }
}

/// When a field is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Availability {
    /// For packets and requests.
    Both,
    /// From the ClientHello on: for handshakes and requests.
    Hello,
    /// For packets only.
    Packet,
    /// For requests only.
    Request,
    /// For requests whose body has been read.
    Body,
    /// For responses only.
    Response,
}

/// Fields of type IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum IpField {
    /// `ip.src`
    Src,
    /// `ip.dst`
    Dst,
}

/// Fields of type number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IntField {
    /// `ip.ttl`, the hop limit for IPv6.
    Ttl,
    /// `ip.len` in bytes.
    Len,
    /// `tcp.srcport`
    TcpSrc,
    /// `tcp.dstport`
    TcpDst,
    /// `udp.srcport`
    UdpSrc,
    /// `udp.dstport`
    UdpDst,
    /// `tcp.window_size_value`: as sent, not scaled.
    TcpWindow,
    /// `icmp.type`, of either family.
    IcmpType,
    /// `icmp.code`, likewise.
    IcmpCode,
    /// `vlan.id` of the outermost tag; missing on untagged frames.
    Vlan,
    /// Of requests and responses.
    Http(HttpInt),
}

/// Numbers that packets do not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpInt {
    /// `http.request.body.size`: bytes as declared, 0 without a body; missing where the client does not say.
    BodySize,
    /// `http.request.timestamp.sec`: seconds since 1970.
    Seconds,
    /// `http.request.timestamp.msec`: milliseconds since 1970.
    Milliseconds,
    /// `http.response.code`
    Status,
    /// `tls.client.hello_length`: bytes of the ClientHello.
    HelloLength,
    /// `ip.src.asnum`: number of the client's autonomous system.
    Asn,
    /// `tidegate.score`: points that rules before gave the request.
    Score,
    /// `tidegate.abuse.score`: points of the source for what it did lately to wear the server down.
    Abuse,
    /// Of the connection that it came over.
    Link(LinkField),
}

/// Strings of a ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HelloField {
    /// `tls.client.sni`: lower case, without root dot; missing without one.
    Sni,
    /// `tls.client.ja4`, in Cloudflare's language `cf.bot_management.ja4`.
    Ja4,
    /// `tls.client.alpn`
    Alpn,
    /// `tls.client.versions`, such as `TLSv1.3`.
    Versions,
    /// `tls.client.ciphers`: four hex digits each, as the other lists of codes.
    Ciphers,
    /// `tls.client.extensions`
    Extensions,
    /// `tls.client.groups`
    Groups,
    /// `tls.client.signature_algorithms`
    SignatureAlgorithms,
}

impl IntField {
    /// Largest value.
    pub const fn max(self) -> u128 {
        match self {
            Self::Ttl | Self::IcmpType | Self::IcmpCode => u8::MAX as u128,
            // Twelve bits (IEEE 802.1Q).
            Self::Vlan => 0xfff,
            Self::Http(HttpInt::Status) => 999,
            Self::Http(HttpInt::Asn) => u32::MAX as u128,
            Self::Http(HttpInt::HelloLength) => MAX_HELLO_BYTES as u128,
            Self::Http(_) => u64::MAX as u128,
            _ => u16::MAX as u128,
        }
    }
}

/// Fields of type boolean. The TCP flags hold their bit of the flags byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlagField {
    /// `ip.fragment`
    Fragment,
    /// `tcp.flags.*`
    Tcp(u8),
    /// `ssl`: the client came over TLS or QUIC.
    Ssl,
    /// `http.request.body.truncated`: there is more of the body than was read.
    BodyTruncated,
    /// `tls.client.cert.verified`: the client has shown a certificate that its authority signed.
    ClientVerified,
    /// `tls.early_data`: the request came in early data (0-RTT), and the client's handshake is not done.
    EarlyData,
}

/// Strings of a client's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CertField {
    /// `tls.client.cert.subject_dn`
    Subject,
    /// `tls.client.cert.issuer_dn`
    Issuer,
    /// `tls.client.cert.serial`
    Serial,
    /// `tls.client.cert.fingerprint_sha256`
    Fingerprint,
    /// `tls.client.cert.names`
    Names,
}

/// Fields of type string. Those of a request that may occur more than once stand for each of their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TextField {
    /// `http.request.method`
    Method,
    /// `http.request.uri`: path and query.
    Uri,
    /// `http.request.uri.path`, as sent.
    Path,
    /// `http.request.uri.query`, without `?`.
    Query,
    /// `http.request.version`: `HTTP/1.0`, `HTTP/1.1`, `HTTP/2` or `HTTP/3`.
    Version,
    /// `http.request.scheme`
    Scheme,
    /// `http.host`: lower case, without port.
    Host,
    /// `http.user_agent`
    UserAgent,
    /// `http.request.headers["name"]`
    Header(HeaderName),
    /// `http.request.headers.names`
    HeaderNames,
    /// `http.request.uri.args["name"]`, as sent.
    Arg(Box<[u8]>),
    /// `http.request.uri.args.names`
    ArgNames,
    /// `tidegate.listener`
    Listener,
    /// `http.request.full_uri`: scheme, host, path and query; missing without a host.
    FullUri,
    /// `http.request.uri.path.extension`: lower case, without the dot; missing where the last part has none.
    Extension,
    /// `http.referer`
    Referer,
    /// `http.x_forwarded_for`
    ForwardedFor,
    /// `http.cookie`: all cookies, as HTTP/1.1 has them in one header.
    CookieHeader,
    /// `http.request.cookies["name"]`, as sent.
    Cookie(Box<[u8]>),
    /// `http.request.headers.values`
    HeaderValues,
    /// `http.request.uri.args.values`
    ArgValues,
    /// `http.request.accepted_languages`: the most wanted first.
    Languages,
    /// `http.response.headers["name"]`
    ResponseHeader(HeaderName),
    /// `http.response.headers.names`
    ResponseHeaderNames,
    /// `http.response.headers.values`
    ResponseHeaderValues,
    /// Of the ClientHello.
    Hello(HelloField),
    /// Of the client's certificate.
    Cert(CertField),
    /// `ip.src.country`, by two upper-case letters.
    Country,
    /// `ip.src.continent`, likewise.
    Continent,
    /// `tidegate.abuse.kind`: what the source did last to wear the server down; missing where it did nothing.
    AbuseKind,
    /// `http.request.body.raw`: up to `limits.inspect` of the config; missing without a body.
    Body,
}

/// Fields of packets that are neither numbers nor flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PacketField {
    /// `tidegate.interface`
    Interface,
    /// `tcp.syn.fingerprint`
    Fingerprint,
    /// `tcp.payload`, `udp.payload` or `icmp.payload` (of either family), by protocol.
    Payload(u8),
    /// `bit_slice(…)`, which is a function.
    Bits,
}

/// A field, or the table that a field is an entry of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// An address.
    Ip(IpField),
    /// A number.
    Int(IntField),
    /// A boolean.
    Flag(FlagField),
    /// `ip.proto`
    Proto,
    /// What only packets have.
    Packet(PacketField),
    /// A string.
    Text(TextField),
    /// `http.request.headers`, to be followed by `["name"]`.
    Headers,
    /// `http.request.uri.args`, to be followed by `["name"]`.
    Args,
    /// `http.request.cookies`, to be followed by `["name"]`.
    Cookies,
    /// `http.response.headers`, to be followed by `["name"]`.
    ResponseHeaders,
}

impl Field {
    /// As written; without index for a header or an argument.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Text(TextField::Header(_)) => return "http.request.headers",
            Self::Text(TextField::Arg(_)) => return "http.request.uri.args",
            Self::Packet(PacketField::Bits) => return "bit_slice(…)",
            Self::Text(TextField::Cookie(_)) => return "http.request.cookies",
            Self::Text(TextField::ResponseHeader(_)) => return "http.response.headers",
            _ => {}
        }
        KNOWN_FIELDS.into_iter().find(|name| Self::by_name(name).as_ref() == Some(self)).unwrap_or_default()
    }

    /// Whether it is known when a ClientHello has come.
    pub fn of_handshakes(&self) -> bool {
        let clock = [HttpInt::Seconds, HttpInt::Milliseconds].map(|unit| Self::Int(IntField::Http(unit)));
        matches!(self.availability(), Availability::Both | Availability::Hello)
            || matches!(self, Self::Flag(FlagField::Ssl) | Self::Text(TextField::Listener))
            || clock.contains(self)
            || self.of_places().is_some()
    }

    /// The key of the config's `geo` whose file tells it.
    pub fn of_places(&self) -> Option<&'static str> {
        match self {
            Self::Text(TextField::Country | TextField::Continent) => Some("country"),
            Self::Int(IntField::Http(HttpInt::Asn)) => Some("asn"),
            _ => None,
        }
    }

    /// Whether it is one of the connection's.
    pub const fn is_of_link(&self) -> bool {
        matches!(self, Self::Int(IntField::Http(HttpInt::Link(_))))
    }

    /// Whether it is about what the source did to wear the server down.
    pub const fn is_of_abuse(&self) -> bool {
        matches!(self, Self::Int(IntField::Http(HttpInt::Abuse)) | Self::Text(TextField::AbuseKind))
    }

    /// Whether it is known of a response.
    pub fn of_responses(&self) -> bool {
        matches!(self, Self::Ip(_)) || self.availability() == Availability::Response
    }

    /// When it is known.
    pub fn availability(&self) -> Availability {
        match self {
            Self::Ip(_) | Self::Proto | Self::Int(IntField::TcpDst | IntField::UdpDst) => Availability::Both,
            Self::Text(TextField::Body) | Self::Flag(FlagField::BodyTruncated) => Availability::Body,
            Self::Text(TextField::Hello(_)) | Self::Int(IntField::Http(HttpInt::HelloLength)) => Availability::Hello,
            Self::Int(IntField::Http(HttpInt::Status))
            | Self::ResponseHeaders
            | Self::Text(
                TextField::ResponseHeader(_) | TextField::ResponseHeaderNames | TextField::ResponseHeaderValues,
            ) => Availability::Response,
            Self::Int(IntField::Http(_))
            | Self::Flag(FlagField::Ssl | FlagField::ClientVerified | FlagField::EarlyData)
            | Self::Text(_)
            | Self::Headers
            | Self::Args
            | Self::Cookies => Availability::Request,
            Self::Int(_) | Self::Flag(_) | Self::Packet(_) => Availability::Packet,
        }
    }
}

impl TextField {
    /// Whether a request may have several values of it.
    pub fn is_many(&self) -> bool {
        matches!(
            self,
            Self::Header(_)
                | Self::HeaderNames
                | Self::HeaderValues
                | Self::Arg(_)
                | Self::ArgNames
                | Self::ArgValues
                | Self::Cookie(_)
                | Self::Languages
                | Self::Cert(CertField::Names)
                | Self::Hello(
                    HelloField::Alpn
                        | HelloField::Versions
                        | HelloField::Ciphers
                        | HelloField::Extensions
                        | HelloField::Groups
                        | HelloField::SignatureAlgorithms
                )
                | Self::ResponseHeader(_)
                | Self::ResponseHeaderNames
                | Self::ResponseHeaderValues
        )
    }
}
