//! The gradient of the input: products of the weights with the shifted gradient of the output, summed over all filters and taps.
//!
//! With a stride, every n-th position of the input (a phase) sees other taps; within a phase it is a convolution of stride 1.

#![allow(unsafe_code)]

use std::ops::Range;

use crate::interleaved::{self, TASKS};
use crate::lanes::Isa;
use crate::parallel::each;
use crate::planes::{Axis, Planes};
use crate::room::Room;
use crate::scratch::with_scratch;
use crate::sums::{Panel, Place, Sums};
use crate::taps::Taps;
use crate::trim::Trimmed;
use crate::{Conv2d, ShapeError};

/// Values of the packed gradient that are worked on at once: about half of a core's second-level cache.
const BLOCK: usize = 1 << 17;

/// Positions of one axis of the input that see the same taps: every stride-th, from `first` on.
struct Phase {
    first: usize,
    taps: Vec<usize>,
}

/// Phases of both axes, with their weights.
struct Pass {
    first: [usize; 2],
    /// Where each tap begins in a packed plane.
    places: Vec<Place>,
    /// For each group and panel of `panel` channels: `[filter, tap, channel in panel]`.
    weights: Vec<f32>,
}

/// Everything that the tasks of one call share.
struct Plan<'a> {
    shape: &'a Conv2d,
    isa: Isa,
    grad: Planes,
    passes: Vec<Pass>,
    /// Channels that are computed together.
    panel: usize,
    /// Strides between the positions of a phase, and the positions of a phase.
    stride: [usize; 2],
    positions: [usize; 2],
}

/// Channels of one group in one sample.
struct Task {
    sample: usize,
    group: usize,
    channels: Range<usize>,
}

impl Conv2d {
    /// The gradient of the input, `[batch, in_channels, height, width]`.
    ///
    /// # Errors
    /// When the geometry is wrong or a slice has another length than it says.
    pub fn grad_input(&self, grad_output: &[f32], weight: &[f32]) -> Result<Vec<f32>, ShapeError> {
        self.grad_input_at(Isa::best(), grad_output, weight)
    }

    pub(crate) fn grad_input_at(&self, isa: Isa, grad_output: &[f32], weight: &[f32]) -> Result<Vec<f32>, ShapeError> {
        self.check()?;
        ShapeError::length("the output's gradient", self.output_len(), grad_output.len())?;
        ShapeError::length("the weights", self.weight_len(), weight.len())?;
        if let Some(trimmed) = Trimmed::of(self) {
            return trimmed.shape.grad_input_at(isa, grad_output, &trimmed.take(weight, 1));
        }
        if interleaved::suits(self, interleaved::OF_INPUT) {
            return Ok(interleaved::grad_input(self, isa, grad_output, weight));
        }
        let plan = Plan::new(self, isa, weight);
        let group_in = self.in_channels / self.groups;
        // Samples are tasks; those of a small batch are divided into some channels each.
        let most = group_in
            .div_ceil(TASKS.div_ceil(self.batch.max(1) * self.groups))
            .next_multiple_of(plan.panel)
            .min(group_in);
        let chunks = group_in.div_ceil(most);
        let plane = self.input[0] * self.input[1];
        let to_input = Room::new(self.input_len());
        let operations = 2 * self.output_len() * self.weight_len() / self.out_channels;
        each(self.batch * self.groups * chunks, operations, |index| {
            let (sample, group) = (index / chunks / self.groups, index / chunks % self.groups);
            let first = index % chunks * most;
            let channels = first..group_in.min(first + most);
            let start = (sample * self.groups + group) * group_in;
            // SAFETY: each task has channels of a sample of its own.
            let grad = unsafe { to_input.zeros((start + channels.start) * plane..(start + channels.end) * plane) };
            plan.compute(&Task { sample, group, channels }, grad_output, grad);
        });
        // SAFETY: the channels of all samples are all values.
        Ok(unsafe { to_input.filled() })
    }
}

impl<'a> Plan<'a> {
    fn new(shape: &'a Conv2d, isa: Isa, weight: &[f32]) -> Self {
        let group_in = shape.in_channels / shape.groups;
        let panel = isa.dispatch(Panel { channels: group_in });
        // The stride of an axis with one output doesn't matter.
        let stride = [0, 1].map(|axis| shape.stride[axis].min(shape.input[axis] + shape.padding[axis][0]));
        let positions = [0, 1].map(|axis| shape.input[axis].div_ceil(stride[axis]));
        let steps = [0, 1].map(|axis| taps_of(shape, axis, stride[axis]));
        let starts = [0, 1].map(|axis| steps[axis].iter().map(|(_, start)| *start).collect::<Vec<_>>());
        let across = Axis::new(&starts[1], 1, positions[1]);
        let group_out = shape.out_channels / shape.groups;
        let mut rows = positions[0];
        let mut grad = Planes { down: Axis::new(&starts[0], 1, rows), across };
        while rows > 1 && group_out * grad.len() > BLOCK {
            rows = rows.div_ceil(2);
            grad.down = Axis::new(&starts[0], 1, rows);
        }
        let phases = [0, 1].map(|axis| phases(&steps[axis], shape.input[axis]));
        let passes = phases[0]
            .iter()
            .flat_map(|down| phases[1].iter().map(move |across| (down, across)))
            .map(|(down, across)| {
                let taps: Vec<_> = down.taps.iter().flat_map(|y| across.taps.iter().map(move |x| [*y, *x])).collect();
                Pass {
                    first: [down.first, across.first],
                    places: taps
                        .iter()
                        .enumerate()
                        .map(|(at, tap)| Place { start: grad.offset(*tap), weight: at * panel })
                        .collect(),
                    weights: Taps::new(shape, weight, &taps, panel).pack_all(),
                }
            })
            .collect();
        Self { shape, isa, grad, passes, panel, stride, positions: [rows, positions[1]] }
    }

    /// Computes a task's part of the gradient, which is zero: no tap may see some positions.
    fn compute(&self, task: &Task, grad_output: &[f32], grad_input: &mut [f32]) {
        let shape = self.shape;
        let size = shape.output();
        let group_out = shape.out_channels / shape.groups;
        let [height, width] = shape.input;
        let [rows, columns] = self.positions;
        let pitch = self.grad.across.len;
        let (plane, run) = (self.grad.len(), (rows * pitch).next_multiple_of(16));
        let panels = (shape.in_channels / shape.groups).div_ceil(self.panel);
        with_scratch(group_out * plane, |packed| {
            with_scratch(self.panel * run, |sums| {
                for first_row in (0..height.div_ceil(self.stride[0])).step_by(rows) {
                    for (filter, place) in packed.chunks_exact_mut(plane).enumerate() {
                        let index = task.sample * shape.out_channels + task.group * group_out + filter;
                        let source = &grad_output[index * size[0] * size[1]..][..size[0] * size[1]];
                        self.grad.pack(source, size, first_row as isize, place);
                    }
                    for pass in &self.passes {
                        let panel_len = group_out * pass.places.len() * self.panel;
                        for first in task.channels.clone().step_by(self.panel) {
                            let panel = task.group * panels + first / self.panel;
                            self.isa.dispatch(Sums {
                                grad: packed,
                                plane,
                                places: &pass.places,
                                weights: &pass.weights[panel * panel_len..][..panel_len],
                                steps: [pass.places.len() * self.panel, 1],
                                panel: self.panel,
                                channels: self.panel,
                                run,
                                pitch: run,
                                sums,
                            });
                            for channel in first..(first + self.panel).min(task.channels.end) {
                                let out = &mut grad_input[(channel - task.channels.start) * height * width..]
                                    [..height * width];
                                let sums = &sums[(channel - first) * run..][..rows * pitch];
                                let lines =
                                    (first_row * self.stride[0] + pass.first[0]..height).step_by(self.stride[0]);
                                for (y, line) in lines.zip(sums.chunks_exact(pitch)) {
                                    let out = &mut out[y * width..][..width];
                                    if self.stride[1] == 1 {
                                        out.copy_from_slice(&line[..columns]);
                                    } else {
                                        for (out, sum) in
                                            out[pass.first[1]..].iter_mut().step_by(self.stride[1]).zip(line)
                                        {
                                            *out = *sum;
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            });
        });
    }
}

/// For every tap of an axis: the phase that sees it, and the output position that the phase's first position sees through it.
fn taps_of(shape: &Conv2d, axis: usize, stride: usize) -> Vec<(usize, isize)> {
    let stride = stride as isize;
    (0..shape.kernel[axis])
        .map(|tap| {
            let back = (tap * shape.dilation[axis]) as isize - shape.padding[axis][0] as isize;
            let phase = back.rem_euclid(stride);
            (phase as usize, (phase - back) / stride)
        })
        .collect()
}

/// The phases of an axis that see any tap.
fn phases(taps: &[(usize, isize)], size: usize) -> Vec<Phase> {
    let mut phases: Vec<Phase> = Vec::new();
    for (tap, (first, _)) in taps.iter().enumerate().filter(|(_, (first, _))| *first < size) {
        match phases.iter_mut().find(|phase| phase.first == *first) {
            Some(phase) => phase.taps.push(tap),
            None => phases.push(Phase { first: *first, taps: vec![tap] }),
        }
    }
    phases
}
