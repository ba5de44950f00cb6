//! From counters and samples to rates. Pure: time is an argument.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use proxy_common::abi::Reason;
use proxy_user::control::wire::{Count, Counters};
use proxy_user::events::record::{Losses, PacketEvent};
use serde::Serialize;

/// Most sources and services that are told apart within one time; the rest count as [`OTHERS`].
const MAX_NAMES: usize = 4_096;
/// Most rows of a list.
const MAX_ROWS: usize = 100;
/// Whoever came after [`MAX_NAMES`].
const OTHERS: &str = "(others)";
/// What is for no listener.
const NO_SERVICE: &str = "-";

/// Packets and bytes a second.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rate {
    /// Of what.
    pub name: String,
    /// Packets a second.
    pub packets: f64,
    /// Bytes a second, link header included.
    pub bytes: f64,
}

/// One set of figures; lists begin with the most packets.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Seconds that they were taken over.
    pub seconds: f64,
    /// All packets at the gate.
    pub packets: f64,
    /// Those that were dropped.
    pub dropped: f64,
    /// By reason, exact.
    pub reasons: Vec<Rate>,
    /// By rule, exact.
    pub rules: Vec<Rate>,
    /// Drops by source, estimated.
    pub sources: Vec<Rate>,
    /// Drops by listener, estimated.
    pub services: Vec<Rate>,
    /// Samples that did not come through, and are missing in the estimates.
    pub lost: Losses,
}

/// What came since the last figures.
#[derive(Debug, Default)]
pub struct Tally {
    before: Option<(Instant, Counters)>,
    sources: HashMap<String, Count>,
    services: HashMap<String, Count>,
    lost: Losses,
}

impl Tally {
    /// Counts a sample for all that it stands for.
    pub fn event(&mut self, event: &PacketEvent) {
        let source = event.source.map_or_else(|| "(unreadable)".to_owned(), |ip| ip.to_string());
        add(&mut self.sources, source, event);
        add(&mut self.services, event.service.clone().unwrap_or_else(|| NO_SERVICE.to_owned()), event);
    }

    /// Notes what did not come through.
    pub fn losses(&mut self, losses: Losses) {
        self.lost.kernel += losses.kernel;
        self.lost.reader += losses.reader;
    }

    /// The rates since the last call, and a new beginning. The first call gives none.
    pub fn counters(&mut self, now: Instant, counters: Counters) -> Rates {
        let Some((since, before)) = self.before.replace((now, counters)) else {
            self.sources.clear();
            self.services.clear();
            return Rates::default();
        };
        let time = now.saturating_duration_since(since);
        let Some((_, after)) = &self.before else { return Rates::default() };
        let reasons = differences(&before.reasons, &after.reasons, time);
        // `steer` counts connections under reasons of its own: a packet at the gate has one of `front`'s.
        let dropped = Reason::ALL.into_iter().filter(|reason| reason.drops()).map(Reason::name);
        let dropped: Vec<&str> = dropped.collect();
        let sum = |of: &dyn Fn(&Rate) -> bool| reasons.iter().filter(|rate| of(rate)).map(|rate| rate.packets).sum();
        Rates {
            seconds: time.as_secs_f64(),
            packets: sum(&|rate| rate.bytes > 0.0),
            dropped: sum(&|rate| dropped.contains(&rate.name.as_str())),
            rules: differences(&before.rules, &after.rules, time),
            sources: rates(self.sources.drain(), time),
            services: rates(self.services.drain(), time),
            lost: std::mem::take(&mut self.lost),
            reasons,
        }
    }
}

fn add(counts: &mut HashMap<String, Count>, name: String, event: &PacketEvent) {
    let name = if counts.len() < MAX_NAMES || counts.contains_key(&name) { name } else { OTHERS.to_owned() };
    let count = counts.entry(name).or_default();
    let packets = u64::from(event.sample.max(1));
    count.packets += packets;
    count.bytes += packets * u64::from(event.length);
}

fn differences(before: &BTreeMap<String, Count>, after: &BTreeMap<String, Count>, time: Duration) -> Vec<Rate> {
    let moved = after.iter().map(|(name, count)| {
        let old = before.get(name).copied().unwrap_or_default();
        // A gate that was loaded anew counts from zero.
        let packets = count.packets.saturating_sub(old.packets);
        (name.clone(), Count { packets, bytes: count.bytes.saturating_sub(old.bytes) })
    });
    rates(moved, time)
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people; 2^53 packets are not seen within one time")]
fn rates(counts: impl Iterator<Item = (String, Count)>, time: Duration) -> Vec<Rate> {
    let seconds = time.as_secs_f64().max(1e-9);
    let mut rates: Vec<Rate> = counts
        .filter(|(_, count)| count.packets > 0)
        .map(|(name, count)| Rate {
            name,
            packets: count.packets as f64 / seconds,
            bytes: count.bytes as f64 / seconds,
        })
        .collect();
    rates.sort_unstable_by(|a, b| b.packets.total_cmp(&a.packets).then_with(|| a.name.cmp(&b.name)));
    rates.truncate(MAX_ROWS);
    rates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(verdict: u64, pass: u64) -> Counters {
        let count = |packets| Count { packets, bytes: packets * 100 };
        Counters {
            reasons: [("verdict", verdict), ("pass", pass)].map(|(name, n)| (name.to_owned(), count(n))).into(),
            rules: [("p/r".to_owned(), count(verdict))].into(),
            would: BTreeMap::new(),
            checks: BTreeMap::new(),
        }
    }

    fn event(source: &str, sample: u32) -> PacketEvent {
        PacketEvent { source: source.parse().ok(), sample, length: 60, ..PacketEvent::default() }
    }

    #[test]
    fn rates_are_differences_over_time() {
        let mut tally = Tally::default();
        let start = Instant::now();
        assert_eq!(tally.counters(start, counters(10, 1_000)), Rates::default());
        for sample in [64, 64, 64] {
            tally.event(&event("192.0.2.1", sample));
        }
        tally.event(&event("2001:db8::1", 64));
        tally.losses(Losses { kernel: 3, reader: 1 });
        let rates = tally.counters(start + Duration::from_secs(2), counters(30, 2_000));
        assert_eq!((rates.packets, rates.dropped, rates.seconds), (510.0, 10.0, 2.0));
        assert_eq!(rates.reasons[0], Rate { name: "pass".to_owned(), packets: 500.0, bytes: 50_000.0 });
        assert_eq!(rates.rules[0].name, "p/r");
        assert_eq!(rates.sources[0], Rate { name: "192.0.2.1".to_owned(), packets: 96.0, bytes: 5_760.0 });
        assert_eq!((rates.sources.len(), rates.services[0].name.as_str()), (2, NO_SERVICE));
        assert_eq!(rates.lost, Losses { kernel: 3, reader: 1 });
        let rates = tally.counters(start + Duration::from_secs(3), counters(0, 0));
        assert!(rates.reasons.is_empty() && rates.sources.is_empty(), "a gate loaded anew: {rates:?}");
        assert_eq!(rates.lost, Losses::default());
    }

    #[test]
    fn memory_is_bounded() {
        let mut tally = Tally::default();
        tally.counters(Instant::now(), counters(0, 0));
        for n in 0..2 * MAX_NAMES as u32 {
            tally.event(&event(&std::net::Ipv4Addr::from(n).to_string(), 1));
        }
        assert_eq!(tally.sources.len(), MAX_NAMES + 1);
        let rates = tally.counters(Instant::now() + Duration::from_secs(1), counters(0, 0));
        assert_eq!((rates.sources.len(), rates.sources[0].name.as_str()), (MAX_ROWS, OTHERS));
    }
}
