//! A typed expression: what the parser yields, the evaluator runs and the packet compiler lowers.

use std::collections::HashSet;
use std::sync::Arc;

use memchr::memmem::Finder;
use regex::bytes::Regex;

use super::field::{Availability, Field, FlagField, IntField, IpField};
use super::packet::PacketTerm;
use super::value::{IntTerm, ProtoSet, Text};
use super::wildcard::Wildcard;
use crate::ranges::RangeSet;

/// A condition. Comparisons of numbers and addresses are memberships of sets, whatever operator was written.
#[derive(Debug)]
pub(crate) enum Expr {
    /// `true` or `false`.
    Const(bool),
    /// Negation.
    Not(Box<Expr>),
    /// All hold.
    And(Vec<Expr>),
    /// One holds.
    Or(Vec<Expr>),
    /// Exactly one holds.
    Xor(Box<Expr>, Box<Expr>),
    /// A boolean field is known and true.
    Flag(FlagField),
    /// The number is known and in the set, whose places are [`IntTerm::place`]'s.
    Int(IntTerm, RangeSet),
    /// The number is known and shares a bit with the mask. Fields of packets are sets instead.
    Bits(IntTerm, u64),
    /// The address is known and in the set.
    Ip(IpField, Arc<RangeSet>),
    /// The protocol is known and in the set.
    Proto(ProtoSet),
    /// What only packets tell.
    Packet(PacketTerm),
    /// The string is known (for several: one of them) and passes.
    Text(Text, TextTest),
    /// There are values and all of them pass: around a `Text`, `Int` or `Bits`.
    All(Box<Expr>),
}

/// A test of a string.
#[derive(Debug)]
pub(crate) enum TextTest {
    /// `eq`
    Equal(Box<[u8]>),
    /// `ne`
    NotEqual(Box<[u8]>),
    /// `lt` and its kin, by bytes.
    Order(Order, Box<[u8]>),
    /// `in {…}` and `in $list`
    In(Arc<HashSet<Box<[u8]>>>),
    /// `contains`
    Contains(Box<Finder<'static>>),
    /// `starts_with(…)`
    StartsWith(Box<[u8]>),
    /// `ends_with(…)`
    EndsWith(Box<[u8]>),
    /// `matches`
    Matches(Regex),
    /// `wildcard`
    Wildcard(Wildcard),
}

/// An ordering operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// `lt`
    Less,
    /// `le`
    LessEqual,
    /// `gt`
    Greater,
    /// `ge`
    GreaterEqual,
}

/// Holds where a boolean field is known: flags of TCP packets with their header, the others always.
pub(super) fn known(field: FlagField) -> Expr {
    match field {
        FlagField::Fragment
        | FlagField::Ssl
        | FlagField::BodyTruncated
        | FlagField::ClientVerified
        | FlagField::EarlyData => Expr::Const(true),
        FlagField::Tcp(_) => Expr::Int(IntTerm::Field(IntField::TcpDst), RangeSet::full(IntField::TcpDst.max())),
    }
}

impl Expr {
    /// Calls `see` with every field in it.
    pub fn fields(&self, see: &mut dyn FnMut(Field)) {
        match self {
            Self::Const(_) => {}
            Self::Not(inner) | Self::All(inner) => inner.fields(see),
            Self::And(list) | Self::Or(list) => list.iter().for_each(|e| e.fields(see)),
            Self::Xor(a, b) => {
                a.fields(see);
                b.fields(see);
            }
            Self::Flag(field) => see(Field::Flag(*field)),
            Self::Int(term, _) | Self::Bits(term, _) => term.fields(see),
            Self::Text(text, _) => text.fields(see),
            Self::Ip(field, _) => see(Field::Ip(*field)),
            Self::Proto(_) => see(Field::Proto),
            Self::Packet(term) => see(Field::Packet(term.field())),
        }
    }

    /// Whether it looks at a field that is known then.
    pub fn looks_at(&self, availability: Availability) -> bool {
        let mut found = false;
        self.fields(&mut |field| found |= field.availability() == availability);
        found
    }

    /// Where every field of it is known.
    pub fn phases(&self) -> Phases {
        let mut phases = Phases { packet: true, hello: true, request: true, response: true };
        self.fields(&mut |field| {
            phases.hello &= field.of_handshakes();
            match field.availability() {
                Availability::Both => phases.response &= field.of_responses(),
                Availability::Packet => (phases.request, phases.response) = (false, false),
                Availability::Hello | Availability::Request | Availability::Body => {
                    (phases.packet, phases.response) = (false, false);
                }
                Availability::Response => (phases.packet, phases.request) = (false, false),
            }
        });
        phases
    }
}

/// Phases that know all fields of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "one a phase")]
pub(crate) struct Phases {
    /// In the kernel.
    pub packet: bool,
    /// When the ClientHello is there.
    pub hello: bool,
    /// When the header of a request is there.
    pub request: bool,
    /// When the header of its response is there.
    pub response: bool,
}
