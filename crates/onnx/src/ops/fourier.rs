//! The discrete Fourier transform of any length: by its prime factors.

use crate::{Error, Result};

/// Real and imaginary part.
pub(super) type Complex = (f64, f64);

fn times((a, b): Complex, (c, d): Complex) -> Complex {
    (a * c - b * d, a * d + b * c)
}

/// What transforms of one length share.
pub(super) struct Plan {
    /// The roots of unity, clockwise.
    roots: Vec<Complex>,
    factors: Vec<usize>,
}

/// A prime factor above this makes a transform too slow to be meant.
const GREATEST_FACTOR: usize = 1 << 16;

impl Plan {
    /// # Errors
    /// When the length has too great a prime factor.
    pub fn new(n: usize) -> Result<Self> {
        let mut factors = Vec::new();
        let (mut rest, mut factor) = (n, 2);
        while rest > 1 {
            if factor * factor > rest {
                factor = rest;
            }
            while rest.is_multiple_of(factor) {
                factors.push(factor);
                rest /= factor;
            }
            factor += 1;
        }
        if factors.last().is_some_and(|&last| last > GREATEST_FACTOR) {
            return Err(Error::beyond(format!(
                "a transform of {n} values, with a prime factor above {GREATEST_FACTOR},"
            )));
        }
        let root = |i: usize| {
            let angle = -2.0 * std::f64::consts::PI * i as f64 / n as f64;
            (angle.cos(), angle.sin())
        };
        Ok(Self { roots: (0..n).map(root).collect(), factors })
    }

    /// The spectrum of as many numbers as the plan is for, or the numbers of a spectrum.
    pub fn transform(&self, signal: &[Complex], inverse: bool) -> Vec<Complex> {
        let n = signal.len();
        let mut result = vec![(0.0, 0.0); n];
        if inverse {
            let turned: Vec<_> = signal.iter().map(|&(re, im)| (re, -im)).collect();
            self.step(&turned, 1, &mut result, &self.factors);
            return result.into_iter().map(|(re, im)| (re / n as f64, -im / n as f64)).collect();
        }
        self.step(signal, 1, &mut result, &self.factors);
        result
    }

    /// The transform of every `stride`-th number.
    fn step(&self, signal: &[Complex], stride: usize, result: &mut [Complex], factors: &[usize]) {
        let n = result.len();
        let Some((&factor, rest)) = factors.split_first() else {
            result[0] = signal[0];
            return;
        };
        let part = n / factor;
        for (i, result) in result.chunks_exact_mut(part).enumerate() {
            self.step(&signal[i * stride..], stride * factor, result, rest);
        }
        let mut terms = vec![(0.0, 0.0); factor];
        for k in 0..part {
            if k % 256 == 0 && crate::limit::is_over() {
                return;
            }
            for (i, term) in terms.iter_mut().enumerate() {
                *term = times(result[i * part + k], self.roots[i * k % n * stride]);
            }
            for j in 0..factor {
                // A large prime takes its square.
                if factor > 1024 && crate::limit::is_over() {
                    return;
                }
                let sum = terms.iter().enumerate().fold((0.0, 0.0), |sum, (i, &term)| {
                    let (re, im) = times(term, self.roots[i * j % factor * part * stride]);
                    (sum.0 + re, sum.1 + im)
                });
                result[j * part + k] = sum;
            }
        }
    }
}
