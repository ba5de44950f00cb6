//! The numbers of QUIC, of one to eight bytes (RFC 9000 section 16), which HTTP/3 writes outside of blocks of fields.

use bytes::{BufMut as _, BytesMut};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_the_standard() {
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
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(value in 0_u64..1 << 62) {
            let mut out = BytesMut::new();
            put(value, &mut out);
            proptest::prop_assert_eq!(take(&mut &*out), Some(value));
        }
    }
}
