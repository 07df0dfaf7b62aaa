//! Blocks of values copied from one row to another.

use crate::memory::Plain;
use crate::parallel::{Shared, each};

/// Values that one thread copies at a time.
const PIECE: usize = 1 << 14;

/// Copies `block` values of each of `rows` rows: from `input[row * input_row + start]` on to `out[row * out_row]`.
///
/// # Panics
/// When that reaches past a slice.
pub fn copy_blocks<T: Plain>(
    input: &[T],
    input_row: usize,
    start: usize,
    block: usize,
    out: &mut [T],
    out_row: usize,
    rows: usize,
) {
    if rows == 0 || block == 0 {
        return;
    }
    assert!((rows - 1) * input_row + start + block <= input.len(), "blocks inside of the input");
    assert!((rows - 1) * out_row + block <= out.len() && block <= out_row.max(block), "blocks inside of the output");
    assert!(rows == 1 || block <= out_row, "blocks that do not overlap");
    let part = (PIECE / block).max(1);
    let shared = Shared::new(out);
    each(rows.div_ceil(part), rows * block, |task| {
        for row in task * part..rows.min((task + 1) * part) {
            #[allow(unsafe_code)]
            // SAFETY: inside of the output, as was checked, and no other task writes this row.
            let out = unsafe { std::slice::from_raw_parts_mut(shared.at(row * out_row), block) };
            out.copy_from_slice(&input[row * input_row + start..][..block]);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_get_to_their_rows() {
        for (rows, block) in [(1, 3), (5, 1), (7, 4), (20_000, 6)] {
            let input: Vec<f32> = (0..rows * 10).map(|i| i as f32).collect();
            let mut out = vec![-1.0; rows * 8];
            copy_blocks(&input, 10, 2, block, &mut out, 8, rows);
            for (at, found) in out.iter().enumerate() {
                let (row, column) = (at / 8, at % 8);
                let expected = if column < block { (row * 10 + 2 + column) as f32 } else { -1.0 };
                assert_eq!(*found, expected);
            }
        }
    }
}
