//! Guards of conditions: atoms of which at least one holds whenever the condition does.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::literals;
use crate::policy::lang::{
    Expr, Function, HttpInt, IntField, IntTerm, IpField, Source, Text, TextField, TextTest, Wildcard,
};
use crate::ranges::{RangeSet, V4_FIRST, V4_LAST};

/// Sets of more strings are asked as they are, not copied into a table.
const MAX_COPIED: usize = 1_024;
/// Most atoms of one guard; a condition with more alternatives is asked each time.
const MAX_ATOMS: usize = 4_096;
/// A guard that holds for more than this share of requests is worth no look-up.
const USELESS: f64 = 0.9;

/// Something that is looked up for all rules at once. It may hold where the comparison it comes from does not, never
/// the other way round.
#[derive(Clone, Debug)]
pub(super) enum Atom<'e> {
    /// One of the values of a string is found by the probe.
    Text { value: Text, probe: Probe },
    /// One of the numbers is in the set.
    Number(&'e IntTerm, &'e RangeSet),
    /// The address is in the set.
    Address(IpField, &'e RangeSet),
}

/// How a string is looked for. Literals are in ASCII lower case, and case does not count.
#[derive(Clone, Debug)]
pub(super) enum Probe {
    Equal(Vec<u8>),
    Contains(Vec<u8>),
    Prefix(Vec<u8>),
    Suffix(Vec<u8>),
    /// As the value is, case included.
    List(Arc<HashSet<Box<[u8]>>>),
}

/// Atoms, and the share of requests that at least one of them likely holds for.
#[derive(Clone, Debug)]
pub(super) struct Guard<'e> {
    pub atoms: Vec<Atom<'e>>,
    pub share: f64,
}

impl Atom<'_> {
    /// The same for atoms that are the same.
    pub fn key(&self) -> String {
        match self {
            Self::Text { value, probe: Probe::List(list) } => format!("{value:?} {:p}", Arc::as_ptr(list)),
            Self::Number(term, set) => format!("{term:?} {:?}", set.ranges().iter().take(8).collect::<Vec<_>>()),
            Self::Address(field, set) => format!("{field:?} {:?}", set.ranges().iter().take(8).collect::<Vec<_>>()),
            Self::Text { .. } => format!("{self:?}"),
        }
    }

    /// Share of requests that it likely holds for, if no other rule tells.
    fn share(&self) -> f64 {
        match self {
            Self::Text { value, probe } => {
                let few = match &value.source {
                    Source::Field(TextField::Method | TextField::Version | TextField::Scheme, _) => 0.5,
                    Source::Field(TextField::Host | TextField::Listener | TextField::HeaderNames, _) => 0.2,
                    _ => 0.0,
                };
                let found: f64 = match probe {
                    Probe::Equal(_) => 0.001,
                    Probe::List(_) => 0.02,
                    Probe::Prefix(text) | Probe::Suffix(text) | Probe::Contains(text) => match text.len() {
                        0 => 1.0,
                        1 => 0.6,
                        2 => 0.15,
                        3 => 0.05,
                        _ => 0.002,
                    },
                };
                found.max(few)
            }
            Self::Number(IntTerm::Field(IntField::TcpDst | IntField::UdpDst), _) => 0.5,
            Self::Number(_, set) => 0.01 + if set.ranges().iter().all(|(low, high)| low == high) { 0.02 } else { 0.3 },
            Self::Address(_, set) => {
                let part = |(low, high): &(u128, u128)| {
                    let (low, high) = ((*low).max(V4_FIRST), (*high).min(V4_LAST));
                    high.checked_sub(low)
                        .map_or(0.0, |more| f64::from(u32::try_from(more).unwrap_or(u32::MAX)) / f64::from(u32::MAX))
                };
                let all = set.ranges().iter().any(|(low, high)| high - low > 1 << 124);
                if all { 1.0 } else { (0.001 + set.ranges().iter().map(part).sum::<f64>()).min(1.0) }
            }
        }
    }
}

/// The one of two guards that fewer requests get past.
pub(super) fn better<'e>(a: Option<Guard<'e>>, b: Option<Guard<'e>>) -> Option<Guard<'e>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.share < a.share { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// The best guard of a condition; `shared` says in how many rules an atom stands.
pub(super) fn guard<'e>(expr: &'e Expr, shared: &HashMap<String, u32>) -> Option<Guard<'e>> {
    of(expr, false, shared).filter(|guard| guard.share < USELESS && guard.atoms.len() <= MAX_ATOMS)
}

fn of<'e>(expr: &'e Expr, negated: bool, shared: &HashMap<String, u32>) -> Option<Guard<'e>> {
    match expr {
        Expr::Const(value) if *value == negated => Some(Guard { atoms: Vec::new(), share: 0.0 }),
        Expr::Not(inner) => of(inner, !negated, shared),
        Expr::And(list) if !negated => best(list, negated, shared),
        Expr::Or(list) if negated => best(list, negated, shared),
        Expr::And(list) | Expr::Or(list) => {
            list.iter().map(|e| of(e, negated, shared)).try_fold(Guard { atoms: Vec::new(), share: 0.0 }, either)
        }
        Expr::Xor(a, b) => {
            let first = better(of(a, false, shared), of(b, !negated, shared));
            let second = better(of(a, true, shared), of(b, negated, shared));
            either(first?, second)
        }
        Expr::All(leaf) if !negated => of(leaf, false, shared),
        leaf if !negated => {
            let guards = options(leaf).into_iter().map(|atoms| {
                let share = |atom: &Atom<'_>| {
                    let others = shared.get(&atom.key()).copied().unwrap_or(1);
                    (atom.share() * f64::from(others.max(1))).min(0.8).max(atom.share())
                };
                let passes = atoms.iter().fold(1.0, |none, atom| none * (1.0 - share(atom)));
                Some(Guard { atoms, share: 1.0 - passes })
            });
            guards.fold(None, better)
        }
        // A missing value makes the negation of a comparison true.
        _ => None,
    }
}

fn best<'e>(list: &'e [Expr], negated: bool, shared: &HashMap<String, u32>) -> Option<Guard<'e>> {
    list.iter().map(|e| of(e, negated, shared)).fold(None, better)
}

fn either<'e>(mut a: Guard<'e>, b: Option<Guard<'e>>) -> Option<Guard<'e>> {
    let b = b?;
    a.atoms.extend(b.atoms);
    a.share = 1.0 - (1.0 - a.share) * (1.0 - b.share);
    Some(a)
}

/// Calls `see` with every atom that a guard of the condition might have.
pub(super) fn each_atom<'e>(expr: &'e Expr, see: &mut dyn FnMut(Atom<'e>)) {
    match expr {
        Expr::Not(inner) | Expr::All(inner) => each_atom(inner, see),
        Expr::And(list) | Expr::Or(list) => list.iter().for_each(|e| each_atom(e, see)),
        Expr::Xor(a, b) => {
            each_atom(a, see);
            each_atom(b, see);
        }
        leaf => options(leaf).into_iter().flatten().for_each(see),
    }
}

/// Ways to guard one comparison, each a list of atoms.
fn options(leaf: &Expr) -> Vec<Vec<Atom<'_>>> {
    match leaf {
        Expr::Ip(field, set) => vec![vec![Atom::Address(*field, set)]],
        // Known once the rules before have been asked.
        Expr::Int(IntTerm::Field(IntField::Http(HttpInt::Score)), _) => Vec::new(),
        Expr::Int(term, set) => vec![vec![Atom::Number(term, set)]],
        Expr::Text(value, test) => probes(value, test),
        _ => Vec::new(),
    }
}

fn probes<'e>(of: &Text, test: &TextTest) -> Vec<Vec<Atom<'e>>> {
    let value = without_index(of);
    // Case does not count for literals, so that functions of case may be left out.
    let mut plain = value.clone();
    while matches!(plain.functions.last(), Some(Function::Lower | Function::Upper)) {
        plain.functions.pop();
    }
    let atom = |probe| Atom::Text { value: plain.clone(), probe };
    let fold = |bytes: &[u8]| bytes.to_ascii_lowercase();
    match test {
        TextTest::Equal(literal) => vec![vec![atom(Probe::Equal(fold(literal)))]],
        TextTest::In(list) if list.len() <= MAX_COPIED => {
            vec![list.iter().map(|item| atom(Probe::Equal(fold(item)))).collect()]
        }
        TextTest::In(list) => vec![vec![Atom::Text { value, probe: Probe::List(Arc::clone(list)) }]],
        TextTest::Contains(finder) => vec![vec![atom(Probe::Contains(fold(finder.needle())))]],
        TextTest::StartsWith(start) => vec![vec![atom(Probe::Prefix(fold(start)))]],
        TextTest::EndsWith(end) => vec![vec![atom(Probe::Suffix(fold(end)))]],
        TextTest::Wildcard(pattern) => wildcard(pattern).into_iter().map(|probe| vec![atom(probe)]).collect(),
        TextTest::Matches(regex) => match literals::required(regex.as_str()) {
            Some(found) => vec![found.into_iter().map(|literal| atom(Probe::Contains(literal))).collect()],
            None => Vec::new(),
        },
        TextTest::NotEqual(_) | TextTest::Order(..) => Vec::new(),
    }
}

/// Whichever of several values is meant, it is among all of them.
fn without_index(text: &Text) -> Text {
    let source = match &text.source {
        Source::Field(field, Some(_)) => Source::Field(field.clone(), None),
        Source::Split { of, at, most, index: Some(_) } => {
            Source::Split { of: of.clone(), at: at.clone(), most: *most, index: None }
        }
        other => other.clone(),
    };
    Text { source, functions: text.functions.clone() }
}

fn wildcard(pattern: &Wildcard) -> Vec<Probe> {
    let fold = |piece: &[u8]| piece.to_ascii_lowercase();
    match pattern.pieces() {
        [whole] => vec![Probe::Equal(fold(whole))],
        [first, middle @ .., last] => {
            let mut found = vec![Probe::Prefix(fold(first)), Probe::Suffix(fold(last))];
            found.extend(middle.iter().map(|piece| Probe::Contains(fold(piece))));
            found
        }
        [] => Vec::new(),
    }
}
