//! The geometry of a convolution, checked once, so that kernels need not check.

use thiserror::Error;

/// Geometry of a two-dimensional convolution over `[batch, in_channels, height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2d {
    /// Samples.
    pub batch: usize,
    /// Channels of the input, over all groups.
    pub in_channels: usize,
    /// Channels of the output, over all groups.
    pub out_channels: usize,
    /// Height and width of the input, in pixels.
    pub input: [usize; 2],
    /// Height and width of the kernel, in taps.
    pub kernel: [usize; 2],
    /// Step of the kernel, in pixels, down and across.
    pub stride: [usize; 2],
    /// Zeros around the input: `[before, after]` down, then across.
    pub padding: [[usize; 2]; 2],
    /// Distance between two taps, in pixels.
    pub dilation: [usize; 2],
    /// Groups of channels that don't see one another.
    pub groups: usize,
}

/// Why a geometry, or a slice for it, doesn't fit.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ShapeError {
    /// A size that must be at least one is zero.
    #[error("{what} is 0, expected at least 1")]
    Zero {
        /// Which size.
        what: &'static str,
    },
    /// Channels can't be divided among the groups.
    #[error("{channels} {what} channels can't be divided into {groups} groups")]
    Groups {
        /// `input` or `output`.
        what: &'static str,
        /// How many there are.
        channels: usize,
        /// How many groups were asked for.
        groups: usize,
    },
    /// The kernel with its dilation is larger than the padded input.
    #[error("a kernel that spans {span} pixels doesn't fit an input of {size} with its padding")]
    Kernel {
        /// Pixels from the first to the last tap.
        span: usize,
        /// Pixels of the input with padding.
        size: usize,
    },
    /// A product of sizes is past the address space.
    #[error("the sizes overflow")]
    Overflow,
    /// A slice has another length than its shape says.
    #[error("{what} has {found} values, expected {expected}")]
    Length {
        /// Which slice.
        what: &'static str,
        /// Values that the shape asks for.
        expected: usize,
        /// Values in the slice.
        found: usize,
    },
    /// Weights that were packed for another convolution.
    #[error("weights were packed for {:?} in {} groups, but the convolution has {:?} in {} groups", &found[..4], found[4], &expected[..4], expected[4])]
    Packed {
        /// Sizes of the weights that the convolution needs, and its groups.
        expected: [usize; 5],
        /// Those that were packed.
        found: [usize; 5],
    },
}

impl ShapeError {
    /// Whether a slice has the length that its shape says.
    pub(crate) fn length(what: &'static str, expected: usize, found: usize) -> Result<(), Self> {
        if expected == found { Ok(()) } else { Err(Self::Length { what, expected, found }) }
    }
}

impl Conv2d {
    /// Height and width of the output, in pixels; the geometry must have passed [`Self::check`].
    pub fn output(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            let padded = self.input[axis] + self.padding[axis][0] + self.padding[axis][1];
            (padded - self.span(axis)) / self.stride[axis] + 1
        })
    }

    /// Pixels from the first tap to the last, both counted.
    pub(crate) fn span(&self, axis: usize) -> usize {
        self.dilation[axis] * (self.kernel[axis] - 1) + 1
    }

    /// Whether the sizes make sense together.
    ///
    /// # Errors
    /// The first size that doesn't.
    pub fn check(&self) -> Result<(), ShapeError> {
        let sizes = [
            ("a channel count", self.in_channels.min(self.out_channels)),
            ("an input side", self.input[0].min(self.input[1])),
            ("a kernel side", self.kernel[0].min(self.kernel[1])),
            ("a stride", self.stride[0].min(self.stride[1])),
            ("a dilation", self.dilation[0].min(self.dilation[1])),
            ("the group count", self.groups),
        ];
        if let Some((what, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(ShapeError::Zero { what });
        }
        for (what, channels) in [("input", self.in_channels), ("output", self.out_channels)] {
            if !channels.is_multiple_of(self.groups) {
                return Err(ShapeError::Groups { what, channels, groups: self.groups });
            }
        }
        for axis in 0..2 {
            let span = (self.kernel[axis] - 1)
                .checked_mul(self.dilation[axis])
                .and_then(|s| s.checked_add(1))
                .ok_or(ShapeError::Overflow)?;
            let [before, after] = self.padding[axis];
            let size = self.input[axis].checked_add(before).and_then(|s| s.checked_add(after));
            let size = size.filter(|size| *size <= isize::MAX as usize).ok_or(ShapeError::Overflow)?;
            if span > size {
                return Err(ShapeError::Kernel { span, size });
            }
        }
        let product = |sizes: &[usize]| {
            sizes.iter().try_fold(4usize, |all, size| all.checked_mul(*size)).filter(|n| *n <= isize::MAX as usize)
        };
        let [height, width] = self.output();
        let lengths = [
            product(&[self.batch, self.in_channels, self.input[0], self.input[1]]),
            product(&[self.batch, self.out_channels, height, width]),
            product(&[self.out_channels, self.in_channels, self.kernel[0], self.kernel[1]]),
        ];
        if lengths.contains(&None) { Err(ShapeError::Overflow) } else { Ok(()) }
    }

    /// Values of the input.
    pub fn input_len(&self) -> usize {
        self.batch * self.in_channels * self.input[0] * self.input[1]
    }

    /// Values of the weights, `[out, in / groups, height, width]`.
    pub fn weight_len(&self) -> usize {
        self.out_channels * (self.in_channels / self.groups) * self.kernel[0] * self.kernel[1]
    }

    /// Values of the output.
    pub fn output_len(&self) -> usize {
        let [height, width] = self.output();
        self.batch * self.out_channels * height * width
    }
}
