//! The filter before `VERDICTS` (`VERDICT_HINT`, mapped into the daemon): set before a verdict is written, renewed when
//! verdicts went.
//!
//! Many verdicts may share a bit, so a bit is not cleared with its verdict: [`Filter::renew`] replaces all bits by those of
//! the verdicts that stand. A writer sets its bit before it writes and again after: a verdict that the renewal did not
//! see was written after it began, so at least the second time falls into the renewal and is kept, or comes after it.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use anyhow::{Context, Result};
use proxy_common::abi::{HostKey, verdict_bits, verdict_words};
use proxy_common::addr::v6_mask;
use proxy_common::hint;

use super::mapped::Mapped;

/// The mapped filter.
#[derive(Debug)]
pub struct Filter {
    words: Mapped<AtomicU64>,
    /// The words to be, while a renewal is under way. Writers share the lock; it is held alone for the moments in which a
    /// renewal begins and ends, some microseconds every few seconds.
    renewal: RwLock<Option<Vec<AtomicU64>>>,
    bits: u32,
    v6_mask: u64,
}

impl Filter {
    /// Maps the filter of a table of `max_verdicts`.
    pub fn map(array: impl AsFd, max_verdicts: u32, ipv6_prefix: u8) -> Result<Self> {
        let words = Mapped::new(array, verdict_words(max_verdicts)).context("VERDICT_HINT")?;
        let bits = verdict_bits(max_verdicts);
        Ok(Self { words, renewal: RwLock::default(), bits, v6_mask: v6_mask(ipv6_prefix) })
    }

    /// Has `write` write verdicts: sets their bits before, so that no packet slips by, and once more after.
    pub fn around<K, T>(&self, verdicts: &[K], key: impl Fn(&K) -> &HostKey, write: impl FnOnce() -> T) -> T {
        let set = || verdicts.iter().for_each(|verdict| self.set(key(verdict)));
        set();
        let written = write();
        set();
        written
    }

    /// Sets the bit of a verdict that stands already.
    pub fn set(&self, key: &HostKey) {
        let (word, bit) = hint::verdict_place(key.first_addr(), self.v6_mask, self.bits);
        let renewal = self.renewal.read().unwrap_or_else(PoisonError::into_inner);
        for words in [Some(self.words.entries()), renewal.as_deref()].into_iter().flatten() {
            if let Some(word) = words.get(word as usize) {
                word.fetch_or(1 << bit, Ordering::AcqRel);
            }
        }
    }

    /// Leaves only the bits of the verdicts that `standing` leaves standing, and of those that are written meanwhile. Returns
    /// what else it says.
    pub fn renew<T>(&self, standing: impl FnOnce() -> (T, Vec<HostKey>)) -> T {
        let fresh = self.words.entries().iter().map(|_| AtomicU64::new(0)).collect();
        *self.renewal.write().unwrap_or_else(PoisonError::into_inner) = Some(fresh);
        let (outcome, standing) = standing();
        for key in &standing {
            self.set(key);
        }
        let mut renewal = self.renewal.write().unwrap_or_else(PoisonError::into_inner);
        for (word, fresh) in self.words.entries().iter().zip(renewal.take().unwrap_or_default()) {
            let fresh = fresh.into_inner();
            if word.load(Ordering::Acquire) != fresh {
                word.store(fresh, Ordering::Release);
            }
        }
        outcome
    }
}
