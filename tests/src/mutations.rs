//! The differential slice: frames of the verdict table, mutated, through the host's decision and the loaded program. The
//! two run the same source, but not the same compiler's output, nor the same bounds checks: a difference is a defect.

use anyhow::{Context as _, Result};

use crate::packets::Frame;
use crate::verdict_table::Bench;

/// Mutated frames of one run; the counters are read around each, which is what takes the time.
pub const FRAMES: u32 = 20_000;
/// Most mutations of one frame.
const MOST: u64 = 4;
/// The kernel runs no frame shorter than an Ethernet header.
const SHORTEST: usize = 14;

/// A small generator, so that a seed replays a run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // xorshift64*, Vigna 2016.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Runs the slice over mutations of `frames`; the error names seed, number and bytes of the frame that differs.
pub fn run<'a>(bench: &Bench, seed: u64, frames: impl Iterator<Item = &'a Frame>) -> Result<()> {
    let frames: Vec<Vec<u8>> = frames.map(Frame::build).collect();
    let mut random = Random(seed | 1);
    for number in 0..FRAMES {
        let mut frame = frames[random.below(frames.len())].clone();
        for _ in 0..=random.next() % MOST {
            mutate(&mut frame, &mut random);
        }
        frame.resize(frame.len().max(SHORTEST), 0);
        bench.agree(&frame).with_context(|| format!("seed {seed}, frame {number}"))?;
    }
    Ok(())
}

fn mutate(frame: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(frame.len());
    match random.next() % 6 {
        0 => frame[at] = random.next() as u8,
        1 => frame[at] ^= 1 << random.below(8),
        2 => frame[at] = [0, 1, 4, 5, 6, 17, 0x0f, 0x45, 0x4f, 0x60, 0x7f, 0x80, 0xff][random.below(13)],
        3 => frame.truncate(at.max(SHORTEST)),
        4 => frame.resize(frame.len() + random.below(64), random.next() as u8),
        _ => {
            // A header moved: bytes repeated in place.
            let length = random.below(12).min(frame.len() - at);
            let piece = frame[at..at + length].to_vec();
            frame.splice(at..at, piece);
        }
    }
}
