//! Values that comparisons look at: strings and numbers, as trees of fields and functions.
//!
//! A value stands for none (missing), one, or several, which are tested one after another.

use proxy_common::abi;
use regex::bytes::Regex;
use smallvec::SmallVec;

use super::field::{Field, IntField, IpField, TextField};
use super::packet::Place;

/// What a number comes from.
#[derive(Clone, Debug)]
pub(crate) enum IntTerm {
    /// A field.
    Field(IntField),
    /// Bits of a packet.
    Slice(Place),
    /// `len(…)` of a string, in bytes.
    Len(Text),
    /// `len(…)` of several values: how many there are.
    Count(Text),
    /// `lookup_json_integer(…)`
    Json(Text, Path),
}

/// A string value: where it comes from, and functions applied from the first to the last.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    /// Where it comes from.
    pub source: Source,
    /// Functions.
    pub functions: SmallVec<[Function; 2]>,
}

/// Where a string comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A field, and which one of several values is meant.
    Field(TextField, Option<usize>),
    /// As written.
    Literal(Box<[u8]>),
    /// `to_string(…)` of a number field.
    Number(IntField),
    /// `to_string(…)` of an address.
    Address(IpField),
    /// `concat(…)`; missing where a part is.
    Concat(Vec<Text>),
    /// `join(values, "between")`; missing where there is none.
    Join(Box<Text>, Box<[u8]>),
    /// `split(value, "at", most)`: parts, and which one is meant.
    Split {
        /// What is split.
        of: Box<Text>,
        /// Where.
        at: Box<[u8]>,
        /// Most parts; the last one takes the rest.
        most: usize,
        /// Only this part.
        index: Option<usize>,
    },
}

/// Functions from string to string. Where one has no result, the value is missing.
#[derive(Clone, Debug)]
pub(crate) enum Function {
    /// ASCII lower case.
    Lower,
    /// ASCII upper case.
    Upper,
    /// `%41` and `+` decoded; what is not an escape stays.
    UrlDecode {
        /// Again until nothing changes, at most [`super::MAX_URL_DECODES`] times.
        recursive: bool,
        /// Also `%u0041`.
        unicode: bool,
    },
    /// Bytes from a place up to another; negative ones count from the end.
    Substring(i64, Option<i64>),
    /// Without these bytes.
    RemoveBytes(Box<[u8]>),
    /// A query without the arguments of these names.
    RemoveArgs(Box<[Box<[u8]>]>),
    /// Base64 (RFC 4648 section 4) decoded; missing where it is none.
    DecodeBase64,
    /// Base64 encoded.
    EncodeBase64,
    /// SHA-256 (FIPS 180-4) in hex, lower case.
    Sha256,
    /// A string within JSON; missing where there is none, or the text is no JSON.
    JsonString(Path),
    /// The first match replaced, `${1}` being its groups.
    Replace(Box<Regex>, Box<[u8]>),
}

/// Where in a JSON document.
pub(crate) type Path = SmallVec<[Key; 2]>;

/// A step into a JSON document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// Member of an object.
    Name(Box<[u8]>),
    /// Item of an array.
    Index(usize),
}

impl IntTerm {
    /// Smallest value.
    pub const fn least(&self) -> i128 {
        match self {
            Self::Json(..) => i64::MIN as i128,
            Self::Field(_) | Self::Slice(_) | Self::Len(_) | Self::Count(_) => 0,
        }
    }

    /// Largest value.
    pub const fn most(&self) -> i128 {
        match self {
            Self::Json(..) => i64::MAX as i128,
            Self::Field(field) => field.max().cast_signed(),
            Self::Slice(place) => place.most() as i128,
            Self::Len(_) | Self::Count(_) => u64::MAX as i128,
        }
    }

    /// Where a value stands on the line that sets of this term's values are made of, which begins at 0.
    pub const fn place(&self, value: i128) -> u128 {
        (value - self.least()).cast_unsigned()
    }

    /// Calls `see` with every field in it.
    pub fn fields(&self, see: &mut dyn FnMut(Field)) {
        match self {
            Self::Field(field) => see(Field::Int(*field)),
            Self::Slice(place) => see(Field::Packet(place.field())),
            Self::Len(text) | Self::Count(text) | Self::Json(text, _) => text.fields(see),
        }
    }
}

impl Text {
    /// A source without functions.
    pub fn new(source: Source) -> Self {
        Self { source, functions: SmallVec::new() }
    }

    /// All values of a field.
    pub fn field(field: TextField) -> Self {
        Self::new(Source::Field(field, None))
    }

    /// Calls `see` with every field in it.
    pub fn fields(&self, see: &mut dyn FnMut(Field)) {
        match &self.source {
            Source::Field(field, _) => see(Field::Text(field.clone())),
            Source::Literal(_) => {}
            Source::Number(field) => see(Field::Int(*field)),
            Source::Address(field) => see(Field::Ip(*field)),
            Source::Concat(parts) => parts.iter().for_each(|part| part.fields(see)),
            Source::Join(of, _) | Source::Split { of, .. } => of.fields(see),
        }
    }
}

/// A set of the protocols that have a name here, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProtoSet(pub u8);

impl ProtoSet {
    /// `(name, protocol number)`, in the order of the bits.
    pub const NAMES: [(&'static str, u8); 4] = [
        ("tcp", abi::proto::TCP),
        ("udp", abi::proto::UDP),
        ("icmp", abi::proto::ICMP),
        ("icmpv6", abi::proto::ICMPV6),
    ];
    /// All that have a name.
    pub const ALL: Self = Self(0b1111);

    /// The set of one name.
    pub fn by_name(name: &[u8]) -> Option<Self> {
        Self::NAMES.iter().position(|(known, _)| known.as_bytes() == name).map(|bit| Self(1 << bit))
    }
}
