//! The gradients against the plain loops, on random geometries and on every instruction set of this processor.

use proptest::prelude::*;

use crate::lanes::Isa;
use crate::{Conv2d, ShapeError, naive};

/// Values without a pattern, between -1 and 1.
pub fn values(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// Asserts that all values are within 2e-5 of the largest.
fn assert_close(what: &str, shape: &Conv2d, isa: Isa, found: &[f32], expected: &[f64]) {
    let scale = expected.iter().fold(1.0f64, |most, value| most.max(value.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (f64::from(*found) - expected).abs() <= 2e-5 * scale,
            "{what}[{i}] is {found}, expected {expected}: {shape:?}, {isa:?}"
        );
    }
}

/// Compares all three gradients with the definition.
fn compare(shape: &Conv2d) {
    let input = values(shape.input_len(), 1);
    let weight = values(shape.weight_len(), 2);
    let grad = values(shape.output_len(), 3);
    let to_input = naive::grad_input(shape, &grad, &weight);
    let to_weight = naive::grad_weight(shape, &input, &grad);
    for isa in Isa::available() {
        let found = shape.grad_input_at(isa, &grad, &weight).unwrap();
        assert_eq!(found.len(), shape.input_len());
        assert_close("grad_input", shape, isa, &found, &to_input);
        let found = shape.grad_weight_at(isa, &input, &grad).unwrap();
        assert_eq!(found.len(), shape.weight_len());
        assert_close("grad_weight", shape, isa, &found, &to_weight);
    }
    let mut found = vec![f32::NAN; shape.out_channels];
    shape.grad_bias(&grad, &mut found).unwrap();
    let pixels: usize = shape.output().iter().product();
    for (channel, found) in found.iter().enumerate() {
        let planes = grad.chunks_exact(pixels).skip(channel).step_by(shape.out_channels);
        let expected: f64 = planes.flatten().map(|value| f64::from(*value)).sum();
        assert!(
            (f64::from(*found) - expected).abs() <= 2e-5 * expected.abs().max(1.0),
            "grad_bias[{channel}]: {shape:?}"
        );
    }
}

/// Geometries small enough for the definition, or for an interpreter.
fn geometries() -> impl Strategy<Value = Conv2d> {
    let pair = |range: std::ops::RangeInclusive<usize>| [range.clone(), range];
    let (most, side) = if cfg!(miri) { (3, 6) } else { (9, 19) };
    let channels = (1usize..=3, 1usize..=most, 1usize..=most);
    let batch = prop_oneof![3 => 0usize..=5, 1 => 6usize..=if cfg!(miri) { 18 } else { 34 }];
    (batch, channels, pair(1..=side), pair(1..=5), pair(1..=3), [pair(0..=4), pair(0..=4)], pair(1..=3))
        .prop_filter_map(
            "the kernel fits",
            |(batch, (groups, group_in, group_out), input, kernel, stride, padding, dilation)| {
                let (in_channels, out_channels) = (groups * group_in, groups * group_out);
                let shape =
                    Conv2d { batch, in_channels, out_channels, input, kernel, stride, padding, dilation, groups };
                shape.check().is_ok().then_some(shape)
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { ProptestConfig::default().cases }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_geometries_agree_with_the_definition(shape in geometries()) {
        compare(&shape);
    }
}

fn square(batch: usize, channels: [usize; 2], side: usize, kernel: usize, padding: usize) -> Conv2d {
    Conv2d {
        batch,
        in_channels: channels[0],
        out_channels: channels[1],
        input: [side; 2],
        kernel: [kernel; 2],
        stride: [1; 2],
        padding: [[padding; 2]; 2],
        dilation: [1; 2],
        groups: 1,
    }
}

#[test]
#[cfg_attr(miri, ignore = "too many products for an interpreter")]
fn layers_of_networks_agree_with_the_definition() {
    for shape in [
        square(3, [1, 16], 28, 3, 0),
        square(17, [3, 6], 21, 5, 0),
        square(9, [6, 16], 14, 5, 0),
        square(2, [20, 33], 32, 3, 1),
        square(33, [10, 11], 6, 7, 3),
        square(65, [10, 11], 1, 7, 3),
        square(1, [3, 9], 67, 3, 1),
        square(500, [4, 8], 5, 3, 1),
        Conv2d { stride: [2, 1], dilation: [1, 2], groups: 2, ..square(31, [8, 24], 9, 5, 4) },
        Conv2d { stride: [2; 2], ..square(2, [3, 8], 40, 7, 3) },
        Conv2d { stride: [2; 2], ..square(20, [8, 16], 8, 1, 0) },
        Conv2d { groups: 12, ..square(2, [12, 24], 17, 3, 1) },
    ] {
        compare(&shape);
    }
}

#[test]
fn extreme_geometries_need_no_extreme_memory() {
    const FAR: usize = 1_000_000_000;
    let base = square(2, [2, 3], 1, 3, 0);
    compare(&Conv2d { padding: [[FAR; 2]; 2], dilation: [FAR; 2], ..base });
    compare(&Conv2d { padding: [[FAR; 2]; 2], stride: [FAR; 2], ..base });
    compare(&Conv2d { input: [5, 4], kernel: [1, 1], padding: [[0, FAR]; 2], stride: [usize::MAX; 2], ..base });
    compare(&Conv2d { padding: [[3 * FAR, 0], [0, 3 * FAR]], stride: [FAR + 7; 2], dilation: [FAR; 2], ..base });
}

#[test]
fn a_batch_of_none_has_gradients_of_zero() {
    compare(&square(0, [2, 3], 5, 3, 1));
}

#[test]
fn slices_of_another_length_are_refused() {
    let shape = square(1, [1, 1], 3, 3, 1);
    let nine = [0.0; 9];
    let length = |what| ShapeError::Length { what, expected: 9, found: 8 };
    assert_eq!(shape.grad_input(&nine[..8], &nine), Err(length("the output's gradient")));
    assert_eq!(shape.grad_input(&nine, &nine[..8]), Err(length("the weights")));
    assert_eq!(shape.grad_weight(&nine[..8], &nine), Err(length("the input")));
    assert_eq!(shape.grad_weight(&nine, &nine[..8]), Err(length("the output's gradient")));
    assert_eq!(shape.grad_bias(&nine[..8], &mut []), Err(length("the output's gradient")));
}

#[test]
#[cfg_attr(miri, ignore = "too many products for an interpreter")]
fn the_number_of_threads_changes_no_bit() {
    let shape = square(13, [5, 9], 15, 3, 1);
    let (input, grad, weight) =
        (values(shape.input_len(), 1), values(shape.output_len(), 2), values(shape.weight_len(), 3));
    let results = [1, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut to_bias = vec![0.0; shape.out_channels];
            shape.grad_bias(&grad, &mut to_bias).unwrap();
            (shape.grad_input(&grad, &weight).unwrap(), shape.grad_weight(&input, &grad).unwrap(), to_bias)
        })
    });
    assert_eq!(results[0], results[1]);
}
