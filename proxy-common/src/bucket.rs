//! Token buckets in one word each: the generic cell rate algorithm (ITU-T I.371).
//!
//! The word is the time at which all tokens that were taken would have come in one by one; the bucket is full when that
//! time has passed, and empty when it lies a whole burst ahead. Time is an argument. One word is one compare-and-exchange: of the
//! CPUs that take from a bucket at the same moment one succeeds, and the others look again, at most [`TRIES`] times. So the limit
//! holds over all of them.

/// How often a packet asks a bucket that other CPUs take from at the same moment. It is refused then: each time, another one got
/// what it had asked for.
pub const TRIES: u32 = 8;
/// Fraction bits of [`Limit::step_q16`].
const FRACTION: u32 = 16;
/// Least burst: the clock of the packet path moves once a tick, ten milliseconds at the slowest (`CONFIG_HZ_100`). A
/// smaller bucket would overflow between two ticks at its own rate.
pub const LEAST_BURST_NS: u64 = 20_000_000;

/// Rate and depth of a bucket. All zero is no limit.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limit {
    /// Nanoseconds in which one token comes in, times 2^16.
    pub step_q16: u64,
    /// Depth of the bucket: the nanoseconds in which it fills.
    pub burst_ns: u64,
}

impl Limit {
    /// `rate` tokens a second, `burst` at once; a burst of less than 20 milliseconds' worth counts as that. A rate of 0 is
    /// no limit.
    pub const fn per_second(rate: u64, burst: u64) -> Self {
        if rate == 0 {
            return Self { step_q16: 0, burst_ns: 0 };
        }
        let step_q16 = (1_000_000_000 << FRACTION) / rate;
        let burst_ns = (burst as u128 * 1_000_000_000 / rate as u128) as u64;
        Self { step_q16, burst_ns: if burst_ns < LEAST_BURST_NS { LEAST_BURST_NS } else { burst_ns } }
    }

    /// Whether there is one.
    #[inline(always)]
    pub const fn is_set(self) -> bool {
        self.step_q16 != 0
    }
}

/// Takes `count` tokens from the bucket whose word is `full_at`: its next word, or `None` when they are not there (and
/// none is taken). A bucket that was never touched is 0 and full.
#[inline(always)]
pub const fn take(full_at: u64, now_ns: u64, limit: Limit, count: u32) -> Option<u64> {
    let from = if full_at > now_ns { full_at } else { now_ns };
    let next = from.wrapping_add((count as u64).wrapping_mul(limit.step_q16) >> FRACTION);
    if next.wrapping_sub(now_ns) > limit.burst_ns { None } else { Some(next) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Tokens taken one by one at `now` until there are none.
    fn drain(word: &mut u64, now: u64, limit: Limit) -> u64 {
        let mut taken = 0;
        while let Some(next) = take(*word, now, limit, 1) {
            *word = next;
            taken += 1;
        }
        taken
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        for (rate, burst) in [(10, 10), (1_000, 100), (1_000_000, 50_000), (3, 7)] {
            let limit = Limit::per_second(rate, burst);
            let (mut word, start) = (0, 77 * SECOND);
            let first = drain(&mut word, start, limit);
            assert!(first.abs_diff(burst.max(rate / 50)) <= 1, "{rate}/s, burst {burst}: {first} at once");
            assert_eq!(drain(&mut word, start, limit), 0);
            let later = drain(&mut word, start + burst * SECOND / rate, limit);
            assert!(later.abs_diff(burst) <= 1, "{rate}/s: {later} came in for {burst}");
        }
    }

    /// Whatever comes in whatever steps: never more than burst and rate allow, never less than what was asked for.
    #[test]
    fn over_any_time_the_rate_holds() {
        let limit = Limit::per_second(5_000, 500);
        let (mut word, mut now, mut taken, mut random) = (0, SECOND, 0u64, 9u64);
        let mut refused = 0;
        for _ in 0..200_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            now += (random >> 33) % 150_000;
            let count = 1 + (random >> 60) as u32 % 3;
            match take(word, now, limit, count) {
                Some(next) => {
                    assert!(next >= word);
                    (word, taken) = (next, taken + u64::from(count));
                }
                None => refused += 1,
            }
            let most = 500 + (now - SECOND) * 5_000 / SECOND + 1;
            assert!(taken <= most, "{taken} of {most}");
        }
        assert!(refused > 0);
        // Asked for more than the rate all the time: at least the rate went through, less what one refusal leaves.
        assert!(taken + 4 >= (now - SECOND) * 5_000 / SECOND, "{taken}");
    }

    #[test]
    fn bytes_at_ten_gigabytes_a_second() {
        let limit = Limit::per_second(10_000_000_000, 1_000_000_000);
        let (mut word, mut taken) = (0, 0u64);
        while let Some(next) = take(word, SECOND, limit, 1_500) {
            (word, taken) = (next, taken + 1_500);
        }
        assert!(taken.abs_diff(1_000_000_000) < 10_000_000, "{taken}");
    }

    #[test]
    fn no_rate_is_no_limit() {
        assert!(!Limit::per_second(0, 9).is_set());
        assert!(Limit::per_second(1, 1).is_set());
    }
}
