//! Arrays as tensors of a state dict, and the other way round.

use rekindle_state::{DType as StoredType, Tensor};

use super::{Array, Data};
use crate::graph::weight;
use crate::{DType, Error, Result};

impl Array {
    /// The values of a tensor of a state dict.
    ///
    /// # Errors
    /// When they cannot be read, or ONNX has no such type.
    pub fn from_tensor(tensor: &Tensor) -> Result<Self> {
        let name = tensor.dtype().name();
        let dtype =
            DType::from_name(name).ok_or_else(|| Error::invalid(format!("ONNX has no values of type {name}")))?;
        let shape: Option<Vec<usize>> = tensor.shape().iter().map(|&size| usize::try_from(size).ok()).collect();
        let shape = shape.ok_or_else(|| Error::invalid("a tensor is too large for memory"))?;
        super::count(&shape)?;
        Self::from_data(shape, weight::values(dtype, &tensor.bytes()?))
    }

    /// The array as a tensor of a state dict.
    ///
    /// # Errors
    /// When its elements are texts, or of less than a byte.
    pub fn to_tensor(&self) -> Result<Tensor> {
        let dtype = StoredType::ALL.iter().find(|dtype| dtype.name() == self.dtype().name());
        let none = || Error::beyond(format!("a tensor of {} outside an ONNX file", self.dtype()));
        let bytes = bytes(self.data()).ok_or_else(none)?;
        let shape: Vec<u64> = self.shape().iter().map(|&size| size as u64).collect();
        Ok(Tensor::from_bytes(*dtype.ok_or_else(none)?, &shape, bytes)?)
    }
}

/// Little-endian bytes; `None` for texts.
fn bytes(data: &Data) -> Option<Vec<u8>> {
    fn all<T: Copy, const N: usize>(values: &[T], bytes: fn(T) -> [u8; N]) -> Vec<u8> {
        values.iter().flat_map(|&value| bytes(value)).collect()
    }
    Some(match data {
        Data::F32(values) => all(values, f32::to_le_bytes),
        Data::F64(values) => all(values, f64::to_le_bytes),
        Data::F16(values) => all(values, half::f16::to_le_bytes),
        Data::BF16(values) => all(values, half::bf16::to_le_bytes),
        Data::I8(values) => all(values, i8::to_le_bytes),
        Data::I16(values) => all(values, i16::to_le_bytes),
        Data::I32(values) => all(values, i32::to_le_bytes),
        Data::I64(values) => all(values, i64::to_le_bytes),
        Data::U8(values) => values.to_vec(),
        Data::U16(values) => all(values, u16::to_le_bytes),
        Data::U32(values) => all(values, u32::to_le_bytes),
        Data::U64(values) => all(values, u64::to_le_bytes),
        Data::Bool(values) => all(values, |value| [value.into()]),
        Data::C64(values) => values.iter().flatten().flat_map(|part| part.to_le_bytes()).collect(),
        Data::C128(values) => values.iter().flatten().flat_map(|part| part.to_le_bytes()).collect(),
        Data::Code(_, values) => values.to_vec(),
        Data::Str(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_keep_type_shape_and_values_as_tensors() {
        let arrays = [
            Array::new(vec![2, 2], vec![1.5_f32, -2.0, f32::INFINITY, 0.25]).unwrap(),
            Array::new(vec![3], vec![i64::MIN, 0, 7]).unwrap(),
            Array::new(vec![1, 2], vec![true, false]).unwrap(),
            Array::new(vec![1], vec![[1.0_f32, -1.0]]).unwrap(),
            Array::scalar(3_u16),
        ];
        for array in arrays {
            assert_eq!(Array::from_tensor(&array.to_tensor().unwrap()).unwrap(), array);
        }
        assert!(Array::scalar("text".to_string()).to_tensor().is_err());
    }
}
