//! Checked policies put together: request rules in order, the kernel image, and the bounds that all files share.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use proxy_common::abi::{MAX_PACKET_RULES, rule_action};

mod effect;

use effect::{effect, missing, on_abuse, rollout};

use super::RuleSlot;
use super::answer::Deed;
use super::build::{Unit, UnitRate, UnitRule};
use super::challenge::{ChallengeKey, Signer};
use super::classes::{PacketRule, RuleTables, compile};
use super::cubes::Cube;
use super::explain::Told;
use super::lang::{Availability, Field, HttpInt, IntField, Lists};
use super::listed::{Listed, bounded};
use super::model::{ActionKind, MAX_RATE_RULES, PushScope};
use super::packet::Lowered;
use super::rate::{RateTable, RateTerms};
use super::set::{Phase, PolicySet, Pushes, Rate, RequestPolicy, RequestRule, RuleInfo};
use super::skips::ALL_POLICIES;
use crate::geo::Databases;
use crate::image::KernelImage;
use crate::json::shape::Fault;

/// Most units, of about a nanosecond, that the conditions of all request rules together may cost; see `lang::cost`.
pub const MAX_SET_COST: u64 = 10_000_000;

/// What the set is for.
pub(super) enum Purpose {
    /// To be loaded: rules expired at this time are off, shadow rules only count.
    Live(jiff::Timestamp),
    /// To run a policy's tests: every rule is on and acts.
    Test,
}

/// What a set is made with.
pub(super) struct Terms<'a> {
    pub purpose: Purpose,
    pub slots: &'a BTreeMap<String, u32>,
    pub ipv6_prefix: u8,
    pub seed: [u64; 2],
    pub challenge_key: Option<ChallengeKey>,
    /// As in `Options`.
    pub places: Option<&'a Arc<Databases>>,
    pub previous: Option<&'a PolicySet>,
    /// Its request rules by name.
    pub before: HashMap<&'a str, &'a RequestRule>,
}

/// The request rules of a set by name.
pub(super) fn by_name(previous: Option<&PolicySet>) -> HashMap<&str, &RequestRule> {
    previous.into_iter().flat_map(|set| &set.requests).map(|rule| (rule.name.as_str(), rule)).collect()
}

/// A fault or warning, and the index of the unit that it is about.
pub(super) type UnitFault = (usize, Fault);

/// Puts units together. `units` come with the names of their files. Warnings are left to the caller.
pub(super) fn assemble(units: &[(&str, &Unit)], terms: &Terms<'_>) -> (PolicySet, Vec<UnitFault>, Vec<UnitFault>) {
    let mut assembly = Assembly::default();
    assembly.set.places = terms.places.map(Arc::clone);
    let key = terms.challenge_key.or(terms.previous.map(|set| set.signer.key));
    let key = key.unwrap_or_else(|| ChallengeKey::of_seed(terms.seed));
    assembly.set.signer = Signer::new(key, terms.ipv6_prefix);
    for (index, (file, unit)) in units.iter().enumerate() {
        assembly.set.lists.extend_from_slice(&unit.files);
        assembly.set.named.extend_from_slice(&unit.named);
        for rule in &unit.rules {
            assembly.rule(index, file, rule, &unit.lists, terms);
        }
        assembly.skipped_policies(index, units, terms);
        let (hosts, listeners) = (unit.hosts.clone(), unit.listeners.clone());
        assembly.set.policies.push(RequestPolicy { id: unit.id.clone(), hosts, listeners });
    }
    let rules = std::mem::take(&mut assembly.packet_rules);
    // A policy's tests ask the rules themselves.
    let tables = match terms.purpose {
        Purpose::Live(_) => compile(&rules).unwrap_or_else(|message| {
            let (unit, pointer) = assembly.last_packet_rule.clone();
            assembly.faults.push((unit, Fault::at(pointer, message)));
            RuleTables::default()
        }),
        Purpose::Test => RuleTables::default(),
    };
    let (allow, deny) = (assembly.allow.finish(), assembly.deny.finish());
    let (hosts, found) = bounded(&assembly.allow, &allow, &assembly.deny, &deny);
    assembly.faults.extend(found);
    let mut set = assembly.set;
    set.find_skipped();
    set.indexed();
    set.hosts = hosts;
    let names = set.rules.iter().map(|rule| (rule.slot.0, rule.name.clone()));
    set.names = names.clone().collect();
    let mut names: Vec<(u32, String)> = names.collect();
    names.sort_unstable();
    set.image = KernelImage { allow, deny, rules, tables, names, on_v4_prefixes: set.image.on_v4_prefixes };
    (set, assembly.faults, assembly.warnings)
}

#[derive(Default)]
struct Assembly {
    set: PolicySet,
    allow: Listed,
    deny: Listed,
    packet_rules: Vec<PacketRule>,
    /// Where a bound that all packet rules share is reported.
    last_packet_rule: (usize, String),
    rates: usize,
    cost: u64,
    faults: Vec<UnitFault>,
    warnings: Vec<UnitFault>,
}

impl Assembly {
    fn rule(&mut self, unit: usize, file: &str, rule: &UnitRule, lists: &Arc<Lists>, terms: &Terms<'_>) {
        let slot = RuleSlot(terms.slots.get(&rule.name).copied().unwrap_or_default());
        let (on, shadow) = match terms.purpose {
            Purpose::Live(now) => (rule.expires.is_none_or(|at| at > now), rule.shadow),
            Purpose::Test => (true, false),
        };
        let packet = rule.packet.as_ref().filter(|_| on);
        let request = on && rule.request && rule.action != ActionKind::Drop;
        let hello = request && rule.hello && !shadow;
        let body = request && rule.body;
        let response = request && rule.answered;
        let phase = match (packet.is_some(), request) {
            _ if body => Phase::RequestBody,
            _ if response => Phase::Response,
            _ if hello && rule.when.looks_at(Availability::Hello) => Phase::ClientHello,
            (true, true) => Phase::Both,
            (true, false) => Phase::Packet,
            (false, true) => Phase::Request,
            (false, false) => Phase::Off,
        };
        if !on {
            let message = format!("this rule is off: it expired at {}", rule.expires.unwrap_or_default());
            self.warnings.push((unit, Fault::at(format!("{}/expires", rule.pointer), message)));
        }
        if let Some(at) = rule.expires.filter(|_| on) {
            let next = self.set.next_expiry.map_or(at, |next| next.min(at));
            self.set.next_expiry = Some(next);
        }
        if let Some(lowered) = packet {
            self.packet(unit, rule, slot, shadow, lowered);
        }
        self.set.told.push(Told {
            when: rule.text.clone(),
            lists: Arc::clone(lists),
            expr: Arc::clone(&rule.when),
            policy: unit,
            request: request.then_some(self.set.requests.len()),
        });
        if request {
            let places = [
                (rule.body, &mut self.set.body),
                (rule.answered, &mut self.set.response),
                (hello, &mut self.set.hello),
            ];
            places.into_iter().filter(|(is, _)| *is).for_each(|(_, list)| list.push(self.set.requests.len()));
            if rule.push.is_some() && rule.rate.is_none() && on_abuse(&rule.when) {
                self.set.abuse.push(self.set.requests.len());
            }
            let rule = self.request(unit, slot, shadow, rule, terms);
            self.set.requests.push(rule);
        }
        self.set.rules.push(RuleInfo {
            name: rule.name.clone(),
            slot,
            phase,
            action: rule.action.name(),
            shadow,
            expires: rule.expires.map(|at| at.to_string()),
            file: file.to_owned(),
            description: rule.description.clone(),
        });
    }

    /// What workers ask of a rule.
    fn request(
        &mut self,
        unit: usize,
        slot: RuleSlot,
        shadow: bool,
        rule: &UnitRule,
        terms: &Terms<'_>,
    ) -> RequestRule {
        self.cost(unit, rule);
        let effect = effect(rule, shadow);
        let mut scored = false;
        let mut look = |field: Field| {
            scored |= field == Field::Int(IntField::Http(HttpInt::Score));
            let clock = [HttpInt::Seconds, HttpInt::Milliseconds].map(|unit| Field::Int(IntField::Http(unit)));
            self.set.wall_clock |= clock.contains(&field);
            self.set.wants_link |= field.is_of_link();
            self.set.wants_abuse |= field.is_of_abuse();
            self.set.wants_hello |= field.availability() == Availability::Hello;
        };
        rule.when.fields(&mut look);
        rule.deed.fields(&mut look);
        if let Some(rate) = &rule.rate {
            rate.key.fields(&mut look);
        }
        if let Some(key) = terms.places.and_then(|places| missing(places, rule)) {
            let message = format!("no such file is configured: set `geo.{key}` in the config");
            self.faults.push((unit, Fault::at(format!("{}/when", rule.pointer), message)));
        }
        // Its cookie has a time at which it ends.
        self.set.wall_clock |= rule.action == ActionKind::Challenge;
        let before = terms.before.get(rule.name.as_str()).copied();
        let rate = rule.rate.as_ref().map(|rate| {
            let before = before.and_then(|old| old.rate.as_ref());
            self.rate((unit, format!("{}/rate", rule.pointer)), rate, before, terms)
        });
        self.set.image.on_v4_prefixes |= rule.push.as_ref().is_some_and(|push| push.scope == PushScope::Prefix);
        let push = rule.push.as_ref().map(|push| Pushes {
            ttl: push.ttl,
            scope: push.scope,
            after: push.after.as_ref().map(|after| {
                let before = before.and_then(|old| old.push.as_ref()).and_then(|push| push.after.as_ref());
                self.rate((unit, format!("{}/push/after", rule.pointer)), after, before, terms)
            }),
        });
        let (name, when) = (rule.name.clone(), Arc::clone(&rule.when));
        let (deed, count_when) = (Arc::clone(&rule.deed), rule.count_when.clone());
        if let Deed::Answer(answer) = &*deed {
            self.set.answers.insert(slot.0, answer.clone());
        }
        let skips = Vec::new();
        let rollout = rollout(rule, shadow, before, terms);
        self.set.aborts.extend(rollout.abort.iter().map(Arc::clone));
        RequestRule { policy: unit, slot, name, when, rate, count_when, effect, push, deed, skips, scored, rollout }
    }

    /// What the rule may cost, added to what the others do.
    fn cost(&mut self, unit: usize, rule: &UnitRule) {
        let before = self.cost;
        self.cost += rule.cost;
        if before <= MAX_SET_COST && self.cost > MAX_SET_COST {
            let message = format!(
                "with this rule the request rules of all policies may cost {} units a request, at most {MAX_SET_COST} are \
                 taken; this one costs {}: use fewer regular expressions, or lists instead of rules",
                self.cost, rule.cost
            );
            self.faults.push((unit, Fault::at(format!("{}/when", rule.pointer), message)));
        }
    }

    fn packet(&mut self, unit: usize, rule: &UnitRule, slot: RuleSlot, shadow: bool, lowered: &Lowered) {
        let allow = rule.action == ActionKind::Allow;
        match lowered {
            // The tries hold what is enforced.
            Lowered::Sources(sources) if shadow => {
                let cube = Cube { src: sources.clone(), ..Cube::all() };
                self.packet_rules(unit, rule, slot, shadow, &[cube]);
            }
            Lowered::Sources(sources) => {
                let list = if allow { &mut self.allow } else { &mut self.deny };
                list.add(sources.networks(), slot.0, unit, &rule.pointer);
                if allow {
                    self.set.allowed = self.set.allowed.union(sources);
                }
            }
            Lowered::Rules(cubes) => self.packet_rules(unit, rule, slot, shadow, cubes),
        }
    }

    fn packet_rules(&mut self, unit: usize, rule: &UnitRule, slot: RuleSlot, shadow: bool, cubes: &[Cube]) {
        let action = if rule.action == ActionKind::Allow { rule_action::ALLOW } else { rule_action::DROP };
        let list = &mut self.packet_rules;
        list.extend(cubes.iter().map(|cube| PacketRule { cube: cube.clone(), action, slot: slot.0, shadow }));
        self.last_packet_rule = (unit, rule.pointer.clone());
        if list.len() > MAX_PACKET_RULES as usize {
            let count = list.len();
            let message = format!(
                "with this rule there are {count} packet rules in all policies, at most {MAX_PACKET_RULES} fit; it takes {} \
                 of them",
                cubes.len()
            );
            self.faults.push((unit, Fault::at(rule.pointer.clone(), message)));
            list.clear();
        }
    }

    /// What is counted at a place: into the table that the previous set counted into, if the terms are the same.
    fn rate(&mut self, at: (usize, String), rate: &UnitRate, before: Option<&Rate>, terms: &Terms<'_>) -> Rate {
        self.rates += 1;
        if self.rates > MAX_RATE_RULES {
            let message = format!(
                "more than {MAX_RATE_RULES} rules with a rate, or a push after several matches, in all policies"
            );
            self.faults.push((at.0, Fault::at_key(at.1, message)));
            self.rates = 0;
        }
        let wanted = RateTerms {
            key: rate.key.text.clone(),
            limit: rate.limit,
            period: rate.period,
            mitigation: rate.mitigation,
            ipv6_prefix: terms.ipv6_prefix,
        };
        let kept = before.filter(|before| *before.table.terms() == wanted).map(|before| Arc::clone(&before.table));
        let table = kept.unwrap_or_else(|| Arc::new(RateTable::new(wanted, terms.seed)));
        Rate { key: rate.key.clone(), table }
    }

    /// Policies that a `skip` names follow its own.
    fn skipped_policies(&mut self, unit: usize, units: &[(&str, &Unit)], terms: &Terms<'_>) {
        // A policy's own tests do not know the others.
        if matches!(terms.purpose, Purpose::Test) {
            return;
        }
        let later: Vec<&str> = units.iter().skip(unit + 1).map(|(_, unit)| unit.id.as_str()).collect();
        for rule in units.get(unit).into_iter().flat_map(|(_, unit)| &unit.rules) {
            let Deed::Skip(skip) = &*rule.deed else { continue };
            for (index, id) in skip.policies.iter().enumerate() {
                if id != ALL_POLICIES && !later.contains(&id.as_str()) {
                    let near = crate::diagnostic::hint(id, later.iter().copied());
                    let at = format!("{}/action/policies/{index}", rule.pointer);
                    let message = format!("no policy `{id}` follows this one{near}; `{ALL_POLICIES}` is all that do");
                    self.faults.push((unit, Fault::at(at, message)));
                }
            }
        }
    }
}
