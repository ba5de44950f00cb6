//! What workers count. Each worker owns one [`WorkerStats`]; the metrics listener sums them when it is asked.

use std::sync::atomic::{AtomicU64, Ordering};

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

/// Plain counters of one worker; written by that worker only, read by anyone. Aligned so that workers share no cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerStats {
    /// Connections accepted since start (TCP and QUIC).
    pub accepted: AtomicU64,
    /// Connections open now.
    pub active: AtomicU64,
    /// Requests by [`HttpVersion`].
    pub requests: [AtomicU64; 3],
    /// Responses by status class: 1xx to 5xx.
    pub status: [AtomicU64; 5],
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
    /// Request durations: cumulative-free buckets, the last is beyond the last bound.
    pub duration: [AtomicU64; DURATION_BOUNDS_US.len() + 1],
    /// Sum of request durations in microseconds.
    pub duration_sum_us: AtomicU64,
}

/// Adds to a counter that only one thread writes: cheaper than a locked add.
pub fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}
