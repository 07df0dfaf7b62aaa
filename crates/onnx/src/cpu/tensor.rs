//! What the plan of a graph knows of its values.

use crate::DType;

/// Where a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In memory of the plan, which later values may reuse.
    Memory(usize),
    /// In a constant of the plan.
    Constant(usize),
    /// In a value of the run: an input of the graph, or what an operator without a kernel gave.
    Value(usize),
}

/// A tensor of known type and shape.
#[derive(Debug, Clone)]
pub(super) struct Tensor {
    pub place: Place,
    pub dtype: DType,
    pub shape: Vec<usize>,
    /// Whether the channels (axis 1 of 4) are stored last. Never set where both orders are the same.
    pub channels_last: bool,
}

impl Tensor {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it is a tensor of 32-bit floats that is not empty.
    pub fn is_float(&self) -> bool {
        self.dtype == DType::F32 && !self.shape.contains(&0)
    }

    /// What a kernel reads.
    pub fn source(&self) -> Source {
        Source { place: self.place, len: self.len() }
    }

    /// The sizes in the order in which the values are stored.
    pub fn stored(&self) -> Vec<usize> {
        if self.channels_last {
            let [n, c, h, w] = self.shape[..] else { unreachable!("only tensors of four axes have channels last") };
            vec![n, h, w, c]
        } else {
            self.shape.clone()
        }
    }
}

/// Whether a tensor of four axes is the same with its channels last: one channel, or one pixel.
pub(super) fn either_order(shape: &[usize]) -> bool {
    matches!(shape, [_, c, h, w] if *c == 1 || h * w == 1)
}

/// Values that a kernel reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    pub place: Place,
    pub len: usize,
}

/// Bytes of four axes in another order.
pub(super) fn bytes_in_order(input: &[u8], shape: &[usize], order: &[usize; 4], out: &mut [u8]) {
    let mut strides = [1; 4];
    (1..4).rev().for_each(|axis| strides[axis - 1] = strides[axis] * shape[axis]);
    let sizes = order.map(|axis| shape[axis]);
    let strides = order.map(|axis| strides[axis]);
    let mut at = 0;
    for a in 0..sizes[0] {
        for b in 0..sizes[1] {
            for c in 0..sizes[2] {
                let start = a * strides[0] + b * strides[1] + c * strides[2];
                for d in 0..sizes[3] {
                    out[at] = input[start + d * strides[3]];
                    at += 1;
                }
            }
        }
    }
}
