//! Convolution whose taps lie so far apart that most of them fall on padding: sums of what little is left.
#![allow(unsafe_code)]

use crate::parallel::{Shared, each};
use crate::{Activation, Conv2d};

/// The output of the convolution; all slices have the lengths that `shape` says.
pub(crate) fn forward(
    shape: &Conv2d,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    activation: Activation,
    output: &mut [f32],
) {
    let [out_height, out_width] = shape.output();
    let ([height, width], [taps_down, taps_across]) = (shape.input, shape.kernel);
    let (group_in, group_out) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
    // The taps that fall on a pixel of the input, each with the pixel.
    let pixels = |axis: usize, out: usize| {
        let at = move |tap: usize| {
            (out * shape.stride[axis] + tap * shape.dilation[axis]).checked_sub(shape.padding[axis][0])
        };
        (0..shape.kernel[axis]).filter_map(move |tap| Some((tap, at(tap).filter(|pixel| *pixel < shape.input[axis])?)))
    };
    let operations = 2 * output.len() * group_in * taps_down * taps_across;
    let out = Shared::new(output);
    each(shape.batch * shape.out_channels, operations, |index| {
        let (image, o) = (index / shape.out_channels, index % shape.out_channels);
        for (y, x) in (0..out_height).flat_map(|y| (0..out_width).map(move |x| (y, x))) {
            let mut sum = bias.map_or(0.0, |bias| bias[o]);
            for (tap_y, row) in pixels(0, y) {
                for (tap_x, column) in pixels(1, x) {
                    for c in 0..group_in {
                        let channel = image * shape.in_channels + o / group_out * group_in + c;
                        let tap = ((o * group_in + c) * taps_down + tap_y) * taps_across + tap_x;
                        sum += input[(channel * height + row) * width + column] * weight[tap];
                    }
                }
            }
            if activation == Activation::Relu && sum < 0.0 {
                sum = 0.0;
            }
            // SAFETY: each index writes its own channel of the output.
            unsafe { out.at((index * out_height + y) * out_width + x).write(sum) };
        }
    });
}
