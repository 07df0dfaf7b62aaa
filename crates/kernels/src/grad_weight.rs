//! The gradient of the weights: products of the output's gradient with the shifted input, summed over all pixels.

use std::ops::Range;

use rayon::prelude::*;

use crate::dots::{Column, Dots, FILTERS};
use crate::interleaved;
use crate::lanes::Isa;
use crate::planes::{Axis, Planes};
use crate::scratch::with_scratch;
use crate::trim::Trimmed;
use crate::{Conv2d, ShapeError};

/// Values of the packed input and gradient that are worked on at once: about half of a core's second-isa cache.
pub(crate) const BLOCK: usize = 1 << 17;
/// Partial sums that are made side by side, whatever the number of threads: so the bits of the result don't depend on it.
const PARTS: usize = 8;
/// Values of all partial sums together.
const PART_VALUES: usize = 1 << 23;

/// Samples, and rows of their output, that are packed together.
#[derive(Clone)]
struct Block {
    samples: Range<usize>,
    rows: Range<usize>,
}

/// Everything that the blocks of one call share.
struct Plan<'a> {
    shape: &'a Conv2d,
    isa: Isa,
    /// Layouts of the input and of the output's gradient.
    input: Planes,
    grad: Planes,
    /// Where each weight of one filter begins in the packed input of a group.
    columns: Vec<Column>,
    /// Most samples in one block.
    samples: usize,
}

impl Conv2d {
    /// The gradient of the weights, `[out_channels, in_channels / groups, height, width]`.
    ///
    /// # Errors
    /// When the geometry is wrong or a slice has another length than it says.
    pub fn grad_weight(&self, input: &[f32], grad_output: &[f32], grad_weight: &mut [f32]) -> Result<(), ShapeError> {
        self.grad_weight_at(Isa::best(), input, grad_output, grad_weight)
    }

    pub(crate) fn grad_weight_at(
        &self,
        isa: Isa,
        input: &[f32],
        grad_output: &[f32],
        grad_weight: &mut [f32],
    ) -> Result<(), ShapeError> {
        self.check()?;
        ShapeError::length("the input", self.input_len(), input.len())?;
        ShapeError::length("the output's gradient", self.output_len(), grad_output.len())?;
        ShapeError::length("the weights' gradient", self.weight_len(), grad_weight.len())?;
        if let Some(trimmed) = Trimmed::of(self) {
            let mut part = vec![0.0; trimmed.shape.weight_len()];
            trimmed.shape.grad_weight_at(isa, input, grad_output, &mut part)?;
            trimmed.spread(&part, grad_weight);
            return Ok(());
        }
        if interleaved::suits(self, interleaved::OF_WEIGHT) {
            interleaved::grad_weight(self, isa, input, grad_output, grad_weight);
            return Ok(());
        }
        let (plan, blocks) = Plan::new(self, isa);
        in_parts(self, blocks.len(), grad_weight, |blocks_of_part, group, filters, sums| {
            for block in &blocks[blocks_of_part] {
                plan.add(block, group, filters.clone(), input, grad_output, sums);
            }
        });
        Ok(())
    }
}

/// Has `add` sum up the gradient of the weights over all blocks, some of them and some filters at a time, on all threads.
///
/// `add` is called with blocks, a group, filters of it, and their gradients, zero at first.
pub(crate) fn in_parts(
    shape: &Conv2d,
    blocks: usize,
    grad_weight: &mut [f32],
    add: impl Fn(Range<usize>, usize, Range<usize>, &mut [f32]) + Sync,
) {
    let parts = blocks.min(PARTS).min(PART_VALUES / grad_weight.len() + 1);
    if parts == 0 {
        grad_weight.fill(0.0);
        return;
    }
    // Few parts: the filters of each are divided too.
    let group_out = shape.out_channels / shape.groups;
    let filters = group_out.div_ceil(PARTS.div_ceil(parts)).next_multiple_of(FILTERS).min(group_out);
    let filter_len = shape.weight_len() / shape.out_channels;
    let mut more = vec![0.0; grad_weight.len() * (parts - 1)];
    let all: Vec<_> =
        std::iter::once(&mut *grad_weight).chain(more.chunks_exact_mut(shape.weight_len())).enumerate().collect();
    all.into_par_iter().for_each(|(part, sums)| {
        sums.par_chunks_mut(group_out * filter_len).enumerate().for_each(|(group, sums)| {
            sums.par_chunks_mut(filters * filter_len).enumerate().for_each(|(chunk, sums)| {
                sums.fill(0.0);
                let first = group * group_out + chunk * filters;
                add(
                    blocks * part / parts..blocks * (part + 1) / parts,
                    group,
                    first..first + sums.len() / filter_len,
                    sums,
                );
            });
        });
    });
    for part in more.chunks_exact(shape.weight_len()) {
        for (sum, value) in grad_weight.iter_mut().zip(part) {
            *sum += value;
        }
    }
}

impl<'a> Plan<'a> {
    fn new(shape: &'a Conv2d, isa: Isa) -> (Self, Vec<Block>) {
        let [height, width] = shape.output();
        let axis = |axis: usize, count: usize| {
            let starts: Vec<_> = (0..shape.kernel[axis])
                .map(|tap| (tap * shape.dilation[axis]) as isize - shape.padding[axis][0] as isize)
                .collect();
            Axis::new(&starts, shape.stride[axis].min(isize::MAX as usize) as isize, count)
        };
        let (group_in, group_out) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
        let layouts = |rows: usize| {
            let input = Planes { down: axis(0, rows), across: axis(1, width) };
            let grad = Planes { down: Axis::plain(rows), across: Axis::plain(input.across.len) };
            let size = group_in * input.len() + group_out * grad.len();
            (input, grad, size)
        };
        let mut rows = height;
        while rows > 1 && layouts(rows).2 > BLOCK {
            rows = rows.div_ceil(2);
        }
        let (input, grad, size) = layouts(rows);
        let samples = if rows < height { 1 } else { (BLOCK / size).clamp(1, shape.batch.div_ceil(PARTS).max(1)) };
        let blocks = (0..shape.batch)
            .step_by(samples)
            .flat_map(|n| {
                (0..height)
                    .step_by(rows)
                    .map(move |y| Block { samples: n..(n + samples).min(shape.batch), rows: y..(y + rows).min(height) })
            })
            .collect();
        let channel = input.len() * samples;
        let columns = (0..group_in)
            .flat_map(|c| (0..shape.kernel[0]).flat_map(move |y| (0..shape.kernel[1]).map(move |x| (c, [y, x]))))
            .map(|(c, tap)| c * channel + input.offset(tap))
            .enumerate()
            .map(|(weight, start)| Column { start, weight })
            .collect();
        (Self { shape, isa, input, grad, columns, samples }, blocks)
    }

    /// Adds a block's part of the gradient of some filters of one group.
    fn add(
        &self,
        block: &Block,
        group: usize,
        filters: Range<usize>,
        input: &[f32],
        grad_output: &[f32],
        sums: &mut [f32],
    ) {
        let shape = self.shape;
        let size = shape.output();
        let group_in = shape.in_channels / shape.groups;
        let (input_plane, grad_plane) = (self.input.len(), self.grad.len());
        let (input_channel, grad_channel) = (input_plane * self.samples, grad_plane * self.samples);
        let origin = block.rows.start * shape.stride[0];
        with_scratch(group_in * input_channel, |packed_input| {
            with_scratch(filters.len() * grad_channel, |packed_grad| {
                for (sample, n) in block.samples.clone().enumerate() {
                    for c in 0..group_in {
                        let source = plane(input, n * shape.in_channels + group * group_in + c, shape.input);
                        let place = &mut packed_input[c * input_channel + sample * input_plane..][..input_plane];
                        self.input.pack(source, shape.input, origin as isize, place);
                    }
                    for (f, filter) in filters.clone().enumerate() {
                        let source = plane(grad_output, n * shape.out_channels + filter, size);
                        let place = &mut packed_grad[f * grad_channel + sample * grad_plane..][..grad_plane];
                        self.grad.pack(source, size, block.rows.start as isize, place);
                    }
                }
                let runs: Vec<_> =
                    (0..block.samples.len()).map(|sample| [sample * grad_plane, sample * input_plane]).collect();
                self.isa.dispatch(Dots {
                    grad: packed_grad,
                    grad_channel,
                    input: packed_input,
                    columns: &self.columns,
                    runs: &runs,
                    filters: filters.len(),
                    len: block.rows.len() * self.input.across.len,
                    sums,
                });
            });
        });
    }
}

/// One channel of one sample.
fn plane(values: &[f32], index: usize, size: [usize; 2]) -> &[f32] {
    let len = size[0] * size[1];
    &values[index * len..][..len]
}
