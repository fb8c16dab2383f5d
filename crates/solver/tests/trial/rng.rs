//! A seeded generator (SplitMix64) and the hash that the model makes its ids with.

#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(&[seed, 0x7269_616c]))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scramble(self.0)
    }

    /// Returns a number below `limit`, which must not be 0. The bias is of no matter here.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }
}

fn scramble(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Hashes numbers in order; good enough for ids that nobody attacks.
pub(crate) fn mix(parts: &[u64]) -> u64 {
    parts.iter().fold(0x51_7c_c1_b7, |hash, part| scramble(hash ^ part.wrapping_mul(0xff51_afd7_ed55_8ccd)))
}

/// Spreads numbers over 32 bytes.
pub(crate) fn wide(parts: [u64; 4]) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (chunk, part) in bytes.chunks_mut(8).zip(parts) {
        chunk.copy_from_slice(&part.to_le_bytes());
    }
    bytes
}
