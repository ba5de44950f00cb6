//! Parsing of operators and what stands right of them, by the type of the left side.

use std::collections::HashSet;
use std::sync::Arc;

use memchr::memmem::Finder;

use super::call::regex;
use super::expr::{Expr, Order, TextTest};
use super::field::{FlagField, IntField, IpField, Type};
use super::lexer::{Span, Token};
use super::members::list_mismatch;
use super::parser::{NamedList, Parser};
use super::value::{Function, IntTerm, ProtoSet, Text};
use super::wildcard::Wildcard;
use super::{LangError, MAX_SET_ITEMS};
use crate::diagnostic::hint;
use crate::ranges::{RangeSet, V4_FIRST, V4_LAST, network_ranges, number};

/// An operator with its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Eq,
    Ne,
    Order(Order),
    In,
    Contains,
    Matches,
    Wildcard { ignore_case: bool },
    Bits,
}

/// All operators in words.
const OPERATORS: [&str; 12] =
    ["eq", "ne", "lt", "le", "gt", "ge", "in", "contains", "matches", "wildcard", "strict", "bitwise_and"];

impl Operator {
    fn of(token: &Token) -> Option<Self> {
        let word = match token {
            Token::Name(word) => word.as_str(),
            Token::Sign(sign) => sign,
            _ => return None,
        };
        Some(match word {
            "eq" | "==" => Self::Eq,
            "ne" | "!=" => Self::Ne,
            "lt" | "<" => Self::Order(Order::Less),
            "le" | "<=" => Self::Order(Order::LessEqual),
            "gt" | ">" => Self::Order(Order::Greater),
            "ge" | ">=" => Self::Order(Order::GreaterEqual),
            "in" => Self::In,
            "contains" => Self::Contains,
            "matches" | "~" => Self::Matches,
            "wildcard" => Self::Wildcard { ignore_case: true },
            "bitwise_and" | "&" => Self::Bits,
            _ => return None,
        })
    }
}

impl Parser<'_> {
    pub(super) fn operator(&mut self, left: Span, kind: Type) -> Result<(Operator, Span), LangError> {
        let (token, span) = self.next();
        if token == Token::Name("strict".to_owned()) {
            return match self.next() {
                (Token::Name(word), end) if word == "wildcard" => {
                    Ok((Operator::Wildcard { ignore_case: false }, (span.0, end.1)))
                }
                (_, end) => Err(LangError::new((span.0, end.1), "`strict` stands before `wildcard` only")),
            };
        }
        if let Some(operator) = Operator::of(&token) {
            return Ok((operator, span));
        }
        let message = match &token {
            Token::Name(word) if word == "not" => {
                "`not` stands before the whole comparison: `not field in {…}`".to_owned()
            }
            Token::Name(word) if !matches!(word.as_str(), "and" | "or" | "xor") => {
                format!("unknown operator `{word}`{}", hint(word, OPERATORS))
            }
            Token::Sign("[") => "only headers, arguments and lists of names take `[…]`".to_owned(),
            other => {
                format!("found {}, expected an operator: this is {}, not a condition", other.describe(), kind.name())
            }
        };
        Err(LangError::new(if token == Token::End { left } else { span }, message))
    }

    fn no_such_comparison(span: Span, kind: Type, operators: &str) -> LangError {
        LangError::new(span, format!("{} cannot be compared like this; it takes {operators}", kind.name()))
    }

    /// `left is an IP address, but … is a string`.
    pub(super) fn mismatch(kind: Type, found: &Token, span: Span) -> LangError {
        let found_type = match found {
            Token::Text(_) => Type::Text.name(),
            Token::Int(_) => Type::Int.name(),
            Token::Ip(_) => Type::Ip.name(),
            Token::Net(_) => "a network",
            Token::Slice(..) => "a slice, which stands in `[…]` behind a payload",
            Token::List(_) => "a list, which stands behind `in`",
            Token::Sign("{") => "a set, which stands behind `in`",
            Token::Name(name) if matches!(name.as_str(), "true" | "false") => Type::Bool.name(),
            Token::Name(_) => "a name: values are compared with literals only, strings in quotes",
            Token::Sign(_) | Token::End => "no value",
        };
        LangError::new(span, format!("the left side is {}, but {} is {found_type}", kind.name(), found.describe()))
    }

    /// A boolean field, alone or compared with `true` or `false`.
    pub(super) fn flag(&mut self, field: FlagField) -> Result<Expr, LangError> {
        let equal = match Operator::of(self.peek()) {
            Some(Operator::Eq) => true,
            Some(Operator::Ne) => false,
            Some(_) => return Err(Self::no_such_comparison(self.span(), Type::Bool, "`eq`, `ne` or no operator")),
            None => return Ok(Expr::Flag(field)),
        };
        self.next();
        match self.next() {
            (Token::Name(word), _) if word == "true" || word == "false" => {
                let flag = Expr::Flag(field);
                if (word == "true") == equal {
                    return Ok(flag);
                }
                // Known and false; a packet without the field does not match.
                Ok(Expr::And(vec![super::expr::known(field), Expr::Not(Box::new(flag))]))
            }
            (other, span) => Err(Self::mismatch(Type::Bool, &other, span)),
        }
    }

    /// Comparisons of addresses.
    pub(super) fn compare_ip(
        &mut self,
        field: IpField,
        network: Option<(u8, u8)>,
        left: Span,
    ) -> Result<Expr, LangError> {
        let set = self.addresses(left)?;
        // `cidr(…)` is in a set where one of the set's addresses is the first of its network.
        let set = network
            .map(|(v4, v6)| {
                let v4_line = RangeSet::new(vec![(V4_FIRST, V4_LAST)]);
                let v6_line = v4_line.complement(u128::MAX);
                let of = |bits: u8, line: &RangeSet| set.of_prefixes(bits).intersection(line);
                Arc::new(of(96 + v4, &v4_line).union(&of(v6, &v6_line)))
            })
            .unwrap_or(set);
        Ok(Expr::Ip(field, set))
    }

    /// The set of addresses that an operator and what follows it stand for.
    fn addresses(&mut self, left: Span) -> Result<Arc<RangeSet>, LangError> {
        let (operator, span) = self.operator(left, Type::Ip)?;
        match operator {
            Operator::Eq | Operator::Ne => match self.next() {
                (Token::Ip(address), _) => {
                    let set = RangeSet::new(vec![(number(address), number(address))]);
                    let set = if operator == Operator::Eq { set } else { set.complement(u128::MAX) };
                    Ok(Arc::new(set))
                }
                (Token::Net(network), span) => {
                    let message = format!(
                        "the left side is an IP address, but `{network}` is a network; write `in {{{network}}}`"
                    );
                    Err(LangError::new(span, message))
                }
                (other, span) => Err(Self::mismatch(Type::Ip, &other, span)),
            },
            Operator::In => {
                if let Token::List(name) = self.peek().clone() {
                    let (_, span) = self.next();
                    return match self.list(&name, span)? {
                        NamedList::Cidr(set) => Ok(set),
                        other => Err(list_mismatch(Type::Ip, &name, other.items(), span)),
                    };
                }
                let mut ranges = Vec::new();
                self.set(|p| {
                    let (token, span) = p.next();
                    match token {
                        Token::Net(network) => ranges.extend(network_ranges(network)),
                        Token::Ip(low) => {
                            let high = if p.take_sign("..") { p.range_end(Type::Ip)? } else { Token::Ip(low) };
                            match high {
                                Token::Ip(high) if high.is_ipv4() == low.is_ipv4() && low <= high => {
                                    ranges.push((number(low), number(high)));
                                }
                                _ => return Err(LangError::new((span.0, p.end()), "this range has no addresses")),
                            }
                        }
                        other => return Err(Self::mismatch(Type::Ip, &other, span)),
                    }
                    Ok(())
                })?;
                Ok(Arc::new(RangeSet::new(ranges)))
            }
            _ => Err(Self::no_such_comparison(span, Type::Ip, "`eq`, `ne` and `in`")),
        }
    }

    /// Comparisons of numbers.
    pub(super) fn compare_int(&mut self, term: IntTerm, left: Span) -> Result<Expr, LangError> {
        let (least, most) = (term.least(), term.most());
        let max = term.place(most);
        let bounded = |token: &Token, span: Span| match token {
            Token::Int(n) if (least..=most).contains(n) => Ok(term.place(*n)),
            Token::Int(n) if *n < least => {
                Err(LangError::new(span, format!("`{n}` is below {least}, the smallest value there is")))
            }
            Token::Int(n) => Err(LangError::new(span, format!("`{n}` is beyond {most}, the largest value there is"))),
            other => Err(Self::mismatch(Type::Int, other, span)),
        };
        let (operator, span) = self.operator(left, Type::Int)?;
        let mut literal = || {
            let (token, span) = self.next();
            bounded(&token, span)
        };
        let one = |low, high| RangeSet::new(vec![(low, high)]);
        let set = match operator {
            Operator::Eq => literal().map(|n| one(n, n))?,
            Operator::Ne => literal().map(|n| one(n, n).complement(max))?,
            Operator::Order(Order::Less) => literal().map(|n| one(n, max).complement(max))?,
            Operator::Order(Order::LessEqual) => one(0, literal()?),
            Operator::Order(Order::Greater) => literal().map(|n| one(0, n).complement(max))?,
            Operator::Order(Order::GreaterEqual) => one(literal()?, max),
            Operator::In => {
                let mut ranges = Vec::new();
                if let Token::List(name) = self.peek().clone() {
                    let (_, span) = self.next();
                    return Err(list_mismatch(Type::Int, &name, self.list(&name, span)?.items(), span));
                }
                self.set(|p| {
                    let (token, span) = p.next();
                    let low = bounded(&token, span)?;
                    let high = if p.take_sign("..") {
                        let at = p.span();
                        bounded(&p.range_end(Type::Int)?, at)?
                    } else {
                        low
                    };
                    if low > high {
                        return Err(LangError::new((span.0, p.end()), "this range has no numbers"));
                    }
                    ranges.push((low, high));
                    Ok(())
                })?;
                RangeSet::new(ranges)
            }
            Operator::Bits => {
                let (token, span) = self.next();
                return bits(term, &token, span);
            }
            _ => {
                let operators = "`eq`, `ne`, `lt`, `le`, `gt`, `ge`, `in` and `&`";
                return Err(Self::no_such_comparison(span, Type::Int, operators));
            }
        };
        Ok(Expr::Int(term, set))
    }

    /// Comparisons of `ip.proto`, whose values are known.
    pub(super) fn compare_proto(&mut self, left: Span) -> Result<Expr, LangError> {
        let named = |token: &Token, span: Span| match token {
            Token::Text(name) => ProtoSet::by_name(name).ok_or_else(|| {
                let name = String::from_utf8_lossy(name);
                let known = hint(&name, ProtoSet::NAMES.iter().map(|(known, _)| *known));
                LangError::new(span, format!("unknown protocol \"{name}\"{known}"))
            }),
            other => Err(Self::mismatch(Type::Text, other, span)),
        };
        let (operator, span) = self.operator(left, Type::Text)?;
        let mut found = ProtoSet(0);
        match operator {
            Operator::Eq | Operator::Ne => {
                let (token, span) = self.next();
                found = named(&token, span)?;
                if operator == Operator::Ne {
                    found = ProtoSet(ProtoSet::ALL.0 & !found.0);
                }
            }
            Operator::In => self.set(|p| {
                let (token, span) = p.next();
                found.0 |= named(&token, span)?.0;
                Ok(())
            })?,
            _ => return Err(LangError::new(span, "`ip.proto` takes `eq`, `ne` and `in {…}`")),
        }
        Ok(Expr::Proto(found))
    }

    /// Comparisons of strings.
    pub(super) fn compare_text(&mut self, text: Text, left: Span) -> Result<Expr, LangError> {
        let (operator, span) = self.operator(left, Type::Text)?;
        if operator == Operator::Bits {
            return Err(LangError::new(span, "a string has no bits to test; `&` is for numbers"));
        }
        if operator == Operator::In {
            if let Token::List(name) = self.peek().clone() {
                let (_, span) = self.next();
                return match self.list(&name, span)? {
                    NamedList::Text(set) => Ok(Expr::Text(text, TextTest::In(set))),
                    // The value's hash is looked for.
                    NamedList::Hash(set) => {
                        let mut text = text;
                        text.functions.push(Function::Sha256);
                        Ok(Expr::Text(text, TextTest::In(set)))
                    }
                    other @ NamedList::Cidr(_) => Err(list_mismatch(Type::Text, &name, other.items(), span)),
                };
            }
            let mut items = HashSet::new();
            self.set(|p| match p.next() {
                (Token::Text(item), _) => {
                    items.insert(item.into_boxed_slice());
                    Ok(())
                }
                (other, span) => Err(Self::mismatch(Type::Text, &other, span)),
            })?;
            return Ok(Expr::Text(text, TextTest::In(Arc::new(items))));
        }
        let (token, span) = self.next();
        let Token::Text(literal) = token else { return Err(Self::mismatch(Type::Text, &token, span)) };
        let check = match operator {
            Operator::Ne => TextTest::NotEqual(literal.into()),
            Operator::Order(order) => TextTest::Order(order, literal.into()),
            Operator::Contains => TextTest::Contains(Box::new(Finder::new(&literal).into_owned())),
            Operator::Matches => TextTest::Matches(regex(&literal).map_err(|message| LangError::new(span, message))?),
            Operator::Wildcard { ignore_case } => {
                let pattern = Wildcard::new(&literal, ignore_case).map_err(|message| LangError::new(span, message))?;
                TextTest::Wildcard(pattern)
            }
            Operator::Eq | Operator::In | Operator::Bits => TextTest::Equal(literal.into()),
        };
        Ok(Expr::Text(text, check))
    }
}

/// `field & mask`: holds where a bit of the mask is set.
fn bits(term: IntTerm, token: &Token, span: Span) -> Result<Expr, LangError> {
    let mask = match token {
        Token::Int(n) => u64::try_from(*n).ok().filter(|mask| *mask != 0),
        other => return Err(Parser::mismatch(Type::Int, other, span)),
    };
    let mask = mask.ok_or_else(|| LangError::new(span, "a mask is a number above 0, such as 0x12"))?;
    match &term {
        IntTerm::Json(..) => Err(LangError::new(span, "numbers from JSON have a sign and no bits to test")),
        // The packet phase compares sets.
        IntTerm::Field(field) if !matches!(field, IntField::Http(_)) => {
            let numbers = (0..=field.max()).filter(|n| n & u128::from(mask) != 0);
            let set = RangeSet::new(numbers.map(|n| (n, n)).collect());
            if set.ranges().len() > MAX_SET_ITEMS {
                let message = format!("this mask stands for more than {MAX_SET_ITEMS} ranges; compare with ranges");
                return Err(LangError::new(span, message));
            }
            Ok(Expr::Int(term, set))
        }
        _ => Ok(Expr::Bits(term, mask)),
    }
}
