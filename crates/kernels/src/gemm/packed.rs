//! The right operand of a product, packed.

use std::ops::Range;

use crate::lanes::{Isa, Lanes};
use crate::memory::Memory;

/// Vectors in a panel.
pub(super) const VECTORS: usize = 2;

/// The right operand of a product, in the order in which it is read.
#[derive(Debug)]
pub struct PackedMatrix {
    isa: Isa,
    depth: usize,
    columns: usize,
    pub(super) values: Memory,
}

impl PackedMatrix {
    /// Packs `[depth, columns]`; the value at `(k, j)` is `values[k * strides[0] + j * strides[1]]`.
    ///
    /// # Panics
    /// When that reaches past `values`.
    pub fn new(values: &[f32], depth: usize, columns: usize, strides: [usize; 2]) -> Self {
        Self::new_at(Isa::best(), values, depth, columns, strides)
    }

    pub(crate) fn new_at(isa: Isa, values: &[f32], depth: usize, columns: usize, strides: [usize; 2]) -> Self {
        let mut packed = Self { isa, depth, columns, values: Memory::default() };
        packed.refill(values, strides);
        packed
    }

    /// Packs other values of the same sizes.
    ///
    /// # Panics
    /// As [`Self::new`].
    pub fn refill(&mut self, values: &[f32], strides: [usize; 2]) {
        let (depth, columns) = (self.depth, self.columns);
        assert!(
            depth == 0 || columns == 0 || (depth - 1) * strides[0] + (columns - 1) * strides[1] < values.len(),
            "values of the whole matrix"
        );
        let lanes = self.isa.lanes();
        let width = VECTORS * lanes;
        let total = depth * columns.next_multiple_of(lanes);
        self.values.reserve(total * 4);
        let packed = self.values.values_mut::<f32>(total);
        for (panel, packed) in packed.chunks_mut(depth.max(1) * width).enumerate() {
            let first = panel * width;
            let count = (columns - first).min(width);
            let across = packed.len() / depth.max(1);
            if strides[1] == 1 {
                for (k, row) in packed.chunks_exact_mut(across).enumerate() {
                    row[..count].copy_from_slice(&values[k * strides[0] + first..][..count]);
                    row[count..].fill(0.0);
                }
            } else {
                for (k, row) in packed.chunks_exact_mut(across).enumerate() {
                    for (j, value) in row.iter_mut().enumerate() {
                        *value = if j < count { values[k * strides[0] + (first + j) * strides[1]] } else { 0.0 };
                    }
                }
            }
        }
    }

    /// Some rows of a panel, packed for the unit `L`.
    #[inline(always)]
    pub(super) fn panel<L: Lanes>(&self, panel: usize, depth: &Range<usize>) -> &[f32] {
        let width = VECTORS * L::LANES;
        let values = self.values.values::<f32>(self.depth * self.columns.next_multiple_of(L::LANES));
        // The last panel may be one vector wide.
        let across = if self.columns - panel * width > L::LANES { width } else { L::LANES };
        &values[panel * width * self.depth..][depth.start * across..depth.end * across]
    }

    /// Rows of the matrix.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Columns of the matrix.
    pub fn columns(&self) -> usize {
        self.columns
    }

    fn width(&self) -> usize {
        VECTORS * self.isa.lanes()
    }

    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    pub(crate) fn panels(&self) -> usize {
        self.columns.div_ceil(self.width())
    }
}
