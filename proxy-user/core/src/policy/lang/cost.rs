//! What evaluating an expression can cost, computed from the expression alone, and its order by that.
//!
//! One unit is about a nanosecond. Strings are taken to be [`NOMINAL_BYTES`] long and fields with several values to have
//! [`NOMINAL_VALUES`]; nothing is taken to end early. So it is no worst case of a hostile request, which `limits` of the
//! config bound, but it grows with what a rule asks for.

use super::MAX_URL_DECODES;
use super::expr::{Expr, TextTest};
use super::field::TextField;
use super::value::{Function, IntTerm, Source, Text};

/// Bytes of a string.
const NOMINAL_BYTES: u64 = 256;
/// Bytes of a body.
const NOMINAL_BODY_BYTES: u64 = 16_384;
/// Values of a field that may have several.
const NOMINAL_VALUES: u64 = 8;
/// A look-up of a field, a comparison, a step of the evaluator.
const STEP: u64 = 5;
/// A pass that copies a string.
const COPY: u64 = NOMINAL_BYTES / 4;
/// A pass that looks at each byte.
const PASS: u64 = NOMINAL_BYTES;
/// A search by regular expression.
const REGEX: u64 = 4 * NOMINAL_BYTES;
/// Reading JSON, in one pass.
const JSON: u64 = 8 * NOMINAL_BYTES;

impl Expr {
    /// Units of one evaluation.
    pub fn cost(&self) -> u64 {
        match self {
            Self::Const(_) => 0,
            Self::Not(inner) | Self::All(inner) => inner.cost(),
            Self::And(list) | Self::Or(list) => list.iter().map(Self::cost).sum(),
            Self::Xor(a, b) => a.cost() + b.cost(),
            Self::Flag(_) | Self::Proto(_) | Self::Packet(_) => STEP,
            Self::Int(term, set) => term.cost() + STEP + search(set.ranges().len()),
            Self::Bits(term, _) => term.cost() + STEP,
            Self::Ip(_, set) => 2 * STEP + search(set.ranges().len()),
            Self::Text(value, test) => value.cost() + value.values() * value.scale() * test.cost(),
        }
    }

    /// The same condition with what costs less asked first, wherever the order does not matter.
    #[must_use]
    pub fn cheapest_first(self) -> Self {
        let sorted = |list: Vec<Self>| {
            let mut list: Vec<Self> = list.into_iter().map(Self::cheapest_first).collect();
            list.sort_by_cached_key(Self::cost);
            list
        };
        match self {
            Self::And(list) => Self::And(sorted(list)),
            Self::Or(list) => Self::Or(sorted(list)),
            Self::Not(inner) => Self::Not(Box::new(inner.cheapest_first())),
            Self::Xor(a, b) => Self::Xor(Box::new(a.cheapest_first()), Box::new(b.cheapest_first())),
            leaf => leaf,
        }
    }
}

/// Steps of a binary search.
fn search(items: usize) -> u64 {
    u64::from(items.max(1).ilog2()) * 2
}

impl IntTerm {
    /// Units of one evaluation.
    pub fn cost(&self) -> u64 {
        match self {
            Self::Field(_) | Self::Slice(_) => STEP,
            Self::Len(text) | Self::Count(text) => STEP + text.cost(),
            Self::Json(text, _) => text.cost() + text.values() * text.scale() * JSON,
        }
    }
}

impl Text {
    /// Units of one evaluation.
    pub fn cost(&self) -> u64 {
        let source = match &self.source {
            Source::Field(..) => STEP * self.values(),
            Source::Literal(_) => STEP,
            Source::Number(_) | Source::Address(_) => 2 * PASS / 4,
            Source::Concat(parts) => parts.iter().map(|part| part.cost() + COPY * self.values()).sum(),
            Source::Join(of, _) => of.cost() + of.values() * COPY,
            Source::Split { of, .. } => of.cost() + PASS,
        };
        let functions: u64 = self.functions.iter().map(Function::cost).sum();
        // A value that is changed is copied first.
        let copied = if self.functions.is_empty() { 0 } else { COPY };
        source + self.values() * self.scale() * (functions + copied)
    }

    /// How many times as long as other strings its values are taken to be.
    fn scale(&self) -> u64 {
        match &self.source {
            Source::Field(TextField::Body, _) => NOMINAL_BODY_BYTES / NOMINAL_BYTES,
            Source::Concat(parts) => parts.iter().map(Self::scale).max().unwrap_or(1),
            Source::Join(of, _) | Source::Split { of, .. } => of.scale(),
            _ => 1,
        }
    }

    fn values(&self) -> u64 {
        match &self.source {
            Source::Field(field, None) if field.is_many() => NOMINAL_VALUES,
            Source::Concat(parts) => parts.iter().map(Self::values).max().unwrap_or(1),
            Source::Split { most, index: None, .. } => *most as u64,
            _ => 1,
        }
    }
}

impl Function {
    fn cost(&self) -> u64 {
        match self {
            Self::Lower | Self::Upper | Self::Substring(..) => PASS / 4,
            Self::UrlDecode { recursive, unicode } => {
                let pass = if *unicode { 4 * PASS } else { 2 * PASS };
                if *recursive { MAX_URL_DECODES as u64 * pass } else { pass }
            }
            Self::RemoveBytes(bytes) => PASS + PASS * bytes.len() as u64 / 4,
            Self::RemoveArgs(names) => PASS + PASS * names.len() as u64 / 4,
            Self::DecodeBase64 | Self::EncodeBase64 | Self::Sha256 => 8 * PASS,
            Self::JsonString(_) => JSON,
            Self::Replace(..) => 2 * REGEX,
        }
    }
}

impl TextTest {
    fn cost(&self) -> u64 {
        match self {
            Self::Equal(_) | Self::NotEqual(_) | Self::Order(..) | Self::StartsWith(_) | Self::EndsWith(_) => STEP,
            Self::In(_) | Self::Contains(_) => PASS / 4,
            Self::Wildcard(pattern) => STEP + pattern.pieces().len().saturating_sub(2) as u64 * PASS,
            Self::Matches(_) => REGEX,
        }
    }
}
