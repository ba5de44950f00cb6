//! What becomes of later fragments: they carry no ports, so they follow the first one of their datagram.
//!
//! The table is a plain array of [`FRAGMENT_SLOTS`] words, a slot chosen by a keyed hash of (source, destination,
//! identification, protocol). A word holds 40 bits of the hash, the second in which the first fragment was seen and
//! whether it passed, so that one store replaces it whole. Bound: 4,096 datagrams that wait for fragments at once; one
//! more takes a slot over, and the later fragments of that slot's datagram are then strays. A later fragment follows
//! another datagram's first only if 52 bits of a keyed hash agree within [`LIFETIME_S`].

use crate::parse::Packet;

/// Slots of the table.
pub const FRAGMENT_SLOTS: u32 = 4_096;
/// Seconds in which later fragments may come: what Linux waits for them (`net.ipv4.ipfrag_time`).
pub const LIFETIME_S: u32 = 30;

const SECONDS_BITS: u32 = 23;
const SECONDS_MASK: u64 = (1 << SECONDS_BITS) - 1;
const TAG_MASK: u64 = u64::MAX << (SECONDS_BITS + 1);

/// What is known of the first fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum First {
    /// It was not seen, or too long ago, or its slot was taken over.
    Unknown,
    /// It passed.
    Passed,
    /// It was dropped.
    Dropped,
}

/// Keyed hash of a fragment's datagram; `ident` is the identification. Slot and tag come from different bits.
#[inline(always)]
pub const fn hash(packet: &Packet, ident: u32, seed: u64) -> u64 {
    let word = mix(packet.src.hi ^ seed) ^ packet.src.lo;
    let word = mix(word) ^ packet.dst.hi;
    let word = mix(word) ^ packet.dst.lo;
    mix(mix(word) ^ ((ident as u64) << 8 | packet.proto as u64))
}

/// Finaliser of `MurmurHash3` (Appleby), here over words that begin with a secret: nobody outside sees what it gives, and
/// to aim at a slot takes the seed.
#[inline(always)]
pub const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let word = (word ^ (word >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ (word >> 33)
}

/// The slot of a hash.
#[inline(always)]
pub const fn slot(hash: u64) -> u32 {
    (hash as u32) & (FRAGMENT_SLOTS - 1)
}

/// The word for a first fragment seen now.
#[inline(always)]
pub const fn word(hash: u64, now_ns: u64, passed: bool) -> u64 {
    (hash & TAG_MASK) | (seconds(now_ns) << 1) | passed as u64
}

/// What the slot's word says of the datagram with this hash.
#[inline(always)]
pub const fn first(word: u64, hash: u64, now_ns: u64) -> First {
    let age = seconds(now_ns).wrapping_sub(word >> 1) & SECONDS_MASK;
    if word == 0 || (word ^ hash) & TAG_MASK != 0 || age > LIFETIME_S as u64 {
        First::Unknown
    } else if word & 1 != 0 {
        First::Passed
    } else {
        First::Dropped
    }
}

/// 2^30 nanoseconds are near enough to a second, and no division.
#[inline(always)]
const fn seconds(now_ns: u64) -> u64 {
    (now_ns >> 30) & SECONDS_MASK
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Addr;

    fn packet(last: u8) -> Packet {
        let addr = |last| Addr::from_v4_word(u32::from_ne_bytes([192, 0, 2, last]));
        Packet { proto: 17, ..Packet::between(addr(last), addr(1)) }
    }

    #[test]
    fn a_datagram_is_followed_until_it_is_old() {
        let (hash_a, hash_b) = (hash(&packet(9), 7, 99), hash(&packet(9), 8, 99));
        assert_ne!(hash_a, hash_b);
        assert_ne!(hash_a, hash(&packet(9), 7, 98));
        let now = 1 << 45;
        for (passed, want) in [(true, First::Passed), (false, First::Dropped)] {
            let word = word(hash_a, now, passed);
            assert_eq!(first(word, hash_a, now), want);
            assert_eq!(first(word, hash_a, now + (20 << 30)), want);
            assert_eq!(first(word, hash_a, now + (31 << 30)), First::Unknown);
            assert_eq!(first(word, hash_b, now), First::Unknown);
        }
        assert_eq!(first(0, hash_a, now), First::Unknown);
    }

    #[test]
    fn slots_are_spread() {
        let mut seen = [false; FRAGMENT_SLOTS as usize];
        for ident in 0..FRAGMENT_SLOTS {
            seen[slot(hash(&packet(1), ident, 5)) as usize] = true;
        }
        // 1 - 1/e of the slots are taken when as many datagrams as slots fall at random.
        let taken = seen.iter().filter(|taken| **taken).count();
        assert!((2_450..2_730).contains(&taken), "{taken}");
    }
}
