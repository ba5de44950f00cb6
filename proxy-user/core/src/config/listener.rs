//! Model: listeners, certificates and admin.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most entries of `forward`, of the hosts of one, and of networks in front.
pub const MAX_FORWARDS: u32 = 1_024;

/// One address that clients reach.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Name in logs, metrics and policies; unique.
    #[schemars(regex(pattern = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$"))]
    pub name: String,
    /// `address:port`, e.g. `0.0.0.0:443` or `[::]:443`. `0.0.0.0` serves IPv4 only and `[::]` IPv6 only.
    #[schemars(extend("format" = "socket-address"))]
    pub address: SocketAddr,
    /// What is spoken here.
    pub protocol: Protocol,
    /// Serve HTTP/3 on the same UDP port and advertise it by `Alt-Svc`; `https` only.
    #[serde(default)]
    pub http3: bool,
    /// Connections that come through a balancer in front, which says who the client is (PROXY protocol, version 1 or 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<Fronted>,
    /// Connections that are passed through as they are, by the server name that their ClientHello asks for. All of a `tcp`
    /// listener; of an `https` listener those whose hosts stand here, before TLS is spoken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_FORWARDS))]
    pub forward: Vec<Forward>,
}

/// Who stands in front.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fronted {
    /// Networks that are believed. Their connections must begin with a header, and those of others are served as they are.
    #[schemars(with = "Vec<String>", length(min = 1, max = MAX_FORWARDS))]
    pub from: Vec<IpNet>,
}

/// Where connections are passed on to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// Server names: exact, `*.example.com`, or none for all that is left, of a `tcp` listener.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_FORWARDS))]
    pub hosts: Vec<String>,
    /// Name in `upstreams`; its servers are `tcp://host:port`.
    pub upstream: String,
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/2 with prior knowledge, in clear.
    Http,
    /// TLS, with ALPN `h2` and `http/1.1`.
    Https,
    /// Bytes, whatever they are: connections are passed through as `forward` says.
    Tcp,
}

impl Protocol {
    /// As the config writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tcp => "tcp",
        }
    }
}

/// A certificate chain and its key, PEM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// Chain, leaf first.
    pub cert: PathBuf,
    /// Private key (PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
    /// OCSP response to staple, DER; `CERT.ocsp` beside the chain, if it is there, unless set. Read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ocsp: Option<PathBuf>,
}

/// Admin socket and metrics.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Unix socket of the admin API.
    pub socket: PathBuf,
    /// `address:port` of the Prometheus listener; none unless set.
    #[schemars(extend("format" = "socket-address"))]
    pub metrics: Option<SocketAddr>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { socket: PathBuf::from("/run/tidegate/admin.sock"), metrics: None }
    }
}
