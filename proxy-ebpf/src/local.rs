//! The local address in the contexts of the socket programs.

use proxy_common::addr::Addr;

const AF_INET: u32 = 2;

/// The address of the family that the context names. Word by word: the verifier takes only four-byte reads of these fields.
///
/// # Safety
/// The pointers must lie in a context that the kernel passed; the verifier checks each read.
#[inline(always)]
pub unsafe fn addr(family: u32, ip4: *const u32, ip6: *const [u32; 4]) -> Addr {
    // SAFETY: the caller's promise.
    unsafe {
        if family == AF_INET {
            return Addr::from_v4_word(ip4.read_volatile());
        }
        let word = |index: usize| u64::from(ip6.cast::<u32>().add(index).read_volatile());
        Addr { hi: word(0) | (word(1) << 32), lo: word(2) | (word(3) << 32) }
    }
}
