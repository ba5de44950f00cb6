//! How many requests may be sent again: a part of those that were sent, and some a second (Linkerd's retry budget), so that
//! retries cannot multiply the load of an upstream that is failing.

/// Requests of this time are remembered at most: what was saved up longer is lost.
const MOST_SECONDS: u64 = 10;
/// A retry, in thousandths, so that a request may earn part of one.
const ONE: u64 = 1_000;

/// Tokens of one worker for one upstream.
#[derive(Clone, Copy, Debug)]
pub struct RetryBudget {
    percent: u64,
    per_second: u64,
    tokens: u64,
    filled: u64,
}

impl RetryBudget {
    /// `percent` of the requests, and `per_second` besides; full at `now`.
    pub fn new(percent: u32, per_second: u32, now: u64) -> Self {
        let per_second = u64::from(per_second);
        Self { percent: u64::from(percent), per_second, tokens: per_second * ONE, filled: now }
    }

    /// A request was sent for the first time.
    pub fn sent(&mut self) {
        self.tokens = (self.tokens + self.percent * ONE / 100).min(self.most());
    }

    /// Whether one may be sent again; takes from the budget if so. `now` in nanoseconds.
    pub fn take(&mut self, now: u64) -> bool {
        let since = now.saturating_sub(self.filled);
        let earned = (u128::from(since) * u128::from(self.per_second * ONE) / 1_000_000_000) as u64;
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(self.most());
            self.filled = now;
        }
        let may = self.tokens >= ONE;
        if may {
            self.tokens -= ONE;
        }
        may
    }

    fn most(&self) -> u64 {
        (self.per_second.max(self.percent) * ONE).saturating_mul(MOST_SECONDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_part_of_the_requests_and_some_a_second() {
        let mut budget = RetryBudget::new(20, 0, 0);
        assert!(!budget.take(0), "nothing was sent");
        (0..10).for_each(|_| budget.sent());
        assert_eq!((0..10).filter(|_| budget.take(0)).count(), 2);

        let mut budget = RetryBudget::new(0, 10, 0);
        assert_eq!((0..100).filter(|_| budget.take(0)).count(), 10);
        assert!(!budget.take(SECOND / 20));
        assert!(budget.take(SECOND / 10));
        assert_eq!((0..100).filter(|_| budget.take(3 * SECOND)).count(), 29);
        assert_eq!(
            (0..1_000).filter(|_| budget.take(9_999 * SECOND)).count(),
            100,
            "no more than ten seconds are saved"
        );
    }
}
