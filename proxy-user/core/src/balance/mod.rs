//! Which server of an upstream takes a request, and which ones are left alone for a while. One worker's view of one
//! upstream, as a state machine: time (nanoseconds of any clock that does not go back) and randomness are arguments, so
//! that any run can be repeated.

mod budget;
mod health;
mod hedge;

use std::cmp::Reverse;
use std::time::Duration;

use proxy_common::maglev::{self, Member, PLACES};
use smallvec::SmallVec;

use crate::config::Balance;
pub use budget::RetryBudget;
pub use health::{Ejection, Health, Standing};
pub use hedge::{After, Hedge, may_hedge};

/// Weight of the newest sample of a latency fades with this time.
const EWMA_DECAY: Duration = Duration::from_secs(10);
/// A server without samples counts as this slow, so that it is tried soon, but not by all at once.
const UNKNOWN_LATENCY: f64 = 1e-3;
/// Least part of its weight that a server has at the begin of its slow start, in percent.
const SLOW_START_LEAST: u32 = 10;

/// Servers in the order in which a request tries them.
pub type Order = SmallVec<[usize; 4]>;

/// How an upstream is balanced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Whom a request prefers.
    pub balance: Balance,
    /// What tells servers apart for the consistent hash, and their weights; one for each server.
    pub servers: Vec<(u64, u32)>,
    /// When servers are left alone for their failures.
    pub ejection: Option<Ejection>,
    /// How long a server that came back takes to its full weight; zero for at once.
    pub slow_start: Duration,
    /// Open requests of each server at most.
    pub max_requests: Option<u32>,
}

/// The state.
#[derive(Debug)]
pub struct Balancer {
    rules: Rules,
    servers: Vec<Server>,
    next: usize,
    table: Option<Box<[u16; PLACES]>>,
}

/// A request that a server was given; handed back when it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    server: usize,
    /// Whether it is the one that tries a server which was left alone.
    trial: bool,
}

impl Given {
    /// The server.
    pub const fn server(self) -> usize {
        self.server
    }
}

#[derive(Debug, Default)]
struct Server {
    weight: u32,
    health: Health,
    active: u32,
    /// Smooth weighted round robin: what it is owed.
    credit: i64,
    /// Peak EWMA in seconds, and when it was last changed.
    latency: Option<(f64, u64)>,
}

impl Balancer {
    /// With all servers well.
    pub fn new(rules: Rules) -> Self {
        let table = (rules.balance == Balance::Hash).then(|| {
            let mut table = Box::new([0; PLACES]);
            let mut members: Vec<Member> = rules.servers.iter().map(|(id, weight)| Member::new(*id, *weight)).collect();
            maglev::fill(&mut table, &mut members);
            table
        });
        let servers = rules.servers.iter().map(|(_, weight)| Server { weight: *weight, ..Server::default() }).collect();
        Self { rules, servers, next: 0, table }
    }

    /// Whether anything about a request's course changes what is chosen, so that it must be told.
    pub fn is_told(&self) -> bool {
        self.rules.ejection.is_some()
            || self.rules.max_requests.is_some()
            || matches!(self.rules.balance, Balance::LeastRequests | Balance::PeakEwma)
    }

    /// The order for a request: preferred one first, then the other well ones, then those that are not well, as a last
    /// resort. Servers at `max_requests` are left out. `hash` is that of the request's key.
    pub fn order(&mut self, now: u64, random: u64, hash: u64) -> Order {
        let count = self.servers.len();
        if count == 1 && self.rules.max_requests.is_none() {
            // However it is, there is nobody else.
            return Order::from_slice(&[0]);
        }
        let first = self.next;
        self.next = (first + 1) % count.max(1);
        let mut order: Order = (0..count).map(|step| (first + step) % count).collect();
        if let Some(most) = self.rules.max_requests {
            order.retain(|server| self.servers.get(*server).is_some_and(|server| server.active < most));
        }
        let well = |server: &usize| self.servers.get(*server).is_some_and(|server| server.health.is_well(now));
        let fit: Order = order.iter().copied().filter(well).collect();
        let preferred = match self.rules.balance {
            Balance::RoundRobin if self.rules.servers.iter().all(|(_, weight)| *weight == 1) => fit.first().copied(),
            Balance::RoundRobin => self.by_credit(&fit, now),
            Balance::LeastRequests => self.least(&fit, now),
            Balance::PeakEwma => self.quicker_of_two(&fit, now, random),
            Balance::Hash => self.by_hash(&fit, hash),
        };
        order.sort_by_key(|server| (Some(*server) != preferred, !fit.contains(server)));
        // Weight 0: only when nobody else is there.
        if self.servers.iter().any(|server| server.weight == 0) {
            order.sort_by_key(|server| self.servers.get(*server).is_none_or(|server| server.weight == 0));
        }
        order
    }

    /// A request is given to a server, before a connection is looked for. None where the server has as many as it may.
    pub fn began(&mut self, server: usize, now: u64) -> Option<Given> {
        let most = self.rules.max_requests.unwrap_or(u32::MAX);
        let state = self.servers.get_mut(server).filter(|state| state.active < most)?;
        state.active += 1;
        Some(Given { server, trial: state.health.tried(now) })
    }

    /// And is over, however it went.
    pub fn ended(&mut self, given: Given) {
        if let Some(server) = self.servers.get_mut(given.server) {
            server.active = server.active.saturating_sub(1);
            if given.trial {
                server.health.trial_over();
            }
        }
    }

    /// Requests that a server has now.
    pub fn active(&self, server: usize) -> u32 {
        self.servers.get(server).map_or(0, |server| server.active)
    }

    /// A server answered after this time: well, or with what counts as a failure. The failures in a row that this ends,
    /// for [`Self::broke_off`].
    pub fn answered(&mut self, server: usize, now: u64, took: Duration, well: bool) -> u32 {
        if let Some(server) = self.servers.get_mut(server) {
            let sample = took.as_secs_f64();
            let (before, since) = server.latency.unwrap_or((sample, now));
            // A peak counts at once, and fades with time.
            let faded = sample + (before - sample) * kept(now, since);
            server.latency = Some((if sample > before { sample } else { faded }, now));
        }
        if well {
            return self.servers.get_mut(server).map_or(0, |server| server.health.succeeded(now));
        }
        self.failed(server, now);
        0
    }

    /// The response of a server that had answered well broke off or stalled: a failure after all, as if it had not answered.
    pub fn broke_off(&mut self, server: usize, now: u64, ended: u32) {
        if let Some(server) = self.servers.get_mut(server) {
            server.health.broke_off(ended);
        }
        self.failed(server, now);
    }

    /// A connection was made: it can be reached again. Whether it does what it should, requests tell.
    pub fn succeeded_connecting(&mut self, server: usize, now: u64) {
        if let Some(server) = self.servers.get_mut(server) {
            server.health.reachable(now);
        }
    }

    /// A server could not be reached, gave no answer, or one that counts as a failure. Too many in a row, and it is left
    /// alone; but never more servers than the rules say.
    pub fn failed(&mut self, server: usize, now: u64) {
        let Some(ejection) = self.rules.ejection else { return };
        let others = self.servers.iter().enumerate().filter(|(at, _)| *at != server);
        let out = others.filter(|(_, server)| server.health.is_ejected(now)).count();
        let may = (out + 1) * 100 <= self.servers.len() * ejection.max_percent as usize;
        if let Some(server) = self.servers.get_mut(server) {
            server.health.failed(now, &ejection, may);
        }
    }

    /// A server could not be connected to: it is tried last for this time.
    pub fn unreachable(&mut self, server: usize, now: u64, rest: Duration) {
        if let Some(server) = self.servers.get_mut(server) {
            server.health.unreachable(now, rest);
        }
        self.failed(server, now);
    }

    /// What a probe found.
    pub fn probed(&mut self, server: usize, now: u64, well: bool, rise: u32, fall: u32) {
        if let Some(server) = self.servers.get_mut(server) {
            server.health.probed(now, well, rise, fall);
        }
    }

    /// How a server stands.
    pub fn standing(&self, server: usize, now: u64) -> Standing {
        self.servers.get(server).map_or(Standing::Well, |server| server.health.standing(now))
    }

    /// A server's weight as of now, in hundredths: less while it comes back.
    fn weight(&self, server: usize, now: u64) -> u32 {
        let Some(server) = self.servers.get(server) else { return 0 };
        let full = server.weight.saturating_mul(100);
        let Some(back) = server.health.back_since() else { return full };
        let slow = self.rules.slow_start.as_nanos() as u64;
        let since = now.saturating_sub(back);
        if since >= slow {
            return full;
        }
        let percent = (u128::from(since) * 100 / u128::from(slow.max(1))) as u32;
        server.weight.saturating_mul(percent.max(SLOW_START_LEAST))
    }

    fn by_credit(&mut self, fit: &Order, now: u64) -> Option<usize> {
        let mut total = 0;
        for server in fit {
            let weight = i64::from(self.weight(*server, now));
            total += weight;
            if let Some(server) = self.servers.get_mut(*server) {
                server.credit += weight;
            }
        }
        // Of equal ones the first in the upstream.
        let chosen =
            fit.iter().copied().max_by_key(|at| (self.servers.get(*at).map(|server| server.credit), Reverse(*at)))?;
        if let Some(server) = self.servers.get_mut(chosen) {
            server.credit -= total;
        }
        Some(chosen)
    }

    fn least(&self, fit: &Order, now: u64) -> Option<usize> {
        let load = |at: &usize| {
            let active = self.servers.get(*at).map_or(0, |server| server.active);
            // As a fraction of the weight; of equal ones the first in the round.
            (u64::from(active) + 1) * 1_000_000 / u64::from(self.weight(*at, now).max(1))
        };
        fit.iter().copied().min_by_key(load)
    }

    fn quicker_of_two(&self, fit: &Order, now: u64, random: u64) -> Option<usize> {
        let count = fit.len() as u64;
        if count < 2 {
            return fit.first().copied();
        }
        let one = (random & 0xffff_ffff) % count;
        let other = (one + 1 + (random >> 32) % (count - 1)) % count;
        let pick = |at: u64| fit.get(at as usize).copied();
        let (one, other) = (pick(one)?, pick(other)?);
        if self.cost(other, now) < self.cost(one, now) { Some(other) } else { Some(one) }
    }

    fn cost(&self, at: usize, now: u64) -> f64 {
        let Some(server) = self.servers.get(at) else { return f64::MAX };
        let latency = server.latency.map_or(UNKNOWN_LATENCY, |(latency, since)| latency * kept(now, since));
        latency.max(f64::EPSILON) * f64::from(server.active + 1) / f64::from(self.weight(at, now).max(1))
    }

    fn by_hash(&self, fit: &Order, hash: u64) -> Option<usize> {
        let table = self.table.as_ref()?;
        // Keys of a server that is away go to other servers each, and come back with it.
        let tries = (0..u64::from(u8::MAX)).map(|step| hash.wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let mut found = tries.filter_map(|hash| maglev::find(table, hash));
        found.find(|server| fit.contains(server)).or(fit.first().copied())
    }
}

/// What is left of a latency after this time.
fn kept(now: u64, since: u64) -> f64 {
    let age = Duration::from_nanos(now.saturating_sub(since)).as_secs_f64();
    (-age / EWMA_DECAY.as_secs_f64()).exp()
}

#[cfg(test)]
mod tests;
