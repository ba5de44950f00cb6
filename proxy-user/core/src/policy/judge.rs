//! How a set of policies judges: a ClientHello, the header of a request, the beginning of its body, its response. Rules are
//! found by look-ups and asked in their order; time is an argument.

use smallvec::SmallVec;

use super::index::{Candidates, clear, next_set, set};
use super::lang::Answered;
use super::set::{Effect, PolicySet, RequestRule};
use super::{Action, Decision, Pending, Push, RequestView, ResponseView};

impl PolicySet {
    /// Evaluates the rules that are decided when a ClientHello has come: `request` is [`RequestView::of_hello`]'s. The action
    /// is `Pass`, `Allow`, `Block`, whose status is not meant, `Reset` or `Tarpit`. `now_ns` as for [`Self::evaluate`]; `None`
    /// where nobody knows yet that the hello came from its source: then it counts for nothing, and the pushes are those
    /// that a source may get that proves itself.
    pub fn evaluate_hello(&self, request: &RequestView<'_>, now_ns: Option<u64>) -> Decision {
        let mut decision = Decision::default();
        if let Some(rule) = self.decides_hello(request) {
            decision.end(rule, request, self.allows_source(request.src), now_ns);
        }
        decision
    }

    /// The rule that ends the evaluation of a ClientHello.
    pub(super) fn decides_hello(&self, request: &RequestView<'_>) -> Option<&RequestRule> {
        let candidates = self.hello_index.candidates(request);
        let mut from = 0;
        while let Some(place) = next_set(&candidates, from) {
            from = place + 1;
            let Some(rule) = self.hello.get(place).and_then(|place| self.requests.get(*place)) else { continue };
            let asked = self.policies.get(rule.policy).is_some_and(|policy| policy.looks_at(request));
            if asked && rule.when.holds(request) {
                return Some(rule);
            }
        }
        None
    }

    /// The verdicts that rules want about a source when it has done something to wear the server down. `request` is
    /// [`RequestView::of_connection`]'s, with that in it. `now_ns` as for [`Self::evaluate`].
    pub fn evaluate_abuse(&self, request: &RequestView<'_>, now_ns: u64) -> SmallVec<[Push; 1]> {
        let mut decision = Decision::default();
        let allowed = self.allows_source(request.src);
        for rule in self.abuse.iter().filter_map(|place| self.requests.get(*place)) {
            let asked = self.policies.get(rule.policy).is_some_and(|policy| policy.looks_at(request));
            if asked
                && rule.when.holds(request)
                && rule.rollout.acts(request.src)
                && decision.end(rule, request, allowed, Some(now_ns))
            {
                break;
            }
        }
        decision.pushes
    }

    /// Evaluates the request rules but for those on the body. `now_ns` is `CLOCK_MONOTONIC` in nanoseconds (rates).
    pub fn evaluate(&self, request: &RequestView<'_>, now_ns: u64) -> Decision {
        let mut decision = Decision::default();
        self.aborts.iter().for_each(|abort| abort.see(now_ns));
        let mut candidates = self.index.candidates(request);
        for place in self.body.iter().chain(&self.response) {
            clear(&mut candidates, *place);
        }
        self.ask(candidates, request, now_ns, &mut decision);
        decision
    }

    /// Whether a rule on the body may be asked about this request, once `decision` was made about its header: one that no
    /// `skip` has left out, of a policy that looks at the request.
    pub fn awaits_body(&self, request: &RequestView<'_>, decision: &Decision) -> bool {
        let rules = self.body.iter().filter(|place| !decision.skipped.contains(place));
        let mut policies = rules.filter_map(|place| self.policies.get(self.requests.get(*place)?.policy));
        policies.any(|policy| policy.looks_at(request))
    }

    /// Evaluates the rules on the body of a request whose header no rule has ended the evaluation of.
    pub fn evaluate_body(&self, request: &RequestView<'_>, now_ns: u64, decision: &mut Decision) {
        let found = self.body_index.candidates(request);
        let mut candidates: Candidates = SmallVec::from_elem(0, self.requests.len().div_ceil(64));
        let mut from = 0;
        while let Some(at) = next_set(&found, from) {
            from = at + 1;
            let place = self.body.get(at).filter(|place| !decision.skipped.contains(place));
            if let Some(place) = place {
                set(&mut candidates, *place);
            }
        }
        self.ask(candidates, request, now_ns, decision);
    }

    /// Asks rules in their order, up to one that ends the evaluation.
    fn ask(&self, mut candidates: Candidates, request: &RequestView<'_>, now_ns: u64, decision: &mut Decision) {
        // The policy asked last, and whether it looks at the request.
        let mut scope = (usize::MAX, false);
        let mut from = 0;
        while let Some(place) = next_set(&candidates, from) {
            from = place + 1;
            let Some(rule) = self.requests.get(place) else { continue };
            if scope.0 != rule.policy {
                scope = (rule.policy, self.policies.get(rule.policy).is_some_and(|policy| policy.looks_at(request)));
            }
            if !scope.1 || !rule.holds(request, decision.score) {
                continue;
            }
            // Who has done the work is not asked again, and does not count.
            if self.passes(rule, request) {
                continue;
            }
            if let Some(rate) = &rule.rate {
                let key = rate.number(request);
                match rule.count_when {
                    None if !rate.table.exceeded(key, now_ns) => continue,
                    Some(_) if !rate.table.used_up(key, now_ns) => {
                        decision.pending.push(Pending { rule: place as u32, key });
                        continue;
                    }
                    _ => {}
                }
            }
            if !rule.rollout.acts(request.src) {
                decision.logged.push(rule.slot);
                continue;
            }
            match rule.effect {
                Effect::Allow
                | Effect::Block(_)
                | Effect::Reset
                | Effect::Tarpit(_)
                | Effect::Challenge(_)
                | Effect::Redirect => {
                    if decision.end(rule, request, self.allows_source(request.src), Some(now_ns)) {
                        return;
                    }
                    // The place of a redirect is missing: there is nothing to lead to.
                    decision.logged.push(rule.slot);
                }
                Effect::Log => decision.logged.push(rule.slot),
                Effect::Score(more) => {
                    decision.score = decision.score.saturating_add(more.into());
                    decision.logged.push(rule.slot);
                }
                Effect::Change => {
                    decision.changes.extend(rule.deed.changes(request));
                    decision.logged.push(rule.slot);
                }
                Effect::Skip => {
                    rule.skips.iter().for_each(|skipped| clear(&mut candidates, *skipped));
                    let later = |place: &&usize| {
                        self.body.binary_search(place).is_ok() || self.response.binary_search(place).is_ok()
                    };
                    decision.skipped.extend(rule.skips.iter().filter(later));
                    decision.logged.push(rule.slot);
                }
            }
        }
    }

    /// Evaluates the rules on the response of a request that nothing has ended the evaluation of. What it decides is done to
    /// the response; the action is `Block`, `Reset` or still `Pass`.
    pub fn evaluate_response(
        &self,
        request: &RequestView<'_>,
        response: &ResponseView<'_>,
        now_ns: u64,
        decision: &mut Decision,
    ) {
        let facts = Answered { request, response: Some(response), score: decision.score };
        let found = self.response_index.candidates(&facts);
        let mut from = 0;
        while let Some(at) = next_set(&found, from) {
            from = at + 1;
            let place = self.response.get(at).filter(|place| !decision.skipped.contains(place));
            let Some(rule) = place.and_then(|place| self.requests.get(*place)) else { continue };
            let asked = self.policies.get(rule.policy).is_some_and(|policy| policy.looks_at(request));
            if !asked || !rule.when.holds(&facts) {
                continue;
            }
            if rule.rollout.acts(request.src) {
                if decision.end(rule, request, self.allows_source(request.src), Some(now_ns)) {
                    return;
                }
                if rule.effect == Effect::Change {
                    decision.changes.extend(rule.deed.changes(&facts));
                }
            }
            decision.logged.push(rule.slot);
        }
    }

    /// Counts a request whose response is known, for the rules of [`Decision::pending`] whose `count_when` holds.
    pub fn count(&self, pending: &[Pending], response: &ResponseView<'_>, now_ns: u64) {
        for Pending { rule, key } in pending {
            if let Some(RequestRule { rate: Some(rate), count_when: Some(count_when), .. }) =
                self.requests.get(*rule as usize)
                && count_when.holds(response)
            {
                rate.table.exceeded(*key, now_ns);
            }
        }
    }
}

impl Decision {
    /// What a match does that ends the evaluation; says whether it does. A source that is `allowed` gets no verdict. Without a
    /// time the match does not count.
    fn end(&mut self, rule: &RequestRule, request: &RequestView<'_>, allowed: bool, now_ns: Option<u64>) -> bool {
        match rule.effect {
            Effect::Allow => self.action = Action::Allow(rule.slot),
            Effect::Block(status) => self.action = Action::Block { rule: rule.slot, status },
            Effect::Reset => self.action = Action::Reset { rule: rule.slot },
            Effect::Tarpit(hold) => self.action = Action::Tarpit { rule: rule.slot, hold },
            Effect::Challenge(terms) => self.action = Action::Challenge { rule: rule.slot, status: terms.status },
            Effect::Redirect => {
                let Some((status, location)) = rule.deed.location(request, request.query) else { return false };
                self.action = Action::Redirect { rule: rule.slot, status };
                self.location = Some(location);
            }
            Effect::Change | Effect::Skip | Effect::Score(_) | Effect::Log => return false,
        }
        if let Some(push) = rule.push.as_ref().filter(|_| !allowed)
            && push
                .after
                .as_ref()
                .zip(now_ns)
                .is_none_or(|(after, now)| after.table.exceeded(after.number(request), now))
        {
            self.pushes.push(Push { rule: rule.slot, ttl: push.ttl, scope: push.scope });
        }
        true
    }
}
