//! A compiled set of policies, and how a request is judged by it. Immutable but for the counts of rates.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::explain::Told;
use super::index::{Index, each_set};
use super::lang::{Expr, Source, Text, TextField, TextTest, Wildcard};
use super::rate::RateTable;
use super::{Action, Decision, FileDiagnostic, KernelImage, Push, RequestView, RuleSlot};
use crate::ranges::{RangeSet, number};

/// All loaded policies, compiled; immutable, shared by the workers behind an `Arc`.
#[derive(Debug, Default)]
pub struct PolicySet {
    pub(super) policies: Vec<RequestPolicy>,
    /// In the order in which they are asked.
    pub(super) requests: Vec<RequestRule>,
    /// Which of `requests` are worth asking.
    pub(super) index: Index,
    /// Sources that an enforcing allow rule covers on the source alone.
    pub(super) allowed: RangeSet,
    pub(super) image: KernelImage,
    pub(super) names: HashMap<u32, String>,
    pub(super) rules: Vec<RuleInfo>,
    /// About each of `rules`, for explanations.
    pub(super) told: Vec<Told>,
    pub(super) warnings: Vec<FileDiagnostic>,
    pub(super) next_expiry: Option<jiff::Timestamp>,
    /// A rule looks at the time of day.
    pub(super) wall_clock: bool,
}

/// Which requests a policy looks at.
#[derive(Debug)]
pub(super) struct RequestPolicy {
    pub hosts: Vec<Wildcard>,
    pub listeners: Vec<String>,
}

/// A rule of the request phase.
#[derive(Debug)]
pub(super) struct RequestRule {
    /// Index of its policy.
    pub policy: usize,
    pub slot: RuleSlot,
    pub name: String,
    pub when: Arc<Expr>,
    pub rate: Option<Arc<RateTable>>,
    pub effect: Effect,
}

/// What a match does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Ends the evaluation.
    Allow,
    /// Ends the evaluation with a status, and a verdict if a time is given.
    Block(u16, Option<Duration>),
    /// Action `log`, or any action in shadow mode.
    Log,
}

/// Where a rule is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// In the kernel.
    Packet,
    /// By a worker.
    Request,
    /// By both: an allow rule that spares packets and requests.
    Both,
    /// Nowhere: it has expired.
    Off,
}

/// One rule, for people.
#[derive(Clone, Debug, Serialize)]
pub struct RuleInfo {
    /// `policy/rule`
    pub name: String,
    /// Number in counters and verdicts.
    pub slot: RuleSlot,
    /// Where it is decided.
    pub phase: Phase,
    /// `allow`, `block`, `drop` or `log`.
    pub action: &'static str,
    /// Whether it only counts.
    pub shadow: bool,
    /// Since when it is off, or will be.
    pub expires: Option<String>,
    /// File that it comes from.
    pub file: String,
    /// What it is for.
    pub description: Option<String>,
}

impl PolicySet {
    /// Evaluates the request rules. `now_ns` is `CLOCK_MONOTONIC` in nanoseconds (rates).
    pub fn evaluate(&self, request: &RequestView<'_>, now_ns: u64) -> Decision {
        let mut decision = Decision::default();
        // The policy asked last, and whether it looks at the request.
        let mut scope = (usize::MAX, false);
        for place in each_set(&self.index.candidates(request)) {
            let Some(rule) = self.requests.get(place) else { continue };
            if scope.0 != rule.policy {
                scope = (rule.policy, self.policies.get(rule.policy).is_some_and(|policy| policy.looks_at(request)));
            }
            if !scope.1 || !rule.matches(request, now_ns) {
                continue;
            }
            match rule.effect {
                Effect::Log => decision.logged.push(rule.slot),
                Effect::Allow => {
                    decision.action = Action::Allow(rule.slot);
                    return decision;
                }
                Effect::Block(status, push) => {
                    decision.action = Action::Block { rule: rule.slot, status };
                    if let Some(ttl) = push.filter(|_| !self.allows_source(request.src)) {
                        decision.pushes.push(Push { rule: rule.slot, ttl });
                    }
                    return decision;
                }
            }
        }
        decision
    }

    /// Makes the look-ups for the rules that are there.
    pub(super) fn indexed(&mut self) {
        let scopes: Vec<Option<Expr>> = self.policies.iter().map(RequestPolicy::condition).collect();
        let rules = self.requests.iter().map(|rule| {
            let scope = scopes.get(rule.policy).and_then(Option::as_ref);
            (&*rule.when, scope)
        });
        self.index = Index::new(&rules.collect::<Vec<_>>());
    }

    /// Whether an allow rule on the source alone covers `src`: such a source never gets a verdict.
    pub fn allows_source(&self, src: IpAddr) -> bool {
        self.allowed.contains(number(src))
    }

    /// Whether a rule looks at [`RequestView::wall_ms`], which costs a call to the clock.
    pub fn wants_wall_clock(&self) -> bool {
        self.wall_clock
    }

    /// `policy/rule` of a slot.
    pub fn rule_name(&self, slot: RuleSlot) -> Option<&str> {
        self.names.get(&slot.0).map(String::as_str)
    }

    /// What the kernel maps shall hold.
    pub fn kernel_image(&self) -> &KernelImage {
        &self.image
    }

    /// All rules, in the order of their files; expired ones too.
    pub fn rules(&self) -> &[RuleInfo] {
        &self.rules
    }

    /// What is not wrong, but likely not meant.
    pub fn warnings(&self) -> &[FileDiagnostic] {
        &self.warnings
    }

    /// When the next rule expires: compiling again from then on turns it off.
    pub fn next_expiry(&self) -> Option<jiff::Timestamp> {
        self.next_expiry
    }
}

impl RequestPolicy {
    /// The hosts of the scope as a condition, if it names any.
    fn condition(&self) -> Option<Expr> {
        let host = |pattern: &Wildcard| {
            Expr::Text(Text::new(Source::Field(TextField::Host, None)), TextTest::Wildcard(pattern.clone()))
        };
        (!self.hosts.is_empty()).then(|| Expr::Or(self.hosts.iter().map(host).collect()))
    }

    pub(super) fn looks_at(&self, request: &RequestView<'_>) -> bool {
        let hosts = self.hosts.is_empty() || self.hosts.iter().any(|host| host.matches(request.host_name().as_bytes()));
        hosts && (self.listeners.is_empty() || self.listeners.iter().any(|name| name == request.listener))
    }
}

impl RequestRule {
    fn matches(&self, request: &RequestView<'_>, now_ns: u64) -> bool {
        self.when.holds(request) && self.rate.as_ref().is_none_or(|rate| rate.exceeded(request.src, now_ns))
    }
}
