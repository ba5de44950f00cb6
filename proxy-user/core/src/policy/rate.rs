//! Request rates of sources, or of whatever a key names: a sliding window of two buckets, in a table of fixed size that all
//! workers share without locks. Time is an argument.
//!
//! The estimate is the current bucket plus the share of the previous one that the window still covers, as if its requests
//! had come evenly. It is off by at most the part of the previous bucket that came unevenly, never by more than that
//! bucket. A full set of the table gives up the source with the lowest estimate, so a flood of fresh sources cannot push
//! out those near their limit; a source given up starts from zero. Two workers that claim one entry in the same instant
//! may lose one count.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Entries of a set: how many sources with the same place are told apart.
const WAYS: usize = 8;
/// Sets of a table. With 24 bytes an entry a table takes 1.5 MiB and holds 65,536 sources.
const SETS: u64 = 8_192;

/// Bits of a bucket's count in the packed state.
const COUNT_BITS: u32 = 20;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
/// Bits of the bucket's number; wraps after 2^24 periods, which makes an entry untouched for that long count once more.
const EPOCH_BITS: u32 = 24;
const EPOCH_MASK: u64 = (1 << EPOCH_BITS) - 1;

/// What two rules must agree on to count into one table over a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RateTerms {
    /// What is counted together, as written.
    pub key: Vec<String>,
    /// Requests that are let through.
    pub limit: u32,
    /// In this time.
    pub period: Duration,
    /// How long a source that was over its limit stays so.
    pub mitigation: Option<Duration>,
    /// Bits of an IPv6 address that count as one source.
    pub ipv6_prefix: u8,
}

/// Counts of one rule.
#[derive(Debug)]
pub(crate) struct RateTable {
    terms: RateTerms,
    period_ns: u64,
    mitigation_ns: u64,
    seed: [u64; 2],
    entries: Box<[[Entry; WAYS]]>,
}

/// `tag` is the source's hash, 0 for a free entry; up to the time `until` it counts as over its limit.
#[derive(Debug, Default)]
struct Entry {
    tag: AtomicU64,
    state: AtomicU64,
    until: AtomicU64,
}

/// A packed state: number of the current bucket, its count, the count of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    epoch: u64,
    previous: u64,
    current: u64,
}

impl State {
    const fn unpack(word: u64) -> Self {
        Self { epoch: word >> (2 * COUNT_BITS), previous: (word >> COUNT_BITS) & COUNT_MAX, current: word & COUNT_MAX }
    }

    const fn pack(self) -> u64 {
        self.epoch << (2 * COUNT_BITS) | self.previous << COUNT_BITS | self.current
    }

    /// The state at a later bucket. A worker whose clock reading is a little older counts into the newer bucket.
    const fn at(self, epoch: u64) -> Self {
        match epoch.wrapping_sub(self.epoch) & EPOCH_MASK {
            0 => self,
            1 => Self { epoch, previous: self.current, current: 0 },
            behind if behind > EPOCH_MASK / 2 => self,
            _ => Self { epoch, previous: 0, current: 0 },
        }
    }
}

impl RateTable {
    /// An empty table. `seed` keys the hash, so that nobody can choose sources that share a place.
    pub fn new(terms: RateTerms, seed: [u64; 2]) -> Self {
        let period_ns = u64::try_from(terms.period.as_nanos()).unwrap_or(u64::MAX).max(1);
        let mitigation_ns =
            terms.mitigation.map_or(0, |mitigation| u64::try_from(mitigation.as_nanos()).unwrap_or(u64::MAX));
        let entries = (0..SETS).map(|_| std::array::from_fn(|_| Entry::default())).collect();
        Self { terms, period_ns, mitigation_ns, seed, entries }
    }

    /// What it counts.
    pub fn terms(&self) -> &RateTerms {
        &self.terms
    }

    /// What keys are hashed with.
    pub fn seed(&self) -> [u64; 2] {
        self.seed
    }

    /// Counts one request; says whether the source is over its limit, this request included.
    pub fn exceeded(&self, hash: u64, now_ns: u64) -> bool {
        let epoch = (now_ns / self.period_ns) & EPOCH_MASK;
        let left_ns = self.period_ns - now_ns % self.period_ns;
        let Some(set) = self.entries.get((hash % SETS) as usize) else { return false };
        let Some(entry) = self.entry(set, hash, now_ns, epoch, left_ns) else { return false };
        if self.mitigated(entry, now_ns) {
            return true;
        }
        let count = |word| {
            let state = State::unpack(word).at(epoch);
            Some(State { current: (state.current + 1).min(COUNT_MAX), ..state }.pack())
        };
        let before = entry.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).unwrap_or_else(|word| word);
        let over = |word| self.estimate(State::unpack(word), left_ns) > u64::from(self.terms.limit);
        let over = count(before).is_some_and(over);
        if over {
            self.mitigate(entry, now_ns);
        }
        over
    }

    /// Whether a source was over its limit not long ago.
    fn mitigated(&self, entry: &Entry, now_ns: u64) -> bool {
        self.mitigation_ns > 0 && entry.until.load(Ordering::Relaxed) > now_ns
    }

    fn mitigate(&self, entry: &Entry, now_ns: u64) {
        if self.mitigation_ns > 0 {
            entry.until.store(now_ns.saturating_add(self.mitigation_ns), Ordering::Relaxed);
        }
    }

    /// Whether the source has used up its limit, this request not counted.
    pub fn used_up(&self, hash: u64, now_ns: u64) -> bool {
        let epoch = (now_ns / self.period_ns) & EPOCH_MASK;
        let left_ns = self.period_ns - now_ns % self.period_ns;
        let set = self.entries.get((hash % SETS) as usize).map_or(&[][..], |set| &set[..]);
        let entry = set.iter().find(|entry| entry.tag.load(Ordering::Acquire) == hash);
        entry.is_some_and(|entry| {
            if self.mitigated(entry, now_ns) {
                return true;
            }
            let state = State::unpack(entry.state.load(Ordering::Relaxed)).at(epoch);
            let used_up = self.estimate(state, left_ns) >= u64::from(self.terms.limit);
            if used_up {
                self.mitigate(entry, now_ns);
            }
            used_up
        })
    }

    /// The source's entry, claimed if it has none yet. None where another worker was quicker: one request goes uncounted.
    fn entry<'s>(&self, set: &'s [Entry; WAYS], hash: u64, now_ns: u64, epoch: u64, left_ns: u64) -> Option<&'s Entry> {
        let mut least: Option<(u64, u64, &Entry)> = None;
        for entry in set {
            let tag = entry.tag.load(Ordering::Acquire);
            if tag == hash {
                return Some(entry);
            }
            let weight = if tag == 0 {
                0
            } else if self.mitigated(entry, now_ns) {
                // Those that a rule applies to are given up last, whoever's time ends first.
                u64::MAX - self.mitigation_ns.saturating_sub(entry.until.load(Ordering::Relaxed).saturating_sub(now_ns))
            } else {
                // One more than the estimate, so that free entries go first.
                1 + self.estimate(State::unpack(entry.state.load(Ordering::Relaxed)).at(epoch), left_ns)
            };
            if least.is_none_or(|(lightest, ..)| weight < lightest) {
                least = Some((weight, tag, entry));
            }
        }
        let (_, tag, entry) = least?;
        entry.tag.compare_exchange(tag, hash, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        entry.until.store(0, Ordering::Relaxed);
        entry.state.store(State { epoch, previous: 0, current: 0 }.pack(), Ordering::Release);
        Some(entry)
    }

    fn estimate(&self, state: State, left_ns: u64) -> u64 {
        let share = u128::from(state.previous) * u128::from(left_ns) / u128::from(self.period_ns);
        share as u64 + state.current
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::hello::ClientHello;
    use crate::policy::RequestView;
    use crate::policy::lang::Lists;
    use crate::policy::rate_key::RateKey;
    use proptest::prelude::*;

    fn table(limit: u32) -> RateTable {
        mitigating(limit, None)
    }

    fn mitigating(limit: u32, mitigation: Option<Duration>) -> RateTable {
        let key = vec!["ip.src".to_owned()];
        let terms = RateTerms { key, limit, period: Duration::from_secs(10), mitigation, ipv6_prefix: 64 };
        RateTable::new(terms, [1, 2])
    }

    fn v4(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(n).into()
    }

    /// A source as a key.
    fn number(table: &RateTable, source: IpAddr) -> u64 {
        let key = RateKey::new(&table.terms.key, &Lists::new()).expect("a key");
        let hello = ClientHello::default();
        let to = "192.0.2.1:443".parse().expect("address");
        let request = RequestView::of_hello(source, to, "web", false, &hello);
        key.number(&request, table.seed, table.terms.ipv6_prefix)
    }

    #[test]
    fn over_the_limit_for_a_time() {
        let table = mitigating(2, Some(Duration::from_secs(60)));
        let key = number(&table, v4(1));
        let now = 100_000_000_000;
        assert_eq!([1, 2, 3].map(|_| table.exceeded(key, now)), [false, false, true]);
        assert!(table.exceeded(key, now + 59_000_000_000), "six periods later");
        assert!(table.used_up(key, now + 59_000_000_000));
        assert!(!table.exceeded(key, now + 60_000_000_000), "its time is over");
        // A flood of others, each over the limit for a moment, does not spare it.
        assert_eq!([1, 2, 3].map(|_| table.exceeded(key, now * 2)).last(), Some(&true));
        for source in 1_000..400_000 {
            table.exceeded(number(&table, v4(source)), now * 2);
        }
        assert!(table.exceeded(key, now * 2 + 59_000_000_000));
    }

    #[test]
    fn the_request_beyond_the_limit_exceeds() {
        let table = table(3);
        let now = 5_000_000_000;
        assert_eq!(
            [1, 2, 3, 4, 5].map(|_| table.exceeded(number(&table, v4(1)), now)),
            [false, false, false, true, true]
        );
        assert!(!table.exceeded(number(&table, v4(2)), now), "another source");
        assert!(table.exceeded(number(&table, v4(1)), now + 7_500_000_000), "three quarters of five, and this one");
        assert!(!table.exceeded(number(&table, v4(1)), now + 40_000_000_000), "long after");
    }

    #[test]
    fn ipv6_counts_by_prefix() {
        let table = table(1);
        let at = |text: &str| table.exceeded(number(&table, text.parse().expect("address")), 0);
        assert!(!at("2001:db8::1"));
        assert!(at("2001:db8::ffff:2"), "same /64");
        assert!(!at("2001:db8:0:1::1"), "another /64");
    }

    #[test]
    fn a_flood_of_sources_does_not_hide_the_busy_one() {
        let table = table(100);
        for round in 0..101 {
            assert!(!table.exceeded(number(&table, v4(7)), 0) || round == 100);
        }
        for source in 1_000..400_000 {
            table.exceeded(number(&table, v4(source)), 0);
        }
        assert!(table.exceeded(number(&table, v4(7)), 0));
    }

    #[test]
    fn threads_count_together() {
        let table = table(4_000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|_| assert!(!table.exceeded(number(&table, v4(1)), 1))));
            }
        });
        // At most one count a thread may be lost, while the entry is claimed.
        let more = (0..6).filter(|_| table.exceeded(number(&table, v4(1)), 1)).count();
        assert!(more >= 2, "{more}");
    }

    proptest! {
        #[test]
        fn as_the_naive_version(steps in prop::collection::vec((0_u32..5, 0_u64..9_000_000_000), 0..120)) {
            const LIMIT: u32 = 4;
            const PERIOD: u64 = 10_000_000_000;
            let table = table(LIMIT);
            let mut buckets: HashMap<(u32, u64), u64> = HashMap::new();
            let mut times: HashMap<u32, Vec<u64>> = HashMap::new();
            let mut now = 0;
            for (source, wait) in steps {
                now += wait;
                *buckets.entry((source, now / PERIOD)).or_default() += 1;
                times.entry(source).or_default().push(now);
                let count = |epoch: Option<u64>| epoch.and_then(|e| buckets.get(&(source, e))).copied().unwrap_or(0);
                let previous = count((now / PERIOD).checked_sub(1));
                let estimate = previous * (PERIOD - now % PERIOD) / PERIOD + count(Some(now / PERIOD));
                prop_assert_eq!(table.exceeded(number(&table, v4(source)), now), estimate > u64::from(LIMIT));
                let truth = times[&source].iter().filter(|t| **t + PERIOD > now).count() as u64;
                prop_assert!(estimate.abs_diff(truth) <= previous, "{} against {}", estimate, truth);
            }
        }

        #[test]
        fn states_pack(epoch in 0..=EPOCH_MASK, previous in 0..=COUNT_MAX, current in 0..=COUNT_MAX) {
            let state = State { epoch, previous, current };
            prop_assert_eq!(State::unpack(state.pack()), state);
        }
    }
}
