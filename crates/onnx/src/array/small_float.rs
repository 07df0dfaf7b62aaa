//! Floats of 8 bits or fewer: what each code means, and the code nearest to a value.

use std::sync::OnceLock;

use crate::DType;

/// How a value between two powers of two becomes a scale ([`DType::F8E8M0`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// The greater.
    Up,
    /// The smaller.
    Down,
    /// The nearer.
    Nearest,
}

/// A format of small floats.
struct Format {
    exponent_bits: u32,
    mantissa_bits: u32,
    bias: i32,
    /// The code of NaN, if there is one.
    nan: Option<u8>,
    /// The code of infinity, if there is one.
    infinity: Option<u8>,
    /// Greatest finite code without its sign.
    max: u8,
    /// Whether there is a negative zero.
    negative_zero: bool,
}

fn format(dtype: DType) -> Format {
    let (exponent_bits, mantissa_bits, bias, nan, infinity, max, negative_zero) = match dtype {
        DType::F8E4M3Fn => (4, 3, 7, Some(0x7f), None, 0x7e, true),
        DType::F8E4M3Fnuz => (4, 3, 8, Some(0x80), None, 0x7f, false),
        DType::F8E5M2 => (5, 2, 15, Some(0x7f), Some(0x7c), 0x7b, true),
        DType::F8E5M2Fnuz => (5, 2, 16, Some(0x80), None, 0x7f, false),
        _ => (2, 1, 1, None, None, 0x07, true),
    };
    Format { exponent_bits, mantissa_bits, bias, nan, infinity, max, negative_zero }
}

impl Format {
    fn sign_bit(&self) -> u8 {
        1 << (self.exponent_bits + self.mantissa_bits)
    }

    fn magnitude(&self, code: u8) -> f64 {
        let mantissa = f64::from(code & ((1 << self.mantissa_bits) - 1)) / f64::from(1 << self.mantissa_bits);
        let exponent = i32::from(code >> self.mantissa_bits);
        if exponent == 0 {
            mantissa * 2_f64.powi(1 - self.bias)
        } else {
            (1.0 + mantissa) * 2_f64.powi(exponent - self.bias)
        }
    }
}

/// The value of a code.
pub fn decode(dtype: DType, code: u8) -> f64 {
    if dtype == DType::F8E8M0 {
        return if code == 0xff { f64::NAN } else { 2_f64.powi(i32::from(code) - 127) };
    }
    let format = format(dtype);
    let sign = if code & format.sign_bit() != 0 { -1.0 } else { 1.0 };
    let rest = code & (format.sign_bit() - 1);
    if format.nan == Some(code)
        || (format.infinity.is_some() && rest > format.max + 1)
        || (rest == 0x7f && format.nan == Some(0x7f))
    {
        return f64::NAN;
    }
    if format.infinity == Some(rest) { sign * f64::INFINITY } else { sign * format.magnitude(rest) }
}

/// The code nearest to a value, ties to the even code. `saturate`: values too large become the greatest finite one, not infinity or NaN.
pub fn encode(dtype: DType, value: f64, saturate: bool, rounding: Rounding) -> u8 {
    if dtype == DType::F8E8M0 {
        return encode_scale(value, saturate, rounding);
    }
    let format = format(dtype);
    let sign = if value.is_sign_negative() { format.sign_bit() } else { 0 };
    if value.is_nan() {
        // Without a code for it NaN is negative zero, as in ml_dtypes.
        return format.nan.map_or(format.sign_bit(), |nan| if nan == 0x7f { nan | sign } else { nan });
    }
    let magnitude = value.abs();
    // The first code past the greatest finite one would be this far: from halfway there on, a value is too large.
    let last = format.magnitude(format.max);
    let step = last - format.magnitude(format.max - 1);
    let halfway = last + step / 2.0;
    let odd = format.max & 1 == 1;
    if magnitude > halfway || (magnitude == halfway && odd) {
        return match (saturate || format.nan.is_none(), format.infinity) {
            (true, _) => format.max | sign,
            (false, Some(infinity)) => infinity | sign,
            (false, None) => format.nan.map_or(format.max, |nan| if nan == 0x7f { nan | sign } else { nan }),
        };
    }
    let values = magnitudes(dtype);
    let above = values.partition_point(|&known| known < magnitude).min(usize::from(format.max));
    let below = above.saturating_sub(1);
    let (to_below, to_above) = (magnitude - values[below], values[above] - magnitude);
    let code = if to_below < to_above || (to_below == to_above && below % 2 == 0) { below } else { above } as u8;
    if code == 0 && !format.negative_zero { 0 } else { code | sign }
}

/// The values of the finite codes without a sign, rising.
fn magnitudes(dtype: DType) -> &'static [f64] {
    static TABLES: [OnceLock<Vec<f64>>; 5] = [const { OnceLock::new() }; 5];
    let which = match dtype {
        DType::F8E4M3Fn => 0,
        DType::F8E4M3Fnuz => 1,
        DType::F8E5M2 => 2,
        DType::F8E5M2Fnuz => 3,
        _ => 4,
    };
    TABLES[which].get_or_init(|| {
        let format = format(dtype);
        (0..=format.max).map(|code| format.magnitude(code)).collect()
    })
}

fn encode_scale(value: f64, saturate: bool, rounding: Rounding) -> u8 {
    if value.is_nan() || value.is_sign_negative() && value != 0.0 {
        return 0xff;
    }
    if value.is_infinite() {
        return if saturate { 0xfe } else { 0xff };
    }
    let exponent = if value == 0.0 { f64::NEG_INFINITY } else { value.log2() };
    let rounded = match rounding {
        Rounding::Up => exponent.ceil(),
        Rounding::Down => exponent.floor(),
        // By value, not by exponent: from 1.5 times a power of two on, the next one is as near.
        Rounding::Nearest => {
            let floor = exponent.floor();
            if value >= 1.5 * 2_f64.powf(floor) { floor + 1.0 } else { floor }
        }
    };
    if rounded > 127.0 {
        return if saturate { 0xfe } else { 0xff };
    }
    (rounded.max(-127.0) + 127.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_its_own_nearest() {
        for dtype in
            [DType::F8E4M3Fn, DType::F8E4M3Fnuz, DType::F8E5M2, DType::F8E5M2Fnuz, DType::F8E8M0, DType::F4E2M1]
        {
            let codes = if dtype == DType::F4E2M1 { 0..=15 } else { 0..=255_u8 };
            for code in codes {
                let value = decode(dtype, code);
                let again = encode(dtype, value, false, Rounding::Nearest);
                assert!(
                    value.is_nan() && decode(dtype, again).is_nan() || again == code,
                    "{dtype}: {code} is {value}, back {again}"
                );
            }
        }
    }

    #[test]
    fn values_past_the_end() {
        assert_eq!(decode(DType::F8E4M3Fn, encode(DType::F8E4M3Fn, 1e6, true, Rounding::Nearest)), 448.0);
        assert!(decode(DType::F8E4M3Fn, encode(DType::F8E4M3Fn, 1e6, false, Rounding::Nearest)).is_nan());
        assert_eq!(decode(DType::F8E5M2, encode(DType::F8E5M2, 1e6, false, Rounding::Nearest)), f64::INFINITY);
        assert_eq!(decode(DType::F8E4M3Fnuz, encode(DType::F8E4M3Fnuz, -1e6, true, Rounding::Nearest)), -240.0);
    }
}
