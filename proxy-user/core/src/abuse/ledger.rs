//! How badly each source behaves: points for each abuse, which halve with time. The table is bounded: a source that finds no place
//! takes that of the one of its neighbours whose points are fewest.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::{Kind, Record};

/// Sources that are remembered.
const SOURCES: usize = 4_096;
/// Places that a source may have.
const WAYS: usize = 4;
/// Time after which points are half as many.
pub const HALF_LIFE: Duration = Duration::from_secs(60);
/// Bits of an IPv6 address that make a source.
const V6_BITS: u32 = 64;

impl Kind {
    /// What one occurrence counts.
    pub const fn points(self) -> u32 {
        match self {
            // Also what a bad network or a broken client does.
            Self::SlowHeader | Self::SlowBody | Self::SlowRead | Self::LargeHeader => 5,
            Self::Malformed | Self::Connections => 2,
            // Nobody does it but to do harm.
            Self::Resets
            | Self::Continuation
            | Self::EmptyFrames
            | Self::Settings
            | Self::Ping
            | Self::Window
            | Self::Control
            | Self::Priority => 25,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Row {
    source: IpAddr,
    points: f32,
    last: Kind,
    at: Instant,
}

/// The sources of one worker.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Sets of [`WAYS`]; empty until there is a first abuse.
    rows: Vec<Option<Row>>,
    seed: u64,
}

impl Ledger {
    /// An empty one; `seed` keeps others from choosing sources that share a place.
    pub fn new(seed: u64) -> Self {
        Self { rows: Vec::new(), seed }
    }

    /// Counts an abuse of `client`; returns its points.
    pub fn note(&mut self, client: IpAddr, kind: Kind, now: Instant) -> u32 {
        if self.rows.is_empty() {
            self.rows.resize(SOURCES, None);
        }
        let source = source(client);
        let Some(set) = place(source, self.seed).and_then(|range| self.rows.get_mut(range)) else { return 0 };
        let fewest = |row: &Option<Row>| row.map_or(-1.0, |row| decayed(&row, now));
        let held = set.iter().position(|row| row.is_some_and(|row| row.source == source));
        let chosen = held.or_else(|| {
            let mut places: Vec<(usize, f32)> = set.iter().map(fewest).enumerate().collect();
            places.sort_by(|(_, a), (_, b)| a.total_cmp(b));
            places.first().map(|(place, _)| *place)
        });
        let Some(row) = chosen.and_then(|place| set.get_mut(place)) else { return 0 };
        let before = row.filter(|row| row.source == source).map_or(0.0, |row| decayed(&row, now));
        #[expect(clippy::cast_precision_loss, reason = "points of one abuse are few")]
        let points = before + kind.points() as f32;
        *row = Some(Row { source, points, last: kind, at: now });
        whole(points)
    }

    /// What `client` has done.
    pub fn record(&self, client: IpAddr, now: Instant) -> Record {
        if self.rows.is_empty() {
            return Record::default();
        }
        let source = source(client);
        let set = place(source, self.seed).and_then(|range| self.rows.get(range)).unwrap_or_default();
        let row = set.iter().flatten().find(|row| row.source == source);
        let record = row.map(|row| Record { score: whole(decayed(row, now)), last: Some(row.last) });
        record.filter(|record| record.score > 0).unwrap_or_default()
    }
}

/// IPv6 clients choose their address within a prefix.
fn source(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !(u128::MAX >> V6_BITS))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn place(source: IpAddr, seed: u64) -> Option<std::ops::Range<usize>> {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    (source, seed).hash(&mut hasher);
    let first = usize::try_from(hasher.finish() % (SOURCES / WAYS) as u64).ok()? * WAYS;
    Some(first..first + WAYS)
}

fn decayed(row: &Row, now: Instant) -> f32 {
    let halves = now.saturating_duration_since(row.at).as_secs_f32() / HALF_LIFE.as_secs_f32();
    row.points * (-halves).exp2()
}

#[expect(clippy::cast_sign_loss, reason = "points are never negative")]
fn whole(points: f32) -> u32 {
    points.round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_add_up_and_halve() {
        let now = Instant::now();
        let mut ledger = Ledger::new(1);
        let [a, b, c] = ["192.0.2.1", "2001:db8::1", "2001:db8::ffff"].map(|text| text.parse::<IpAddr>().unwrap());
        let points = |ledger: &Ledger, client, now| ledger.record(client, now).score;
        assert_eq!(ledger.record(a, now), Record::default());
        assert_eq!(ledger.note(a, Kind::Ping, now), 25);
        assert_eq!(ledger.note(a, Kind::SlowBody, now), 30);
        assert_eq!(points(&ledger, a, now + HALF_LIFE), 15);
        assert_eq!(ledger.note(a, Kind::SlowBody, now + HALF_LIFE), 20);
        assert_eq!(ledger.record(a, now + HALF_LIFE), Record { score: 20, last: Some(Kind::SlowBody) });
        assert_eq!(ledger.record(a, now + 10 * HALF_LIFE), Record::default());
        assert_eq!(ledger.note(b, Kind::Resets, now), 25);
        assert_eq!(ledger.note(c, Kind::Resets, now), 50, "one /64");
        assert_eq!(points(&ledger, "::ffff:192.0.2.1".parse().unwrap(), now + HALF_LIFE), 20);
    }

    #[test]
    fn the_table_is_bounded_and_the_worst_stay() {
        let now = Instant::now();
        let mut ledger = Ledger::new(2);
        let bad: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..10 {
            ledger.note(bad, Kind::Resets, now);
        }
        for number in 0..100_000_u32 {
            ledger.note(IpAddr::V4((0x0a00_0000 + number).into()), Kind::Malformed, now);
        }
        assert_eq!(ledger.rows.len(), SOURCES);
        assert_eq!(ledger.record(bad, now), Record { score: 250, last: Some(Kind::Resets) });
    }
}
