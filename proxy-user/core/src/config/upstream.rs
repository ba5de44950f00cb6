//! Model: origins and their addresses.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Balancing, Hedging, OriginTls, Probing, Retries};
use crate::proxy_protocol::Version;

/// Most servers of one upstream.
pub const MAX_SERVERS: u32 = 256;
/// Most bytes of a Unix socket's path (`sun_path` less its end, unix(7)).
const MAX_SOCKET_PATH: usize = 107;
/// Upper bound of `keepalive`.
pub const MAX_KEEPALIVE: u32 = 65_536;

/// A named set of origin servers.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// `http://host:port`, `https://host:port`, `h2c://host:port` (HTTP/2 in clear), `http+unix:/path` or `h2c+unix:/path`; or
    /// `tcp://host:port` for what listeners pass through. The next is tried after a failed connect.
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
    /// Speak HTTP/2 to `https` servers that choose it (ALPN).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub http2: bool,
    /// Tell the servers who the client is, at the begin of each connection; each is then for one client's requests alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<Version>,
    /// The servers are on this host, as http:// with a loopback address: the kernel hands their responses over without TCP,
    /// where it can. `tcpdump` does not see what is handed over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub same_host: bool,
    /// How the servers share requests, and when they are left alone.
    #[serde(default, skip_serializing_if = "Balancing::is_default")]
    pub balance: Balancing,
    /// When a request is sent again.
    #[serde(default, skip_serializing_if = "Retries::is_default")]
    pub retries: Retries,
    /// When a request is sent to a second server while the first one has not answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedge: Option<Hedging>,
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
    /// HTTP/2 in clear, with prior knowledge.
    H2c,
    /// Bytes, whatever they are.
    Tcp,
}

impl Scheme {
    /// `http`, `https`, `h2c` or `tcp`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2c => "h2c",
            Self::Tcp => "tcp",
        }
    }

    /// Port that is meant where none is written; 0 where one has to be.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http | Self::H2c => 80,
            Self::Https => 443,
            Self::Tcp => 0,
        }
    }
}

/// The URL of a server: scheme, host and port, nothing behind; or scheme and path of a Unix socket.
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
    /// Path of a Unix socket, which then is where the server is.
    pub socket: Option<PathBuf>,
}

impl ServerUrl {
    /// The address, where the host is one and needs no look-up.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Its name in logs: `host:port`, or the path of its socket.
    pub fn name(&self) -> String {
        self.socket.as_ref().map_or_else(|| self.authority.clone(), |path| path.display().to_string())
    }

    /// One of the forms with a Unix socket.
    fn of_socket(scheme: Scheme, path: &str) -> Result<Self, String> {
        if !path.starts_with('/') || path.len() > MAX_SOCKET_PATH || path.contains('\0') {
            return Err(format!(
                "`{path}` is not the path of a Unix socket: begin with `/`, at most {MAX_SOCKET_PATH} bytes"
            ));
        }
        let local = "localhost".to_owned();
        Ok(Self { scheme, host: local.clone(), port: 0, authority: local, socket: Some(path.into()) })
    }
}

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "write http://host:port or https://host:port";
        if let Some((scheme, path)) = text.split_once("+unix:") {
            return match scheme.to_ascii_lowercase().as_str() {
                "http" => Self::of_socket(Scheme::Http, path),
                "h2c" => Self::of_socket(Scheme::H2c, path),
                _ => Err(format!("`{text}`: Unix sockets are written http+unix:/path or h2c+unix:/path")),
            };
        }
        let lower = text.to_ascii_lowercase();
        let (scheme, rest) = match lower.split_once("://") {
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("h2c", rest)) => (Scheme::H2c, rest),
            Some(("tcp", rest)) => (Scheme::Tcp, rest),
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
            None if scheme == Scheme::Tcp => return Err(format!("`{text}` needs a port; write tcp://host:port")),
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
        Ok(Self { scheme, host: host.to_owned(), port, authority, socket: None })
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
        match &self.socket {
            Some(path) => write!(f, "{}+unix:{}", self.scheme.as_str(), path.display()),
            None => write!(f, "{}://{}", self.scheme.as_str(), self.authority),
        }
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
            "type": "string", "format": "server-url", "pattern": "^([hH][tT][tT][pP][sS]?|[hH]2[cC]|[tT][cC][pP])://[^/?#@]+/?$|^([hH][tT][tT][pP]|[hH]2[cC])\\+unix:/.+$",
            "examples": ["http://127.0.0.1:8080", "https://origin.example.com", "h2c://10.0.0.1:50051", "http+unix:/run/app.sock"],
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
        assert_eq!(url("h2c://a:50051"), of(Scheme::H2c, "a", 50051, "a:50051"));
        assert_eq!(url("tcp://[::1]:5432"), of(Scheme::Tcp, "::1", 5432, "[::1]:5432"));
        let socket: ServerUrl = "http+unix:/run/App.sock".parse().unwrap();
        assert_eq!((socket.to_string().as_str(), socket.name().as_str()), ("http+unix:/run/App.sock", "/run/App.sock"));
        assert_eq!((socket.ip(), socket.authority.as_str()), (None, "localhost"));
        for bad in [
            "",
            "tcp://a",
            "http+unix:run/app",
            "https+unix:/run/app",
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
