//! Model: what TLS asks of clients and promises them, for all names and for some.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Span;

/// Most entries of `tls.hosts`; each may cost a TLS configuration of its own.
pub const MAX_TLS_HOSTS: u32 = 1_024;
/// Most names of one entry.
pub const MAX_TLS_NAMES: u32 = 1_024;

/// TLS of all `https` listeners. A reload applies it to new handshakes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Oldest version that is spoken.
    pub min_version: TlsVersion,
    /// What becomes of clients that name no host, or one that no certificate is for.
    pub strict_sni: StrictSni,
    /// `Strict-Transport-Security` of answers over TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hsts: Option<Hsts>,
    /// Ask clients for a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<ClientAuth>,
    /// What is otherwise for some names.
    #[schemars(length(max = MAX_TLS_HOSTS))]
    pub hosts: Vec<TlsHost>,
    /// Session tickets.
    pub tickets: Tickets,
    /// Take requests of HTTP/3 clients that come back in early data (0-RTT), before the handshake is done. Somebody else could
    /// play them again: methods that are not safe are answered 425, others go on with `Early-Data: 1` (RFC 8470).
    pub early_data: bool,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2, with forward secrecy and authenticated encryption only.
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V13,
}

/// What becomes of clients that name no host, or one that no certificate is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StrictSni {
    /// They are shown the first certificate.
    #[default]
    Off,
    /// They are shown the first certificate, and their requests are answered 421, as are requests for a host whose
    /// certificate the connection was not opened with.
    Misdirected,
    /// Their handshake ends with the alert `unrecognized_name`; requests for other hosts as with `misdirected`.
    Refuse,
}

/// What is otherwise for some names. What is not set is as in `tls`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsHost {
    /// Names: exact, or `*.example.com` for all below.
    #[schemars(length(min = 1, max = MAX_TLS_NAMES))]
    pub names: Vec<String>,
    /// Oldest version that is spoken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_version: Option<TlsVersion>,
    /// `Strict-Transport-Security` of answers over TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hsts: Option<Hsts>,
    /// Ask clients for a certificate; `{"mode": "off"}` does not where `tls` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<ClientAuth>,
}

/// How clients show who they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientAuth {
    /// Whether a certificate must be shown.
    #[serde(default)]
    pub mode: ClientAuthMode,
    /// PEM file of the authorities whose certificates are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// PEM file of their revocation lists; a certificate of which none tells is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl: Option<PathBuf>,
    /// Tell the origin: `Client-Cert` (RFC 9440) and `X-Client-Cert-Subject`, `-Issuer`, `-Serial` and `-Fingerprint`. Where
    /// any host has this, such fields of clients are taken out of all requests.
    #[serde(default)]
    pub forward: bool,
}

/// Whether a client must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuthMode {
    /// Handshakes without one fail.
    #[default]
    Required,
    /// One may be shown; it must be valid then.
    Optional,
    /// None is asked for.
    Off,
}

/// `Strict-Transport-Security` (RFC 6797).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hsts {
    /// How long browsers use TLS only; `"0ms"` makes them forget.
    pub max_age: Span,
    /// For all names below, too.
    #[serde(default)]
    pub include_subdomains: bool,
    /// Consent to the browsers' built-in lists; takes `include_subdomains` and a year.
    #[serde(default)]
    pub preload: bool,
}

/// TLS towards `https` servers of an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OriginTls {
    /// PEM file of the certificate that is shown to servers that ask for one, leaf first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// What of a server's certificate is checked.
    pub verify: OriginVerify,
    /// Oldest version that is spoken.
    pub min_version: TlsVersion,
}

/// What of a server's certificate is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OriginVerify {
    /// Its authority, its name and its dates.
    #[default]
    Full,
    /// Nothing: whoever answers is taken for the server.
    Off,
}

impl OriginTls {
    /// Whether nothing is set.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Hsts {
    /// The field's value.
    pub fn value(&self) -> String {
        let subdomains = if self.include_subdomains { "; includeSubDomains" } else { "" };
        let preload = if self.preload { "; preload" } else { "" };
        format!("max-age={}{subdomains}{preload}", self.max_age.0.as_secs())
    }
}

/// Session tickets, by which clients come back without a whole handshake.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tickets {
    /// Whether they are given.
    pub enabled: bool,
    /// How long one is good; their key is exchanged as often, and kept in `state_dir` over restarts.
    pub lifetime: Span,
    /// File of keys that several machines share, 64 hex digits a line (`openssl rand -hex 32`): the first one seals, all of
    /// them open. Read again when it changes; then nothing is kept in `state_dir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<PathBuf>,
}

impl Default for Tickets {
    fn default() -> Self {
        Self { enabled: true, lifetime: Span(std::time::Duration::from_secs(12 * 3_600)), keys: None }
    }
}

impl Tls {
    /// Every setting of client certificates, with the JSON pointer of where it stands.
    pub fn client_auths(&self) -> impl Iterator<Item = (String, &ClientAuth)> {
        let hosts = self.hosts.iter().enumerate();
        let hosts = hosts.filter_map(|(index, host)| Some((format!("/tls/hosts/{index}"), host.client_auth.as_ref()?)));
        let all = self.client_auth.iter().map(|auth| ("/tls".to_owned(), auth));
        all.chain(hosts).map(|(pointer, auth)| (pointer + "/client_auth", auth))
    }
}
