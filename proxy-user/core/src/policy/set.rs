//! A compiled set of policies: what it holds and what can be asked about it. How requests are judged by it is `judge`'s.
//! Immutable but for the counts of rates.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

mod info;

pub use info::{ListInfo, Phase, RuleInfo};

use super::answer::{Answer, Deed};
use super::challenge::{self, ChallengeKey, ChallengePage, Signer};
use super::edits::ListSummary;
use super::explain::Told;
use super::index::Index;
use super::lang::{Answered, Expr, Facts, Source, Text, TextField, TextTest, Wildcard};
use super::model::PushScope;
use super::rate::RateTable;
use super::rate_key::RateKey;
use super::rollout::{Abort, Rollout, RuleCount};
use super::{FileDiagnostic, KernelImage, RequestView, RuleSlot};
use crate::geo::{Databases, Places};
use crate::ranges::{RangeSet, number};

/// All loaded policies, compiled; immutable, shared by the workers behind an `Arc`.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "what each says is asked by itself")]
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
    /// Places of those that wait for the response.
    pub(super) response: Vec<usize>,
    /// Which of `response` are worth asking.
    pub(super) response_index: Index,
    /// Places of those that are decided when a ClientHello has come.
    pub(super) hello: Vec<usize>,
    /// Which of `hello` are worth asking.
    pub(super) hello_index: Index,
    /// A rule looks at the ClientHello.
    pub(super) wants_hello: bool,
    /// A rule looks at how the connection fares.
    pub(super) wants_link: bool,
    /// A rule looks at what the source did.
    pub(super) wants_abuse: bool,
    /// Places of those that push a verdict by that and by nothing of a request.
    pub(super) abuse: Vec<usize>,
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
    pub push: Option<Pushes>,
    pub deed: Arc<Deed>,
    /// Places of the rules that a match leaves out.
    pub skips: Vec<usize>,
    /// Its condition looks at the request's score.
    pub scored: bool,
    pub rollout: Rollout,
}

/// That a match has the source dropped in the kernel.
#[derive(Debug)]
pub(super) struct Pushes {
    /// For so long.
    pub ttl: Duration,
    /// What of the source.
    pub scope: PushScope,
    /// Only once it has matched so often.
    pub after: Option<Rate>,
}

/// What a rule counts.
#[derive(Debug)]
pub(super) struct Rate {
    pub key: RateKey,
    pub table: Arc<RateTable>,
}

impl Rate {
    /// What a request is counted by.
    pub fn number<F: Facts>(&self, facts: &F) -> u64 {
        self.key.number(facts, self.table.seed(), self.table.terms().ipv6_prefix)
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

impl PolicySet {
    /// Whether a rule looks at [`super::ConnectionView::hello`], which costs reading it before the handshake.
    pub fn wants_hello(&self) -> bool {
        self.wants_hello
    }

    /// Whether a rule looks at [`super::ConnectionView::link`], which costs asking the system for each request.
    pub fn wants_link(&self) -> bool {
        self.wants_link
    }

    /// Whether a rule looks at [`super::ConnectionView::abuse`], which costs a look-up for each request.
    pub fn wants_abuse(&self) -> bool {
        self.wants_abuse
    }

    /// Whether a verdict may be pushed when a source does something, before it asks for anything more.
    pub fn acts_on_abuse(&self) -> bool {
        !self.abuse.is_empty()
    }

    /// Who knows places, for [`super::ConnectionView::places`].
    pub fn places(&self) -> Option<&dyn Places> {
        self.places.as_deref().map(|places| places as &dyn Places)
    }

    /// Whether a rule looks at the response, which costs keeping the request's header until that is there.
    pub fn wants_response(&self) -> bool {
        !self.response.is_empty()
    }

    /// Whether a rule looks at [`RequestView::body`], which costs holding it back until its beginning has come.
    pub fn wants_body(&self) -> bool {
        !self.body.is_empty()
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

    /// Whether a rule is a challenge, and the request brings what it asks for.
    pub(super) fn passes(&self, rule: &RequestRule, request: &RequestView<'_>) -> bool {
        let Effect::Challenge(terms) = rule.effect else { return false };
        self.policies.get(rule.policy).is_some_and(|policy| self.signer.passes(&policy.id, terms, request))
    }

    /// What challenges are signed with, where a rule challenges.
    pub fn challenge_key(&self) -> Option<ChallengeKey> {
        let challenges = self.requests.iter().any(|rule| matches!(rule.effect, Effect::Challenge(_)));
        challenges.then_some(self.signer.key)
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

    /// Makes the look-ups for the rules that are there.
    pub(super) fn indexed(&mut self) {
        let scopes: Vec<Option<Expr>> = self.policies.iter().map(RequestPolicy::condition).collect();
        let rules = self.requests.iter().map(|rule| {
            let scope = scopes.get(rule.policy).and_then(Option::as_ref);
            (&*rule.when, scope)
        });
        self.index = Index::new(&rules.collect::<Vec<_>>());
        self.body_index = self.index_of(&self.body);
        self.hello_index = self.index_of(&self.hello);
        self.response_index = self.index_of(&self.response);
    }

    /// Look-ups for the rules at some places.
    fn index_of(&self, places: &[usize]) -> Index {
        let rules = places.iter().filter_map(|place| self.requests.get(*place)).map(|rule| (&*rule.when, None));
        Index::new(&rules.collect::<Vec<_>>())
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

impl RequestRule {
    /// Whether its condition holds for a request with this score.
    pub fn holds(&self, request: &RequestView<'_>, score: u32) -> bool {
        if self.scored {
            self.when.holds(&Answered { request, response: None, score })
        } else {
            self.when.holds(request)
        }
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
