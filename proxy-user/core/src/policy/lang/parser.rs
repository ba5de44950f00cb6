//! Parser and type checker in one: a token is at hand whenever a type does not fit, so each message has its place.
//!
//! Binding, from the tightest: comparison, `not`, `and`, `xor`, `or`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::call::CONDITIONS;
use super::expr::Expr;
use super::key::KeyPart;
use super::lexer::{Span, Token, tokens};
use super::operand::{Operand, OperandKind};
use super::value::{Source, Text};
use super::{LangError, MAX_DEPTH, MAX_EXPRESSION_BYTES, MAX_NODES};
use crate::ranges::RangeSet;

/// The items of a list, by its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NamedList {
    /// Networks.
    Cidr(Arc<RangeSet>),
    /// Strings.
    Text(Arc<HashSet<Box<[u8]>>>),
    /// SHA-256 digests, in hex and lower case.
    Hash(Arc<HashSet<Box<[u8]>>>),
}

impl NamedList {
    /// What its items are, for messages.
    pub const fn items(&self) -> &'static str {
        match self {
            Self::Cidr(_) => "networks",
            Self::Text(_) => "strings",
            Self::Hash(_) => "hashes",
        }
    }
}

/// The lists that an expression may name.
pub(crate) type Lists = BTreeMap<String, NamedList>;

/// Parses and type-checks a condition. `leaves` takes the places of its comparisons: each is a condition by itself.
pub(crate) fn parse(text: &str, lists: &Lists, leaves: Option<&mut Vec<Span>>) -> Result<Expr, LangError> {
    let mut parser = Parser::new(text, lists)?;
    let expr = parser.any_of()?;
    parser.finish("`and`, `or`, `xor` or the end")?;
    if let Some(leaves) = leaves {
        *leaves = parser.leaves;
    }
    Ok(expr)
}

/// Parses and type-checks a value: a string, a field, or a function of those. It has one value at most.
pub(crate) fn parse_value(text: &str, lists: &Lists) -> Result<Text, LangError> {
    let mut parser = Parser::new(text, lists)?;
    let value = if let Token::Text(bytes) = parser.peek().clone() {
        parser.next();
        Text::new(Source::Literal(bytes.into()))
    } else {
        let operand = parser.one_value()?;
        let found = operand.type_name();
        let OperandKind::Text(text) = operand.kind else {
            let message = format!("a string is needed here, but this is {found}; write `to_string(…)`");
            return Err(LangError::new(operand.span, message));
        };
        text
    };
    parser.finish("the end")?;
    Ok(value)
}

/// A value that rates count by.
pub(crate) fn parse_key(text: &str, lists: &Lists) -> Result<KeyPart, LangError> {
    let mut parser = Parser::new(text, lists)?;
    let operand = parser.one_value()?;
    let part = match operand.kind {
        OperandKind::Ip(field, network) => KeyPart::Address(field, network),
        OperandKind::Int(term) => KeyPart::Number(term),
        OperandKind::Text(text) => KeyPart::Text(text),
        OperandKind::Flag(_) | OperandKind::Proto | OperandKind::Packet(_) => {
            return Err(LangError::new(operand.span, "rates count by strings, numbers and addresses"));
        }
    };
    parser.finish("the end")?;
    Ok(part)
}

/// A place in the tokens, and the bounds used up so far.
pub(super) struct Parser<'a> {
    tokens: Vec<(Token, Span)>,
    at: usize,
    nodes: usize,
    depth: usize,
    pub(super) lists: &'a Lists,
    /// Places of the comparisons so far.
    leaves: Vec<Span>,
}

impl Parser<'_> {
    /// An operand that stands for one value.
    fn one_value(&mut self) -> Result<Operand, LangError> {
        let operand = self.operand()?;
        if operand.each || operand.open {
            return Err(LangError::new(operand.span, "one value is needed here; name it by `[0]`"));
        }
        Ok(operand)
    }
}

impl<'a> Parser<'a> {
    fn new(text: &str, lists: &'a Lists) -> Result<Self, LangError> {
        if text.len() > MAX_EXPRESSION_BYTES {
            let message = format!("{} bytes long; at most {MAX_EXPRESSION_BYTES} are taken", text.len());
            return Err(LangError::new((0, 0), message));
        }
        Ok(Self { tokens: tokens(text)?, at: 0, nodes: 0, depth: 0, lists, leaves: Vec::new() })
    }

    fn finish(&self, expected: &str) -> Result<(), LangError> {
        match self.peek() {
            Token::End => Ok(()),
            Token::Sign(")") => Err(self.error_here("this `)` closes nothing")),
            Token::Sign("&") => {
                Err(self.error_here("`&` tests bits of a number; between conditions write `&&` or `and`"))
            }
            other => Err(self.error_here(format!("{} cannot stand here; expected {expected}", other.describe()))),
        }
    }
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
            _ => {
                let start = self.span().0;
                let condition = match name.as_str() {
                    "any" | "all" if call => {
                        self.next();
                        self.next();
                        let inner = self.deeper(|p| p.comparison(Some(&name)))?;
                        self.expect_sign(")", &format!("to close `{name}(`"))?;
                        if name == "any" { inner } else { Expr::All(Box::new(inner)) }
                    }
                    _ => self.comparison(None)?,
                };
                self.leaves.push((start, self.end()));
                Ok(condition)
            }
        }
    }

    /// A comparison, a boolean function, or a boolean field. `within`: `any` or `all`, where `[*]` has to stand in it.
    fn comparison(&mut self, within: Option<&str>) -> Result<Expr, LangError> {
        let start = self.span();
        if let Token::Name(name) = self.peek().clone()
            && CONDITIONS.contains(&name.as_str())
            && !matches!(name.as_str(), "any" | "all")
            && self.peek_second() == &Token::Sign("(")
        {
            return self.condition_call(&name, within);
        }
        let operand = self.operand()?;
        operand.check_each(within)?;
        let Operand { kind, span, .. } = operand;
        match kind {
            OperandKind::Flag(field) => self.flag(field),
            OperandKind::Ip(field, network) => self.compare_ip(field, network, span),
            OperandKind::Int(term) => self.compare_int(term, span),
            OperandKind::Proto => self.compare_proto(span),
            OperandKind::Packet(operand) => self.compare_packet(operand, span),
            OperandKind::Text(text) => self.compare_text(text, (start.0, span.1)),
        }
    }
}
