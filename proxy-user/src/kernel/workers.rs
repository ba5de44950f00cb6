//! The `WORKERS` array mapped into the daemon: publishing a load is a store, not a syscall. One of the places of unsafe.

use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use proxy_common::abi::{MAX_WORKERS, WorkerLoad};

const BYTES: usize = MAX_WORKERS as usize * size_of::<WorkerLoad>();

/// Four words a worker, as [`WorkerLoad`] lays them out.
#[repr(C)]
struct Load {
    active: AtomicU32,
    accepting: AtomicU32,
    assigned: AtomicU32,
    settled: AtomicU32,
}

const _: () = assert!(size_of::<Load>() == size_of::<WorkerLoad>());

/// The mapped array.
#[derive(Debug)]
pub struct Workers {
    base: NonNull<Load>,
}

// SAFETY: the memory is shared with the kernel and touched through atomics only.
unsafe impl Send for Workers {}
// SAFETY: as above.
unsafe impl Sync for Workers {}

impl Workers {
    /// Maps the array, which was made with `BPF_F_MMAPABLE`.
    pub fn map(array: impl AsFd) -> Result<Self> {
        let length = NonZeroUsize::new(BYTES).context("WORKERS has no entries")?;
        // SAFETY: a new shared mapping of a live descriptor at an address that the kernel chooses; the array's memory
        // is at least `BYTES` long, rounded up to pages.
        let base =
            unsafe { mmap(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, array, 0) }
                .context("mapping the WORKERS array")?;
        Ok(Self { base: base.cast() })
    }

    fn load(&self, worker: u32) -> Option<&Load> {
        // SAFETY: below `MAX_WORKERS` the entry lies inside the mapping, which lives as long as `self`.
        (worker < MAX_WORKERS).then(|| unsafe { self.base.add(worker as usize).as_ref() })
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

impl Drop for Workers {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, unmapped once; no reference into it outlives `self`.
        if let Err(error) = unsafe { munmap(self.base.cast(), BYTES) } {
            tracing::debug!(%error, "unmapping WORKERS");
        }
    }
}
