//! 3x3 convolution with stride 1 by Winograd's minimal filtering F(4x4, 3x3): 36 products in place of 144 for 16 outputs.
#![allow(unsafe_code)]

use super::pixels::Pixels;
use crate::Conv2d;
use crate::gemm::{Block, Epilogue, PackedMatrix};
use crate::lanes::{Isa, Lanes, Work};
use crate::parallel::{Shared, each, threads};
use crate::pointwise::Ends;
use crate::scratch::with_scratch;
use crate::winograd::kernel_transform;

/// Side of the tiles of input, and of their transforms.
const SIDE: usize = 6;
/// Side of the tiles of output.
const OUT: usize = 4;
/// Values of a transformed tile.
const FREQUENCIES: usize = SIDE * SIDE;
/// Transformed values of a block, before and after its products: what stays in the second-level cache.
const BLOCK: usize = 120 << 10;

/// Whether this can compute `shape` at all.
pub(super) fn fits(shape: &Conv2d) -> bool {
    shape.kernel == [3; 2] && shape.stride == [1; 2] && shape.dilation == [1; 2] && shape.groups == 1
}

/// Whether it is faster than the direct product: below some tiles the weights of all frequencies, four times as many as the kernels',
/// pass by for too few products.
pub(super) fn pays(shape: &Conv2d) -> bool {
    let tiles = shape.output().map(|side| side.div_ceil(OUT));
    fits(shape) && shape.in_channels >= 16 && shape.out_channels >= 16 && shape.batch * tiles[0] * tiles[1] >= 9
}

/// The transformed weights: a matrix `[in, out]` for each frequency.
pub(super) fn pack(isa: Isa, shape: &Conv2d, weight: &[f32]) -> Vec<PackedMatrix> {
    let count = shape.in_channels * shape.out_channels;
    let mut transformed = vec![0.0; FREQUENCIES * count];
    for out in 0..shape.out_channels {
        for input in 0..shape.in_channels {
            let kernel = &weight[(out * shape.in_channels + input) * 9..][..9];
            for (frequency, value) in kernel_transform(kernel).into_iter().enumerate() {
                transformed[frequency * count + input * shape.out_channels + out] = value;
            }
        }
    }
    let pack = |values: &[f32]| {
        PackedMatrix::new_at(isa, values, shape.in_channels, shape.out_channels, [shape.out_channels, 1])
    };
    transformed.chunks_exact(count).map(pack).collect()
}

/// All slices are as long as the shape says.
pub(super) fn forward(
    shape: &Conv2d,
    input: Pixels<'_>,
    weight: &[PackedMatrix],
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
    out_stride: usize,
) {
    let isa = weight[0].isa();
    let tiles = shape.output().map(|side| side.div_ceil(OUT));
    let count = shape.batch * tiles[0] * tiles[1];
    let rows = isa.pair_rows();
    let most = (BLOCK / FREQUENCIES / (shape.in_channels + shape.out_channels)).clamp(rows, 64) / rows * rows;
    let block = count.div_ceil(count.div_ceil(most).next_multiple_of(threads()).min(count));
    let shared = Shared::new(out);
    let operations = 2 * FREQUENCIES * count * shape.in_channels * shape.out_channels;
    each(count.div_ceil(block), operations, |task| {
        let first = task * block;
        let tiles_here = block.min(count - first);
        let before = FREQUENCIES * tiles_here * shape.in_channels;
        let after = FREQUENCIES * tiles_here * shape.out_channels;
        with_scratch(before + after, |scratch| {
            let (before, after) = scratch.split_at_mut(before);
            isa.dispatch(Input { shape, tiles, first, count: tiles_here, input, transformed: before });
            let plain = Epilogue::default();
            for (frequency, packed) in weight.iter().enumerate() {
                let block = Block {
                    packed,
                    left: before[frequency * tiles_here * shape.in_channels..].as_ptr(),
                    stride: shape.in_channels,
                    rows: tiles_here,
                    panels: 0..packed.panels(),
                    out: after[frequency * tiles_here * shape.out_channels..].as_mut_ptr(),
                    out_stride: shape.out_channels,
                    first_row: 0,
                    epilogue: &plain,
                };
                block.run(isa);
            }
            let sums = &*after;
            isa.dispatch(Output { shape, tiles, first, count: tiles_here, sums, epilogue, out: shared, out_stride });
        });
    });
}

/// Where the tile of a number is: its sample, and its first row and column of output.
fn place(tiles: [usize; 2], number: usize) -> (usize, [usize; 2]) {
    let (sample, at) = (number / (tiles[0] * tiles[1]), number % (tiles[0] * tiles[1]));
    (sample, [at / tiles[1] * OUT, at % tiles[1] * OUT])
}

/// The transform of some tiles of the input.
struct Input<'a> {
    shape: &'a Conv2d,
    tiles: [usize; 2],
    first: usize,
    count: usize,
    input: Pixels<'a>,
    /// `[frequency, tile, channel]`
    transformed: &'a mut [f32],
}

impl Work for Input<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        lanes.run(
            #[inline(always)]
            || self.compute(lanes),
        );
    }
}

/// `B^T x` of six vectors.
#[inline(always)]
fn forward_line<L: Lanes>(lanes: L, x: [L::Vector; SIDE]) -> [L::Vector; SIDE] {
    let [two, four, five] = [2.0, -4.0, -5.0].map(|value| lanes.splat(value));
    let minus_two = lanes.splat(-2.0);
    let plus_four = lanes.splat(4.0);
    // 4 x0 - 5 x2 + x4, and 4 x1 - 5 x3 + x5
    let first = lanes.mul_add(plus_four, x[0], lanes.mul_add(five, x[2], x[4]));
    let last = lanes.mul_add(plus_four, x[1], lanes.mul_add(five, x[3], x[5]));
    let (even, odd) = (lanes.mul_add(four, x[2], x[4]), lanes.mul_add(four, x[1], x[3]));
    let (second, third) = (lanes.add(even, odd), lanes.sub(even, odd));
    let (even, odd) = (lanes.sub(x[4], x[2]), lanes.sub(x[3], x[1]));
    let (fourth, fifth) = (lanes.mul_add(two, odd, even), lanes.mul_add(minus_two, odd, even));
    [first, second, third, fourth, fifth, last]
}

/// `A^T m` of six vectors.
#[inline(always)]
fn backward_line<L: Lanes>(lanes: L, m: [L::Vector; SIDE]) -> [L::Vector; OUT] {
    let (a, b) = (lanes.add(m[1], m[2]), lanes.sub(m[1], m[2]));
    let (c, d) = (lanes.add(m[3], m[4]), lanes.sub(m[3], m[4]));
    let [two, four, eight] = [2.0, 4.0, 8.0].map(|value| lanes.splat(value));
    [
        lanes.add(lanes.add(m[0], a), c),
        lanes.mul_add(two, d, b),
        lanes.mul_add(four, c, a),
        lanes.add(lanes.mul_add(eight, d, b), m[5]),
    ]
}

impl Input<'_> {
    #[inline(always)]
    fn compute<L: Lanes>(self, lanes: L) {
        let channels = self.shape.in_channels;
        let [height, width] = self.shape.input;
        let apart = self.count * channels;
        assert!(self.transformed.len() >= FREQUENCIES * apart, "room for all frequencies");
        for tile in 0..self.count {
            let (sample, [y, x]) = place(self.tiles, self.first + tile);
            let top = y as isize - self.shape.padding[0][0] as isize;
            let left = x as isize - self.shape.padding[1][0] as isize;
            let mut channel = 0;
            while channel < channels {
                let lane_count = L::LANES.min(channels - channel);
                let mut lines = [[lanes.splat(0.0); SIDE]; SIDE];
                for (down, line) in lines.iter_mut().enumerate() {
                    let at = top + down as isize;
                    if at < 0 || at >= height as isize {
                        continue;
                    }
                    let mut values = [lanes.splat(0.0); SIDE];
                    for (across, value) in values.iter_mut().enumerate() {
                        let at_x = left + across as isize;
                        if at_x < 0 || at_x >= width as isize {
                            continue;
                        }
                        let pixel = (sample * height + at as usize) * width + at_x as usize;
                        let from = self.input.values.as_ptr().wrapping_add(pixel * self.input.stride + channel);
                        // SAFETY: the pixel is inside of the input, and these channels are among its own.
                        *value = unsafe {
                            if lane_count == L::LANES { lanes.load(from) } else { lanes.load_first(from, lane_count) }
                        };
                    }
                    *line = forward_line(lanes, values);
                }
                for across in 0..SIDE {
                    let column = forward_line(lanes, lines.map(|line| line[across]));
                    for (down, value) in column.into_iter().enumerate() {
                        let at = (down * SIDE + across) * apart + tile * channels + channel;
                        // SAFETY: inside of what was asserted above, as these channels are among the tile's own.
                        unsafe {
                            let to = self.transformed.as_mut_ptr().add(at);
                            if lane_count == L::LANES {
                                lanes.store(to, value);
                            } else {
                                lanes.store_first(to, value, lane_count);
                            }
                        }
                    }
                }
                channel += L::LANES;
            }
        }
    }
}

/// The transform of some tiles back to the output.
struct Output<'a> {
    shape: &'a Conv2d,
    tiles: [usize; 2],
    first: usize,
    count: usize,
    /// `[frequency, tile, channel]`
    sums: &'a [f32],
    epilogue: &'a Epilogue<'a>,
    out: Shared,
    out_stride: usize,
}

impl Work for Output<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        lanes.run(
            #[inline(always)]
            || self.compute(lanes),
        );
    }
}

impl Output<'_> {
    #[inline(always)]
    fn compute<L: Lanes>(self, lanes: L) {
        let channels = self.shape.out_channels;
        let [height, width] = self.shape.output();
        let apart = self.count * channels;
        assert!(self.sums.len() >= FREQUENCIES * apart, "sums of all frequencies");
        let whole = self.epilogue.function.ends();
        let ends = whole.unwrap_or(Ends::NONE);
        for tile in 0..self.count {
            let (sample, [y, x]) = place(self.tiles, self.first + tile);
            let (down_count, across_count) = (OUT.min(height - y), OUT.min(width - x));
            let pixel = (sample * height + y) * width + x;
            let mut channel = 0;
            while channel < channels {
                let lane_count = L::LANES.min(channels - channel);
                let load = |from: *const f32| {
                    // SAFETY: whoever calls this passes an address of `lane_count` values.
                    unsafe {
                        if lane_count == L::LANES { lanes.load(from) } else { lanes.load_first(from, lane_count) }
                    }
                };
                let mut lines = [[lanes.splat(0.0); OUT]; SIDE];
                for (down, line) in lines.iter_mut().enumerate() {
                    let mut values = [lanes.splat(0.0); SIDE];
                    for (across, value) in values.iter_mut().enumerate() {
                        let at = (down * SIDE + across) * apart + tile * channels + channel;
                        *value = load(self.sums.as_ptr().wrapping_add(at));
                    }
                    *line = backward_line(lanes, values);
                }
                let bias = match self.epilogue.bias {
                    Some(bias) => load(bias[channel..].as_ptr()),
                    None => lanes.splat(0.0),
                };
                for across in 0..across_count {
                    let column = backward_line(lanes, lines.map(|line| line[across]));
                    for (down, value) in column.into_iter().enumerate().take(down_count) {
                        let mut value = lanes.add(value, bias);
                        let pixel = pixel + down * width + across;
                        if let Some(residual) = self.epilogue.residual {
                            value =
                                lanes.add(value, load(residual.values[pixel * residual.stride + channel..].as_ptr()));
                        }
                        value = ends.apply(lanes, value);
                        let to = self.out.at(pixel * self.out_stride + channel);
                        // SAFETY: the pixel is inside of the output, these channels are among its own, and no other task writes it.
                        unsafe {
                            if lane_count == L::LANES {
                                lanes.store(to, value);
                            } else {
                                lanes.store_first(to, value, lane_count);
                            }
                        }
                    }
                }
                channel += L::LANES;
            }
            if whole.is_none() {
                for down in 0..down_count {
                    for across in 0..across_count {
                        let to = self.out.at((pixel + down * width + across) * self.out_stride);
                        // SAFETY: as above; this pixel was just written.
                        let values = unsafe { std::slice::from_raw_parts_mut(to, channels) };
                        self.epilogue.function.apply_inline(values);
                    }
                }
            }
        }
    }
}
