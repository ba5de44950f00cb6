//! Parsing of what stands left of an operator: a field and its index. Functions around it are [`super::call`]'s.

use http::HeaderName;

use super::LangError;
use super::call::{CONDITIONS, FUNCTIONS};
use super::field::{Field, FlagField, IpField, TextField, Type};
use super::lexer::{Span, Token};
use super::names::{KNOWN_FIELDS, unfed};
use super::packet::PacketOperand;
use super::parser::Parser;
use super::value::{IntTerm, Source, Text};
use crate::diagnostic::hint;

/// What stands left of an operator.
pub(super) struct Operand {
    pub kind: OperandKind,
    pub span: Span,
    /// `[*]` was written.
    pub each: bool,
    /// One of several values is meant, but none was named by `[0]` or `[*]`.
    pub open: bool,
}

pub(super) enum OperandKind {
    /// An address, or its network of so many bits (IPv4, IPv6).
    Ip(IpField, Option<(u8, u8)>),
    Int(IntTerm),
    Flag(FlagField),
    Proto,
    Packet(PacketOperand),
    Text(Text),
}

impl Operand {
    /// `[*]` and `any(…)` or `all(…)` need each other.
    pub fn check_each(&self, within: Option<&str>) -> Result<(), LangError> {
        match (within, self.each) {
            (None, true) => Err(LangError::new(self.span, "`[*]` stands inside `any(…)` and `all(…)` only")),
            (Some(name), false) => {
                let message = format!("`{name}(…)` needs several values: write `[*]` behind the field");
                Err(LangError::new(self.span, message))
            }
            _ => Ok(()),
        }
    }

    /// Type, with article.
    pub fn type_name(&self) -> &'static str {
        match self.kind {
            OperandKind::Ip(..) => Type::Ip,
            OperandKind::Int(_) => Type::Int,
            OperandKind::Flag(_) => Type::Bool,
            OperandKind::Proto | OperandKind::Packet(_) | OperandKind::Text(_) => Type::Text,
        }
        .name()
    }
}

impl Parser<'_> {
    /// A field, or a function of one.
    pub(super) fn operand(&mut self) -> Result<Operand, LangError> {
        let (token, span) = self.next();
        let name = match token {
            Token::Name(name) => name,
            Token::End => return Err(LangError::new(span, "the expression ends where a field is expected")),
            other => {
                let message =
                    format!("found {}, expected a field; fields stand left of the operator", other.describe());
                return Err(LangError::new(span, message));
            }
        };
        if self.peek() == &Token::Sign("(") {
            return self.call(&name, span);
        }
        let Some(field) = Field::by_name(&name) else { return Err(unknown_field(&name, span)) };
        let kind = match field {
            Field::Ip(field) => OperandKind::Ip(field, None),
            Field::Int(field) => OperandKind::Int(IntTerm::Field(field)),
            Field::Flag(field) => OperandKind::Flag(field),
            Field::Proto => OperandKind::Proto,
            Field::Packet(field) => {
                let kind = OperandKind::Packet(self.packet_operand(field, &name)?);
                return Ok(Operand { kind, span: (span.0, self.end()), each: false, open: false });
            }
            Field::Text(field) => return self.indexed(field, span),
            Field::Headers | Field::Args | Field::Cookies | Field::ResponseHeaders => {
                let (key, key_span) = self.key(&name)?;
                let field = entry(&field, key).map_err(|message| LangError::new(key_span, message))?;
                return self.indexed(field, span);
            }
        };
        Ok(Operand { kind, span, each: false, open: false })
    }

    /// `["key"]`
    fn key(&mut self, name: &str) -> Result<(Vec<u8>, Span), LangError> {
        self.expect_sign("[", &format!("and a name in quotes: `{name}[\"…\"]`"))?;
        let (token, span) = self.next();
        let Token::Text(key) = token else {
            return Err(LangError::new(span, format!("found {}, expected a name in quotes", token.describe())));
        };
        self.expect_sign("]", "behind the name")?;
        Ok((key, span))
    }

    /// `[0]`, `[*]` or nothing behind a field that may have several values.
    fn indexed(&mut self, field: TextField, span: Span) -> Result<Operand, LangError> {
        let many = field.is_many();
        let (index, each) = if many {
            self.index()?
        } else if self.peek() == &Token::Sign("[") {
            return Err(self.error_here("this field has one value only; leave the index out"));
        } else {
            (None, false)
        };
        let kind = OperandKind::Text(Text::new(Source::Field(field, index)));
        Ok(Operand { kind, span: (span.0, self.end()), each, open: many && index.is_none() && !each })
    }

    /// `[0]`, `[*]` or nothing: which value, and whether each is meant.
    pub(super) fn index(&mut self) -> Result<(Option<usize>, bool), LangError> {
        if !self.take_sign("[") {
            return Ok((None, false));
        }
        let found = match self.next() {
            (Token::Sign("*"), _) => (None, true),
            (Token::Int(number), _) if number >= 0 => (Some(usize::try_from(number).unwrap_or(usize::MAX)), false),
            (other, at) => {
                let message = format!("found {}, expected a number from 0 or `*`", other.describe());
                return Err(LangError::new(at, message));
            }
        };
        self.expect_sign("]", "behind the index")?;
        Ok(found)
    }
}

/// The entry of a table of fields.
pub(super) fn entry(table: &Field, key: Vec<u8>) -> Result<TextField, &'static str> {
    let header = |key: &[u8]| HeaderName::from_bytes(key).map_err(|_| "this cannot be the name of a header");
    Ok(match table {
        Field::Headers => TextField::Header(header(&key)?),
        Field::ResponseHeaders => TextField::ResponseHeader(header(&key)?),
        Field::Cookies => TextField::Cookie(key.into_boxed_slice()),
        _ => TextField::Arg(key.into_boxed_slice()),
    })
}

/// The error for a name that is no field.
pub(super) fn unknown_field(name: &str, span: Span) -> LangError {
    let message = if FUNCTIONS.contains(&name) || CONDITIONS.contains(&name) {
        format!("`{name}` is a function; write `{name}(…)`")
    } else if let Some(why) = unfed(name) {
        format!("the field `{name}` cannot be used here: {why}")
    } else {
        format!("unknown field `{name}`{}", hint(name, KNOWN_FIELDS))
    };
    LangError::new(span, message)
}
