//! Functions of single values that a compiler turns into vector code: no branch, no call, no table.

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

/// Added to a float and taken away again, it leaves the nearest integer.
const ROUNDS: f32 = 12_582_912.0;
/// What the bits of a power of two have above those of its exponent.
const EXPONENT: u32 = 23;
/// `ln 2` in two parts, the first with few enough digits that small multiples of it are exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// A polynomial, the highest power's coefficient first.
#[inline(always)]
fn polynomial<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = 0.0f32;
    for coefficient in coefficients {
        sum = sum.mul_add(x, coefficient);
    }
    sum
}

/// `e^x`, to the last digit or two.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Outside of these bounds the result is zero or infinite anyway.
    let bounded = if x < -104.0 { -104.0 } else { x };
    let bounded = if bounded > 89.0 { 89.0 } else { bounded };
    let shifted = bounded.mul_add(LOG2_E, ROUNDS);
    let power = shifted - ROUNDS;
    let rest = power.mul_add(-LN_2_LOW, power.mul_add(-LN_2_HIGH, bounded));
    let sum = polynomial(rest, [1.987_569_2e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5]);
    let value = (sum * rest).mul_add(rest, rest) + 1.0;
    // In two halves, since one factor may have no float of its own.
    let exponent = shifted.to_bits().wrapping_sub(ROUNDS.to_bits()) as i32;
    let two_to = |power: i32| f32::from_bits(((power + 127) as u32) << EXPONENT);
    value * two_to(exponent >> 1) * two_to(exponent - (exponent >> 1))
}

/// The hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let square = x * x;
    let near = polynomial(square, [-5.704_988_7e-3, 2.063_909e-2, -5.373_971_5e-2, 0.133_314_42, -0.333_332_8]);
    let far = 1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0);
    (if x.abs() < 0.625 { (near * square).mul_add(x, x) } else { far }).copysign(x)
}

/// The error function.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let (size, square) = (x.abs(), x * x);
    let near =
        polynomial(square, [-5.967_617e-4, 4.991_194e-3, -2.676_813_6e-2, 0.112_819_925, -0.376_125_34, 0.128_379_17]);
    // From 4 on the result is one, and the polynomial no longer an error function's.
    let bounded = if size > 4.0 { 4.0 } else { size };
    let far =
        [-1.728_534_7e-5, 3.831_971_3e-4, -3.883_964_4e-3, 2.425_462_2e-2, -0.106_777_88, -0.634_846_7, -0.128_717_51];
    let far = 1.0 - exp(polynomial(bounded, far).mul_add(bounded, -bounded));
    (if size < 0.927_734_4 { near.mul_add(x, x) } else { far }).copysign(x)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `x` times the normal distribution's part below it.
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * FRAC_1_SQRT_2))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error function by its series, in 64 bits.
    fn precise_erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    /// The greatest relative error over points of both signs, from tiny to `most`.
    fn worst(most: f32, function: fn(f32) -> f32, precise: impl Fn(f64) -> f64) -> f64 {
        let points = (0..40_000).map(|i| most * (i as f32 / 40_000.0)).chain((1..60).map(|i| 0.5f32.powi(i)));
        let error = |x: f32| {
            let (found, expected) = (f64::from(function(x)), precise(x.into()));
            if expected == 0.0 { found.abs() } else { (found - expected).abs() / expected.abs() }
        };
        points.flat_map(|x| [x, -x]).map(error).fold(0.0, f64::max)
    }

    #[test]
    fn values_are_right_to_the_last_digits() {
        assert!(worst(0.4, exp, f64::exp) < 3e-7);
        assert!(worst(86.0, exp, f64::exp) < 3e-7);
        assert!(worst(20.0, tanh, f64::tanh) < 5e-7);
        assert!(worst(3.5, erf, precise_erf) < 5e-7);
        assert!(worst(30.0, sigmoid, |x| 1.0 / (1.0 + (-x).exp())) < 5e-7);
        let error = (-4000..4000).map(|i| i as f32 / 1000.0).map(|x| {
            let expected = 0.5 * f64::from(x) * (1.0 + precise_erf(f64::from(x) * std::f64::consts::FRAC_1_SQRT_2));
            (f64::from(gelu(x)) - expected).abs()
        });
        assert!(error.fold(0.0, f64::max) < 1e-6);
    }

    #[test]
    fn the_ends_are_what_they_should_be() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        assert_eq!([exp(-inf), exp(inf), exp(0.0), exp(-200.0), exp(100.0)], [0.0, inf, 1.0, 0.0, inf]);
        assert!((exp(-95.0) / (-95f32).exp() - 1.0).abs() < 1e-2, "numbers with few digits");
        assert_eq!(
            [tanh(-inf), tanh(inf), erf(-inf), erf(inf), sigmoid(-inf), sigmoid(inf)],
            [-1.0, 1.0, -1.0, 1.0, 0.0, 1.0]
        );
        assert_eq!([gelu(-inf).is_nan(), gelu(inf) == inf, gelu(-20.0) == 0.0, gelu(20.0) == 20.0], [true; 4]);
        assert!([exp(nan), tanh(nan), erf(nan), sigmoid(nan), gelu(nan)].iter().all(|value| value.is_nan()));
        assert!(tanh(-0.0).is_sign_negative() && erf(-0.0).is_sign_negative());
    }
}
