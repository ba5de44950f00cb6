//! How many connections a source holds, over all workers, in memory that no number of sources makes grow: two rows of counters
//! that each source leads to by two hashes. What is told is never too few, and too many only where both counters are shared.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

/// Counters of one row.
const COUNTERS: usize = 65_536;

/// The counters of all workers.
#[derive(Debug)]
pub struct Sources {
    rows: [Box<[AtomicU32]>; 2],
    seed: u64,
}

/// Where a source is counted; given back when its connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place([usize; 2]);

impl Sources {
    /// None are counted; `seed` keeps others from choosing sources that share counters.
    pub fn new(seed: u64) -> Self {
        let row = || (0..COUNTERS).map(|_| AtomicU32::new(0)).collect();
        Self { rows: [row(), row()], seed }
    }

    /// Counts one more connection of `source`; its place, unless it holds `limit` already.
    pub fn open(&self, source: IpAddr, limit: u32) -> Option<Place> {
        let place = Place([0, 1].map(|row: u64| {
            let mut hasher = DefaultHasher::new();
            (source, self.seed, row).hash(&mut hasher);
            (hasher.finish() % COUNTERS as u64) as usize
        }));
        let held = self.counters(place).map(|counter| counter.fetch_add(1, Ordering::Relaxed)).min()?;
        if held < limit {
            return Some(place);
        }
        self.close(place);
        None
    }

    /// A connection ended.
    pub fn close(&self, place: Place) {
        for counter in self.counters(place) {
            counter.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn counters(&self, place: Place) -> impl Iterator<Item = &AtomicU32> {
        self.rows.iter().zip(place.0).filter_map(|(row, at)| row.get(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_its_limit_and_others_theirs() {
        let sources = Sources::new(7);
        let [a, b] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        let places: Vec<Place> = (0..3).map(|_| sources.open(a, 3).unwrap()).collect();
        assert_eq!(sources.open(a, 3), None);
        assert!(sources.open(b, 3).is_some());
        sources.close(places[0]);
        assert!(sources.open(a, 3).is_some());
        assert_eq!(sources.open(a, 3), None);
    }

    #[test]
    fn many_others_take_nothing_away() {
        let sources = Sources::new(7);
        for number in 0..20_000_u32 {
            sources.open(IpAddr::V4((0x0a00_0000 + number).into()), 100);
        }
        let source = "192.0.2.1".parse().unwrap();
        assert!((0..80).all(|_| sources.open(source, 100).is_some()));
    }
}
