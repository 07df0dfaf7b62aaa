//! How a product is divided into tasks.

use std::ops::Range;

use super::packed::VECTORS;
use crate::lanes::Isa;
use crate::parallel::{alone, threads};

/// Rows of a block: with the depth above they stay in the second-level cache (120 KiB) while the panels pass by.
const ROWS: usize = 120;

/// Rows and panels, divided into tasks.
pub(crate) struct Grid {
    rows: usize,
    panels: usize,
    /// Rows and panels of a task.
    part: [usize; 2],
    /// Tasks across.
    across: usize,
}

impl Grid {
    pub(crate) fn new(rows: usize, panels: usize, isa: Isa, operations: usize) -> Self {
        let tile = isa.pair_rows();
        if alone(operations) {
            return Self { rows, panels, part: [rows, panels.max(1)], across: 1 };
        }
        // A few tasks for each thread, so that none waits long for the last one; each at least a few microseconds.
        let wanted = (3 * threads()).min(operations >> 15).max(threads());
        let most = ROWS / tile * tile;
        let down = rows.div_ceil(most);
        // Every part of the columns reads all rows again, and the other way round: the division that reads least.
        let columns = panels * VECTORS * isa.lanes();
        let reads = |&down: &usize| down * columns + wanted.div_ceil(down) * rows;
        let down = (down..=wanted.min(rows.div_ceil(2 * tile)).max(down)).min_by_key(reads).unwrap_or(down);
        let across = (wanted / down).clamp(1, panels.max(1));
        let part = [rows.div_ceil(down).next_multiple_of(tile).min(rows.max(1)), panels.div_ceil(across).max(1)];
        Self { rows, panels, part, across: panels.div_ceil(part[1]).max(1) }
    }

    pub(crate) fn count(&self) -> usize {
        self.rows.div_ceil(self.part[0]) * self.across
    }

    pub(crate) fn part(&self, task: usize) -> (Range<usize>, Range<usize>) {
        let (down, across) = (task / self.across * self.part[0], task % self.across * self.part[1]);
        (down..self.rows.min(down + self.part[0]), across..self.panels.min(across + self.part[1]))
    }
}
