//! Batches of matrices where every matrix is the same one.
//!
//! `run_decompositions()` writes a linear layer on `[s, b, k]` with an open `b` as `bmm` with the weight expanded to
//! `[s, k, n]`. PyTorch repeats it by a stride of 0. As a node of its own the repetition would be 1.4 GB for each of the
//! twelve projections of `vit_b_16`, and as many small products in the place of a large one.

use rekindle_onnx::builder::ValueName;

use super::alias::View;
use super::{Args, Lower, TensorId, Value};
use crate::Result;

/// `bmm`: a second operand that repeats one matrix is read as that matrix, or else the first one.
pub(super) fn batched(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (a, b) = (args.tensor("self")?, args.tensor("mat2")?);
    let (mut first, mut second) = (l.value(a)?, l.value(b)?);
    if let Some(matrix) = l.repeated(b)? {
        second = matrix;
    } else if let Some(matrix) = l.repeated(a)? {
        first = matrix;
    }
    let value = l.node("MatMul", &[&first, &second], &[])?;
    l.answer(value)
}

impl Lower {
    /// The matrix that a tensor of three axes repeats along the first one.
    fn repeated(&mut self, mut tensor: TensorId) -> Result<Option<ValueName>> {
        let whole = self.value(tensor)?;
        while let Some((base, view)) = self.seen_through(tensor) {
            let value = self.value(base)?;
            let (Some(fact), Some(from)) = (self.fact(&whole), self.fact(&value)) else { return Ok(None) };
            match view {
                View::Whole | View::Reshape(_) if from.shapes_equal(fact) => tensor = base,
                View::Expand(_) if from.rank() == 2 => {
                    let ends = fact.probes.iter().zip(&from.probes).all(|(all, one)| all.shape.ends_with(&one.shape));
                    return Ok(ends.then_some(value));
                }
                _ => break,
            }
        }
        Ok(None)
    }
}
