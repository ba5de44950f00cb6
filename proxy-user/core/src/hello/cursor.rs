//! Reading of length-prefixed fields (RFC 8446 section 3.4) and of QUIC's variable-length integers (RFC 9000 section 16).

use super::Malformed;

const BEHIND: Malformed = Malformed("a field ends behind the message");

/// Bytes that are left to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    /// The next bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(BEHIND)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of one byte.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(BEHIND)?;
        self.0 = rest;
        Ok(*first)
    }

    /// A number of two bytes.
    pub fn short(&mut self) -> Result<u16, Malformed> {
        Ok(self.take(2)?.iter().fold(0, |number, byte| number << 8 | u16::from(*byte)))
    }

    /// A number of four bytes.
    pub fn long(&mut self) -> Result<u32, Malformed> {
        Ok(self.take(4)?.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    /// A field behind its length in one byte.
    pub fn short_field(&mut self) -> Result<Self, Malformed> {
        let length = self.byte()?;
        self.take(length.into()).map(Self)
    }

    /// A field behind its length in two bytes.
    pub fn field(&mut self) -> Result<Self, Malformed> {
        let length = self.short()?;
        self.take(length.into()).map(Self)
    }

    /// A field behind its length in QUIC's form.
    pub fn quic_field(&mut self) -> Result<Self, Malformed> {
        let length = self.quic_number()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX)).map(Self)
    }

    /// A number in QUIC's form.
    pub fn quic_number(&mut self) -> Result<u64, Malformed> {
        let first = self.byte()?;
        let more = (1_usize << (first >> 6)) - 1;
        Ok(self.take(more)?.iter().fold(u64::from(first & 0x3f), |number, byte| number << 8 | u64::from(*byte)))
    }

    /// Numbers of two bytes, up to the end.
    pub fn shorts(mut self) -> Result<Vec<u16>, Malformed> {
        let mut found = Vec::with_capacity(self.0.len() / 2);
        while !self.0.is_empty() {
            found.push(self.short()?);
        }
        Ok(found)
    }
}
