//! Host arrays: an element type, a shape, and contiguous row-major values that clones share.

mod cast;
mod data;
mod select;
pub mod small_float;
mod strides;
mod tensor;

pub use data::{Data, Element};
pub use select::Positions;
pub use small_float::Rounding;
pub use strides::{Broadcast, broadcast_shape, index_of, offsets, strides};

use crate::{DType, Error, Result};

/// An array on the host. Cloning it shares the values.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    shape: Vec<usize>,
    data: Data,
}

/// Number of elements of a shape.
///
/// # Errors
/// When it is more than an array may have: a small file can ask for any size.
pub fn count(shape: &[usize]) -> Result<usize> {
    // Axes of size 0 are left out of the limit, so that no product of some of the axes overflows either.
    let most = shape.iter().try_fold(1_usize, |n, &axis| n.checked_mul(axis.max(1)));
    crate::limit::array(most, shape)?;
    Ok(shape.iter().product())
}

/// A shape as text: `[2, 3]`.
pub fn show(shape: &[usize]) -> String {
    format!("{shape:?}")
}

impl Array {
    /// An array of values in row-major order.
    ///
    /// # Errors
    /// When there are not as many values as the shape has elements.
    pub fn new<T: Element>(shape: Vec<usize>, values: Vec<T>) -> Result<Self> {
        Self::from_data(shape, T::wrap(values))
    }

    /// An array of values of any type.
    ///
    /// # Errors
    /// When there are not as many values as the shape has elements.
    pub fn from_data(shape: Vec<usize>, data: Data) -> Result<Self> {
        if count(&shape)? != data.len() {
            return Err(Error::invalid(format!(
                "{} values do not fill an array of shape {}",
                data.len(),
                show(&shape)
            )));
        }
        Ok(Self { shape, data })
    }

    /// An array without axes.
    pub fn scalar<T: Element>(value: T) -> Self {
        Self { shape: Vec::new(), data: T::wrap(vec![value]) }
    }

    /// An array with one axis.
    pub fn vector<T: Element>(values: Vec<T>) -> Self {
        Self { shape: vec![values.len()], data: T::wrap(values) }
    }

    /// An array with the same float everywhere, converted to the type.
    ///
    /// # Errors
    /// When it is too large, or the type holds no numbers.
    pub fn filled(dtype: DType, shape: &[usize], value: f64) -> Result<Self> {
        Self::of_floats(dtype, shape.to_vec(), vec![value; count(shape)?])
    }

    /// The shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// The values.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The values alone.
    pub fn into_data(self) -> Data {
        self.data
    }

    /// The values, if they are of type `T`.
    pub fn values<T: Element>(&self) -> Option<&[T]> {
        T::slice(&self.data)
    }

    /// The values, which an operator asks to be of type `T`.
    ///
    /// # Errors
    /// When they are of another type.
    pub fn expect<T: Element>(&self) -> Result<&[T]> {
        self.values()
            .ok_or_else(|| Error::invalid(format!("expected values of type {}, found {}", T::DTYPE, self.dtype())))
    }

    /// The same values under another shape.
    ///
    /// # Errors
    /// When the shape has another number of elements.
    pub fn reshaped(&self, shape: Vec<usize>) -> Result<Self> {
        if count(&shape)? != self.len() {
            return Err(Error::invalid(format!("shape {} cannot become {}", show(&self.shape), show(&shape))));
        }
        Ok(Self { shape, data: self.data.clone() })
    }

    /// An array of another shape whose element `i` is this one's element `indices[i]`, in row-major order.
    ///
    /// # Errors
    /// When the number of indices is not that of the shape.
    ///
    /// # Panics
    /// When an index is not below [`Array::len`]: callers compute indices from checked shapes.
    pub fn take(&self, shape: Vec<usize>, indices: &[usize]) -> Result<Self> {
        Self::from_data(shape, self.data.take(indices))
    }

    /// The only element, as an integer.
    ///
    /// # Errors
    /// When there are more or fewer, or it is no integer.
    pub fn int(&self) -> Result<i64> {
        match self.ints()?.as_slice() {
            [value] => Ok(*value as i64),
            values => Err(Error::invalid(format!("expected one number, found {}", values.len()))),
        }
    }

    /// The only element, as a float.
    ///
    /// # Errors
    /// When there are more or fewer, or it is no number.
    pub fn float(&self) -> Result<f64> {
        match self.floats()?.as_slice() {
            [value] => Ok(*value),
            values => Err(Error::invalid(format!("expected one number, found {}", values.len()))),
        }
    }

    /// The only element, as a boolean.
    ///
    /// # Errors
    /// When there are more or fewer, or it is no boolean.
    pub fn bool(&self) -> Result<bool> {
        match self.expect::<bool>()? {
            [value] => Ok(*value),
            values => Err(Error::invalid(format!("expected one boolean, found {}", values.len()))),
        }
    }
}

/// The axis that a possibly negative number means.
///
/// # Errors
/// When there is no such axis.
pub fn axis(axis: i64, rank: usize) -> Result<usize> {
    let found = if axis < 0 { axis + rank as i64 } else { axis };
    if (0..rank as i64).contains(&found) {
        return Ok(found as usize);
    }
    Err(Error::invalid(format!("axis {axis} is out of range for {rank} axes")))
}
