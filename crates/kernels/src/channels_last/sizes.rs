//! The sizes that weights are packed for, whatever they are made of, and the orders that they are packed in.

use crate::{Conv2d, ShapeError};

/// The sizes of a convolution's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Outputs of a group.
    pub outputs: usize,
    /// Inputs of a group.
    pub inputs: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    pub groups: usize,
}

impl Sizes {
    pub fn of(shape: &Conv2d) -> Self {
        let Conv2d { in_channels, out_channels, kernel, groups, .. } = *shape;
        Self { outputs: out_channels / groups, inputs: in_channels / groups, kernel, groups }
    }

    /// Of as many weights as the geometry says.
    ///
    /// # Errors
    /// When a size is wrong or there are more or fewer weights.
    pub fn of_weights(shape: &Conv2d, weights: usize) -> Result<Self, ShapeError> {
        shape.check()?;
        ShapeError::length("the weight", shape.weight_len(), weights)?;
        Ok(Self::of(shape))
    }

    /// Whether weights of these sizes serve a convolution.
    ///
    /// # Errors
    /// When they do not, or a size of it is wrong.
    pub fn serve(self, shape: &Conv2d) -> Result<(), ShapeError> {
        shape.check()?;
        let expected = Self::of(shape);
        if self == expected {
            return Ok(());
        }
        Err(ShapeError::Packed { expected: expected.listed(), found: self.listed() })
    }

    /// As errors have them: `[out, in / groups, height, width, groups]`.
    fn listed(self) -> [usize; 5] {
        let [height, width] = self.kernel;
        [self.outputs * self.groups, self.inputs, height, width, self.groups]
    }

    /// Taps of the kernel.
    pub fn taps(self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Products of an output.
    pub fn depth(self) -> usize {
        self.inputs * self.taps()
    }

    /// Whether each channel sees itself only.
    pub fn is_depthwise(self) -> bool {
        self.inputs == 1 && self.outputs == 1 && self.groups > 1
    }

    /// `[filters, inputs, taps]` as `[filters, taps, inputs]`, for products with gathered pixels.
    pub fn inputs_last<T: Copy + Default>(self, weight: &[T]) -> Vec<T> {
        let (taps, depth) = (self.taps(), self.depth());
        let mut turned = vec![T::default(); weight.len()];
        for (filter, values) in weight.chunks_exact(depth).enumerate() {
            for (input, values) in values.chunks_exact(taps).enumerate() {
                for (tap, value) in values.iter().enumerate() {
                    turned[filter * depth + tap * self.inputs + input] = *value;
                }
            }
        }
        turned
    }

    /// `[channels, taps]` as `[taps, channels]`, for a depthwise convolution.
    pub fn taps_first<T: Copy + Default>(self, weight: &[T]) -> Vec<T> {
        let mut turned = vec![T::default(); weight.len()];
        for (channel, kernel) in weight.chunks_exact(self.taps()).enumerate() {
            kernel.iter().enumerate().for_each(|(tap, value)| turned[tap * self.groups + channel] = *value);
        }
        turned
    }
}

/// Whether the pixels that outputs see are those of the input, one after the other.
pub(crate) fn is_direct(shape: &Conv2d) -> bool {
    shape.kernel == [1; 2] && shape.stride == [1; 2] && shape.padding == [[0; 2]; 2]
}
