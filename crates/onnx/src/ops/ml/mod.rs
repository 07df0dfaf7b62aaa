//! The operators of the domain `ai.onnx.ml`: classical models, and the features around them.

mod encode;
mod features;
mod linear;
mod maps;
mod scores;
mod svm;
mod trees;

use super::{HostOp, Inputs, one, sizes};
use crate::{Array, Error, Result};

pub(super) fn find(operator: &str) -> Option<HostOp> {
    [encode::find, features::find, linear::find, maps::find, svm::find, trees::find]
        .iter()
        .find_map(|family| family(operator))
}

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
