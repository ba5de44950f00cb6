//! Evaluation of a typed expression. Allocates nothing unless a value longer than the stack buffer has to be rewritten.

use super::expr::{Expr, Function, IntTerm, Order, Text, TextTest};
use super::facts::{Buffer, Facts};

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
            Self::Int(IntTerm::Field(field), set) => facts.int(*field).is_some_and(|n| set.contains(n)),
            Self::Int(IntTerm::Len(text), set) => text.any(facts, &mut |value| set.contains(value.len() as u128)),
            Self::Ip(field, set) => facts.ip(*field).is_some_and(|n| set.contains(n)),
            Self::Proto(set) => facts.proto().is_some_and(|proto| proto.0 & set.0 != 0),
            Self::Text(text, check) => text.any(facts, &mut |value| check.passes(value)),
        }
    }
}

impl Text {
    /// Whether one of the values, after the functions, passes.
    fn any<F: Facts>(&self, facts: &F, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let mut place = 0_usize;
        facts.text(&self.field, &mut |value| {
            let here = place;
            place += 1;
            if self.index.is_some_and(|wanted| wanted != here) {
                return false;
            }
            if self.functions.is_empty() {
                return test(value);
            }
            let mut buffer = Buffer::from_slice(value);
            for function in &self.functions {
                function.apply(&mut buffer);
            }
            test(&buffer)
        })
    }
}

impl Function {
    fn apply(self, value: &mut Buffer) {
        match self {
            Self::Lower => value.make_ascii_lowercase(),
            Self::Upper => value.make_ascii_uppercase(),
            Self::UrlDecode => {
                for byte in value.iter_mut().filter(|byte| **byte == b'+') {
                    *byte = b' ';
                }
                let decoded: Buffer = percent_encoding::percent_decode(value).collect();
                *value = decoded;
            }
        }
    }
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
