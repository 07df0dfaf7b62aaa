//! Codes of floats, floats of codes, and functions of codes.

use pulp::{Simd, WithSimd};

use super::{between, code};
use crate::Pointwise;
use crate::arch::Arch;
use crate::elementwise::Binary;
use crate::parallel::{Shared, each};

/// 8-bit values.
#[derive(Clone, Copy, Debug)]
pub enum Codes<'a> {
    /// From 0 to 255.
    Unsigned(&'a [u8]),
    /// From -128 to 127.
    Signed(&'a [i8]),
}

impl<'a> Codes<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As bytes, whatever they mean.
    pub fn bytes(&self) -> &'a [u8] {
        match *self {
            Self::Unsigned(values) => values,
            #[allow(unsafe_code)]
            // SAFETY: both types are one byte, any bits of which are a value.
            Self::Signed(values) => unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) },
        }
    }

    /// What makes unsigned codes of them by exclusive or: they are then greater by as much, as a signed number.
    pub(super) fn flip(&self) -> u8 {
        match self {
            Self::Unsigned(_) => 0,
            Self::Signed(_) => 128,
        }
    }

    /// From one value on.
    pub(super) fn from(self, start: usize) -> Self {
        match self {
            Self::Unsigned(values) => Self::Unsigned(&values[start..]),
            Self::Signed(values) => Self::Signed(&values[start..]),
        }
    }

    /// One value.
    pub(super) fn at(&self, index: usize) -> i32 {
        match self {
            Self::Unsigned(values) => i32::from(values[index]),
            Self::Signed(values) => i32::from(values[index]),
        }
    }
}

/// What codes stand for: a code is `(code - zero) * scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantization {
    /// The float of one step.
    pub scale: f32,
    /// The code of zero.
    pub zero: i32,
    /// Whether codes are from -128 to 127, not from 0 to 255.
    pub signed: bool,
}

impl Quantization {
    /// The codes' ends, less the zero point.
    fn ends(&self) -> (f32, f32) {
        let (least, greatest) = if self.signed { (-128, 127) } else { (0, 255) };
        ((least - self.zero) as f32, (greatest - self.zero) as f32)
    }

    #[inline(always)]
    fn code(&self, value: f32, (low, high): (f32, f32)) -> u8 {
        code(between(value / self.scale, low, high), self.zero)
    }

    /// What makes unsigned codes of these, and the zero point after that.
    fn unsigned(&self) -> (u8, f32) {
        if self.signed { (128, (self.zero + 128) as f32) } else { (0, self.zero as f32) }
    }
}

/// Values that one thread does at a time.
const PIECE: usize = 1 << 13;

/// Calls `work` with pieces of `out`, and where each begins, compiled for the widest vectors.
pub(super) fn pieces<T: Copy + Send>(out: &mut [T], cost: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    let (len, shared) = (out.len(), Shared::new(out));
    let arch = Arch::new();
    each(len.div_ceil(PIECE), len * cost, |task| {
        let start = task * PIECE;
        #[allow(unsafe_code)]
        // SAFETY: each task writes a piece of its own inside of the slice.
        let out = unsafe { std::slice::from_raw_parts_mut(shared.at(start), PIECE.min(len - start)) };
        arch.dispatch(Run(
            #[inline(always)]
            || work(start, out),
        ));
    });
}

/// A closure compiled for a vector unit; it and all that it calls must be `#[inline(always)]`.
pub(super) struct Run<F>(pub F);

impl<R, F: FnOnce() -> R> WithSimd for Run<F> {
    type Output = R;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> R {
        self.0()
    }
}

/// The codes of floats.
///
/// # Panics
/// When there are more floats than codes.
pub fn quantize(values: &[f32], by: Quantization, out: &mut [u8]) {
    let ends = by.ends();
    pieces(
        out,
        4,
        #[inline(always)]
        |start, out| {
            for (out, value) in out.iter_mut().zip(&values[start..]) {
                *out = by.code(*value, ends);
            }
        },
    );
}

/// The floats of codes: as bytes, whether they are signed or not.
///
/// # Panics
/// When there are fewer codes than floats.
pub fn dequantize(codes: &[u8], by: Quantization, out: &mut [f32]) {
    let (flip, zero) = by.unsigned();
    pieces(
        out,
        2,
        #[inline(always)]
        |start, out| {
            for (out, code) in out.iter_mut().zip(&codes[start..]) {
                *out = (f32::from(code ^ flip) - zero) * by.scale;
            }
        },
    );
}

/// Codes of one scale as codes of another, in rows: `rows` rows of `row` codes, from one every `out_row` codes of `out` on.
///
/// # Panics
/// When a slice is too short.
pub fn requantize(codes: &[u8], from: Quantization, to: Quantization, row: usize, out: &mut [u8], out_row: usize) {
    let (flip, zero) = from.unsigned();
    let ends = to.ends();
    let rows = codes.chunks_exact(row.max(1)).zip(out.chunks_mut(out_row.max(1)));
    let same = from == to;
    let arch = Arch::new();
    arch.dispatch(Run(
        #[inline(always)]
        || {
            for (codes, out) in rows {
                if same {
                    out[..row].copy_from_slice(codes);
                    continue;
                }
                for (out, code) in out[..row].iter_mut().zip(codes) {
                    *out = to.code((f32::from(code ^ flip) - zero) * from.scale, ends);
                }
            }
        },
    ));
}

/// The code that a table has for each code.
///
/// # Panics
/// When there are fewer codes than outputs.
pub fn table(codes: &[u8], table: &[u8; 256], out: &mut [u8]) {
    pieces(out, 2, |start, out| {
        for (out, code) in out.iter_mut().zip(&codes[start..]) {
            *out = table[usize::from(*code)];
        }
    });
}

/// A function of two codes each, as a code: `b` has as many codes as `a`, or is repeated.
///
/// # Panics
/// When `a` has fewer codes than `out`, or `b` none.
pub fn pair(function: Binary, a: (&[u8], Quantization), b: (&[u8], Quantization), to: Quantization, out: &mut [u8]) {
    match function {
        Binary::Add => pairs(
            a,
            b,
            to,
            out,
            #[inline(always)]
            |a, b| a + b,
        ),
        Binary::Sub => pairs(
            a,
            b,
            to,
            out,
            #[inline(always)]
            |a, b| a - b,
        ),
        Binary::Mul => pairs(
            a,
            b,
            to,
            out,
            #[inline(always)]
            |a, b| a * b,
        ),
        Binary::Div => pairs(
            a,
            b,
            to,
            out,
            #[inline(always)]
            |a, b| a / b,
        ),
    }
}

#[inline(always)]
fn pairs(
    (a, a_by): (&[u8], Quantization),
    (b, b_by): (&[u8], Quantization),
    to: Quantization,
    out: &mut [u8],
    function: impl Fn(f32, f32) -> f32 + Sync,
) {
    let ((a_flip, a_zero), (b_flip, b_zero)) = (a_by.unsigned(), b_by.unsigned());
    let ends = to.ends();
    let len = out.len();
    pieces(
        out,
        8,
        #[inline(always)]
        |start, out| {
            let one = |out: &mut u8, a: &u8, b: &u8| {
                let a = (f32::from(a ^ a_flip) - a_zero) * a_by.scale;
                let b = (f32::from(b ^ b_flip) - b_zero) * b_by.scale;
                *out = to.code(function(a, b), ends);
            };
            let a = &a[start..];
            if b.len() == len {
                out.iter_mut().zip(a).zip(&b[start..]).for_each(|((out, a), b)| one(out, a, b));
            } else if let [b] = b {
                out.iter_mut().zip(a).for_each(|(out, a)| one(out, a, b));
            } else {
                // A row at a time, from wherever this piece begins in it.
                let (mut at, mut left) = (start % b.len(), &mut *out);
                let mut a = a;
                while !left.is_empty() {
                    let count = (b.len() - at).min(left.len());
                    let (row, rest) = left.split_at_mut(count);
                    row.iter_mut().zip(a).zip(&b[at..]).for_each(|((out, a), b)| one(out, a, b));
                    (left, a, at) = (rest, &a[count..], 0);
                }
            }
        },
    );
}

/// Codes from 0 to 255 of floats by a scale and a zero point that come from their range, which is made to hold 0; gives both.
///
/// # Panics
/// When there are more floats than codes.
pub fn dynamic(values: &[f32], out: &mut [u8]) -> (f32, u8) {
    let (least, greatest) = Arch::new().dispatch(Run(
        #[inline(always)]
        || range(values),
    ));
    let scale = (greatest - least) / 255.0;
    // Values that are all 0 have no range: any scale does.
    let zero = if scale == 0.0 { 0.0 } else { (-least / scale).clamp(0.0, 255.0).round_ties_even() };
    let by = Quantization { scale: if scale == 0.0 { 1.0 } else { scale }, zero: zero as i32, signed: false };
    quantize(values, by, out);
    (scale, zero as u8)
}

#[inline(always)]
fn range(values: &[f32]) -> (f32, f32) {
    let (mut least, mut greatest) = ([0_f32; 32], [0_f32; 32]);
    let (groups, rest) = values.as_chunks::<32>();
    for group in groups {
        for ((least, greatest), value) in least.iter_mut().zip(&mut greatest).zip(group) {
            *least = if *value < *least { *value } else { *least };
            *greatest = if *value > *greatest { *value } else { *greatest };
        }
    }
    let least = least.iter().chain(rest).fold(0_f32, |least, value| least.min(*value));
    (least, greatest.iter().chain(rest).fold(0_f32, |greatest, value| greatest.max(*value)))
}

/// A function of floats as one of codes.
pub(crate) fn of_function(function: Pointwise, from: Quantization, to: Quantization) -> [u8; 256] {
    let codes: [u8; 256] = std::array::from_fn(|code| code as u8);
    let mut values = [0.0; 256];
    dequantize(&codes, from, &mut values);
    function.apply(&mut values);
    let mut table = [0; 256];
    quantize(&values, to, &mut table);
    table
}

impl Quantization {
    /// The code of each code (as bytes) under a function of what they stand for.
    pub fn table(self, function: Pointwise, to: Self) -> [u8; 256] {
        of_function(function, self, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(byte: u8, by: Quantization) -> f32 {
        let number = if by.signed { i32::from(byte as i8) } else { i32::from(byte) };
        (number - by.zero) as f32 * by.scale
    }

    fn coded(value: f32, by: Quantization) -> i32 {
        let (least, greatest) = if by.signed { (-128.0, 127.0) } else { (0.0, 255.0) };
        ((value / by.scale).round_ties_even() + by.zero as f32).clamp(least, greatest) as i32
    }

    fn number(byte: u8, by: Quantization) -> i32 {
        if by.signed { i32::from(byte as i8) } else { i32::from(byte) }
    }

    fn quantization() -> impl Strategy<Value = Quantization> {
        (any::<bool>(), 0..256, 0.001f32..2.0).prop_map(|(signed, zero, scale)| Quantization {
            scale,
            zero: if signed { zero - 128 } else { zero },
            signed,
        })
    }

    proptest! {
        #[test]
        fn codes_are_those_of_the_definition(
            (by, other, to) in (quantization(), quantization(), quantization()),
            len in 1usize..20_000,
            seed in any::<u32>(),
        ) {
            let byte = |i: usize| ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8;
            let a: Vec<u8> = (0..len).map(byte).collect();
            let b: Vec<u8> = (0..len).map(|i| byte(i + 7919)).collect();
            let mut floats = vec![0.0; len];
            dequantize(&a, by, &mut floats);
            prop_assert!(a.iter().zip(&floats).all(|(a, found)| value(*a, by) == *found));
            let mut again = vec![0; len];
            quantize(&floats, by, &mut again);
            prop_assert_eq!(&a, &again);
            let mut out = vec![0; len];
            for (count, b) in [(len, &b[..]), (len, &b[..1]), (len, &b[..len.min(37)])] {
                pair(Binary::Add, (&a, by), (b, other), to, &mut out[..count]);
                for (i, found) in out.iter().enumerate() {
                    let expected = coded(value(a[i], by) + value(b[i % b.len()], other), to);
                    prop_assert_eq!(number(*found, to), expected);
                }
            }
            requantize(&a, by, to, len, &mut out, len);
            let tanh = by.table(Pointwise::None, to);
            let mut looked = vec![0; len];
            table(&a, &tanh, &mut looked);
            prop_assert_eq!(&out, &looked);
            prop_assert!(a.iter().zip(&out).all(|(a, found)| coded(value(*a, by), to) == number(*found, to)));
        }

        #[test]
        fn ranges_hold_all_values(values in prop::collection::vec(-100f32..100.0, 1..200)) {
            let mut codes = vec![0; values.len()];
            let (scale, zero) = dynamic(&values, &mut codes);
            for (value, code) in values.iter().zip(codes) {
                let found = (f32::from(code) - f32::from(zero)) * scale;
                prop_assert!((found - value).abs() <= scale * 1.001);
            }
        }
    }

    #[test]
    fn what_is_no_number_has_a_code() {
        let by = Quantization { scale: 0.5, zero: 3, signed: false };
        let mut out = [9; 4];
        quantize(&[f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e30], by, &mut out);
        assert_eq!(out, [255, 0, 0, 255]);
        assert_eq!(dynamic(&[0.0; 3], &mut out[..3]), (0.0, 0));
    }
}
