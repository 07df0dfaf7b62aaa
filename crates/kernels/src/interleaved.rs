//! Small images in large batches: a vector holds one pixel of many samples.
//!
//! No product with padding is computed, and no vector is cut by the end of a row. What it costs is to transpose what goes in and out,
//! which is little when a pixel is used often.

use rayon::prelude::*;

use crate::dots::{Column, Dots};
use crate::grad_input::{TASKS, pack_weights};
use crate::grad_weight::{BLOCK, in_parts};
use crate::lanes::Isa;
use crate::scratch::with_scratch;
use crate::side_by_side::{CHANNELS, Run};
use crate::sums::{Panel, Place, Sums};
use crate::{Activation, Conv2d};

/// Samples in a block for the weights' gradient: the widest vector.
const SAMPLES: usize = 16;
/// Most output pixels for which padding and cut vectors cost more than transposing.
const PIXELS: usize = 100;

/// Samples of a block that pay, for each pixel of the image's side and tap of the kernel's: measured for the output.
pub(crate) const OF_OUTPUT: usize = 6;
/// For the gradient of the input.
pub(crate) const OF_INPUT: usize = 5;
/// For the gradient of the weights.
pub(crate) const OF_WEIGHT: usize = 3;

/// Taps of all channels that are packed together.
const DEPTH: usize = 256;

/// Whether this way is the faster one. It costs the same for a block that is not full; how many samples it takes to be worth that
/// grows with the image, and falls with the kernel, which makes the padding larger.
pub(crate) fn suits(shape: &Conv2d, pays: usize) -> bool {
    let samples = shape.batch / shape.batch.div_ceil(SAMPLES).max(1);
    let (pixels, taps) = (shape.output().iter().product::<usize>(), shape.kernel[0] * shape.kernel[1]);
    let filled = samples * 4 >= SAMPLES * 3 || samples * samples * taps >= pays * pays * pixels;
    let used = shape.weight_len() / shape.out_channels.max(shape.in_channels);
    filled
        && shape.output().iter().product::<usize>() <= PIXELS
        && shape.input[0] * shape.input[1] <= 4 * PIXELS
        && used >= 16
}

/// Copies planes of `pixels` of up to `lanes` samples, `stride` apart, so that those of one pixel are side by side.
fn interleave(source: &[f32], stride: usize, pixels: usize, lanes: usize, packed: &mut [f32]) {
    let samples = source.len().div_ceil(stride).min(lanes);
    if lanes == CHANNELS {
        return Run { channels: samples, plane: stride, pixels }.join_into(source, packed);
    }
    for (sample, plane) in source.chunks(stride).take(lanes).enumerate() {
        for (place, value) in packed.chunks_exact_mut(lanes).zip(&plane[..pixels]) {
            place[sample] = *value;
        }
    }
    if samples < lanes {
        packed.chunks_exact_mut(lanes).for_each(|place| place[samples..].fill(0.0));
    }
}

/// The input position that an output position sees through a tap.
fn seen(shape: &Conv2d, axis: usize, out: usize, tap: usize) -> Option<usize> {
    (out * shape.stride[axis] + tap * shape.dilation[axis])
        .checked_sub(shape.padding[axis][0])
        .filter(|at| *at < shape.input[axis])
}

/// The gradient of the weights.
pub(crate) fn grad_weight(shape: &Conv2d, isa: Isa, input: &[f32], grad_output: &[f32], grad_weight: &mut [f32]) {
    let group_in = shape.in_channels / shape.groups;
    let out_pixels: usize = shape.output().iter().product();
    let in_pixels = shape.input[0] * shape.input[1];
    let taps = pairs(shape);
    let area = taps.len();
    let (grad_channel, input_channel) = (out_pixels * SAMPLES, in_pixels * SAMPLES);
    in_parts(shape, shape.batch.div_ceil(SAMPLES), grad_weight, |blocks, group, filters, sums| {
        let (grad_block, input_block) = (filters.len() * grad_channel, group_in * input_channel);
        let most = (BLOCK / (grad_block + input_block)).max(1);
        for blocks in blocks.clone().step_by(most).map(|first| first..(first + most).min(blocks.end)) {
            let count = blocks.len();
            with_scratch(count * grad_block, |grad| {
                with_scratch(count * input_block, |packed| {
                    for (index, block) in blocks.enumerate() {
                        for (channel, place) in
                            grad[index * grad_block..][..grad_block].chunks_exact_mut(grad_channel).enumerate()
                        {
                            let first = (block * SAMPLES * shape.out_channels + filters.start + channel) * out_pixels;
                            interleave(
                                &grad_output[first..],
                                shape.out_channels * out_pixels,
                                out_pixels,
                                SAMPLES,
                                place,
                            );
                        }
                        for (channel, place) in
                            packed[index * input_block..][..input_block].chunks_exact_mut(input_channel).enumerate()
                        {
                            let first = (block * SAMPLES * shape.in_channels + group * group_in + channel) * in_pixels;
                            interleave(&input[first..], shape.in_channels * in_pixels, in_pixels, SAMPLES, place);
                        }
                    }
                    for (tap, runs) in taps.iter().enumerate().filter(|(_, runs)| !runs.is_empty()) {
                        let columns: Vec<_> = (0..group_in)
                            .map(|c| Column { start: c * input_channel, weight: c * area + tap })
                            .collect();
                        // Runs of one length at a time: all rows of a tap have the same.
                        let len = runs[0].2 * SAMPLES;
                        let starts: Vec<_> = (0..count)
                            .flat_map(|block| {
                                runs.iter().map(move |(out, at, _)| {
                                    [block * grad_block + out * SAMPLES, block * input_block + at * SAMPLES]
                                })
                            })
                            .collect();
                        let filters = filters.len();
                        isa.dispatch(Dots {
                            grad,
                            grad_channel,
                            input: packed,
                            columns: &columns,
                            runs: &starts,
                            len,
                            filters,
                            sums,
                        });
                    }
                });
            });
        }
    });
}

/// For every tap, the runs of output and input pixels that it multiplies: where they begin, and their common length.
fn pairs(shape: &Conv2d) -> Vec<Vec<(usize, usize, usize)>> {
    let [height, width] = shape.output();
    let axis = |axis: usize, size: usize, tap: usize| {
        (0..size).filter_map(move |out| Some((out, seen(shape, axis, out, tap)?)))
    };
    let mut taps = Vec::with_capacity(shape.kernel[0] * shape.kernel[1]);
    for down in 0..shape.kernel[0] {
        for across in 0..shape.kernel[1] {
            let columns: Vec<_> = axis(1, width, across).collect();
            let mut runs = Vec::new();
            for (y, row) in axis(0, height, down) {
                let start = |(x, column): (usize, usize)| (y * width + x, row * shape.input[1] + column);
                if shape.stride[1] == 1 {
                    runs.extend(columns.first().map(|first| (start(*first).0, start(*first).1, columns.len())));
                } else {
                    runs.extend(columns.iter().map(|column| (start(*column).0, start(*column).1, 1)));
                }
            }
            taps.push(runs);
        }
    }
    taps
}

/// The gradient of the input.
pub(crate) fn grad_input(shape: &Conv2d, isa: Isa, grad_output: &[f32], weight: &[f32], grad_input: &mut [f32]) {
    let (from, to) = (outputs(shape), inputs(shape));
    let taps: Vec<_> = (0..shape.kernel[0]).flat_map(|y| (0..shape.kernel[1]).map(move |x| [y, x])).collect();
    let weights = pack_weights(shape, weight, &taps, isa.dispatch(Panel { channels: to.channels }));
    let mut places = vec![Vec::new(); to.pixels];
    meetings(shape, |output, input, tap| places[input].push((output, tap)));
    Product { shape, isa, from, to, weights: &weights, places }.compute(grad_output, grad_input, |_, sum| sum);
}

/// The weights for [`forward`]: for each group and panel of filters, `[channel, tap, filter in panel]`.
pub(crate) fn pack(isa: Isa, shape: &Conv2d, weight: &[f32]) -> Vec<f32> {
    let (channels, filters) = (inputs(shape).channels, outputs(shape).channels);
    let (panel, area) = (isa.dispatch(Panel { channels: filters }), shape.kernel[0] * shape.kernel[1]);
    let depth = channels * area;
    let mut packed = vec![0.0; shape.groups * filters.next_multiple_of(panel) * depth];
    let panels = filters.div_ceil(panel);
    packed.par_chunks_mut(panel * depth).enumerate().for_each(|(at, packed)| {
        let first = at / panels * filters + at % panels * panel;
        let count = panel.min(filters - at % panels * panel);
        let weight = &weight[first * depth..][..count * depth];
        // A part of all rows at a time: what is written stays in the first-level cache.
        for (part, packed) in packed.chunks_mut(DEPTH * panel).enumerate() {
            for (row, weight) in weight.chunks_exact(depth).enumerate() {
                let weight = &weight[part * DEPTH..];
                packed[row..].iter_mut().step_by(panel).zip(weight).for_each(|(packed, weight)| *packed = *weight);
            }
        }
    });
    packed
}

/// The output, with weights of [`pack`]; all slices have the lengths that `shape` says.
pub(crate) fn forward(
    isa: Isa,
    shape: &Conv2d,
    input: &[f32],
    weights: &[f32],
    bias: Option<&[f32]>,
    activation: Activation,
    output: &mut [f32],
) {
    let (from, to) = (inputs(shape), outputs(shape));
    let mut places = vec![Vec::new(); to.pixels];
    meetings(shape, |output, input, tap| places[output].push((input, tap)));
    let relu = activation == Activation::Relu;
    let finish = |channel: usize, sum: f32| {
        let sum = bias.map_or(sum, |bias| sum + bias[channel]);
        if relu && sum < 0.0 { 0.0 } else { sum }
    };
    Product { shape, isa, from, to, weights, places }.compute(input, output, finish);
}

/// What one side of a convolution has.
#[derive(Clone, Copy)]
struct Side {
    /// Channels of a group.
    channels: usize,
    /// Pixels of a channel.
    pixels: usize,
}

fn inputs(shape: &Conv2d) -> Side {
    Side { channels: shape.in_channels / shape.groups, pixels: shape.input.iter().product() }
}

fn outputs(shape: &Conv2d) -> Side {
    Side { channels: shape.out_channels / shape.groups, pixels: shape.output().iter().product() }
}

/// Calls `meet` with every output pixel, input pixel that it sees, and tap through which it sees it.
fn meetings(shape: &Conv2d, mut meet: impl FnMut(usize, usize, usize)) {
    let [height, width] = shape.output();
    for (down, y) in (0..shape.kernel[0]).flat_map(|tap| (0..height).map(move |y| (tap, y))) {
        let Some(row) = seen(shape, 0, y, down) else { continue };
        for (across, x) in (0..shape.kernel[1]).flat_map(|tap| (0..width).map(move |x| (tap, x))) {
            let Some(column) = seen(shape, 1, x, across) else { continue };
            meet(y * width + x, row * shape.input[1] + column, down * shape.kernel[1] + across);
        }
    }
}

/// One side of a convolution from the other: for each pixel, sums of weighted pixels.
struct Product<'a> {
    shape: &'a Conv2d,
    isa: Isa,
    from: Side,
    to: Side,
    /// For each group and panel of channels of the result: `[channel of the source, tap, channel in panel]`.
    weights: &'a [f32],
    /// For each pixel of the result, pixels of the source, each with the tap that weighs it.
    places: Vec<Vec<(usize, usize)>>,
}

impl Product<'_> {
    /// Computes `result`; `finish` turns the sum for a channel, counted over all groups, into what is written.
    fn compute(&self, source: &[f32], result: &mut [f32], finish: impl Fn(usize, f32) -> f32 + Sync) {
        let Self { shape, isa, from, to, .. } = *self;
        let groups = shape.groups;
        let lanes = if shape.batch > SAMPLES { 2 * SAMPLES } else { SAMPLES };
        let panel = isa.dispatch(Panel { channels: to.channels });
        let at_lanes = |places: &Vec<(usize, usize)>| {
            places.iter().map(|&(at, weight)| Place { start: at * lanes, weight }).collect()
        };
        let places: Vec<Vec<Place>> = self.places.iter().map(at_lanes).collect();
        let panels = to.channels.div_ceil(panel);
        let panel_len = from.channels * shape.kernel[0] * shape.kernel[1] * panel;
        // A task is some channels of one group in one block of samples.
        let blocks = shape.batch.div_ceil(lanes);
        let channels =
            to.channels.div_ceil(TASKS.div_ceil(blocks.max(1) * groups)).next_multiple_of(panel).min(to.channels);
        let chunks = to.channels.div_ceil(channels);
        let mut tasks: Vec<Vec<&mut [f32]>> =
            (0..blocks * groups * chunks).map(|_| Vec::with_capacity(lanes)).collect();
        for (index, result) in result.chunks_exact_mut(to.channels * to.pixels).enumerate() {
            let (sample, group) = (index / groups, index % groups);
            let first = (sample / lanes * groups + group) * chunks;
            for (task, result) in tasks[first..].iter_mut().zip(result.chunks_mut(channels * to.pixels)) {
                task.push(result);
            }
        }
        tasks.into_par_iter().enumerate().for_each(|(index, mut results)| {
            let (block, group, chunk) = (index / chunks / groups, index / chunks % groups, index % chunks);
            let plane = from.pixels * lanes;
            let pitch = to.pixels * lanes;
            with_scratch(from.channels * plane, |packed| {
                with_scratch(panel * pitch, |sums| {
                    for (channel, place) in packed.chunks_exact_mut(plane).enumerate() {
                        let first = ((block * lanes * groups + group) * from.channels + channel) * from.pixels;
                        interleave(&source[first..], groups * from.channels * from.pixels, from.pixels, lanes, place);
                    }
                    let count = results[0].len() / to.pixels;
                    for first in (0..count).step_by(panel) {
                        let panel_of = group * panels + (chunk * channels + first) / panel;
                        let weights = &self.weights[panel_of * panel_len..][..panel_len];
                        for (pixel, places) in places.iter().enumerate() {
                            let sums = &mut sums[pixel * lanes..];
                            isa.dispatch(Sums { grad: packed, plane, places, weights, panel, run: lanes, pitch, sums });
                        }
                        let channel = group * to.channels + chunk * channels + first;
                        for (sample, result) in results.iter_mut().enumerate() {
                            let outs =
                                result[first * to.pixels..].chunks_exact_mut(to.pixels).zip(sums.chunks_exact(pitch));
                            for (channel, (out, sums)) in (channel..).zip(outs) {
                                for (out, sums) in out.iter_mut().zip(sums.chunks_exact(lanes)) {
                                    *out = finish(channel, sums[sample]);
                                }
                            }
                        }
                    }
                });
            });
        });
    }
}
