//! Model: certificates that an ACME server gives (RFC 8555).

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Config, Protocol};
use crate::config::upstream::is_host_name;
use crate::json::shape::Fault;

/// Most certificates that are asked for.
pub const MAX_ACME_CERTIFICATES: u32 = 256;
/// Most names of one; public servers take no more.
pub const MAX_ACME_NAMES: u32 = 100;

/// Certificates that an ACME server gives. Account and certificates are kept in `state_dir`/acme.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Acme {
    /// The server's directory; Let's Encrypt's unless set.
    #[serde(default = "directory")]
    pub directory: String,
    /// Where it may reach whoever runs this, e.g. `mailto:admin@example.com`.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub contact: Vec<String>,
    /// Whether you agree to the server's terms of service; it gives nothing otherwise.
    #[serde(default)]
    pub agree_to_terms: bool,
    /// How names are shown to be ours.
    #[serde(default)]
    pub challenge: AcmeChallenge,
    /// PEM file of the authority of the server's own certificate; the system's unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// What is asked for.
    #[schemars(length(min = 1, max = MAX_ACME_CERTIFICATES))]
    pub certificates: Vec<AcmeCertificate>,
}

/// How names are shown to be ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum AcmeChallenge {
    /// By a page over HTTP, on port 80 of the names.
    #[default]
    #[serde(rename = "http-01")]
    Http,
    /// By a handshake on port 443 of the names (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn,
}

impl AcmeChallenge {
    /// What has to be so that a server can see it.
    pub fn way(self) -> &'static str {
        match self {
            Self::Http => "port 80 of every name must lead to an http listener here",
            Self::TlsAlpn => "port 443 of every name must lead to an https listener here",
        }
    }
}

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcmeCertificate {
    /// The names that it is for; its file bears the first.
    #[schemars(length(min = 1, max = MAX_ACME_NAMES))]
    pub names: Vec<String>,
}

fn directory() -> String {
    "https://acme-v02.api.letsencrypt.org/directory".to_owned()
}

pub(super) fn faults(config: &Config, faults: &mut Vec<Fault>) {
    let Some(acme) = &config.acme else { return };
    if !acme.agree_to_terms {
        let message = "set this to true once you have read the terms of service of the server";
        faults.push(Fault::at("/acme/agree_to_terms", message));
    }
    if !acme.directory.starts_with("https://") || acme.directory.parse::<http::Uri>().is_err() {
        faults.push(Fault::at("/acme/directory", format!("`{}` is not a URL with https://", acme.directory)));
    }
    for (index, contact) in acme.contact.iter().enumerate().filter(|(_, contact)| !contact.contains(':')) {
        let message = format!("`{contact}` is not a URL; write mailto:{contact}");
        faults.push(Fault::at(format!("/acme/contact/{index}"), message));
    }
    let (protocol, which) = match acme.challenge {
        AcmeChallenge::Http => (Protocol::Http, "http"),
        AcmeChallenge::TlsAlpn => (Protocol::Https, "https"),
    };
    if !config.listeners.iter().any(|listener| listener.protocol == protocol) {
        let message = format!("the server asks an {which} listener, and there is none");
        faults.push(Fault::at("/acme/challenge", message));
    }
    let mut files = Vec::new();
    for (index, certificate) in acme.certificates.iter().enumerate() {
        for (place, name) in certificate.names.iter().enumerate() {
            let at = format!("/acme/certificates/{index}/names/{place}");
            if name.starts_with("*.") {
                faults.push(Fault::at(at, format!("`{name}`: wildcards take a challenge by DNS, which there is not")));
            } else if !is_host_name(name) || name.parse::<std::net::IpAddr>().is_ok() {
                faults.push(Fault::at(at, format!("`{name}` is not a host name")));
            }
        }
        let first = certificate.names.first().map(|name| name.to_ascii_lowercase());
        if let Some(other) = files.iter().position(|file| *file == first) {
            let message = format!("/acme/certificates/{other} begins with this name already");
            faults.push(Fault::at(format!("/acme/certificates/{index}/names/0"), message));
        }
        files.push(first);
    }
}
