//! Rules that come into force bit by bit: for a percentage of the sources by a stable hash, until a rule matches more than it
//! should, with counts of what it did and what it would have done. Time is an argument; all workers share it without locks.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use proxy_common::siphash::siphash24;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ranges::number;

/// Shortest period of `abort_if`.
pub const MIN_ABORT_PERIOD: Duration = Duration::from_secs(1);
/// Longest period of `abort_if`.
pub const MAX_ABORT_PERIOD: Duration = Duration::from_secs(3_600);
/// Largest `abort_if.requests`.
pub const MAX_ABORT_REQUESTS: u32 = 1_000_000;

/// A share of the sources: the same ones on every host and over restarts, and all of a smaller share are in a larger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    keys: [u64; 2],
    below: u64,
    ipv6_prefix: u8,
}

impl Share {
    /// `percent` of the sources of a rule; each rule has others. An IPv6 source is its prefix.
    pub fn new(rule: &str, percent: u8, ipv6_prefix: u8) -> Self {
        let digest = Digest::of(rule.as_bytes());
        let mut keys =
            digest.bytes().chunks_exact(8).map(|bytes| bytes.iter().fold(0, |key, byte| key << 8 | u64::from(*byte)));
        let keys = [keys.next().unwrap_or(0), keys.next().unwrap_or(0)];
        let below = u64::MAX / 100 * u64::from(percent.min(100));
        Self { keys, below, ipv6_prefix }
    }

    /// Whether a source is among them.
    pub fn covers(&self, source: IpAddr) -> bool {
        let number = match source {
            IpAddr::V6(_) => number(source) & u128::MAX.checked_shl(128 - u32::from(self.ipv6_prefix)).unwrap_or(0),
            IpAddr::V4(_) => number(source),
        };
        let [high, low] = [(number >> 64) as u64, number as u64];
        let hash = siphash24(self.keys[0], self.keys[1], siphash24(self.keys[1], self.keys[0], high) ^ low);
        hash <= self.below
    }
}

/// How much a rule may match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AbortTerms {
    /// Percentage of the requests.
    pub match_percent: u8,
    /// In this time.
    pub period: Duration,
    /// Not before there were so many.
    pub requests: u32,
}

/// Watches how much a rule matches. Once it was more than it may be, the rule only counts, until its terms are others.
#[derive(Debug)]
pub(super) struct Abort {
    pub terms: AbortTerms,
    began_ns: AtomicU64,
    seen: AtomicU64,
    matched: AtomicU64,
    aborted: AtomicBool,
    told: AtomicBool,
}

impl Abort {
    /// Begins to watch.
    pub fn new(terms: AbortTerms) -> Self {
        let (zero, no) = (|| AtomicU64::new(0), || AtomicBool::new(false));
        Self { terms, began_ns: zero(), seen: zero(), matched: zero(), aborted: no(), told: no() }
    }

    /// A request is evaluated.
    pub fn see(&self, now_ns: u64) {
        let began = self.began_ns.load(Ordering::Relaxed);
        let over = now_ns.saturating_sub(began) >= self.terms.period.as_nanos() as u64;
        // One worker begins the next window; a count that another adds meanwhile falls in either.
        if over && self.began_ns.compare_exchange(began, now_ns, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.seen.store(0, Ordering::Relaxed);
            self.matched.store(0, Ordering::Relaxed);
        }
        self.seen.fetch_add(1, Ordering::Relaxed);
    }

    /// The rule matches it. Says whether the rule only counts from now on.
    pub fn matches(&self) -> bool {
        let matched = self.matched.fetch_add(1, Ordering::Relaxed) + 1;
        if self.aborted() {
            return true;
        }
        let seen = self.seen.load(Ordering::Relaxed);
        let enough = seen >= u64::from(self.terms.requests);
        if enough && matched.saturating_mul(100) > seen.saturating_mul(self.terms.match_percent.into()) {
            self.aborted.store(true, Ordering::Relaxed);
        }
        self.aborted()
    }

    /// Whether the rule only counts.
    pub fn aborted(&self) -> bool {
        self.aborted.load(Ordering::Relaxed)
    }

    /// Whether that is news: true once.
    pub fn news(&self) -> bool {
        self.aborted() && !self.told.swap(true, Ordering::Relaxed)
    }
}

/// What a rule did with requests.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub enforced: AtomicU64,
    pub would: AtomicU64,
}

/// How far a rule is rolled out, and what it did so far.
#[derive(Debug, Default)]
pub(super) struct Rollout {
    /// It only counts, by its mode.
    pub shadow: bool,
    pub percent: Option<u8>,
    /// The sources that it acts on; all where there is none.
    pub share: Option<Share>,
    pub abort: Option<Arc<Abort>>,
    pub tally: Arc<Tally>,
}

impl Rollout {
    /// Whether the rule is in shadow mode, has a percentage or is watched: others act always, and are not counted.
    pub fn is_partial(&self) -> bool {
        self.shadow || self.percent.is_some() || self.abort.is_some()
    }

    /// The rule matches a request: whether it acts on it. Counts it.
    pub fn acts(&self, source: IpAddr) -> bool {
        if !self.is_partial() {
            return true;
        }
        // Counted in any case: how much it matches is what is watched.
        let aborted = self.abort.as_ref().is_some_and(|abort| abort.matches());
        let acts = !aborted && self.would_act(source);
        let count = if acts { &self.tally.enforced } else { &self.tally.would };
        count.fetch_add(1, Ordering::Relaxed);
        acts
    }

    /// Whether it would act on a request of this source; counts nothing.
    pub fn would_act(&self, source: IpAddr) -> bool {
        !self.shadow
            && self.share.is_none_or(|share| share.covers(source))
            && !self.abort.as_ref().is_some_and(|abort| abort.aborted())
    }

    /// For people.
    pub fn count(&self, rule: &str, action: &str) -> RuleCount {
        RuleCount {
            rule: rule.to_owned(),
            action: action.to_owned(),
            shadow: self.shadow,
            percent: self.percent,
            aborted: self.abort.as_ref().is_some_and(|abort| abort.aborted()),
            enforced: self.tally.enforced.load(Ordering::Relaxed),
            would: self.tally.would.load(Ordering::Relaxed),
        }
    }
}

/// A request rule's rollout, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleCount {
    /// `policy/rule`
    pub rule: String,
    /// As written, such as `block`.
    pub action: String,
    /// Whether it only counts, by its mode.
    pub shadow: bool,
    /// The share of sources that it is enforced for.
    pub percent: Option<u8>,
    /// Whether it matched more than it may, and only counts since then.
    pub aborted: bool,
    /// Requests on which it acted.
    pub enforced: u64,
    /// Requests on which it would have acted: in shadow mode, for other sources than its share, or aborted.
    pub would: u64,
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn v4(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    #[test]
    fn shares_are_stable_and_grow() {
        let share = |percent| Share::new("p/r", percent, 64);
        let covered = |percent| (0..10_000).filter(|n| share(percent).covers(v4(*n))).count();
        assert_eq!((covered(0), covered(100)), (0, 10_000));
        for (percent, about) in [(1, 100), (25, 2_500), (50, 5_000)] {
            let count = covered(percent);
            assert!(count.abs_diff(about) < about / 3, "{percent} % of 10,000 are {count}");
        }
        assert!((0..10_000).all(|n| !share(10).covers(v4(n)) || share(20).covers(v4(n))), "who is in stays in");
        let other = Share::new("p/s", 50, 64);
        assert!((0..100).any(|n| other.covers(v4(n)) != share(50).covers(v4(n))), "each rule has others");
        let host = |low: u64| IpAddr::from(Ipv6Addr::from_bits((0x2001_0db8 << 96) | u128::from(low)));
        assert!((0..100).all(|n| share(50).covers(host(n)) == share(50).covers(host(0))), "one /64 is one source");
    }

    #[test]
    fn a_rule_that_matches_too_much_is_aborted_for_good() {
        let second = 1_000_000_000;
        let terms = AbortTerms { match_percent: 50, period: Duration::from_secs(10), requests: 10 };
        let abort = Abort::new(terms);
        for n in 0..9 {
            abort.see(n);
            assert!(!abort.matches(), "too few requests to tell");
        }
        for n in 0..20 {
            abort.see(10 * second + n);
            if n % 2 == 1 {
                assert!(!abort.matches(), "{n}");
            }
        }
        assert!(!abort.news());
        abort.see(11 * second);
        assert!(abort.matches(), "eleven of 21");
        assert!(abort.news() && !abort.news());
        for n in 0..100 {
            abort.see(40 * second + n);
        }
        assert!(abort.aborted() && abort.matches(), "until its terms are others");
    }
}
