//! Means of planes, and planes times a factor each: what squeeze-excitation and the end of a classifier need.
#![allow(unsafe_code)]

use pulp::{Simd, WithSimd};

use super::sums::sum;
use crate::arch::Arch;
use crate::parallel::each;
use crate::room::Room;

/// Values that one task does at a time, at least.
const PIECE: usize = 1 << 13;

/// The sizes of `[planes, pixels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planes {
    /// Channels of all samples.
    pub planes: usize,
    /// Values of a channel.
    pub pixels: usize,
}

/// What is done to each plane.
enum Work<'a> {
    /// One value from each.
    Mean { input: &'a [f32], output: &'a Room },
    /// Each from one value, times a factor.
    Spread { input: &'a [f32], factor: f32, output: &'a Room },
    /// Each times its factor.
    Scale { input: &'a [f32], factors: &'a [f32], output: &'a Room },
    /// The gradients of that: of the plane in place, and of the factor.
    ScaleBackward { input: &'a [f32], factors: &'a [f32], grad: &'a Room, to_factors: &'a Room },
}

impl Planes {
    /// Values of all planes.
    pub fn values(&self) -> usize {
        self.planes * self.pixels
    }

    /// The mean of each plane.
    ///
    /// # Panics
    /// When a slice has another length than the sizes say; likewise below.
    pub fn mean(&self, input: &[f32]) -> Vec<f32> {
        assert_eq!(input.len(), self.values(), "values of all planes");
        let output = Room::new(self.planes);
        self.run(&Work::Mean { input, output: &output });
        // SAFETY: a value of each plane was written.
        unsafe { output.filled() }
    }

    /// The gradient of the planes from that of their means.
    pub fn mean_backward(&self, grad: &[f32]) -> Vec<f32> {
        assert_eq!(grad.len(), self.planes, "a value of each plane");
        let output = Room::new(self.values());
        self.run(&Work::Spread { input: grad, factor: 1.0 / self.pixels as f32, output: &output });
        // SAFETY: all planes were written.
        unsafe { output.filled() }
    }

    /// Each plane times its factor.
    pub fn scale(&self, input: &[f32], factors: &[f32]) -> Vec<f32> {
        assert!(input.len() == self.values() && factors.len() == self.planes, "values of all planes");
        let output = Room::new(self.values());
        self.run(&Work::Scale { input, factors, output: &output });
        // SAFETY: all planes were written.
        unsafe { output.filled() }
    }

    /// The gradients of the planes and of their factors, from that of the products.
    pub fn scale_backward(&self, input: &[f32], factors: &[f32], grad: Vec<f32>) -> (Vec<f32>, Vec<f32>) {
        assert!(input.len() == self.values() && factors.len() == self.planes, "values of all planes");
        assert_eq!(grad.len(), self.values(), "values of all planes");
        let (grad, to_factors) = (Room::of(grad), Room::new(self.planes));
        self.run(&Work::ScaleBackward { input, factors, grad: &grad, to_factors: &to_factors });
        // SAFETY: all planes were there, and a value of each was written.
        unsafe { (grad.filled(), to_factors.filled()) }
    }

    fn run(&self, work: &Work<'_>) {
        let count = (PIECE / self.pixels.max(1)).max(1);
        let arch = Arch::new();
        each(self.planes.div_ceil(count), 4 * self.values(), |task| {
            let planes = task * count..self.planes.min((task + 1) * count);
            arch.dispatch(Part { planes, pixels: self.pixels, work });
        });
    }
}

struct Part<'a> {
    planes: std::ops::Range<usize>,
    pixels: usize,
    work: &'a Work<'a>,
}

impl WithSimd for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let pixels = self.pixels;
        for plane in self.planes {
            let place = plane * pixels..(plane + 1) * pixels;
            // SAFETY: each task has planes of its own; gradients were there before.
            unsafe {
                match *self.work {
                    Work::Mean { input, output } => {
                        output.part(plane..plane + 1)[0].write(sum(&input[place], |x| x) / pixels as f32);
                    }
                    Work::Spread { input, factor, output } => {
                        let value = input[plane] * factor;
                        for output in output.part(place) {
                            output.write(value);
                        }
                    }
                    Work::Scale { input, factors, output } => {
                        let factor = factors[plane];
                        for (output, input) in output.part(place.clone()).iter_mut().zip(&input[place]) {
                            output.write(*input * factor);
                        }
                    }
                    Work::ScaleBackward { input, factors, grad, to_factors } => {
                        let (grad, factor) = (grad.written(place.clone()), factors[plane]);
                        let [_, products] = super::sums::sums_beside(grad, &input[place], |x| x);
                        to_factors.part(plane..plane + 1)[0].write(products);
                        for grad in grad {
                            *grad *= factor;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_are_those_of_the_definition() {
        for (planes, pixels) in [(1, 1), (5, 4), (300, 49), (7, 1000), (3, 20_000)] {
            let sizes = Planes { planes, pixels };
            let values =
                |count: usize, step: f32| (0..count).map(|i| (i as f32 * step).sin() + 0.2).collect::<Vec<_>>();
            let (input, factors, grad) =
                (values(sizes.values(), 0.7), values(planes, 1.1), values(sizes.values(), 0.3));
            let near = |a: f32, b: f32| assert!((a - b).abs() < 1e-4 * (1.0 + b.abs()), "{sizes:?}: {a} {b}");
            let means = sizes.mean(&input);
            let spread = sizes.mean_backward(&factors);
            let scaled = sizes.scale(&input, &factors);
            let (to_input, to_factors) = sizes.scale_backward(&input, &factors, grad.clone());
            for plane in 0..planes {
                let place = plane * pixels..(plane + 1) * pixels;
                near(means[plane], input[place.clone()].iter().sum::<f32>() / pixels as f32);
                near(
                    to_factors[plane],
                    input[place.clone()].iter().zip(&grad[place.clone()]).map(|(a, b)| a * b).sum(),
                );
                for at in place {
                    near(spread[at], factors[plane] / pixels as f32);
                    assert_eq!(scaled[at], input[at] * factors[plane]);
                    assert_eq!(to_input[at], grad[at] * factors[plane]);
                }
            }
        }
    }
}
