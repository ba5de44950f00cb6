//! Model: rate limits of the gate, and the image of them that the maps hold. What a limit does with a packet is decided in
//! [`proxy_common::rates`].

use std::fmt;
use std::time::Duration;

use proxy_common::abi::{MAX_RATES, RATE_WORDS, RateLimit, RateSettings, Reason, SERVICE_WORDS, rate_unit};
use proxy_common::addr::v6_mask;
use proxy_common::bucket::Limit;
use proxy_common::seen::MAX_SEEN_S;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::Mode;
use super::{Config, Span};
use crate::diagnostic::hint;
use crate::json::shape::Fault;

/// Upper bound of `limit`: bytes a second of an interface of 800 Gbit/s.
pub const MAX_RATE: u64 = 100_000_000_000;
/// Seconds' worth of tokens that a burst may hold at most.
pub const MAX_BURST_S: u64 = 86_400;
/// The largest packet: a bucket of bytes that holds less would never let it by.
const LARGEST_PACKET: u64 = 65_535;
/// Bits of an address that `prefix` takes unless told otherwise.
const DEFAULT_PREFIX: (u8, u8) = (24, 48);

/// A token bucket for each source, prefix or service, or one for all. Looked at for what checks and rules let pass; what the
/// allow list or an allow rule covers is never dropped. In the scope `own` only packets to the listeners count.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// What has a bucket of its own.
    pub per: RatePer,
    /// What is counted.
    pub of: RateOf,
    /// So many a second.
    #[schemars(range(min = 1, max = MAX_RATE))]
    pub limit: u64,
    /// So many at once; one second's worth unless set. Half of the bucket of a service or of all is for known sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub burst: Option<u64>,
    /// Drops unless set: "count" only counts what would be dropped.
    #[serde(default = "enforced")]
    pub mode: Mode,
    /// Only packets to the listener of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// Bits of an IPv4 source that count as one; 32 for a source and 24 for a prefix unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 8, max = 32))]
    pub ipv4_prefix: Option<u8>,
    /// Bits of an IPv6 source that count as one; those of `gate.ipv6_prefix` for a source and 48 for a prefix unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16, max = 64))]
    pub ipv6_prefix: Option<u8>,
}

/// What has a bucket of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RatePer {
    /// Each source address.
    Source,
    /// Each prefix of source addresses.
    Prefix,
    /// Each listener.
    Service,
    /// All packets together.
    Total,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateOf {
    /// Packets.
    Packets,
    /// Bytes, from the IP header on.
    Bytes,
    /// TCP SYNs that begin a connection.
    Syns,
    /// UDP packets with addresses and ports that had none for a minute.
    UdpFlows,
    /// QUIC Initials to a listener.
    QuicInitials,
}

const fn enforced() -> Mode {
    Mode::Enforce
}

/// What the maps hold of the rate limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateImage {
    /// Limits in the order in which they are asked.
    pub limits: Vec<RateLimit>,
    /// The settings, but for the secret and the place of the first limit.
    pub settings: RateSettings,
}

impl RateImage {
    /// The image of a config: limits that are off are left out, the others sorted by what they are per.
    pub fn of(config: &Config) -> Self {
        let mut rates: Vec<&Rate> = config.gate.rates.iter().filter(|rate| rate.mode != Mode::Off).collect();
        rates.sort_by_key(|rate| rate.per);
        let keyed = rates.iter().filter(|rate| rate.is_keyed()).count().next_power_of_two() as u32;
        let words = RATE_WORDS / keyed;
        let limits: Vec<RateLimit> = (0..).zip(&rates).map(|(index, rate)| rate.entry(config, index, words)).collect();
        let asks = |limit: &RateLimit| limit.services != u64::MAX || limit.reason == Reason::RateService as u32;
        let units =
            limits.iter().fold(0, |units, limit| units | limit.unit | if asks(limit) { rate_unit::SERVICE } else { 0 });
        let known_s = config.gate.known_for.0.as_secs() as u32;
        let settings = RateSettings { count: limits.len() as u32, units, known_s, ..RateSettings::default() };
        Self { limits, settings }
    }
}

impl Rate {
    const fn is_keyed(&self) -> bool {
        matches!(self.per, RatePer::Source | RatePer::Prefix)
    }

    /// The least depth that lets every packet by, the half for new sources too.
    const fn least_burst(&self) -> u64 {
        let one = if matches!(self.of, RateOf::Bytes) { LARGEST_PACKET } else { 1 };
        if self.is_keyed() { one } else { 2 * one }
    }

    fn depth(&self) -> u64 {
        self.burst.unwrap_or_else(|| self.limit.max(self.least_burst()))
    }

    /// The limit as the map has it, `index` among those that are not off; `words` is what each keyed one has.
    fn entry(&self, config: &Config, index: u32, words: u32) -> RateLimit {
        let limit = Limit::per_second(self.limit, self.depth());
        let row = words / 2;
        let alone = RATE_WORDS + index * SERVICE_WORDS;
        let (reason, base, row_mask, second) = match self.per {
            RatePer::Source => (Reason::RateSource, index * words, row - 1, row),
            RatePer::Prefix => (Reason::RatePrefix, index * words, row - 1, row),
            RatePer::Service => (Reason::RateService, alone, SERVICE_WORDS - 1, 0),
            RatePer::Total => (Reason::RateTotal, alone, 0, 0),
        };
        let of_source = self.per != RatePer::Prefix;
        let v4_bits = self.ipv4_prefix.unwrap_or(if of_source { 32 } else { DEFAULT_PREFIX.0 });
        let v6_bits = self.ipv6_prefix.unwrap_or(if of_source { config.gate.ipv6_prefix } else { DEFAULT_PREFIX.1 });
        let named = self.listener.as_ref().map(|name| config.listeners.iter().position(|l| l.name == *name));
        RateLimit {
            limit,
            new_ns: if self.is_keyed() { limit.burst_ns } else { limit.burst_ns / 2 },
            v6_mask: v6_mask(v6_bits),
            services: named.map_or(u64::MAX, |place| place.map_or(0, |index| 1 << index)),
            v4_mask: u32::MAX.checked_shl(32 - u32::from(v4_bits)).unwrap_or(0),
            base,
            row_mask,
            second,
            reason: reason as u32,
            unit: match self.of {
                RateOf::Packets => rate_unit::PACKETS,
                RateOf::Bytes => rate_unit::BYTES,
                RateOf::Syns => rate_unit::SYNS,
                RateOf::UdpFlows => rate_unit::UDP_FLOWS,
                RateOf::QuicInitials => rate_unit::QUIC_INITIALS,
            },
            enforce: u32::from(self.mode == Mode::Enforce),
            pad: 0,
        }
    }

    fn faults(&self, config: &Config, pointer: &str, faults: &mut Vec<Fault>) {
        let least = self.least_burst();
        if let Some(burst) = self.burst.filter(|burst| *burst < least) {
            let why = match (self.of, self.is_keyed()) {
                (RateOf::Bytes, true) => "the largest packet would never pass",
                (RateOf::Bytes, false) => "half is for known sources, and the largest packet would never pass",
                _ => "half is for known sources, and others would never pass",
            };
            faults.push(Fault::at(
                format!("{pointer}/burst"),
                format!("found {burst}, expected at least {least}: {why}"),
            ));
        } else if self.depth() > self.limit.saturating_mul(MAX_BURST_S) {
            let (burst, limit) = (self.depth(), self.limit);
            let key = if self.burst.is_some() { "burst" } else { "limit" };
            let message = format!("at {limit} a second a burst of {burst} takes more than a day to come in");
            faults.push(Fault::at(format!("{pointer}/{key}"), message));
        }
        for (key, set) in [("ipv4_prefix", self.ipv4_prefix.is_some()), ("ipv6_prefix", self.ipv6_prefix.is_some())] {
            if set && !self.is_keyed() {
                let message = format!("`{key}` is for limits per \"source\" or \"prefix\"");
                faults.push(Fault::at_key(format!("{pointer}/{key}"), message));
            }
        }
        let Some(name) = &self.listener else { return };
        let pointer = format!("{pointer}/listener");
        match config.listeners.iter().find(|listener| listener.name == *name) {
            None => {
                let near = hint(name, config.listeners.iter().map(|listener| listener.name.as_str()));
                faults.push(Fault::at(pointer, format!("there is no listener `{name}`{near}")));
            }
            Some(listener) if !listener.http3 && matches!(self.of, RateOf::UdpFlows | RateOf::QuicInitials) => {
                faults.push(Fault::at(
                    pointer,
                    format!("`{name}` takes no UDP; set its `http3`, or count something else"),
                ));
            }
            Some(_) => {}
        }
    }
}

/// What is wrong with the rate limits and with `known_for`.
pub(super) fn faults(config: &Config, faults: &mut Vec<Fault>) {
    for (index, rate) in config.gate.rates.iter().enumerate() {
        rate.faults(config, &format!("/gate/rates/{index}"), faults);
    }
    let known = config.gate.known_for;
    let longest = Duration::from_secs(MAX_SEEN_S.into());
    if known.0 < Duration::from_secs(1) || known.0 > longest {
        let message = format!("found {known}, expected 1s to {}", Span(longest));
        faults.push(Fault::at("/gate/known_for", message));
    }
}

/// As `tidegate check` and `tidegate status` print it.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = match self.of {
            RateOf::Packets => "packets",
            RateOf::Bytes => "bytes",
            RateOf::Syns => "SYNs",
            RateOf::UdpFlows => "new UDP flows",
            RateOf::QuicInitials => "QUIC Initials",
        };
        let per = match self.per {
            RatePer::Source => "per source",
            RatePer::Prefix => "per prefix",
            RatePer::Service => "per service",
            RatePer::Total => "in total",
        };
        write!(f, "{} {of} a second {per}, {} at once", self.limit, self.depth())?;
        if let Some(name) = &self.listener {
            write!(f, ", to {name}")?;
        }
        match self.mode {
            Mode::Off => write!(f, ", off"),
            Mode::Count => write!(f, ", only counted"),
            Mode::Enforce => Ok(()),
        }
    }
}

const _: () =
    assert!(MAX_RATES.is_power_of_two() && RATE_WORDS / MAX_RATES >= 2 << 14, "a row has 16,384 words or more");

#[cfg(test)]
mod tests {
    use super::*;

    fn config(rates: &str) -> Config {
        let text = format!(
            r#"{{"listeners":[{{"name":"a","address":"0.0.0.0:80","protocol":"http"}},
                {{"name":"b","address":"0.0.0.0:81","protocol":"http"}}],
            "routes":[{{"upstream":"o"}}],"upstreams":{{"o":{{"servers":["http://127.0.0.1:1"]}}}},
            "gate":{{"ipv6_prefix":56,"rates":[{rates}]}}}}"#
        );
        crate::config::parse(&text).unwrap()
    }

    #[test]
    fn limits_are_sorted_and_share_the_table() {
        let image = RateImage::of(&config(
            r#"{"per":"total","of":"packets","limit":1000},{"per":"prefix","of":"bytes","limit":1000000},
               {"per":"service","of":"syns","limit":50,"listener":"b"},{"per":"source","of":"syns","limit":5,"mode":"off"},
               {"per":"source","of":"udp_flows","limit":5,"mode":"count"},{"per":"source","of":"packets","limit":7}"#,
        ));
        let reasons: Vec<Reason> = image.limits.iter().map(|limit| Reason::of(limit.reason)).collect();
        let (source, prefix) = (Reason::RateSource, Reason::RatePrefix);
        assert_eq!(reasons, [source, source, prefix, Reason::RateService, Reason::RateTotal]);
        assert_eq!(image.limits.iter().map(|limit| limit.enforce).collect::<Vec<_>>(), [0, 1, 1, 1, 1]);
        assert_eq!(image.settings.count, 5);
        assert_eq!(image.settings.units & rate_unit::SERVICE, rate_unit::SERVICE);
        assert_eq!(image.settings.known_s, 600);
        // No two limits share a word, and all lie in the table.
        let mut spans: Vec<(u32, u32)> =
            image.limits.iter().map(|limit| (limit.base, limit.base + limit.second + limit.row_mask)).collect();
        spans.sort_unstable();
        assert!(spans.windows(2).all(|pair| pair[0].1 < pair[1].0), "{spans:?}");
        assert!(spans.iter().all(|(_, last)| *last < proxy_common::abi::RATE_BUCKETS));
        let service = &image.limits[3];
        assert_eq!((service.services, service.new_ns * 2), (2, service.limit.burst_ns));
        assert_eq!((image.limits[1].v4_mask, image.limits[1].v6_mask), (u32::MAX, u64::MAX << 8));
        assert_eq!((image.limits[2].v4_mask, image.limits[2].v6_mask), (u32::MAX << 8, u64::MAX << 16));
        assert_eq!(RateImage::of(&config("")).limits, []);
    }

    #[test]
    fn a_limit_reads_as_people_say_it() {
        let config = config(r#"{"per":"source","of":"syns","limit":50,"burst":70,"listener":"a","mode":"count"}"#);
        assert_eq!(config.gate.rates[0].to_string(), "50 SYNs a second per source, 70 at once, to a, only counted");
    }
}
