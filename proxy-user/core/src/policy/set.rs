//! A compiled set of policies, and how a request is judged by it. Immutable but for the counts of rates.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::answer::{Answer, Deed};
use super::challenge::{self, ChallengePage, Signer};
use super::edits::ListSummary;
use super::explain::Told;
use super::index::{Candidates, Index, clear, next_set, set};
use super::lang::{Expr, Scored, Source, Text, TextField, TextTest, Wildcard};
use super::rate::RateTable;
use super::rate_key::RateKey;
use super::rollout::{Abort, Rollout, RuleCount};
use super::{Action, Decision, FileDiagnostic, KernelImage, Pending, Push, RequestView, ResponseView, RuleSlot};
use crate::geo::{Databases, Places};
use crate::ranges::{RangeSet, number};

/// All loaded policies, compiled; immutable, shared by the workers behind an `Arc`.
#[derive(Debug, Default)]
pub struct PolicySet {
    pub(super) policies: Vec<RequestPolicy>,
    /// In the order in which they are asked.
    pub(super) requests: Vec<RequestRule>,
    /// Which of `requests` are worth asking.
    pub(super) index: Index,
    /// Places of those that wait for the body.
    pub(super) body: Vec<usize>,
    /// Which of `body` are worth asking.
    pub(super) body_index: Index,
    /// Places of those that are decided when a ClientHello has come.
    pub(super) hello: Vec<usize>,
    /// Which of `hello` are worth asking.
    pub(super) hello_index: Index,
    /// A rule looks at the ClientHello.
    pub(super) wants_hello: bool,
    pub(super) places: Option<Arc<Databases>>,
    /// For challenges.
    pub(super) signer: Signer,
    /// Sources that an enforcing allow rule covers on the source alone.
    pub(super) allowed: RangeSet,
    pub(super) image: KernelImage,
    pub(super) names: HashMap<u32, String>,
    /// Own answers of blocking rules, by slot.
    pub(super) answers: HashMap<u32, Answer>,
    pub(super) rules: Vec<RuleInfo>,
    /// About each of `rules`, for explanations.
    pub(super) told: Vec<Told>,
    pub(super) lists: Vec<ListInfo>,
    pub(super) named: Vec<ListSummary>,
    /// Those of `requests` that watch how much they match.
    pub(super) aborts: Vec<Arc<Abort>>,
    pub(super) hosts: usize,
    pub(super) warnings: Vec<FileDiagnostic>,
    pub(super) next_expiry: Option<jiff::Timestamp>,
    /// A rule looks at the time of day.
    pub(super) wall_clock: bool,
}

/// Which requests a policy looks at.
#[derive(Debug)]
pub(super) struct RequestPolicy {
    pub id: String,
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
    pub rate: Option<Rate>,
    /// On the response: whether the request counts.
    pub count_when: Option<Arc<Expr>>,
    pub effect: Effect,
    /// How long the source is dropped in the kernel from a match on.
    pub push: Option<Duration>,
    pub deed: Arc<Deed>,
    /// Places of the rules that a match leaves out.
    pub skips: Vec<usize>,
    /// Its condition looks at the request's score.
    pub scored: bool,
    pub rollout: Rollout,
}

/// What a rule counts.
#[derive(Debug)]
pub(super) struct Rate {
    pub key: RateKey,
    pub table: Arc<RateTable>,
}

impl Rate {
    /// What a request is counted by.
    fn number(&self, request: &RequestView<'_>) -> u64 {
        self.key.number(request, self.table.seed(), self.table.terms().ipv6_prefix)
    }
}

/// What a match does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Ends the evaluation.
    Allow,
    /// Ends the evaluation with a status.
    Block(u16),
    /// Ends the evaluation and the connection.
    Reset,
    /// The same after a while.
    Tarpit(Duration),
    /// Ends the evaluation with work to do, unless it was done.
    Challenge(challenge::Terms),
    /// Ends the evaluation with another place.
    Redirect,
    /// Changes the request or its response.
    Change,
    /// Leaves later rules out.
    Skip,
    /// Adds to the request's score.
    Score(u16),
    /// Action `log`, or any action in shadow mode.
    Log,
}

/// Where a rule is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// In the kernel.
    Packet,
    /// By a worker before the TLS handshake, and again for requests of connections that were open before.
    #[serde(rename = "client_hello")]
    ClientHello,
    /// By a worker.
    Request,
    /// By a worker, when the beginning of the body has come and no rule on the header has ended the evaluation.
    #[serde(rename = "request_body")]
    RequestBody,
    /// By both: an allow rule that spares packets and requests.
    Both,
    /// Nowhere: it has expired.
    Off,
}

/// One list that was read from a file, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListInfo {
    /// `policy/list`
    pub name: String,
    /// The file, as the policy names it.
    pub file: String,
    /// Lines with an item.
    pub items: usize,
    /// Ranges of addresses that they come to.
    pub ranges: usize,
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
    /// As written, such as `block`.
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

impl Phase {
    /// As written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Packet => "packet",
            Self::ClientHello => "client_hello",
            Self::Request => "request",
            Self::RequestBody => "request_body",
            Self::Both => "both",
            Self::Off => "off",
        }
    }
}

impl PolicySet {
    /// Whether a rule looks at [`super::ConnectionView::hello`], which costs reading it before the handshake.
    pub fn wants_hello(&self) -> bool {
        self.wants_hello
    }

    /// Evaluates the rules that are decided when a ClientHello has come: `request` is [`RequestView::of_hello`]'s. The action
    /// is `Pass`, `Allow`, `Block`, whose status is not meant, `Reset` or `Tarpit`.
    pub fn evaluate_hello(&self, request: &RequestView<'_>) -> Decision {
        let mut decision = Decision::default();
        if let Some(rule) = self.decides_hello(request) {
            decision.end(rule, request, self.allows_source(request.src));
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

    /// Who knows places, for [`super::ConnectionView::places`].
    pub fn places(&self) -> Option<&dyn Places> {
        self.places.as_deref().map(|places| places as &dyn Places)
    }

    /// Whether a rule looks at [`RequestView::body`], which costs holding it back until its beginning has come.
    pub fn wants_body(&self) -> bool {
        !self.body.is_empty()
    }

    /// Evaluates the request rules but for those on the body. `now_ns` is `CLOCK_MONOTONIC` in nanoseconds (rates).
    pub fn evaluate(&self, request: &RequestView<'_>, now_ns: u64) -> Decision {
        let mut decision = Decision::default();
        self.aborts.iter().for_each(|abort| abort.see(now_ns));
        let mut candidates = self.index.candidates(request);
        for place in &self.body {
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
                    if decision.end(rule, request, self.allows_source(request.src)) {
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
                    decision.skipped.extend(rule.skips.iter().filter(|skipped| self.body.contains(skipped)));
                    decision.logged.push(rule.slot);
                }
            }
        }
    }

    /// What the request rules did and would have done that are in shadow mode, have a percentage or are watched, in their
    /// order. The others are not counted.
    pub fn rule_counts(&self) -> Vec<RuleCount> {
        let action = |slot: RuleSlot| self.rules.iter().find(|rule| rule.slot == slot).map_or("", |rule| rule.action);
        let partial = self.requests.iter().filter(|rule| rule.rollout.is_partial());
        partial.map(|rule| rule.rollout.count(&rule.name, action(rule.slot))).collect()
    }

    /// Rules that match more than they may and only count since the last call.
    pub fn newly_aborted(&self) -> Vec<&str> {
        if self.aborts.is_empty() {
            return Vec::new();
        }
        let news = |rule: &&RequestRule| rule.rollout.abort.as_ref().is_some_and(|abort| abort.news());
        self.requests.iter().filter(news).map(|rule| rule.name.as_str()).collect()
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

    /// Whether a rule is a challenge, and the request brings what it asks for.
    pub(super) fn passes(&self, rule: &RequestRule, request: &RequestView<'_>) -> bool {
        let Effect::Challenge(terms) = rule.effect else { return false };
        self.policies.get(rule.policy).is_some_and(|policy| self.signer.passes(&policy.id, terms, request))
    }

    /// The page of a challenging rule, for a source. Whether it is sent over TLS; milliseconds since 1970.
    pub fn challenge(&self, rule: RuleSlot, source: IpAddr, tls: bool, wall_ms: u64) -> Option<ChallengePage> {
        let rule = self.requests.iter().find(|known| known.slot == rule)?;
        let Effect::Challenge(terms) = rule.effect else { return None };
        // Its rules share a cookie, which is to last for the most patient one.
        let keep =
            self.requests.iter().filter(|other| other.policy == rule.policy).filter_map(|other| match other.effect {
                Effect::Challenge(terms) => Some(terms.pass_for),
                _ => None,
            });
        let keep = keep.max().unwrap_or(terms.pass_for);
        Some(self.signer.page(&self.policies.get(rule.policy)?.id, terms, keep, source, tls, wall_ms))
    }

    /// The own answer of a blocking rule.
    pub fn answer(&self, rule: RuleSlot) -> Option<&Answer> {
        self.answers.get(&rule.0)
    }

    /// Finds the rules that those of a policy leave out.
    pub(super) fn find_skipped(&mut self, policy: usize) {
        let own = |rule: &RequestRule| rule.policy == policy;
        let first = self.requests.iter().position(own).unwrap_or(self.requests.len());
        let id = |rule: &RequestRule| rule.name.rsplit('/').next().unwrap_or_default().to_owned();
        let ids: Vec<String> = self.requests.iter().skip(first).map(id).collect();
        for (place, rule) in self.requests.iter_mut().enumerate().skip(first) {
            if let Deed::Skip(named) = &*rule.deed {
                let later = ids.iter().enumerate().map(|(at, id)| (first + at, id)).filter(|(at, _)| *at > place);
                rule.skips = later.filter(|(_, id)| named.is_empty() || named.contains(id)).map(|(at, _)| at).collect();
            }
        }
    }

    /// Makes the look-ups for the rules that are there.
    pub(super) fn indexed(&mut self) {
        let scopes: Vec<Option<Expr>> = self.policies.iter().map(RequestPolicy::condition).collect();
        let rules = self.requests.iter().map(|rule| {
            let scope = scopes.get(rule.policy).and_then(Option::as_ref);
            (&*rule.when, scope)
        });
        self.index = Index::new(&rules.collect::<Vec<_>>());
        let body = self.body.iter().filter_map(|place| self.requests.get(*place)).map(|rule| (&*rule.when, None));
        self.body_index = Index::new(&body.collect::<Vec<_>>());
        let hello = self.hello.iter().filter_map(|place| self.requests.get(*place)).map(|rule| (&*rule.when, None));
        self.hello_index = Index::new(&hello.collect::<Vec<_>>());
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

    /// Lists that were read from files, in the order of the policies.
    pub fn lists(&self) -> &[ListInfo] {
        &self.lists
    }

    /// All lists that rules may name, in the order of the policies.
    pub fn named_lists(&self) -> &[ListSummary] {
        &self.named
    }

    /// Hosts of [`Self::kernel_image`], allowed and denied, which the kernel keeps apart from its prefixes.
    pub fn hosts(&self) -> usize {
        self.hosts
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

impl Decision {
    /// What a match does that ends the evaluation; says whether it does. A source that is `allowed` gets no verdict.
    fn end(&mut self, rule: &RequestRule, request: &RequestView<'_>, allowed: bool) -> bool {
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
        self.pushes.extend(rule.push.filter(|_| !allowed).map(|ttl| Push { rule: rule.slot, ttl }));
        true
    }
}

impl RequestRule {
    /// Whether its condition holds for a request with this score.
    pub fn holds(&self, request: &RequestView<'_>, score: u32) -> bool {
        if self.scored { self.when.holds(&Scored { request, score }) } else { self.when.holds(request) }
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
