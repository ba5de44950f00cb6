//! The names of fields, as people write them.

use proxy_common::abi::proto;

use super::field::{CertField, Field, FlagField, HelloField, HttpInt, IntField, IpField, PacketField, TextField};
use super::link::LinkField;

/// Every field name that is known, as written.
pub(crate) const KNOWN_FIELDS: [&str; 101] = [
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
    "tls.early_data",
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
    "tidegate.connection.rtt_msec",
    "cf.timings.client_tcp_rtt_msec",
    "tidegate.connection.bytes_in",
    "tidegate.connection.bytes_out",
    "tidegate.connection.duration_msec",
    "tidegate.connection.requests",
    "tidegate.abuse.score",
    "tidegate.abuse.kind",
    "raw.http.request.uri",
    "raw.http.request.uri.path",
    "raw.http.request.uri.query",
    "raw.http.request.uri.args",
    "raw.http.request.full_uri",
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
    /// The field of a name. Cloudflare's `raw.` names are those of what came as it came, which is all that there is here.
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
            "http.request.uri" | "raw.http.request.uri" => Self::Text(TextField::Uri),
            "http.request.uri.path" | "raw.http.request.uri.path" => Self::Text(TextField::Path),
            "http.request.uri.query" | "raw.http.request.uri.query" => Self::Text(TextField::Query),
            "http.request.uri.args" | "raw.http.request.uri.args" => Self::Args,
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
            "http.request.full_uri" | "raw.http.request.full_uri" => Self::Text(TextField::FullUri),
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
            "tls.early_data" => Self::Flag(FlagField::EarlyData),
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
            "tidegate.abuse.score" => Self::Int(IntField::Http(HttpInt::Abuse)),
            "tidegate.abuse.kind" => Self::Text(TextField::AbuseKind),
            "tidegate.score" => Self::Int(IntField::Http(HttpInt::Score)),
            "tls.client.hello_length" | "cf.tls_client_hello_length" => Self::Int(IntField::Http(HttpInt::HelloLength)),
            other => {
                let (_, field) = LinkField::NAMES.into_iter().find(|(known, _)| *known == other)?;
                Self::Int(IntField::Http(HttpInt::Link(field)))
            }
        })
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
