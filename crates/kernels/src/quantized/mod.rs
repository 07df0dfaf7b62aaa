//! Products, convolutions and functions of 8-bit codes: integers that stand for floats by a scale and a zero point.
//!
//! Sums of products are exact 32-bit integers. What follows them (zero points, scales, a bias, rounding to codes of another scale) is
//! done while they are in registers, so that codes stay codes from one layer to the next.

mod codes;
mod conv;
mod matrix;
mod pool;
mod units;

pub use codes::{Codes, Quantization, dequantize, dynamic, pair, quantize, requantize, table};
pub use conv::ByteConvWeights;
pub use matrix::{ByteMatrix, Requantize, Rounded, Target};
pub use pool::max_pool;

/// Added to a float of less than 22 bits, it leaves the nearest integer, of two the even one, in the low bits.
const ROUNDS: f32 = 12_582_912.0;

/// The code of a number that is small enough: rounded to the nearest integer, of two the even one, and `zero` added.
#[inline(always)]
fn code(number: f32, zero: i32) -> u8 {
    ((number + ROUNDS).to_bits() as u8).wrapping_add(zero as u8)
}

/// `x` between two bounds; not a number becomes the lower one.
#[inline(always)]
fn between(x: f32, low: f32, high: f32) -> f32 {
    let x = if x > low { x } else { low };
    if x < high { x } else { high }
}
