//! Functions of single values and of pairs, in place.

use pulp::{Simd, WithSimd};

use crate::arch::Arch;
use crate::functions::{erf, exp, gelu, sigmoid, tanh};
use crate::parallel::{Shared, alone, each as tasks, threads};

/// Values that one thread does at a time.
const PIECE: usize = 1 << 14;

/// A function of single values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    /// `|x|`
    Abs,
    /// The error function.
    Erf,
    /// `e^x`
    Exp,
    /// `x` times the normal distribution's part below it.
    Gelu,
    /// `-x`
    Neg,
    /// `1 / x`
    Reciprocal,
    /// `max(0, x)`; not a number stays what it is.
    Relu,
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// The root.
    Sqrt,
    /// The square.
    Square,
    /// The hyperbolic tangent.
    Tanh,
}

/// A function of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `a / b`
    Div,
}

impl Unary {
    /// About as many operations a value takes.
    fn cost(self) -> usize {
        match self {
            Self::Abs | Self::Neg | Self::Relu | Self::Square => 4,
            Self::Reciprocal | Self::Sqrt => 8,
            Self::Erf | Self::Exp | Self::Gelu | Self::Sigmoid | Self::Tanh => 24,
        }
    }

    /// Puts the function of each value in its place.
    pub fn apply(self, values: &mut [f32]) {
        let arch = Arch::new();
        pieces(values, PIECE, self.cost(), |_, values| arch.dispatch(Each { function: self, values }));
    }
}

/// Calls `work` with the number and the values of each piece of `piece` values, on several threads if that is worth it.
fn pieces(values: &mut [f32], piece: usize, cost: usize, work: impl Fn(usize, &mut [f32]) + Sync + Send) {
    let (len, shared) = (values.len(), Shared::new(values));
    tasks(len.div_ceil(piece.max(1)), len * cost, |task| {
        let start = task * piece;
        #[allow(unsafe_code)]
        // SAFETY: each task writes a piece of its own inside of the slice.
        let values = unsafe { std::slice::from_raw_parts_mut(shared.at(start), piece.min(len - start)) };
        work(task, values);
    });
}

struct Each<'a> {
    function: Unary,
    values: &'a mut [f32],
}

impl WithSimd for Each<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let values = self.values;
        match self.function {
            Unary::Abs => each(values, f32::abs),
            Unary::Erf => each(values, erf),
            Unary::Exp => each(values, exp),
            Unary::Gelu => each(values, gelu),
            Unary::Neg => each(values, |x| -x),
            Unary::Reciprocal => each(values, |x| 1.0 / x),
            Unary::Relu => each(values, |x| if x < 0.0 { 0.0 } else { x }),
            Unary::Sigmoid => each(values, sigmoid),
            Unary::Sqrt => each(values, f32::sqrt),
            Unary::Square => each(values, |x| x * x),
            Unary::Tanh => each(values, tanh),
        }
    }
}

#[inline(always)]
fn each(values: &mut [f32], function: impl Fn(f32) -> f32) {
    // Loops, here and below: what a closure is passed to may not be compiled for the same vectors.
    for value in values {
        *value = function(*value);
    }
}

/// How the second operand lies beside the first, whose axes are in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beside<'a> {
    /// The first operand's axes.
    pub shape: &'a [usize],
    /// For each axis, how far apart the second operand's values are: zero where there is only one.
    pub strides: &'a [usize],
}

impl Binary {
    /// Puts the function of each value of `left` and the one of `right` beside it in the former's place; `turned` is the function with
    /// its operands the other way round.
    ///
    /// # Panics
    /// When the axes are not those of `left`, or reach past `right`.
    pub fn apply(self, turned: bool, left: &mut [f32], right: &[f32], beside: Beside<'_>) {
        let Beside { shape, strides } = beside;
        assert_eq!(shape.len(), strides.len(), "a stride for each axis");
        assert_eq!(left.len(), shape.iter().product::<usize>(), "as many values as the shape has");
        let arch = Arch::new();
        let run = |values: &mut [f32], start: usize, shape: &[usize], strides: &[usize]| {
            arch.dispatch(Pairs { function: self, turned, left: values, right: &right[start..], shape, strides });
        };
        match (shape, strides) {
            ([_], &[stride]) if !alone(left.len() * 4) => {
                pieces(left, PIECE, 4, |at, values| run(values, at * PIECE * stride, &[values.len()], strides));
            }
            ([first, rest @ ..], &[stride, ..]) if *first > 1 && !alone(left.len() * 4) => {
                // A few of the first axis at a time.
                let rows: usize = rest.iter().product();
                let count = (PIECE / rows.max(1)).clamp(1, first.div_ceil(threads()));
                let shape = |len: usize| -> Vec<usize> { [&[len / rows.max(1)], rest].concat() };
                pieces(left, rows * count, 4, |at, values| {
                    run(values, at * count * stride, &shape(values.len()), strides);
                });
            }
            _ => run(left, 0, shape, strides),
        }
    }
}

struct Pairs<'a> {
    function: Binary,
    turned: bool,
    left: &'a mut [f32],
    right: &'a [f32],
    shape: &'a [usize],
    strides: &'a [usize],
}

impl WithSimd for Pairs<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { left, right, shape, strides, .. } = self;
        match (self.function, self.turned) {
            (Binary::Add, _) => pairs(left, right, shape, strides, &|a, b| a + b),
            (Binary::Sub, false) => pairs(left, right, shape, strides, &|a, b| a - b),
            (Binary::Sub, true) => pairs(left, right, shape, strides, &|a, b| b - a),
            (Binary::Mul, _) => pairs(left, right, shape, strides, &|a, b| a * b),
            (Binary::Div, false) => pairs(left, right, shape, strides, &|a, b| a / b),
            (Binary::Div, true) => pairs(left, right, shape, strides, &|a, b| b / a),
        }
    }
}

#[inline(always)]
fn pairs(left: &mut [f32], right: &[f32], shape: &[usize], strides: &[usize], function: &impl Fn(f32, f32) -> f32) {
    let (rows, row, stride) = match (shape, strides) {
        ([.., size], [.., stride]) => (left.len() / size.max(&1), *size, *stride),
        _ => (left.len(), 1, 0),
    };
    if row == 0 {
        return;
    }
    // Where the current row of the second operand begins, counted axis by axis.
    let (mut start, mut counts) = (0, vec![0; shape.len().saturating_sub(1)]);
    for (at, values) in left.chunks_exact_mut(row).enumerate() {
        if stride == 0 {
            let other = right[start];
            for value in values {
                *value = function(*value, other);
            }
        } else {
            for (value, other) in values.iter_mut().zip(&right[start..][..row]) {
                *value = function(*value, *other);
            }
        }
        if at + 1 == rows {
            break;
        }
        for axis in (0..counts.len()).rev() {
            counts[axis] += 1;
            start += strides[axis];
            if counts[axis] < shape[axis] {
                break;
            }
            start -= strides[axis] * shape[axis];
            counts[axis] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn long_and_short_slices_give_the_same() {
        let functions = [
            Unary::Abs,
            Unary::Erf,
            Unary::Exp,
            Unary::Gelu,
            Unary::Neg,
            Unary::Reciprocal,
            Unary::Relu,
            Unary::Sigmoid,
            Unary::Sqrt,
        ];
        for function in functions.into_iter().chain([Unary::Square, Unary::Tanh]) {
            let values: Vec<f32> = (0..300_001).map(|i| (i as f32 * 0.37).sin() * 4.0).collect();
            let (mut whole, mut single) = (values.clone(), values);
            function.apply(&mut whole);
            single.chunks_mut(1).for_each(|value| function.apply(value));
            let same = whole
                .iter()
                .zip(&single)
                .all(|(a, b)| a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-6 * b.abs());
            assert!(same, "{function:?}");
        }
        let mut values = [f32::NAN, -1.0, 2.0, f32::NEG_INFINITY];
        Unary::Relu.apply(&mut values);
        assert!(values[0].is_nan() && values[1..] == [0.0, 2.0, 0.0]);
    }

    proptest! {
        #[test]
        fn pairs_are_found_along_every_axis(
            axes in prop::collection::vec((1usize..6, any::<bool>()), 0..5),
            last in prop::sample::select(vec![1usize, 7, 40_000]),
            (function, turned) in (prop::sample::select(vec![Binary::Add, Binary::Sub, Binary::Mul, Binary::Div]), any::<bool>()),
            stretched in any::<bool>(),
        ) {
            let last = if axes.len() > 2 { last.min(200) } else { last };
            let axes: Vec<(usize, bool)> = axes.into_iter().chain([(last, stretched)]).collect();
            let shape: Vec<usize> = axes.iter().map(|(size, _)| *size).collect();
            let mut strides = vec![0; axes.len()];
            let mut count = 1;
            for (axis, (size, stretched)) in axes.iter().enumerate().rev() {
                if !stretched {
                    strides[axis] = count;
                    count *= size;
                }
            }
            let right: Vec<f32> = (0..count).map(|i| i as f32 + 0.5).collect();
            let left: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| i as f32 - 3.25).collect();
            let mut found = left.clone();
            function.apply(turned, &mut found, &right, Beside { shape: &shape, strides: &strides });
            for (at, (found, a)) in found.iter().zip(&left).enumerate() {
                let (mut rest, mut from) = (at, 0);
                for axis in (0..shape.len()).rev() {
                    from += rest % shape[axis] * strides[axis];
                    rest /= shape[axis];
                }
                let (a, b) = if turned { (right[from], *a) } else { (*a, right[from]) };
                let expected = match function {
                    Binary::Add => a + b,
                    Binary::Sub => a - b,
                    Binary::Mul => a * b,
                    Binary::Div => a / b,
                };
                prop_assert_eq!(*found, expected);
            }
        }
    }
}
