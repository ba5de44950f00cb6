//! Model: how an upstream's servers share its requests, when they are left alone, and when a request is sent again.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Span, SplitBy};

/// Upper bound of a server's weight.
pub const MAX_WEIGHT: u32 = 1_000;
/// Upper bound of counts in a row.
pub const MAX_STREAK: u32 = 1_000;
/// Most times that a request is sent again.
pub const MAX_ATTEMPTS: u32 = 8;
/// Upper bound of `balance.queue.requests`.
pub const MAX_QUEUE: u32 = 65_536;
/// Upper bound of `retries.per_second`.
pub const MAX_RETRIES: u32 = 1_000_000;

/// Whom a request prefers. Each worker counts for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// By turns, as often as weights say.
    #[default]
    RoundRobin,
    /// The server with the fewest open requests for its weight.
    LeastRequests,
    /// The better of two at random: by latency, of which a peak counts at once and fades, times open requests.
    PeakEwma,
    /// The same server for the same key (Maglev); few keys move when servers come or go.
    Hash,
}

/// Servers that fail are left alone for a while; then one request tries them (a circuit breaker for each server).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ejecting {
    /// Failures in a row: no connection, no answer, an answer that is not HTTP or breaks off, or 502, 503, 504.
    #[schemars(range(min = 1, max = MAX_STREAK))]
    pub failures: u32,
    /// For how long the first time; each time in a row as much longer.
    #[serde(rename = "for")]
    pub time: Span,
    /// Most servers that are left alone at once, in percent.
    #[schemars(range(max = 100))]
    pub max_percent: u32,
}

/// Requests to ask servers whether they are well.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Probing {
    /// Path of a GET that a well server answers with 2xx or 3xx.
    pub path: String,
    /// Pause between two of them, each worker and server.
    #[serde(default = "Probing::every")]
    pub every: Span,
    /// Time for connection and answer.
    #[serde(default = "Probing::timeout")]
    pub timeout: Span,
    /// Good ones in a row that make a server well.
    #[serde(default = "Probing::rise")]
    #[schemars(range(min = 1, max = MAX_STREAK))]
    pub rise: u32,
    /// Bad ones in a row that make it not.
    #[serde(default = "Probing::fall")]
    #[schemars(range(min = 1, max = MAX_STREAK))]
    pub fall: u32,
}

/// When a request is sent again, to another server if there is one. Only safe and idempotent methods without a body, and
/// only before anything of the response was passed on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retries {
    /// How often at most; 0 for never.
    #[schemars(range(max = MAX_ATTEMPTS))]
    pub attempts: u32,
    /// Statuses of the origin after which it is, beside no answer at all.
    #[schemars(length(max = 16))]
    pub on_status: Vec<u16>,
    /// Budget: as many of the requests, in percent.
    #[schemars(range(max = 100))]
    pub percent: u32,
    /// And so many a second besides.
    #[schemars(range(max = MAX_RETRIES))]
    pub per_second: u32,
}

/// When a request that is not answered yet is sent to another server as well; the first answer is taken. Safe methods without a
/// body only, once for each request, and out of the budget of `retries`. `after` or `percentile`, one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hedging {
    /// After this time without a response header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Span>,
    /// After the time in which so many percent of the latest 256 were answered, as each worker has seen it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 50, max = 99))]
    pub percentile: Option<u32>,
}

/// What an upstream may say of all this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Balancing {
    /// Whom a request prefers.
    pub prefer: Balance,
    /// Weights, in the order of `servers`; 1 each unless set. A server of weight 0 is a spare.
    #[schemars(length(max = super::upstream::MAX_SERVERS))]
    pub weights: Vec<u32>,
    /// What `hash` goes by: the client's address unless set.
    pub hash_by: Option<SplitBy>,
    /// Leave failing servers alone.
    pub ejection: Option<Ejecting>,
    /// How long a server that came back takes to its full weight.
    pub slow_start: Option<Span>,
    /// Open requests of each server, each worker; 503 when none has room.
    #[schemars(range(min = 1))]
    pub max_requests: Option<u32>,
    /// Let requests wait while all servers have `max_requests`.
    pub queue: Option<Queue>,
}

/// Requests that wait for a server to have room, of each worker; the oldest goes on first.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// How many; one more is answered 503 at once.
    #[schemars(range(min = 1, max = MAX_QUEUE))]
    pub requests: u32,
    /// For how long; 503 then.
    #[serde(rename = "for", default = "Queue::time")]
    pub time: Span,
}

impl Queue {
    fn time() -> Span {
        Span(Duration::from_secs(1))
    }
}

impl Default for Ejecting {
    fn default() -> Self {
        Self { failures: 5, time: Span(Duration::from_secs(10)), max_percent: 50 }
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts: 0, on_status: Vec::new(), percent: 20, per_second: 10 }
    }
}

impl Balancing {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Retries {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Probing {
    fn every() -> Span {
        Span(Duration::from_secs(5))
    }

    fn timeout() -> Span {
        Span(Duration::from_secs(2))
    }

    fn rise() -> u32 {
        2
    }

    fn fall() -> u32 {
        3
    }
}
