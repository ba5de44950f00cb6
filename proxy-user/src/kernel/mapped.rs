//! An array map mapped into the daemon: reading and writing it is a load or a store, not a syscall. One of the places of
//! unsafe; `T` is made of atomics, because the kernel programs and other threads touch the same memory.

use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

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
    pub fn new(array: impl AsFd, len: u32) -> Result<Self> {
        let bytes = NonZeroUsize::new(len as usize * size_of::<T>()).context("an array without entries")?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new shared mapping of a live descriptor at an address that the kernel chooses; it refuses a length
        // beyond the array's memory.
        let base = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, array, 0) }.context("mapping a map")?;
        Ok(Self { base: base.cast(), len: len as usize, owns: PhantomData })
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
