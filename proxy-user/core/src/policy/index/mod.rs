//! Which request rules can hold for a request at all, found by a few look-ups instead of asking each rule.
//!
//! Every condition that allows it is given a *guard*: atoms of which one has to hold for the condition to hold. Atoms of
//! all rules on the same value share a hash table, an automaton or a table of ranges. What the look-ups find are
//! candidates; the rules themselves are asked then, in their order, so that nothing here decides. A rule without a guard
//! (one of negations only) is a candidate always.

mod guard;
mod literals;
mod segments;
mod subject;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use proxy_common::abi::MAX_RULE_SLOTS;
use smallvec::SmallVec;

use super::lang::{Expr, Facts, IntTerm, IpField};
use guard::{Atom, guard};
use segments::Segments;
use subject::Subject;

/// Sets of fewer rules are asked one by one.
const MIN_RULES: usize = 8;
/// Words of 64 candidates that take no allocation: as many as rules have slots.
const INLINE_WORDS: usize = MAX_RULE_SLOTS as usize / 64;

/// One bit a rule.
pub(super) type Candidates = SmallVec<[u64; INLINE_WORDS]>;

/// The look-ups of one set of rules.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Rules that are candidates whatever the request is.
    always: Vec<u64>,
    texts: Vec<Subject>,
    numbers: Vec<(IntTerm, Segments)>,
    addresses: Vec<(IpField, Segments)>,
}

impl Index {
    /// For conditions in this order; each may come with what else has to hold (its policy's scope).
    pub fn new(rules: &[(&Expr, Option<&Expr>)]) -> Self {
        let mut index = Self { always: vec![0; rules.len().div_ceil(64)], ..Self::default() };
        if rules.len() < MIN_RULES {
            (0..rules.len()).for_each(|rule| set(&mut index.always, rule));
            return index;
        }
        let shared = sharing(rules);
        let mut build = Build::default();
        for (rule, (when, scope)) in rules.iter().enumerate() {
            let own = guard(when, &shared);
            let scope = scope.and_then(|scope| guard(scope, &shared));
            match guard::better(own, scope) {
                Some(guard) => guard.atoms.into_iter().for_each(|atom| build.add(atom, rule)),
                None => set(&mut index.always, rule),
            }
        }
        build.finish(&mut index);
        index
    }

    /// The rules that may hold.
    pub fn candidates<F: Facts>(&self, facts: &F) -> Candidates {
        let mut found = Candidates::from_slice(&self.always);
        for (field, segments) in &self.addresses {
            if let Some(number) = facts.ip(*field) {
                mark(&mut found, segments.find(number));
            }
        }
        for (term, segments) in &self.numbers {
            term.any(facts, &mut |number| {
                mark(&mut found, segments.find(number));
                false
            });
        }
        for subject in &self.texts {
            subject.value.any(facts, &mut |value| {
                subject.find(value, &mut |rules| mark(&mut found, rules));
                false
            });
        }
        found
    }
}

/// Atoms by what they look at.
#[derive(Default)]
struct Build {
    texts: BTreeMap<String, subject::Build>,
    numbers: BTreeMap<String, (Option<IntTerm>, segments::Build)>,
    addresses: Vec<(IpField, segments::Build)>,
}

impl Build {
    fn add(&mut self, atom: Atom<'_>, rule: usize) {
        let rule = rule as u32;
        match atom {
            Atom::Text { value, probe } => {
                let build = self.texts.entry(format!("{value:?}")).or_insert_with(|| subject::Build::new(value));
                build.add(probe, rule);
            }
            Atom::Number(term, numbers) => {
                let (kept, build) = self.numbers.entry(format!("{term:?}")).or_default();
                kept.get_or_insert_with(|| term.clone());
                build.add(numbers, rule);
            }
            Atom::Address(field, addresses) => {
                let place = self.addresses.iter().position(|(known, _)| *known == field).unwrap_or_else(|| {
                    self.addresses.push((field, segments::Build::default()));
                    self.addresses.len() - 1
                });
                if let Some((_, build)) = self.addresses.get_mut(place) {
                    build.add(addresses, rule);
                }
            }
        }
    }

    /// Tables that would grow beyond their bound are left out: their rules are candidates always.
    fn finish(self, index: &mut Index) {
        for build in self.texts.into_values() {
            match build.finish() {
                Ok(subject) => index.texts.push(subject),
                Err(rules) => mark(&mut index.always, &rules),
            }
        }
        for (term, build) in self.numbers.into_values() {
            match (term, build.finish()) {
                (Some(term), Ok(segments)) => index.numbers.push((term, segments)),
                (_, Err(rules)) => mark(&mut index.always, &rules),
                (None, Ok(_)) => {}
            }
        }
        for (field, build) in self.addresses {
            match build.finish() {
                Ok(segments) => index.addresses.push((field, segments)),
                Err(rules) => mark(&mut index.always, &rules),
            }
        }
    }
}

/// How many rules could be guarded by each atom: one that all rules share tells nothing.
fn sharing(rules: &[(&Expr, Option<&Expr>)]) -> HashMap<String, u32> {
    let mut counts = HashMap::new();
    for (when, _) in rules {
        guard::each_atom(when, &mut |atom| *counts.entry(atom.key()).or_insert(0) += 1);
    }
    counts
}

/// Puts a rule into a set.
pub(super) fn set(words: &mut [u64], rule: usize) {
    if let Some(word) = words.get_mut(rule / 64) {
        *word |= 1 << (rule % 64);
    }
}

fn mark(words: &mut [u64], rules: &[u32]) {
    for rule in rules {
        set(words, *rule as usize);
    }
}

/// The first rule of a set from a place on.
pub(super) fn next_set(words: &[u64], from: usize) -> Option<usize> {
    let mut place = from / 64;
    let mut word = words.get(place)? & u64::MAX << (from % 64);
    while word == 0 {
        place += 1;
        word = *words.get(place)?;
    }
    Some(place * 64 + word.trailing_zeros() as usize)
}

/// Takes a rule out of a set.
pub(super) fn clear(words: &mut [u64], rule: usize) {
    if let Some(word) = words.get_mut(rule / 64) {
        *word &= !(1 << (rule % 64));
    }
}
