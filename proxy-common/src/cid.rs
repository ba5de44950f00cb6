//! QUIC connection ids that say where the connection lives: worker and process generation, under a key.
//!
//! Twelve bytes: eight of nonce, one of place, three of mark. Place is masked and the mark computed with a keyed hash
//! of the nonce, so that an observer can neither link ids to workers nor make ids that pass for ours (RFC 9000 section
//! 5.1 asks for the first; the QUIC-LB draft does both alike).

use crate::abi::{MAX_GENERATIONS, MAX_WORKERS, QuicKey};
use crate::siphash::siphash24;

/// Bytes of a connection id.
pub const CID_LEN: usize = 12;

const _: () = assert!(MAX_WORKERS * MAX_GENERATIONS == 256, "the place is one byte");

/// Where a connection lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Worker, below [`MAX_WORKERS`].
    pub worker: u32,
    /// Process generation, below [`MAX_GENERATIONS`].
    pub generation: u32,
}

/// Makes a connection id out of a random nonce.
#[inline(always)]
pub const fn encode(key: QuicKey, nonce: [u8; 8], place: Place) -> [u8; CID_LEN] {
    let mask = siphash24(key.k0, key.k1, u64::from_le_bytes(nonce)).to_le_bytes();
    let byte = ((place.generation % MAX_GENERATIONS) * MAX_WORKERS + place.worker % MAX_WORKERS) as u8;
    let [a, b, c, d, e, f, g, h] = nonce;
    [a, b, c, d, e, f, g, h, byte ^ mask[0], mask[1], mask[2], mask[3]]
}

/// Reads a connection id; `None` where the mark is not ours.
#[inline(always)]
pub const fn decode(key: QuicKey, cid: [u8; CID_LEN]) -> Option<Place> {
    let [a, b, c, d, e, f, g, h, byte, m1, m2, m3] = cid;
    let mask = siphash24(key.k0, key.k1, u64::from_le_bytes([a, b, c, d, e, f, g, h])).to_le_bytes();
    if (m1 ^ mask[1]) | (m2 ^ mask[2]) | (m3 ^ mask[3]) != 0 {
        return None;
    }
    let place = (byte ^ mask[0]) as u32;
    Some(Place { worker: place % MAX_WORKERS, generation: place / MAX_WORKERS })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: QuicKey = QuicKey { k0: 0x0123_4567_89ab_cdef, k1: 0xfedc_ba98_7654_3210 };

    #[test]
    fn every_place_comes_back() {
        for generation in 0..MAX_GENERATIONS {
            for worker in 0..MAX_WORKERS {
                let place = Place { worker, generation };
                let nonce = u64::from(worker * 7919 + generation).to_le_bytes();
                assert_eq!(decode(KEY, encode(KEY, nonce, place)), Some(place));
            }
        }
    }

    #[test]
    fn foreign_ids_are_refused() {
        let id = encode(KEY, [7; 8], Place { worker: 3, generation: 1 });
        for bit in 72..96 {
            let mut other = id;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(KEY, other), None, "bit {bit} of the mark");
        }
        assert_eq!(decode(QuicKey { k0: 1, k1: 2 }, id), None);
    }
}
