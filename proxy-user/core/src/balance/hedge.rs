//! Hedging: when a request whose answer is long in coming is sent to another server as well. Waits a fixed time, or as long as
//! most of the latest answers took. Whether the retry budget allows it is asked besides.

use std::time::Duration;

use http::Method;

/// Answers that are remembered.
pub const REMEMBERED: usize = 256;
/// As many have to be known before a part of them says anything.
const LEAST: usize = 32;
/// After so many new ones the wait is reckoned anew.
const RECKON_EVERY: usize = 16;
/// Shorter is no wait: where answers come that fast, a second request would race each first one.
const SHORTEST: Duration = Duration::from_millis(1);

/// How long the first request has for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// This long.
    Time(Duration),
    /// As long as this part of the latest answers took, in percent.
    Percentile(u32),
}

/// What one worker knows of an upstream's answers.
#[derive(Clone, Debug)]
pub struct Hedge {
    after: After,
    /// Microseconds; the oldest is overwritten.
    latest: Vec<u32>,
    next: usize,
    since: usize,
    reckoned: Option<Duration>,
}

impl Hedge {
    /// Knowing nothing yet.
    pub fn new(after: After) -> Self {
        let reckoned = match after {
            After::Time(time) => Some(time),
            After::Percentile(_) => None,
        };
        Self { after, latest: Vec::new(), next: 0, since: 0, reckoned }
    }

    /// How long a first request is waited for; None while too little is known.
    pub fn wait(&self) -> Option<Duration> {
        self.reckoned
    }

    /// A first request was answered after this time; or was given up then, because the second one was answered.
    pub fn took(&mut self, time: Duration) {
        let After::Percentile(percent) = self.after else { return };
        let time = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        match self.latest.get_mut(self.next) {
            Some(oldest) => *oldest = time,
            None => self.latest.push(time),
        }
        self.next = (self.next + 1) % REMEMBERED;
        self.since += 1;
        if self.latest.len() >= LEAST && (self.reckoned.is_none() || self.since >= RECKON_EVERY) {
            self.since = 0;
            let mut sorted = self.latest.clone();
            let place = (sorted.len() * percent as usize / 100).min(sorted.len() - 1);
            let (_, found, _) = sorted.select_nth_unstable(place);
            self.reckoned = Some(Duration::from_micros(u64::from(*found)).max(SHORTEST));
        }
    }
}

/// Whether a request may be sent twice at a time: nothing comes of it but its answer (RFC 9110 section 9.2.1), and there is no
/// body that both would need.
pub fn may_hedge(method: &Method, has_body: bool) -> bool {
    !has_body && [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::RetryBudget;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn a_fixed_time_is_kept_whatever_happens() {
        let mut hedge = Hedge::new(After::Time(50 * MILLI));
        (0..1_000).for_each(|_| hedge.took(MILLI));
        assert_eq!((hedge.wait(), hedge.latest.len()), (Some(50 * MILLI), 0));
    }

    #[test]
    fn a_part_of_the_latest_answers_says_how_long() {
        let mut hedge = Hedge::new(After::Percentile(95));
        for number in 1..LEAST {
            hedge.took(MILLI * number as u32);
            assert_eq!(hedge.wait(), None, "too little is known");
        }
        hedge.took(32 * MILLI);
        assert_eq!(hedge.wait(), Some(31 * MILLI), "of 32 all but the slowest");
        // Slower times come: the old ones are forgotten in the end, and no sooner.
        (0..REMEMBERED / 2).for_each(|_| hedge.took(200 * MILLI));
        assert_eq!(hedge.wait(), Some(200 * MILLI));
        (0..REMEMBERED).for_each(|_| hedge.took(2 * MILLI));
        assert_eq!((hedge.wait(), hedge.latest.len()), (Some(2 * MILLI), REMEMBERED));
        // One in thirty is slow: below the part that is waited for.
        (0..REMEMBERED).for_each(|number| hedge.took(if number % 30 == 0 { 900 * MILLI } else { 3 * MILLI }));
        assert_eq!(hedge.wait(), Some(3 * MILLI));
        (0..REMEMBERED).for_each(|_| hedge.took(Duration::ZERO));
        assert_eq!(hedge.wait(), Some(SHORTEST));
    }

    #[test]
    fn only_what_is_safe_and_without_a_body() {
        assert!(may_hedge(&Method::GET, false) && may_hedge(&Method::HEAD, false));
        assert!(!may_hedge(&Method::GET, true));
        assert!(
            ![Method::POST, Method::PUT, Method::DELETE, Method::PATCH].iter().any(|method| may_hedge(method, false))
        );
    }

    #[test]
    fn an_upstream_that_became_slow_gets_no_more_than_the_budget() {
        // Every answer takes a second where 10 ms were usual, a hundred requests a second, for five seconds.
        let mut hedge = Hedge::new(After::Percentile(95));
        (0..REMEMBERED).for_each(|_| hedge.took(10 * MILLI));
        let mut budget = RetryBudget::new(10, 0, 0);
        let mut sent_twice = 0;
        for number in 0..500_u64 {
            budget.sent();
            let now = number * 10_000_000;
            if hedge.wait() < Some(Duration::from_secs(1)) && budget.take(now) {
                sent_twice += 1;
            }
            hedge.took(Duration::from_secs(1));
        }
        assert!(sent_twice <= 50, "{sent_twice}");
        assert_eq!(hedge.wait(), Some(Duration::from_secs(1)), "and soon it is no longer waited for in vain");
    }
}
