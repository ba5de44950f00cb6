//! The fields that expressions may name: their types, and in which phase each is known.

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
    /// For packets only.
    Packet,
    /// For requests only.
    Request,
}

/// Fields of type IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

impl IntField {
    /// Largest value.
    pub const fn max(self) -> u128 {
        match self {
            Self::Ttl | Self::IcmpType | Self::IcmpCode => u8::MAX as u128,
            // Twelve bits (IEEE 802.1Q).
            Self::Vlan => 0xfff,
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
    /// A string.
    Text(TextField),
    /// `http.request.headers`, to be followed by `["name"]`.
    Headers,
    /// `http.request.uri.args`, to be followed by `["name"]`.
    Args,
}

/// Every field name that is known, as written.
pub(crate) const KNOWN_FIELDS: [&str; 33] = [
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
];

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
            _ => return None,
        })
    }

    /// As written; without index for a header or an argument.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Text(TextField::Header(_)) => return "http.request.headers",
            Self::Text(TextField::Arg(_)) => return "http.request.uri.args",
            _ => {}
        }
        KNOWN_FIELDS.into_iter().find(|name| Self::by_name(name).as_ref() == Some(self)).unwrap_or_default()
    }

    /// When it is known.
    pub fn availability(&self) -> Availability {
        match self {
            Self::Ip(_) | Self::Proto | Self::Int(IntField::TcpDst | IntField::UdpDst) => Availability::Both,
            Self::Int(_) | Self::Flag(_) => Availability::Packet,
            Self::Text(_) | Self::Headers | Self::Args => Availability::Request,
        }
    }
}

impl TextField {
    /// Whether a request may have several values of it.
    pub fn is_many(&self) -> bool {
        matches!(self, Self::Header(_) | Self::HeaderNames | Self::Arg(_) | Self::ArgNames)
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
