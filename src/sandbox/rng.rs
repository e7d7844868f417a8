//! Seeded pseudo-random numbers: splitmix64, so that one `--seed` repeats a run's faults.

/// The increment of splitmix64 (the golden ratio, as published by Steele, Lea and Flood).
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// Returns the `n`-th number of the stream that belongs to `seed`.
pub fn nth(seed: u64, n: u64) -> u64 {
    finish(seed.wrapping_add(n.wrapping_add(1).wrapping_mul(GAMMA)))
}

/// A stream of numbers.
#[derive(Clone, Debug)]
pub struct SplitMix {
    state: u64,
}

impl SplitMix {
    /// Starts the stream that belongs to `seed`.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Returns the next number.
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        finish(self.state)
    }
}

const fn finish(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_published_vector() {
        let mut rng = SplitMix::new(1_234_567);
        let got: Vec<u64> = (0..3).map(|_| rng.next()).collect();
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(got, published);
        assert_eq!(
            [nth(1_234_567, 0), nth(1_234_567, 1), nth(1_234_567, 2)],
            published
        );
    }
}
