//! The config file: one JSON object, typed, with every fault named at its line. Opens nothing: paths in it are not looked at.

mod acme;
mod balance;
mod check;
mod checks;
mod forward_check;
mod gate;
mod limits;
mod listener;
mod mirror;
mod observe;
mod rates;
mod resolver;
mod restart;
mod route;
mod route_check;
mod tls;
mod tls_check;
mod units;
pub mod upstream;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use proxy_common::abi::{MAX_SERVICES, MAX_WORKERS};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use crate::diagnostic::Diagnostic;
pub use acme::{Acme, AcmeCertificate, AcmeChallenge};
pub use balance::{Balance, Balancing, Ejecting, Hedging, Probing, Queue, Retries};
pub use checks::{Checks, Mode};
pub use gate::{Events, FAIL_AFTER, Fail, Gate, KernelLog, Scope, SynCookies, SynMode, XdpMode};
pub use limits::{Limits, Timeouts};
pub use listener::{Admin, Certificate, Forward, Fronted, Listener, Protocol};
pub use mirror::Mirror;
pub use observe::{AccessLog, LogFormat, Tracing};
pub use rates::{Rate, RateImage, RateOf, RatePer};
pub use resolver::Resolver;
pub use restart::needs_restart;
pub use route::{
    Condition, Files, HeaderChanges, Page, Redirect, Respond, Route, RouteLimits, RouteTimeouts, Share, SplitBy,
};
pub use tls::{
    ClientAuth, ClientAuthMode, Hsts, OriginTls, OriginVerify, StrictSni, Tickets, Tls, TlsHost, TlsVersion,
};
pub use units::{Size, Span};
pub use upstream::{Scheme, ServerUrl, Upstream};

use crate::json::shape::Fault;
use crate::json::{Document, serde_pointer};
use crate::store::bundle::PublicKey;

/// Most routes of a config; the router's memory follows from it.
pub const MAX_ROUTES: u32 = 4_096;
/// Most named upstreams.
pub const MAX_UPSTREAMS: u32 = 1_024;
/// Most certificates.
pub const MAX_CERTIFICATES: u32 = 1_024;
/// Most trusted keys.
pub const MAX_TRUSTED_KEYS: u32 = 16;

/// Files in MaxMind's format; relative paths start at the config file's directory. Read again by a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Geo {
    /// Countries or cities, for `ip.src.country` and `ip.src.continent`.
    pub country: Option<PathBuf>,
    /// Autonomous systems, for `ip.src.asnum`.
    pub asn: Option<PathBuf>,
}

/// `/etc/tidegate/tidegate.json`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the JSON Schema of this file lies; for editors, not read.
    #[serde(rename = "$schema", default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Worker threads; the number of CPUs that the process may use, unless set.
    #[serde(default)]
    #[schemars(range(min = 1, max = MAX_WORKERS))]
    pub workers: Option<u32>,
    /// Refuse to start without the kernel half instead of going on without it.
    #[serde(default)]
    pub require_ebpf: bool,
    /// Where clients connect.
    #[schemars(length(min = 1, max = MAX_SERVICES))]
    pub listeners: Vec<Listener>,
    /// Certificates for the `https` listeners; chosen by SNI among the names inside them, and of those for one name, such as
    /// ECDSA and RSA, by what the client can check. The first is the default.
    #[serde(default)]
    #[schemars(length(max = MAX_CERTIFICATES))]
    pub certificates: Vec<Certificate>,
    /// What TLS asks of clients and promises them.
    #[serde(default)]
    pub tls: Tls,
    /// Certificates that an ACME server gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acme: Option<Acme>,
    /// Tried in order of: exact host before wildcard before none; a path alone before the longest pattern or prefix; most
    /// conditions first.
    #[schemars(length(min = 1, max = MAX_ROUTES))]
    pub routes: Vec<Route>,
    /// Named origins.
    #[schemars(extend("maxProperties" = MAX_UPSTREAMS))]
    pub upstreams: BTreeMap<String, Upstream>,
    /// Where names of origins are looked up.
    #[serde(default, skip_serializing_if = "Resolver::is_default")]
    pub resolver: Resolver,
    /// Directory of a cgroup (v2) whose processes are servers of `same_host` upstreams, or have them below; the whole hierarchy
    /// unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<PathBuf>,
    /// Policy files; glob patterns are taken, relative paths start at the config file's directory.
    #[serde(default)]
    pub policies: Vec<String>,
    /// Directory where policies that were in force are kept as revisions, with the audit log; relative paths start at the
    /// config file's directory.
    #[serde(default = "state_dir")]
    pub state_dir: PathBuf,
    /// File with the key that challenges are signed with, 64 hex digits, such as `openssl rand -hex 32` prints: hosts that share
    /// it take each other's passes. `challenge.key` in `state_dir`, written when a policy first challenges, unless set.
    #[serde(default)]
    pub challenge_key: Option<PathBuf>,
    /// Where a key is kept that nobody named; whoever reads the config says where relative paths start.
    #[serde(skip)]
    pub kept_challenge_key: PathBuf,
    /// Take policies only from a bundle that one of `trusted_keys` signed.
    #[serde(default)]
    pub require_signature: bool,
    /// Ed25519 public keys whose bundles are taken, as `tidegate policy keygen` prints them.
    #[serde(default)]
    #[schemars(length(max = MAX_TRUSTED_KEYS))]
    pub trusted_keys: Vec<PublicKey>,
    /// Files that tell where addresses are.
    #[serde(default)]
    pub geo: Geo,
    /// The kernel half.
    #[serde(default)]
    pub gate: Gate,
    /// Times after which Tidegate gives up.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Bounds on what clients may send and hold.
    #[serde(default)]
    pub limits: Limits,
    /// Admin socket and metrics.
    #[serde(default)]
    pub admin: Admin,
    /// Access log.
    #[serde(default)]
    pub access_log: AccessLog,
    /// Traces; none unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,
    /// Settings of stages that a binary of one's own adds, by their names; for all routes that have none of their own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stages: BTreeMap<String, Value>,
}

fn state_dir() -> PathBuf {
    PathBuf::from("/var/lib/tidegate")
}

impl Config {
    /// Our own addresses: those that `gate.own_addresses` names, and those that listeners do.
    pub fn own_addresses(&self) -> Vec<IpAddr> {
        let listening = self.listeners.iter().map(|listener| listener.address.ip()).filter(|ip| !ip.is_unspecified());
        self.gate.own_addresses.iter().copied().chain(listening).map(|ip| ip.to_canonical()).collect()
    }
}

/// Reads and validates a config file's text. All faults that can be told apart are reported together.
pub fn parse(text: &str) -> Result<Config, Vec<Diagnostic>> {
    let document = Document::parse(text)?;
    let (config, mut faults) = document.read::<Config>(&schema());
    if let Some(config) = &config {
        faults.extend(check::faults(config));
    }
    match config {
        Some(config) if faults.is_empty() => Ok(config),
        _ => Err(document.locate(faults)),
    }
}

/// Gives each fault of a valid config its line: a JSON pointer into `text`, and what is wrong there.
pub fn locate(text: &str, faults: Vec<(String, String)>) -> Vec<Diagnostic> {
    let faults: Vec<Fault> = faults.into_iter().map(|(pointer, message)| Fault::at(pointer, message)).collect();
    Document::parse(text).map_or_else(|faults| faults, |document| document.locate(faults))
}

/// Reads a stage's settings, which the config holds as they are; `pointer` is where they stand.
///
/// # Errors
/// The JSON pointer of what is not as `T` has it, and why.
pub fn settings<T: DeserializeOwned>(value: &Value, pointer: &str) -> Result<T, (String, String)> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| (format!("{pointer}{}", serde_pointer(error.path())), error.inner().to_string()))
}

/// The JSON Schema of the config file.
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Config).to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), "Tidegate config".into());
    }
    schema
}

#[cfg(test)]
mod tests;
