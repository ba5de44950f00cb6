//! Changes of a frame that a parser may stumble over: bits, lengths, types, cuts, bytes moved. Blind to what they hit.

use crate::random::Random;

/// The kernel runs no frame shorter than an Ethernet header.
pub const SHORTEST: usize = 14;
/// Bytes that mean something at many places: protocols, header lengths, versions.
const TELLING: [u8; 18] = [0, 1, 2, 4, 5, 6, 8, 17, 43, 44, 58, 60, 0x0f, 0x45, 0x4f, 0x60, 0x80, 0xff];
/// Most bytes that one change adds.
const ADDED: usize = 64;
/// Most bytes that one change moves.
const MOVED: usize = 12;

/// Changes the frame in one of a few ways; it stays long enough for the kernel.
pub fn mutate(frame: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(frame.len());
    match random.below(8) {
        0 => frame[at] = random.word() as u8,
        1 | 2 => frame[at] ^= 1 << random.below(8),
        3 => frame[at] = random.pick(&TELLING),
        4 => frame[at] = frame[at].wrapping_add(random.pick(&[1, 0xff])),
        5 => frame.truncate(at.max(SHORTEST)),
        6 => frame.resize(frame.len() + random.below(ADDED), random.word() as u8),
        _ => {
            // A header moved: bytes repeated in place, or left out.
            let length = random.below(MOVED).min(frame.len() - at);
            if random.once_in(2) {
                let piece = frame[at..at + length].to_vec();
                frame.splice(at..at, piece);
            } else {
                frame.drain(at..at + length);
            }
        }
    }
    frame.resize(frame.len().max(SHORTEST), 0);
}
