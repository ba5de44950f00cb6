//! Many literals looked for in one value: whole ones in a hash table, parts in one automaton.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use smallvec::SmallVec;

use super::guard::Probe;
use crate::policy::lang::Text;

/// Up to this many bytes of literals the automaton is a table of transitions; beyond, a more compact form.
const MAX_DFA_BYTES: usize = 16_384;
/// Bytes of a value that are folded to lower case on the stack.
const INLINE_BYTES: usize = 256;

/// Rules by literal.
type Rules = Box<[u32]>;
/// A list of a policy.
type List = Arc<HashSet<Box<[u8]>>>;

/// One value and all that is looked for in it.
#[derive(Debug)]
pub(super) struct Subject {
    pub value: Text,
    /// By literal in lower case.
    equal: HashMap<Box<[u8]>, Rules>,
    /// Lengths in `equal`; bit 63 stands for all beyond.
    lengths: u64,
    parts: Option<Parts>,
    lists: Vec<(List, Rules)>,
}

#[derive(Debug)]
struct Parts {
    automaton: AhoCorasick,
    /// By pattern: who wants it at the start, at the end, and anywhere.
    wanted: Vec<[Rules; 3]>,
}

const AT_START: usize = 0;
const AT_END: usize = 1;
const ANYWHERE: usize = 2;

impl Subject {
    /// Calls `found` with the rules of each literal that is in the value.
    pub fn find(&self, value: &[u8], found: &mut dyn FnMut(&[u32])) {
        if self.lengths & length_bit(value.len()) != 0 {
            let mut folded: SmallVec<[u8; INLINE_BYTES]> = SmallVec::from_slice(value);
            folded.make_ascii_lowercase();
            if let Some(rules) = self.equal.get(&*folded) {
                found(rules);
            }
        }
        if let Some(parts) = &self.parts {
            for hit in parts.automaton.find_overlapping_iter(value) {
                let Some([start, end, anywhere]) = parts.wanted.get(hit.pattern().as_usize()) else { continue };
                if hit.start() == 0 && !start.is_empty() {
                    found(start);
                }
                if hit.end() == value.len() && !end.is_empty() {
                    found(end);
                }
                if !anywhere.is_empty() {
                    found(anywhere);
                }
            }
        }
        for (list, rules) in &self.lists {
            if list.contains(value) {
                found(rules);
            }
        }
    }
}

const fn length_bit(length: usize) -> u64 {
    1 << if length < 63 { length } else { 63 }
}

/// Literals of one value and their rules.
#[derive(Debug)]
pub(super) struct Build {
    value: Text,
    equal: BTreeMap<Vec<u8>, Vec<u32>>,
    parts: BTreeMap<Vec<u8>, [Vec<u32>; 3]>,
    lists: Vec<(List, Vec<u32>)>,
}

impl Build {
    pub fn new(value: Text) -> Self {
        Self { value, equal: BTreeMap::new(), parts: BTreeMap::new(), lists: Vec::new() }
    }

    pub fn add(&mut self, probe: Probe, rule: u32) {
        let (literal, place) = match probe {
            Probe::Equal(literal) => return self.equal.entry(literal).or_default().push(rule),
            Probe::List(list) => {
                match self.lists.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &list)) {
                    Some((_, rules)) => rules.push(rule),
                    None => self.lists.push((list, vec![rule])),
                }
                return;
            }
            Probe::Prefix(literal) => (literal, AT_START),
            Probe::Suffix(literal) => (literal, AT_END),
            Probe::Contains(literal) => (literal, ANYWHERE),
        };
        if let Some(rules) = self.parts.entry(literal).or_default().get_mut(place) {
            rules.push(rule);
        }
    }

    /// The tables, or the rules if the automaton would be too large.
    pub fn finish(self) -> Result<Subject, Vec<u32>> {
        let lengths = self.equal.keys().fold(0, |bits, literal| bits | length_bit(literal.len()));
        let parts = if self.parts.is_empty() {
            None
        } else {
            let bytes: usize = self.parts.keys().map(Vec::len).sum();
            let kind = if bytes <= MAX_DFA_BYTES { AhoCorasickKind::DFA } else { AhoCorasickKind::ContiguousNFA };
            let automaton = AhoCorasick::builder()
                .match_kind(MatchKind::Standard)
                .ascii_case_insensitive(true)
                .kind(Some(kind))
                .build(self.parts.keys());
            let Ok(automaton) = automaton else {
                let parts = self.parts.into_values().flatten().flatten();
                let lists = self.lists.into_iter().flat_map(|(_, rules)| rules);
                return Err(self.equal.into_values().flatten().chain(parts).chain(lists).collect());
            };
            let wanted = self.parts.into_values().map(|places| places.map(Vec::into_boxed_slice)).collect();
            Some(Parts { automaton, wanted })
        };
        let boxed = |(literal, rules): (Vec<u8>, Vec<u32>)| (literal.into_boxed_slice(), rules.into_boxed_slice());
        Ok(Subject {
            value: self.value,
            equal: self.equal.into_iter().map(boxed).collect(),
            lengths,
            parts,
            lists: self.lists.into_iter().map(|(list, rules)| (list, rules.into_boxed_slice())).collect(),
        })
    }
}
