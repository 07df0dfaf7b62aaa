//! Products of matrices as flat slices.

/// Numbers that can be multiplied and added.
pub(super) trait Ring: Copy + Default {
    /// `self + other`.
    fn add(self, other: Self) -> Self;

    /// `self + a · b`.
    fn plus(self, a: Self, b: Self) -> Self;
}

impl Ring for f32 {
    #[inline]
    fn add(self, other: Self) -> Self {
        self + other
    }

    #[inline]
    fn plus(self, a: Self, b: Self) -> Self {
        self + a * b
    }
}

impl Ring for f64 {
    #[inline]
    fn add(self, other: Self) -> Self {
        self + other
    }

    #[inline]
    fn plus(self, a: Self, b: Self) -> Self {
        self + a * b
    }
}

/// Integers of any width: the low bits of a wrapped product are right for all of them.
impl Ring for i64 {
    #[inline]
    fn add(self, other: Self) -> Self {
        self.wrapping_add(other)
    }

    #[inline]
    fn plus(self, a: Self, b: Self) -> Self {
        self.wrapping_add(a.wrapping_mul(b))
    }
}

/// Sizes of a product: `m × k` times `k × n`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub m: usize,
    pub k: usize,
    pub n: usize,
}

/// A matrix in a slice: element `(i, j)` is at `i * rows + j * columns`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrix<'a, T> {
    /// The elements.
    pub values: &'a [T],
    /// Distance from one row to the next.
    pub rows: usize,
    /// Distance from one column to the next.
    pub columns: usize,
}

impl<'a, T: Copy> Matrix<'a, T> {
    /// A row-major matrix of so many columns.
    pub fn new(values: &'a [T], columns: usize) -> Self {
        Self { values, rows: columns, columns: 1 }
    }

    /// The transpose of a row-major matrix of so many columns.
    pub fn transposed(values: &'a [T], columns: usize) -> Self {
        Self { values, rows: 1, columns }
    }

    fn at(&self, i: usize, j: usize) -> T {
        self.values[i * self.rows + j * self.columns]
    }
}

/// Rows and columns that are accumulated in registers at once.
const TILE: (usize, usize) = (4, 8);
/// Terms of a sum that are taken at once, so that a panel of each matrix fits the first cache.
const DEPTH: usize = 256;
/// Columns whose panels are packed at once, so that they fit the second cache.
const WIDTH: usize = 512;

/// Adds `a · b` to `c`; all are row-major and of the sizes given.
pub(super) fn add_product<T: Ring>(a: &[T], b: &[T], c: &mut [T], size: Size) {
    let Size { m, k, n } = size;
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    if n == 1 {
        for (row, out) in a.chunks(k).zip(c) {
            *out = dot(*out, row, b);
        }
        return;
    }
    add_strided(Matrix::new(a, k), Matrix::new(b, n), c, n, size);
}

/// Adds `a · b` to `c`, which has `stride` elements from row to row.
pub(super) fn add_strided<T: Ring>(a: Matrix<'_, T>, b: Matrix<'_, T>, c: &mut [T], stride: usize, size: Size) {
    let Size { m, k, n } = size;
    let (tall, wide) = TILE;
    if m < tall && b.columns == 1 {
        return add_rows(a, b, c, stride, size);
    }
    let mut a_panel = vec![T::default(); tall * DEPTH.min(k)];
    let mut b_panels = vec![T::default(); DEPTH.min(k) * WIDTH.min(n.next_multiple_of(wide))];
    for j0 in (0..n).step_by(WIDTH) {
        let width = WIDTH.min(n - j0);
        for k0 in (0..k).step_by(DEPTH) {
            let depth = DEPTH.min(k - k0);
            pack_columns(&b, k0, depth, j0, width, &mut b_panels);
            for i0 in (0..m).step_by(tall) {
                // Asked for each panel of rows: a block of many rows may take seconds.
                if crate::limit::is_over() {
                    return;
                }
                let height = tall.min(m - i0);
                for (p, row) in a_panel.chunks_exact_mut(tall).take(depth).enumerate() {
                    for (i, slot) in row.iter_mut().enumerate() {
                        *slot = if i < height { a.at(i0 + i, k0 + p) } else { T::default() };
                    }
                }
                for (panel, j) in (0..width).step_by(wide).enumerate() {
                    let sums =
                        tile(&a_panel[..depth * tall], &b_panels[panel * depth * wide..(panel + 1) * depth * wide]);
                    let columns = wide.min(width - j);
                    for (i, sums) in sums.iter().enumerate().take(height) {
                        let start = (i0 + i) * stride + j0 + j;
                        c[start..start + columns].iter_mut().zip(sums).for_each(|(c, &sum)| *c = c.add(sum));
                    }
                }
            }
        }
    }
}

/// For few rows, which are not worth packing for: each element of `a` times its row of `b`.
fn add_rows<T: Ring>(a: Matrix<'_, T>, b: Matrix<'_, T>, c: &mut [T], stride: usize, Size { m, k, n }: Size) {
    for j in (0..n).step_by(WIDTH) {
        let width = WIDTH.min(n - j);
        for i in 0..m {
            if crate::limit::is_over() {
                return;
            }
            let c = &mut c[i * stride + j..][..width];
            let row = |p: usize| &b.values[p * b.rows + j..][..width];
            // Four at once, so that the sums are read and written a quarter as often.
            let mut p = 0;
            while p + 4 <= k {
                let ([f0, f1, f2, f3], [r0, r1, r2, r3]) =
                    ([p, p + 1, p + 2, p + 3].map(|p| a.at(i, p)), [row(p), row(p + 1), row(p + 2), row(p + 3)]);
                for ((((c, &b0), &b1), &b2), &b3) in c.iter_mut().zip(r0).zip(r1).zip(r2).zip(r3) {
                    *c = c.plus(f0, b0).plus(f1, b1).plus(f2, b2).plus(f3, b3);
                }
                p += 4;
            }
            for p in p..k {
                let factor = a.at(i, p);
                c.iter_mut().zip(row(p)).for_each(|(c, &b)| *c = c.plus(factor, b));
            }
        }
    }
}

/// Copies columns in panels as wide as a tile, row after row, filled up with zeros.
fn pack_columns<T: Ring>(b: &Matrix<'_, T>, k0: usize, depth: usize, j0: usize, width: usize, panels: &mut [T]) {
    let wide = TILE.1;
    for (panel, j) in (0..width).step_by(wide).enumerate() {
        let columns = wide.min(width - j);
        let target = &mut panels[panel * depth * wide..(panel + 1) * depth * wide];
        for (p, row) in target.chunks_exact_mut(wide).enumerate() {
            if b.columns == 1 {
                let start = (k0 + p) * b.rows + j0 + j;
                row[..columns].copy_from_slice(&b.values[start..start + columns]);
            } else {
                row[..columns].iter_mut().enumerate().for_each(|(i, slot)| *slot = b.at(k0 + p, j0 + j + i));
            }
            row[columns..].fill(T::default());
        }
    }
}

/// The product of two packed panels.
fn tile<T: Ring>(a: &[T], b: &[T]) -> [[T; TILE.1]; TILE.0] {
    let mut sums = [[T::default(); TILE.1]; TILE.0];
    for (a, b) in a.as_chunks::<{ TILE.0 }>().0.iter().zip(b.as_chunks::<{ TILE.1 }>().0) {
        for (sums, &a) in sums.iter_mut().zip(a) {
            for (sum, &b) in sums.iter_mut().zip(b) {
                *sum = sum.plus(a, b);
            }
        }
    }
    sums
}

/// `start + a · b` for two vectors, in several lanes.
fn dot<T: Ring>(start: T, a: &[T], b: &[T]) -> T {
    let mut lanes = [T::default(); 8];
    let ((a8, a_rest), (b8, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a8.iter().zip(b8) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane = lane.plus(a, b);
        }
    }
    for ((lane, &a), &b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane = lane.plus(a, b);
    }
    lanes.into_iter().fold(start, T::add)
}

/// The transpose of a matrix of so many rows and columns.
pub(super) fn transposed<T: Copy>(matrix: &[T], rows: usize, columns: usize) -> Vec<T> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| matrix[row * columns + column])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_all_sizes_around_the_blocks() {
        for (m, k, n) in [(1, 1, 1), (3, 5, 7), (4, 8, 8), (5, 257, 9), (9, 300, 523)] {
            let size = Size { m, k, n };
            let a: Vec<i64> = (0..m * k).map(|i| ((i * 7) % 11) as i64 - 5).collect();
            let b: Vec<i64> = (0..k * n).map(|i| ((i * 5) % 13) as i64 - 6).collect();
            let exact: Vec<i64> =
                (0..m * n).map(|i| 1 + (0..k).map(|p| a[i / n * k + p] * b[p * n + i % n]).sum::<i64>()).collect();
            let mut found = vec![1; m * n];
            add_product(&a, &b, &mut found, size);
            assert_eq!(found, exact, "{size:?}");
            let mut found = vec![1; m * n];
            let (a, b) = (transposed(&a, m, k), transposed(&b, k, n));
            add_strided(Matrix::transposed(&a, m), Matrix::transposed(&b, k), &mut found, n, size);
            assert_eq!(found, exact, "{size:?} transposed");
        }
    }
}
