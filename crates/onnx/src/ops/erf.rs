//! The error function, to the last bit or two of an `f64`.
//!
//! The coefficients are those of FreeBSD's `s_erf.c`:
//! Copyright (C) 1993 by Sun Microsystems, Inc. All rights reserved. Developed at SunPro, a Sun Microsystems, Inc. business.
//! Permission to use, copy, modify, and distribute this software is freely granted, provided that this notice is preserved.

/// Near 0: `erf(x) = x + x · P(x²) / Q(x²)`.
const NEAR_0: ([f64; 5], [f64; 6]) = (
    [0.12837916709551256, -0.3250421072470015, -0.02848174957559851, -0.005770270296489442, -2.3763016656650163e-05],
    [
        1.0,
        0.39791722395915535,
        0.0650222499887673,
        0.005081306281875766,
        0.00013249473800432164,
        -3.960228278775368e-06,
    ],
);
/// Near 1: `erf(x) = c + P(x - 1) / Q(x - 1)`.
const C: f64 = 0.8450629115104675;
const NEAR_1: ([f64; 7], [f64; 7]) = (
    [
        -0.0023621185607526594,
        0.41485611868374833,
        -0.3722078760357013,
        0.31834661990116175,
        -0.11089469428239668,
        0.035478304325618236,
        -0.002166375594868791,
    ],
    [
        1.0,
        0.10642088040084423,
        0.540397917702171,
        0.07182865441419627,
        0.12617121980876164,
        0.01363708391202905,
        0.011984499846799107,
    ],
);
/// Up to 1 / 0.35: `erf(x) = 1 - exp(-x² - 0.5625 + P(x⁻²) / Q(x⁻²)) / x`.
const MIDDLE: ([f64; 8], [f64; 9]) = (
    [
        -0.009864944034847148,
        -0.6938585727071818,
        -10.558626225323291,
        -62.375332450326006,
        -162.39666946257347,
        -184.60509290671104,
        -81.2874355063066,
        -9.814329344169145,
    ],
    [
        1.0,
        19.651271667439257,
        137.65775414351904,
        434.56587747522923,
        645.3872717332679,
        429.00814002756783,
        108.63500554177944,
        6.570249770319282,
        -0.0604244152148581,
    ],
);
/// Further out, the same form.
const FAR: ([f64; 7], [f64; 8]) = (
    [
        -0.0098649429247001,
        -0.799283237680523,
        -17.757954917754752,
        -160.63638485582192,
        -637.5664433683896,
        -1025.0951316110772,
        -483.5191916086514,
    ],
    [
        1.0,
        30.33806074348246,
        325.7925129965739,
        1536.729586084437,
        3199.8582195085955,
        2553.0504064331644,
        474.52854120695537,
        -22.44095244658582,
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
