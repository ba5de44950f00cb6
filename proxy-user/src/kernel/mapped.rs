//! An array map mapped into the daemon: reading and writing it is a load or a store, not a syscall. One of the places of
//! unsafe; `T` is made of atomics, because the kernel programs and other threads touch the same memory.

use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// Bytes that are mapped at a time, whole pages: some tens of microseconds.
const STEP: usize = 1 << 20;

/// Types that may lie in memory that others write at any time.
///
/// # Safety
/// Made of atomic integers only, without padding, of the size of the map's value, which is a multiple of eight bytes.
pub unsafe trait Shared {}

// SAFETY: an atomic integer of eight bytes.
unsafe impl Shared for AtomicU64 {}

/// The mapped array.
#[derive(Debug)]
pub struct Mapped<T> {
    base: NonNull<T>,
    len: usize,
    owns: PhantomData<T>,
}

// SAFETY: the memory is shared with the kernel and touched through atomics only (`T: Shared`).
unsafe impl<T: Shared> Send for Mapped<T> {}
// SAFETY: as above.
unsafe impl<T: Shared> Sync for Mapped<T> {}

impl<T: Shared> Mapped<T> {
    /// Maps the `len` entries of an array that was made with `BPF_F_MMAPABLE`.
    ///
    /// A large one is mapped in steps: the kernel enters all pages of a call at once (`remap_vmalloc_range_partial`), and one
    /// that is not preemptible does nothing else on this CPU meanwhile, not even take packets in: milliseconds for 32 MiB.
    pub fn new(array: impl AsFd, len: u32) -> Result<Self> {
        let size = len as usize * size_of::<T>();
        let bytes = NonZeroUsize::new(size).context("an array without entries")?;
        // SAFETY: a new mapping without any memory, at an address that the kernel chooses.
        let base = unsafe { mmap_anonymous(None, bytes, ProtFlags::PROT_NONE, MapFlags::MAP_PRIVATE) };
        let base = base.context("reserving addresses for a map")?;
        let mapped = Self { base: base.cast(), len: len as usize, owns: PhantomData };
        for offset in (0..size).step_by(STEP) {
            let at = base.addr().checked_add(offset).context("addresses beyond the last one")?;
            let length = NonZeroUsize::new(STEP.min(size - offset)).context("a step without entries")?;
            let at_byte = i64::try_from(offset).context("a map too large to map")?;
            let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
            let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED;
            // SAFETY: takes the place of a part of the mapping just made, which nobody else knows; the kernel refuses what
            // lies beyond the array's memory.
            unsafe { mmap(Some(at), length, protection, flags, &array, at_byte) }.context("mapping a map")?;
        }
        Ok(mapped)
    }

    /// The entries.
    pub fn entries(&self) -> &[T] {
        // SAFETY: the mapping holds `len` entries of a type that is valid for any bytes, for as long as `self` lives.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, unmapped once; no reference into it outlives `self`.
        if let Err(error) = unsafe { munmap(self.base.cast(), self.len * size_of::<T>()) } {
            tracing::debug!(%error, "unmapping a map");
        }
    }
}
