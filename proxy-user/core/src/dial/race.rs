//! Happy eyeballs (RFC 8305): addresses of both families in turn, each attempt begun when the one before it has failed or has
//! had its time, the first connection taken.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

/// Time that an attempt has for itself (section 5, Connection Attempt Delay).
const DELAY: Duration = Duration::from_millis(250);

/// The families by turns, IPv6 first; in each the order as it is (section 4).
pub fn interleaved(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
    let (v6, v4): (Vec<IpAddr>, Vec<IpAddr>) = addresses.into_iter().partition(IpAddr::is_ipv6);
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut order = Vec::new();
    loop {
        let (six, four) = (v6.next(), v4.next());
        if six.is_none() && four.is_none() {
            return order;
        }
        order.extend(six.into_iter().chain(four));
    }
}

/// Attempts to connect, one connection's.
#[derive(Clone, Debug)]
pub struct Race {
    left: VecDeque<IpAddr>,
    under_way: usize,
    /// When the next attempt begins, whatever becomes of those under way.
    next: u64,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Begin an attempt at this address.
    Begin(IpAddr),
    /// Wait for one that is under way, but no longer than until this time.
    WaitUntil(u64),
    /// Wait for one that is under way.
    Wait,
    /// All have failed.
    Over,
}

impl Race {
    /// At these, in this order.
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self { left: addresses.into_iter().collect(), under_way: 0, next: 0 }
    }

    /// What to do now.
    pub fn step(&mut self, now: u64) -> Step {
        match self.left.front().copied() {
            Some(address) if self.under_way == 0 || now >= self.next => {
                self.left.pop_front();
                self.under_way += 1;
                self.next = now.saturating_add(DELAY.as_nanos() as u64);
                Step::Begin(address)
            }
            Some(_) => Step::WaitUntil(self.next),
            None if self.under_way > 0 => Step::Wait,
            None => Step::Over,
        }
    }

    /// An attempt failed: the next one need not wait.
    pub fn failed(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
        self.next = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn families_take_turns() {
        let order = |list: &[&str]| {
            interleaved(list.iter().map(|text| ip(text))).iter().map(IpAddr::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            order(&["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2"]),
            ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "192.0.2.3"]
        );
        assert_eq!(order(&["192.0.2.2", "192.0.2.1"]), ["192.0.2.2", "192.0.2.1"]);
        assert_eq!(order(&[]), [""; 0]);
    }

    #[test]
    fn attempts_are_staggered_and_a_failure_begins_the_next_at_once() {
        let [a, b, c] = ["2001:db8::1", "192.0.2.1", "2001:db8::2"].map(ip);
        let mut race = Race::new([a, b, c]);
        assert_eq!(race.step(0), Step::Begin(a));
        assert_eq!(race.step(MILLI), Step::WaitUntil(250 * MILLI));
        assert_eq!(race.step(250 * MILLI), Step::Begin(b), "the first goes on beside it");
        assert_eq!(race.step(300 * MILLI), Step::WaitUntil(500 * MILLI));
        race.failed();
        assert_eq!(race.step(310 * MILLI), Step::Begin(c));
        assert_eq!(race.step(311 * MILLI), Step::Wait);
        race.failed();
        race.failed();
        assert_eq!(race.step(900 * MILLI), Step::Over);
        assert_eq!(Race::new([]).step(0), Step::Over);
    }
}
