//! Values that two engines compute for the same input, and how far they are apart.

use std::fmt;

pub use rekindle_state::Tolerance;
use rekindle_state::gap;

/// A tensor of 32-bit floats.
#[derive(Debug, Clone, PartialEq)]
pub struct Values {
    /// The size of each axis.
    pub shape: Vec<usize>,
    /// The values in row-major order.
    pub data: Vec<f32>,
}

/// What an export may be off by, where nothing else is asked for.
///
/// Where the greatest expected value is more than 1, the absolute part grows with it: a value near 0 that is a sum of large ones
/// has the rounding of the large ones, and among thousands of scores some are near 0.
pub const USUAL: Tolerance = Tolerance { rtol: 1e-3, atol: 1e-5 };

/// The greatest differences between two tensors.
#[derive(Debug, Clone, PartialEq)]
pub enum Difference {
    /// Their shapes differ.
    Shape {
        /// The shape that was computed.
        found: Vec<usize>,
        /// The shape that it should have.
        expected: Vec<usize>,
    },
    /// Their values differ at most by this.
    Values {
        /// The greatest difference.
        absolute: f64,
        /// The greatest difference as a part of the expected value.
        relative: f64,
        /// How many values are outside the tolerance.
        outside: usize,
        /// Number of values.
        count: usize,
    },
}

impl Difference {
    /// Compares what an engine found with what is expected.
    pub fn between(found: &Values, expected: &Values, tolerance: Tolerance) -> Self {
        if found.shape != expected.shape {
            return Self::Shape { found: found.shape.clone(), expected: expected.shape.clone() };
        }
        let (mut absolute, mut relative, mut outside) = (0.0_f64, 0.0_f64, 0);
        let greatest = expected
            .data
            .iter()
            .map(|value| f64::from(value.abs()))
            .filter(|value| value.is_finite())
            .fold(1.0, f64::max);
        let allowed = Tolerance { atol: tolerance.atol * greatest, ..tolerance };
        for (&found, &expected) in found.data.iter().zip(&expected.data) {
            let (found, expected) = (f64::from(found), f64::from(expected));
            let difference = gap(found, expected);
            if difference == 0.0 {
                continue;
            }
            absolute = absolute.max(difference);
            if expected != 0.0 {
                relative = relative.max(difference / expected.abs());
            }
            outside += usize::from(!allowed.allows_gap(difference, expected));
        }
        Self::Values { absolute, relative, outside, count: expected.data.len() }
    }

    /// Whether the values are close enough.
    pub fn is_small(&self) -> bool {
        matches!(self, Self::Values { outside: 0, .. })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape { found, expected } => write!(f, "shape {found:?} instead of {expected:?}"),
            Self::Values { absolute, relative, outside, count } => {
                write!(f, "greatest difference {absolute:.1e}, relative {relative:.1e}")?;
                if *outside > 0 { write!(f, ", {outside} of {count} values too far off") } else { Ok(()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(data: &[f32]) -> Values {
        Values { shape: vec![data.len()], data: data.to_vec() }
    }

    fn small(found: &[f32], expected: &[f32]) -> bool {
        Difference::between(&values(found), &values(expected), USUAL).is_small()
    }

    #[test]
    fn tolerances_are_those_of_numpy() {
        assert!(small(&[1.0009], &[1.0]) && !small(&[1.0012], &[1.0]));
        assert!(small(&[9e-6], &[0.0]) && !small(&[1.1e-5], &[0.0]));
        // The absolute part is of the greatest value.
        assert!(
            small(&[10.0, 9e-5], &[10.0, 0.0])
                && !small(&[10.0, 1.1e-4], &[10.0, 0.0])
                && !small(&[0.1, 1.1e-5], &[0.1, 0.0])
        );
        assert!(small(&[f32::NAN], &[f32::NAN]) && !small(&[f32::NAN], &[1.0]) && !small(&[1.0], &[f32::NAN]));
        assert!(
            small(&[f32::INFINITY], &[f32::INFINITY])
                && !small(&[1.0], &[f32::INFINITY])
                && !small(&[f32::INFINITY], &[1.0])
        );
        let other = Difference::between(&values(&[1.0]), &values(&[1.0, 2.0]), USUAL);
        assert!(!other.is_small());
        assert_eq!(other.to_string(), "shape [1] instead of [2]");
    }
}
