//! Model: listeners, certificates and admin.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/2 with prior knowledge, in clear.
    Http,
    /// TLS, with ALPN `h2` and `http/1.1`.
    Https,
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
