//! Why the policies do with a request what they do: every rule, the values that its comparisons saw, and what came of it.
//!
//! Each comparison of a rule is a condition by itself, so that it is parsed and asked again alone. Nothing is counted: of a
//! rule with a rate it is said that it would match, not whether the source is over its limit.

use std::collections::HashSet;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::action::ActionKind;
use super::lang::{Answered, Expr, Facts, Lists, ProtoSet, parse};
use super::model::PushScope;
use super::set::{Effect, Phase, PolicySet, RequestRule, RuleInfo};
use super::{Change, MAX_EXPLAINED_BYTES, MAX_EXPLAINED_VALUES, RequestView, ResponseView};

/// What a rule said where people read it.
#[derive(Debug)]
pub(super) struct Told {
    /// Its condition as written.
    pub when: String,
    /// The lists that it may name.
    pub lists: Arc<Lists>,
    /// Its condition.
    pub expr: Arc<Expr>,
    /// Index of its policy.
    pub policy: usize,
    /// Index among the request rules, if it is one.
    pub request: Option<usize>,
}

/// Name of an action.
type Name = &'static str;

/// Reads the name of an action, or `pass`.
fn known<'de, D: Deserializer<'de>>(d: D) -> Result<Name, D::Error> {
    let text = String::deserialize(d)?;
    let found = ActionKind::ALL.into_iter().map(ActionKind::name).chain(["pass"]).find(|name| *name == text);
    found.ok_or_else(|| serde::de::Error::custom(format!("`{text:.40}` is no action")))
}

/// What would become of a request, and why.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct RequestExplanation {
    /// Every rule, in the order of the files.
    pub rules: Vec<ExplainedRule>,
    /// `pass`, `allow`, `block`, `challenge`, `redirect`, `reset`, `tarpit` or `drop`.
    #[serde(deserialize_with = "known")]
    #[schemars(with = "String")]
    pub action: Name,
    /// Status of a blocked or redirected request.
    pub status: Option<u16>,
    /// Where it is redirected to.
    pub location: Option<String>,
    /// Changes of the request and its response.
    pub changes: Vec<String>,
    /// `policy/rule` that decided.
    pub rule: Option<String>,
    /// Where it did, if that is before there is a request.
    pub phase: Option<Phase>,
    /// Rules that count it and let the evaluation go on: shadow mode, `log`, changes, `skip`.
    pub logged: Vec<String>,
    /// Seconds that the source would be dropped in the kernel.
    pub push_seconds: Option<u64>,
    /// What of it would be.
    #[serde(default)]
    pub push_scope: Option<PushScope>,
    /// Matches that it takes, where one is not enough.
    #[serde(default)]
    pub push_after: Option<u64>,
}

/// One rule.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ExplainedRule {
    /// `policy/rule`
    pub rule: String,
    /// Where it is decided.
    pub phase: Phase,
    /// As written.
    #[serde(deserialize_with = "known")]
    #[schemars(with = "String")]
    pub action: Name,
    /// Whether it only counts.
    pub shadow: bool,
    /// Its condition.
    pub when: String,
    /// What came of it.
    pub outcome: Outcome,
    /// Its comparisons.
    pub comparisons: Vec<Comparison>,
}

/// What came of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The condition holds.
    Match,
    /// It does not.
    NoMatch,
    /// The condition holds; the rule applies once the source is over its limit.
    MatchWithinRate,
    /// The condition holds; the rule only counts: for other sources than its percentage, or aborted.
    OnlyCounts,
    /// The policy does not look at this host or listener.
    OutOfScope,
    /// It needs values that only packets have.
    NeedsPacket,
    /// It needs the response.
    NeedsResponse,
    /// It has expired.
    Off,
    /// A rule before it says that it is not asked.
    Skipped,
    /// The condition holds, and the client has done the work that the rule asks for.
    Passed,
    /// A rule before it ended the evaluation; what stands here is what it would have seen.
    NotAsked,
}

impl Outcome {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Match => "match",
            Self::NoMatch => "no match",
            Self::OnlyCounts => "match, only counted",
            Self::MatchWithinRate => "match, counts for its rate",
            Self::OutOfScope => "out of scope",
            Self::NeedsPacket => "needs a packet",
            Self::NeedsResponse => "needs a response",
            Self::Off => "off, expired",
            Self::Skipped => "skipped",
            Self::Passed => "match, but the work was done",
            Self::NotAsked => "not asked",
        }
    }
}

/// One comparison of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// As written.
    pub text: String,
    /// Whether it holds.
    pub holds: bool,
    /// Values that it looked at, after functions; none where they are missing.
    pub saw: Vec<String>,
    /// The list that the value is in, if it was looked for in one.
    pub list: Option<String>,
}

impl PolicySet {
    /// Explains what becomes of a request, and of its response, where that is known.
    pub fn explain(&self, request: &RequestView<'_>, response: Option<&ResponseView<'_>>) -> RequestExplanation {
        let mut told = RequestExplanation { action: "pass", ..RequestExplanation::default() };
        // In the kernel the order does not count: what allows beats what drops.
        let packet = |action: &str| {
            let rules = self.rules.iter().zip(&self.told);
            let mut rules = rules.filter(|(rule, _)| matches!(rule.phase, Phase::Packet | Phase::Both) && !rule.shadow);
            rules.find(|(rule, told)| rule.action == action && in_kernel(&told.expr, request) == Some(true))
        };
        let (mut ended, mut skipped) = (false, HashSet::new());
        if let (None, Some((rule, _))) = (packet("allow"), packet("drop")) {
            (told.action, told.rule, ended) = ("drop", Some(rule.name.clone()), true);
            told.phase = Some(Phase::Packet);
        }
        // What is decided at the handshake is decided before any request.
        let hello = if ended || request.connection.hello.is_none() { None } else { self.decides_hello(request) };
        let hello = hello.filter(|rule| rule.effect != Effect::Allow);
        if let Some(rule) = hello {
            ended = told.take(rule, request, request.query, self.allows_source(request.src));
            told.status = None;
            told.phase = Some(Phase::ClientHello);
        }
        let mut score = 0_u32;
        // Rules on the body are asked when those on the header have been, those on the response at last.
        let turn = |rule: &RuleInfo| match rule.phase {
            Phase::Response => 2,
            Phase::RequestBody => 1,
            _ => 0,
        };
        let mut order: Vec<usize> = (0..self.rules.len()).collect();
        order.sort_by_key(|at| self.rules.get(*at).map_or(0, turn));
        let mut explained: Vec<(usize, ExplainedRule)> = Vec::new();
        for at in order {
            let (Some(rule), Some(about)) = (self.rules.get(at), self.told.get(at)) else { continue };
            let before = score;
            let outcome = match about.request.and_then(|at| self.requests.get(at)) {
                _ if rule.phase == Phase::Off => Outcome::Off,
                None => match in_kernel(&about.expr, request) {
                    None => Outcome::NeedsPacket,
                    Some(true) => Outcome::Match,
                    Some(false) => Outcome::NoMatch,
                },
                Some(asked) if hello.is_some_and(|rule| rule.slot == asked.slot) => Outcome::Match,
                Some(_) if ended => Outcome::NotAsked,
                Some(_) if about.request.is_some_and(|at| skipped.contains(&at)) => Outcome::Skipped,
                Some(_) if !self.policies.get(about.policy).is_some_and(|policy| policy.looks_at(request)) => {
                    Outcome::OutOfScope
                }
                Some(asked) if rule.phase == Phase::Response => match response {
                    None => Outcome::NeedsResponse,
                    Some(response) => {
                        let facts = Answered { request, response: Some(response), score };
                        if !asked.when.holds(&facts) {
                            Outcome::NoMatch
                        } else if !asked.rollout.shadow && !asked.rollout.would_act(request.src) {
                            told.logged.push(asked.name.clone());
                            Outcome::OnlyCounts
                        } else {
                            ended = told.take(asked, &facts, None, self.allows_source(request.src));
                            if ended {
                                told.phase = Some(Phase::Response);
                            }
                            Outcome::Match
                        }
                    }
                },
                Some(asked) if !asked.holds(request, score) => Outcome::NoMatch,
                Some(asked) if self.passes(asked, request) => Outcome::Passed,
                Some(asked) if asked.rate.is_some() => Outcome::MatchWithinRate,
                Some(asked) if !asked.rollout.shadow && !asked.rollout.would_act(request.src) => {
                    told.logged.push(asked.name.clone());
                    Outcome::OnlyCounts
                }
                Some(asked) => {
                    ended = told.take(asked, request, request.query, self.allows_source(request.src));
                    if let Effect::Score(points) = asked.effect {
                        score = score.saturating_add(points.into());
                    }
                    if asked.effect == Effect::Skip {
                        skipped.extend(asked.skips.iter().copied());
                    }
                    Outcome::Match
                }
            };
            explained.push((
                at,
                ExplainedRule {
                    rule: rule.name.clone(),
                    phase: rule.phase,
                    action: rule.action,
                    shadow: rule.shadow,
                    when: about.when.clone(),
                    outcome,
                    comparisons: about.comparisons(&Answered {
                        request,
                        response: response.filter(|_| rule.phase == Phase::Response),
                        score: before,
                    }),
                },
            ));
        }
        explained.sort_by_key(|(at, _)| *at);
        told.rules = explained.into_iter().map(|(_, rule)| rule).collect();
        told
    }
}

impl RequestExplanation {
    /// What a match does; says whether it ends the evaluation.
    fn take<F: Facts>(&mut self, rule: &RequestRule, facts: &F, query: Option<&str>, allowed: bool) -> bool {
        let place = rule.deed.location(facts, query);
        match rule.effect {
            Effect::Redirect if place.is_some() => {
                self.action = "redirect";
                self.status = place.as_ref().map(|(status, _)| *status);
                self.location = place.and_then(|(_, location)| location.to_str().ok().map(str::to_owned));
            }
            Effect::Allow => self.action = "allow",
            Effect::Block(status) => (self.action, self.status) = ("block", Some(status)),
            Effect::Challenge(terms) => (self.action, self.status) = ("challenge", Some(terms.status)),
            Effect::Reset => self.action = "reset",
            Effect::Tarpit(_) => self.action = "tarpit",
            Effect::Log | Effect::Redirect | Effect::Change | Effect::Skip | Effect::Score(_) => {
                self.changes.extend(rule.deed.changes(facts).iter().map(Change::to_string));
                self.logged.push(rule.name.clone());
                return false;
            }
        }
        self.rule = Some(rule.name.clone());
        let push = rule.push.as_ref().filter(|_| !allowed);
        self.push_seconds = push.map(|push| push.ttl.as_secs());
        self.push_scope = push.map(|push| push.scope);
        self.push_after =
            push.and_then(|push| push.after.as_ref()).map(|after| u64::from(after.table.terms().limit) + 1);
        true
    }
}

/// Whether the condition holds for the packets of the request; None where only a packet can tell.
fn in_kernel(when: &Expr, request: &RequestView<'_>) -> Option<bool> {
    when.phases().request.then(|| when.holds(request))
}

impl Told {
    fn comparisons<F: Facts>(&self, request: &F) -> Vec<Comparison> {
        let mut leaves = Vec::new();
        // It was parsed when it was loaded.
        let _ = parse(&self.when, &self.lists, Some(&mut leaves));
        let comparison = |(from, to): &(usize, usize)| {
            let text = self.when.get(*from..*to)?;
            let expr = parse(text, &self.lists, None).ok()?;
            let holds = expr.holds(request);
            let list = text.rsplit_once('$').map(|(_, name)| format!("${}", name.trim_end_matches([')', ' '])));
            let mut saw = Vec::new();
            expr.saw(request, &mut saw);
            Some(Comparison { text: text.to_owned(), holds, saw, list: list.filter(|_| holds) })
        };
        leaves.iter().filter_map(comparison).collect()
    }
}

impl Expr {
    /// The values that a comparison looks at.
    fn saw<F: Facts>(&self, facts: &F, saw: &mut Vec<String>) {
        let mut see = |value: String| {
            saw.push(value);
            saw.len() >= MAX_EXPLAINED_VALUES
        };
        match self {
            Self::All(inner) | Self::Not(inner) => inner.saw(facts, saw),
            Self::And(list) => list.iter().for_each(|part| part.saw(facts, saw)),
            Self::Text(value, _) => {
                value.any(facts, &mut |bytes| {
                    let shown = String::from_utf8_lossy(bytes.get(..MAX_EXPLAINED_BYTES).unwrap_or(bytes));
                    see(format!("\"{}\"", shown.escape_debug()))
                });
            }
            Self::Int(term, _) | Self::Bits(term, _) => {
                term.any(facts, &mut |place| see((place.cast_signed() + term.least()).to_string()));
            }
            Self::Ip(field, _) => {
                facts.ip(*field).map(|number| see(crate::ranges::address(number).to_string()));
            }
            Self::Flag(field) => {
                facts.flag(*field).map(|flag| see(flag.to_string()));
            }
            Self::Proto(_) => {
                let name = |proto: ProtoSet| {
                    ProtoSet::NAMES.iter().find(|(name, _)| ProtoSet::by_name(name.as_bytes()) == Some(proto))
                };
                facts.proto().and_then(name).map(|(name, _)| see((*name).to_owned()));
            }
            // A request has no packet.
            Self::Const(_) | Self::Or(_) | Self::Xor(..) | Self::Packet(_) => {}
        }
    }
}
