//! `VERDICTS` as the daemon sees it: a mapped array of slots ([`proxy_common::slots`]) that workers and the operator write
//! and `front` reads. Writing a verdict is a few stores, no syscall.
//!
//! Writers take turns; `front` never waits. It trusts a slot only while its expiry is set, so that is written last and
//! cleared first. A removed verdict leaves its slot marked as taken, for look-ups to go on behind it, until the slot
//! after it is free. The table has one writing process: the daemon that holds the admin socket.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use proxy_common::abi::{HostKey, VERDICT_TAKEN, VerdictSlot, VerdictValue, verdict_bits, verdict_slots};
use proxy_common::addr::Addr;
use proxy_common::slots::{self, Head, PROBES};

use super::mapped::{Mapped, Shared};

/// [`VerdictSlot`] in memory that the kernel writes too.
#[repr(C)]
#[derive(Debug)]
pub struct Slot {
    key: [AtomicU64; 2],
    expires_ns: AtomicU64,
    created_ns: AtomicU64,
    first_drop_ns: AtomicU64,
    drops: AtomicU64,
    rule: AtomicU32,
    flags: AtomicU32,
    drop_bytes: AtomicU64,
}

const _: () = assert!(size_of::<Slot>() == size_of::<VerdictSlot>(), "a slot is not what the kernel programs have");

// SAFETY: atomic integers in the layout of `VerdictSlot`, without padding, 64 bytes.
unsafe impl Shared for Slot {}

/// No slot is left for the verdict.
#[derive(Debug)]
pub struct Full;

/// The mapped table.
#[derive(Debug)]
pub struct VerdictTable {
    slots: Mapped<Slot>,
    /// Verdicts that stand, expired ones included; held by who writes.
    standing: Mutex<u32>,
    most: u32,
    bits: u32,
    seed: u64,
}

impl VerdictTable {
    /// Maps the table of `max_verdicts`, with what stands in it.
    pub fn map(array: impl AsFd, max_verdicts: u32, seed: u64) -> Result<Self> {
        let slots = Mapped::new(array, verdict_slots(max_verdicts)).context("VERDICTS")?;
        let bits = slots::slot_bits(verdict_bits(max_verdicts));
        let table = Self { slots, standing: Mutex::new(0), most: max_verdicts, bits, seed };
        *table.writing() = table.slots.entries().iter().filter_map(Slot::read).count() as u32;
        Ok(table)
    }

    /// How many verdicts it holds at the most.
    pub fn most(&self) -> u32 {
        self.most
    }

    /// How many verdicts stand, expired ones included.
    pub fn len(&self) -> u32 {
        *self.writing()
    }

    /// The verdict on a source, expired or not.
    pub fn get(&self, key: &HostKey) -> Option<VerdictValue> {
        self.slots
            .entries()
            .get(self.find(key)? as usize)?
            .read()
            .filter(|(found, _)| found == key)
            .map(|(_, value)| value)
    }

    /// All verdicts, expired ones included, in the order of their slots, which are the keys of `VERDICTS` for `bpftool`.
    pub fn entries(&self) -> Vec<(u32, HostKey, VerdictValue)> {
        if *self.writing() == 0 {
            return Vec::new();
        }
        (0..)
            .zip(self.slots.entries())
            .filter_map(|(at, slot)| slot.read().map(|(key, value)| (at, key, value)))
            .collect()
    }

    /// Whether a verdict stands, or expired and was not swept yet, whose key is as `wanted`.
    pub fn any(&self, wanted: impl Fn(&HostKey) -> bool) -> bool {
        *self.writing() != 0 && self.slots.entries().iter().filter_map(Slot::read).any(|(key, _)| wanted(&key))
    }

    /// Writes a verdict, in place of what the source had.
    pub fn set(&self, key: &HostKey, value: &VerdictValue) -> Result<(), Full> {
        let mut standing = self.writing();
        let (slot, new) = self.place_for(key, *standing < self.most).ok_or(Full)?;
        slot.expires_ns.store(0, Ordering::Release);
        let Addr { hi, lo } = Addr::from_bytes(key.addr);
        slot.key[0].store(hi, Ordering::Release);
        slot.key[1].store(lo, Ordering::Release);
        slot.created_ns.store(value.created_ns, Ordering::Relaxed);
        slot.first_drop_ns.store(value.first_drop_ns, Ordering::Relaxed);
        slot.drops.store(value.drops, Ordering::Relaxed);
        slot.drop_bytes.store(value.drop_bytes, Ordering::Relaxed);
        slot.rule.store(value.rule, Ordering::Relaxed);
        slot.flags.store(value.flags | VERDICT_TAKEN, Ordering::Release);
        slot.expires_ns.store(value.expires_ns, Ordering::Release);
        *standing += u32::from(new);
        Ok(())
    }

    /// Gives a verdict that stands at `now` new terms; its counts stay. False where there is none.
    pub fn prolong(&self, key: &HostKey, now: u64, terms: &VerdictValue) -> bool {
        let _writing = self.writing();
        let Some(slot) = self.find(key).and_then(|slot| self.slots.entries().get(slot as usize)) else { return false };
        if slot.expires_ns.load(Ordering::Acquire) <= now {
            return false;
        }
        slot.rule.store(terms.rule, Ordering::Relaxed);
        slot.flags.store(terms.flags | VERDICT_TAKEN, Ordering::Relaxed);
        slot.expires_ns.store(terms.expires_ns, Ordering::Release);
        true
    }

    /// Removes a verdict. False when there was none.
    pub fn remove(&self, key: &HostKey) -> bool {
        let mut standing = self.writing();
        let removed = self.find(key).is_some_and(|slot| self.clear(slot, |expires_ns| expires_ns != 0));
        *standing -= u32::from(removed);
        removed
    }

    /// Removes the verdicts that have expired at `now`; returns how many, and the sources of those that stand.
    pub fn sweep(&self, now: u64) -> (u32, Vec<HostKey>) {
        let (mut removed, mut left) = (0, Vec::new());
        if *self.writing() == 0 {
            return (removed, left);
        }
        for (at, slot) in (0..).zip(self.slots.entries()) {
            let expired = |expires_ns| expires_ns != 0 && expires_ns <= now;
            if expired(slot.expires_ns.load(Ordering::Relaxed)) {
                // A worker may have prolonged it just now: `clear` looks again, while nobody else writes.
                let mut standing = self.writing();
                let gone = u32::from(self.clear(at, expired));
                *standing -= gone;
                removed += gone;
            }
            left.extend(slot.read().map(|(key, _)| key));
        }
        (removed, left)
    }

    fn writing(&self) -> MutexGuard<'_, u32> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &HostKey) -> Option<u32> {
        let wanted = Addr::from_bytes(key.addr);
        slots::find(wanted, self.seed, self.bits, |slot| self.slots.entries().get(slot as usize).map(Slot::head))
    }

    /// The slot to write a source's verdict to, and whether that makes one verdict more, which needs `room`.
    fn place_for(&self, key: &HostKey, room: bool) -> Option<(&Slot, bool)> {
        let slots = self.slots.entries();
        if let Some(slot) = self.find(key).and_then(|slot| slots.get(slot as usize)) {
            let new = slot.expires_ns.load(Ordering::Acquire) == 0;
            return (room || !new).then_some((slot, new));
        }
        if !room {
            return None;
        }
        let home = slots::home(Addr::from_bytes(key.addr), self.seed, self.bits);
        (0..PROBES)
            .filter_map(|distance| slots.get((home + distance) as usize & (slots.len() - 1)))
            .find(|slot| slot.expires_ns.load(Ordering::Acquire) == 0)
            .map(|slot| (slot, true))
    }

    /// Clears a slot whose expiry is as `meant`; only while writing.
    fn clear(&self, at: u32, meant: impl Fn(u64) -> bool) -> bool {
        let slots = self.slots.entries();
        let mask = slots.len() - 1;
        let Some(slot) = slots.get(at as usize).filter(|slot| meant(slot.expires_ns.load(Ordering::Acquire))) else {
            return false;
        };
        slot.expires_ns.store(0, Ordering::Release);
        // Nobody looks behind a free slot: neither need the removed ones before it stay marked.
        let taken = |at: usize| {
            slots.get(at & mask).is_some_and(|slot| slot.flags.load(Ordering::Acquire) & VERDICT_TAKEN != 0)
        };
        let mut at = at as usize;
        if taken(at + 1) {
            return true;
        }
        for _ in 0..slots.len() {
            match slots.get(at & mask) {
                Some(slot) if taken(at) && slot.expires_ns.load(Ordering::Acquire) == 0 => {
                    slot.flags.store(0, Ordering::Release);
                }
                _ => break,
            }
            at = at.wrapping_sub(1);
        }
        true
    }
}

impl Slot {
    fn head(&self) -> Head {
        let key = Addr { hi: self.key[0].load(Ordering::Acquire), lo: self.key[1].load(Ordering::Acquire) };
        Head { key, flags: self.flags.load(Ordering::Acquire) }
    }

    /// The verdict in the slot; `None` where there is none, or another was being written.
    fn read(&self) -> Option<(HostKey, VerdictValue)> {
        let expires_ns = self.expires_ns.load(Ordering::Acquire);
        let before = self.head();
        let value = VerdictValue {
            expires_ns,
            created_ns: self.created_ns.load(Ordering::Acquire),
            first_drop_ns: self.first_drop_ns.load(Ordering::Acquire),
            drops: self.drops.load(Ordering::Acquire),
            rule: self.rule.load(Ordering::Acquire),
            flags: before.flags & !VERDICT_TAKEN,
            drop_bytes: self.drop_bytes.load(Ordering::Acquire),
        };
        let whole = expires_ns != 0 && before.flags & VERDICT_TAKEN != 0 && self.head().key == before.key;
        whole.then(|| (before.key.host_key(), value))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::os::fd::OwnedFd;

    use nix::sys::memfd::{MFdFlags, memfd_create};
    use nix::unistd::ftruncate;

    use super::*;

    const MOST: u32 = 4_000;
    /// Bytes of a slot.
    const SLOT: i64 = 64;

    /// Memory like that of the map.
    fn memory() -> OwnedFd {
        let memory = memfd_create("verdicts", MFdFlags::empty()).unwrap();
        ftruncate(&memory, i64::from(verdict_slots(MOST)) * SLOT).unwrap();
        memory
    }

    fn table() -> VerdictTable {
        VerdictTable::map(memory(), MOST, 0x5eed).unwrap()
    }

    fn host(n: u32) -> HostKey {
        Addr::from_v4_word(n.to_be()).host_key()
    }

    fn until(expires_ns: u64) -> VerdictValue {
        VerdictValue { expires_ns, created_ns: 1, rule: 7, ..VerdictValue::default() }
    }

    fn taken(table: &VerdictTable) -> usize {
        table.slots.entries().iter().filter(|slot| slot.flags.load(Ordering::Relaxed) & VERDICT_TAKEN != 0).count()
    }

    /// A hundred thousand writes, removals, prolongations and sweeps among five thousand sources, beside a plain map.
    #[test]
    fn it_holds_what_a_map_would() {
        let table = table();
        let mut model: HashMap<HostKey, VerdictValue> = HashMap::new();
        let mut state = 1_u64;
        let mut full = 0;
        for now in 1..100_000_u64 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let key = host((state >> 40) as u32 % 5_000);
            match state & 7 {
                0 => assert_eq!(table.remove(&key), model.remove(&key).is_some()),
                1 => {
                    let terms = VerdictValue { rule: 9, ..until(now + 40_000) };
                    let stands = model.get_mut(&key).filter(|value| value.expires_ns > now);
                    assert_eq!(table.prolong(&key, now, &terms), stands.is_some());
                    if let Some(value) = stands {
                        (value.expires_ns, value.rule) = (terms.expires_ns, terms.rule);
                    }
                }
                _ => {
                    let value = until(now + (state >> 20) % 60_000);
                    if model.len() < MOST as usize || model.contains_key(&key) {
                        table.set(&key, &value).unwrap();
                        model.insert(key, value);
                    } else {
                        full += 1;
                        assert!(table.set(&key, &value).is_err(), "more than {MOST} verdicts");
                    }
                }
            }
            if now % 1_000 == 0 {
                let before = model.len();
                model.retain(|_, value| value.expires_ns > now);
                let (removed, left) = table.sweep(now);
                assert_eq!(removed as usize, before - model.len());
                assert_eq!(left.into_iter().collect::<HashSet<_>>(), model.keys().copied().collect());
            }
            if now % 5_000 == 0 {
                let entries = table.entries().into_iter().map(|(_, key, value)| (key, value));
                assert_eq!(entries.collect::<HashMap<_, _>>(), model);
                for n in 0..5_000 {
                    assert_eq!(table.get(&host(n)), model.get(&host(n)).copied());
                }
            }
        }
        assert!(full > 0, "the table was never full");
        for key in model.keys() {
            assert!(table.remove(key));
        }
        assert_eq!((table.entries().len(), taken(&table)), (0, 0), "an empty table has only free slots");
    }

    #[test]
    fn a_prolonged_verdict_keeps_its_counts_and_a_new_one_has_none() {
        let table = table();
        let counted = VerdictValue { drops: 5, drop_bytes: 300, first_drop_ns: 2, ..until(10) };
        table.set(&host(1), &counted).unwrap();
        assert!(table.prolong(&host(1), 3, &VerdictValue { rule: 8, flags: 1, ..until(20) }));
        let prolonged = VerdictValue { rule: 8, flags: 1, expires_ns: 20, ..counted };
        assert_eq!(table.get(&host(1)), Some(prolonged));
        assert!(!table.prolong(&host(1), 20, &until(30)), "expired at 20");
        table.set(&host(1), &until(30)).unwrap();
        assert_eq!(table.get(&host(1)), Some(until(30)));
    }

    #[test]
    fn what_stands_is_found_again_by_the_next_process() {
        let memory = memory();
        let first = VerdictTable::map(&memory, MOST, 3).unwrap();
        for n in 0..MOST {
            first.set(&host(n), &until(u64::from(n) + 1)).unwrap();
        }
        let second = VerdictTable::map(&memory, MOST, 3).unwrap();
        assert!(second.set(&host(MOST), &until(9)).is_err(), "it counts what stands");
        assert_eq!(second.sweep(1_000).0, 1_000);
        assert_eq!(second.get(&host(2_000)), Some(until(2_001)));
        assert!(second.get(&host(999)).is_none() && second.get(&host(1_000)).is_some());
    }
}
