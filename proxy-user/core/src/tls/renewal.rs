//! When a certificate is to be asked for: before it ends, and not too often where that fails. Times are seconds since 1970.

use std::time::Duration;

use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Shortest and longest wait after a failure; doubled each time.
const RETRY: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(6 * 3_600));
/// Longest wait before a look at the clock, which may be set.
const LOOK: Duration = Duration::from_secs(3_600);

/// A certificate that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// From when on it is good.
    pub not_before: i64,
    /// Until when.
    pub not_after: i64,
    /// DNS names that it is for.
    pub names: Vec<String>,
}

/// What was tried lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// How often it failed one after another.
    pub failures: u32,
    /// When it failed last.
    pub last: i64,
}

impl Issued {
    /// Reads a certificate, DER; `None` where it is not one.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let extension = certificate.subject_alternative_name().ok()??;
        let names = extension.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
        let validity = certificate.validity();
        let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        Some(Self { not_before, not_after, names: names.collect() })
    }

    /// When it is to be renewed: after two thirds of its time, as servers of certificates advise.
    pub fn due(&self) -> i64 {
        self.not_before.saturating_add(self.not_after.saturating_sub(self.not_before) / 3 * 2)
    }
}

impl Tried {
    /// How long to leave the server alone after the last failure.
    pub fn pause(self) -> Duration {
        match self.failures.checked_sub(1) {
            None => Duration::ZERO,
            Some(more) => RETRY.0.saturating_mul(1 << more.min(16)).min(RETRY.1),
        }
    }
}

/// How long to wait before the certificate for `names` is asked for, now that it is `now`; zero for at once.
pub fn wait(there: Option<&Issued>, names: &[String], tried: Tried, now: i64) -> Duration {
    let covers = |issued: &&Issued| names.iter().all(|name| issued.names.contains(&name.to_ascii_lowercase()));
    let due = there.filter(covers).map_or(now, Issued::due);
    // A failure of the future comes of a clock that was wrong.
    let again = tried.last.min(now).saturating_add(i64::try_from(tried.pause().as_secs()).unwrap_or(i64::MAX));
    let seconds = due.max(again).saturating_sub(now);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).min(LOOK)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn names() -> Vec<String> {
        vec!["A.test".to_owned()]
    }

    #[test]
    fn renewed_after_two_thirds_of_its_time() {
        let issued = Issued { not_before: 0, not_after: 90 * DAY, names: vec!["a.test".to_owned()] };
        let at = |now| wait(Some(&issued), &names(), Tried::default(), now);
        assert_eq!((at(60 * DAY), at(60 * DAY - 5), at(0)), (Duration::ZERO, Duration::from_secs(5), LOOK));
        assert_eq!(at(1_000 * DAY), Duration::ZERO);
        let more = [names(), vec!["b.test".to_owned()]].concat();
        assert_eq!(wait(Some(&issued), &more, Tried::default(), 0), Duration::ZERO, "it is not for all names");
        assert_eq!(wait(None, &names(), Tried::default(), 0), Duration::ZERO);
    }

    #[test]
    fn failures_make_it_wait_longer() {
        let after = |failures, now| wait(None, &names(), Tried { failures, last: 1_000 }, now).as_secs();
        assert_eq!([after(1, 1_000), after(2, 1_000), after(3, 1_000), after(3, 1_200)], [60, 120, 240, 40]);
        assert_eq!([after(40, 1_000), after(1, 1_060)], [3_600, 0], "one look an hour");
        assert_eq!(wait(None, &names(), Tried { failures: 40, last: 0 }, 6 * 3_600), Duration::ZERO);
        assert_eq!(after(1, 10), 60, "the clock was set back");
    }

    #[test]
    fn what_is_no_certificate_is_none() {
        assert_eq!(Issued::read(b"x"), None);
    }
}
