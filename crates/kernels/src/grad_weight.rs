//! The gradient of the weights: products of the output's gradient with the shifted input, summed over all pixels.

#![allow(unsafe_code)]

use std::ops::Range;

use rayon::prelude::*;

use crate::lanes::{Isa, Lanes, Work};
use crate::planes::{Axis, Planes};
use crate::scratch::with_scratch;
use crate::{Conv2d, ShapeError};

/// Values of the packed input and gradient that are worked on at once: about half of a core's second-isa cache.
const BLOCK: usize = 1 << 17;
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
    columns: Vec<usize>,
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

    pub(crate) fn grad_weight_at(&self, isa: Isa, input: &[f32], grad_output: &[f32], grad_weight: &mut [f32]) -> Result<(), ShapeError> {
        self.check()?;
        ShapeError::length("the input", self.input_len(), input.len())?;
        ShapeError::length("the output's gradient", self.output_len(), grad_output.len())?;
        ShapeError::length("the weights' gradient", self.weight_len(), grad_weight.len())?;
        let (plan, blocks) = Plan::new(self, isa);
        let parts = blocks.len().min(PARTS).min(PART_VALUES / grad_weight.len() + 1);
        if parts == 0 {
            grad_weight.fill(0.0);
            return Ok(());
        }
        // Few parts: the filters of each are divided too.
        let group_out = self.out_channels / self.groups;
        let filters = group_out.div_ceil(PARTS.div_ceil(parts)).next_multiple_of(FILTERS).min(group_out);
        let filter_len = self.weight_len() / self.out_channels;
        let mut sums = vec![0.0; grad_weight.len() * (parts - 1)];
        let all: Vec<_> = std::iter::once(&mut *grad_weight).chain(sums.chunks_exact_mut(self.weight_len())).enumerate().collect();
        all.into_par_iter().for_each(|(part, sums)| {
            let blocks = &blocks[blocks.len() * part / parts..blocks.len() * (part + 1) / parts];
            sums.par_chunks_mut(group_out * filter_len).enumerate().for_each(|(group, sums)| {
                sums.par_chunks_mut(filters * filter_len).enumerate().for_each(|(chunk, sums)| {
                    sums.fill(0.0);
                    let first = group * group_out + chunk * filters;
                    for block in blocks {
                        plan.add(block, group, first..first + sums.len() / filter_len, input, grad_output, sums);
                    }
                });
            });
        });
        for part in sums.chunks_exact(self.weight_len()) {
            for (sum, value) in grad_weight.iter_mut().zip(part) {
                *sum += value;
            }
        }
        Ok(())
    }
}

impl<'a> Plan<'a> {
    fn new(shape: &'a Conv2d, isa: Isa) -> (Self, Vec<Block>) {
        let [height, width] = shape.output();
        let axis = |axis: usize, count: usize| {
            let starts: Vec<_> =
                (0..shape.kernel[axis]).map(|tap| (tap * shape.dilation[axis]) as isize - shape.padding[axis][0] as isize).collect();
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
            .collect();
        (Self { shape, isa, input, grad, columns, samples }, blocks)
    }

    /// Adds a block's part of the gradient of some filters of one group.
    fn add(&self, block: &Block, group: usize, filters: Range<usize>, input: &[f32], grad_output: &[f32], sums: &mut [f32]) {
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
                self.isa.dispatch(Dots {
                    grad: packed_grad,
                    grad_channel,
                    grad_plane,
                    input: packed_input,
                    input_plane,
                    columns: &self.columns,
                    runs: block.samples.len(),
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

/// Filters that a tile may have, as a common multiple: chunks of filters are cut at it.
const FILTERS: usize = 8;

/// Dot products of all packed gradients with all shifted inputs.
struct Dots<'a> {
    grad: &'a [f32],
    /// Values from one channel, and one sample, of the gradient to the next.
    grad_channel: usize,
    grad_plane: usize,
    input: &'a [f32],
    /// Values from one sample of the input to the next.
    input_plane: usize,
    /// Where each column begins in the input.
    columns: &'a [usize],
    /// Samples, and the values of each.
    runs: usize,
    len: usize,
    /// `[filters, columns]`, added to.
    sums: &'a mut [f32],
}

impl Work for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let filters = self.sums.len() / self.columns.len();
        // Tiles that fill the registers, the ones with the fewest loads for a product first.
        let shapes: &[[usize; 2]] =
            if L::ROWS >= 8 { &[[5, 5], [4, 6], [6, 4], [8, 3], [2, 8], [1, 8]] } else { &[[3, 4], [4, 3], [2, 6], [1, 8]] };
        let cost = |[m, n]: [usize; 2]| filters.div_ceil(m) * self.columns.len().div_ceil(n) * (m * n + m + n);
        match shapes.iter().copied().min_by_key(|shape| cost(*shape)) {
            Some([5, 5]) => lanes.run(|| self.tiles::<L, 5, 5>(lanes)),
            Some([4, 6]) => lanes.run(|| self.tiles::<L, 4, 6>(lanes)),
            Some([6, 4]) => lanes.run(|| self.tiles::<L, 6, 4>(lanes)),
            Some([8, 3]) => lanes.run(|| self.tiles::<L, 8, 3>(lanes)),
            Some([2, 8]) => lanes.run(|| self.tiles::<L, 2, 8>(lanes)),
            Some([3, 4]) => lanes.run(|| self.tiles::<L, 3, 4>(lanes)),
            Some([4, 3]) => lanes.run(|| self.tiles::<L, 4, 3>(lanes)),
            Some([2, 6]) => lanes.run(|| self.tiles::<L, 2, 6>(lanes)),
            _ => lanes.run(|| self.tiles::<L, 1, 8>(lanes)),
        }
    }
}

impl Dots<'_> {
    /// All tiles of `M` filters and `N` columns; the last ones repeat a filter or a column.
    #[inline(always)]
    fn tiles<L: Lanes, const M: usize, const N: usize>(self, lanes: L) {
        let count = self.columns.len();
        let filters = self.sums.len() / count;
        let vectors = self.len.div_ceil(L::LANES);
        let end = vectors * L::LANES;
        let furthest = self.columns.iter().max().copied().unwrap_or(0);
        assert!(self.runs > 0 && filters > 0);
        assert!((filters - 1) * self.grad_channel + (self.runs - 1) * self.grad_plane + end <= self.grad.len());
        assert!(furthest + (self.runs - 1) * self.input_plane + end <= self.input.len());
        for filter in (0..filters).step_by(M) {
            let rows: [&[f32]; M] = std::array::from_fn(|m| &self.grad[(filter + m).min(filters - 1) * self.grad_channel..]);
            for column in (0..count).step_by(N) {
                let shifted: [&[f32]; N] = std::array::from_fn(|n| &self.input[self.columns[(column + n).min(count - 1)]..]);
                let mut sums = [[lanes.splat(0.0); N]; M];
                for run in 0..self.runs {
                    let (grad_start, input_start) = (run * self.grad_plane, run * self.input_plane);
                    for vector in 0..vectors {
                        let at = vector * L::LANES;
                        // SAFETY: every row begins at or before the last filter's, which has (runs - 1) * grad_plane + end values, as
                        // asserted above; this vector ends at or before that.
                        let grads: [L::Vector; M] = std::array::from_fn(|m| unsafe { lanes.load(rows[m].as_ptr().add(grad_start + at)) });
                        for n in 0..N {
                            // SAFETY: the same for the input, whose furthest column was asserted above.
                            let value = unsafe { lanes.load(shifted[n].as_ptr().add(input_start + at)) };
                            for m in 0..M {
                                sums[m][n] = lanes.mul_add(grads[m], value, sums[m][n]);
                            }
                        }
                    }
                }
                for (sums, filter) in sums.into_iter().zip(filter..filters) {
                    for (sum, column) in sums.into_iter().zip(column..count) {
                        self.sums[filter * count + column] += lanes.sum(sum);
                    }
                }
            }
        }
    }
}
