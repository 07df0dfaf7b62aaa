//! What follows a product while a tile is in registers.

use crate::pointwise::Pointwise;

/// A value for each row and column, to be added.
#[derive(Clone, Copy, Debug)]
pub struct Residual<'a> {
    /// The values.
    pub values: &'a [f32],
    /// From one row to the next.
    pub stride: usize,
}

/// What follows a product.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// One value for each column.
    pub bias: Option<&'a [f32]>,
    /// Added before the function.
    pub residual: Option<Residual<'a>>,
    /// The function of each value.
    pub function: Pointwise,
}

impl Epilogue<'_> {
    /// # Panics
    /// When a slice is too short for so many rows and columns.
    pub(crate) fn check(&self, rows: usize, columns: usize) {
        assert!(self.bias.is_none_or(|bias| bias.len() >= columns), "a bias for each column");
        assert!(
            self.residual.is_none_or(|residual| (rows - 1) * residual.stride + columns <= residual.values.len()),
            "rows inside of the residual"
        );
    }
}
