//! Small images in large batches: a vector holds one pixel of many samples.
//!
//! No product with padding is computed, and no vector is cut by the end of a row. What it costs is to transpose what goes in and out,
//! which is little when a pixel is used often.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr;

use crate::dots::{Column, Dots};
use crate::lanes::Isa;
use crate::parallel::{Shared, each};
use crate::parts::{BLOCK, in_parts};
use crate::room::Room;
use crate::scratch::with_scratch;
use crate::side_by_side::{CHANNELS, Run};
use crate::sums::{Panel, Place, Sums};
use crate::taps::Taps;
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

/// Tasks that a small batch is divided into.
pub(crate) const TASKS: usize = 8;

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
pub(crate) fn grad_weight(shape: &Conv2d, isa: Isa, input: &[f32], grad_output: &[f32]) -> Vec<f32> {
    let group_in = shape.in_channels / shape.groups;
    let out_pixels: usize = shape.output().iter().product();
    let in_pixels = shape.input[0] * shape.input[1];
    let taps = pairs(shape);
    let area = taps.len();
    let (grad_channel, input_channel) = (out_pixels * SAMPLES, in_pixels * SAMPLES);
    in_parts(shape, shape.batch.div_ceil(SAMPLES), |blocks, group, filters, sums| {
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
    })
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
pub(crate) fn grad_input(shape: &Conv2d, isa: Isa, grad_output: &[f32], weight: &[f32]) -> Vec<f32> {
    let (from, to) = (outputs(shape), inputs(shape));
    let panel = isa.dispatch(Panel { channels: to.channels });
    let taps: Vec<_> = (0..shape.kernel[0]).flat_map(|y| (0..shape.kernel[1]).map(move |x| [y, x])).collect();
    let weights = Weights::Taps(Taps::new(shape, weight, &taps, panel));
    let mut places = vec![Vec::new(); to.pixels];
    meetings(shape, |output, input, tap| places[input].push((output, tap * panel)));
    let result = Room::new(shape.input_len());
    Product { shape, isa, from, to, panel, weights, places }.compute(grad_output, result.shared(), |_, sum| sum);
    // SAFETY: the product writes all values.
    unsafe { result.filled() }
}

/// The output; all slices have the lengths that `shape` says.
pub(crate) fn forward(
    isa: Isa,
    shape: &Conv2d,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    activation: Activation,
    output: &mut [f32],
) {
    assert!(weight.len() == shape.weight_len() && output.len() == shape.output_len(), "lengths that the shape says");
    let (from, to) = (inputs(shape), outputs(shape));
    let panel = isa.dispatch(Panel { channels: to.channels });
    let mut places = vec![Vec::new(); to.pixels];
    meetings(shape, |output, input, tap| places[output].push((input, tap)));
    let relu = activation == Activation::Relu;
    let finish = |channel: usize, sum: f32| {
        let sum = bias.map_or(sum, |bias| sum + bias[channel]);
        if relu && sum < 0.0 { 0.0 } else { sum }
    };
    let product = Product { shape, isa, from, to, panel, weights: Weights::Filters(weight), places };
    product.compute(input, Shared::new(output), finish);
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

/// Where the weights of a panel of channels of the result are read.
enum Weights<'a> {
    /// The channels are filters: as they are.
    Filters(&'a [f32]),
    /// The channels are those of the input, whose weights are far apart: each panel is packed first.
    Taps(Taps<'a>),
}

/// One side of a convolution from the other: for each pixel, sums of weighted pixels.
struct Product<'a> {
    shape: &'a Conv2d,
    isa: Isa,
    from: Side,
    to: Side,
    /// Channels of the result that are computed together.
    panel: usize,
    weights: Weights<'a>,
    /// For each pixel of the result, pixels of the source, each with where its weight is among those of a channel of the source.
    places: Vec<Vec<(usize, usize)>>,
}

/// Some channels of a group of the result, in a block of samples.
struct Task {
    samples: Range<usize>,
    group: usize,
    channels: Range<usize>,
}

impl Product<'_> {
    /// Writes all of `result`; `finish` turns the sum for a channel, counted over all groups, into what is written.
    fn compute(&self, source: &[f32], result: Shared, finish: impl Fn(usize, f32) -> f32 + Sync + Send) {
        let Self { shape, from, to, panel, .. } = *self;
        let groups = shape.groups;
        assert_eq!(source.len(), shape.batch * groups * from.channels * from.pixels, "all pixels of the source");
        let lanes = if shape.batch > SAMPLES { 2 * SAMPLES } else { SAMPLES };
        let at_lanes = |places: &Vec<(usize, usize)>| {
            places.iter().map(|&(at, weight)| Place { start: at * lanes, weight }).collect()
        };
        let places: Vec<Vec<Place>> = self.places.iter().map(at_lanes).collect();
        let blocks = shape.batch.div_ceil(lanes);
        let channels =
            to.channels.div_ceil(TASKS.div_ceil(blocks.max(1) * groups)).next_multiple_of(panel).min(to.channels);
        let chunks = to.channels.div_ceil(channels);
        let operations = 2 * shape.output_len() * shape.weight_len() / shape.out_channels;
        each(blocks * groups * chunks, operations, |index| {
            let (block, group, first) = (index / chunks / groups, index / chunks % groups, index % chunks * channels);
            let samples = block * lanes..shape.batch.min((block + 1) * lanes);
            let task = Task { samples, group, channels: first..to.channels.min(first + channels) };
            self.run(&task, source, lanes, &places, result, &finish);
        });
    }

    /// Does one task, of up to `lanes` samples.
    fn run(
        &self,
        task: &Task,
        source: &[f32],
        lanes: usize,
        places: &[Vec<Place>],
        result: Shared,
        finish: &impl Fn(usize, f32) -> f32,
    ) {
        let Self { shape, from, to, panel, .. } = *self;
        let (plane, pitch) = (from.pixels * lanes, to.pixels * lanes);
        let sample_len = shape.groups * from.channels * from.pixels;
        let packed_panel = match &self.weights {
            Weights::Filters(_) => 0,
            Weights::Taps(taps) => taps.len(),
        };
        with_scratch(from.channels * plane, |packed| {
            for (channel, place) in packed.chunks_exact_mut(plane).enumerate() {
                let first = task.samples.start * sample_len + (task.group * from.channels + channel) * from.pixels;
                interleave(&source[first..task.samples.end * sample_len], sample_len, from.pixels, lanes, place);
            }
            with_scratch(panel * pitch + packed_panel, |scratch| {
                let (sums, packed_weights) = scratch.split_at_mut(panel * pitch);
                for first in task.channels.clone().step_by(panel) {
                    let channels = panel.min(to.channels - first);
                    let (weights, steps, channels_there) = self.panel(task.group, first, channels, packed_weights);
                    for (pixel, places) in places.iter().enumerate() {
                        self.isa.dispatch(Sums {
                            grad: packed,
                            plane,
                            places,
                            weights,
                            steps,
                            panel,
                            channels: channels_there,
                            run: lanes,
                            pitch,
                            sums: &mut sums[pixel * lanes..],
                        });
                    }
                    for (lane, sample) in task.samples.clone().enumerate() {
                        for (channel, sums) in (first..first + channels).zip(sums.chunks_exact(pitch)) {
                            let channel = task.group * to.channels + channel;
                            let start = (sample * shape.groups * to.channels + channel) * to.pixels;
                            for (pixel, sums) in sums.chunks_exact(lanes).enumerate() {
                                // SAFETY: each task has channels of some samples of its own, inside of the result.
                                unsafe { result.at(start + pixel).write(finish(channel, sums[lane])) };
                            }
                        }
                    }
                }
            });
        });
    }

    /// The weights of a panel, the values from one channel of the source and of the result to the next, and the channels of the
    /// result that are there.
    fn panel<'a>(
        &'a self,
        group: usize,
        first: usize,
        channels: usize,
        packed: &'a mut [f32],
    ) -> (&'a [f32], [usize; 2], usize) {
        let area = self.shape.kernel[0] * self.shape.kernel[1];
        match &self.weights {
            Weights::Filters(weights) => {
                let filter = self.from.channels * area;
                let start = (group * self.to.channels + first) * filter;
                (&weights[start..][..channels * filter], [area, filter], channels)
            }
            Weights::Taps(taps) => {
                // SAFETY: nothing but values is written to what becomes values again.
                let room = unsafe { &mut *(ptr::from_mut(packed) as *mut [MaybeUninit<f32>]) };
                taps.pack(group * taps.panels() + first / self.panel, room);
                (packed, [area * self.panel, 1], self.panel)
            }
        }
    }
}
