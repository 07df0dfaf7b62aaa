//! How far two numbers may be apart and still count as the same.

/// How far a number may be from the expected one: `|found - expected| ≤ atol + rtol × |expected|`, as `torch.allclose` and
/// `numpy.testing.assert_allclose` have it.
///
/// Not a number is close to not a number alone, and an infinity to itself alone, whatever the tolerance; a NaN and an infinity are
/// never close to a number, except that an infinite `atol` allows any difference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// The part that grows with the expected value.
    pub rtol: f64,
    /// The part that is allowed in any case.
    pub atol: f64,
}

impl Tolerance {
    /// Equal numbers alone.
    pub const EXACT: Self = Self { rtol: 0.0, atol: 0.0 };

    /// Whether a number is close enough to the expected one.
    pub fn allows(self, found: f64, expected: f64) -> bool {
        self.allows_gap(gap(found, expected), expected)
    }

    /// Whether a [`gap`] to the expected number is small enough.
    pub fn allows_gap(self, gap: f64, expected: f64) -> bool {
        gap == 0.0 || gap <= self.atol || gap.is_finite() && gap <= self.atol + self.rtol * expected.abs()
    }
}

/// How far two numbers are apart: 0 for equal ones, for two infinities of one sign and for two that are no numbers; infinite where
/// only one is no number.
pub fn gap(a: f64, b: f64) -> f64 {
    if a == b || a.is_nan() && b.is_nan() {
        return 0.0;
    }
    let gap = (a - b).abs();
    if gap.is_nan() { f64::INFINITY } else { gap }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_close_to_its_like_alone() {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        let wide = Tolerance { rtol: 1.0, atol: 1e300 };
        assert!(wide.allows(nan, nan) && wide.allows(inf, inf) && wide.allows(-inf, -inf));
        for (found, expected) in [(nan, 1.0), (1.0, nan), (inf, -inf), (1.0, inf), (inf, 1.0), (nan, inf), (inf, nan)] {
            assert!(!wide.allows(found, expected), "{found} {expected}");
        }
        assert!(Tolerance { rtol: 0.0, atol: inf }.allows(inf, 1.0));
        let exact = Tolerance::EXACT;
        assert!(exact.allows(0.0, -0.0) && !exact.allows(1.0, 1.0 + f64::EPSILON));
        assert!(
            Tolerance { rtol: 0.1, atol: 0.0 }.allows(11.0, 10.0)
                && !Tolerance { rtol: 0.1, atol: 0.0 }.allows(11.1, 10.0)
        );
    }
}
