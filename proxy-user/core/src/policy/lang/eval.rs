//! Evaluation of a typed expression. Allocates nothing unless a value longer than the stack buffer has to be put together.

use std::fmt::Write as _;

use super::MAX_VALUE_BYTES;
use super::expr::{Expr, Order, TextTest};
use super::facts::{Buffer, Facts};
use super::json_path::{Found, look_up};
use super::value::{IntTerm, Source, Text};

impl Expr {
    /// Whether the condition holds.
    pub fn holds<F: Facts>(&self, facts: &F) -> bool {
        match self {
            Self::Const(value) => *value,
            Self::Not(inner) => !inner.holds(facts),
            Self::And(list) => list.iter().all(|e| e.holds(facts)),
            Self::Or(list) => list.iter().any(|e| e.holds(facts)),
            Self::Xor(a, b) => a.holds(facts) != b.holds(facts),
            Self::Flag(field) => facts.flag(*field) == Some(true),
            Self::Int(term, set) => term.any(facts, &mut |n| set.contains(n)),
            Self::Bits(term, mask) => term.any(facts, &mut |n| n & u128::from(*mask) != 0),
            Self::Ip(field, set) => facts.ip(*field).is_some_and(|n| set.contains(n)),
            Self::Proto(set) => facts.proto().is_some_and(|proto| proto.0 & set.0 != 0),
            Self::Packet(term) => facts.packet(term),
            Self::Text(text, check) => text.any(facts, &mut |value| check.passes(value)),
            Self::All(leaf) => leaf.all(facts),
        }
    }

    /// Whether the leaf has values and all of them pass.
    fn all<F: Facts>(&self, facts: &F) -> bool {
        let mut some = false;
        let mut fails = |passes: bool| {
            some = true;
            !passes
        };
        let failed = match self {
            Self::Int(term, set) => term.any(facts, &mut |n| fails(set.contains(n))),
            Self::Bits(term, mask) => term.any(facts, &mut |n| fails(n & u128::from(*mask) != 0)),
            Self::Text(text, check) => text.any(facts, &mut |value| fails(check.passes(value))),
            other => fails(other.holds(facts)),
        };
        some && !failed
    }
}

impl IntTerm {
    /// Calls `test` with the place of each value until it says true; says whether it did.
    pub fn any<F: Facts>(&self, facts: &F, test: &mut dyn FnMut(u128) -> bool) -> bool {
        match self {
            Self::Field(field) => facts.int(*field).is_some_and(test),
            Self::Slice(place) => facts.slice(place).is_some_and(|value| test(value.into())),
            Self::Len(of) => of.any(facts, &mut |value| test(value.len() as u128)),
            Self::Count(of) => {
                let mut count = 0;
                of.any(facts, &mut |_| {
                    count += 1;
                    false
                });
                test(count)
            }
            Self::Json(of, path) => of.any(facts, &mut |value| match look_up(value, path) {
                Some(Found::Int(number)) => test(self.place(number.into())),
                _ => false,
            }),
        }
    }
}

impl Text {
    /// Calls `test` with each value, after the functions, until it says true; says whether it did.
    pub fn any<F: Facts>(&self, facts: &F, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        if self.functions.is_empty() {
            return self.source.any(facts, test);
        }
        self.source.any(facts, &mut |value| {
            let mut buffer = Buffer::from_slice(value);
            self.functions.iter().all(|function| function.apply(&mut buffer)) && test(&buffer)
        })
    }

    /// The first value.
    pub fn first<F: Facts>(&self, facts: &F) -> Option<Vec<u8>> {
        let mut found = None;
        self.any(facts, &mut |value| {
            found = Some(value.to_vec());
            true
        });
        found
    }
}

impl Source {
    fn any<F: Facts>(&self, facts: &F, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        match self {
            Self::Field(field, None) => facts.text(field, test),
            Self::Field(field, Some(index)) => {
                let mut nth = only(*index, test);
                facts.text(field, &mut nth)
            }
            Self::Literal(bytes) => test(bytes),
            Self::Number(field) => facts.int(*field).is_some_and(|number| written(number, test)),
            Self::Address(field) => {
                facts.ip(*field).is_some_and(|number| written(crate::ranges::address(number), test))
            }
            Self::Concat(parts) => concat(parts, facts, &mut Buffer::new(), test),
            Self::Join(of, between) => {
                let mut joined: Option<Buffer> = None;
                of.any(facts, &mut |value| {
                    match &mut joined {
                        None => joined = Some(Buffer::from_slice(value)),
                        Some(joined) => {
                            joined.extend_from_slice(between);
                            joined.extend_from_slice(value);
                        }
                    }
                    joined.as_ref().is_some_and(|joined| joined.len() > MAX_VALUE_BYTES)
                });
                joined.is_some_and(|mut joined| {
                    joined.truncate(MAX_VALUE_BYTES);
                    test(&joined)
                })
            }
            Self::Split { of, at, most, index: None } => of.any(facts, &mut |value| split(value, at, *most, test)),
            Self::Split { of, at, most, index: Some(index) } => {
                of.any(facts, &mut |value| split(value, at, *most, &mut only(*index, test)))
            }
        }
    }
}

/// Hands on the value of this place only.
fn only(index: usize, test: &mut dyn FnMut(&[u8]) -> bool) -> impl FnMut(&[u8]) -> bool {
    let mut place = 0_usize;
    move |value| {
        place += 1;
        place - 1 == index && test(value)
    }
}

fn written(what: impl std::fmt::Display, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    let mut shown = String::new();
    // Writing to a string does not fail.
    let _ = write!(shown, "{what}");
    test(shown.as_bytes())
}

/// The parts put together behind `so_far`; one of them may have several values.
fn concat<F: Facts>(parts: &[Text], facts: &F, so_far: &mut Buffer, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    let Some((first, rest)) = parts.split_first() else { return test(so_far) };
    first.any(facts, &mut |value| {
        let before = so_far.len();
        let room = MAX_VALUE_BYTES.saturating_sub(before).min(value.len());
        so_far.extend_from_slice(value.get(..room).unwrap_or_default());
        let passed = concat(rest, facts, so_far, test);
        so_far.truncate(before);
        passed
    })
}

fn split(value: &[u8], at: &[u8], most: usize, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    let mut rest = value;
    for _ in 1..most {
        let Some(place) = memchr::memmem::find(rest, at) else { break };
        let (part, behind) = rest.split_at(place);
        if test(part) {
            return true;
        }
        rest = behind.get(at.len()..).unwrap_or_default();
    }
    test(rest)
}

impl TextTest {
    /// Whether the value passes.
    pub fn passes(&self, value: &[u8]) -> bool {
        match self {
            Self::Equal(wanted) => value == &**wanted,
            Self::NotEqual(other) => value != &**other,
            Self::Order(order, other) => order.holds(value, other),
            Self::In(set) => set.contains(value),
            Self::Contains(finder) => finder.find(value).is_some(),
            Self::StartsWith(start) => value.starts_with(start),
            Self::EndsWith(end) => value.ends_with(end),
            Self::Matches(regex) => regex.is_match(value),
            Self::Wildcard(pattern) => pattern.matches(value),
        }
    }
}

impl Order {
    fn holds(self, a: &[u8], b: &[u8]) -> bool {
        match self {
            Self::Less => a < b,
            Self::LessEqual => a <= b,
            Self::Greater => a > b,
            Self::GreaterEqual => a >= b,
        }
    }
}
