//! The two ways in which HTTP/3 writes numbers: those of QUIC, of one to eight bytes (RFC 9000 section 16), and those of HPACK and
//! QPACK, behind a prefix of some bits (RFC 7541 section 5.1).

use bytes::{BufMut as _, BytesMut};

/// Most bytes of a number with a prefix behind its first; more of them are beyond what fits.
const MORE_BYTES: usize = 9;

/// A number of QUIC, as far as it has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Number {
    value: u64,
    /// Bytes that are to come.
    left: u8,
    begun: bool,
}

impl Number {
    /// Takes a byte; the number if it is whole.
    pub fn take(&mut self, byte: u8) -> Option<u64> {
        if self.begun {
            self.value = self.value << 8 | u64::from(byte);
            self.left -= 1;
        } else {
            *self = Self { value: u64::from(byte & 0x3f), left: (1 << (byte >> 6)) - 1, begun: true };
        }
        (self.left == 0).then(|| std::mem::take(self).value)
    }

    /// Whether it has begun and is not whole.
    pub fn is_partial(&self) -> bool {
        self.begun
    }
}

/// A number of QUIC at the front, which is taken away.
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = Number::default();
    for (at, byte) in bytes.iter().enumerate() {
        if let Some(value) = number.take(*byte) {
            *bytes = bytes.get(at + 1..)?;
            return Some(value);
        }
    }
    None
}

/// Writes a number of QUIC below 2^62 in as few bytes as it takes.
pub fn put(value: u64, out: &mut BytesMut) {
    match value {
        0..0x40 => out.put_u8(value as u8),
        0x40..0x4000 => out.put_u16(value as u16 | 0x4000),
        0x4000..0x4000_0000 => out.put_u32(value as u32 | 0x8000_0000),
        _ => out.put_u64(value | 0xc000_0000_0000_0000),
    }
}

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
pub fn put_prefixed(first: u8, bits: u32, value: usize, out: &mut BytesMut) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_the_standards() {
        // RFC 9000 appendix A.1; the last is longer than it need be.
        for (wire, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ] {
            let mut rest = wire;
            assert_eq!((take(&mut rest), rest.len()), (Some(value), 0));
            assert_eq!(take(&mut &wire[..wire.len() - 1]), None);
            let mut out = BytesMut::new();
            put(value, &mut out);
            assert!(out == wire || wire == [0x40, 0x25]);
        }
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
        fn what_is_written_is_read(value in 0_u64..1 << 62, bits in 1_u32..=8) {
            let mut out = BytesMut::new();
            put(value, &mut out);
            proptest::prop_assert_eq!(take(&mut &*out), Some(value));
            out.clear();
            let small = value as usize >> 8;
            put_prefixed(0, bits, small, &mut out);
            proptest::prop_assert_eq!(prefixed(&out, 0, bits), Some((small, out.len())));
        }
    }
}
