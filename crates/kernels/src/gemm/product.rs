//! The product, on all threads or by one.
#![allow(unsafe_code)]

use super::block::Block;
use super::epilogue::Epilogue;
use super::grid::Grid;
use super::packed::PackedMatrix;
use crate::parallel::{Shared, each};

impl PackedMatrix {
    /// Computes the product with `rows` rows that begin every `stride` values, into rows that begin every `out_stride` values.
    ///
    /// # Panics
    /// When a slice is too short for that.
    pub fn multiply(
        &self,
        left: &[f32],
        stride: usize,
        rows: usize,
        epilogue: &Epilogue<'_>,
        out: &mut [f32],
        out_stride: usize,
    ) {
        if rows == 0 || self.columns() == 0 {
            return;
        }
        assert!(
            self.depth() == 0 || (rows - 1) * stride + self.depth() <= left.len(),
            "rows inside of the left operand"
        );
        assert!((rows - 1) * out_stride + self.columns() <= out.len(), "rows inside of the output");
        epilogue.check(rows, self.columns());
        let operations =
            2 * rows * self.depth().max(8) * self.columns() + rows * self.columns() * epilogue.function.cost();
        let shared = Shared::new(out);
        let grid = Grid::new(rows, self.panels(), self.isa(), operations);
        each(grid.count(), operations, |task| {
            let (rows, panels) = grid.part(task);
            let block = Block {
                packed: self,
                left: left.as_ptr().wrapping_add(rows.start * stride),
                stride,
                rows: rows.len(),
                panels,
                out: shared.at(rows.start * out_stride),
                out_stride,
                first_row: rows.start,
                epilogue,
            };
            // SAFETY: by the assertions all rows are inside of their slices; each task writes other rows or columns.
            block.run(self.isa());
        });
    }

    /// [`Self::multiply`] by the calling thread alone, of rows without gaps.
    ///
    /// # Panics
    /// When the left operand is too short.
    ///
    /// # Safety
    /// All rows of the output can be written, and nobody else uses them.
    pub(crate) unsafe fn multiply_alone(
        &self,
        left: &[f32],
        rows: usize,
        epilogue: &Epilogue<'_>,
        out: Shared,
        out_stride: usize,
    ) {
        assert!(rows * self.depth() <= left.len(), "rows inside of the left operand");
        epilogue.check(rows.max(1), self.columns());
        let block = Block {
            packed: self,
            left: left.as_ptr(),
            stride: self.depth(),
            rows,
            panels: 0..self.panels(),
            out: out.at(0),
            out_stride,
            first_row: 0,
            epilogue,
        };
        // SAFETY: the rows of the left operand are inside of it, as was asserted, those of the output are the caller's.
        block.run(self.isa());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Residual;
    use crate::lanes::Isa;
    use crate::pointwise::{Pointwise, RELU};
    use proptest::prelude::*;

    fn values(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0).collect()
    }

    proptest! {
        #[test]
        fn products_are_those_of_the_definition(
            (rows, depth, columns) in (1usize..40, 0usize..700, 1usize..70),
            (pad, out_pad) in (0usize..4, 0usize..4),
            (biased, added, turned) in (any::<bool>(), any::<bool>(), any::<bool>()),
            function in prop::sample::select(vec![Pointwise::None, RELU, Pointwise::Clip(-0.5, 6.0), Pointwise::Silu, Pointwise::HardSwish]),
        ) {
            let (stride, out_stride) = (depth + pad, columns + out_pad);
            let left = values(rows * stride, 1);
            let right = values(depth * columns, 2);
            let bias = values(columns, 3);
            let residual = values(rows * out_stride, 4);
            let strides = if turned { [1, depth] } else { [columns, 1] };
            let epilogue = Epilogue {
                bias: biased.then_some(&bias[..]),
                residual: added.then_some(Residual { values: &residual, stride: out_stride }),
                function,
            };
            for isa in Isa::available() {
                let packed = PackedMatrix::new_at(isa, &right, depth, columns, strides);
                let mut out = vec![f32::NAN; rows * out_stride];
                packed.multiply(&left, stride, rows, &epilogue, &mut out, out_stride);
                for row in 0..rows {
                    for column in 0..columns {
                        let products = (0..depth).map(|k| {
                            f64::from(left[row * stride + k]) * f64::from(right[k * strides[0] + column * strides[1]])
                        });
                        let mut sum = products.sum::<f64>();
                        if biased { sum += f64::from(bias[column]); }
                        if added { sum += f64::from(residual[row * out_stride + column]); }
                        let mut expected = [sum as f32];
                        function.apply_inline(&mut expected);
                        let found = out[row * out_stride + column];
                        prop_assert!((found - expected[0]).abs() < 2e-3, "{isa:?} {row} {column}: {found} {expected:?}");
                    }
                    prop_assert!(out[row * out_stride + columns..].iter().take(out_pad).all(|value| value.is_nan()));
                }
            }
        }
    }

    #[test]
    fn large_products_are_divided() {
        let (rows, depth, columns) = (331, 300, 130);
        let (left, right) = (values(rows * depth, 5), values(depth * columns, 6));
        let packed = PackedMatrix::new(&right, depth, columns, [columns, 1]);
        let mut whole = vec![0.0; rows * columns];
        packed.multiply(&left, depth, rows, &Epilogue::default(), &mut whole, columns);
        for row in 0..rows {
            let mut single = vec![0.0; columns];
            packed.multiply(&left[row * depth..], depth, 1, &Epilogue::default(), &mut single, columns);
            assert!(single.iter().zip(&whole[row * columns..]).all(|(a, b)| (a - b).abs() < 1e-3));
        }
    }
}
