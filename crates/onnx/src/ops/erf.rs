//! The error function, to the last bit or two of an `f64`.
//!
//! The coefficients are those of FreeBSD's `s_erf.c`:
//! Copyright (C) 1993 by Sun Microsystems, Inc. All rights reserved. Developed at SunPro, a Sun Microsystems, Inc. business.
//! Permission to use, copy, modify, and distribute this software is freely granted, provided that this notice is preserved.

/// Near 0: `erf(x) = x + x · P(x²) / Q(x²)`.
const NEAR_0: ([f64; 5], [f64; 6]) = (
    [
        1.28379167095512558561e-01,
        -3.25042107247001499370e-01,
        -2.84817495755985104766e-02,
        -5.77027029648944159157e-03,
        -2.37630166566501626084e-05,
    ],
    [
        1.0,
        3.97917223959155352819e-01,
        6.50222499887672944485e-02,
        5.08130628187576562776e-03,
        1.32494738004321644526e-04,
        -3.96022827877536812320e-06,
    ],
);
/// Near 1: `erf(x) = c + P(x - 1) / Q(x - 1)`.
const C: f64 = 8.45062911510467529297e-01;
const NEAR_1: ([f64; 7], [f64; 7]) = (
    [
        -2.36211856075265944077e-03,
        4.14856118683748331666e-01,
        -3.72207876035701323847e-01,
        3.18346619901161753674e-01,
        -1.10894694282396677476e-01,
        3.54783043256182359371e-02,
        -2.16637559486879084300e-03,
    ],
    [
        1.0,
        1.06420880400844228286e-01,
        5.40397917702171048937e-01,
        7.18286544141962662868e-02,
        1.26171219808761642112e-01,
        1.36370839120290507362e-02,
        1.19844998467991074170e-02,
    ],
);
/// Up to 1 / 0.35: `erf(x) = 1 - exp(-x² - 0.5625 + P(x⁻²) / Q(x⁻²)) / x`.
const MIDDLE: ([f64; 8], [f64; 9]) = (
    [
        -9.86494403484714822705e-03,
        -6.93858572707181764372e-01,
        -1.05586262253232909814e+01,
        -6.23753324503260060396e+01,
        -1.62396669462573470355e+02,
        -1.84605092906711035994e+02,
        -8.12874355063065934246e+01,
        -9.81432934416914548592e+00,
    ],
    [
        1.0,
        1.96512716674392571292e+01,
        1.37657754143519042600e+02,
        4.34565877475229228821e+02,
        6.45387271733267880336e+02,
        4.29008140027567833386e+02,
        1.08635005541779435134e+02,
        6.57024977031928170135e+00,
        -6.04244152148580987438e-02,
    ],
);
/// Further out, the same form.
const FAR: ([f64; 7], [f64; 8]) = (
    [
        -9.86494292470009928597e-03,
        -7.99283237680523006574e-01,
        -1.77579549177547519889e+01,
        -1.60636384855821916062e+02,
        -6.37566443368389627722e+02,
        -1.02509513161107724954e+03,
        -4.83519191608651397019e+02,
    ],
    [
        1.0,
        3.03380607434824582924e+01,
        3.25792512996573918826e+02,
        1.53672958608443695994e+03,
        3.19985821950859553908e+03,
        2.55305040643316442583e+03,
        4.74528541206955367215e+02,
        -2.24409524465858183362e+01,
    ],
);

fn polynomial(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, &coefficient| sum * x + coefficient)
}

/// The error function.
pub(super) fn erf(x: f64) -> f64 {
    let size = x.abs();
    if size < 0.84375 {
        let z = x * x;
        return x + x * (polynomial(&NEAR_0.0, z) / polynomial(&NEAR_0.1, z));
    }
    let value = if size < 1.25 {
        C + polynomial(&NEAR_1.0, size - 1.0) / polynomial(&NEAR_1.1, size - 1.0)
    } else if size < 6.0 {
        let s = 1.0 / (x * x);
        let ratio = if size < 1.0 / 0.35 {
            polynomial(&MIDDLE.0, s) / polynomial(&MIDDLE.1, s)
        } else {
            polynomial(&FAR.0, s) / polynomial(&FAR.1, s)
        };
        1.0 - (-x * x - 0.5625 + ratio).exp() / size
    } else if x.is_nan() {
        return x;
    } else {
        1.0
    };
    value.copysign(x)
}

#[cfg(test)]
mod tests {
    use super::erf;

    #[test]
    fn known_values() {
        for (x, expected) in [
            (0.0, 0.0),
            (0.5, 0.5204998778130465),
            (1.0, 0.8427007929497149),
            (2.0, 0.9953222650189527),
            (-3.0, -0.9999779095030014),
            (f64::INFINITY, 1.0),
        ] {
            assert!((erf(x) - expected).abs() < 1e-15, "erf({x}) = {}", erf(x));
        }
        assert!(erf(f64::NAN).is_nan());
    }
}
