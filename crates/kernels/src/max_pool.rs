//! Max pooling and its gradient.

use std::iter::StepBy;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::ShapeError;
use crate::arch::Arch;
use crate::parallel::each_chunk;

/// Values of the input that one thread does at a time, at least.
const PIECE: usize = 1 << 12;
/// About as many operations a value of the input takes.
const COST: usize = 16;

/// Geometry of a two-dimensional max pooling over planes `[height, width]`, one for each sample and channel.
///
/// What lies outside of a plane never wins; a window beside which nothing of the plane lies is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MaxPool2d {
    /// Samples times channels.
    pub planes: usize,
    /// Height and width of a plane, in pixels.
    pub input: [usize; 2],
    /// Height and width of a window, in taps.
    pub kernel: [usize; 2],
    /// Pixels from one window to the next, down and across.
    pub stride: [usize; 2],
    /// Pixels by which the first window begins outside of the plane, and the last may end outside.
    pub padding: [usize; 2],
    /// Pixels from one tap to the next.
    pub dilation: [usize; 2],
}

impl MaxPool2d {
    /// Whether the sizes make sense together.
    ///
    /// # Errors
    /// The first size that doesn't.
    pub fn check(&self) -> Result<(), ShapeError> {
        let sizes = [
            ("an input side", self.input[0].min(self.input[1])),
            ("a kernel side", self.kernel[0].min(self.kernel[1])),
            ("a stride", self.stride[0].min(self.stride[1])),
            ("a dilation", self.dilation[0].min(self.dilation[1])),
        ];
        if let Some((what, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(ShapeError::Zero { what });
        }
        for axis in 0..2 {
            let span = (self.kernel[axis] - 1).checked_mul(self.dilation[axis]).and_then(|s| s.checked_add(1));
            let size = self.padding[axis].checked_mul(2).and_then(|p| p.checked_add(self.input[axis]));
            let (Some(span), Some(size)) = (span, size) else { return Err(ShapeError::Overflow) };
            // With more padding than half a window, a window could see nothing.
            if span > size
                || self.padding[axis] * 2 > self.kernel[axis]
                || (self.padding[axis] > 0 && self.dilation[axis] > 1)
            {
                return Err(ShapeError::Kernel { span, size });
            }
        }
        let values = self.input[0].checked_mul(self.input[1]).and_then(|plane| plane.checked_mul(self.planes));
        values
            .and_then(|values| values.checked_mul(4))
            .filter(|bytes| *bytes <= isize::MAX as usize)
            .map(|_| ())
            .ok_or(ShapeError::Overflow)
    }

    /// Height and width of what comes out; the geometry must have passed [`Self::check`].
    pub fn output(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            let span = (self.kernel[axis] - 1) * self.dilation[axis] + 1;
            (self.input[axis] + 2 * self.padding[axis] - span) / self.stride[axis] + 1
        })
    }

    /// Values of the input.
    pub fn input_len(&self) -> usize {
        self.planes * self.input[0] * self.input[1]
    }

    /// Values of the output.
    pub fn output_len(&self) -> usize {
        let [height, width] = self.output();
        self.planes * height * width
    }

    /// The greatest value of each window; not a number where there is one in it.
    ///
    /// # Errors
    /// A geometry that makes no sense, or a slice of another length than it says.
    pub fn forward(&self, input: &[f32], output: &mut [f32]) -> Result<(), ShapeError> {
        self.lengths(input.len(), output.len())?;
        let arch = Arch::new();
        let [height, width] = self.output();
        let (inside, outside) = (self.input[0] * self.input[1], height * width);
        // A few planes at a time, which share their working memory.
        let planes = (PIECE / inside).max(1);
        each_chunk(output, planes * outside, COST * input.len(), |piece, outputs| {
            let mut row = Vec::new();
            let inputs = input[piece * planes * inside..].chunks_exact(inside);
            for (input, output) in inputs.zip(outputs.chunks_exact_mut(outside)) {
                arch.dispatch(Plane { pool: self, input, output, row: &mut row });
            }
        });
        Ok(())
    }

    /// The gradient of the input: that of each output goes to the first value of its window that is the greatest.
    ///
    /// # Errors
    /// A geometry that makes no sense, or a slice of another length than it says.
    pub fn backward(
        &self,
        input: &[f32],
        output: &[f32],
        grad_output: &[f32],
        grad_input: &mut [f32],
    ) -> Result<(), ShapeError> {
        self.lengths(input.len(), output.len())?;
        self.lengths(grad_input.len(), grad_output.len())?;
        let [height, width] = self.output();
        let (inside, outside) = (self.input[0] * self.input[1], height * width);
        each_chunk(grad_input, inside, COST * input.len(), |plane, grad_input| {
            let input = &input[plane * inside..][..inside];
            let [output, grad_output] = [output, grad_output].map(|values| &values[plane * outside..][..outside]);
            grad_input.fill(0.0);
            for (row, (output, grads)) in output.chunks_exact(width).zip(grad_output.chunks_exact(width)).enumerate() {
                let down = self.taps(0, row);
                for (column, (greatest, grad)) in output.iter().zip(grads).enumerate() {
                    grad_input[self.winner(input, &down, self.taps(1, column), *greatest)] += grad;
                }
            }
        });
        Ok(())
    }

    /// Where in a plane the greatest value of a window lies.
    #[inline(always)]
    fn winner(&self, input: &[f32], down: &StepBy<Range<usize>>, across: StepBy<Range<usize>>, greatest: f32) -> usize {
        for y in down.clone() {
            for x in across.clone() {
                let at = y * self.input[1] + x;
                if input[at] == greatest || input[at].is_nan() {
                    return at;
                }
            }
        }
        unreachable!("the greatest value of a window lies in it")
    }

    /// The pixels under a window along an axis.
    #[inline(always)]
    fn taps(&self, axis: usize, window: usize) -> StepBy<Range<usize>> {
        let (start, padding) = (window * self.stride[axis], self.padding[axis]);
        let end = (start + (self.kernel[axis] - 1) * self.dilation[axis] + 1 - padding).min(self.input[axis]);
        // Padding has no dilation beside it.
        (start.saturating_sub(padding)..end).step_by(self.dilation[axis])
    }

    fn lengths(&self, input: usize, output: usize) -> Result<(), ShapeError> {
        self.check()?;
        for (what, expected, found) in
            [("the input", self.input_len(), input), ("the output", self.output_len(), output)]
        {
            if expected != found {
                return Err(ShapeError::Length { what, expected, found });
            }
        }
        Ok(())
    }
}

/// The greater of two values; not a number if either is none.
#[inline(always)]
fn greater(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

/// One plane: the greatest of each column of a row of windows first, then the greatest of each window.
struct Plane<'a> {
    pool: &'a MaxPool2d,
    input: &'a [f32],
    output: &'a mut [f32],
    row: &'a mut Vec<f32>,
}

impl WithSimd for Plane<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { pool, input, output, row } = self;
        let (side, [_, across]) = (pool.input[1], pool.output());
        for (window, output) in output.chunks_exact_mut(across).enumerate() {
            row.clear();
            row.resize(side, f32::NEG_INFINITY);
            for y in pool.taps(0, window) {
                for (greatest, value) in row.iter_mut().zip(&input[y * side..(y + 1) * side]) {
                    *greatest = greater(*greatest, *value);
                }
            }
            match (pool.kernel[1], pool.stride[1], pool.padding[1], pool.dilation[1]) {
                (2, 2, 0, 1) => fixed::<2>(row, output),
                (3, 3, 0, 1) => fixed::<3>(row, output),
                _ => {
                    for (window, output) in output.iter_mut().enumerate() {
                        *output = pool.taps(1, window).fold(f32::NEG_INFINITY, |greatest, x| greater(greatest, row[x]));
                    }
                }
            }
        }
    }
}

/// Windows of one size, side by side.
#[inline(always)]
fn fixed<const SIDE: usize>(row: &[f32], output: &mut [f32]) {
    for (window, output) in row.as_chunks::<SIDE>().0.iter().zip(output) {
        *output = window.iter().fold(f32::NEG_INFINITY, |greatest, value| greater(greatest, *value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize) -> Vec<f32> {
        // Few different ones, so that windows have ties.
        (0..count).map(|i| ((i * 7919 + i / 13) % 23) as f32 - 11.0).collect()
    }

    fn pools() -> Vec<MaxPool2d> {
        let mut pools = Vec::new();
        for (kernel, stride, padding, dilation) in [
            ([2, 2], [2, 2], [0, 0], [1, 1]),
            ([3, 3], [3, 3], [0, 0], [1, 1]),
            ([5, 5], [4, 4], [0, 0], [1, 1]),
            ([3, 2], [2, 1], [1, 1], [1, 1]),
            ([2, 3], [1, 2], [0, 0], [3, 2]),
        ] {
            for input in [[11, 9], [7, 16], [5, 7]] {
                pools.push(MaxPool2d { planes: 3, input, kernel, stride, padding, dilation });
            }
        }
        pools
    }

    /// Taps of a window that lie in the plane, in order.
    fn window(pool: &MaxPool2d, at: [usize; 2]) -> Vec<usize> {
        let mut inside = Vec::new();
        for down in 0..pool.kernel[0] {
            for across in 0..pool.kernel[1] {
                let place = [0, 1].map(|axis| {
                    let tap = [down, across][axis];
                    (at[axis] * pool.stride[axis] + tap * pool.dilation[axis])
                        .checked_sub(pool.padding[axis])
                        .filter(|p| *p < pool.input[axis])
                });
                if let [Some(y), Some(x)] = place {
                    inside.push(y * pool.input[1] + x);
                }
            }
        }
        inside
    }

    #[test]
    fn pools_are_their_definition() {
        for pool in pools() {
            pool.check().unwrap();
            let input = values(pool.input_len());
            let mut output = vec![f32::NAN; pool.output_len()];
            pool.forward(&input, &mut output).unwrap();
            let grad: Vec<f32> = (0..output.len()).map(|i| i as f32 + 1.0).collect();
            let mut found = vec![f32::NAN; input.len()];
            pool.backward(&input, &output, &grad, &mut found).unwrap();
            let mut expected = vec![0.0; input.len()];
            let ([height, width], plane) = (pool.output(), pool.input[0] * pool.input[1]);
            for at in 0..output.len() {
                let taps = window(&pool, [at / width % height, at % width]);
                let base = at / (height * width) * plane;
                let most = taps.iter().map(|tap| input[base + tap]).fold(f32::NEG_INFINITY, f32::max);
                assert_eq!(output[at], most, "{pool:?}");
                let first = taps.iter().find(|tap| input[base + **tap] == most).unwrap();
                expected[base + first] += grad[at];
            }
            assert_eq!(found, expected, "{pool:?}");
        }
    }

    #[test]
    fn not_a_number_wins() {
        for at in 0..9 {
            let pool = MaxPool2d {
                planes: 1,
                input: [3, 3],
                kernel: [3, 3],
                stride: [1, 1],
                padding: [0, 0],
                dilation: [1, 1],
            };
            let mut input = values(9);
            input[at] = f32::NAN;
            let mut output = [0.0];
            pool.forward(&input, &mut output).unwrap();
            assert!(output[0].is_nan());
            let mut grad = vec![0.0; 9];
            pool.backward(&input, &output, &[2.0], &mut grad).unwrap();
            assert_eq!(grad[at], 2.0);
        }
    }

    #[test]
    fn refuses_windows_that_see_nothing() {
        let pool =
            MaxPool2d { planes: 1, input: [4, 4], kernel: [2, 2], stride: [2, 2], padding: [2, 2], dilation: [1, 1] };
        assert!(pool.check().is_err());
        assert!(MaxPool2d { padding: [0, 0], kernel: [5, 1], ..pool }.check().is_err());
        assert!(MaxPool2d { padding: [0, 0], stride: [0, 1], ..pool }.check().is_err());
    }
}
