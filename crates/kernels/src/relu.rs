//! What a rectifier lets through.

use pulp::{Simd, WithSimd};

use crate::arch::Arch;
use crate::parallel::each_chunk;

/// Values that one thread does at a time.
const PIECE: usize = 1 << 14;

struct Backward<'a> {
    output: &'a [f32],
    grad: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (grad, output) in self.grad.iter_mut().zip(self.output) {
            *grad = if *output > 0.0 { *grad } else { 0.0 };
        }
    }
}

/// Turns the gradient of a ReLU's output into that of its input, in place: zero where the output is not above zero.
///
/// # Panics
/// When the lengths differ.
pub fn relu_backward(output: &[f32], grad: &mut [f32]) {
    assert_eq!(output.len(), grad.len(), "a gradient for each output");
    let arch = Arch::new();
    each_chunk(grad, PIECE, 8 * output.len(), |piece, grad| {
        arch.dispatch(Backward { output: &output[piece * PIECE..][..grad.len()], grad });
    });
}
