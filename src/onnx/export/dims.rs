//! Shapes that leave the batch size open, found by comparing two traces of different batch sizes.

use std::collections::HashMap;

use burn::backend::capture::TensorId;
use burn::backend::ir::{OperationIr, TensorIr};

use super::capture::Trace;
use crate::onnx::OnnxError;

/// The name of the open axis.
pub const BATCH: &str = "batch";
/// Batch sizes of the two traces: neither is 1, which would broadcast, and neither divides the other.
pub const TRACED: [usize; 2] = [2, 3];

/// An axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dim {
    /// A number.
    Fixed(usize),
    /// So many times the batch size.
    Batch(usize),
}

impl Dim {
    fn pair(first: usize, second: usize) -> Option<Self> {
        if first == second {
            return Some(Self::Fixed(first));
        }
        let times = first / TRACED[0];
        (times > 0 && times * TRACED[0] == first && times * TRACED[1] == second).then_some(Self::Batch(times))
    }

    /// The number, if it is one.
    pub fn fixed(self) -> Option<usize> {
        match self {
            Self::Fixed(size) => Some(size),
            Self::Batch(_) => None,
        }
    }
}

/// The shape of every tensor of a trace.
#[derive(Debug)]
pub struct Shapes(HashMap<TensorId, Vec<Dim>>);

impl Shapes {
    /// Shapes as they were traced.
    pub fn fixed(trace: &Trace) -> Self {
        let shapes =
            tensors(trace).map(|tensor| (tensor.id, tensor.shape.iter().map(|&size| Dim::Fixed(size)).collect()));
        Self(shapes.collect())
    }

    /// Shapes that hold for any batch size, from traces of the batch sizes [`TRACED`].
    ///
    /// # Errors
    /// When the network does something else for another batch size.
    pub fn open(first: &Trace, second: &Trace) -> Result<Self, OnnxError> {
        if first.operations.len() != second.operations.len() {
            return Err(OnnxError::Batch("the network runs other operations for another batch size".to_string()));
        }
        for (a, b) in first.operations.iter().zip(&second.operations) {
            if kind(a) != kind(b) {
                return Err(OnnxError::Batch(format!(
                    "the network runs {} for one batch size and {} for another",
                    kind(a),
                    kind(b)
                )));
            }
        }
        let mut shapes = HashMap::new();
        for (a, b) in tensors(first).zip(tensors(second)) {
            let dims = a.shape.iter().zip(b.shape.iter()).map(|(&x, &y)| Dim::pair(x, y)).collect::<Option<Vec<_>>>();
            let dims = dims.filter(|_| a.shape.num_dims() == b.shape.num_dims()).ok_or_else(|| {
                let [m, n] = TRACED;
                OnnxError::Batch(format!(
                    "a tensor of shape {:?} for a batch of {m} has the shape {:?} for {n}",
                    a.shape, b.shape
                ))
            })?;
            if shapes.insert(a.id, dims.clone()).is_some_and(|before| before != dims) {
                return Err(OnnxError::Batch(
                    "the network reuses a tensor in another way for another batch size".to_string(),
                ));
            }
        }
        Ok(Self(shapes))
    }

    /// The shape of a tensor.
    pub fn of(&self, tensor: &TensorIr) -> Vec<Dim> {
        let traced = || tensor.shape.iter().map(|&size| Dim::Fixed(size)).collect();
        self.0.get(&tensor.id).cloned().unwrap_or_else(traced)
    }
}

fn tensors(trace: &Trace) -> impl Iterator<Item = &TensorIr> {
    std::iter::once(&trace.input).chain(trace.operations.iter().flat_map(OperationIr::nodes)).chain(&trace.outputs)
}

/// The name of an operation, such as `Module(Conv2d)`.
pub fn kind(operation: &OperationIr) -> String {
    let text = format!("{operation:?}");
    let words: Vec<&str> = text.split(['(', ' ', '{']).filter(|word| !word.is_empty()).collect();
    match words.as_slice() {
        // `NumericFloat(F32, Add(…`: the type is in between.
        [family, second, third, ..] if second.ends_with(',') => format!("{family}({third})"),
        [family, second, ..] => format!("{family}({second})"),
        _ => text,
    }
}
