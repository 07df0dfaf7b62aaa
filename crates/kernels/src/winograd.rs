//! 3x3 convolution with stride 1 by Winograd's minimal filtering F(4x4, 3x3): 36 products in place of 144 for 16 outputs.
//!
//! Kernels and 6x6 tiles of input are transformed so that each of the 36 "frequencies" is an independent product of matrices,
//! `[out, in] x [in, tiles]`, and the sums are transformed back to 4x4 outputs. Everything is done for a few dozen tiles at a time,
//! one tile in each lane, so that what lies between the transforms stays in the cache.
#![allow(unsafe_code)]

use crate::lanes::{Isa, Lanes, Work};
use crate::parallel::{Shared, each, threads};
use crate::rows::Panels;
use crate::scratch::with_scratch;
use crate::tile::{Tile, VECTORS};
use crate::window::{Strip, Window};
use crate::{Activation, Conv2d};
use std::ops::Range;
use std::ptr;

/// Side of the tiles of input, and of their transforms.
const SIDE: usize = 6;
/// Side of the tiles of output.
const OUT: usize = 4;
/// Values of a transformed tile.
const FREQUENCIES: usize = SIDE * SIDE;
/// Channels of input up to which the transformed input of a block stays in the second-level cache while all weights pass by; with
/// more of them, all rows of one frequency are done before the next frequency.
const NEAR: usize = 96;
/// Tiles of a block, in vectors, with few channels and with many.
const ACROSS: [usize; 2] = [VECTORS, 2 * VECTORS];

/// Whether this can compute `shape` at all.
pub(crate) fn fits(shape: &Conv2d) -> bool {
    shape.kernel == [3; 2] && shape.stride == [1; 2] && shape.dilation == [1; 2] && shape.groups == 1
}

/// Whether it is faster than the direct product, by measurement.
pub(crate) fn pays(shape: &Conv2d) -> bool {
    fits(shape) && shape.in_channels >= 16 && shape.out_channels >= 16 && shape.output().into_iter().min() >= Some(6)
}

/// Where the transformed weights of a panel at one frequency begin: `rows` are the panel's, of `all`.
fn weights_at(channels: usize, all: usize, rows: &Range<usize>, frequency: usize) -> usize {
    if channels <= NEAR {
        (rows.start * FREQUENCIES + frequency * rows.len()) * channels
    } else {
        (frequency * all + rows.start) * channels
    }
}

/// The transformed weights in panels.
pub(crate) fn pack(isa: Isa, shape: &Conv2d, weight: &[f32]) -> Vec<f32> {
    let (channels, rows) = (shape.in_channels, shape.out_channels);
    let panels = Panels::new(rows, isa.rows());
    let mut packed = vec![0.0; rows * channels * FREQUENCIES];
    let shared = Shared::new(&mut packed);
    each(panels.count, 100 * rows * channels, |panel| {
        let range = panels.range(panel);
        for (r, row) in range.clone().enumerate() {
            for channel in 0..channels {
                let kernel = &weight[(row * channels + channel) * 9..][..9];
                for (frequency, value) in kernel_transform(kernel).into_iter().enumerate() {
                    let at = weights_at(channels, rows, &range, frequency) + channel * range.len() + r;
                    // SAFETY: `at` is inside `packed`, and each panel writes its own rows.
                    unsafe { shared.at(at).write(value) };
                }
            }
        }
    });
    packed
}

/// `G g G^T` of one kernel.
pub(crate) fn kernel_transform(kernel: &[f32]) -> [f32; FREQUENCIES] {
    let line = |[a, b, c]: [f64; 3]| {
        let (even, odd) = ((a + c) / -6.0, b / 6.0);
        let (wide, skew) = (a / 24.0 + c / 6.0, b / 12.0);
        [a / 4.0, even - odd, even + odd, wide + skew, wide - skew, c]
    };
    let down = [0, 1, 2].map(|x| line([0, 3, 6].map(|y| f64::from(kernel[y + x]))));
    let mut all = [0.0; FREQUENCIES];
    for (y, row) in all.chunks_exact_mut(SIDE).enumerate() {
        let across = line([0, 1, 2].map(|x: usize| down[x][y]));
        row.iter_mut().zip(across).for_each(|(to, value)| *to = value as f32);
    }
    all
}

/// One line of `B^T d`.
#[inline(always)]
fn input_transform<L: Lanes>(lanes: L, d: [L::Vector; SIDE]) -> [L::Vector; SIDE] {
    let (two, four, five) = (lanes.splat(2.0), lanes.splat(-4.0), lanes.splat(-5.0));
    let even = lanes.mul_add(four, d[2], d[4]);
    let odd = lanes.mul_add(four, d[1], d[3]);
    let near = lanes.sub(d[4], d[2]);
    let skew = lanes.sub(d[3], d[1]);
    let minus_two = lanes.splat(-2.0);
    [
        lanes.mul_add(five, d[2], lanes.mul_add(lanes.splat(4.0), d[0], d[4])),
        lanes.add(even, odd),
        lanes.sub(even, odd),
        lanes.mul_add(two, skew, near),
        lanes.mul_add(minus_two, skew, near),
        lanes.mul_add(five, d[3], lanes.mul_add(lanes.splat(4.0), d[1], d[5])),
    ]
}

/// One line of `A^T m`.
#[inline(always)]
fn output_transform<L: Lanes>(lanes: L, m: [L::Vector; SIDE]) -> [L::Vector; OUT] {
    let (near, near_odd) = (lanes.add(m[1], m[2]), lanes.sub(m[1], m[2]));
    let (far, far_odd) = (lanes.add(m[3], m[4]), lanes.sub(m[3], m[4]));
    [
        lanes.add(lanes.add(m[0], near), far),
        lanes.mul_add(lanes.splat(2.0), far_odd, near_odd),
        lanes.mul_add(lanes.splat(4.0), far, near),
        lanes.add(lanes.mul_add(lanes.splat(8.0), far_odd, near_odd), m[5]),
    ]
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
    isa.dispatch(Winograd { shape, input, weights, bias, activation, output });
}

/// [`forward`] for one vector unit.
struct Winograd<'a> {
    shape: &'a Conv2d,
    input: &'a [f32],
    weights: &'a [f32],
    bias: Option<&'a [f32]>,
    activation: Activation,
    output: &'a mut [f32],
}

/// How tiles are divided into tasks.
struct Plan {
    /// Tiles of an image, down and across.
    tiles: [usize; 2],
    /// Images, and tiles down and across, of a block.
    block: [usize; 3],
    /// Blocks of each.
    blocks: [usize; 3],
    /// Parts that the rows of weights are divided into.
    parts: usize,
}

impl Plan {
    fn new(shape: &Conv2d, panels: Panels, lanes: usize) -> Self {
        let tiles = shape.output().map(|side| side.div_ceil(OUT));
        let most = ACROSS[usize::from(shape.in_channels > NEAR)] * lanes;
        // Cycles of a block, roughly: of each vector its products and transforms, then copying pieces of rows to and from lanes,
        // copying the input, and passing the weights once.
        let cost = |images: usize, down: usize, across: usize| {
            let (vectors, channels) =
                ((images * down * across).div_ceil(lanes), shape.in_channels + shape.out_channels);
            let products = FREQUENCIES * shape.in_channels * shape.out_channels;
            let pieces = images * down * across.div_ceil(lanes) * channels;
            let rows = images * (OUT * down + 2) * (across + 1).div_ceil(lanes) * shape.in_channels;
            vectors * (products + 300 * channels) + 80 * pieces + 30 * rows + products / 2
        };
        let sides =
            |size: usize, part: usize| [(size / part, part), (usize::from(!size.is_multiple_of(part)), size % part)];
        let mut best = (usize::MAX, [1, 1, 1]);
        for across in 1..=tiles[1].min(most) {
            let down = (most / across).min(tiles[0]);
            let images = if [down, across] == tiles { (most / (down * across)).min(shape.batch) } else { 1 };
            let mut sum = 0usize;
            for (n, images) in sides(shape.batch, images) {
                for (m, down) in sides(tiles[0], down) {
                    for (l, across) in sides(tiles[1], across) {
                        sum = sum.saturating_add((n * m * l).saturating_mul(cost(images, down, across)));
                    }
                }
            }
            if sum < best.0 {
                best = (sum, [images, down, across]);
            }
        }
        let block = best.1;
        let blocks = [shape.batch.div_ceil(block[0]), tiles[0].div_ceil(block[1]), tiles[1].div_ceil(block[2])];
        let tasks: usize = blocks.iter().product();
        let parts = if threads() == 1 || tasks >= 2 * threads() {
            1
        } else {
            (2 * threads()).div_ceil(tasks).min(panels.count / 2).max(1)
        };
        Self { tiles, block, blocks, parts }
    }
}

impl Work for Winograd<'_> {
    type Output = ();

    fn run<L: Lanes>(self, lanes: L) {
        let shape = self.shape;
        let panels = Panels::new(shape.out_channels, L::ROWS);
        let plan = Plan::new(shape, panels, L::LANES);
        let window = Window {
            input: shape.input,
            kernel: [SIDE; 2],
            stride: [OUT; 2],
            dilation: [1; 2],
            before: [shape.padding[0][0], shape.padding[1][0]],
        };
        let strip = Strip::new(window, 1, [plan.block[1], plan.block[2]]);
        let taps = strip.offsets();
        let width = (plan.block.iter().product::<usize>()).next_multiple_of(L::LANES);
        let offsets = (0..shape.in_channels).map(|channel| (channel * width) as u32).collect();
        let count = plan.blocks.iter().product::<usize>() * plan.parts;
        let operations = self.output.len() * shape.in_channels * FREQUENCIES / 8;
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
            taps,
            width,
            offsets,
        };
        each(count, operations, |index| task.run(index));
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
    /// The copy of one channel of one image.
    strip: Strip,
    /// Where the 36 pixels of the first tile lie in it.
    taps: Vec<u32>,
    /// Lanes kept for a block.
    width: usize,
    /// Where each channel's lanes of a frequency begin.
    offsets: Vec<u32>,
}

/// Tiles that lie side by side in one row of one image.
struct Piece {
    /// The first one's lane.
    lane: usize,
    /// How many they are.
    count: usize,
    /// Image of the batch.
    image: usize,
    /// Image within the block.
    local: usize,
    /// Row and column of the first tile, in the image.
    tile: [usize; 2],
    /// Where the first tile's first pixel lies in the copy of its image.
    from: usize,
}

impl<L: Lanes> Task<'_, L> {
    /// Does the task of one index.
    fn run(&self, index: usize) {
        let (plan, shape) = (&self.plan, self.shape);
        let (index, part) = (index / plan.parts, index % plan.parts);
        let (index, x) = (index / plan.blocks[2], index % plan.blocks[2] * plan.block[2]);
        let (n, y) = (index / plan.blocks[1] * plan.block[0], index % plan.blocks[1] * plan.block[1]);
        let images = plan.block[0].min(shape.batch - n);
        let (down, across) = (plan.block[1].min(plan.tiles[0] - y), plan.block[2].min(plan.tiles[1] - x));
        let mut pieces = Vec::with_capacity(images * down);
        for local in 0..images {
            for row in 0..down {
                pieces.push(Piece {
                    lane: (local * down + row) * across,
                    count: across,
                    image: n + local,
                    local,
                    tile: [y + row, x],
                    from: row * self.strip.pitch(),
                });
            }
        }
        let used = images * down * across;
        let panels = part * self.panels.count / plan.parts..(part + 1) * self.panels.count / plan.parts;
        with_scratch(FREQUENCIES * shape.in_channels * self.width, |transformed| {
            self.transform_input(n..n + images, [y, x], &pieces, used, transformed);
            let together = if shape.in_channels <= NEAR { 1 } else { panels.len() };
            let first = panels.start;
            let rows = self.panels.range(panels.end - 1).end - self.panels.range(first).start;
            let rows = if together == 1 { L::ROWS } else { rows };
            // The products of `together` panels, then one transformed row of output.
            with_scratch((FREQUENCIES * rows + OUT * OUT) * self.width, |products| {
                let (products, plane) = products.split_at_mut(FREQUENCIES * rows * self.width);
                for panel in panels.clone().step_by(together) {
                    let group = panel..panel + together;
                    self.multiply(group.clone(), transformed, used, products);
                    let rows = self.panels.range(group.start).start..self.panels.range(group.end - 1).end;
                    for (r, row) in rows.clone().enumerate() {
                        let (step, products) = (rows.len() * self.width, &products[r * self.width..]);
                        self.lanes.run(|| self.transform_output(row, products, step, used, plane));
                        self.lanes.run(|| self.write(row, &pieces, plane));
                    }
                }
            });
        });
    }

    /// Transforms the tiles of a block: `[frequency, channel, lane]`.
    fn transform_input(
        &self,
        images: Range<usize>,
        first: [usize; 2],
        pieces: &[Piece],
        used: usize,
        transformed: &mut [f32],
    ) {
        let shape = self.shape;
        let (pixels, len) = (shape.input[0] * shape.input[1], self.strip.len());
        with_scratch(images.len() * len + L::LANES + FREQUENCIES * self.width + L::LANES, |scratch| {
            let (copy, columns) = scratch.split_at_mut(images.len() * len + L::LANES);
            for channel in 0..shape.in_channels {
                for (image, copy) in images.clone().zip(copy.chunks_exact_mut(len)) {
                    let at = (image * shape.in_channels + channel) * pixels;
                    // SAFETY: `copy` is as long as a copy.
                    self.lanes
                        .run(|| unsafe { self.strip.fill(self.lanes, &self.input[at..at + pixels], first, copy) });
                    if channel + 1 < shape.in_channels {
                        self.strip.prefetch(&self.input[at + pixels..at + 2 * pixels], first);
                    }
                }
                self.lanes.run(|| {
                    self.gather(copy, pieces, columns);
                    for lane in (0..used).step_by(L::LANES) {
                        self.transform_tiles(&columns[lane..], channel * self.width + lane, transformed);
                    }
                });
            }
        });
    }

    /// Copies the 36 pixels of each tile to its lane.
    #[inline(always)]
    fn gather(&self, copy: &[f32], pieces: &[Piece], columns: &mut [f32]) {
        assert!(columns.len() >= FREQUENCIES * self.width + L::LANES);
        for (k, tap) in self.taps.iter().enumerate() {
            for piece in pieces {
                let from = piece.local * self.strip.len() + piece.from + *tap as usize;
                for i in (0..piece.count).step_by(L::LANES) {
                    // SAFETY: the piece lies in the copy, which goes on for a vector; it ends inside its step of `columns`, so that
                    // what is written too much goes where the next piece or step is written after it, or past the last one.
                    unsafe {
                        let values = self.lanes.load(copy.as_ptr().add(from + i));
                        self.lanes.store(columns.as_mut_ptr().add(k * self.width + piece.lane + i), values);
                    }
                }
            }
        }
    }

    /// `B^T d B` of one vector of tiles.
    #[inline(always)]
    fn transform_tiles(&self, columns: &[f32], at: usize, transformed: &mut [f32]) {
        let lanes = self.lanes;
        let step = self.shape.in_channels * self.width;
        assert!(columns.len() >= (FREQUENCIES - 1) * self.width + L::LANES);
        assert!(transformed.len() >= (FREQUENCIES - 1) * step + at + L::LANES);
        let mut down = [[lanes.splat(0.0); SIDE]; SIDE];
        for x in 0..SIDE {
            let mut d = [lanes.splat(0.0); SIDE];
            for (y, d) in d.iter_mut().enumerate() {
                // SAFETY: inside `columns`, as asserted.
                *d = unsafe { lanes.load(columns.as_ptr().add((y * SIDE + x) * self.width)) };
            }
            for (down, value) in down.iter_mut().zip(input_transform(lanes, d)) {
                down[x] = value;
            }
        }
        for (y, line) in down.into_iter().enumerate() {
            for (x, value) in input_transform(lanes, line).into_iter().enumerate() {
                // SAFETY: inside `transformed`, as asserted.
                unsafe { lanes.store(transformed.as_mut_ptr().add((y * SIDE + x) * step + at), value) };
            }
        }
    }

    /// The products of some panels with all tiles, at each frequency: `[frequency, row, lane]`.
    fn multiply(&self, panels: Range<usize>, transformed: &[f32], used: usize, products: &mut [f32]) {
        let channels = self.shape.in_channels;
        let first = self.panels.range(panels.start).start;
        let rows = self.panels.range(panels.end - 1).end - first;
        let vectors = used.div_ceil(L::LANES);
        let out = Shared::new(products);
        assert!(
            products.len() >= FREQUENCIES * rows * self.width
                && transformed.len() >= FREQUENCIES * channels * self.width
        );
        for frequency in 0..FREQUENCIES {
            for from in (0..vectors).step_by(VECTORS) {
                let count = VECTORS.min(vectors - from);
                let vector = [0, 1, 2].map(|v: usize| (from + v.min(count - 1)) * L::LANES);
                for panel in panels.clone() {
                    let range = self.panels.range(panel);
                    let left = weights_at(channels, self.shape.out_channels, &range, frequency);
                    let tile = Tile {
                        left: self.weights[left..left + range.len() * channels].as_ptr(),
                        depth: channels,
                        offsets: self.offsets.as_ptr(),
                        right: vector.map(|at| transformed[frequency * channels * self.width + at..].as_ptr()),
                        out: vector.map(|at| out.at((frequency * rows + range.start - first) * self.width + at)),
                        count: [L::LANES; VECTORS],
                        out_stride: self.width,
                        accumulate: false,
                        bias: ptr::null(),
                        relu: false,
                    };
                    // SAFETY: `left` and `offsets` have `channels` steps; `transformed` and `products` hold whole vectors for all
                    // frequencies, as asserted, and `products` is borrowed mutably here.
                    unsafe { tile.compute(self.lanes, range.len(), count) };
                }
            }
        }
    }

    /// `A^T m A` of one row, with bias and activation: `[row in tile, lane, column in tile]`.
    #[inline(always)]
    fn transform_output(&self, row: usize, products: &[f32], step: usize, used: usize, plane: &mut [f32]) {
        let lanes = self.lanes;
        let vectors = used.div_ceil(L::LANES);
        assert!(
            products.len() >= (FREQUENCIES - 1) * step + vectors * L::LANES && plane.len() >= OUT * OUT * self.width
        );
        let bias = lanes.splat(self.bias.map_or(0.0, |bias| bias[row]));
        for lane in (0..vectors).map(|v| v * L::LANES) {
            let mut down = [[lanes.splat(0.0); SIDE]; OUT];
            for x in 0..SIDE {
                let mut m = [lanes.splat(0.0); SIDE];
                for (y, m) in m.iter_mut().enumerate() {
                    // SAFETY: inside `products`, as asserted.
                    *m = unsafe { lanes.load(products.as_ptr().add((y * SIDE + x) * step + lane)) };
                }
                for (down, value) in down.iter_mut().zip(output_transform(lanes, m)) {
                    down[x] = value;
                }
            }
            for (y, line) in down.into_iter().enumerate() {
                let mut values = output_transform(lanes, line);
                for value in &mut values {
                    *value = lanes.add(*value, bias);
                    if self.relu {
                        *value = lanes.relu(*value);
                    }
                }
                for (x, value) in lanes.join(values).into_iter().enumerate() {
                    // SAFETY: inside `plane`, as asserted: `width` is whole vectors, at least `vectors` of them.
                    unsafe { lanes.store(plane.as_mut_ptr().add((y * self.width + lane) * OUT + x * L::LANES), value) };
                }
            }
        }
    }

    /// Writes one row's tiles to their places in the output.
    #[inline(always)]
    fn write(&self, row: usize, pieces: &[Piece], plane: &[f32]) {
        let [height, width] = self.shape.output();
        for piece in pieces {
            let [tile_y, tile_x] = piece.tile;
            for y in 0..OUT.min(height - tile_y * OUT) {
                let at =
                    ((piece.image * self.shape.out_channels + row) * height + tile_y * OUT + y) * width + tile_x * OUT;
                let len = (piece.count * OUT).min(width - tile_x * OUT);
                let from = &plane[(y * self.width + piece.lane) * OUT..][..len];
                for i in (0..len).step_by(L::LANES) {
                    // SAFETY: `len` values in `plane`, and as many of the output, which are this task's alone.
                    unsafe {
                        let (from, to, count) = (from.as_ptr().add(i), self.output.at(at + i), len - i);
                        if count >= L::LANES {
                            self.lanes.store(to, self.lanes.load(from));
                        } else {
                            self.lanes.store_first(to, self.lanes.load_first(from, count), count);
                        }
                    }
                }
            }
        }
    }
}
