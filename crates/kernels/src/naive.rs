//! The definition of a convolution and its gradients as plain loops in f64: what every kernel is tested against.

use crate::Conv2d;

/// Calls `visit(output, input, weight)` with the index of every product that the convolution adds up.
fn products(shape: &Conv2d, mut visit: impl FnMut(usize, usize, usize)) {
    let [out_height, out_width] = shape.output();
    let [height, width] = shape.input;
    let [taps_down, taps_across] = shape.kernel;
    let (group_in, group_out) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
    // The pixel under a tap, if it is not padding.
    let pixel = |axis: usize, out: usize, tap: usize| {
        (out * shape.stride[axis] + tap * shape.dilation[axis])
            .checked_sub(shape.padding[axis][0])
            .filter(|p| *p < shape.input[axis])
    };
    for n in 0..shape.batch {
        for o in 0..shape.out_channels {
            for c in 0..group_in {
                let channel = n * shape.in_channels + o / group_out * group_in + c;
                for (y, x) in (0..out_height).flat_map(|y| (0..out_width).map(move |x| (y, x))) {
                    let out = ((n * shape.out_channels + o) * out_height + y) * out_width + x;
                    for ky in 0..taps_down {
                        let Some(row) = pixel(0, y, ky) else { continue };
                        for kx in 0..taps_across {
                            let Some(column) = pixel(1, x, kx) else { continue };
                            visit(
                                out,
                                (channel * height + row) * width + column,
                                ((o * group_in + c) * taps_down + ky) * taps_across + kx,
                            );
                        }
                    }
                }
            }
        }
    }
}

/// The output.
pub fn forward(shape: &Conv2d, input: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f64> {
    let pixels: usize = shape.output().iter().product();
    let mut out: Vec<f64> =
        (0..shape.output_len()).map(|i| bias.map_or(0.0, |b| f64::from(b[i / pixels % shape.out_channels]))).collect();
    products(shape, |o, i, w| out[o] += f64::from(input[i]) * f64::from(weight[w]));
    out
}

/// The gradient of the input.
pub fn grad_input(shape: &Conv2d, grad_output: &[f32], weight: &[f32]) -> Vec<f64> {
    let mut grad = vec![0.0; shape.input_len()];
    products(shape, |o, i, w| grad[i] += f64::from(grad_output[o]) * f64::from(weight[w]));
    grad
}

/// The gradient of the weights.
pub fn grad_weight(shape: &Conv2d, input: &[f32], grad_output: &[f32]) -> Vec<f64> {
    let mut grad = vec![0.0; shape.weight_len()];
    products(shape, |o, i, w| grad[w] += f64::from(grad_output[o]) * f64::from(input[i]));
    grad
}
