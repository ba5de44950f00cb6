//! Parser and type checker in one: a token is at hand whenever a type does not fit, so each message has its place.
//!
//! Binding, from the tightest: comparison, `not`, `and`, `xor`, `or`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::expr::{Expr, TextTest};
use super::lexer::{Span, Token, tokens};
use super::operand::{FUNCTIONS, Operand, OperandKind};
use super::{LangError, MAX_DEPTH, MAX_EXPRESSION_BYTES, MAX_NODES};
use crate::diagnostic::hint;
use crate::ranges::RangeSet;

/// The items of a list, by its type.
#[derive(Clone, Debug)]
pub(crate) enum NamedList {
    /// Networks.
    Cidr(Arc<RangeSet>),
    /// Strings.
    Text(Arc<HashSet<Box<[u8]>>>),
}

/// The lists that an expression may name.
pub(crate) type Lists = BTreeMap<String, NamedList>;

/// Parses and type-checks.
pub(crate) fn parse(text: &str, lists: &Lists) -> Result<Expr, LangError> {
    if text.len() > MAX_EXPRESSION_BYTES {
        let message = format!("{} bytes long; at most {MAX_EXPRESSION_BYTES} are taken", text.len());
        return Err(LangError::new((0, 0), message));
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, nodes: 0, depth: 0, lists };
    let expr = parser.any_of()?;
    match parser.peek() {
        Token::End => Ok(expr),
        Token::Sign(")") => Err(parser.error_here("this `)` closes nothing")),
        other => {
            let message = format!("{} cannot stand here; expected `and`, `or`, `xor` or the end", other.describe());
            Err(parser.error_here(message))
        }
    }
}

pub(super) struct Parser<'a> {
    tokens: Vec<(Token, Span)>,
    at: usize,
    nodes: usize,
    depth: usize,
    pub(super) lists: &'a Lists,
}

impl Parser<'_> {
    // ---- tokens ----

    pub(super) fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(token, _)| token)
    }

    pub(super) fn peek_second(&self) -> &Token {
        self.tokens.get(self.at + 1).map_or(&Token::End, |(token, _)| token)
    }

    /// Place of the next token.
    pub(super) fn span(&self) -> Span {
        self.tokens.get(self.at).or(self.tokens.last()).map_or((0, 0), |(_, span)| *span)
    }

    /// End of the token that was read last.
    pub(super) fn end(&self) -> usize {
        self.at.checked_sub(1).and_then(|at| self.tokens.get(at)).map_or(0, |(_, span)| span.1)
    }

    pub(super) fn next(&mut self) -> (Token, Span) {
        let token = self.peek().clone();
        let span = self.span();
        self.at += 1;
        (token, span)
    }

    pub(super) fn error_here(&self, message: impl Into<String>) -> LangError {
        LangError::new(self.span(), message)
    }

    pub(super) fn take_sign(&mut self, sign: &str) -> bool {
        let there = matches!(self.peek(), Token::Sign(found) if *found == sign);
        self.at += usize::from(there);
        there
    }

    pub(super) fn expect_sign(&mut self, sign: &str, after: &str) -> Result<(), LangError> {
        if self.take_sign(sign) {
            return Ok(());
        }
        Err(self.error_here(format!("found {}, expected `{sign}` {after}", self.peek().describe())))
    }

    fn take_word(&mut self, word: &str, sign: &str) -> bool {
        let there = match self.peek() {
            Token::Name(name) => name == word,
            Token::Sign(found) => *found == sign,
            _ => false,
        };
        self.at += usize::from(there);
        there
    }

    /// Counts a comparison or operator.
    pub(super) fn count(&mut self) -> Result<(), LangError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let message = format!("more than {MAX_NODES} comparisons and operators; use lists or several rules");
            return Err(self.error_here(message));
        }
        Ok(())
    }

    /// Runs `inner` one level deeper.
    pub(super) fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, LangError>) -> Result<T, LangError> {
        if self.depth >= MAX_DEPTH {
            return Err(self.error_here(format!("nested more than {MAX_DEPTH} deep")));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    // ---- operators between conditions ----

    fn any_of(&mut self) -> Result<Expr, LangError> {
        let mut list = vec![self.one_of()?];
        while self.take_word("or", "||") {
            self.count()?;
            list.push(self.one_of()?);
        }
        Ok(if list.len() == 1 { list.remove(0) } else { Expr::Or(list) })
    }

    fn one_of(&mut self) -> Result<Expr, LangError> {
        let mut left = self.all_of()?;
        // Each level of the tree is a level of recursion at evaluation, so chains count as depth.
        let mut chain = 0;
        while self.take_word("xor", "^^") {
            self.count()?;
            chain += 1;
            if chain > MAX_DEPTH {
                return Err(self.error_here(format!("more than {MAX_DEPTH} `xor` in a chain")));
            }
            left = Expr::Xor(Box::new(left), Box::new(self.all_of()?));
        }
        Ok(left)
    }

    fn all_of(&mut self) -> Result<Expr, LangError> {
        let mut list = vec![self.negation()?];
        while self.take_word("and", "&&") {
            self.count()?;
            list.push(self.negation()?);
        }
        Ok(if list.len() == 1 { list.remove(0) } else { Expr::And(list) })
    }

    fn negation(&mut self) -> Result<Expr, LangError> {
        if self.take_word("not", "!") {
            self.count()?;
            return Ok(Expr::Not(Box::new(self.deeper(Self::negation)?)));
        }
        self.condition()
    }

    fn condition(&mut self) -> Result<Expr, LangError> {
        self.count()?;
        if self.take_sign("(") {
            let inner = self.deeper(Self::any_of)?;
            self.expect_sign(")", "to close the parenthesis")?;
            return Ok(inner);
        }
        let Token::Name(name) = self.peek().clone() else {
            let found = self.peek().describe();
            return Err(
                self.error_here(format!("found {found}, expected a condition such as `http.host eq \"a.example\"`"))
            );
        };
        let call = self.peek_second() == &Token::Sign("(");
        match name.as_str() {
            "true" | "false" => {
                self.next();
                Ok(Expr::Const(name == "true"))
            }
            "any" if call => {
                self.next();
                self.next();
                let inner = self.deeper(|p| p.comparison(true))?;
                self.expect_sign(")", "to close `any(`")?;
                Ok(inner)
            }
            _ => self.comparison(false),
        }
    }

    /// A comparison, a boolean function, or a boolean field. `within_any`: `[*]` may stand in it, and has to.
    fn comparison(&mut self, within_any: bool) -> Result<Expr, LangError> {
        let start = self.span();
        if let Token::Name(name) = self.peek().clone()
            && matches!(name.as_str(), "starts_with" | "ends_with")
        {
            return self.affix(&name, within_any);
        }
        let operand = self.operand()?;
        operand.check_each(within_any)?;
        let Operand { kind, span, .. } = operand;
        match kind {
            OperandKind::Flag(field) => self.flag(field),
            OperandKind::Ip(field) => self.compare_ip(field, span),
            OperandKind::Int(term) => self.compare_int(term, span),
            OperandKind::Proto => self.compare_proto(span),
            OperandKind::Text(text) => self.compare_text(text, (start.0, span.1)),
        }
    }

    /// `starts_with(value, "text")` and `ends_with(value, "text")`.
    fn affix(&mut self, name: &str, within_any: bool) -> Result<Expr, LangError> {
        self.next();
        self.expect_sign("(", &format!("after `{name}`"))?;
        let operand = self.deeper(Self::operand)?;
        operand.check_each(within_any)?;
        let found = operand.type_name();
        let OperandKind::Text(text) = operand.kind else {
            return Err(LangError::new(operand.span, format!("`{name}` takes a string, but this is {found}")));
        };
        self.expect_sign(",", "and a string")?;
        let (literal, span) = self.next();
        let Token::Text(bytes) = literal else {
            let message = format!("`{name}` takes a string here, but this is {}", literal.describe());
            return Err(LangError::new(span, message));
        };
        self.expect_sign(")", &format!("to close `{name}(`"))?;
        let bytes = bytes.into_boxed_slice();
        let check = if name == "starts_with" { TextTest::StartsWith(bytes) } else { TextTest::EndsWith(bytes) };
        Ok(Expr::Text(text, check))
    }
}

/// The message for a function that is not known.
pub(super) fn unknown_function(name: &str) -> String {
    format!("unknown function `{name}`{}", hint(name, FUNCTIONS))
}
