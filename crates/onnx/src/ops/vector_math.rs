//! Functions of many 32-bit floats at once, written so that the compiler uses vectors: no branches, no calls.

/// `exp(x)` for each lane, right to about two units of the last place; `0` and infinity past the range become its ends.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Adding it leaves a whole number in the lowest bits.
    const WHOLE: f32 = 12_582_912.0;
    /// `ln(2)` in two parts, the first with few bits: its multiples are exact.
    const LN_2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);
    let x = x.clamp(-87.3, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + WHOLE;
    let power = shifted - WHOLE;
    let rest = x - power * LN_2.0 - power * LN_2.1;
    let series = (((((1.987_569_1e-4 * rest + 1.398_199_9e-3) * rest + 8.333_452e-3) * rest + 4.166_579_6e-2) * rest
        + 1.666_666_5e-1)
        * rest
        + 0.5)
        * rest
        * rest
        + rest
        + 1.0;
    // The whole number as the exponent of a float.
    series * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

/// `1 / (1 + exp(-x))` of every value.
pub(super) fn sigmoid(values: &mut [f32]) {
    values.iter_mut().for_each(|value| *value = 1.0 / (1.0 + exp(-*value)));
}

/// `tanh(x)` of every value.
pub(super) fn tanh(values: &mut [f32]) {
    values.iter_mut().for_each(|value| {
        let x = *value;
        // Near zero the other form would lose digits.
        let square = x * x;
        let series = ((((-5.704_988_7e-3 * square + 2.063_909e-2) * square - 5.373_971e-2) * square + 1.333_144_2e-1)
            * square
            - 3.333_328e-1)
            * square
            * x
            + x;
        let far = 1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0);
        *value = if x.abs() < 0.625 { series } else { far.copysign(x) };
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Over the range in which the results differ from their limits, and at its ends.
    #[test]
    fn close_to_those_of_the_library() {
        let xs: Vec<f32> = (-40_000..40_000)
            .map(|k| k as f32 * 2.3e-3)
            .chain([f32::INFINITY, f32::NEG_INFINITY, 1e-30, -0.0])
            .collect();
        let (mut s, mut t) = (xs.clone(), xs.clone());
        sigmoid(&mut s);
        tanh(&mut t);
        for ((&x, s), t) in xs.iter().zip(s).zip(t) {
            let (exact_s, exact_t) = (1.0 / (1.0 + (-f64::from(x)).exp()), f64::from(x).tanh());
            assert!((f64::from(s) - exact_s).abs() <= 3e-7 * exact_s + 2e-38, "sigmoid({x}) = {s}, not {exact_s}");
            assert!((f64::from(t) - exact_t).abs() <= 3e-7 * exact_t.abs(), "tanh({x}) = {t}, not {exact_t}");
        }
        let mut nan = [f32::NAN];
        sigmoid(&mut nan);
        assert!(nan[0].is_nan());
        tanh(&mut nan);
        assert!(nan[0].is_nan());
    }
}
