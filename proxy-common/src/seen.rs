//! Which hashes were seen lately: tables of words that only ever take a fixed room. The sources that completed a handshake
//! (`KNOWN`) and the UDP flows (`FLOWS`) stand in one each.
//!
//! A hash has two slots of [`SEEN_SLOTS`]; a word holds 40 bits of the hash and the second in which it was last seen, so
//! that one store replaces it whole. A new hash takes the slot that was unused for longer: nothing is searched, nothing is
//! freed, and what is too old counts as never seen. Another hash is taken for one that was seen where its slot and the rest
//! of those 40 bits agree, once in 2^32 or less; one that was seen is forgotten when both its slots were taken by newer ones.

/// Slots of each table.
pub const SEEN_SLOTS: u32 = 65_536;
/// Seconds are counted in so many bits, about 208 days.
const SECONDS_BITS: u32 = 24;
const SECONDS_MASK: u64 = (1 << SECONDS_BITS) - 1;
/// Longest time for which something can count as seen lately, well below the wrap of the seconds.
pub const MAX_SEEN_S: u32 = 30 * 24 * 3_600;

/// The clock of the packet path lags by a tick: a word that the daemon writes may be of the second that follows.
const AHEAD_S: u32 = 1;

/// The two slots of a hash.
#[inline(always)]
const fn slots(hash: u64) -> (u32, u32) {
    ((hash as u32) & (SEEN_SLOTS - 1), ((hash >> 16) as u32) & (SEEN_SLOTS - 1))
}

/// The word for a hash that is seen now.
#[inline(always)]
const fn word(hash: u64, now_ns: u64) -> u64 {
    (hash & !SECONDS_MASK) | seconds(now_ns)
}

/// Whether a slot's word says that the hash was seen within the last `lifetime_s` seconds.
#[inline(always)]
const fn is_fresh(word: u64, hash: u64, now_ns: u64, lifetime_s: u32) -> bool {
    is_of(word, hash) && age_s(word, now_ns) <= (lifetime_s + AHEAD_S) as u64
}

/// Whether a table whose words `read` gives has seen the hash within the last `lifetime_s` seconds.
#[inline(always)]
pub fn lately(hash: u64, now_ns: u64, lifetime_s: u32, read: impl Fn(u32) -> u64) -> bool {
    let (first, second) = slots(hash);
    is_fresh(read(first), hash, now_ns, lifetime_s) || is_fresh(read(second), hash, now_ns, lifetime_s)
}

/// Where a hash that is seen now goes in a table whose words `read` gives: the slot, the word that stands there, and the
/// one to write.
#[inline(always)]
pub fn place(hash: u64, now_ns: u64, read: impl Fn(u32) -> u64) -> (u32, u64, u64) {
    let (first, second) = slots(hash);
    let (in_first, in_second) = (read(first), read(second));
    let takes_second = takes_second(in_first, in_second, hash, now_ns);
    let (slot, there) = if takes_second { (second, in_second) } else { (first, in_first) };
    (slot, there, word(hash, now_ns))
}

/// Which slot takes a hash, given both slots' words: false for the first. Its own, or the one unused for longer.
#[inline(always)]
const fn takes_second(first: u64, second: u64, hash: u64, now_ns: u64) -> bool {
    if is_of(first, hash) || first == 0 {
        false
    } else if is_of(second, hash) || second == 0 {
        true
    } else {
        age_s(second, now_ns) > age_s(first, now_ns)
    }
}

#[inline(always)]
const fn is_of(word: u64, hash: u64) -> bool {
    word != 0 && (word ^ hash) & !SECONDS_MASK == 0
}

/// Seconds since the one before the word's.
#[inline(always)]
const fn age_s(word: u64, now_ns: u64) -> u64 {
    (seconds(now_ns) + AHEAD_S as u64).wrapping_sub(word) & SECONDS_MASK
}

/// 2^30 nanoseconds are near enough to a second, and no division.
#[inline(always)]
const fn seconds(now_ns: u64) -> u64 {
    (now_ns >> 30) & SECONDS_MASK
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec;

    use super::*;
    use crate::fragments::mix;

    const NOW: u64 = 1 << 50;

    #[test]
    fn seen_until_it_is_old() {
        let hash = mix(7);
        let word = word(hash, NOW);
        assert!(is_fresh(word, hash, NOW, 60));
        assert!(is_fresh(word, hash, NOW + (60 << 30), 60));
        assert!(!is_fresh(word, hash, NOW + (61 << 30), 60));
        assert!(is_fresh(word, hash, NOW - 1, 60), "the clock of the packet path lags");
        assert!(!is_fresh(word, mix(8), NOW, 60));
        assert!(!is_fresh(0, 0, NOW, 60));
    }

    #[test]
    fn its_own_slot_then_a_free_one_then_the_older() {
        let (a, b, c) = (mix(1), mix(2), mix(3));
        let (old, new) = (word(a, NOW - (9 << 30)), word(b, NOW));
        assert!(!takes_second(0, new, c, NOW));
        assert!(takes_second(new, 0, c, NOW));
        assert!(takes_second(new, old, c, NOW));
        assert!(!takes_second(old, new, c, NOW));
        assert!(takes_second(old, new, b, NOW));
        assert!(!takes_second(old, new, a, NOW));
    }

    /// As many as a quarter of the slots stand side by side, and hardly any is lost.
    #[test]
    fn a_quarter_full_forgets_little() {
        let mut table = vec![0u64; SEEN_SLOTS as usize];
        let count = u64::from(SEEN_SLOTS / 4);
        for n in 0..count {
            let hash = mix(mix(n) ^ 0x5eed);
            let (at, _, word) = place(hash, NOW + (n << 20), |slot| table[slot as usize]);
            table[at as usize] = word;
        }
        let end = NOW + (count << 20);
        let kept = (0..count)
            .filter(|n| {
                let hash = mix(mix(*n) ^ 0x5eed);
                lately(hash, end, 3_600, |slot| table[slot as usize])
            })
            .count() as u64;
        assert!(kept * 100 >= count * 96, "{kept} of {count}");
    }
}
