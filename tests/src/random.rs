//! A small generator of numbers: a seed replays a run.

/// xorshift64* (Vigna 2016) behind a mixed seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Seeded; any number will do.
    pub fn new(seed: u64) -> Self {
        // The finalizer of splitmix64: seeds that are near each other must not give streams that are.
        let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((x ^ (x >> 31)) | 1)
    }

    /// A generator of its own for part number `part`.
    pub fn part(seed: u64, part: u64) -> Self {
        Self::new(Self::new(seed).word() ^ part)
    }

    /// The next number, of 64 bits.
    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`; 0 for 0.
    pub fn below(&mut self, bound: usize) -> usize {
        // The high bits are the better ones.
        ((self.word() >> 16) % bound.max(1) as u64) as usize
    }

    /// A number from `low` to `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + (self.word() >> 8) % (high - low + 1)
    }

    /// Once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of them.
    ///
    /// # Panics
    /// Of none.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}
