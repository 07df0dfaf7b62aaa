//! Batch normalization with the statistics of the batch, and what follows it, in one operation.

mod backward;
mod channel;
mod forward;
mod sizes;

pub use sizes::{BatchNorm, BatchNormGradients, Normalised, Seen};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pointwise::{Pointwise, RELU};

    fn values(count: usize, step: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * step).sin() * 2.0 + 0.3).collect()
    }

    fn sizes() -> impl Iterator<Item = BatchNorm> {
        let all = [[1, 1, 2], [3, 2, 1], [16, 5, 4], [4, 3, 49], [2, 7, 95], [3, 4, 96], [2, 3, 700], [40, 2, 3000]];
        all.into_iter().map(|[batch, channels, pixels]| BatchNorm {
            batch,
            channels,
            pixels,
            epsilon: 1e-3,
            function: Pointwise::None,
        })
    }

    /// Output, mean and variance by the definition, in 64 bits.
    fn precise(norm: &BatchNorm, x: &[f64], weight: &[f32], bias: &[f32], residual: Option<&[f32]>) -> Vec<f64> {
        let channel = |at: usize| at / norm.pixels % norm.channels;
        let count = (norm.batch * norm.pixels) as f64;
        let mut mean = vec![0.0; norm.channels];
        x.iter().enumerate().for_each(|(at, x)| mean[channel(at)] += x / count);
        let mut variance = vec![0.0; norm.channels];
        x.iter().enumerate().for_each(|(at, x)| variance[channel(at)] += (x - mean[channel(at)]).powi(2) / count);
        let normed = x.iter().enumerate().map(|(at, x)| {
            let c = channel(at);
            let y = (x - mean[c]) / (variance[c] + f64::from(norm.epsilon)).sqrt();
            y * f64::from(weight[c]) + f64::from(bias[c]) + residual.map_or(0.0, |residual| residual[at].into())
        });
        normed.collect()
    }

    fn wide(values: &[f32]) -> Vec<f64> {
        values.iter().map(|&value| value.into()).collect()
    }

    #[test]
    fn forward_is_the_definition() {
        for norm in sizes() {
            let (x, weight, bias) =
                (values(norm.values(), 0.7), values(norm.channels, 1.3), values(norm.channels, 2.1));
            let residual = values(norm.values(), 0.11);
            for (function, residual) in
                [(Pointwise::None, None), (RELU, None), (RELU, Some(&residual[..])), (Pointwise::HardSwish, None)]
            {
                let norm = BatchNorm { function, ..norm };
                let found = norm.forward(&x, &weight, &bias, residual);
                let expected = precise(&norm, &wide(&x), &weight, &bias, residual);
                let mut expected: Vec<f32> = expected.into_iter().map(|value| value as f32).collect();
                function.apply(&mut expected);
                for (found, expected) in found.output.iter().zip(&expected) {
                    assert!((found - expected).abs() < 2e-4, "{norm:?}: {found} {expected}");
                }
                let first: Vec<f32> = (0..norm.batch).flat_map(|sample| x[norm.plane(sample, 0)].to_vec()).collect();
                let mean = first.iter().sum::<f32>() / first.len() as f32;
                let variance = first.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / first.len() as f32;
                assert!((found.mean[0] - mean).abs() < 1e-4 && (found.variance[0] - variance).abs() < 1e-3, "{norm:?}");
            }
        }
    }

    #[test]
    fn gradients_are_differences_of_the_definition() {
        for norm in sizes().filter(|norm| norm.values() < 3000) {
            let (x, weight, bias) =
                (values(norm.values(), 0.7), values(norm.channels, 1.3), values(norm.channels, 2.1));
            let (residual, grad) = (values(norm.values(), 0.11), values(norm.values(), 0.37));
            for (function, residual) in [
                (Pointwise::None, None),
                (RELU, None),
                (RELU, Some(&residual[..])),
                (Pointwise::None, Some(&residual[..])),
                (Pointwise::Silu, None),
            ] {
                let norm = BatchNorm { function, ..norm };
                let made = norm.forward(&x, &weight, &bias, residual);
                let seen = Seen {
                    input: &x,
                    weight: &weight,
                    bias: &bias,
                    mean: &made.mean,
                    variance: &made.variance,
                    output: residual.map(|_| &made.output[..]),
                };
                let found = norm.backward(&seen, grad.clone());
                // What goes into the function, weighted by its slope there, so that a bend is not crossed.
                let before = precise(&norm, &wide(&x), &weight, &bias, residual);
                let mut inner: Vec<f32> = before.iter().map(|&value| value as f32).collect();
                function.slopes(&mut inner);
                inner.iter_mut().zip(&grad).for_each(|(slope, grad)| *slope *= grad);
                let loss = |x: &[f64], weight: &[f32], bias: &[f32]| -> f64 {
                    let made = precise(&norm, x, weight, bias, residual);
                    made.iter().zip(&inner).map(|(value, inner)| value * f64::from(*inner)).sum()
                };
                let near = |found: f32, expected: f64, what: &str| {
                    let bound = 2e-3 * (1.0 + expected.abs());
                    assert!((f64::from(found) - expected).abs() < bound, "{norm:?} {what}: {found} {expected}");
                };
                for at in (0..norm.values()).step_by(norm.values() / 23 + 1) {
                    let moved = |by: f64| {
                        let mut x = wide(&x);
                        x[at] += by;
                        loss(&x, &weight, &bias)
                    };
                    near(found.input[at], (moved(1e-4) - moved(-1e-4)) / 2e-4, "input");
                }
                for channel in 0..norm.channels {
                    let moved = |values: &[f32], by: f32| {
                        let mut values = values.to_vec();
                        values[channel] += by;
                        values
                    };
                    let by_weight = |by| loss(&wide(&x), &moved(&weight, by), &bias);
                    let by_bias = |by| loss(&wide(&x), &weight, &moved(&bias, by));
                    near(found.weight[channel], (by_weight(0.25) - by_weight(-0.25)) / 0.5, "weight");
                    near(found.bias[channel], (by_bias(0.25) - by_bias(-0.25)) / 0.5, "bias");
                }
                match (residual, found.residual) {
                    (Some(_), Some(found)) => {
                        found.iter().zip(&inner).for_each(|(a, b)| near(*a, (*b).into(), "residual"))
                    }
                    (None, None) => {}
                    _ => panic!("a gradient for what was added, and for nothing else"),
                }
            }
        }
    }
}
