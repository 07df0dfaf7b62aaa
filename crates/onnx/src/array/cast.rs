//! Values of one type as values of another.

use std::sync::Arc;

use half::{bf16, f16};

use super::small_float::{self, Rounding};
use super::{Array, Data};
use crate::{DType, Error, Result};

impl Array {
    /// The values as 64-bit floats. Booleans are 0 and 1.
    ///
    /// # Errors
    /// When they are texts or complex.
    pub fn floats(&self) -> Result<Vec<f64>> {
        Ok(match self.data() {
            Data::F32(values) => values.iter().map(|&v| f64::from(v)).collect(),
            Data::F64(values) => values.to_vec(),
            Data::F16(values) => values.iter().map(|v| v.to_f64()).collect(),
            Data::BF16(values) => values.iter().map(|v| v.to_f64()).collect(),
            Data::Code(dtype, codes) if dtype.is_small_float() => {
                codes.iter().map(|&code| small_float::decode(*dtype, code)).collect()
            }
            _ => self.ints()?.into_iter().map(|v| v as f64).collect(),
        })
    }

    /// The values as integers; floats are cut off towards zero. Booleans are 0 and 1.
    ///
    /// # Errors
    /// When they are texts or complex.
    pub fn ints(&self) -> Result<Vec<i128>> {
        Ok(match self.data() {
            Data::I8(values) => values.iter().map(|&v| v.into()).collect(),
            Data::I16(values) => values.iter().map(|&v| v.into()).collect(),
            Data::I32(values) => values.iter().map(|&v| v.into()).collect(),
            Data::I64(values) => values.iter().map(|&v| v.into()).collect(),
            Data::U8(values) => values.iter().map(|&v| v.into()).collect(),
            Data::U16(values) => values.iter().map(|&v| v.into()).collect(),
            Data::U32(values) => values.iter().map(|&v| v.into()).collect(),
            Data::U64(values) => values.iter().map(|&v| v.into()).collect(),
            Data::Bool(values) => values.iter().map(|&v| v.into()).collect(),
            Data::Code(dtype, codes) if dtype.is_signed_int() => codes.iter().map(|&v| i128::from(v as i8)).collect(),
            Data::Code(dtype, codes) if dtype.is_int() => codes.iter().map(|&v| v.into()).collect(),
            Data::Str(_) | Data::C64(_) | Data::C128(_) => {
                return Err(Error::invalid(format!("expected numbers, found {}", self.dtype())));
            }
            _ => self.floats()?.into_iter().map(|v| v as i128).collect(),
        })
    }

    /// The values as sizes or positions.
    ///
    /// # Errors
    /// When they are no integers.
    pub fn int64s(&self) -> Result<Vec<i64>> {
        Ok(match self.data() {
            Data::I64(values) => values.to_vec(),
            _ => self.ints()?.into_iter().map(|v| v as i64).collect(),
        })
    }

    /// An array of a type from 64-bit floats, each rounded to the nearest value; integers are cut off towards zero and wrap.
    ///
    /// # Errors
    /// When there are not as many as the shape has elements, or the type is text or complex.
    pub fn of_floats(dtype: DType, shape: Vec<usize>, values: Vec<f64>) -> Result<Self> {
        Self::of_floats_with(dtype, shape, values, true, Rounding::Nearest)
    }

    fn of_floats_with(
        dtype: DType,
        shape: Vec<usize>,
        values: Vec<f64>,
        saturate: bool,
        rounding: Rounding,
    ) -> Result<Self> {
        let data = match dtype {
            DType::F32 => Data::F32(Arc::new(values.into_iter().map(|v| v as f32).collect())),
            DType::F64 => Data::F64(Arc::new(values)),
            DType::F16 => Data::F16(Arc::new(values.into_iter().map(f16::from_f64).collect())),
            DType::BF16 => Data::BF16(Arc::new(values.into_iter().map(bf16::from_f64).collect())),
            DType::Bool => Data::Bool(Arc::new(values.into_iter().map(|v| v != 0.0).collect())),
            _ if dtype.is_small_float() => Data::Code(
                dtype,
                Arc::new(values.into_iter().map(|v| small_float::encode(dtype, v, saturate, rounding)).collect()),
            ),
            _ => return Self::of_ints(dtype, shape, values.into_iter().map(|v| v as i128).collect()),
        };
        Self::from_data(shape, data)
    }

    /// An array of a type from integers; those out of an integer type's range wrap.
    ///
    /// # Errors
    /// When there are not as many as the shape has elements, or the type is text or complex.
    pub fn of_ints(dtype: DType, shape: Vec<usize>, values: Vec<i128>) -> Result<Self> {
        let data = match dtype {
            DType::I8 => Data::I8(Arc::new(values.into_iter().map(|v| v as i8).collect())),
            DType::I16 => Data::I16(Arc::new(values.into_iter().map(|v| v as i16).collect())),
            DType::I32 => Data::I32(Arc::new(values.into_iter().map(|v| v as i32).collect())),
            DType::I64 => Data::I64(Arc::new(values.into_iter().map(|v| v as i64).collect())),
            DType::U8 => Data::U8(Arc::new(values.into_iter().map(|v| v as u8).collect())),
            DType::U16 => Data::U16(Arc::new(values.into_iter().map(|v| v as u16).collect())),
            DType::U32 => Data::U32(Arc::new(values.into_iter().map(|v| v as u32).collect())),
            DType::U64 => Data::U64(Arc::new(values.into_iter().map(|v| v as u64).collect())),
            DType::Bool => Data::Bool(Arc::new(values.into_iter().map(|v| v != 0).collect())),
            DType::U4 => Data::Code(dtype, Arc::new(values.into_iter().map(|v| (v & 15) as u8).collect())),
            DType::U2 => Data::Code(dtype, Arc::new(values.into_iter().map(|v| (v & 3) as u8).collect())),
            DType::I4 => Data::Code(dtype, Arc::new(values.into_iter().map(|v| ((v << 4) as i8 >> 4) as u8).collect())),
            DType::I2 => Data::Code(dtype, Arc::new(values.into_iter().map(|v| ((v << 6) as i8 >> 6) as u8).collect())),
            DType::Str | DType::C64 | DType::C128 => {
                return Err(Error::invalid(format!("numbers cannot be of type {dtype}")));
            }
            _ => return Self::of_floats(dtype, shape, values.into_iter().map(|v| v as f64).collect()),
        };
        Self::from_data(shape, data)
    }

    /// The same values as another type. Rounding is to nearest even; texts are parsed and written; `saturate` and `rounding` are
    /// those of `Cast` for floats of 8 bits or fewer.
    ///
    /// # Errors
    /// When a text is no number, or a type is complex.
    pub fn cast(&self, dtype: DType, saturate: bool, rounding: Rounding) -> Result<Self> {
        let shape = self.shape().to_vec();
        if dtype == self.dtype() {
            return Ok(self.clone());
        }
        if let Data::Str(texts) = self.data() {
            return parse(texts, dtype, shape, saturate, rounding);
        }
        if dtype == DType::Str {
            return Self::new(shape, self.texts()?);
        }
        if dtype == DType::Bool && self.dtype().is_float() {
            return Self::new(shape, self.floats()?.into_iter().map(|v| v != 0.0).collect());
        }
        if self.dtype().is_float() {
            return Self::of_floats_with(dtype, shape, self.floats()?, saturate, rounding);
        }
        if dtype.is_float() {
            return Self::of_floats_with(dtype, shape, self.floats()?, saturate, rounding);
        }
        Self::of_ints(dtype, shape, self.ints()?)
    }

    /// The values as texts: floats in the shortest form that reads back the same.
    fn texts(&self) -> Result<Vec<String>> {
        Ok(match self.data() {
            Data::F32(values) => values.iter().map(|v| float_text(f64::from(*v), v.to_string())).collect(),
            Data::F64(values) => values.iter().map(|v| float_text(*v, v.to_string())).collect(),
            Data::F16(values) => values.iter().map(|v| float_text(v.to_f64(), v.to_string())).collect(),
            Data::Bool(values) => values.iter().map(|&v| if v { "1" } else { "0" }.to_string()).collect(),
            _ if self.dtype().is_float() => self.floats()?.into_iter().map(|v| float_text(v, v.to_string())).collect(),
            _ => self.ints()?.into_iter().map(|v| v.to_string()).collect(),
        })
    }
}

/// The names of infinity and NaN are those of the ONNX specification.
fn float_text(value: f64, plain: String) -> String {
    if value.is_nan() {
        "NaN".to_string()
    } else if value.is_infinite() {
        if value > 0.0 { "INF" } else { "-INF" }.to_string()
    } else {
        plain
    }
}

fn parse(texts: &[String], dtype: DType, shape: Vec<usize>, saturate: bool, rounding: Rounding) -> Result<Array> {
    let bad = |text: &String| Error::invalid(format!("the text '{text}' is no {dtype}"));
    if dtype.is_float() {
        let values: Result<_> = texts.iter().map(|text| text.trim().parse::<f64>().map_err(|_| bad(text))).collect();
        return Array::of_floats_with(dtype, shape, values?, saturate, rounding);
    }
    let values: Result<_> = texts.iter().map(|text| text.trim().parse::<i128>().map_err(|_| bad(text))).collect();
    Array::of_ints(dtype, shape, values?)
}
