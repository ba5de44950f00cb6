//! Parsing of what stands behind `in`: sets in braces, and lists by name.

use super::field::Type;
use super::lexer::{Span, Token};
use super::parser::{NamedList, Parser};
use super::{LangError, MAX_SET_ITEMS};
use crate::diagnostic::hint;

impl Parser<'_> {
    /// `{…}`: calls `item` at the start of each.
    pub(super) fn set(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), LangError>) -> Result<(), LangError> {
        self.expect_sign("{", "or a list behind `in`")?;
        let mut count = 0;
        while !self.take_sign("}") {
            match self.peek() {
                Token::End => return Err(self.error_here("the set has no closing `}`")),
                Token::Sign(",") => return Err(self.error_here("items of a set are separated by spaces, not commas")),
                _ => {}
            }
            count += 1;
            if count > MAX_SET_ITEMS {
                return Err(self.error_here(format!("more than {MAX_SET_ITEMS} items; use a list")));
            }
            item(self)?;
        }
        if count == 0 {
            return Err(LangError::new(
                (self.end().saturating_sub(1), self.end()),
                "the set is empty: nothing is in it",
            ));
        }
        Ok(())
    }

    pub(super) fn range_end(&mut self, kind: Type) -> Result<Token, LangError> {
        match self.next() {
            (token @ (Token::Int(_) | Token::Ip(_)), _) => Ok(token),
            (other, span) => Err(Self::mismatch(kind, &other, span)),
        }
    }

    pub(super) fn list(&self, name: &str, span: Span) -> Result<NamedList, LangError> {
        self.lists.get(name).cloned().ok_or_else(|| {
            let message = format!("there is no list `{name}`{}", hint(name, self.lists.keys().map(String::as_str)));
            LangError::new(span, message)
        })
    }
}

/// A list of other items than the left side is one of.
pub(super) fn list_mismatch(kind: Type, name: &str, items: &str, span: Span) -> LangError {
    LangError::new(span, format!("the left side is {}, but `${name}` is a list of {items}", kind.name()))
}
