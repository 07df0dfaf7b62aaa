//! Tensors whose axes another library counts otherwise.

use crate::{Result, Tensor};

/// How a tensor is reshaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Not at all.
    Same,
    /// All axes but the first become one: a convolution over the whole image as a linear layer.
    Rows,
    /// A number for each channel gets two axes of length 1 for height and width.
    Planes,
}

impl Shape {
    /// The tensor in this shape: the same values in row-major order, of the same storage where its strides allow that.
    ///
    /// # Errors
    /// When the values must be copied and cannot be read.
    pub fn of(self, tensor: &Tensor) -> Result<Tensor> {
        let from = tensor.shape();
        let mut shape = from.to_vec();
        match self {
            Self::Rows if from.len() > 2 => {
                shape.truncate(1);
                shape.push(from[1..].iter().fold(1, |n, &axis| n.saturating_mul(axis)));
            }
            Self::Planes if from.len() == 1 => shape.extend([1, 1]),
            _ => return Ok(tensor.clone()),
        }
        let Some(view) = tensor.view() else { return Ok(tensor.clone()) };
        let mut view = view.clone();
        if self == Self::Planes {
            view.strides.extend([1, 1]);
        } else if let Some(stride) = joined(&from[1..], &view.strides[1..]) {
            view.strides.truncate(1);
            view.strides.push(stride);
        } else {
            return Tensor::from_bytes(tensor.dtype(), &shape, tensor.bytes()?.into_owned());
        }
        Tensor::strided(tensor.dtype(), &shape, view)
    }
}

/// The stride of some axes as one, if there is such a stride.
fn joined(shape: &[u64], strides: &[u64]) -> Option<u64> {
    let mut axes = shape.iter().zip(strides).rev().filter(|(axis, _)| **axis != 1);
    let Some((&axis, &last)) = axes.next() else { return Some(1) };
    let mut next = last.checked_mul(axis)?;
    for (&axis, &stride) in axes {
        if stride != next {
            return None;
        }
        next = stride.checked_mul(axis)?;
    }
    Some(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::View;

    #[test]
    fn values_keep_their_order() {
        let values: Vec<f32> = (0..24_u8).map(f32::from).collect();
        let whole = Tensor::from_f32(&[2, 3, 2, 2], &values).unwrap();
        let rows = Shape::Rows.of(&whole).unwrap();
        assert_eq!((rows.shape(), rows.to_f32().unwrap()), (&[2, 12][..], values.clone()));
        assert!(rows.view().unwrap().storage.len() == whole.view().unwrap().storage.len());

        // Channels last: the values are copied into the order of rows.
        let view = View { strides: vec![12, 1, 6, 3], ..whole.view().unwrap().clone() };
        let last = Tensor::strided(whole.dtype(), &[2, 3, 2, 2], view).unwrap();
        let rows = Shape::Rows.of(&last).unwrap();
        assert_eq!((rows.shape(), rows.to_f32().unwrap()), (&[2, 12][..], last.to_f32().unwrap()));

        let scale = Tensor::from_f32(&[3], &[1.0, 2.0, 3.0]).unwrap();
        let planes = Shape::Planes.of(&scale).unwrap();
        assert_eq!((planes.shape(), planes.to_f32().unwrap()), (&[3, 1, 1][..], vec![1.0, 2.0, 3.0]));
        for (shape, same) in [(Shape::Same, &whole), (Shape::Planes, &whole), (Shape::Rows, &scale)] {
            assert_eq!(shape.of(same).unwrap().shape(), same.shape());
        }
    }
}
