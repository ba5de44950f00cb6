//! Counters with a name of the config in their label: how requests of each route ended, and what each upstream answered.
//! A series lives as long as a snapshot that has its name, so that counts go on over reloads; workers write to places of
//! their own.

use std::array;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use proxy_common::abi::MAX_WORKERS;

use crate::stats::Outcomes;

/// Most series of each kind: what stands behind them in the config shares [`OTHERS`].
pub const MAX_SERIES: usize = 256;
/// Label of what has none of its own.
pub const OTHERS: &str = "others";

/// What is counted under one label.
#[derive(Debug)]
pub struct Series {
    label: String,
    workers: [OnceLock<Box<Place>>; MAX_WORKERS as usize],
}

/// A worker's own, so that no two share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Place(Outcomes);

impl Series {
    fn new(label: &str) -> Self {
        Self { label: label.to_owned(), workers: array::from_fn(|_| OnceLock::new()) }
    }

    /// Value of its label.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What this worker has counted.
    pub(super) fn of(&self, worker: u32) -> Option<&Outcomes> {
        let place = self.workers.get(worker as usize)?;
        Some(&place.get_or_init(Box::default).0)
    }

    /// What each worker that took part has counted.
    pub fn each(&self) -> impl Iterator<Item = &Outcomes> {
        self.workers.iter().filter_map(OnceLock::get).map(|place| &place.0)
    }
}

/// All series of one kind.
#[derive(Debug)]
pub struct Registry(Mutex<BTreeMap<String, Weak<Series>>>);

impl Registry {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// That of the `index`th thing of a config, which is called `label`.
    pub(super) fn of(&self, index: usize, label: &str) -> Arc<Series> {
        let label = if index < MAX_SERIES { label } else { OTHERS };
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = held.get(label).and_then(Weak::upgrade) {
            return series;
        }
        held.retain(|_, series| series.strong_count() > 0);
        let series = Arc::new(Series::new(label));
        held.insert(label.to_owned(), Arc::downgrade(&series));
        series
    }

    /// Those in use, by label.
    pub fn all(&self) -> Vec<Arc<Series>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_series_lives_while_it_is_held_and_goes_on_under_its_name() {
        let registry = Registry::new();
        let first = registry.of(0, "shop /api");
        first.of(3).unwrap().finish(200, Duration::from_millis(1));
        let second = registry.of(7, "shop /api");
        drop(first);
        let answered = |series: &Series| series.each().map(|one| one.status[1].load(Ordering::Relaxed)).sum::<u64>();
        assert_eq!((answered(&second), registry.all().len()), (1, 1));
        drop(second);
        assert!(registry.all().is_empty());
        assert_eq!(answered(&registry.of(0, "shop /api")), 0);
    }

    #[test]
    fn there_are_only_so_many() {
        let registry = Registry::new();
        let held: Vec<_> = (0..MAX_SERIES + 50).map(|n| registry.of(n, &format!("route {n}"))).collect();
        assert_eq!(registry.all().len(), MAX_SERIES + 1);
        assert_eq!(held.last().unwrap().label(), OTHERS);
        assert!(held[0].of(MAX_WORKERS).is_none());
    }
}
