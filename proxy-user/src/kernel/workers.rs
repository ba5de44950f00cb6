//! The `WORKERS` array mapped into the daemon: publishing a load is a store, not a syscall.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use proxy_common::abi::{MAX_WORKERS, WorkerLoad};

use super::mapped::{Mapped, Shared};

/// Four words a worker, as [`WorkerLoad`] lays them out.
#[repr(C)]
#[derive(Debug)]
struct Load {
    active: AtomicU32,
    accepting: AtomicU32,
    assigned: AtomicU32,
    settled: AtomicU32,
}

const _: () = assert!(size_of::<Load>() == size_of::<WorkerLoad>());

// SAFETY: four atomic integers of four bytes each, as large as the map's value (asserted above).
unsafe impl Shared for Load {}

/// The mapped array.
#[derive(Debug)]
pub struct Workers {
    loads: Mapped<Load>,
}

impl Workers {
    /// Maps the array.
    pub fn map(array: impl AsFd) -> Result<Self> {
        Ok(Self { loads: Mapped::new(array, MAX_WORKERS).context("WORKERS")? })
    }

    fn load(&self, worker: u32) -> Option<&Load> {
        self.loads.entries().get(worker as usize)
    }

    /// Publishes the worker's open connections; those that came in since are no longer on their way.
    pub fn set_active(&self, worker: u32, active: u32) {
        if let Some(load) = self.load(worker) {
            let before = load.active.swap(active, Ordering::Relaxed);
            if active > before {
                load.settled.fetch_add(active - before, Ordering::Relaxed);
            }
        }
    }

    /// Gives up what is on its way since long: handshakes that never ended, counts lost in a race.
    pub fn settle(&self) {
        for worker in 0..MAX_WORKERS {
            if let Some(load) = self.load(worker) {
                load.settled.store(load.assigned.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
    }

    /// Publishes whether the worker may be chosen.
    pub fn set_accepting(&self, worker: u32, accepting: bool) {
        if let Some(load) = self.load(worker) {
            load.accepting.store(accepting.into(), Ordering::Release);
        }
    }

    /// Forgets what an earlier process published.
    pub fn clear(&self) {
        for worker in 0..MAX_WORKERS {
            self.set_accepting(worker, false);
            self.set_active(worker, 0);
        }
        self.settle();
    }
}
