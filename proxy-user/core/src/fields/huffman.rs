//! The Huffman code of HPACK and QPACK (RFC 7541 appendix B). It is canonical, codes of a length following each other by symbol, so
//! that the lengths say all of it.

use bytes::BufMut;

/// Bits of each byte's code.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];
/// Bits of the longest code; that of the end of a string, which may not stand in one, is as long.
const LONGEST: usize = 30;
/// Bits of the codes that are looked up at once.
const SHORT: usize = 8;
/// Bytes that are handed on together.
const PIECE: usize = 64;

/// What follows from the lengths.
struct Codes {
    /// By byte.
    of: [u32; 256],
    /// By the next bits: the byte and the bits of its code, 0 where that is longer.
    short: [(u8, u8); 1 << SHORT],
    /// By length: its first code, how many there are, and where they stand in `sorted`.
    first: [(u32, u32, u16); LONGEST + 1],
    /// Bytes in the order of their codes.
    sorted: [u8; 256],
}

static CODES: Codes = codes();

const fn codes() -> Codes {
    let mut made =
        Codes { of: [0; 256], short: [(0, 0); 1 << SHORT], first: [(0, 0, 0); LONGEST + 1], sorted: [0; 256] };
    let (mut next, mut place, mut length) = (0_u32, 0_u16, 1);
    while length <= LONGEST {
        made.first[length] = (next, 0, place);
        let mut byte = 0;
        while byte < 256 {
            if LENGTHS[byte] as usize == length {
                made.of[byte] = next;
                made.sorted[place as usize] = byte as u8;
                made.first[length].1 += 1;
                if length <= SHORT {
                    let (mut at, end) = (next << (SHORT - length), (next + 1) << (SHORT - length));
                    while at < end {
                        made.short[at as usize] = (byte as u8, length as u8);
                        at += 1;
                    }
                }
                next += 1;
                place += 1;
            }
            byte += 1;
        }
        next <<= 1;
        length += 1;
    }
    made
}

/// Bytes that a text takes in the code.
pub fn length(text: &[u8]) -> usize {
    let bits: usize = text.iter().map(|byte| usize::from(LENGTHS[usize::from(*byte)])).sum();
    bits.div_ceil(8)
}

/// Writes a text in the code.
pub fn encode(text: &[u8], out: &mut impl BufMut) {
    let (mut held, mut count) = (0_u64, 0);
    for byte in text {
        let byte = usize::from(*byte);
        held = held << LENGTHS[byte] | u64::from(CODES.of[byte]);
        count += u32::from(LENGTHS[byte]);
        if count >= 32 {
            count -= 32;
            out.put_u32((held >> count) as u32);
        }
    }
    while count >= 8 {
        count -= 8;
        out.put_u8((held >> count) as u8);
    }
    if count > 0 {
        // Filled up with the beginning of the code that ends strings (RFC 7541 section 5.2).
        out.put_u8((held << (8 - count)) as u8 | u8::MAX >> count);
    }
}

/// Reads a text that was written in the code; None where it was not.
pub fn decode(coded: &[u8], out: &mut impl BufMut) -> Option<()> {
    let mut coded = coded;
    // The bits to be read stand at the top.
    let (mut held, mut count) = (0_u64, 0_u32);
    // Handed on in pieces: a byte for itself costs more than to read it.
    let (mut room, mut filled) = ([0; PIECE], 0);
    loop {
        if count < LONGEST as u32 {
            (held, count, coded) = refilled(held, count, coded);
        }
        let (byte, length) = match CODES.short[usize::from((held >> 56) as u8)] {
            (_, 0) => long(held)?,
            short => short,
        };
        if u32::from(length) > count {
            break;
        }
        if filled == PIECE {
            out.put_slice(&room);
            filled = 0;
        }
        room[filled % PIECE] = byte;
        filled += 1;
        held <<= length;
        count -= u32::from(length);
    }
    out.put_slice(room.get(..filled)?);
    // What is left are fewer than eight bits, all set.
    (count < 8 && held.count_ones() == count).then_some(())
}

/// Puts as many bits behind those that are held as there is room for.
fn refilled(mut held: u64, mut count: u32, mut coded: &[u8]) -> (u64, u32, &[u8]) {
    if let Some(word) = coded.first_chunk() {
        // Whole bytes of them are taken; what was put there of the next one comes again.
        let bytes = (u64::BITS - 1 - count) / u8::BITS;
        let bits = count + bytes * u8::BITS;
        held = (held | u64::from_be_bytes(*word) >> count) & !(u64::MAX >> bits);
        return (held, bits, coded.get(bytes as usize..).unwrap_or_default());
    }
    while count <= u64::BITS - u8::BITS
        && let Some((byte, rest)) = coded.split_first()
    {
        held |= u64::from(*byte) << (u64::BITS - u8::BITS - count);
        count += u8::BITS;
        coded = rest;
    }
    (held, count, coded)
}

/// A byte whose code is longer than those that are looked up, and the length of that. What is none is told as longer than all.
fn long(held: u64) -> Option<(u8, u8)> {
    for (length, (first, count, place)) in CODES.first.iter().enumerate().skip(SHORT + 1) {
        let behind = ((held >> (64 - length)) as u32).checked_sub(*first)?;
        if behind < *count {
            return Some((*CODES.sorted.get(usize::from(*place) + behind as usize)?, length as u8));
        }
    }
    Some((0, u8::MAX))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut out = BytesMut::new();
        decode(coded, &mut out).map(|()| out.to_vec())
    }

    #[test]
    fn examples_of_the_standard() {
        // RFC 7541 appendix C.4 and C.6.
        for (text, coded) in [
            ("www.example.com", &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..]),
            ("no-cache", &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]),
            ("302", &[0x64, 0x02]),
            ("private", &[0xae, 0xc3, 0x77, 0x1a, 0x4b]),
        ] {
            let mut out = BytesMut::new();
            encode(text.as_bytes(), &mut out);
            assert_eq!(out, coded);
            assert_eq!(length(text.as_bytes()), coded.len());
            assert_eq!(decoded(coded).as_deref(), Some(text.as_bytes()));
        }
    }

    #[test]
    fn what_the_code_does_not_have() {
        assert_eq!(decoded(&[]).as_deref(), Some(&b""[..]));
        assert_eq!(decoded(&[0xff; 1]), None, "eight bits of nothing");
        assert_eq!(decoded(&[0xff; 4]), None, "the end of a string");
        assert_eq!(decoded(&[0xff; 9]), None);
        assert_eq!(decoded(&[0x64]), None, "filled up with zeros");
        assert_eq!(decoded(&[0x07]).as_deref(), Some(&b"0"[..]));
        assert_eq!(decoded(&[0x06]), None);
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(text in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let mut out = BytesMut::new();
            encode(&text, &mut out);
            proptest::prop_assert_eq!(out.len(), length(&text));
            proptest::prop_assert_eq!(decoded(&out), Some(text));
        }

        #[test]
        fn any_bytes_will_do(coded in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            // What can be read has one way to be written.
            if let Some(text) = decoded(&coded) {
                let mut out = BytesMut::new();
                encode(&text, &mut out);
                proptest::prop_assert_eq!(out.to_vec(), coded);
            }
        }
    }
}
