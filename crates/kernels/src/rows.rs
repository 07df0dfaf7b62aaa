//! The left operand of a product, its rows cut into panels that fit the register tile.

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

    /// Writes the panels one after the other to `packed`: of each panel, for each step of the depth, one value of each row.
    /// Row `r` at step `k` is `values[r * strides[0] + k * strides[1]]`.
    pub(crate) fn pack(&self, values: &[f32], strides: [usize; 2], depth: usize, packed: &mut [f32]) {
        let mut rest = packed;
        for panel in 0..self.count {
            let range = self.range(panel);
            let (packed, after) = rest.split_at_mut(range.len() * depth);
            rest = after;
            for (k, packed) in packed.chunks_exact_mut(range.len()).enumerate() {
                let first = range.start * strides[0] + k * strides[1];
                for (r, packed) in packed.iter_mut().enumerate() {
                    *packed = values[first + r * strides[0]];
                }
            }
        }
    }
}
