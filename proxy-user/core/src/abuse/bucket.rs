//! How often something may happen: so much at once, and so much a second.

use std::time::{Duration, Instant};

/// A bound on how often something happens.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// As often a second.
    pub per_second: u32,
    /// As often at once.
    pub burst: u32,
}

/// What is left of a [`Rate`]. The clock is only looked at when nothing is.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    left: u32,
    filled: Instant,
}

impl Bucket {
    /// A full one.
    pub const fn full(rate: Rate, now: Instant) -> Self {
        Self { left: rate.burst, filled: now }
    }

    /// Takes one; whether there was one.
    pub fn take(&mut self, rate: Rate, now: Instant) -> bool {
        if self.left == 0 {
            let since = now.saturating_duration_since(self.filled);
            // Less than a whole one stays to be counted the next time.
            let found = u128::from(rate.per_second) * since.as_millis() / 1_000;
            if found == 0 {
                return false;
            }
            self.left = u32::try_from(found).unwrap_or(u32::MAX).min(rate.burst);
            self.filled = now;
        }
        self.left -= 1;
        true
    }

    /// Puts so many in, up to the burst: something else has earned them.
    pub fn earn(&mut self, rate: Rate, count: u32) {
        self.left = self.left.saturating_add(count).min(rate.burst);
    }
}

/// A rate whose burst is what may come in a time.
impl Rate {
    /// `per_second`, and what comes in `time` at once.
    pub const fn over(per_second: u32, time: Duration) -> Self {
        Self { per_second, burst: per_second.saturating_mul(time.as_secs() as u32) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_much_at_once_and_then_a_second() {
        let rate = Rate { per_second: 10, burst: 3 };
        let begun = Instant::now();
        let mut bucket = Bucket::full(rate, begun);
        let taken = |bucket: &mut Bucket, now| (0..100).take_while(|_| bucket.take(rate, now)).count();
        assert_eq!(taken(&mut bucket, begun), 3);
        assert_eq!(taken(&mut bucket, begun + Duration::from_millis(99)), 0);
        assert_eq!(taken(&mut bucket, begun + Duration::from_millis(200)), 2);
        assert_eq!(taken(&mut bucket, begun + Duration::from_secs(60)), 3, "no more than the burst");
        bucket.earn(rate, 2);
        assert_eq!(taken(&mut bucket, begun + Duration::from_secs(60)), 2);
        assert_eq!(Rate::over(5, Duration::from_secs(4)).burst, 20);
    }
}
