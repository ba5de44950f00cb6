//! Values that a rate counts by. Several of them make a key; a value that is missing is one of its own.

use super::facts::Facts;
use super::field::{Field, IpField};
use super::value::{IntTerm, Text};

/// One value of a key.
#[derive(Clone, Debug)]
pub(crate) enum KeyPart {
    /// An address, or its network of so many bits (IPv4, IPv6).
    Address(IpField, Option<(u8, u8)>),
    /// A number.
    Number(IntTerm),
    /// A string.
    Text(Text),
}

/// A value as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyValue<'a> {
    /// The client's address as a v4-mapped number, of which a prefix may be meant.
    Source(u128),
    /// A number, or a network's first address.
    Number(u128),
    /// A string.
    Bytes(&'a [u8]),
    /// None.
    Missing,
}

impl KeyPart {
    /// The client's address.
    pub const fn source() -> Self {
        Self::Address(IpField::Src, None)
    }

    /// Calls `see` with every field in it.
    pub fn fields(&self, see: &mut dyn FnMut(Field)) {
        match self {
            Self::Address(field, _) => see(Field::Ip(*field)),
            Self::Number(term) => term.fields(see),
            Self::Text(text) => text.fields(see),
        }
    }

    /// Units of one evaluation.
    pub fn cost(&self) -> u64 {
        match self {
            Self::Address(..) => 2,
            Self::Number(term) => term.cost(),
            Self::Text(text) => text.cost(),
        }
    }

    /// Calls `take` with the value; of several with the first.
    pub fn value<F: Facts>(&self, facts: &F, take: &mut dyn FnMut(KeyValue<'_>)) {
        let found = match self {
            Self::Address(field, network) => {
                let value = facts.ip(*field).map(|address| match network {
                    None if *field == IpField::Src => KeyValue::Source(address),
                    None => KeyValue::Number(address),
                    Some((v4, v6)) => {
                        let bits = if crate::ranges::address(address).is_ipv4() { 96 + v4 } else { *v6 };
                        KeyValue::Number(address & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0))
                    }
                });
                value.is_some_and(|value| {
                    take(value);
                    true
                })
            }
            Self::Number(term) => term.any(facts, &mut |place| {
                take(KeyValue::Number(place));
                true
            }),
            Self::Text(text) => text.any(facts, &mut |bytes| {
                take(KeyValue::Bytes(bytes));
                true
            }),
        };
        if !found {
            take(KeyValue::Missing);
        }
    }
}
