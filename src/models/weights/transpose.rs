//! Turning large matrices: PyTorch keeps the weight of a linear layer as `[outputs, inputs]`, Burn as `[inputs, outputs]`.

/// Side of the squares that are turned in registers and the nearest cache.
const TILE: usize = 16;
/// Below this many elements for each, threads cost more than they save.
const PART: usize = 1 << 18;
/// More threads than this wait for memory.
const THREADS: usize = 8;

/// The transpose of a row-major matrix `[rows, columns]` of little-endian 32-bit floats.
pub(super) fn transpose(matrix: &[u8], rows: usize, columns: usize) -> Vec<f32> {
    let (source, _) = matrix.as_chunks::<4>();
    let mut turned = vec![0_f32; rows * columns];
    if turned.is_empty() {
        return turned;
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(THREADS);
    let bands = cores.min(turned.len() / PART).max(1);
    let width = columns.div_ceil(bands).next_multiple_of(TILE);
    std::thread::scope(|scope| {
        for (band, target) in turned.chunks_mut(width * rows).enumerate() {
            let mut turn = move || turn_band(source, columns, band * width, target, rows);
            if bands == 1 {
                turn();
            } else {
                scope.spawn(turn);
            }
        }
    });
    turned
}

/// Some columns of a matrix, from `first` on, as the rows of `target`.
fn turn_band(source: &[[u8; 4]], columns: usize, first: usize, target: &mut [f32], rows: usize) {
    let count = target.len() / rows;
    for top in (0..rows).step_by(TILE) {
        let height = TILE.min(rows - top);
        for left in (0..count).step_by(TILE) {
            let width = TILE.min(count - left);
            let mut tile = [[0_f32; TILE]; TILE];
            for y in 0..height {
                let start = (top + y) * columns + first + left;
                for (column, bytes) in tile.iter_mut().zip(&source[start..start + width]) {
                    column[y] = f32::from_le_bytes(*bytes);
                }
            }
            for (x, column) in tile.iter().enumerate().take(width) {
                let start = (left + x) * rows + top;
                target[start..start + height].copy_from_slice(&column[..height]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_changes_place() {
        for (rows, columns) in [(1, 1), (3, 5), (16, 16), (17, 33), (40, 1), (1, 40), (1000, 700), (0, 4), (4, 0)] {
            let bytes: Vec<u8> = (0..rows * columns).flat_map(|i| (i as f32).to_le_bytes()).collect();
            let turned = transpose(&bytes, rows, columns);
            assert_eq!(turned.len(), rows * columns);
            for y in 0..rows {
                for x in 0..columns {
                    assert_eq!(turned[x * rows + y], (y * columns + x) as f32, "{rows} × {columns}: {y}, {x}");
                }
            }
        }
    }
}
