//! Floats that arithmetic runs in: 32 and 64 bits wide. Narrower ones are computed in 32 bits and rounded at the end.

use std::borrow::Cow;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

use super::product::Ring;
use super::vector_math;
use crate::array::{Element, count, show};
use crate::{Array, DType, Error, Result};

/// `f32` or `f64`.
pub(super) trait Real:
    Ring
    + Element
    + Copy
    + Default
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
{
    const NEG_INFINITY: Self;

    fn of(value: f64) -> Self;
    fn f64(self) -> f64;
    fn exp(self) -> Self;
    fn ln(self) -> Self;
    fn sqrt(self) -> Self;
    fn abs(self) -> Self;
    fn tanh(self) -> Self;
    fn is_nan(self) -> bool;

    /// `1 / (1 + exp(-x))` of every value.
    fn sigmoids(values: &mut [Self]);
    /// `tanh(x)` of every value.
    fn tanhs(values: &mut [Self]);

    /// The greater of two; NaN if one is.
    fn greater(self, other: Self) -> Self {
        if self > other || self.is_nan() { self } else { other }
    }
}

/// Implements the trait by the methods of the type itself.
macro_rules! real {
    ($ty:ident, $sigmoids:expr, $tanhs:expr) => {
        impl Real for $ty {
            const NEG_INFINITY: Self = $ty::NEG_INFINITY;

            fn of(value: f64) -> Self {
                value as $ty
            }
            fn f64(self) -> f64 {
                f64::from(self)
            }
            fn exp(self) -> Self {
                $ty::exp(self)
            }
            fn ln(self) -> Self {
                $ty::ln(self)
            }
            fn sqrt(self) -> Self {
                $ty::sqrt(self)
            }
            fn abs(self) -> Self {
                $ty::abs(self)
            }
            fn tanh(self) -> Self {
                $ty::tanh(self)
            }
            fn is_nan(self) -> bool {
                $ty::is_nan(self)
            }
            fn sigmoids(values: &mut [Self]) {
                $sigmoids(values);
            }
            fn tanhs(values: &mut [Self]) {
                $tanhs(values);
            }
        }
    };
}

real!(f32, vector_math::sigmoid, vector_math::tanh);
real!(
    f64,
    |values: &mut [f64]| values.iter_mut().for_each(|v| *v = 1.0 / (1.0 + (-*v).exp())),
    |values: &mut [f64]| values.iter_mut().for_each(|v| *v = v.tanh())
);

/// Runs the body with `$real` as the type that floats of an element type are computed in.
macro_rules! with_real {
    ($dtype:expr, $real:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F64 => {
                type $real = f64;
                $body
            }
            dtype if dtype.is_float() => {
                type $real = f32;
                $body
            }
            other => Err($crate::Error::invalid(format!("expected floats, found {other}"))),
        }
    };
}
pub(super) use with_real;

/// The values of an array in the type of computation; not copied when they are of that type.
pub(super) fn read<T: Real>(array: &Array) -> Result<Cow<'_, [T]>> {
    if let Some(values) = array.values::<T>() {
        return Ok(Cow::Borrowed(values));
    }
    Ok(Cow::Owned(array.floats()?.into_iter().map(T::of).collect()))
}

/// An array of an element type from computed values.
pub(super) fn write<T: Real>(dtype: DType, shape: Vec<usize>, values: Vec<T>) -> Result<Array> {
    if dtype == T::DTYPE {
        return Array::new(shape, values);
    }
    Array::of_floats(dtype, shape, values.into_iter().map(T::f64).collect())
}

/// Rounds computed values to an element type, where a specification says that a step has that type.
pub(super) fn round<T: Real>(dtype: DType, values: &mut [T]) {
    match dtype {
        _ if dtype == T::DTYPE => {}
        DType::F16 => values.iter_mut().for_each(|v| *v = T::of(half::f16::from_f64(v.f64()).to_f64())),
        DType::BF16 => values.iter_mut().for_each(|v| *v = T::of(half::bf16::from_f64(v.f64()).to_f64())),
        DType::F32 => values.iter_mut().for_each(|v| *v = T::of(f64::from(v.f64() as f32))),
        _ => {}
    }
}

/// Sum of a row, in several lanes: faster, and closer to the exact sum, than one after another.
pub(super) fn sum<T: Real>(row: &[T]) -> T {
    let mut lanes = [T::default(); 16];
    let (chunks, rest) = row.as_chunks::<16>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane += value;
    }
    let mut width = 8;
    while width > 0 {
        for i in 0..width {
            let other = lanes[i + width];
            lanes[i] += other;
        }
        width /= 2;
    }
    lanes[0]
}

/// The greatest value of a row; NaN if one is, -∞ if there is none.
pub(super) fn max<T: Real>(row: &[T]) -> T {
    row.iter().fold(T::NEG_INFINITY, |a, &b| b.greater(a))
}

/// Zeros for a result of a shape.
///
/// # Errors
/// When there is no memory for them.
pub(super) fn zeros<T: Clone + Default>(shape: &[usize]) -> Result<Vec<T>> {
    let total = count(shape)?;
    let mut values = Vec::new();
    if values.try_reserve_exact(total).is_err() {
        return Err(Error::invalid(format!("a result of shape {} is too large for memory", show(shape))));
    }
    values.resize(total, T::default());
    Ok(values)
}

/// The array with its axes in another order.
pub(super) fn permuted(array: &Array, order: &[usize]) -> Result<Array> {
    if order.iter().enumerate().all(|(i, &axis)| i == axis) {
        return Ok(array.clone());
    }
    let steps = crate::array::strides(array.shape());
    let shape: Vec<usize> = order.iter().map(|&axis| array.shape()[axis]).collect();
    let steps: Vec<usize> = order.iter().map(|&axis| steps[axis]).collect();
    let indices = crate::array::offsets(&shape, &steps)?;
    array.take(shape, &indices)
}
