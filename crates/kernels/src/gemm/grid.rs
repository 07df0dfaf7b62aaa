//! How a product is divided into tasks.

use std::ops::Range;

use super::packed::VECTORS;
use crate::lanes::Isa;
use crate::parallel::{alone, threads};

/// Rows of a block: with the depth above they stay in the second-level cache (120 KiB) while the panels pass by.
const ROWS: usize = 120;

/// Rows and panels, divided into tasks of about the same size.
pub(crate) struct Grid {
    rows: usize,
    panels: usize,
    /// Rows of a tile: tasks begin at multiples of it.
    tile: usize,
    /// Parts that the rows and the panels are divided into.
    parts: [usize; 2],
}

impl Grid {
    pub(crate) fn new(rows: usize, panels: usize, isa: Isa, operations: usize) -> Self {
        let tile = isa.pair_rows();
        if alone(operations) {
            return Self { rows, panels, tile, parts: [1, 1] };
        }
        // A few tasks for each thread, so that none waits long for the last one; each at least a few microseconds.
        let wanted = (3 * threads()).min(operations >> 15).max(threads());
        let down = rows.div_ceil(ROWS / tile * tile);
        // Every part of the columns reads all rows again, and the other way round: the division that reads least.
        let columns = panels * VECTORS * isa.lanes();
        let reads = |&down: &usize| down * columns + wanted.div_ceil(down) * rows;
        let down = (down..=wanted.min(rows.div_ceil(2 * tile)).max(down)).min_by_key(reads).unwrap_or(down);
        Self { rows, panels, tile, parts: [down, (wanted / down).clamp(1, panels.max(1))] }
    }

    pub(crate) fn count(&self) -> usize {
        self.parts[0] * self.parts[1]
    }

    pub(crate) fn part(&self, task: usize) -> (Range<usize>, Range<usize>) {
        let [down, across] = self.parts;
        let share = |all: usize, part: usize, parts: usize| part * all / parts..(part + 1) * all / parts;
        let tiles = share(self.rows.div_ceil(self.tile), task / across, down);
        let rows = tiles.start * self.tile..self.rows.min(tiles.end * self.tile);
        (rows, share(self.panels, task % across, across))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tile_has_one_task() {
        for isa in Isa::available() {
            for (rows, panels) in [(1, 1), (1, 700), (49, 32), (64, 32), (197, 192), (12544, 2), (331, 5)] {
                let grid = Grid::new(rows, panels, isa, usize::MAX / 2);
                let mut seen = vec![0; rows * panels];
                for task in 0..grid.count() {
                    let (rows, across) = grid.part(task);
                    for row in rows {
                        across.clone().for_each(|panel| seen[row * panels + panel] += 1);
                    }
                }
                assert!(seen.iter().all(|&times| times == 1), "{rows} rows, {panels} panels");
            }
        }
    }
}
