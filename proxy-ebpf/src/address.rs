//! Addresses in the contexts of the socket programs.

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
        // Read whatever the family is: of two reads in two branches the compiler makes one at a computed place, which the
        // verifier refuses.
        let v4 = ip4.read_volatile();
        let word = |index: usize| u64::from(ip6.cast::<u32>().add(index).read_volatile());
        let v6 = Addr { hi: word(0) | (word(1) << 32), lo: word(2) | (word(3) << 32) };
        if family == AF_INET { Addr::from_v4_word(v4) } else { v6 }
    }
}
