//! Counting: per-CPU values that only the program on this CPU writes.

use proxy_common::abi::{Counter, Reason};

use crate::maps::COUNTERS;

/// One packet of `length` bytes more on a per-CPU counter.
#[inline(always)]
pub fn add(counter: Option<*mut Counter>, length: u64) {
    if let Some(counter) = counter {
        // SAFETY: a value of a per-CPU array; only this program on this CPU writes it.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += length;
        }
    }
}

/// One packet of `length` bytes more for a reason; connections count no bytes.
#[inline(always)]
pub fn reason(reason: Reason, length: u64) {
    add(COUNTERS.get_ptr_mut(reason as u32), length);
}
