//! Whether a server is well: what probes find, what requests tell, and how it comes back. Left alone for failures, it is a
//! circuit breaker: open for a time that grows with each round, then one request is let through to try it.

use std::time::Duration;

/// Rounds after which the time that a server is left alone grows no further.
const MAX_ROUNDS: u32 = 10;

/// When servers are left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Failures in a row.
    pub failures: u32,
    /// For how long the first time; each round as much longer.
    pub time: Duration,
    /// Most servers that are left alone at once, in percent.
    pub max_percent: u32,
}

/// How a server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It takes requests.
    Well,
    /// It could not be reached a moment ago.
    Unreachable,
    /// It failed too often.
    Ejected,
    /// Probes say that it is not well.
    Unhealthy,
}

impl Standing {
    /// In status and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Unreachable => "unreachable",
            Self::Ejected => "ejected",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What is known of one server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Health {
    unreachable_until: Option<u64>,
    ejected_until: Option<u64>,
    /// The time is over, and a request is on its way to see whether all is well.
    trial: bool,
    rounds: u32,
    failures: u32,
    unhealthy: bool,
    streak: u32,
    back: Option<u64>,
}

impl Health {
    /// How it stands.
    pub fn standing(&self, now: u64) -> Standing {
        if self.unhealthy {
            Standing::Unhealthy
        } else if self.is_ejected(now) {
            Standing::Ejected
        } else if self.unreachable_until.is_some_and(|until| now < until) {
            Standing::Unreachable
        } else {
            Standing::Well
        }
    }

    /// Whether it takes requests.
    pub fn is_well(&self, now: u64) -> bool {
        self.standing(now) == Standing::Well
    }

    /// Whether it is left alone for its failures.
    pub fn is_ejected(&self, now: u64) -> bool {
        self.ejected_until.is_some_and(|until| now < until || self.trial)
    }

    /// Since when it takes requests again.
    pub fn back_since(&self) -> Option<u64> {
        self.back
    }

    /// A request is given to it, before anything is done for the request. Whether it is the one that tries the server.
    pub fn tried(&mut self, now: u64) -> bool {
        let trial = !self.trial && self.ejected_until.is_some_and(|until| now >= until);
        self.trial |= trial;
        trial
    }

    /// The request that tried it is over. Without news of it, the next one tries.
    pub fn trial_over(&mut self) {
        self.trial = false;
    }

    /// It did what it should. The failures in a row that this ends, for [`Self::broke_off`].
    pub fn succeeded(&mut self, now: u64) -> u32 {
        let ended = std::mem::take(&mut self.failures);
        if self.unreachable_until.take().is_some() | self.ejected_until.take_if(|until| now >= *until).is_some() {
            self.back = Some(now);
        }
        if self.ejected_until.is_none() {
            self.trial = false;
            self.rounds = 0;
        }
        ended
    }

    /// A response that began well did not come to its end: the success is taken back, with the failures that it had ended.
    pub fn broke_off(&mut self, ended: u32) {
        self.failures = self.failures.max(ended);
    }

    /// It did not; `may` be left alone for that.
    pub fn failed(&mut self, now: u64, rules: &Ejection, may: bool) {
        self.failures = self.failures.saturating_add(1);
        let was_trial = std::mem::take(&mut self.trial);
        let over = self.ejected_until.is_none_or(|until| now >= until);
        if over && may && (was_trial || self.failures >= rules.failures) {
            self.rounds = (self.rounds + 1).min(MAX_ROUNDS);
            self.ejected_until = Some(after(now, rules.time.saturating_mul(self.rounds)));
            self.failures = 0;
        }
    }

    /// A connection was made.
    pub fn reachable(&mut self, now: u64) {
        if self.unreachable_until.take().is_some() {
            self.back = Some(now);
        }
    }

    /// It could not be connected to.
    pub fn unreachable(&mut self, now: u64, rest: Duration) {
        self.unreachable_until = Some(after(now, rest));
    }

    /// What a probe found: `rise` good ones in a row make it well, `fall` bad ones not.
    pub fn probed(&mut self, now: u64, well: bool, rise: u32, fall: u32) {
        if well != self.unhealthy {
            self.streak = 0;
            return;
        }
        self.streak += 1;
        if self.streak >= if well { rise } else { fall } {
            self.streak = 0;
            self.unhealthy = !well;
            if well {
                self.back = Some(now);
            }
        }
    }
}

fn after(now: u64, time: Duration) -> u64 {
    now.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}
