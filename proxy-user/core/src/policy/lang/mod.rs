//! The expression language of `when`: a subset of Cloudflare's Rules language. Text in, typed expression out; it knows
//! nothing of policies. All costs are bounded here.
//!
//! A field that a request or packet does not have is missing, which is not the same as empty: every comparison on a
//! missing value is false, `ne` too. `not` turns that into true.

mod answered;
mod call;
mod compare;
mod cost;
mod eval;
mod expr;
mod facts;
mod field;
mod function;
mod hello;
mod json_path;
mod key;
mod lexer;
mod link;
mod members;
mod names;
mod operand;
mod packet;
mod parser;
pub(crate) mod signature;
mod value;
mod wildcard;

#[cfg(test)]
mod tests;

pub(crate) use answered::Answered;
pub(crate) use expr::{Expr, Phases, TextTest};
pub(crate) use facts::Facts;
pub(crate) use field::{
    Availability, CertField, Field, FlagField, HelloField, HttpInt, IntField, IpField, PacketField, TextField, Type,
};
pub(crate) use function::encode_base64;
pub(crate) use key::{KeyPart, KeyValue};
pub(crate) use names::{KNOWN_FIELDS, unfed};
pub(crate) use packet::{PacketTerm, Place};
pub(crate) use parser::{Lists, NamedList, parse, parse_key, parse_value};
pub(crate) use value::{Function, IntTerm, ProtoSet, Source, Text};
pub(crate) use wildcard::Wildcard;

/// Most bytes of one expression.
pub const MAX_EXPRESSION_BYTES: usize = 16_384;
/// Deepest nesting of parentheses, `not` and functions.
pub const MAX_DEPTH: usize = 64;
/// Most comparisons and operators of one expression.
pub const MAX_NODES: usize = 1_024;
/// Most items of one `{…}`; longer ones belong into a list.
pub const MAX_SET_ITEMS: usize = 1_024;
/// Most bytes of one compiled regular expression, and again of what a thread keeps to run it.
pub const MAX_REGEX_BYTES: usize = 1 << 20;
/// Most `*` of one wildcard pattern.
pub const MAX_WILDCARDS: usize = 16;
/// Most `$` of the replacement of `regex_replace` and `wildcard_replace`.
pub const MAX_REFERENCES: usize = 16;
/// Most parts that `split` makes.
pub const MAX_SPLITS: usize = 128;
/// Most passes of `url_decode(…, "r")`.
pub const MAX_URL_DECODES: usize = 10;
/// Longest value that functions put together; what goes beyond is cut off.
pub const MAX_VALUE_BYTES: usize = 65_536;
/// Most languages that `http.request.accepted_languages` has.
pub const MAX_LANGUAGES: usize = 32;

/// What is wrong in an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LangError {
    /// First byte that is meant.
    pub at: usize,
    /// Behind the last byte that is meant.
    pub end: usize,
    /// What was found and what was expected.
    pub message: String,
}

impl LangError {
    /// About `span`.
    pub fn new(span: (usize, usize), message: impl Into<String>) -> Self {
        Self { at: span.0, end: span.1, message: message.into() }
    }

    /// The message, and below it the line of the expression with the place marked.
    pub fn render(&self, expression: &str) -> String {
        /// More of a long line than this many characters before the place is left out.
        const BEFORE: usize = 60;
        const SHOWN: usize = 100;
        let start = expression.get(..self.at).map_or(0, |before| before.rfind('\n').map_or(0, |n| n + 1));
        let line = expression.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let before = expression.get(start..self.at).map_or(0, |text| text.chars().count());
        let width = expression.get(self.at..self.end).map_or(1, |text| text.chars().count()).max(1);
        let cut = before.saturating_sub(BEFORE);
        let shown: String = line.chars().skip(cut).take(SHOWN).map(|c| if c == '\t' { ' ' } else { c }).collect();
        let marks = "^".repeat(width.min(SHOWN.saturating_sub(before - cut)).max(1));
        format!("{}\n    {shown}\n    {}{marks}", self.message, " ".repeat(before - cut))
    }
}
