//! Numbers and texts as blocks of fields have them (RFC 7541 section 5, which QPACK takes over): a number stands behind a prefix of
//! some bits, a text behind its length, in Huffman's code or not.

use bytes::BufMut;

use super::huffman;

/// Most bytes of a number behind its first; more of them are beyond what fits.
const MORE_BYTES: usize = 9;

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
        put_prefixed(first, bits, text.len(), out);
        out.put_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

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
