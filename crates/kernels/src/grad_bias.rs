//! The gradient of the bias: the sum of every output channel's gradient.

use crate::parallel::each_chunk;
use crate::{Conv2d, ShapeError};

impl Conv2d {
    /// The gradient of the bias, `[out_channels]`.
    ///
    /// # Errors
    /// When the geometry is wrong or a slice has another length than it says.
    pub fn grad_bias(&self, grad_output: &[f32], grad_bias: &mut [f32]) -> Result<(), ShapeError> {
        self.check()?;
        ShapeError::length("the output's gradient", self.output_len(), grad_output.len())?;
        ShapeError::length("the bias's gradient", self.out_channels, grad_bias.len())?;
        let pixels: usize = self.output().iter().product();
        each_chunk(grad_bias, 1, 8 * grad_output.len(), |channel, grad| {
            let planes = grad_output.chunks_exact(pixels).skip(channel).step_by(self.out_channels);
            // A sum over millions of values: f64 from one plane to the next.
            grad[0] = planes.map(|plane| f64::from(sum(plane))).sum::<f64>() as f32;
        });
        Ok(())
    }
}

/// The sum of a plane as 32 sums side by side in blocks: short chains of additions, that vectors can make.
fn sum(plane: &[f32]) -> f32 {
    const WIDTH: usize = 32;
    let mut total = 0.0;
    for block in plane.chunks(64 * WIDTH) {
        let mut sums = [0.0f32; WIDTH];
        let (rows, rest) = block.as_chunks::<WIDTH>();
        for row in rows {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += value;
            }
        }
        for (sum, value) in sums.iter_mut().zip(rest) {
            *sum += value;
        }
        let mut width = WIDTH;
        while width > 1 {
            width /= 2;
            for i in 0..width {
                sums[i] += sums[i + width];
            }
        }
        total += sums[0];
    }
    total
}
