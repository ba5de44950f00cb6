//! A typed expression: what the parser yields, the evaluator runs and the packet compiler lowers.

use std::collections::HashSet;
use std::sync::Arc;

use memchr::memmem::Finder;
use regex::bytes::Regex;
use smallvec::SmallVec;

use super::field::{Availability, Field, FlagField, IntField, IpField, TextField};
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
    /// The number is known and in the set.
    Int(IntTerm, RangeSet),
    /// The address is known and in the set.
    Ip(IpField, Arc<RangeSet>),
    /// The protocol is known and in the set.
    Proto(ProtoSet),
    /// The string is known (for several: one of them) and passes.
    Text(Text, TextTest),
}

/// What a number comes from.
#[derive(Debug)]
pub(crate) enum IntTerm {
    /// A field.
    Field(IntField),
    /// `len(…)` in bytes.
    Len(Text),
}

/// A string value: a field, the values of it that are meant, and functions applied from the first to the last.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    /// Where it comes from.
    pub field: TextField,
    /// Only this one of several values.
    pub index: Option<usize>,
    /// Functions.
    pub functions: SmallVec<[Function; 2]>,
}

/// Functions from string to string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    /// ASCII lower case.
    Lower,
    /// ASCII upper case.
    Upper,
    /// `%41` and `+` decoded; what is not an escape stays.
    UrlDecode,
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

/// A set of the protocols that have a name here, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProtoSet(pub u8);

impl ProtoSet {
    /// `(name, protocol number)`, in the order of the bits.
    pub const NAMES: [(&'static str, u8); 4] = [
        ("tcp", proxy_common::abi::proto::TCP),
        ("udp", proxy_common::abi::proto::UDP),
        ("icmp", proxy_common::abi::proto::ICMP),
        ("icmpv6", proxy_common::abi::proto::ICMPV6),
    ];
    /// All that have a name.
    pub const ALL: Self = Self(0b1111);

    /// The set of one name.
    pub fn by_name(name: &[u8]) -> Option<Self> {
        Self::NAMES.iter().position(|(known, _)| known.as_bytes() == name).map(|bit| Self(1 << bit))
    }
}

/// Holds where a boolean field is known: flags of TCP packets with their header, the fragment state always.
pub(super) fn known(field: FlagField) -> Expr {
    match field {
        FlagField::Fragment => Expr::Const(true),
        FlagField::Tcp(_) => Expr::Int(IntTerm::Field(IntField::TcpDst), RangeSet::full(IntField::TcpDst.max())),
    }
}

impl Expr {
    /// Calls `see` with every field in it.
    pub fn fields(&self, see: &mut dyn FnMut(Field)) {
        match self {
            Self::Const(_) => {}
            Self::Not(inner) => inner.fields(see),
            Self::And(list) | Self::Or(list) => list.iter().for_each(|e| e.fields(see)),
            Self::Xor(a, b) => {
                a.fields(see);
                b.fields(see);
            }
            Self::Flag(field) => see(Field::Flag(*field)),
            Self::Int(IntTerm::Field(field), _) => see(Field::Int(*field)),
            Self::Int(IntTerm::Len(text), _) | Self::Text(text, _) => see(Field::Text(text.field.clone())),
            Self::Ip(field, _) => see(Field::Ip(*field)),
            Self::Proto(_) => see(Field::Proto),
        }
    }

    /// Whether every field is known for packets, and whether every field is known for requests.
    pub fn phases(&self) -> (bool, bool) {
        let (mut packet, mut request) = (true, true);
        self.fields(&mut |field| match field.availability() {
            Availability::Both => {}
            Availability::Packet => request = false,
            Availability::Request => packet = false,
        });
        (packet, request)
    }
}
