//! The operators of the domain `ai.onnx.ml`: classical models, and the features around them.

pub(super) mod encode;
pub(super) mod features;
mod forest;
pub(super) mod linear;
pub(super) mod maps;
mod scores;
pub(super) mod svm;
pub(super) mod trees;

use super::{Inputs, one, sizes};
use crate::{Array, Error, Result};

/// Observations in rows; a list is one observation.
struct Rows {
    rows: usize,
    columns: usize,
    values: Vec<f64>,
}

impl Rows {
    fn new(x: &Array) -> Result<Self> {
        let (rows, columns) = match *x.shape() {
            [columns] => (1, columns),
            [rows, columns] => (rows, columns),
            _ => {
                return Err(Error::invalid(format!(
                    "expected observations as [C] or [N, C], found shape {:?}",
                    x.shape()
                )));
            }
        };
        Ok(Self { rows, columns, values: x.floats()? })
    }

    fn iter(&self) -> impl Iterator<Item = &[f64]> {
        (0..self.rows).map(|row| &self.values[row * self.columns..(row + 1) * self.columns])
    }
}
