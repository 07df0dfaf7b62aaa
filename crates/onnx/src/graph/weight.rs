//! Constant values: they stay in the file until they are used.

use std::fmt;
use std::sync::Arc;

use rekindle_state::onnx::proto::{SparseTensorProto, TensorProto};
use rekindle_state::onnx::{External, tensor_value};
use rekindle_state::{Tensor, Value as Stored};

use crate::array::{Data, Element, count, show, strides};
use crate::{Array, DType, Error, Result};

/// A constant value.
#[derive(Debug, Clone)]
pub struct Weight {
    /// The element type.
    pub dtype: DType,
    /// The shape.
    pub shape: Vec<usize>,
    source: WeightSource,
}

#[derive(Debug, Clone)]
enum WeightSource {
    /// In a file.
    Stored(Box<Stored>),
    /// In memory.
    Array(Array),
    /// Wherever a function gets it from.
    Deferred(Deferred),
}

/// Gets the values of a constant.
#[derive(Clone)]
struct Deferred(Arc<dyn Fn() -> Result<Array> + Send + Sync>);

impl fmt::Debug for Deferred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deferred")
    }
}

impl From<Array> for Weight {
    fn from(array: Array) -> Self {
        Self { dtype: array.dtype(), shape: array.shape().to_vec(), source: WeightSource::Array(array) }
    }
}

impl Weight {
    /// A constant whose values are elsewhere, on a device for example, and got when they are needed.
    pub fn deferred(dtype: DType, shape: Vec<usize>, values: Arc<dyn Fn() -> Result<Array> + Send + Sync>) -> Self {
        Self { dtype, shape, source: WeightSource::Deferred(Deferred(values)) }
    }

    /// Bytes that its values take, texts aside.
    pub fn bytes(&self) -> u64 {
        let bits = (self.dtype.bits() as u64).saturating_mul(self.shape.iter().product::<usize>() as u64);
        bits.div_ceil(8)
    }

    /// The values, read from the file if they are there.
    ///
    /// # Errors
    /// When the file can no longer be read.
    pub fn array(&self) -> Result<Array> {
        match &self.source {
            WeightSource::Array(array) => Ok(array.clone()),
            WeightSource::Stored(stored) => decode(self.dtype, &self.shape, stored),
            WeightSource::Deferred(Deferred(values)) => values(),
        }
    }

    /// The weight as a tensor of a state dict; `None` for texts and integers of less than a byte.
    pub fn tensor(&self) -> Option<&Tensor> {
        match &self.source {
            WeightSource::Stored(stored) => match &**stored {
                Stored::Tensor(tensor) => Some(tensor),
                _ => None,
            },
            WeightSource::Array(_) | WeightSource::Deferred(_) => None,
        }
    }
}

/// Checks a tensor of a file. Its values are not read yet.
///
/// # Errors
/// When its type is unknown or it does not hold what it claims.
pub fn read(proto: &TensorProto, external: &mut External) -> Result<Weight> {
    let name = || if proto.name.is_empty() { "a tensor".to_string() } else { format!("tensor '{}'", proto.name) };
    let dtype = DType::from_number(proto.data_type);
    let dtype =
        dtype.ok_or_else(|| Error::invalid(format!("{} has the unknown element type {}", name(), proto.data_type)))?;
    let stored = tensor_value(proto, external).map_err(|error| error.within(name()))?;
    let shape = proto.dims.iter().map(|&axis| axis as usize).collect::<Vec<_>>();
    count(&shape)?;
    Ok(Weight { dtype, shape, source: WeightSource::Stored(Box::new(stored)) })
}

/// Elements that a sparse tensor may have, however few values it holds.
const MAX_SPARSE: usize = 1 << 24;

/// A sparse tensor with its zeros written out.
///
/// # Errors
/// When it does not hold what it claims, or an index is outside the shape.
pub fn read_sparse(proto: &SparseTensorProto, external: &mut External) -> Result<Array> {
    let (Some(values), Some(indices)) = (&proto.values, &proto.indices) else {
        return Err(Error::invalid("a sparse tensor without values or indices"));
    };
    let (values, indices) = (read(values, external)?.array()?, read(indices, external)?.array()?);
    let shape: Option<Vec<usize>> = proto.dims.iter().map(|&axis| usize::try_from(axis).ok()).collect();
    let shape = shape.ok_or_else(|| Error::invalid(format!("a sparse tensor of shape {:?}", proto.dims)))?;
    let total = count(&shape)?;
    // Written out it may be far larger than its file.
    if total > MAX_SPARSE.max(values.len().saturating_mul(64)) {
        return Err(Error::beyond(format!(
            "a sparse tensor of shape {} with only {} values",
            show(&shape),
            values.len()
        )));
    }
    let outside = || Error::invalid(format!("a sparse tensor has an index outside its shape {}", show(&shape)));
    let numbers = indices.int64s()?;
    let positions: Vec<i64> = if indices.rank() == 2 {
        let steps = strides(&shape);
        let inside = |at: &[i64]| at.iter().zip(&shape).all(|(&i, &axis)| (0..axis as i64).contains(&i));
        let position = |at: &[i64]| at.iter().zip(&steps).map(|(&i, &step)| i * step as i64).sum();
        let rows = numbers.chunks(shape.len().max(1));
        rows.map(|at| if inside(at) { Ok(position(at)) } else { Err(outside()) }).collect::<Result<_>>()?
    } else {
        numbers
    };
    if positions.len() != values.len() {
        return Err(Error::invalid("a sparse tensor has another number of indices than of values"));
    }
    // Element 0 of this pair is the zero that stands everywhere else.
    let zero = Data::zeros(values.dtype(), 1);
    let pool = Data::concat(&[&zero, values.data()]).ok_or_else(outside)?;
    let mut from = vec![0; total];
    for (i, position) in positions.into_iter().enumerate() {
        *usize::try_from(position).ok().and_then(|position| from.get_mut(position)).ok_or_else(outside)? = i + 1;
    }
    Array::from_data(shape, pool.take(&from))
}

fn decode(dtype: DType, shape: &[usize], stored: &Stored) -> Result<Array> {
    let shape = shape.to_vec();
    match stored {
        Stored::Tensor(tensor) => Array::from_data(shape, values(dtype, &tensor.bytes()?)),
        Stored::List(texts) => Array::new(shape, texts.iter().map(text).collect()),
        Stored::Array(packed) => {
            let codes = unpack(dtype, &packed.raw, count(&shape)?);
            Array::from_data(shape, Data::Code(dtype, codes.into()))
        }
        _ => Err(Error::invalid(format!("a constant of type {dtype} holds no tensor"))),
    }
}

fn text(value: &Stored) -> String {
    match value {
        Stored::Str(text) => text.clone(),
        Stored::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    }
}

/// Values from their little-endian bytes.
pub fn values(dtype: DType, bytes: &[u8]) -> Data {
    fn numbers<T: Element, const N: usize>(bytes: &[u8], read: fn([u8; N]) -> T) -> Data {
        T::wrap(bytes.as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect())
    }
    match dtype {
        DType::F32 => numbers(bytes, f32::from_le_bytes),
        DType::F64 => numbers(bytes, f64::from_le_bytes),
        DType::F16 => numbers(bytes, half::f16::from_le_bytes),
        DType::BF16 => numbers(bytes, half::bf16::from_le_bytes),
        DType::I8 => numbers(bytes, i8::from_le_bytes),
        DType::I16 => numbers(bytes, i16::from_le_bytes),
        DType::I32 => numbers(bytes, i32::from_le_bytes),
        DType::I64 => numbers(bytes, i64::from_le_bytes),
        DType::U8 => u8::wrap(bytes.to_vec()),
        DType::U16 => numbers(bytes, u16::from_le_bytes),
        DType::U32 => numbers(bytes, u32::from_le_bytes),
        DType::U64 => numbers(bytes, u64::from_le_bytes),
        DType::Bool => numbers(bytes, |[byte]| byte != 0),
        DType::C64 => numbers(bytes, |[a, b, c, d, e, f, g, h]: [u8; 8]| {
            [f32::from_le_bytes([a, b, c, d]), f32::from_le_bytes([e, f, g, h])]
        }),
        DType::C128 => numbers(bytes, |both: [u8; 16]| {
            let both = u128::from_le_bytes(both);
            [f64::from_bits(both as u64), f64::from_bits((both >> 64) as u64)]
        }),
        code => Data::Code(code, bytes.to_vec().into()),
    }
}

/// Codes of less than a byte, the first in the lowest bits, each in a byte of its own.
fn unpack(dtype: DType, bytes: &[u8], count: usize) -> Vec<u8> {
    let bits = dtype.bits();
    let each = 8 / bits;
    let code = |i: usize| {
        let raw = (bytes[i / each] >> (i % each * bits)) & ((1 << bits) - 1);
        let spare = 8 - bits as u32;
        if dtype.is_signed_int() { ((raw << spare) as i8 >> spare) as u8 } else { raw }
    };
    (0..count).map(code).collect()
}
