//! A tensor of any rank on a Burn device.

use std::sync::Arc;

use burn::tensor::{DType as BurnType, Device, Shape, Tensor, TensorData};
use half::{bf16, f16};
use rekindle_onnx::{Array, DType, Data, Error, Result, Source};

use crate::models::weights::shared;

/// Floats on a device: flat values under a shape of any rank, so that reshaping costs nothing.
///
/// 16-bit floats are computed as 32-bit ones, which every device has, and rounded when they leave it.
#[derive(Debug, Clone)]
pub struct DeviceTensor {
    values: Tensor<1>,
    shape: Vec<usize>,
    dtype: DType,
    /// Whether gradients of a parameter may flow through it.
    followed: bool,
}

/// Runs a block with a constant that is the rank, if it is at most 6.
macro_rules! with_rank {
    ($rank:expr, $D:ident => $body:expr) => {
        match $rank {
            0 | 1 => {
                const $D: usize = 1;
                Some($body)
            }
            2 => {
                const $D: usize = 2;
                Some($body)
            }
            3 => {
                const $D: usize = 3;
                Some($body)
            }
            4 => {
                const $D: usize = 4;
                Some($body)
            }
            5 => {
                const $D: usize = 5;
                Some($body)
            }
            6 => {
                const $D: usize = 6;
                Some($body)
            }
            _ => None,
        }
    };
}
pub(super) use with_rank;

/// The type in which a device computes values of an element type, if it can.
pub(super) fn computed_as(dtype: DType, device: &Device) -> Option<BurnType> {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => Some(BurnType::F32),
        DType::F64 => device.supports_dtype(BurnType::F64).then_some(BurnType::F64),
        _ => None,
    }
}

impl DeviceTensor {
    /// Values as a tensor of one element type and a shape with as many elements.
    pub fn new<const D: usize>(values: Tensor<D>, shape: Vec<usize>, dtype: DType) -> Self {
        let count = values.shape().num_elements();
        debug_assert_eq!(count, shape.iter().product::<usize>());
        Self { values: values.reshape([count]), shape, dtype, followed: false }
    }

    /// Brings a value to a device. The weights of a file that lie there as the device needs them are not copied.
    ///
    /// # Errors
    /// When it cannot be read, or its elements are no floats that the device has.
    pub fn place(source: Source<'_>, device: &Device) -> Result<Self> {
        if let Source::Weight(weight) = source
            && weight.dtype == DType::F32
            && let Some(stored) = weight.tensor()
        {
            let count = weight.shape.iter().product::<usize>();
            let data = TensorData::from_bytes(shared(stored)?, [count], BurnType::F32);
            return Ok(Self::new(Tensor::<1>::from_data(data, device), weight.shape.clone(), DType::F32));
        }
        Self::upload(source.array()?, device)
    }

    /// Copies an array of floats to a device.
    ///
    /// # Errors
    /// When its elements are no floats that the device has.
    pub fn upload(array: Array, device: &Device) -> Result<Self> {
        let (shape, dtype) = (array.shape().to_vec(), array.dtype());
        let odd = || Error::beyond(format!("a device tensor of type {dtype}"));
        let kind = computed_as(dtype, device).ok_or_else(odd)?;
        let count = array.len();
        // Values that nobody else holds are not copied.
        let data = match array.into_data() {
            Data::F32(values) => TensorData::new(Arc::unwrap_or_clone(values), [count]),
            Data::F64(values) => TensorData::new(Arc::unwrap_or_clone(values), [count]),
            Data::F16(values) => TensorData::new(values.iter().map(|v| v.to_f32()).collect(), [count]),
            Data::BF16(values) => TensorData::new(values.iter().map(|v| v.to_f32()).collect(), [count]),
            _ => return Err(odd()),
        };
        Ok(Self::new(Tensor::<1>::from_data(data, (device, kind)), shape, dtype))
    }

    /// Copies the values to the host.
    ///
    /// # Errors
    /// When the device fails.
    pub fn download(&self) -> Result<Array> {
        let data = self
            .values
            .clone()
            .try_into_data()
            .map_err(|error| Error::invalid(format!("the device gave no values: {error:?}")))?;
        let failed = |error| Error::invalid(format!("the device gave other values than floats: {error:?}"));
        let shape = self.shape.clone();
        if self.dtype == DType::F64 {
            return Array::new(shape, data.try_into_vec::<f64>().map_err(failed)?);
        }
        let values = data.try_into_vec::<f32>().map_err(failed)?;
        match self.dtype {
            DType::F16 => Array::new(shape, values.into_iter().map(f16::from_f32).collect()),
            DType::BF16 => Array::new(shape, values.into_iter().map(bf16::from_f32).collect()),
            _ => Array::new(shape, values),
        }
    }

    /// The same on the way from a parameter to the loss, if the device keeps track of gradients.
    #[must_use]
    pub fn following_gradients(self) -> Self {
        Self { followed: self.values.device().is_autodiff(), ..self }
    }

    /// Whether gradients of a parameter may flow through it.
    pub fn follows_gradients(&self) -> bool {
        self.followed
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
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The values as a tensor of Burn's with a shape that has as many elements.
    pub fn view<const D: usize>(self, shape: [usize; D]) -> Tensor<D> {
        self.flat().reshape(shape)
    }

    /// As [`Self::view`]; the shape must have `D` axes, or none for a single value.
    pub(super) fn view_as<const D: usize>(self, shape: &[usize]) -> Tensor<D> {
        let shape = if shape.is_empty() { Shape::from(vec![1; D]) } else { Shape::from(shape.to_vec()) };
        self.flat().reshape::<D, Shape>(shape)
    }

    /// The flat values.
    pub fn flat(self) -> Tensor<1> {
        self.values
    }

    /// A function of single elements.
    pub(super) fn map(self, function: impl FnOnce(Tensor<1>) -> Tensor<1>) -> Self {
        Self { values: function(self.values), ..self }
    }

    /// The same values under another shape.
    pub(super) fn reshaped(self, shape: Vec<usize>) -> Self {
        Self { shape, ..self }
    }

    /// The same values as another element type, which the device computes in the same type.
    pub(super) fn with_dtype(self, dtype: DType) -> Self {
        Self { dtype, ..self }
    }

    /// The values before, along and after an axis: `[outer, size, inner]`.
    pub(super) fn around(self, axis: usize) -> Tensor<3> {
        let (outer, size, inner) = around(&self.shape, axis);
        self.view([outer, size, inner])
    }
}

/// A shape seen from an axis: elements before it, its size, elements after it.
pub(super) fn around(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}
