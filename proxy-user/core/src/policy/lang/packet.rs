//! Conditions that only the packet's bytes and its interface tell: bits at a place, the fingerprint of a SYN, the name of the
//! interface. Parsing and type checks; what they mean for a packet is in `proxy_common`.

use std::collections::BTreeSet;

use proxy_common::abi::proto;
use proxy_common::classify::{Base, Bits, MAX_PROBE_OFFSET, PROBE_BYTES};
use proxy_common::fingerprint::SynPattern;

use super::compare::Operator;
use super::expr::Expr;
use super::field::{PacketField, Type};
use super::lexer::{Span, Token};
use super::operand::{Operand, OperandKind};
use super::parser::Parser;
use super::value::IntTerm;
use super::{LangError, signature};
use crate::diagnostic::hint;
use crate::ranges::RangeSet;

/// Most bytes of one slice of a payload; each eight of them take one question.
pub(crate) const MAX_SLICE: u64 = 32;
/// Most bits of one `bit_slice(…)`, as in Cloudflare's language.
const MAX_BITS: u64 = 32;
/// Longest name of an interface, `IFNAMSIZ` less its final zero.
const MAX_INTERFACE: usize = 15;
/// What `bit_slice` counts from.
const HEADERS: [(&str, u8); 4] = [("ip", 0), ("tcp", proto::TCP), ("udp", proto::UDP), ("icmp", proto::ICMP)];

/// A condition on one packet that is neither about a number nor about a flag of it.
#[derive(Debug)]
pub(crate) enum PacketTerm {
    /// It came in on one of these interfaces.
    Interface(BTreeSet<String>),
    /// It is a SYN, and looks like this.
    Syn(SynPattern),
}

impl PacketTerm {
    /// The field that it is about.
    pub const fn field(&self) -> PacketField {
        match self {
            Self::Interface(_) => PacketField::Interface,
            Self::Syn(_) => PacketField::Fingerprint,
        }
    }
}

/// Some bits of a packet, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// As in [`Bits`].
    pub proto: u8,
    /// What `offset` counts from.
    pub base: Base,
    /// Bytes.
    pub offset: u16,
    /// Bytes, at most [`PROBE_BYTES`].
    pub length: u8,
    /// Bits of their big-endian number that count.
    pub mask: u64,
    /// Where the lowest bit of the number stands.
    pub shift: u32,
}

impl Place {
    /// The packets whose number lies in a range.
    pub const fn bits(self, low: u64, high: u64) -> Bits {
        let Self { proto, base, offset, length, mask, shift } = self;
        // What is below the lowest bit is not in the mask.
        Bits { proto, base, offset, length, mask, low: low << shift, high: (high << shift) | ((1 << shift) - 1) }
    }

    /// Largest number.
    pub const fn most(&self) -> u64 {
        self.mask >> self.shift
    }

    /// The field that it is of.
    pub const fn field(&self) -> PacketField {
        match self.base {
            Base::Payload => PacketField::Payload(self.proto),
            Base::Network | Base::Upper => PacketField::Bits,
        }
    }
}

/// What stands left of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PacketOperand {
    Interface,
    Fingerprint,
    /// Bytes of a payload: protocol, offset and length.
    Slice(u8, u64, u64),
}

impl Parser<'_> {
    /// A field of [`PacketField`], its slice where it has one.
    pub(super) fn packet_operand(&mut self, field: PacketField, name: &str) -> Result<PacketOperand, LangError> {
        let PacketField::Payload(protocol) = field else {
            return Ok(if field == PacketField::Interface {
                PacketOperand::Interface
            } else {
                PacketOperand::Fingerprint
            });
        };
        let write = format!("and the bytes that are meant: `{name}[OFFSET:LENGTH]`");
        self.expect_sign("[", &write)?;
        let (token, span) = self.next();
        let Token::Slice(offset, length) = token else {
            let message = format!("found {}, expected `OFFSET:LENGTH`, both in bytes", token.describe());
            return Err(LangError::new(span, message));
        };
        self.expect_sign("]", "behind the slice")?;
        if length == 0 || length > MAX_SLICE {
            return Err(LangError::new(span, format!("{length} bytes: a slice has 1 to {MAX_SLICE}")));
        }
        within(offset, length, span)?;
        Ok(PacketOperand::Slice(protocol, offset, length))
    }

    /// `bit_slice(header, first bit, bit behind the last)`, from behind the parenthesis up to the next one.
    pub(super) fn bit_slice(&mut self, start: Span) -> Result<Operand, LangError> {
        let (token, span) = self.next();
        let header = match &token {
            Token::Name(name) => HEADERS.iter().find(|(known, _)| known == name),
            _ => None,
        };
        let Some((_, protocol)) = header else {
            let near = match &token {
                Token::Name(name) => hint(name, HEADERS.iter().map(|(known, _)| *known)),
                _ => String::new(),
            };
            let message = format!("found {}, expected `ip`, `tcp`, `udp` or `icmp`{near}", token.describe());
            return Err(LangError::new(span, message));
        };
        let (first, place) = self.bit_number()?;
        let (end, last) = self.bit_number()?;
        let whole = (place.0, last.1);
        if end <= first || end - first > MAX_BITS {
            let message = format!("bits {first} to {end}: name 1 to {MAX_BITS} bits by the first and the one behind");
            return Err(LangError::new(whole, message));
        }
        let (offset, behind) = (first / 8, end.div_ceil(8));
        within(offset, behind - offset, whole)?;
        let shift = (behind * 8 - end) as u32;
        let mask = ((1_u64 << (end - first)) - 1) << shift;
        let base = if *protocol == 0 { Base::Network } else { Base::Upper };
        let (offset, length) = (offset as u16, (behind - offset) as u8);
        let place = Place { proto: *protocol, base, offset, length, mask, shift };
        let kind = OperandKind::Int(IntTerm::Slice(place));
        Ok(Operand { kind, span: (start.0, self.end()), each: false, open: false })
    }

    fn bit_number(&mut self) -> Result<(u64, Span), LangError> {
        self.expect_sign(",", "and a number of bits")?;
        match self.next() {
            (Token::Int(number), span) => match u64::try_from(number) {
                Ok(number) => Ok((number, span)),
                Err(_) => Err(LangError::new(span, "bits are counted from 0")),
            },
            (other, span) => Err(LangError::new(span, format!("found {}, expected a number", other.describe()))),
        }
    }

    /// Comparisons of these operands.
    pub(super) fn compare_packet(&mut self, operand: PacketOperand, left: Span) -> Result<Expr, LangError> {
        match operand {
            PacketOperand::Interface => {
                let (equal, names) = self.strings(left, "`tidegate.interface`", |_, bytes| interface(&bytes))?;
                let term = Expr::Packet(PacketTerm::Interface(names.into_iter().collect()));
                // Every packet came in on some interface.
                Ok(if equal { term } else { Expr::Not(Box::new(term)) })
            }
            PacketOperand::Fingerprint => {
                let (equal, patterns) = self.strings(left, "`tcp.syn.fingerprint`", |_, bytes| {
                    signature::parse(&String::from_utf8_lossy(&bytes))
                })?;
                let terms = patterns.into_iter().map(|pattern| Expr::Packet(PacketTerm::Syn(pattern))).collect();
                let known = || Expr::Packet(PacketTerm::Syn(SynPattern::ANY));
                Ok(either(terms, equal, known))
            }
            PacketOperand::Slice(protocol, offset, length) => self.compare_slice(protocol, offset, length, left),
        }
    }

    fn compare_slice(&mut self, protocol: u8, offset: u64, length: u64, left: Span) -> Result<Expr, LangError> {
        let sized = |bytes: &[u8]| match bytes.len() as u64 {
            here if here == length => Ok(()),
            here => Err(format!("this string has {here} bytes, but the slice has {length}")),
        };
        let mut mask = vec![0xff; length as usize];
        if self.take_sign("&") {
            let (token, span) = self.next();
            let Token::Text(bytes) = token else { return Err(Self::mismatch(Type::Text, &token, span)) };
            sized(&bytes).map_err(|message| LangError::new(span, message))?;
            mask = bytes;
        }
        let (equal, values) = self.strings(left, "a slice of bytes", |_, bytes| {
            sized(&bytes)?;
            if bytes.iter().zip(&mask).any(|(byte, mask)| byte & !mask != 0) {
                return Err("this string has bits that the mask leaves out: it never fits".to_owned());
            }
            Ok(bytes)
        })?;
        // A question for every eight bytes.
        let chunk = usize::from(PROBE_BYTES);
        let parts = |bytes: &[u8]| -> Vec<Expr> {
            let places = (offset..).step_by(chunk).zip(mask.chunks(chunk)).zip(bytes.chunks(chunk));
            let part = |((offset, mask), bytes): ((u64, &[u8]), &[u8])| {
                let (base, length) = (Base::Payload, bytes.len() as u8);
                let place =
                    Place { proto: protocol, base, offset: offset as u16, length, mask: number(mask), shift: 0 };
                let value = number(bytes).into();
                Expr::Int(IntTerm::Slice(place), RangeSet::new(vec![(value, value)]))
            };
            places.map(part).collect()
        };
        let whole = |bytes: &[u8]| {
            let mut parts = parts(bytes);
            if parts.len() == 1 { parts.remove(0) } else { Expr::And(parts) }
        };
        // Known where its last byte is.
        let known = || {
            let last = (offset + length - 1) as u16;
            let place = Place { proto: protocol, base: Base::Payload, offset: last, length: 1, mask: 0, shift: 0 };
            Expr::Int(IntTerm::Slice(place), RangeSet::new(vec![(0, 0)]))
        };
        Ok(either(values.iter().map(|value| whole(value)).collect(), equal, known))
    }

    /// `eq "…"`, `ne "…"` or `in {"…" "…"}`: whether it is not `ne`, and what `read` makes of the strings.
    fn strings<T>(
        &mut self,
        left: Span,
        what: &str,
        read: impl Fn(Span, Vec<u8>) -> Result<T, String>,
    ) -> Result<(bool, Vec<T>), LangError> {
        let (operator, span) = self.operator(left, Type::Text)?;
        let one = |p: &mut Self| match p.next() {
            (Token::Text(bytes), span) => read(span, bytes).map_err(|message| LangError::new(span, message)),
            (other, span) => Err(Self::mismatch(Type::Text, &other, span)),
        };
        match operator {
            Operator::Eq | Operator::Ne => Ok((operator == Operator::Eq, vec![one(self)?])),
            Operator::In => {
                let mut found = Vec::new();
                self.set(|p| {
                    found.push(one(p)?);
                    Ok(())
                })?;
                Ok((true, found))
            }
            _ => Err(LangError::new(span, format!("{what} takes `eq`, `ne` and `in {{…}}`"))),
        }
    }
}

/// One of the terms holds; or none does, of what is known.
fn either(mut terms: Vec<Expr>, equal: bool, known: impl Fn() -> Expr) -> Expr {
    let found = if terms.len() == 1 { terms.remove(0) } else { Expr::Or(terms) };
    if equal { found } else { Expr::And(vec![known(), Expr::Not(Box::new(found))]) }
}

fn within(offset: u64, length: u64, span: Span) -> Result<(), LangError> {
    let most = u64::from(MAX_PROBE_OFFSET);
    if offset.saturating_add(length) > most {
        return Err(LangError::new(span, format!("this ends behind byte {most}: rules look no further")));
    }
    Ok(())
}

/// At most eight bytes as a big-endian number.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn interface(bytes: &[u8]) -> Result<String, String> {
    let name = String::from_utf8_lossy(bytes).into_owned();
    // `dev_valid_name` of the kernel.
    let valid = !name.is_empty()
        && name.len() <= MAX_INTERFACE
        && !matches!(name.as_str(), "." | "..")
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
    if valid { Ok(name) } else { Err(format!("`{name}` cannot be the name of an interface")) }
}
