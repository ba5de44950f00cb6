//! What a rate counts together: the values of its key as one number. Keyed, so that nobody can choose values that share a
//! place with another's.

use std::net::IpAddr;

use proxy_common::siphash::siphash24;

use super::lang::{Facts, Field, KeyPart, KeyValue, LangError, Lists, parse_key};

/// The values of a key, in order.
#[derive(Clone, Debug)]
pub(crate) struct RateKey {
    /// As written: what two rules must agree on to count into one table over a reload.
    pub text: Vec<String>,
    parts: Vec<KeyPart>,
}

impl RateKey {
    /// Checks the values; an error comes with the place of its value.
    pub fn new(text: &[String], lists: &Lists) -> Result<Self, (usize, LangError)> {
        let part = |(place, text): (usize, &String)| parse_key(text, lists).map_err(|error| (place, error));
        let parts = text.iter().enumerate().map(part).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_vec(), parts })
    }

    /// The source alone.
    pub fn source() -> Self {
        Self { text: vec!["ip.src".to_owned()], parts: vec![KeyPart::source()] }
    }

    /// Calls `see` with every field in it.
    pub fn fields(&self, see: &mut dyn FnMut(Field)) {
        self.parts.iter().for_each(|part| part.fields(see));
    }

    /// Units of one evaluation.
    pub fn cost(&self) -> u64 {
        self.parts.iter().map(KeyPart::cost).sum()
    }

    /// Its values for a request as one number, never 0.
    pub fn number<F: Facts>(&self, facts: &F, seed: [u64; 2], ipv6_prefix: u8) -> u64 {
        let mut hash = Hash { seed, state: 0 };
        for part in &self.parts {
            part.value(facts, &mut |value| hash.value(value, ipv6_prefix));
        }
        hash.state.max(1)
    }
}

/// A chain of `SipHash`: each word is mixed with all before it, and no key is the start of another's.
struct Hash {
    seed: [u64; 2],
    state: u64,
}

/// Ends an IPv6 prefix, so that none counts as an IPv4 address.
const IPV6: u64 = u64::MAX - 1;
/// Stands for a value that is missing.
const MISSING: u64 = u64::MAX;

impl Hash {
    fn word(&mut self, word: u64) {
        let [k0, k1] = self.seed;
        self.state = siphash24(k0, k1, self.state ^ word);
    }

    fn value(&mut self, value: KeyValue<'_>, ipv6_prefix: u8) {
        match value {
            KeyValue::Source(address) => match crate::ranges::address(address) {
                IpAddr::V4(v4) => self.word(v4.to_bits().into()),
                IpAddr::V6(v6) => {
                    let bits = u32::from(ipv6_prefix.clamp(1, 64));
                    self.word((v6.to_bits() >> 64) as u64 & (u64::MAX << (64 - bits)));
                    self.word(IPV6);
                }
            },
            KeyValue::Number(number) => {
                self.word((number >> 64) as u64);
                self.word(number as u64);
            }
            KeyValue::Bytes(bytes) => {
                self.word(bytes.len() as u64);
                for chunk in bytes.chunks(8) {
                    self.word(chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
                }
            }
            KeyValue::Missing => self.word(MISSING),
        }
    }
}
