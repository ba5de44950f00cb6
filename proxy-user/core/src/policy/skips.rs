//! Which rules a `skip` leaves out: found once, when a set is put together.

use std::collections::HashSet;

use super::action::SkippedPhase;
use super::answer::{Deed, Skip};
use super::set::{Effect, Phase, PolicySet, RequestRule};

/// Stands for all later policies.
pub(super) const ALL_POLICIES: &str = "*";

impl PolicySet {
    /// Finds the rules that each `skip` leaves out. What one may leave out is not decided at handshakes, where nobody knows yet
    /// whether it will.
    pub(super) fn find_skipped(&mut self) {
        let mut found = Vec::new();
        for (place, rule) in self.requests.iter().enumerate() {
            if let Deed::Skip(skip) = &*rule.deed {
                found.push((place, self.skipped(place, rule, skip)));
            }
        }
        for (place, skips) in found {
            if let Some(rule) = self.requests.get_mut(place) {
                rule.skips = skips;
            }
        }
        let acting = self.requests.iter().filter(|rule| rule.effect == Effect::Skip);
        let left_out: HashSet<usize> = acting.flat_map(|rule| rule.skips.iter().copied()).collect();
        self.hello.retain(|place| !left_out.contains(place));
        self.abuse.retain(|place| !left_out.contains(place));
        for (rule, told) in self.rules.iter_mut().zip(&self.told) {
            if rule.phase == Phase::ClientHello && told.request.is_some_and(|place| left_out.contains(&place)) {
                rule.phase = Phase::Request;
            }
        }
    }

    /// Places of the rules behind `place` that it leaves out.
    fn skipped(&self, place: usize, rule: &RequestRule, skip: &Skip) -> Vec<usize> {
        let named = |other: &RequestRule| {
            let id = other.name.rsplit('/').next().unwrap_or_default();
            other.policy == rule.policy && (skip.is_plain() || skip.rules.iter().any(|named| named == id))
        };
        let policy = |other: &RequestRule| {
            let id = self.policies.get(other.policy).map(|policy| policy.id.as_str());
            other.policy != rule.policy
                && skip.policies.iter().any(|named| named == ALL_POLICIES || Some(named.as_str()) == id)
        };
        let phase = |at: usize| {
            let phase = if self.body.binary_search(&at).is_ok() {
                SkippedPhase::RequestBody
            } else if self.response.binary_search(&at).is_ok() {
                SkippedPhase::ResponseHeaders
            } else {
                SkippedPhase::Request
            };
            skip.phases.contains(&phase)
        };
        let later = self.requests.iter().enumerate().skip(place + 1);
        later.filter(|(at, other)| named(other) || policy(other) || phase(*at)).map(|(at, _)| at).collect()
    }
}
