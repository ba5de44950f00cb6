//! What workers count. Each worker owns one [`WorkerStats`]; the metrics listener sums them when it is asked.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use proxy_core::abuse::Kind;

use crate::stages::policy::seen::Ring;
use crate::upstream::seen::UpstreamSeen;

/// HTTP versions told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.0 and 1.1.
    H1,
    /// HTTP/2.
    H2,
    /// HTTP/3.
    H3,
}

impl HttpVersion {
    /// All, in the order of their index.
    pub const ALL: [HttpVersion; 3] = [HttpVersion::H1, HttpVersion::H2, HttpVersion::H3];

    /// Name in metrics and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::H1 => "h1",
            Self::H2 => "h2",
            Self::H3 => "h3",
        }
    }
}

/// Upper borders of the request duration histogram, in microseconds.
pub const DURATION_BOUNDS_US: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 1_000_000, 10_000_000];

/// Names of the status classes, in the order of [`Outcomes::status`].
pub const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Plain counters of one worker; written by that worker only, read by anyone. Aligned so that workers share no cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerStats {
    /// Whether the worker takes new connections: set when it serves, cleared when it drains or is gone.
    pub accepting: AtomicBool,
    /// Connections accepted since start (TCP and QUIC).
    pub accepted: AtomicU64,
    /// Connections open now.
    pub active: AtomicU64,
    /// Requests by [`HttpVersion`].
    pub requests: [AtomicU64; 3],
    /// How they ended.
    pub outcomes: Outcomes,
    /// Abuses, in the order of [`Kind::ALL`].
    pub abuse: [AtomicU64; Kind::ALL.len()],
    /// Requests that were turned away for want of memory.
    pub shed: AtomicU64,
    /// Requests that a policy blocked.
    pub blocked: AtomicU64,
    /// Verdicts written to the kernel.
    pub pushed: AtomicU64,
    /// Verdicts not written: rate bound, allowed source, or an error.
    pub push_refused: AtomicU64,
    /// TLS handshakes that failed.
    pub tls_errors: AtomicU64,
    /// Requests that failed for want of an origin (502, 504).
    pub upstream_errors: AtomicU64,
    /// Origin connections opened.
    pub upstream_connects: AtomicU64,
    /// Requests sent on a kept-alive origin connection.
    pub upstream_reused: AtomicU64,
    /// Requests sent to a second server while the first had not answered.
    pub upstream_hedges: AtomicU64,
    /// Of those the ones whose second server was heard.
    pub upstream_hedges_won: AtomicU64,
    /// Connections that were passed through as they are.
    pub forwarded: AtomicU64,
    /// Bytes of those from clients.
    pub forwarded_in: AtomicU64,
    /// And to clients.
    pub forwarded_out: AtomicU64,
    /// How the upstreams stand, as of the last second.
    upstreams: Mutex<Vec<UpstreamSeen>>,
    /// Requests that can be explained by their id.
    pub seen: Ring,
}

impl WorkerStats {
    /// Shows how the upstreams stand. Called by the owning worker, once a second: nobody waits for the lock.
    pub fn show_upstreams(&self, seen: Vec<UpstreamSeen>) {
        *self.upstreams.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }

    /// How they stood a moment ago.
    pub fn upstreams(&self) -> Vec<UpstreamSeen> {
        self.upstreams.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How requests ended and how long they took. Written by one thread only, read by anyone.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// Responses by status class: 1xx to 5xx.
    pub status: [AtomicU64; 5],
    /// Durations: cumulative-free buckets, the last is beyond the last bound.
    pub duration: [AtomicU64; DURATION_BOUNDS_US.len() + 1],
    /// Sum of the durations in microseconds.
    pub duration_sum_us: AtomicU64,
}

impl Outcomes {
    /// Counts a finished request.
    pub fn finish(&self, status: u16, took: Duration) {
        self.answered(status);
        self.took(took);
    }

    /// Counts a response.
    pub fn answered(&self, status: u16) {
        let class = usize::from(status / 100).wrapping_sub(1);
        if let Some(counter) = self.status.get(class) {
            bump(counter, 1);
        }
    }

    /// Counts a duration.
    pub fn took(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = DURATION_BOUNDS_US.partition_point(|bound| *bound < us);
        if let Some(counter) = self.duration.get(bucket) {
            bump(counter, 1);
        }
        bump(&self.duration_sum_us, us);
    }
}

/// Adds to a counter that only one thread writes: cheaper than a locked add.
pub fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_request_lands_in_its_class_and_bucket() {
        let stats = Outcomes::default();
        stats.finish(204, Duration::from_micros(100));
        stats.finish(404, Duration::from_micros(101));
        stats.finish(502, Duration::from_secs(3600));
        stats.finish(0, Duration::ZERO);
        stats.finish(999, Duration::ZERO);
        let read = |counters: &[AtomicU64]| counters.iter().map(|c| c.load(Ordering::Relaxed)).collect::<Vec<_>>();
        assert_eq!(read(&stats.status), [0, 1, 0, 1, 1]);
        assert_eq!(read(&stats.duration), [3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(stats.duration_sum_us.load(Ordering::Relaxed), 201 + 3_600_000_000);
    }
}
