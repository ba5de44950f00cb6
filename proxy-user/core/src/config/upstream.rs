//! Model: origins and their addresses.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Balancing, OriginTls, Probing, Retries};

/// Most servers of one upstream.
pub const MAX_SERVERS: u32 = 256;
/// Upper bound of `keepalive`.
pub const MAX_KEEPALIVE: u32 = 65_536;

/// A named set of origin servers.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// `http://host:port` or `https://host:port`; the next is tried after a failed connect.
    #[schemars(length(min = 1, max = MAX_SERVERS))]
    pub servers: Vec<ServerUrl>,
    /// Idle connections kept by each worker, all servers together.
    #[serde(default = "Upstream::default_keepalive")]
    #[schemars(range(max = MAX_KEEPALIVE))]
    pub keepalive: u32,
    /// PEM file of certificate authorities for `https` servers; the system's unless set.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Name to ask for and check instead of the URL's host (SNI and certificate).
    #[serde(default)]
    pub server_name: Option<String>,
    /// What else there is to TLS towards `https` servers. Sessions are resumed.
    #[serde(default, skip_serializing_if = "OriginTls::is_default")]
    pub tls: OriginTls,
    /// How the servers share requests, and when they are left alone.
    #[serde(default, skip_serializing_if = "Balancing::is_default")]
    pub balance: Balancing,
    /// When a request is sent again.
    #[serde(default, skip_serializing_if = "Retries::is_default")]
    pub retries: Retries,
    /// Ask the servers whether they are well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Probing>,
}

impl Upstream {
    fn default_keepalive() -> u32 {
        128
    }
}

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// Port that is meant where none is written.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// The URL of a server: scheme, host and port, nothing behind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerUrl {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Name or address, lower case; IPv6 without brackets.
    pub host: String,
    /// TCP port; the scheme's own where none is written.
    pub port: u16,
    /// `host:port` as for a `Host` field: IPv6 in brackets, the scheme's own port left out.
    pub authority: String,
}

impl ServerUrl {
    /// The address, where the host is one and needs no look-up.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "write http://host:port or https://host:port";
        let lower = text.to_ascii_lowercase();
        let (scheme, rest) = match lower.split_once("://") {
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            Some((other, _)) => return Err(format!("`{text}`: scheme `{other}` is not known; {form}")),
            None => return Err(format!("`{text}` is not a server's URL; {form}")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(format!("`{text}` has a path or query, which servers do not take; {form}"));
        }
        if rest.contains('@') {
            return Err(format!("`{text}` has a user name, which servers do not take; {form}"));
        }
        let (host, port) = split_port(rest).ok_or_else(|| format!("`{text}`: the port is not a number; {form}"))?;
        let port = match port.map(str::parse::<u16>) {
            None => scheme.default_port(),
            Some(Ok(port)) if port > 0 => port,
            Some(_) => return Err(format!("`{text}`: the port must be a number from 1 to 65535")),
        };
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => v6,
            None if is_host_name(host) => host,
            _ => return Err(format!("`{text}`: `{host}` is neither a name nor an address; {form}")),
        };
        let shown = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let authority = if port == scheme.default_port() { shown } else { format!("{shown}:{port}") };
        Ok(Self { scheme, host: host.to_owned(), port, authority })
    }
}

/// Splits `host:port`, `[v6]:port`, or either without port. None where brackets are followed by something else.
fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(end) = text.find(']') {
        let (host, rest) = text.split_at(end + 1);
        return if rest.is_empty() { Some((host, None)) } else { Some((host, Some(rest.strip_prefix(':')?))) };
    }
    Some(text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))))
}

/// Whether this can be a DNS name or an IPv4 address (RFC 1123 section 2.1, underscores taken).
pub(crate) fn is_host_name(text: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    text.len() <= 253 && text.split('.').all(label)
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority)
    }
}

impl<'de> Deserialize<'de> for ServerUrl {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for ServerUrl {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl JsonSchema for ServerUrl {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ServerUrl".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "format": "server-url", "pattern": "^[hH][tT][tT][pP][sS]?://[^/?#@]+/?$",
            "examples": ["http://127.0.0.1:8080", "https://origin.example.com"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url = |text: &str| text.parse::<ServerUrl>().map(|u| (u.scheme, u.host, u.port, u.authority));
        let of = |s, h: &str, p, a: &str| Ok((s, h.to_owned(), p, a.to_owned()));
        assert_eq!(url("http://127.0.0.1:8080"), of(Scheme::Http, "127.0.0.1", 8080, "127.0.0.1:8080"));
        assert_eq!(url("HTTPS://Origin.Example/"), of(Scheme::Https, "origin.example", 443, "origin.example"));
        assert_eq!(url("http://[::1]:80"), of(Scheme::Http, "::1", 80, "[::1]"));
        assert_eq!(url("https://[2001:db8::1]:8443"), of(Scheme::Https, "2001:db8::1", 8443, "[2001:db8::1]:8443"));
        for bad in [
            "",
            "127.0.0.1:80",
            "ftp://a",
            "http://",
            "http://a/b",
            "http://a?b",
            "http://u@a",
            "http://a:0",
            "http://a:x",
            "http://a:70000",
            "http://[::1",
            "http://[::1]x",
            "http://a b",
            "http://-a",
            "http://a..b",
            "http://a:",
            "http://::1",
        ] {
            assert!(url(bad).is_err(), "{bad} was taken");
        }
    }

    proptest::proptest! {
        #[test]
        fn shown_as_read(name in "[a-z][a-z0-9-]{0,8}[a-z]", port in 1_u16.., tls: bool) {
            let scheme = if tls { "https" } else { "http" };
            let url: ServerUrl = format!("{scheme}://{name}:{port}").parse().expect("valid");
            proptest::prop_assert_eq!(url.to_string().parse::<ServerUrl>().expect("valid"), url);
        }

        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = text.parse::<ServerUrl>();
            let _ = format!("http://{text}").parse::<ServerUrl>();
        }
    }
}
