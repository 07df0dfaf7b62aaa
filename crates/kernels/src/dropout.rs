//! Dropout with a mask that is a function of a seed and a position: the backward pass draws the same again and nothing is stored.

use pulp::{Simd, WithSimd};

use crate::arch::Arch;
use crate::parallel::each_chunk;

/// Values that one thread does at a time.
const PIECE: usize = 1 << 14;
/// About as many operations a value takes.
const COST: usize = 32;

/// Which values are dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Decides about all values.
    pub seed: u64,
    /// Probability of a value to be kept, above 0 and at most 1.
    pub kept: f64,
}

impl Dropout {
    /// Drops values, and multiplies the others so that their mean stays what it was.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn apply(&self, values: &[f32], output: &mut [f32]) {
        assert_eq!(values.len(), output.len(), "as many values come out");
        let arch = Arch::new();
        each_chunk(output, PIECE, COST * values.len(), |piece, output| {
            output.copy_from_slice(&values[piece * PIECE..][..output.len()]);
            arch.dispatch(Masked { mask: self.mask(piece), values: output });
        });
    }

    /// The same in place; a gradient is masked as the values were.
    pub fn apply_in_place(&self, values: &mut [f32]) {
        let arch = Arch::new();
        let cost = COST * values.len();
        each_chunk(values, PIECE, cost, |piece, values| arch.dispatch(Masked { mask: self.mask(piece), values }));
    }

    fn mask(&self, piece: usize) -> Mask {
        let first = (piece * PIECE) as u64;
        let [low, high] = [self.seed as u32, (self.seed >> 32) as u32];
        Mask {
            // Positions past 2³² get another key, not the same bits again.
            first: first as u32,
            keys: [low, high ^ (first >> 32) as u32],
            limit: (self.kept * f64::from(u32::MAX)) as u32,
            factor: (1.0 / self.kept) as f32,
        }
    }
}

#[derive(Clone, Copy)]
struct Mask {
    first: u32,
    keys: [u32; 2],
    limit: u32,
    factor: f32,
}

/// A hash of 32 bits of which each bit in changes half of those that come out.
#[inline(always)]
fn mixed(mut bits: u32) -> u32 {
    bits ^= bits >> 16;
    bits = bits.wrapping_mul(0x7feb_352d);
    bits ^= bits >> 15;
    bits = bits.wrapping_mul(0x846c_a68b);
    bits ^ bits >> 16
}

struct Masked<'a> {
    mask: Mask,
    values: &'a mut [f32],
}

impl WithSimd for Masked<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Mask { first, keys, limit, factor } = self.mask;
        for (i, value) in self.values.iter_mut().enumerate() {
            let bits = mixed(mixed(first.wrapping_add(i as u32) ^ keys[0]).wrapping_add(keys[1]));
            *value *= if bits <= limit { factor } else { 0.0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_its_share_and_keeps_the_mean() {
        for (seed, kept) in [(1, 0.8), (u64::MAX - 5, 0.3), (0x1234_5678_9abc_def0, 0.5)] {
            let values = vec![1.0; 200_000];
            let mut output = vec![f32::NAN; values.len()];
            Dropout { seed, kept }.apply(&values, &mut output);
            let share = output.iter().filter(|value| **value != 0.0).count() as f64 / values.len() as f64;
            assert!((share - kept).abs() < 0.005, "{share} of the values were kept, expected {kept}");
            assert!(output.iter().all(|value| *value == 0.0 || *value == (1.0 / kept) as f32));
            // Neighbours know nothing of each other.
            let both =
                output.windows(2).filter(|pair| pair[0] != 0.0 && pair[1] != 0.0).count() as f64 / values.len() as f64;
            assert!((both - kept * kept).abs() < 0.005, "{both} of the pairs were kept");
        }
    }

    #[test]
    fn the_same_seed_drops_the_same_and_another_others() {
        let values: Vec<f32> = (0..100_000).map(|i| i as f32 - 5e4).collect();
        let run = |seed| {
            let mut output = vec![0.0; values.len()];
            Dropout { seed, kept: 0.5 }.apply(&values, &mut output);
            output
        };
        let mut again = values.clone();
        Dropout { seed: 9, kept: 0.5 }.apply_in_place(&mut again);
        assert_eq!(run(9), again);
        for other in [10, 9 + (1 << 32), 9 ^ (1 << 63)] {
            let same = run(9).iter().zip(run(other)).filter(|(a, b)| (**a == 0.0) == (*b == 0.0)).count();
            assert!((45_000..55_000).contains(&same), "{same} of 100,000 values have the same fate");
        }
    }

    #[test]
    fn nothing_is_dropped_when_all_is_kept() {
        let mut values: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        Dropout { seed: 3, kept: 1.0 }.apply_in_place(&mut values);
        assert!(values.iter().enumerate().all(|(i, value)| *value == i as f32));
    }
}
