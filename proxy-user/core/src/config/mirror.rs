//! Model: copies of a route's requests to another upstream.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Size, SplitBy};

/// Upper bound of `mirror.in_flight`.
pub const MAX_IN_FLIGHT: u32 = 65_536;
/// Upper bound of `mirror.body`.
pub const MAX_BODY: u64 = 16 << 20;

/// Where copies of some requests go. Nobody waits for what becomes of a copy, and nobody sees its answer; a copy beyond the
/// bounds is left out, never the request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// Name in `upstreams`.
    pub upstream: String,
    /// How many of the requests, in percent; the same clients each time.
    #[serde(default = "Mirror::percent")]
    #[schemars(range(min = 1, max = 100))]
    pub percent: u32,
    /// What clients are told by: their address unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<SplitBy>,
    /// Copies under way at a time, of this route and all workers.
    #[serde(default = "Mirror::in_flight")]
    #[schemars(range(min = 1, max = MAX_IN_FLIGHT))]
    pub in_flight: u32,
    /// Bytes that the body of a request may have to be copied; up to 16 MiB.
    #[serde(default = "Mirror::body")]
    pub body: Size,
}

impl Mirror {
    fn percent() -> u32 {
        100
    }

    fn in_flight() -> u32 {
        64
    }

    fn body() -> Size {
        Size(64 << 10)
    }
}
