//! Convolution as the product of the weights with the pixels under each tap, which are never written out for all outputs at once.
#![allow(unsafe_code)]

use crate::lanes::{Isa, Lanes, Work};
use crate::parallel::{Shared, each, threads};
use crate::room::Room;
use crate::rows::Panels;
use crate::scratch::with_scratch;
use crate::tile::{Tile, VECTORS};
use crate::trim::Trimmed;
use crate::window::{Strip, Window};
use crate::{Activation, Conv2d, sparse};
use std::ops::Range;
use std::ptr;

/// Steps of the sum that are done for one tile at a time; part of the result's definition, since it orders the sums.
const DEPTH: usize = 512;
/// Values of input that a task copies, if it can do with so few: half of a second-level cache.
const STRIP: usize = 96 << 10;
/// Pixels below which dividing an image further costs more than it gives.
const PIXELS: usize = 192;

/// Products summed up for one value of the output.
pub(crate) fn depth(shape: &Conv2d) -> usize {
    shape.in_channels / shape.groups * shape.kernel[0] * shape.kernel[1]
}

/// The weights in panels, group after group.
pub(crate) fn pack(isa: Isa, shape: &Conv2d, weight: &[f32]) -> Vec<f32> {
    let (depth, rows) = (depth(shape), shape.out_channels / shape.groups);
    let panels = Panels::new(rows, isa.rows());
    let room = Room::new(weight.len());
    each(shape.groups * panels.count, 4 * weight.len(), |index| {
        let (group, panel) = (index / panels.count * rows * depth, index % panels.count);
        let range = panels.range(panel);
        // SAFETY: each panel's values are written by one task.
        let packed = unsafe { room.part(group + range.start * depth..group + range.end * depth) };
        panels.pack(panel, &weight[group..group + rows * depth], depth, packed);
    });
    // SAFETY: the panels of all groups are all values.
    unsafe { room.filled() }
}

/// What [`pack`] makes of the weights of fewer taps, from what it made of all.
pub(crate) fn trim(isa: Isa, shape: &Conv2d, packed: &[f32], trimmed: &Trimmed) -> Vec<f32> {
    let (depth, rows) = (depth(shape), shape.out_channels / shape.groups);
    let panels = Panels::new(rows, isa.rows());
    let groups = packed.chunks_exact(rows * depth);
    let panels =
        groups.flat_map(|group| (0..panels.count).map(|panel| panels.range(panel)).map(move |range| (group, range)));
    panels
        .flat_map(|(group, range)| trimmed.take(&group[range.start * depth..range.end * depth], range.len()))
        .collect()
}

/// The inverse of [`pack`].
pub(crate) fn unpack(isa: Isa, shape: &Conv2d, packed: &[f32]) -> Vec<f32> {
    unpacked(&Panels::new(shape.out_channels / shape.groups, isa.rows()), packed, depth(shape))
}

fn unpacked(panels: &Panels, packed: &[f32], depth: usize) -> Vec<f32> {
    let mut weight = vec![0.0; packed.len()];
    let rows = panels.range(panels.count - 1).end;
    for (packed, weight) in packed.chunks_exact(rows * depth).zip(weight.chunks_exact_mut(rows * depth)) {
        for range in (0..panels.count).map(|panel| panels.range(panel)) {
            let packed = &packed[range.start * depth..range.end * depth];
            for (k, packed) in packed.chunks_exact(range.len()).enumerate() {
                range.clone().zip(packed).for_each(|(row, value)| weight[row * depth + k] = *value);
            }
        }
    }
    weight
}

/// The output of the convolution; all slices have the lengths that `shape` says, `weights` comes from [`pack`].
pub(crate) fn forward(
    isa: Isa,
    shape: &Conv2d,
    input: &[f32],
    weights: &[f32],
    bias: Option<&[f32]>,
    activation: Activation,
    output: &mut [f32],
) {
    isa.dispatch(Direct { shape, input, weights, bias, activation, output });
}

/// [`forward`] for one vector unit.
struct Direct<'a> {
    shape: &'a Conv2d,
    input: &'a [f32],
    weights: &'a [f32],
    bias: Option<&'a [f32]>,
    activation: Activation,
    output: &'a mut [f32],
}

/// How outputs are divided into tasks.
struct Plan {
    /// Outputs of a task, down and across.
    block: [usize; 2],
    /// Blocks of an image, down and across.
    blocks: [usize; 2],
    /// Parts that the rows of weights are divided into.
    parts: usize,
    /// Whether a block's pixels are packed into whole vectors, or each row of pixels has its own vectors.
    packed: bool,
}

impl Plan {
    fn new(shape: &Conv2d, window: Window, panels: Panels, rows: usize, lanes: usize) -> Self {
        let [height, width] = shape.output();
        let channels = shape.in_channels / shape.groups;
        let size = |block: [usize; 2]| Strip::new(window, channels, block).len();
        let images = shape.batch * shape.groups;
        // Very wide images are cut across, the others only down.
        let mut across = width;
        while across > 2 * VECTORS * lanes && size([1, across]) > 2 * STRIP {
            across = (across / 2).next_multiple_of(lanes);
        }
        let columns = width.div_ceil(across);
        let one = size([1, across]);
        let more = (size([2, across]) - one).max(1);
        let most = (STRIP.saturating_sub(one) / more + 1).min(height);
        let fair = (height * images * columns).div_ceil(4 * threads()).max(PIXELS.div_ceil(across));
        let down = height.div_ceil(height.div_ceil(most.min(fair).max(1)));
        let blocks = [height.div_ceil(down), columns];
        let tasks = images * blocks[0] * blocks[1];
        let parts = if threads() == 1 || tasks >= 2 * threads() {
            1
        } else {
            (2 * threads()).div_ceil(tasks).min(panels.count / 2).max(1)
        };
        // What the lanes that stay empty cost, beside copying the pixels of each tap: about two cycles for each piece of a row.
        let by_row = down * across.div_ceil(lanes) * rows;
        let vectors = (down * across).div_ceil(lanes);
        let packed = columns == 1 && vectors * rows + 2 * parts * (vectors + down) < by_row;
        Self { block: [down, across], blocks, parts, packed }
    }
}

impl Work for Direct<'_> {
    type Output = ();

    fn run<L: Lanes>(self, lanes: L) {
        let shape = self.shape;
        let rows = shape.out_channels / shape.groups;
        let panels = Panels::new(rows, L::ROWS);
        let window = Window {
            input: shape.input,
            kernel: shape.kernel,
            stride: shape.stride,
            dilation: shape.dilation,
            before: [shape.padding[0][0], shape.padding[1][0]],
        };
        let [_, width] = shape.output();
        if !Strip::sensible(&window, shape.in_channels / shape.groups, [1, width.min(2 * VECTORS * L::LANES)]) {
            let weight = unpacked(&panels, self.weights, depth(shape));
            return sparse::forward(shape, self.input, &weight, self.bias, self.activation, self.output);
        }
        let plan = Plan::new(shape, window, panels, rows, L::LANES);
        let strip = Strip::new(window, shape.in_channels / shape.groups, plan.block);
        let offsets = strip.offsets();
        let per_image = shape.groups * plan.blocks[0] * plan.blocks[1] * plan.parts;
        let operations = 2 * self.output.len() * offsets.len();
        let task = Task {
            lanes,
            shape,
            input: self.input,
            weights: self.weights,
            bias: self.bias,
            relu: self.activation == Activation::Relu,
            output: Shared::new(self.output),
            panels,
            plan,
            strip,
            offsets,
        };
        each(shape.batch * per_image, operations, |index| task.run(index));
    }
}

/// What all tasks share.
struct Task<'a, L> {
    lanes: L,
    shape: &'a Conv2d,
    input: &'a [f32],
    weights: &'a [f32],
    bias: Option<&'a [f32]>,
    relu: bool,
    output: Shared,
    panels: Panels,
    plan: Plan,
    strip: Strip,
    offsets: Vec<u32>,
}

/// Part of the outputs: some rows of weights, over a block of pixels of one group of one image.
struct Block {
    /// The group.
    group: usize,
    /// Panels of the group's weights.
    panels: Range<usize>,
    /// First pixel of the output, down and across.
    first: [usize; 2],
    /// Pixels down and across.
    size: [usize; 2],
    /// Where the group's first channel begins in the output.
    out: usize,
}

impl<L: Lanes> Task<'_, L> {
    /// Does the task of one index.
    fn run(&self, index: usize) {
        let (shape, plan) = (self.shape, &self.plan);
        let [height, width] = shape.output();
        let (index, part) = (index / plan.parts, index % plan.parts);
        let (index, x) = (index / plan.blocks[1], index % plan.blocks[1] * plan.block[1]);
        let (index, y) = (index / plan.blocks[0], index % plan.blocks[0] * plan.block[0]);
        let (image, group) = (index / shape.groups, index % shape.groups);
        let channels = shape.in_channels / shape.groups;
        let block = Block {
            group,
            panels: part * self.panels.count / plan.parts..(part + 1) * self.panels.count / plan.parts,
            first: [y, x],
            size: [plan.block[0].min(height - y), plan.block[1].min(width - x)],
            out: (image * shape.out_channels + group * (shape.out_channels / shape.groups)) * height * width,
        };
        let pixels = shape.input[0] * shape.input[1];
        let input = &self.input[(image * shape.in_channels + group * channels) * pixels..][..channels * pixels];
        // Vectors may be read past the end by less than one.
        with_scratch(self.strip.len() + L::LANES, |copy| {
            // SAFETY: `copy` is longer than a copy.
            self.lanes.run(|| unsafe { self.strip.fill(self.lanes, input, block.first, copy) });
            if plan.packed {
                with_scratch(self.offsets.len().min(DEPTH) * VECTORS * L::LANES + L::LANES, |columns| {
                    self.by_pixels(&block, copy, columns);
                });
            } else {
                self.by_rows(&block, copy);
            }
        });
    }

    /// Vectors that don't cross rows of pixels: read where they lie.
    fn by_rows(&self, block: &Block, copy: &[f32]) {
        let width = self.shape.output()[1];
        let across = block.size[1].div_ceil(L::LANES);
        let vectors = block.size[0] * across;
        for first in (0..vectors).step_by(VECTORS) {
            let count = VECTORS.min(vectors - first);
            let vector = [0, 1, 2].map(|v: usize| {
                let vector = first + v.min(count - 1);
                (vector / across, vector % across * L::LANES)
            });
            let right = vector.map(|(y, x)| copy[y * self.strip.pitch() + x..].as_ptr());
            let out = vector.map(|(y, x)| (block.first[0] + y) * width + block.first[1] + x);
            let lanes = vector.map(|(_, x)| L::LANES.min(block.size[1] - x));
            for step in self.steps() {
                // SAFETY: vectors begin inside the copy of a plane at every offset, and a vector can be read past its end; the
                // pixels at `out` are this block's alone.
                unsafe { self.column(block, step.clone(), &self.offsets[step], right, out, lanes, count) };
            }
        }
    }

    /// Vectors filled with pixels across the ends of rows: copied for each tile.
    fn by_pixels(&self, block: &Block, copy: &[f32], columns: &mut [f32]) {
        let wide = VECTORS * L::LANES;
        let [height, width] = block.size;
        let pixels = height * width;
        let offsets: Vec<u32> = (0..self.offsets.len().min(DEPTH)).map(|k| (k * wide) as u32).collect();
        let mut pieces = Vec::with_capacity(wide);
        for first in (0..pixels).step_by(wide) {
            let filled = wide.min(pixels - first);
            let count = filled.div_ceil(L::LANES);
            pieces.clear();
            let mut lane = 0;
            while lane < filled {
                let (y, x) = ((first + lane) / width, (first + lane) % width);
                let len = (width - x).min(filled - lane);
                pieces.push((lane, y * self.strip.pitch() + x, len));
                lane += len;
            }
            let vector = [0, 1, 2].map(|v: usize| v.min(count - 1) * L::LANES);
            let out = vector.map(|at| block.first[0] * width + first + at);
            let lanes = vector.map(|at| L::LANES.min(filled - at));
            for step in self.steps() {
                let depth = step.len();
                self.lanes.run(|| self.gather(&self.offsets[step.clone()], copy, &pieces, columns));
                let right = vector.map(|at| columns[at..].as_ptr());
                // SAFETY: `columns` holds `depth` steps of `wide` values; the pixels at `out` are this block's alone.
                unsafe { self.column(block, step, &offsets[..depth], right, out, lanes, count) };
            }
        }
    }

    /// Copies `pieces` (lane, where it begins, how long) at each offset to one tile's columns.
    #[inline(always)]
    fn gather(&self, offsets: &[u32], copy: &[f32], pieces: &[(usize, usize, usize)], columns: &mut [f32]) {
        let wide = VECTORS * L::LANES;
        assert!(columns.len() >= offsets.len() * wide + L::LANES);
        for (k, offset) in offsets.iter().enumerate() {
            for (lane, from, len) in pieces {
                for i in (0..*len).step_by(L::LANES) {
                    // SAFETY: the piece lies in the copy, which goes on for a vector; it ends inside its step of `columns`, so that
                    // what is written too much goes where the next piece or step is written after it, or past the last one.
                    unsafe {
                        let from = copy.as_ptr().add(*offset as usize + from + i);
                        self.lanes.store(columns.as_mut_ptr().add(k * wide + lane + i), self.lanes.load(from));
                    }
                }
            }
        }
    }

    /// Ranges of the sum that are done one after the other.
    fn steps(&self) -> impl Iterator<Item = Range<usize>> + use<L> {
        let panels = Panels::new(self.offsets.len(), DEPTH);
        (0..panels.count).map(move |part| panels.range(part))
    }

    /// All rows of the block for one column of tiles and one range of the sum.
    ///
    /// # Safety
    /// A vector can be read at each offset from each of `right`; `lanes` pixels from each of `out` on are this block's alone.
    #[allow(clippy::too_many_arguments)]
    unsafe fn column(
        &self,
        block: &Block,
        step: Range<usize>,
        offsets: &[u32],
        right: [*const f32; VECTORS],
        out: [usize; VECTORS],
        lanes: [usize; VECTORS],
        count: usize,
    ) {
        let [height, width] = self.shape.output();
        let rows = self.shape.out_channels / self.shape.groups;
        let depth = self.offsets.len();
        let last = step.end == depth;
        for panel in block.panels.clone() {
            let range = self.panels.range(panel);
            let first = block.group * rows + range.start;
            let left = &self.weights[first * depth + step.start * range.len()..][..step.len() * range.len()];
            let bias = self.bias.filter(|_| last).map_or(ptr::null(), |bias| bias[first..first + range.len()].as_ptr());
            let tile = Tile {
                left: left.as_ptr(),
                depth: step.len(),
                offsets: offsets.as_ptr(),
                right,
                out: out.map(|at| self.output.at(block.out + range.start * height * width + at)),
                count: lanes,
                out_stride: height * width,
                accumulate: step.start > 0,
                bias,
                relu: self.relu && last,
            };
            // SAFETY: `left`, `offsets` and `bias` have just these lengths; the rest is the caller's.
            unsafe { tile.compute(self.lanes, range.len(), count) };
        }
    }
}
