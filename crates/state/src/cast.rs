//! Values as numbers, and from one element type to another.

use std::borrow::Cow;

use half::{bf16, f16};

use crate::{DType, Error, Result, Source, Storage, Tensor};

impl Tensor {
    /// The values in row-major order as 32-bit floats; 64-bit ones and large integers are rounded.
    ///
    /// # Errors
    /// When the values cannot be read, or are complex, quantized or packed.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let bytes = self.bytes()?;
        if self.dtype() == DType::F32 {
            return Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect());
        }
        decode(self.dtype(), &bytes, |float| float as f32, |int| int as f32)
    }

    /// The values in row-major order as 64-bit floats; integers beyond 2^53 are rounded.
    ///
    /// # Errors
    /// As [`Tensor::to_f32`].
    pub fn to_f64(&self) -> Result<Vec<f64>> {
        decode(self.dtype(), &self.bytes()?, |float| float, |int| int as f64)
    }

    /// The values in row-major order as 64-bit integers; fractions are cut off, what is out of range becomes the nearest limit.
    ///
    /// # Errors
    /// As [`Tensor::to_f32`].
    pub fn to_i64(&self) -> Result<Vec<i64>> {
        decode(
            self.dtype(),
            &self.bytes()?,
            |float| float as i64,
            |int| int.clamp(i64::MIN.into(), i64::MAX.into()) as i64,
        )
    }

    /// The same values in another element type, row-major and in memory; the same tensor where the type is the same.
    ///
    /// Floats are rounded to the nearest, ties to even; towards integers fractions are cut off and what is out of range becomes
    /// the nearest limit; towards bool everything but zero is true.
    ///
    /// # Errors
    /// As [`Tensor::to_f32`], and when the target is a type of 8 bits that floats are not written in here.
    pub fn cast(&self, dtype: DType) -> Result<Self> {
        if dtype == self.dtype() {
            return Ok(self.clone());
        }
        let bytes = self.bytes()?;
        let mut tensor = Self::from_bytes(dtype, self.shape(), convert(self.dtype(), dtype, &bytes)?)?;
        tensor.parameter = self.parameter;
        tensor.requires_grad = self.requires_grad;
        Ok(tensor)
    }
    /// As [`Tensor::cast`] for floating types, but the values are computed when they are asked for, and are not kept.
    ///
    /// # Errors
    /// When either type is not a floating one.
    pub fn cast_lazily(&self, dtype: DType) -> Result<Self> {
        if !dtype.is_float() || !self.dtype().is_float() {
            return Err(Error::unsupported(format!("{} values become {dtype} only in memory", self.dtype())));
        }
        let source = Casting { tensor: self.clone(), dtype, length: self.numel().saturating_mul(dtype.size() as u64) };
        let mut tensor = Self::contiguous(dtype, self.shape(), Storage::new(source, ""), 0)?;
        tensor.parameter = self.parameter;
        tensor.requires_grad = self.requires_grad;
        Ok(tensor)
    }
}

/// A tensor's values in another type, produced when asked.
struct Casting {
    tensor: Tensor,
    dtype: DType,
    length: u64,
}

impl Source for Casting {
    fn len(&self) -> u64 {
        self.length
    }

    fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        convert(self.tensor.dtype(), self.dtype, &self.tensor.bytes()?).map(Cow::Owned)
    }
}

/// Whether elements are plain integers or truth values.
pub(crate) fn is_integer(dtype: DType) -> bool {
    use DType::{Bool, I8, I16, I32, I64, U8, U16, U32, U64};
    matches!(dtype, I64 | I32 | I16 | I8 | U64 | U32 | U16 | U8 | Bool)
}

/// Little-endian elements of a real type as numbers of the caller's choice, by way of a float or an integer that holds them all.
pub(crate) fn decode<T>(
    dtype: DType,
    bytes: &[u8],
    float: impl Fn(f64) -> T,
    int: impl Fn(i128) -> T,
) -> Result<Vec<T>> {
    /// One arm for each element type: how many bytes, how they are read, what they are.
    macro_rules! each {
        ($type:ty) => {
            bytes.as_chunks().0.iter().map(|chunk| <$type>::from_le_bytes(*chunk))
        };
    }
    let small = |table: fn(u8) -> f64| bytes.iter().map(|&byte| float(table(byte))).collect();
    Ok(match dtype {
        DType::F64 => each!(f64).map(float).collect(),
        DType::F32 => each!(f32).map(|v| float(v.into())).collect(),
        DType::F16 => each!(f16).map(|v| float(v.into())).collect(),
        DType::BF16 => each!(bf16).map(|v| float(v.into())).collect(),
        DType::I64 => each!(i64).map(|v| int(v.into())).collect(),
        DType::I32 => each!(i32).map(|v| int(v.into())).collect(),
        DType::I16 => each!(i16).map(|v| int(v.into())).collect(),
        DType::I8 => each!(i8).map(|v| int(v.into())).collect(),
        DType::U64 => each!(u64).map(|v| int(v.into())).collect(),
        DType::U32 => each!(u32).map(|v| int(v.into())).collect(),
        DType::U16 => each!(u16).map(|v| int(v.into())).collect(),
        DType::U8 => each!(u8).map(|v| int(v.into())).collect(),
        DType::Bool => bytes.iter().map(|&byte| int((byte != 0).into())).collect(),
        DType::F8E4M3Fn => small(|byte| small_float(byte, 4, 7, Special::FiniteNan)),
        DType::F8E4M3Fnuz => small(|byte| small_float(byte, 4, 8, Special::NegativeZeroNan)),
        DType::F8E5M2 => small(|byte| small_float(byte, 5, 15, Special::Ieee)),
        DType::F8E5M2Fnuz => small(|byte| small_float(byte, 5, 16, Special::NegativeZeroNan)),
        DType::F8E8M0Fnu => small(|byte| if byte == 0xff { f64::NAN } else { (f64::from(byte) - 127.0).exp2() }),
        other => return Err(Error::unsupported(format!("{other} values are not plain real numbers"))),
    })
}

/// How an 8-bit float writes what is not a number.
#[derive(Clone, Copy)]
enum Special {
    /// The largest exponent holds infinities and NaN.
    Ieee,
    /// Only all ones after the sign is NaN; there are no infinities.
    FiniteNan,
    /// Only negative zero's pattern is NaN.
    NegativeZeroNan,
}

/// An 8-bit float with a number of exponent bits and their bias.
fn small_float(byte: u8, exponent_bits: u32, bias: i32, special: Special) -> f64 {
    let mantissa_bits = 7 - exponent_bits;
    let magnitude = byte & 0x7f;
    let exponent = i32::from(magnitude >> mantissa_bits);
    let mantissa = f64::from(magnitude & ((1 << mantissa_bits) - 1)) / f64::from(1_u32 << mantissa_bits);
    let value = match special {
        Special::NegativeZeroNan if byte == 0x80 => return f64::NAN,
        Special::FiniteNan if magnitude == 0x7f => return f64::NAN,
        Special::Ieee if exponent == (1 << exponent_bits) - 1 => {
            if mantissa == 0.0 {
                f64::INFINITY
            } else {
                f64::NAN
            }
        }
        _ if exponent == 0 => mantissa * f64::from(1 - bias).exp2(),
        _ => (1.0 + mantissa) * f64::from(exponent - bias).exp2(),
    };
    if byte & 0x80 == 0 { value } else { -value }
}

/// Elements of one real type as those of another.
fn convert(from: DType, to: DType, bytes: &[u8]) -> Result<Vec<u8>> {
    fn join<const N: usize>(parts: Vec<[u8; N]>) -> Vec<u8> {
        parts.into_flattened()
    }
    /// One arm for each integer type; `as` saturates for floats, and `clamp` makes it so for integers.
    macro_rules! integer {
        ($type:ty) => {
            join(decode(
                from,
                bytes,
                |v| (v as $type).to_le_bytes(),
                |v| (v.clamp(<$type>::MIN.into(), <$type>::MAX.into()) as $type).to_le_bytes(),
            )?)
        };
    }
    Ok(match to {
        DType::F64 => join(decode(from, bytes, f64::to_le_bytes, |v| (v as f64).to_le_bytes())?),
        DType::F32 => join(decode(from, bytes, |v| (v as f32).to_le_bytes(), |v| (v as f32).to_le_bytes())?),
        DType::F16 => join(decode(
            from,
            bytes,
            |v| f16::from_f32(round_to_odd(v)).to_le_bytes(),
            |v| f16::from_f32(round_to_odd(v as f64)).to_le_bytes(),
        )?),
        DType::BF16 => join(decode(
            from,
            bytes,
            |v| bf16::from_f32(round_to_odd(v)).to_le_bytes(),
            |v| bf16::from_f32(round_to_odd(v as f64)).to_le_bytes(),
        )?),
        DType::I64 => integer!(i64),
        DType::I32 => integer!(i32),
        DType::I16 => integer!(i16),
        DType::I8 => integer!(i8),
        DType::U64 => integer!(u64),
        DType::U32 => integer!(u32),
        DType::U16 => integer!(u16),
        DType::U8 => integer!(u8),
        DType::Bool => decode(from, bytes, |v| u8::from(v != 0.0), |v| u8::from(v != 0))?,
        other => {
            return Err(Error::unsupported(format!(
                "values are not converted to {other}: choose float32, float64, float16, bfloat16 or an integer type"
            )));
        }
    })
}

/// A 64-bit float as a 32-bit one that a second rounding to 16 bits takes to the nearest: an inexact result gets an odd last bit,
/// so that it is never mistaken for a tie.
fn round_to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest) == value || !nearest.is_finite() || nearest.to_bits() & 1 == 1 {
        return nearest;
    }
    let away = f64::from(nearest).abs() < value.abs();
    f32::from_bits(if away { nearest.to_bits() + 1 } else { nearest.to_bits() - 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_to_nearest_even() {
        let cases: [(f64, u16); 6] = [
            (1.0, 0x3c00),
            (1.0 + 2f64.powi(-11), 0x3c00),                  // a tie goes to even
            (1.0 + 2f64.powi(-11) + 2f64.powi(-40), 0x3c01), // just above a tie, lost by a careless way through f32
            (1.0 + 3.0 * 2f64.powi(-11), 0x3c02),            // a tie goes to even
            (65520.0, 0x7c00),                               // overflow
            (2f64.powi(-25) * 1.0000001, 0x0001),            // just above half the smallest subnormal
        ];
        for (value, expected) in cases {
            let tensor = Tensor::from_bytes(DType::F64, &[1], value.to_le_bytes().to_vec()).unwrap();
            let half = tensor.cast(DType::F16).unwrap();
            assert_eq!(u16::from_le_bytes(half.bytes().unwrap()[..2].try_into().unwrap()), expected, "{value}");
        }
    }

    #[test]
    fn zero_and_tiny_values_survive_rounding() {
        for value in [0.0, -0.0, 1e-300, -1e-300, f64::INFINITY] {
            let tensor = Tensor::from_bytes(DType::F64, &[1], value.to_le_bytes().to_vec()).unwrap();
            let half = tensor.cast(DType::BF16).unwrap().to_f64().unwrap()[0];
            let expected = if value.is_finite() { 0.0 } else { value };
            assert_eq!(half, expected);
            assert_eq!(half.is_sign_negative(), value.is_sign_negative());
        }
        let tensor = Tensor::from_bytes(DType::F64, &[1], f64::NAN.to_le_bytes().to_vec()).unwrap();
        assert!(tensor.cast(DType::F16).unwrap().to_f32().unwrap()[0].is_nan());
    }

    #[test]
    fn small_floats_decode() {
        assert_eq!(small_float(0x7e, 4, 7, Special::FiniteNan), 448.0);
        assert!(small_float(0x7f, 4, 7, Special::FiniteNan).is_nan());
        assert_eq!(small_float(0x01, 4, 7, Special::FiniteNan), 2f64.powi(-9));
        assert_eq!(small_float(0x7b, 5, 15, Special::Ieee), 57344.0);
        assert_eq!(small_float(0xfc, 5, 15, Special::Ieee), f64::NEG_INFINITY);
        assert_eq!(small_float(0x7f, 4, 8, Special::NegativeZeroNan), 240.0);
        assert!(small_float(0x80, 5, 16, Special::NegativeZeroNan).is_nan());
    }

    #[test]
    fn integers_saturate() {
        let tensor = Tensor::from_f32(&[3], &[-1.5, 300.0, f32::NAN]).unwrap();
        assert_eq!(tensor.cast(DType::U8).unwrap().bytes().unwrap().as_ref(), &[0, 255, 0]);
        assert_eq!(tensor.to_i64().unwrap(), [-1, 300, 0]);
    }
}
