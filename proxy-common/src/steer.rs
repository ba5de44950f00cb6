//! Which worker takes a new connection: the less busy of two picked at random, and the next live one if it is gone.

use crate::abi::{QuicKey, WorkerLoad};
use crate::addr::Addr;
use crate::siphash::siphash24;

/// Two different workers out of `count`, from one random word. With one worker both are it.
#[inline(always)]
pub const fn two_of(count: u32, random: u32) -> (u32, u32) {
    if count < 2 {
        return (0, 0);
    }
    // The product of a 16-bit fraction and the count spreads evenly without a division.
    let first = ((random & 0xffff) * count) >> 16;
    let step = 1 + (((random >> 16) * (count - 1)) >> 16);
    let second = first + step;
    (first, if second >= count { second - count } else { second })
}

/// How busy a worker is: the connections that it holds, and those that were given to it and that it did not accept yet.
/// Without the second, a burst would all go to whoever was least busy before it.
#[inline(always)]
pub const fn busyness(load: &WorkerLoad) -> u32 {
    let pending = load.assigned.wrapping_sub(load.settled);
    // Lost counts can leave `settled` ahead: nothing is on its way then.
    if pending > u32::MAX / 2 { load.active } else { load.active.saturating_add(pending) }
}

/// The less busy of two, given `(worker, busyness, may be chosen)` of each; `None` when neither may.
#[inline(always)]
pub const fn less_busy(first: (u32, u32, bool), second: (u32, u32, bool)) -> Option<u32> {
    match (first.2, second.2) {
        (true, true) => Some(if second.1 < first.1 { second.0 } else { first.0 }),
        (true, false) => Some(first.0),
        (false, true) => Some(second.0),
        (false, false) => None,
    }
}

/// The worker of a connection while SYN cookies are on, from a hash of its addresses and ports: the kernel keeps nothing of
/// a handshake but the cookie, so that SYN and acknowledgment meet the same listener only if the choice is stable.
#[inline(always)]
pub const fn by_hash(count: u32, hash: u64) -> u32 {
    ((hash >> 48) as u32 * count) >> 16
}

/// The hash for [`by_hash`], under a secret key: nobody can aim at one worker.
#[inline(always)]
pub const fn connection_hash(key: QuicKey, remote: Addr, local: Addr, ports: u32) -> u64 {
    let places = siphash24(key.k0, key.k1, remote.hi ^ local.hi.rotate_left(32) ^ ports as u64);
    siphash24(key.k0, key.k1, places ^ remote.lo ^ local.lo.rotate_left(16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_of_are_different_and_even() {
        for count in 2..=64u32 {
            let mut seen = [0u32; 64];
            let mut random = 1u32;
            for _ in 0..40_000 {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let (first, second) = two_of(count, random.swap_bytes() ^ random);
                assert!(first < count && second < count && first != second);
                seen[first as usize] += 1;
                seen[second as usize] += 1;
            }
            let mean = 80_000 / count;
            for (worker, picks) in seen.iter().take(count as usize).enumerate() {
                assert!(picks.abs_diff(mean) < mean / 2, "{count} workers: {worker} got {picks} of {mean}");
            }
        }
        assert_eq!(two_of(1, 99), (0, 0));
    }

    #[test]
    fn what_is_on_its_way_counts() {
        let load = WorkerLoad { active: 3, accepting: 1, assigned: 10, settled: 8 };
        assert_eq!(busyness(&load), 5);
        assert_eq!(busyness(&WorkerLoad { settled: 12, ..load }), 3);
        assert_eq!(busyness(&WorkerLoad { assigned: 1, settled: u32::MAX, ..load }), 5);
    }

    #[test]
    fn by_hash_is_stable_and_even() {
        let key = QuicKey { k0: 1, k1: 2 };
        let mut seen = [0u32; 5];
        for n in 0..40_000u32 {
            let remote = Addr::from_v4_word(n.wrapping_mul(0x9e37_79b9));
            let hash = connection_hash(key, remote, Addr::from_v4_word(1), n & 0xffff);
            assert_eq!(hash, connection_hash(key, remote, Addr::from_v4_word(1), n & 0xffff));
            seen[by_hash(5, hash) as usize] += 1;
        }
        assert!(seen.iter().all(|picks| picks.abs_diff(8_000) < 500), "{seen:?}");
        assert_eq!(by_hash(1, u64::MAX), 0);
        assert_eq!(by_hash(64, u64::MAX), 63);
    }

    #[test]
    fn the_less_busy_live_one() {
        assert_eq!(less_busy((0, 5, true), (1, 4, true)), Some(1));
        assert_eq!(less_busy((0, 4, true), (1, 4, true)), Some(0));
        assert_eq!(less_busy((0, 9, true), (1, 0, false)), Some(0));
        assert_eq!(less_busy((0, 0, false), (1, 9, true)), Some(1));
        assert_eq!(less_busy((0, 0, false), (1, 0, false)), None);
    }
}
