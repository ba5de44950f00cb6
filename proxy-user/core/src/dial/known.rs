//! Addresses of one name, with the time for which they hold.

use std::net::IpAddr;
use std::time::Duration;

/// Addresses that are remembered.
pub const MAX_ADDRESSES: usize = 16;
/// Shorter times to live are taken for this one.
const LEAST: Duration = Duration::from_secs(1);
/// Longer ones for this: what stands in `/etc/hosts` has none.
const MOST: Duration = Duration::from_secs(300);
/// After their time, addresses are used for so long while new ones are asked for; then they are waited for.
const STALE: Duration = Duration::from_secs(30);
/// Pause after a question that was not answered, where addresses are known.
const PAUSE: Duration = Duration::from_secs(5);
/// And where none are: whoever asks meanwhile is told so.
const SHORT_PAUSE: Duration = Duration::from_secs(1);

/// What is known of a name.
#[derive(Clone, Debug, Default)]
pub struct Known {
    addresses: Vec<IpAddr>,
    /// When it is asked again.
    until: u64,
    /// The last question was not answered.
    failed: bool,
}

/// What to do for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Use what is known.
    Known,
    /// The same, and ask meanwhile.
    KnownAndAsk,
    /// Ask, and wait for the answer.
    Ask,
    /// Nothing is known, and asking failed a moment ago.
    Nothing,
}

impl Known {
    /// What to do now.
    pub fn at(&self, now: u64) -> Use {
        let nothing = self.addresses.is_empty();
        if now < self.until {
            return if nothing { Use::Nothing } else { Use::Known };
        }
        // Who does not answer keeps nobody waiting.
        let good = self.failed || now < after(self.until, STALE);
        if !nothing && good { Use::KnownAndAsk } else { Use::Ask }
    }

    /// The addresses, as good as they are.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// These were found, for this time to live.
    pub fn found(&mut self, now: u64, mut addresses: Vec<IpAddr>, time_to_live: Duration) {
        if addresses.is_empty() {
            return self.failed(now);
        }
        addresses.truncate(MAX_ADDRESSES);
        self.addresses = addresses;
        self.until = after(now, time_to_live.clamp(LEAST, MOST));
        self.failed = false;
    }

    /// Nobody answered, or there are none: the last good ones stay.
    pub fn failed(&mut self, now: u64) {
        self.until = after(now, if self.addresses.is_empty() { SHORT_PAUSE } else { PAUSE });
        self.failed = true;
    }
}

fn after(now: u64, time: Duration) -> u64 {
    now.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn address(last: u8) -> Vec<IpAddr> {
        vec![Ipv4Addr::new(192, 0, 2, last).into()]
    }

    #[test]
    fn addresses_hold_for_their_time_and_nobody_waits_for_new_ones_in_use() {
        let mut known = Known::default();
        assert_eq!(known.at(0), Use::Ask);
        known.found(0, address(1), Duration::from_secs(20));
        assert_eq!((known.at(19 * SECOND), known.at(20 * SECOND)), (Use::Known, Use::KnownAndAsk));
        assert_eq!(known.at(51 * SECOND), Use::Ask, "too old to be good");
        known.found(51 * SECOND, address(2), Duration::ZERO);
        assert_eq!(
            (known.at(51 * SECOND + 1), known.at(52 * SECOND)),
            (Use::Known, Use::KnownAndAsk),
            "a second at least"
        );
        known.found(0, address(3), Duration::from_secs(1 << 30));
        assert_eq!((known.at(299 * SECOND), known.at(300 * SECOND)), (Use::Known, Use::KnownAndAsk));
    }

    #[test]
    fn failures_keep_the_last_good_addresses() {
        let mut known = Known::default();
        known.failed(0);
        assert_eq!((known.at(SECOND / 2), known.at(SECOND)), (Use::Nothing, Use::Ask));
        known.found(SECOND, address(1), Duration::from_secs(2));
        known.failed(3 * SECOND);
        assert_eq!((known.at(7 * SECOND), known.at(8 * SECOND)), (Use::Known, Use::KnownAndAsk));
        known.found(8 * SECOND, Vec::new(), Duration::from_secs(60));
        assert_eq!((known.addresses(), known.at(999 * SECOND)), (address(1).as_slice(), Use::KnownAndAsk));
        known.found(999 * SECOND, address(2), Duration::from_secs(2));
        assert_eq!((known.addresses(), known.at(1_000 * SECOND)), (address(2).as_slice(), Use::Known));
    }

    #[test]
    fn there_are_only_so_many() {
        let mut known = Known::default();
        known.found(0, (0..=255).flat_map(address).collect(), Duration::from_secs(1));
        assert_eq!(known.addresses().len(), MAX_ADDRESSES);
    }
}
