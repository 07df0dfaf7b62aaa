//! The left operand of a product, its rows cut into panels that fit the register tile.

use std::mem::MaybeUninit;
use std::ops::Range;

/// How rows are divided into panels of nearly the same height.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panels {
    /// Rows in all.
    rows: usize,
    /// Panels in all.
    pub(crate) count: usize,
}

impl Panels {
    /// Divides `rows` into the fewest panels of at most `most` rows.
    pub(crate) fn new(rows: usize, most: usize) -> Self {
        Self { rows, count: rows.div_ceil(most) }
    }

    /// The rows of one panel.
    pub(crate) fn range(&self, panel: usize) -> Range<usize> {
        panel * self.rows / self.count..(panel + 1) * self.rows / self.count
    }

    /// Writes one panel to `packed`: for each step of the depth, one value of each row. Rows have `depth` values, side by side.
    pub(crate) fn pack(&self, panel: usize, values: &[f32], depth: usize, packed: &mut [MaybeUninit<f32>]) {
        let range = self.range(panel);
        let height = range.len();
        for (r, row) in values.chunks_exact(depth).skip(range.start).take(height).enumerate() {
            packed[r..].iter_mut().step_by(height).zip(row).for_each(|(packed, value)| _ = packed.write(*value));
        }
    }
}
