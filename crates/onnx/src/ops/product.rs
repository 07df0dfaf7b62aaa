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

/// Columns and depth that are worked on at a time: a block of `b` stays in the cache.
const COLUMNS: usize = 512;
const DEPTH: usize = 128;
/// Rows of the result that share each row of `b` that is read.
const ROWS: usize = 4;

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
    for column in (0..n).step_by(COLUMNS) {
        let columns = column..n.min(column + COLUMNS);
        for depth in (0..k).step_by(DEPTH) {
            let depths = depth..k.min(depth + DEPTH);
            for (rows, c) in c.chunks_mut(ROWS * n).enumerate() {
                block(&a[rows * ROWS * k..], b, c, size, columns.clone(), depths.clone());
            }
        }
    }
}

/// Up to [`ROWS`] rows of the result.
fn block<T: Ring>(a: &[T], b: &[T], c: &mut [T], size: Size, columns: std::ops::Range<usize>, depths: std::ops::Range<usize>) {
    let Size { k, n, .. } = size;
    if c.len() == ROWS * n {
        let (c0, rest) = c.split_at_mut(n);
        let (c1, rest) = rest.split_at_mut(n);
        let (c2, c3) = rest.split_at_mut(n);
        let (c0, c1, c2, c3) = (&mut c0[columns.clone()], &mut c1[columns.clone()], &mut c2[columns.clone()], &mut c3[columns.clone()]);
        for depth in depths {
            let row = &b[depth * n + columns.start..depth * n + columns.end];
            let (a0, a1, a2, a3) = (a[depth], a[k + depth], a[2 * k + depth], a[3 * k + depth]);
            for ((((b, c0), c1), c2), c3) in row.iter().zip(&mut *c0).zip(&mut *c1).zip(&mut *c2).zip(&mut *c3) {
                *c0 = c0.plus(a0, *b);
                *c1 = c1.plus(a1, *b);
                *c2 = c2.plus(a2, *b);
                *c3 = c3.plus(a3, *b);
            }
        }
        return;
    }
    for (c, a) in c.chunks_mut(n).zip(a.chunks(k)) {
        let c = &mut c[columns.clone()];
        for depth in depths.clone() {
            let row = &b[depth * n + columns.start..depth * n + columns.end];
            for (c, b) in c.iter_mut().zip(row) {
                *c = c.plus(a[depth], *b);
            }
        }
    }
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
