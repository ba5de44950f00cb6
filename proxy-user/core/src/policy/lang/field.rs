//! The fields that expressions may name: their types, and in which phase each is known.

use http::HeaderName;
use proxy_common::abi::proto;

use crate::hello::MAX_HELLO_BYTES;

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

/// Every field name that is known, as written.
pub(crate) const KNOWN_FIELDS: [&str; 87] = [
    "ip.src",
    "ip.dst",
    "ip.proto",
    "ip.ttl",
    "ip.len",
    "ip.fragment",
    "tcp.srcport",
    "tcp.dstport",
    "udp.srcport",
    "udp.dstport",
    "tcp.window_size_value",
    "icmp.type",
    "icmp.code",
    "vlan.id",
    "tcp.flags.fin",
    "tcp.flags.syn",
    "tcp.flags.rst",
    "tcp.flags.psh",
    "tcp.flags.ack",
    "tcp.flags.urg",
    "http.host",
    "http.user_agent",
    "http.request.method",
    "http.request.uri",
    "http.request.uri.path",
    "http.request.uri.query",
    "http.request.uri.args",
    "http.request.uri.args.names",
    "http.request.version",
    "http.request.scheme",
    "http.request.headers",
    "http.request.headers.names",
    "tidegate.listener",
    "ssl",
    "http.cookie",
    "http.referer",
    "http.x_forwarded_for",
    "http.request.full_uri",
    "http.request.uri.path.extension",
    "http.request.uri.args.values",
    "http.request.headers.values",
    "http.request.cookies",
    "http.request.accepted_languages",
    "http.request.body.size",
    "http.request.timestamp.sec",
    "http.request.timestamp.msec",
    "tidegate.score",
    "http.response.code",
    "http.response.headers",
    "http.response.headers.names",
    "http.response.headers.values",
    "tidegate.interface",
    "tcp.syn.fingerprint",
    "tcp.payload",
    "udp.payload",
    "icmp.payload",
    "tls.client.sni",
    "tls.client.ja4",
    "tls.client.alpn",
    "tls.client.versions",
    "tls.client.ciphers",
    "tls.client.extensions",
    "tls.client.groups",
    "tls.client.signature_algorithms",
    "tls.client.hello_length",
    "cf.bot_management.ja4",
    "cf.tls_client_hello_length",
    "http.request.body.raw",
    "http.request.body.truncated",
    "ip.src.country",
    "ip.src.continent",
    "ip.src.asnum",
    "ip.geoip.country",
    "ip.geoip.continent",
    "ip.geoip.asnum",
    "tls.client.cert.verified",
    "tls.client.cert.subject_dn",
    "tls.client.cert.issuer_dn",
    "tls.client.cert.serial",
    "tls.client.cert.fingerprint_sha256",
    "tls.client.cert.names",
    "cf.tls_client_auth.cert_verified",
    "cf.tls_client_auth.cert_presented",
    "cf.tls_client_auth.cert_subject_dn_rfc2253",
    "cf.tls_client_auth.cert_issuer_dn_rfc2253",
    "cf.tls_client_auth.cert_serial",
    "cf.tls_client_auth.cert_fingerprint_sha256",
];

/// Fields of Cloudflare's language whose values nothing here reads yet, by the beginning of the name, and what there is.
const UNFED: [(&str, &str); 5] = [
    ("http.request.body.", "of bodies there are `http.request.body.raw`, `.truncated` and `.size`"),
    ("ssl.", "`ssl` says whether the client came over TLS"),
    ("cf.", "what Cloudflare's own services find out is not known here"),
    ("ip.src.", "of places there are `ip.src.country`, `ip.src.continent` and `ip.src.asnum`"),
    ("ip.geoip.", "of places there are `ip.src.country`, `ip.src.continent` and `ip.src.asnum`"),
];

/// Why a field that Cloudflare has is not known here.
pub(crate) fn unfed(name: &str) -> Option<&'static str> {
    UNFED.iter().find(|(start, _)| name.starts_with(start)).map(|(_, why)| *why)
}

impl Field {
    /// The field of a name.
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "ip.src" => Self::Ip(IpField::Src),
            "ip.dst" => Self::Ip(IpField::Dst),
            "ip.proto" => Self::Proto,
            "ip.ttl" => Self::Int(IntField::Ttl),
            "ip.len" => Self::Int(IntField::Len),
            "ip.fragment" => Self::Flag(FlagField::Fragment),
            "tcp.srcport" => Self::Int(IntField::TcpSrc),
            "tcp.dstport" => Self::Int(IntField::TcpDst),
            "udp.srcport" => Self::Int(IntField::UdpSrc),
            "udp.dstport" => Self::Int(IntField::UdpDst),
            "tcp.window_size_value" => Self::Int(IntField::TcpWindow),
            "icmp.type" => Self::Int(IntField::IcmpType),
            "icmp.code" => Self::Int(IntField::IcmpCode),
            "vlan.id" => Self::Int(IntField::Vlan),
            "tcp.flags.fin" => Self::Flag(FlagField::Tcp(0x01)),
            "tcp.flags.syn" => Self::Flag(FlagField::Tcp(0x02)),
            "tcp.flags.rst" => Self::Flag(FlagField::Tcp(0x04)),
            "tcp.flags.psh" => Self::Flag(FlagField::Tcp(0x08)),
            "tcp.flags.ack" => Self::Flag(FlagField::Tcp(0x10)),
            "tcp.flags.urg" => Self::Flag(FlagField::Tcp(0x20)),
            "http.host" => Self::Text(TextField::Host),
            "http.user_agent" => Self::Text(TextField::UserAgent),
            "http.request.method" => Self::Text(TextField::Method),
            "http.request.uri" => Self::Text(TextField::Uri),
            "http.request.uri.path" => Self::Text(TextField::Path),
            "http.request.uri.query" => Self::Text(TextField::Query),
            "http.request.uri.args" => Self::Args,
            "http.request.uri.args.names" => Self::Text(TextField::ArgNames),
            "http.request.version" => Self::Text(TextField::Version),
            "http.request.scheme" => Self::Text(TextField::Scheme),
            "http.request.headers" => Self::Headers,
            "http.request.headers.names" => Self::Text(TextField::HeaderNames),
            "tidegate.listener" => Self::Text(TextField::Listener),
            "tidegate.interface" => Self::Packet(PacketField::Interface),
            "tcp.syn.fingerprint" => Self::Packet(PacketField::Fingerprint),
            "tcp.payload" => Self::Packet(PacketField::Payload(proto::TCP)),
            "udp.payload" => Self::Packet(PacketField::Payload(proto::UDP)),
            "icmp.payload" => Self::Packet(PacketField::Payload(proto::ICMP)),
            "ssl" => Self::Flag(FlagField::Ssl),
            "http.cookie" => Self::Text(TextField::CookieHeader),
            "http.referer" => Self::Text(TextField::Referer),
            "http.x_forwarded_for" => Self::Text(TextField::ForwardedFor),
            "http.request.full_uri" => Self::Text(TextField::FullUri),
            "http.request.uri.path.extension" => Self::Text(TextField::Extension),
            "http.request.uri.args.values" => Self::Text(TextField::ArgValues),
            "http.request.headers.values" => Self::Text(TextField::HeaderValues),
            "http.request.cookies" => Self::Cookies,
            "http.request.accepted_languages" => Self::Text(TextField::Languages),
            "http.request.body.size" => Self::Int(IntField::Http(HttpInt::BodySize)),
            "http.request.timestamp.sec" => Self::Int(IntField::Http(HttpInt::Seconds)),
            "http.request.timestamp.msec" => Self::Int(IntField::Http(HttpInt::Milliseconds)),
            "http.response.code" => Self::Int(IntField::Http(HttpInt::Status)),
            "http.response.headers" => Self::ResponseHeaders,
            "http.response.headers.names" => Self::Text(TextField::ResponseHeaderNames),
            "http.response.headers.values" => Self::Text(TextField::ResponseHeaderValues),
            "ip.src.country" | "ip.geoip.country" => Self::Text(TextField::Country),
            "ip.src.continent" | "ip.geoip.continent" => Self::Text(TextField::Continent),
            "ip.src.asnum" | "ip.geoip.asnum" => Self::Int(IntField::Http(HttpInt::Asn)),
            "http.request.body.raw" => Self::Text(TextField::Body),
            "http.request.body.truncated" => Self::Flag(FlagField::BodyTruncated),
            "tls.client.sni" => Self::Text(TextField::Hello(HelloField::Sni)),
            "tls.client.ja4" | "cf.bot_management.ja4" => Self::Text(TextField::Hello(HelloField::Ja4)),
            "tls.client.alpn" => Self::Text(TextField::Hello(HelloField::Alpn)),
            "tls.client.versions" => Self::Text(TextField::Hello(HelloField::Versions)),
            "tls.client.ciphers" => Self::Text(TextField::Hello(HelloField::Ciphers)),
            "tls.client.extensions" => Self::Text(TextField::Hello(HelloField::Extensions)),
            "tls.client.groups" => Self::Text(TextField::Hello(HelloField::Groups)),
            "tls.client.signature_algorithms" => Self::Text(TextField::Hello(HelloField::SignatureAlgorithms)),
            "tls.client.cert.verified" | "cf.tls_client_auth.cert_verified" | "cf.tls_client_auth.cert_presented" => {
                Self::Flag(FlagField::ClientVerified)
            }
            "tls.client.cert.subject_dn" | "cf.tls_client_auth.cert_subject_dn_rfc2253" => {
                Self::Text(TextField::Cert(CertField::Subject))
            }
            "tls.client.cert.issuer_dn" | "cf.tls_client_auth.cert_issuer_dn_rfc2253" => {
                Self::Text(TextField::Cert(CertField::Issuer))
            }
            "tls.client.cert.serial" | "cf.tls_client_auth.cert_serial" => {
                Self::Text(TextField::Cert(CertField::Serial))
            }
            "tls.client.cert.fingerprint_sha256" | "cf.tls_client_auth.cert_fingerprint_sha256" => {
                Self::Text(TextField::Cert(CertField::Fingerprint))
            }
            "tls.client.cert.names" => Self::Text(TextField::Cert(CertField::Names)),
            "tidegate.score" => Self::Int(IntField::Http(HttpInt::Score)),
            "tls.client.hello_length" | "cf.tls_client_hello_length" => Self::Int(IntField::Http(HttpInt::HelloLength)),
            _ => return None,
        })
    }

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
            | Self::Flag(FlagField::Ssl | FlagField::ClientVerified)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_a_field() {
        for name in KNOWN_FIELDS {
            assert!(Field::by_name(name).is_some(), "{name}");
        }
    }
}
