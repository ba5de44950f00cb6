//! The TCP options of a SYN, one at a time: kinds in their order, MSS, window scale, and what is odd about them.

use super::{Syn, quirk};
use crate::syn_ack::{MAX_OPTIONS, MAX_SCALE, kind};

/// Places are counted by six bits; so many bytes behind the last of them can be read without a further check.
const PLACES: usize = 64;

/// The options of a SYN as they are. Without padding: the kernel side keeps it in a map.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Options, then zeros up to `MAX_OPTIONS` and beyond, so that a read relative to any place lies inside.
    pub bytes: [u8; PLACES + MAX_OPTIONS],
    /// Bytes that the options take.
    pub length: u64,
}

const _: () = assert!(size_of::<Options>() == PLACES + MAX_OPTIONS + 8, "Options has padding");

impl Options {
    /// No options.
    pub const NONE: Self = Self { bytes: [0; PLACES + MAX_OPTIONS], length: 0 };
}

/// Calls `read` with the place of each option, which returns the place of the next.
#[inline(always)]
pub fn walk(length: u64, mut read: impl FnMut(u64) -> u64) {
    let (mut at, mut options) = (0, 0);
    while options < MAX_OPTIONS && at < length {
        at = read(at);
        options += 1;
    }
}

/// Notes the option at `at`, and says where the next begins; [`PLACES`] where none follows.
#[inline(always)]
pub fn read_option(raw: &Options, syn: &mut Syn, at: u64) -> u64 {
    const DONE: u64 = PLACES as u64;
    let at = at as usize & (PLACES - 1);
    let byte = |behind: usize| raw.bytes.get(at + behind).copied().unwrap_or(0);
    let room = (raw.length as usize & (PLACES - 1)).wrapping_sub(at);
    let kind = byte(0);
    syn.layout = [(syn.layout[0] << 8) | (syn.layout[1] >> 56), (syn.layout[1] << 8) | u64::from(kind)];
    syn.options = syn.options.wrapping_add(1);
    if kind == kind::END {
        syn.padding = room.wrapping_sub(1) as u8;
        let (mut behind, mut trailing) = (1, 0);
        while behind < MAX_OPTIONS {
            trailing |= byte(behind);
            behind += 1;
        }
        syn.quirks |= if trailing != 0 { quirk::TRAILING } else { 0 };
        return DONE;
    }
    if kind == kind::NOP {
        return at as u64 + 1;
    }
    let size = usize::from(byte(1));
    if size < 2 || size > room {
        syn.quirks |= quirk::BAD;
        return DONE;
    }
    let wanted = match kind {
        kind::MSS => 4,
        kind::WINDOW_SCALE => 3,
        kind::SACK_PERMITTED => 2,
        kind::TIMESTAMPS => 10,
        _ => size,
    };
    if size != wanted {
        syn.quirks |= quirk::BAD;
    } else if kind == kind::MSS {
        syn.mss = u16::from_be_bytes([byte(2), byte(3)]);
    } else if kind == kind::WINDOW_SCALE {
        syn.scale = byte(2);
        syn.quirks |= if syn.scale > MAX_SCALE { quirk::LARGE_SCALE } else { 0 };
    } else if kind == kind::TIMESTAMPS {
        let own = byte(2) | byte(3) | byte(4) | byte(5);
        let peer = byte(6) | byte(7) | byte(8) | byte(9);
        syn.quirks |= if own == 0 { quirk::TS_ZERO } else { 0 };
        syn.quirks |= if peer != 0 { quirk::PEER_TS } else { 0 };
    }
    (at + size) as u64
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    fn scan(options: &[u8]) -> Syn {
        let mut raw = Options { length: options.len() as u64, ..Options::NONE };
        raw.bytes[..options.len()].copy_from_slice(options);
        let mut syn = Syn::default();
        walk(raw.length, |at| read_option(&raw, &mut syn, at));
        syn
    }

    fn kinds(syn: &Syn) -> Vec<u8> {
        let all = u128::from(syn.layout[0]) << 64 | u128::from(syn.layout[1]);
        (0..syn.options).rev().map(|n| (all >> (8 * u32::from(n))) as u8).collect()
    }

    const LINUX: [u8; 20] = [2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];

    #[test]
    fn options_of_an_ordinary_system() {
        let syn = scan(&LINUX);
        assert_eq!(kinds(&syn), [2, 4, 8, 1, 3]);
        assert_eq!((syn.mss, syn.scale, syn.padding, syn.quirks), (1_460, 7, 0, 0));
        let bsd = scan(&[2, 4, 5, 0xb4, 1, 3, 3, 6, 4, 2, 0, 0]);
        assert_eq!((kinds(&bsd), bsd.padding, bsd.quirks), (Vec::from([2, 1, 3, 4, 0]), 1, 0));
    }

    #[test]
    fn no_options_and_as_many_as_fit() {
        assert_eq!((scan(&[]).options, scan(&[]).padding), (0, 0));
        let all = scan(&[1; 40]);
        assert_eq!((all.options, all.quirks), (40, 0));
        assert_eq!(scan(&[0; 40]).padding, 39);
    }

    #[test]
    fn what_is_wrong_is_a_quirk() {
        for (options, quirks) in [
            (&[2, 1, 0, 0][..], quirk::BAD),             // a length that holds not even itself
            (&[1, 1, 1, 2], quirk::BAD),                 // its length is not there
            (&[2, 4, 5, 0xb4, 8, 10, 0, 0], quirk::BAD), // longer than the header
            (&[2, 3, 5, 1], quirk::BAD),                 // an MSS of one byte
            (&[3, 3, 15, 1], quirk::LARGE_SCALE),
            (&[0, 0, 0, 9], quirk::TRAILING),
            (&[8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1], quirk::TS_ZERO),
            (&[8, 10, 0, 0, 0, 1, 0, 0, 2, 0, 1, 1], quirk::PEER_TS),
        ] {
            assert_eq!(scan(options).quirks, quirks, "{options:?}");
        }
        assert_eq!(scan(&[2, 3, 5, 1]).mss, 0);
        assert_eq!(kinds(&scan(&[1, 2, 9, 9, 1, 1, 1, 1])), [1, 2], "what is behind a bad one is not read");
    }
}
