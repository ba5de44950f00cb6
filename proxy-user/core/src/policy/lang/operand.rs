//! Parsing of what stands left of an operator: a field, its index, and functions around it.

use http::HeaderName;
use smallvec::SmallVec;

use super::LangError;
use super::expr::{Function, IntTerm, Text};
use super::field::{Field, FlagField, IpField, KNOWN_FIELDS, TextField, Type};
use super::lexer::{Span, Token};
use super::parser::{Parser, unknown_function};
use crate::diagnostic::hint;

/// All functions.
pub(super) const FUNCTIONS: [&str; 7] = ["any", "ends_with", "len", "lower", "starts_with", "upper", "url_decode"];

/// What stands left of an operator.
pub(super) struct Operand {
    pub kind: OperandKind,
    pub span: Span,
    /// `[*]` was written.
    each: bool,
    /// One of several values is meant, but none was named by `[0]` or `[*]`.
    open: bool,
}

pub(super) enum OperandKind {
    Ip(IpField),
    Int(IntTerm),
    Flag(FlagField),
    Proto,
    Text(Text),
}

impl Operand {
    /// `[*]` and `any(…)` need each other.
    pub fn check_each(&self, within_any: bool) -> Result<(), LangError> {
        match (within_any, self.each) {
            (false, true) => Err(LangError::new(self.span, "`[*]` stands inside `any(…)` only")),
            (true, false) => {
                Err(LangError::new(self.span, "`any(…)` needs several values: write `[*]` behind the field"))
            }
            _ => Ok(()),
        }
    }

    /// Type, with article.
    pub fn type_name(&self) -> &'static str {
        match self.kind {
            OperandKind::Ip(_) => Type::Ip,
            OperandKind::Int(_) => Type::Int,
            OperandKind::Flag(_) => Type::Bool,
            OperandKind::Proto | OperandKind::Text(_) => Type::Text,
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
            return self.function(&name, span);
        }
        let Some(field) = Field::by_name(&name) else {
            let message = if FUNCTIONS.contains(&name.as_str()) {
                format!("`{name}` is a function; write `{name}(…)`")
            } else {
                format!("unknown field `{name}`{}", hint(&name, KNOWN_FIELDS))
            };
            return Err(LangError::new(span, message));
        };
        let kind = match field {
            Field::Ip(field) => OperandKind::Ip(field),
            Field::Int(field) => OperandKind::Int(IntTerm::Field(field)),
            Field::Flag(field) => OperandKind::Flag(field),
            Field::Proto => OperandKind::Proto,
            Field::Text(field) => return self.indexed(field, span),
            Field::Headers => {
                let (key, key_span) = self.key(&name)?;
                let header = HeaderName::from_bytes(&key)
                    .map_err(|_| LangError::new(key_span, "this cannot be the name of a header"))?;
                return self.indexed(TextField::Header(header), span);
            }
            Field::Args => {
                let (key, _) = self.key(&name)?;
                return self.indexed(TextField::Arg(key.into_boxed_slice()), span);
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
        let (mut index, mut each) = (None, false);
        if self.peek() == &Token::Sign("[") {
            if !many {
                return Err(self.error_here("this field has one value only; leave the index out"));
            }
            self.next();
            match self.next() {
                (Token::Sign("*"), _) => each = true,
                (Token::Int(number), _) => index = Some(usize::try_from(number).unwrap_or(usize::MAX)),
                (other, at) => {
                    let message = format!("found {}, expected a number or `*`", other.describe());
                    return Err(LangError::new(at, message));
                }
            }
            self.expect_sign("]", "behind the index")?;
        }
        let open = many && index.is_none() && !each;
        let text = Text { field, index, functions: SmallVec::new() };
        Ok(Operand { kind: OperandKind::Text(text), span: (span.0, self.end()), each, open })
    }

    /// The call of a function that yields a value.
    fn function(&mut self, name: &str, span: Span) -> Result<Operand, LangError> {
        let function = match name {
            "lower" => Some(Function::Lower),
            "upper" => Some(Function::Upper),
            "url_decode" => Some(Function::UrlDecode),
            "len" => None,
            "any" | "starts_with" | "ends_with" => {
                let message =
                    format!("`{name}` is a condition by itself; it is neither compared nor given to a function");
                return Err(LangError::new(span, message));
            }
            _ => return Err(LangError::new(span, unknown_function(name))),
        };
        self.count()?;
        self.next();
        let inner = self.deeper(Self::operand)?;
        let found = inner.type_name();
        let OperandKind::Text(mut text) = inner.kind else {
            return Err(LangError::new(inner.span, format!("`{name}` takes a string, but this is {found}")));
        };
        self.expect_sign(")", &format!("to close `{name}(`"))?;
        let kind = if let Some(function) = function {
            text.functions.push(function);
            OperandKind::Text(text)
        } else if inner.open {
            let message = "a request may have several values of this: name one by `[0]`, or write `any(len(…[*]) …)`; \
                           whether there is one at all is asked by `any(http.request.headers.names[*] eq \"…\")`";
            return Err(LangError::new(inner.span, message));
        } else {
            OperandKind::Int(IntTerm::Len(text))
        };
        // `any(lower(x[*])[*] …)` is how Cloudflare's language writes it.
        if inner.each && self.peek() == &Token::Sign("[") && self.peek_second() == &Token::Sign("*") {
            self.next();
            self.next();
            self.expect_sign("]", "behind `*`")?;
        }
        Ok(Operand { kind, span: (span.0, self.end()), each: inner.each, open: inner.open })
    }
}
