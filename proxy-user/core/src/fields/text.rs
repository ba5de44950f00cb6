//! Numbers and texts as blocks of fields have them (RFC 7541 section 5, which QPACK takes over): a number stands behind a prefix of
//! some bits, a text behind its length, in Huffman's code or not.

use bytes::{BufMut, Bytes, BytesMut};

use super::huffman;

/// Most bytes of a number behind its first; more of them are beyond what fits.
const MORE_BYTES: usize = 9;
/// A text in Huffman's code becomes at most so many times as long: its shortest codes have five bits.
const GROWTH: usize = 2;

/// A number behind a prefix of so many bits, and where it ends.
pub fn prefixed(bytes: &[u8], at: usize, bits: u32) -> Option<(usize, usize)> {
    let mask = u8::MAX >> (8 - bits);
    let first = *bytes.get(at)? & mask;
    if first < mask {
        return Some((first.into(), at + 1));
    }
    let mut value = u64::from(mask);
    for (more, byte) in bytes.get(at + 1..)?.iter().take(MORE_BYTES).enumerate() {
        value = value.checked_add(u64::from(byte & 0x7f) << (7 * more))?;
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, at + more + 2));
        }
    }
    None
}

/// Writes a number behind a prefix of so many bits, whose byte has `first` in the others.
pub fn put_prefixed(first: u8, bits: u32, value: usize, out: &mut impl BufMut) {
    let mask = usize::from(u8::MAX >> (8 - bits));
    if value < mask {
        return out.put_u8(first | value as u8);
    }
    out.put_u8(first | mask as u8);
    let mut left = value - mask;
    while left >= 0x80 {
        out.put_u8(left as u8 | 0x80);
        left >>= 7;
    }
    out.put_u8(left as u8);
}

/// Writes a text whose length has a prefix of so many bits, in Huffman's code where that is shorter, which the bit above the prefix
/// says.
pub fn put_text(first: u8, bits: u32, text: &[u8], out: &mut impl BufMut) {
    let coded = huffman::length(text);
    if coded < text.len() {
        put_prefixed(first | 1 << bits, bits, coded, out);
        huffman::encode(text, out);
    } else {
        put_as_is(first, bits, text, out);
    }
}

/// The same without Huffman's code, whose work is worth it where what comes of it is kept.
pub fn put_as_is(first: u8, bits: u32, text: &[u8], out: &mut impl BufMut) {
    put_prefixed(first, bits, text.len(), out);
    out.put_slice(text);
}

/// Puts a text where it is to be, out of Huffman's code where it is `coded`. None where that is none.
pub fn put_plain(text: &[u8], coded: bool, out: &mut impl BufMut) -> Option<()> {
    if coded {
        return huffman::decode(text, out);
    }
    out.put_slice(text);
    Some(())
}

/// Reads a block of fields from its front to its end.
#[derive(Debug)]
pub struct Reader<'b> {
    block: &'b [u8],
    at: usize,
    /// Where texts are put that are to be kept.
    room: BytesMut,
}

impl<'b> Reader<'b> {
    /// Begins in a block.
    pub fn new(block: &'b [u8]) -> Self {
        Self { block, at: 0, room: BytesMut::new() }
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'b [u8] {
        self.block.get(self.at..).unwrap_or_default()
    }

    /// What was read so far.
    pub fn so_far(&self) -> &'b [u8] {
        self.block.get(..self.at).unwrap_or_default()
    }

    /// The next byte, which is not taken; none at the end.
    pub fn first(&self) -> Option<u8> {
        self.block.get(self.at).copied()
    }

    /// The next number, whose prefix has so many bits.
    pub fn number(&mut self, bits: u32) -> Option<usize> {
        let (number, at) = prefixed(self.block, self.at, bits)?;
        self.at = at;
        Some(number)
    }

    /// The bytes of the next text, whose length has a prefix of so many bits, and whether they are in Huffman's code: see
    /// [`put_text`].
    pub fn text(&mut self, bits: u32) -> Option<(&'b [u8], bool)> {
        let coded = self.first()? >> bits & 1 != 0;
        let length = self.number(bits)?;
        let end = self.at.checked_add(length)?;
        let text = self.block.get(self.at..end)?;
        self.at = end;
        Some((text, coded))
    }

    /// Keeps a text that was just read, with others in one piece of memory.
    pub fn keep(&mut self, text: &[u8], coded: bool) -> Option<Bytes> {
        if self.room.capacity() == 0 {
            // Once, for all that is behind.
            self.room.reserve((self.block.len() - self.at + text.len()) * GROWTH);
        }
        put_plain(text, coded, &mut self.room)?;
        Some(self.room.split().freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_the_standard() {
        // RFC 7541 appendix C.1.
        for (bits, value, wire) in [(5, 10, &[10][..]), (5, 1_337, &[31, 154, 10]), (8, 42, &[42])] {
            let mut out = BytesMut::new();
            put_prefixed(0, bits, value, &mut out);
            assert_eq!(out, wire);
            assert_eq!(prefixed(wire, 0, bits), Some((value, wire.len())));
        }
        assert_eq!(prefixed(&[0x7f; 12], 0, 7), Some((0x7f + 0x7f, 2)));
        assert_eq!(prefixed(&[0xff; 12], 0, 7), None, "beyond any length");
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(value in 0_usize..1 << 54, bits in 1_u32..=8) {
            let mut out = BytesMut::new();
            put_prefixed(0, bits, value, &mut out);
            proptest::prop_assert_eq!(prefixed(&out, 0, bits), Some((value, out.len())));
        }
    }
}
