//! Hints: bits that say where a look-up is worth it. A set bit promises nothing, a clear bit means that there is nothing.
//!
//! **Prefixes**, one bit a bucket of addresses. A look-up in the kernel's LPM trie costs 80 ns and more; most packets come from nowhere near a denied prefix.
//! The hint answers "no prefix here" from 8 KiB a family: IPv4 by the first 16 bits of the address, IPv6 by a fold of
//! its first 32 bits.
//!
//! **Verdicts**, eight bits or more for each entry that the table may hold, by a hash of the address (IPv6: of its prefix,
//! which hosts in it share). The hash table's buckets take 16 bytes an entry and leave the cache long before this does.

use crate::abi::HINT_WORDS;
use crate::addr::Addr;

/// Bits of an IPv4 address that choose its bucket.
pub const V4_BITS: u8 = 16;
/// Bits of an IPv6 address that choose its bucket.
pub const V6_BITS: u8 = 32;

/// Word (index into the `HINT` array, both families) and bit of an address.
#[inline(always)]
pub const fn place(addr: Addr) -> (u32, u32) {
    let (base, bucket) = if addr.is_v4() {
        (0, addr.v4_number() >> 16)
    } else {
        let top = (u64::from_be(addr.hi) >> 32) as u32;
        (HINT_WORDS, (top ^ (top >> 16)) & 0xffff)
    };
    (base + (bucket >> 6), bucket & 63)
}

/// 2^64 / φ: multiplying by it spreads neighbours evenly over the upper bits (Knuth 6.4, Fibonacci hashing).
pub(crate) const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Word (index into `VERDICT_HINT`) and bit of the verdicts on an address. `bits` and `v6_mask` are those of
/// [`crate::abi::GateConfig`]. The hash has no secret: who finds colliding addresses gains a look-up, not a pass.
#[inline(always)]
pub const fn verdict_place(addr: Addr, v6_mask: u64, bits: u32) -> (u32, u32) {
    let source = if addr.is_v4() { addr.lo } else { addr.hi & v6_mask.to_be() };
    // Folded first: the address's own bits lie in the upper half of the word, and a product moves bits up only.
    let folded = source ^ (source >> 32);
    let place = folded.wrapping_mul(SPREAD) >> ((64 - bits) & 63);
    ((place >> 6) as u32, (place & 63) as u32)
}

/// Calls `set(word, bit)` for every bucket that a prefix touches. `len` counts in the address's own family
/// (0–32 or 0–128). A prefix shorter than the bucket's bits sets all the buckets that it covers.
pub fn mark(addr: Addr, len: u8, mut set: impl FnMut(u32, u32)) {
    if addr.is_v4() {
        let first = addr.v4_number() >> 16;
        let count = 1u32 << V4_BITS.saturating_sub(len);
        let first = first & !(count - 1);
        for bucket in first..first + count {
            set(bucket >> 6, bucket & 63);
        }
    } else if len >= V6_BITS {
        let (word, bit) = place(addr);
        set(word, bit);
    } else {
        // Folded buckets of a short prefix are spread: all of them it is.
        for bucket in 0..HINT_WORDS * 64 {
            set(HINT_WORDS + (bucket >> 6), bucket & 63);
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::collections::HashSet;

    use super::*;

    fn v4(a: u8, b: u8, c: u8, d: u8) -> Addr {
        Addr::from_v4_word(u32::from_ne_bytes([a, b, c, d]))
    }

    fn marks(addr: Addr, len: u8) -> HashSet<(u32, u32)> {
        let mut set = HashSet::new();
        mark(addr, len, |word, bit| assert!(set.insert((word, bit)), "marked twice"));
        set
    }

    #[test]
    fn long_prefix_sets_its_own_bucket() {
        assert_eq!(marks(v4(10, 1, 2, 0), 24), HashSet::from([place(v4(10, 1, 200, 9))]));
        assert!(!marks(v4(10, 1, 2, 0), 24).contains(&place(v4(10, 2, 2, 0))));
    }

    #[test]
    fn short_prefix_sets_all_that_it_covers() {
        let set = marks(v4(10, 0, 0, 0), 8);
        assert_eq!(set.len(), 256);
        assert!(set.contains(&place(v4(10, 255, 0, 1))));
        assert!(!set.contains(&place(v4(11, 0, 0, 1))));
        assert_eq!(marks(v4(0, 0, 0, 0), 0).len(), 65_536);
    }

    #[test]
    fn verdicts_spread_and_prefixes_share() {
        let places: HashSet<_> =
            (0..4_096u32).map(|n| verdict_place(Addr::from_v4_word((0x0a00_0000 + n).to_be()), 0, 15)).collect();
        assert!(places.len() > 3_500, "{} places for 4,096 neighbours", places.len());
        assert!(places.iter().all(|(word, bit)| *word < 512 && *bit < 64));
        let host = |last: u8| {
            let mut bytes = [0x20; 16];
            bytes[15] = last;
            verdict_place(Addr::from_bytes(bytes), u64::MAX, 23)
        };
        assert_eq!(host(1), host(2));
    }

    #[test]
    fn v6_stays_in_its_half() {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        let addr = Addr::from_bytes(bytes);
        let set = marks(addr, 32);
        assert_eq!(set, HashSet::from([place(addr)]));
        assert!(set.iter().all(|(word, _)| (HINT_WORDS..2 * HINT_WORDS).contains(word)));
        assert_eq!(marks(addr, 20).len(), 65_536);
    }
}
