//! Randomness that can be repeated: everything that follows from the seed of a recipe. Each is a function of its arguments, the same
//! in every release, on every machine and for any number of threads. Nothing here keeps a state between calls.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// The order in which epoch `epoch` visits `len` images: a permutation of `0..len`.
pub fn order(seed: u64, epoch: usize, len: usize) -> Vec<usize> {
    let mut draws = Draws::new("order", &[seed, epoch as u64]);
    let mut order: Vec<usize> = (0..len).collect();
    // Fisher and Yates, from the end.
    for last in (1..len).rev() {
        order.swap(last, draws.below(last + 1));
    }
    order
}

/// The draws that augment image `index` in epoch `epoch`.
pub(crate) fn augmentation(seed: u64, epoch: usize, index: usize) -> Draws {
    Draws::new("augmentation", &[seed, epoch as u64, index as u64])
}

/// The seed of the device before initial weights are drawn.
pub(crate) fn weights(seed: u64) -> u64 {
    mixed(seed, u64::MAX)
}

/// The seed of the device before each batch of a step, for dropout.
pub(crate) fn batch(seed: u64, step: u64, number: usize) -> u64 {
    let step = mixed(seed, step);
    // The first batch has the step's own.
    if number == 0 { step } else { mixed(step, number as u64) }
}

/// The splitmix64 mix of a seed and a number.
fn mixed(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A stream of random numbers. The generator is fixed (ChaCha with 8 rounds) and the numbers are
/// drawn from its words here, so that no release of a library can change them.
pub(crate) struct Draws(ChaCha8Rng);

impl Draws {
    fn new(purpose: &str, numbers: &[u64]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"rekindle 1 ");
        hash.update(purpose.as_bytes());
        for number in numbers {
            hash.update(number.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(hash.finalize().into()))
    }

    /// A whole number from 0 to `bound - 1`; 0 when `bound` is 0. The bias is below
    /// `bound / 2^64`.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.0.next_u64()) * bound as u128) >> 64) as usize
    }

    /// A number from `low` on and below `high`, in steps of 2^-53 of the way.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.0.next_u64() >> 11) as f64 / 9_007_199_254_740_992.0
    }

    /// True with probability `p`, in steps of 2^-32.
    pub fn chance(&mut self, p: f64) -> bool {
        f64::from(self.0.next_u32()) < p * 4_294_967_296.0
    }
}
