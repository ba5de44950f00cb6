//! Policies: model, expression language, compilation, evaluation. (Interface first; the engine follows.)

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::{HeaderMap, Method, Version};
use smallvec::SmallVec;

use crate::image::KernelImage;

/// Number of a rule in counters and verdicts, stable over reloads for the same `policy/rule` name. 0 is the operator.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct RuleSlot(pub u32);

/// What request rules may look at. Borrowed from the request; `src` is never v4-mapped.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// Client address.
    pub src: IpAddr,
    /// Local address that the client reached.
    pub dst: SocketAddr,
    /// Name of the listener.
    pub listener: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// HTTP version.
    pub version: Version,
    /// Method.
    pub method: &'a Method,
    /// Host without port, lower case; empty when the client sent none.
    pub host: &'a str,
    /// Path as sent, without query.
    pub path: &'a str,
    /// Query without `?`, if any.
    pub query: Option<&'a str>,
    /// Headers.
    pub headers: &'a HeaderMap,
}

/// What the policies say of one request.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// What is to be done.
    pub action: Action,
    /// Verdicts to write to the kernel at once.
    pub pushes: SmallVec<[Push; 1]>,
    /// Rules that matched in shadow mode or with action `log`: they only count and are logged.
    pub logged: SmallVec<[RuleSlot; 2]>,
}

/// The terminating action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// No rule applied.
    #[default]
    Pass,
    /// An allow rule ended the evaluation.
    Allow(RuleSlot),
    /// Answer with `status` instead of forwarding.
    Block {
        /// The rule that decided.
        rule: RuleSlot,
        /// HTTP status, 400 to 599.
        status: u16,
    },
}

/// A verdict to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Push {
    /// The rule that decided.
    pub rule: RuleSlot,
    /// How long it stands.
    pub ttl: Duration,
}

/// All loaded policies, compiled; immutable, shared by the workers behind an `Arc`.
#[derive(Debug, Default)]
pub struct PolicySet {}

impl PolicySet {
    /// Evaluates the request rules. `now_ns` is CLOCK_MONOTONIC in nanoseconds (rates).
    pub fn evaluate(&self, _request: &RequestView<'_>, _now_ns: u64) -> Decision {
        Decision::default()
    }

    /// Whether an allow rule on the source alone covers `src`: such a source never gets a verdict.
    pub fn allows_source(&self, _src: IpAddr) -> bool {
        false
    }

    /// `policy/rule` of a slot.
    pub fn rule_name(&self, _slot: RuleSlot) -> Option<&str> {
        None
    }

    /// What the kernel maps shall hold.
    pub fn kernel_image(&self) -> &KernelImage {
        static EMPTY: KernelImage =
            KernelImage { allow: Vec::new(), deny: Vec::new(), rules: Vec::new(), names: Vec::new() };
        &EMPTY
    }
}
