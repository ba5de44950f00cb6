//! Model: the kernel half.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use proxy_common::abi::{DEFAULT_MAX_VERDICTS, MAX_OWN_ADDRESSES, MAX_RATES, MAX_SERVICES, MAX_VERDICTS};
use proxy_common::event::{MAX_SAMPLE, MIN_SAMPLE};
use proxy_common::syn::MAX_SYN_RATE;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Span;
use super::checks::Checks;
use super::rates::Rate;

/// Most interfaces that `front` is attached to.
pub const MAX_INTERFACES: u32 = 64;
/// Upper bound of `max_pushes_per_second`; a worker that writes more does nothing else.
pub const MAX_PUSHES_PER_SECOND: u32 = 1_000_000;

/// Most `own_addresses`: the listeners' own stand in the same table.
pub const MAX_CONFIG_OWN_ADDRESSES: u32 = MAX_OWN_ADDRESSES - MAX_SERVICES;
/// Bounds of `fail_after`: several heartbeats, and a day.
pub const FAIL_AFTER: std::ops::RangeInclusive<Duration> = Duration::from_secs(3)..=Duration::from_secs(86_400);
/// Upper bound of rates.
pub const MAX_PER_SECOND: u32 = 100_000_000;

/// The kernel half: XDP gate and steering.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// Load the programs of the gate and of steering at all.
    pub enabled: bool,
    /// Interfaces that `front` is attached to; none attaches nowhere (steering still works).
    #[schemars(length(max = MAX_INTERFACES))]
    pub interfaces: Vec<String>,
    /// How `front` is attached.
    pub mode: XdpMode,
    /// What `front` may drop.
    pub scope: Scope,
    /// Bound on standing verdicts; at most 1,048,576.
    #[schemars(range(min = 1, max = MAX_VERDICTS))]
    pub max_verdicts: u32,
    /// Bits of an IPv4 source that a verdict with `scope` "prefix" is on, 8 to 32.
    #[schemars(range(min = 8, max = 32))]
    pub ipv4_prefix: u8,
    /// Bits of an IPv6 source that count as one client, 32 to 64.
    #[schemars(range(min = 32, max = 64))]
    pub ipv6_prefix: u8,
    /// Bound on verdicts that each worker may push a second.
    #[schemars(range(min = 1, max = MAX_PUSHES_PER_SECOND))]
    pub max_pushes_per_second: u32,
    /// Checks of headers and addresses, each off, counted or enforced.
    pub checks: Checks,
    /// Our own addresses, beside those that listeners name: for checks of sources, of ICMP and of UDP without a service.
    #[schemars(with = "Vec<String>", length(max = MAX_CONFIG_OWN_ADDRESSES))]
    pub own_addresses: Vec<IpAddr>,
    /// ICMP messages a second that `checks.icmp_limit` lets by, on all CPUs together.
    #[schemars(range(min = 1, max = MAX_PER_SECOND))]
    pub icmp_per_second: u32,
    /// Rate limits, at most 16: per source, prefix and service, and in all.
    #[schemars(length(max = MAX_RATES))]
    pub rates: Vec<Rate>,
    /// How long a source is known that completed a TCP or QUIC handshake; at most "30d". Limits per service and in all drop what
    /// comes from others first.
    pub known_for: Span,
    /// Answering SYNs with cookies from XDP.
    pub syn_cookies: SynCookies,
    /// What the gate does while the daemon stays away, be it ended or killed.
    pub fail: Fail,
    /// How long the daemon must have been away for `fail` "open"; "3s" to "1d".
    pub fail_after: Span,
    /// Log level of the kernel programs.
    pub log: KernelLog,
    /// Sampled packets, for `tidegate events` and `tidegate top`.
    pub events: Events,
    /// Directory in bpffs for pinned maps and links.
    pub pins: PathBuf,
}

/// What the gate does while the daemon stays away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fail {
    /// It goes on dropping, until verdicts expire or it is unloaded.
    Closed,
    /// It drops nothing after `fail_after`, until a daemon is there again.
    Open,
}

/// Sampled packets. Nothing is sampled while nobody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Events {
    /// One dropped packet in so many becomes an event, unless the reader asks for another rate.
    #[schemars(range(min = MIN_SAMPLE, max = MAX_SAMPLE))]
    pub sample: u32,
}

impl Default for Events {
    fn default() -> Self {
        Self { sample: 64 }
    }
}

/// SYN cookies: XDP answers SYNs, so that a flood of them costs neither memory nor the kernel's TCP. A service begins with it
/// when more SYNs than `threshold` stayed unanswered within a second, and ends it when for `hold` no more than `release` a
/// second did.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SynCookies {
    /// When; "auto" unless set, but "off" where an interface is a veth in driver mode.
    pub mode: Option<SynMode>,
    /// SYNs a second and listener that may stay unanswered.
    #[schemars(range(min = 1, max = MAX_SYN_RATE))]
    pub threshold: u32,
    /// Unanswered SYNs a second that count as calm; below `threshold`.
    #[schemars(range(max = MAX_SYN_RATE))]
    pub release: u32,
    /// How long it must have been calm; at most "1h".
    pub hold: Span,
}

/// When SYNs are answered with cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SynMode {
    /// While too many SYNs stay unanswered.
    Auto,
    /// Never by XDP.
    Off,
    /// Always.
    Always,
}

impl Default for SynCookies {
    fn default() -> Self {
        Self { mode: None, threshold: 1_000, release: 250, hold: Span(Duration::from_secs(10)) }
    }
}

/// XDP attach mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// Driver mode, else generic mode with a warning.
    Auto,
    /// Driver mode or an error.
    Driver,
    /// Generic mode.
    Generic,
}

/// What `front` may drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Only packets addressed to one of the listeners.
    Own,
    /// Any packet that comes in on the interfaces. Verdicts pushed by request rules stay bound to the listeners.
    All,
}

/// Log level of the kernel programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KernelLog {
    /// Nothing; the verifier prunes the log calls.
    Off,
    /// Drops.
    Info,
    /// Every decision.
    Debug,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            enabled: true,
            interfaces: Vec::new(),
            mode: XdpMode::Auto,
            scope: Scope::Own,
            max_verdicts: DEFAULT_MAX_VERDICTS,
            ipv4_prefix: 24,
            ipv6_prefix: 64,
            max_pushes_per_second: 10_000,
            checks: Checks::default(),
            own_addresses: Vec::new(),
            icmp_per_second: 1_000,
            rates: Vec::new(),
            known_for: Span(Duration::from_secs(600)),
            syn_cookies: SynCookies::default(),
            fail: Fail::Closed,
            fail_after: Span(Duration::from_secs(30)),
            log: KernelLog::Off,
            events: Events::default(),
            pins: PathBuf::from("/sys/fs/bpf/tidegate"),
        }
    }
}
