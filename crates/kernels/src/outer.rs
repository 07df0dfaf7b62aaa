//! A product of matrices as sums of multiples of the right one's rows, in tiles that fill the registers.
#![allow(unsafe_code)]

use crate::gemm::accumulate;
use crate::lanes::{Isa, Lanes, Work};
use crate::parallel::{Shared, alone, threads};
use crate::rows::Panels;
use crate::scratch::with_scratch;
use std::ops::Range;
use std::ptr;

/// Vectors across a tile of several rows: with twelve sums in six rows, AVX2 has a register left for each operand. With three across
/// and four rows there is none to spare, and the compiler moved sums around: 24 moves for 12 products.
const VECTORS: usize = 2;
/// Vectors across a tile of one row.
const WIDE: usize = 8;
/// Steps of the sum done at a time where a strip of the right operand is copied: it fits the first-level cache (16 KiB on AVX2).
const DEPTH: usize = 256;
/// Where nothing is copied, so many rows of the right operand are read side by side: fewer streams where they come from memory.
const STREAMS: [usize; 2] = [64, 16];
/// Values of a right operand that a cache may hold.
const CACHED: usize = 1 << 20;

/// `out = left · right`, then a bias and a ReLU.
pub(crate) struct Outer<'a> {
    /// Rows of the result.
    pub(crate) rows: usize,
    /// Products summed up for one value.
    pub(crate) depth: usize,
    /// Columns of the result.
    pub(crate) columns: usize,
    /// The left operand.
    pub(crate) left: &'a [f32],
    /// Values of it from one row to the next, and from one step of the sum to the next: one of them is 1.
    pub(crate) left_strides: [usize; 2],
    /// `[depth, columns]`.
    pub(crate) right: &'a [f32],
    /// One value for each column to add.
    pub(crate) bias: Option<&'a [f32]>,
    /// Whether negative results become zero.
    pub(crate) relu: bool,
    /// `[rows, columns]`.
    pub(crate) out: Shared,
}

/// How a product is divided into tasks.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// How rows are divided into tiles.
    panels: Panels,
    /// Columns of a tile.
    width: usize,
    /// Tiles across all columns.
    strips: usize,
    /// Parts that those are divided into.
    across: usize,
    /// Parts that the panels are divided into.
    down: usize,
}

impl Plan {
    /// Tasks in all.
    pub(crate) fn tasks(&self) -> usize {
        self.across * self.down
    }
}

impl Outer<'_> {
    /// Operations in all, a product and its sum as one.
    pub(crate) fn operations(&self) -> usize {
        self.rows * self.depth * self.columns
    }

    /// How to divide the work; what comes out does not depend on it.
    pub(crate) fn plan(&self, isa: Isa) -> Plan {
        let panels = Panels::new(self.rows, isa.pair_rows());
        let vectors = self.columns.div_ceil(isa.lanes());
        // As many strips as it takes, all of nearly the same width.
        let strips = vectors.div_ceil(if self.rows == 1 { WIDE } else { VECTORS });
        let width = isa.lanes() * vectors.div_ceil(strips);
        let strips = self.columns.div_ceil(width);
        if alone(self.operations()) {
            return Plan { panels, width, strips, across: 1, down: 1 };
        }
        if panels.count == 1 {
            return Plan { panels, width, strips, across: strips.min(2 * threads()), down: 1 };
        }
        // Each part of the panels copies the strip again: only so many that threads have about the same to do.
        let uneven = |down: usize| (strips * down).next_multiple_of(threads()) * 20 > strips * down * 21;
        let most = (panels.count / 4).max(1);
        let down = (1..=most).find(|&down| !uneven(down)).unwrap_or(most);
        Plan { panels, width, strips, across: strips, down }
    }

    /// Does one of the plan's tasks. The operands have the lengths that the sizes say, or this panics.
    pub(crate) fn run(&self, isa: Isa, plan: &Plan, task: usize) {
        isa.dispatch(Part { product: self, plan, task });
    }
}

/// Some columns of some rows.
struct Part<'a> {
    product: &'a Outer<'a>,
    plan: &'a Plan,
    task: usize,
}

impl Work for Part<'_> {
    type Output = ();

    fn run<L: Lanes>(self, lanes: L) {
        let Self { product, plan, task } = self;
        let (rows, depth, columns) = (product.rows, product.depth, product.columns);
        assert!(rows > 0 && depth > 0 && product.right.len() == depth * columns);
        assert!((rows - 1) * product.left_strides[0] + (depth - 1) * product.left_strides[1] < product.left.len());
        assert!(product.left_strides.contains(&1), "rows or columns side by side");
        assert!(product.bias.is_none_or(|bias| bias.len() == columns));
        let share = |all: usize, parts: usize, part: usize| part * all / parts..(part + 1) * all / parts;
        let strips = share(plan.strips, plan.across, task % plan.across);
        let panels = share(plan.panels.count, plan.down, task / plan.across);
        let single = plan.panels.count == 1;
        let most = if single { STREAMS[usize::from(depth * columns > CACHED)] } else { DEPTH };
        with_scratch(most.min(depth) * plan.width, |copy| {
            for first in (0..depth).step_by(most) {
                let steps = first..(first + most).min(depth);
                for strip in strips.clone() {
                    let begin = strip * plan.width;
                    let width = plan.width.min(columns - begin);
                    let strip = Strip { steps: steps.clone(), begin, width };
                    let pitch = width.next_multiple_of(L::LANES);
                    let right = &product.right[first * columns + begin..];
                    // Lanes past the last column hold whatever follows it, and are not written.
                    if single && (steps.len() - 1) * columns + pitch <= right.len() {
                        product.strip(lanes, plan, &panels, &strip, right, columns);
                    } else {
                        lanes.run(|| pack(lanes, right, columns, width, steps.len(), copy));
                        product.strip(lanes, plan, &panels, &strip, copy, pitch);
                    }
                }
            }
        });
    }
}

/// Copies the first `width` values of `steps` rows, which are `columns` values apart; what is left of the last vector becomes zero.
#[inline(always)]
fn pack<L: Lanes>(lanes: L, right: &[f32], columns: usize, width: usize, steps: usize, copy: &mut [f32]) {
    let pitch = width.next_multiple_of(L::LANES);
    assert!((steps - 1) * columns + width <= right.len() && steps * pitch <= copy.len());
    for step in 0..steps {
        for at in (0..width).step_by(L::LANES) {
            // SAFETY: row and copy of the last step end inside their slices, as asserted above; no more is read than the row has.
            unsafe {
                let (from, to) = (right.as_ptr().add(step * columns + at), copy.as_mut_ptr().add(step * pitch + at));
                let values = if width - at < L::LANES { lanes.load_first(from, width - at) } else { lanes.load(from) };
                lanes.store(to, values);
            }
        }
    }
}

/// A range of the sums of one tile's columns.
struct Strip {
    steps: Range<usize>,
    begin: usize,
    width: usize,
}

impl Outer<'_> {
    /// All rows of one strip. `right` holds a row of whole vectors for each step, `pitch` values from one to the next.
    fn strip<L: Lanes>(
        &self,
        lanes: L,
        plan: &Plan,
        panels: &Range<usize>,
        strip: &Strip,
        right: &[f32],
        pitch: usize,
    ) {
        let vectors = strip.width.div_ceil(L::LANES);
        assert!((strip.steps.len() - 1) * pitch + vectors * L::LANES <= right.len());
        for panel in panels.clone() {
            let rows = plan.panels.range(panel);
            let from = rows.start * self.left_strides[0] + strip.steps.start * self.left_strides[1];
            let tile = Tile {
                left: self.left[from..].as_ptr(),
                left_strides: self.left_strides,
                depth: strip.steps.len(),
                right: right.as_ptr(),
                pitch,
                out: self.out.at(rows.start * self.columns + strip.begin),
                out_stride: self.columns,
                width: strip.width,
                accumulate: strip.steps.start > 0,
                bias: self
                    .bias
                    .filter(|_| strip.steps.end == self.depth)
                    .map_or(ptr::null(), |bias| bias[strip.begin..][..strip.width].as_ptr()),
                relu: self.relu && strip.steps.end == self.depth,
            };
            // SAFETY: the left operand has all rows and steps, as `run` asserted, and `right` those of this strip, as asserted above;
            // a task writes its own rows and columns of the result.
            unsafe { tile.compute(lanes, rows.len(), vectors) };
        }
    }
}

/// One product `rows x depth` times `depth x vectors`, and where it goes.
struct Tile {
    left: *const f32,
    left_strides: [usize; 2],
    depth: usize,
    right: *const f32,
    /// Values from one step's vectors to the next.
    pitch: usize,
    out: *mut f32,
    /// Values from one row of the result to the next.
    out_stride: usize,
    /// Values of a row that are written.
    width: usize,
    /// Whether to add to what the result holds.
    accumulate: bool,
    /// One value for each column to add, or null.
    bias: *const f32,
    /// Whether negative results become zero.
    relu: bool,
}

impl Tile {
    /// Computes `rows` rows of `vectors` vectors.
    ///
    /// # Safety
    /// `rows` is 1 to `L::PAIR_ROWS` and `vectors` 1 to [`VECTORS`], or to [`WIDE`] for one row; `left` can be read at all strides of
    /// `rows` and `depth`, of which one is 1, whole vectors at each `pitch` of `right`; `width` values, which end in the last vector,
    /// can be written at each row's stride from `out` (and read to accumulate) and nobody else uses them; `bias` is null or holds as
    /// many.
    unsafe fn compute<L: Lanes>(&self, lanes: L, rows: usize, vectors: usize) {
        // SAFETY: the caller's; each arm computes what it was asked for.
        unsafe {
            match rows {
                1 => match vectors {
                    1 => lanes.run(|| self.product::<L, 1, 1>(lanes)),
                    2 => lanes.run(|| self.product::<L, 1, 2>(lanes)),
                    3 => lanes.run(|| self.product::<L, 1, 3>(lanes)),
                    4 => lanes.run(|| self.product::<L, 1, 4>(lanes)),
                    5 => lanes.run(|| self.product::<L, 1, 5>(lanes)),
                    6 => lanes.run(|| self.product::<L, 1, 6>(lanes)),
                    7 => lanes.run(|| self.product::<L, 1, 7>(lanes)),
                    _ => lanes.run(|| self.product::<L, 1, WIDE>(lanes)),
                },
                2 => self.vectors::<L, 2>(lanes, vectors),
                3 => self.vectors::<L, 3>(lanes, vectors),
                4 => self.vectors::<L, 4>(lanes, vectors),
                5 if L::PAIR_ROWS >= 5 => self.vectors::<L, 5>(lanes, vectors),
                6 if L::PAIR_ROWS >= 6 => self.vectors::<L, 6>(lanes, vectors),
                7 if L::PAIR_ROWS >= 7 => self.vectors::<L, 7>(lanes, vectors),
                8 if L::PAIR_ROWS >= 8 => self.vectors::<L, 8>(lanes, vectors),
                9 if L::PAIR_ROWS >= 9 => self.vectors::<L, 9>(lanes, vectors),
                10 if L::PAIR_ROWS >= 10 => self.vectors::<L, 10>(lanes, vectors),
                11 if L::PAIR_ROWS >= 11 => self.vectors::<L, 11>(lanes, vectors),
                12 if L::PAIR_ROWS >= 12 => self.vectors::<L, 12>(lanes, vectors),
                _ => unreachable!("a tile has 1 to {} rows", L::PAIR_ROWS),
            }
        }
    }

    /// # Safety
    /// As [`Self::compute`].
    #[inline(always)]
    unsafe fn vectors<L: Lanes, const ROWS: usize>(&self, lanes: L, vectors: usize) {
        // SAFETY: the caller's; each arm computes what it was asked for.
        unsafe {
            match vectors {
                1 => lanes.run(|| self.product::<L, ROWS, 1>(lanes)),
                _ => lanes.run(|| self.product::<L, ROWS, VECTORS>(lanes)),
            }
        }
    }

    /// # Safety
    /// As [`Self::compute`], for `ROWS` and `ACROSS`.
    #[inline(always)]
    unsafe fn product<L: Lanes, const ROWS: usize, const ACROSS: usize>(&self, lanes: L) {
        let [row_stride, step_stride] = self.left_strides;
        // The one that is 1 is so for the compiler, too: most addresses are then a constant away from another one.
        // SAFETY: the caller's.
        let sums = unsafe {
            if row_stride == 1 {
                self.sums::<L, ROWS, ACROSS>(lanes, [1, step_stride])
            } else {
                self.sums::<L, ROWS, ACROSS>(lanes, [row_stride, 1])
            }
        };
        for (r, sums) in sums.into_iter().enumerate() {
            for (v, mut sum) in sums.into_iter().enumerate() {
                let at = v * L::LANES;
                let count = (self.width - at).min(L::LANES);
                let whole = count == L::LANES;
                // SAFETY: the caller's: `width` values at each row of the result, and of the bias.
                unsafe {
                    let out = self.out.add(r * self.out_stride + at);
                    if self.accumulate {
                        sum = lanes.add(sum, if whole { lanes.load(out) } else { lanes.load_first(out, count) });
                    }
                    if !self.bias.is_null() {
                        sum = lanes.add(sum, lanes.load_first(self.bias.add(at), count));
                    }
                    if self.relu {
                        sum = lanes.relu(sum);
                    }
                    if whole {
                        lanes.store(out, sum);
                    } else {
                        lanes.store_first(out, sum, count);
                    }
                }
            }
        }
    }

    /// # Safety
    /// As [`Self::compute`], for `ROWS` and `ACROSS`; the strides are those of the left operand.
    #[inline(always)]
    unsafe fn sums<L: Lanes, const ROWS: usize, const ACROSS: usize>(
        &self,
        lanes: L,
        [row_stride, step_stride]: [usize; 2],
    ) -> [[L::Vector; ACROSS]; ROWS] {
        let mut sums = [[lanes.splat(0.0); ACROSS]; ROWS];
        let left = std::array::from_fn(|r| self.left.wrapping_add(r * row_stride));
        // SAFETY: the caller's: all rows and steps of the left operand, and the vectors of each step of the right one.
        unsafe { accumulate(lanes, &mut sums, self.depth, (left, step_stride), (self.right, self.pitch)) };
        sums
    }
}
