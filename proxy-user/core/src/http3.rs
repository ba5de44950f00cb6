//! Extended CONNECT of HTTP/3 (RFC 9220), read beside an implementation that refuses its `:protocol`: the first block of fields on
//! a request stream is found in the bytes as they come, and in it the pseudo-field is given a name that fields may have, of the
//! same length. Nothing is decompressed for it: without a dynamic table a name is written in one of two ways (RFC 9204 section
//! 4.5.6). Bytes in, bytes changed in place; that a block is whole and right is for the implementation to say.

use std::ops::Range;

/// What `:protocol` is called then.
pub const PROTOCOL: &str = "zprotocol";

/// Types of frames (RFC 9114 section 7.2): whatever else may stand before the fields is none of HTTP's own.
const DATA: u64 = 0;
const HEADERS: u64 = 1;
/// `:protocol` and [`PROTOCOL`] as they are, and in the Huffman code of RFC 7541 appendix B; they differ in the first byte.
const PLAIN: (&[u8], u8) = (b":protocol", b'z');
const CODED: (&[u8], u8) = (&[0xb9, 0x5d, 0x87, 0x49, 0xc8, 0x7a, 0x3f], 0xf7);
/// Most bytes of a number with a prefix; more of them are beyond what fits (RFC 7541 section 5.1).
const NUMBER_BYTES: u32 = 9;

/// What a stream has brought so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// More has to come before the first block of fields is whole.
    Partial,
    /// It is here.
    Fields(Range<usize>),
    /// It will not come: something else stands first.
    Other,
}

/// Looks for the first block of fields on a request stream.
pub fn start(bytes: &[u8]) -> Start {
    let mut at = 0;
    loop {
        let Some((kind, behind)) = variable(bytes, at) else { return Start::Partial };
        if kind == DATA {
            return Start::Other;
        }
        let Some((length, begin)) = variable(bytes, behind) else { return Start::Partial };
        let end = usize::try_from(length).ok().and_then(|length| begin.checked_add(length));
        let Some(end) = end else { return Start::Other };
        if end > bytes.len() {
            return Start::Partial;
        }
        if kind == HEADERS {
            return Start::Fields(begin..end);
        }
        at = end;
    }
}

/// Places in a block of fields where `:protocol` begins, with what to put there instead.
pub fn protocols(block: &[u8]) -> impl Iterator<Item = (usize, u8)> + '_ {
    let mut lines = Lines { block, at: None };
    std::iter::from_fn(move || lines.next_protocol())
}

struct Lines<'b> {
    block: &'b [u8],
    /// None before the prefix.
    at: Option<usize>,
}

impl Lines<'_> {
    fn next_protocol(&mut self) -> Option<(usize, u8)> {
        let mut at = if let Some(at) = self.at {
            at
        } else {
            // Required Insert Count and Base (section 4.5.1).
            let (_, at) = number(self.block, 0, 8)?;
            number(self.block, at, 7)?.1
        };
        loop {
            let first = *self.block.get(at)?;
            let mut found = None;
            at = match first {
                // Indexed, of either table.
                0x80.. => number(self.block, at, 6)?.1,
                0x10..0x20 => number(self.block, at, 4)?.1,
                // A name by its index.
                0x40..0x80 => string(self.block, number(self.block, at, 4)?.1, 7)?.end,
                0x00..0x10 => string(self.block, number(self.block, at, 3)?.1, 7)?.end,
                // A name as it is.
                0x20..0x40 => {
                    let name = string(self.block, at, 3)?;
                    let (known, instead) = if first & 0x08 == 0 { PLAIN } else { CODED };
                    if self.block.get(name.clone()) == Some(known) {
                        found = Some((name.start, instead));
                    }
                    string(self.block, name.end, 7)?.end
                }
            };
            if found.is_some() {
                self.at = Some(at);
                return found;
            }
        }
    }
}

/// A number of variable length (RFC 9000 section 16), and where it ends.
fn variable(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let first = *bytes.get(at)?;
    let end = at + (1 << (first >> 6));
    let rest = bytes.get(at + 1..end)?;
    Some((rest.iter().fold(u64::from(first & 0x3f), |number, byte| number << 8 | u64::from(*byte)), end))
}

/// A number behind a prefix (RFC 7541 section 5.1) of so many bits, and where it ends.
fn number(bytes: &[u8], at: usize, bits: u32) -> Option<(u64, usize)> {
    let mask = u8::MAX >> (8 - bits);
    let first = *bytes.get(at)? & mask;
    if first < mask {
        return Some((first.into(), at + 1));
    }
    let mut value = u64::from(mask);
    for more in 0..NUMBER_BYTES {
        let place = at + 1 + more as usize;
        let byte = *bytes.get(place)?;
        value = value.checked_add(u64::from(byte & 0x7f) << (7 * more))?;
        if byte & 0x80 == 0 {
            return Some((value, place + 1));
        }
    }
    None
}

/// Where the bytes of a string lie whose length has a prefix of so many bits.
fn string(bytes: &[u8], at: usize, bits: u32) -> Option<Range<usize>> {
    let (length, begin) = number(bytes, at, bits)?;
    let end = begin.checked_add(usize::try_from(length).ok()?)?;
    (end <= bytes.len()).then_some(begin..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the `pylsqpack` package writes it: CONNECT, `:protocol: websocket`, https, `/x`, `first.test`.
    const CODED_BLOCK: &str = "0000cf2f00b95d8749c87a3f87f058d072752a7fd751022f78508794d6212ba4a84f";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_protocol_is_found_however_it_is_written() {
        let mut coded = bytes(CODED_BLOCK);
        assert_eq!(protocols(&coded).collect::<Vec<_>>(), [(5, 0xf7)]);
        coded[5] = 0xf7;
        assert_eq!(protocols(&coded).count(), 0);
        // Never to be indexed, plain, behind a literal with an indexed name, of the post-base kind and of this one.
        let plain =
            [&b"\x00\x00\x5f\x1d\x03abc\x02\x01v\x12\x21x\x01y\x37\x02:protocol\x09websocket"[..], &[0xd1]].concat();
        assert_eq!(protocols(&plain).collect::<Vec<_>>(), [(18, b'z')], "{plain:?}");
        // In a value it is none, and nor is what only begins so.
        for other in
            [&b"\x00\x00\x21x\x09:protocol"[..], b"\x00\x00\x27\x03:protocols\x01x", b"\x00\x00\x27\x02zprotocol\x01x"]
        {
            assert_eq!(protocols(other).count(), 0, "{other:?}");
        }
        for end in 0..coded.len() {
            assert!(protocols(&bytes(CODED_BLOCK)[..end]).count() <= 1);
        }
    }

    #[test]
    fn the_first_block_is_waited_for() {
        let wire = [&[0x21, 2, 7, 7, 0x40, 0x41, 0, 1, 3][..], &[0, 0, 0xd1], &[0, 1, 9]].concat();
        assert_eq!(start(&wire), Start::Fields(9..12));
        for end in 0..12 {
            assert_eq!(start(&wire[..end]), Start::Partial, "{end}");
        }
        assert_eq!(start(&[0, 1, 9]), Start::Other, "data first");
        assert_eq!(start(&[1, 0xff, 255, 255, 255, 255, 255, 255, 255]), Start::Partial);
    }

    proptest::proptest! {
        /// Any bytes: no panic, and what is found lies in them.
        #[test]
        fn any_bytes_will_do(wire in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            if let Start::Fields(range) = start(&wire) {
                proptest::prop_assert!(range.end <= wire.len());
            }
            for (place, _) in protocols(&wire) {
                proptest::prop_assert!(place < wire.len());
            }
        }
    }
}
