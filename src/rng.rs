//! Counter-based random numbers: a pure function of a key and a counter.
//!
//! Every random choice in this library is addressed, never drawn from a running state, so that a
//! resumed run, another number of ranks or another order of evaluation meets the same numbers.
//! The mixer is SplitMix64's finaliser (Steele, Lea and Flood, "Fast splittable pseudorandom
//! number generators", OOPSLA 2014).

use std::f64::consts::TAU;

const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's finaliser: a bijection of 64-bit words in which every input bit moves every
/// output bit.
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A key from which numbers, or further keys, are addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    /// The key of a seed.
    pub fn new(seed: u64) -> Self {
        Self(mix(seed.wrapping_add(GOLDEN_GAMMA)))
    }

    /// The key of a named purpose under this key. Purposes with different names are independent.
    pub fn named(self, purpose: &str) -> Self {
        purpose.bytes().fold(self, |key, byte| key.child(u64::from(byte) + 1))
    }

    /// The `i`-th key under this key.
    pub fn child(self, i: u64) -> Self {
        Self(mix(self.word(i) ^ GOLDEN_GAMMA.rotate_left(32)))
    }

    /// The `i`-th 64-bit word under this key.
    pub fn word(self, i: u64) -> u64 {
        mix(self.0.wrapping_add(i.wrapping_add(1).wrapping_mul(GOLDEN_GAMMA)))
    }

    /// The `i`-th number in [0, 1) under this key, a multiple of 2⁻⁵³.
    pub fn uniform(self, i: u64) -> f64 {
        (self.word(i) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// The `i`-th integer in [0, `n`) under this key. The bias is below n / 2⁶⁴.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn below(self, i: u64, n: u64) -> u64 {
        assert!(n > 0, "an integer below 0 was asked for");
        ((u128::from(self.word(i)) * u128::from(n)) >> 64) as u64
    }

    /// The `i`-th standard normal number under this key, by Box and Muller's transform, with the same
    /// bits on every machine.
    pub fn normal(self, i: u64) -> f64 {
        let radius = (-2.0 * libm::log(1.0 - self.uniform(2 * i))).sqrt();
        radius * libm::cos(TAU * self.uniform(2 * i + 1))
    }

    /// The seed of another generator (torch's, a library's) under this key.
    pub fn seed(self) -> u64 {
        self.0
    }
}

/// A running sequence of numbers under a key, for code that draws an unknown number of them.
#[derive(Debug, Clone)]
pub struct Draws {
    key: Key,
    next: u64,
}

impl Draws {
    /// The sequence of a key, from its start.
    pub fn new(key: Key) -> Self {
        Self { key, next: 0 }
    }

    /// The next 64-bit word.
    pub fn word(&mut self) -> u64 {
        self.next += 1;
        self.key.word(self.next - 1)
    }

    /// The next number in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        self.next += 1;
        self.key.uniform(self.next - 1)
    }

    /// The next integer in [0, `n`).
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next += 1;
        self.key.below(self.next - 1, n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference outputs of SplitMix64 seeded with 1234567.
    #[test]
    fn mixer_is_splitmix64() {
        let outputs: Vec<u64> = (1..=3)
            .map(|i: u64| mix(1_234_567u64.wrapping_add(i.wrapping_mul(GOLDEN_GAMMA))))
            .collect();
        assert_eq!(
            outputs,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn purposes_and_counters_are_distinct() {
        let key = Key::new(0);
        assert_ne!(key.named("a"), key.named("b"));
        assert_ne!(key.named("ab"), key.named("ba"));
        assert_ne!(key.child(0), key.child(1));
        assert_ne!(key.child(0).word(0), key.word(0));
        let mean = (0..100_000).map(|i| key.uniform(i)).sum::<f64>() / 1e5;
        assert!((mean - 0.5).abs() < 5.0 * (1.0f64 / 12.0 / 1e5).sqrt(), "{mean}");
    }

    #[test]
    fn normals_have_their_moments() {
        let draws: Vec<f64> = (0..100_000).map(|i| Key::new(3).normal(i)).collect();
        let moment = |k| draws.iter().map(|x| x.powi(k)).sum::<f64>() / draws.len() as f64;
        // Five standard errors of the mean of x, x², x⁴: √(1, 2, 96) / √1e5.
        assert!(moment(1).abs() < 5.0 * 0.0032);
        assert!((moment(2) - 1.0).abs() < 5.0 * 0.0045);
        assert!((moment(4) - 3.0).abs() < 5.0 * 0.031);
    }
}
