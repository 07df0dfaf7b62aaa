//! The gradient of the weights: products of the output's gradient with the shifted input, summed over all pixels.

use std::ops::Range;

use crate::dots::{Column, Dots};
use crate::interleaved;
use crate::lanes::Isa;
use crate::parts::{BLOCK, PARTS, in_parts};
use crate::planes::{Axis, Planes};
use crate::scratch::with_scratch;
use crate::trim::Trimmed;
use crate::{Conv2d, ShapeError};

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
    pub fn grad_weight(&self, input: &[f32], grad_output: &[f32]) -> Result<Vec<f32>, ShapeError> {
        self.grad_weight_at(Isa::best(), input, grad_output)
    }

    pub(crate) fn grad_weight_at(&self, isa: Isa, input: &[f32], grad_output: &[f32]) -> Result<Vec<f32>, ShapeError> {
        self.check()?;
        ShapeError::length("the input", self.input_len(), input.len())?;
        ShapeError::length("the output's gradient", self.output_len(), grad_output.len())?;
        if let Some(trimmed) = Trimmed::of(self) {
            return Ok(trimmed.spread(&trimmed.shape.grad_weight_at(isa, input, grad_output)?));
        }
        if interleaved::suits(self, interleaved::OF_WEIGHT) {
            return Ok(interleaved::grad_weight(self, isa, input, grad_output));
        }
        let (plan, blocks) = Plan::new(self, isa);
        Ok(in_parts(self, blocks.len(), |blocks_of_part, group, filters, sums| {
            for block in &blocks[blocks_of_part] {
                plan.add(block, group, filters.clone(), input, grad_output, sums);
            }
        }))
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
