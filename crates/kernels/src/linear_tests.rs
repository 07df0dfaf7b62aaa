//! Linear layers against the plain loops, on random sizes and on every instruction set of this processor.

use proptest::prelude::*;

use crate::grad_tests::values;
use crate::lanes::Isa;
use crate::{Activation, Linear, LinearGradients, ShapeError, WeightOrder};

/// Asserts that all values are within 2e-5 of the largest.
fn assert_close(what: &str, layer: &Linear, isa: Isa, found: &[f32], expected: &[f64]) {
    let scale = expected.iter().fold(1.0f64, |most, value| most.max(value.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (f64::from(*found) - expected).abs() <= 2e-5 * scale,
            "{what}[{i}] is {found}, expected {expected}: {layer:?}, {isa:?}"
        );
    }
}

/// The transpose of `[rows, columns]`.
fn turned(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}

/// Compares output and gradients with the definition, in f64.
fn compare(layer: &Linear) {
    let Linear { batch, inputs, outputs } = *layer;
    let (x, weight, bias) = (values(layer.input_len(), 1), values(layer.weight_len(), 2), values(outputs, 3));
    let grad = values(layer.output_len(), 4);
    let mut sums = vec![0.0; layer.output_len()];
    for (i, sum) in sums.iter_mut().enumerate() {
        let (sample, output) = (i / outputs, i % outputs);
        *sum = (0..inputs)
            .map(|k| f64::from(x[sample * inputs + k]) * f64::from(weight[k * outputs + output]))
            .sum::<f64>();
    }
    let biased: Vec<f64> = sums.iter().enumerate().map(|(i, sum)| sum + f64::from(bias[i % outputs])).collect();
    let rectified: Vec<f64> = biased.iter().map(|value| value.max(0.0)).collect();
    // A ReLU of other values, so that rounding does not decide what passes.
    let passed = values(layer.output_len(), 5);
    let masked: Vec<f32> =
        grad.iter().zip(&passed).map(|(grad, passed)| if *passed > 0.0 { *grad } else { 0.0 }).collect();
    let reversed = turned(&weight, inputs, outputs);
    for isa in Isa::available() {
        for (order, weight) in [(WeightOrder::InputsFirst, &weight), (WeightOrder::OutputsFirst, &reversed)] {
            for (bias, activation, expected) in [
                (None, Activation::None, &sums),
                (Some(bias.as_slice()), Activation::None, &biased),
                (Some(bias.as_slice()), Activation::Relu, &rectified),
            ] {
                let mut found = vec![f32::NAN; layer.output_len()];
                layer.forward_at(isa, &x, weight, order, bias, activation, &mut found).unwrap();
                assert_close("forward", layer, isa, &found, expected);
            }
        }
    }
    for (rectified, grad) in [(None, &grad), (Some(passed.as_slice()), &masked)] {
        let (mut to_input, mut to_weight, mut to_bias) =
            (vec![0.0; layer.input_len()], vec![0.0; layer.weight_len()], vec![0.0; outputs]);
        for sample in 0..batch {
            for output in 0..outputs {
                let grad = f64::from(grad[sample * outputs + output]);
                to_bias[output] += grad;
                for input in 0..inputs {
                    to_input[sample * inputs + input] += grad * f64::from(weight[input * outputs + output]);
                    to_weight[input * outputs + output] += grad * f64::from(x[sample * inputs + input]);
                }
            }
        }
        for isa in Isa::available() {
            for (order, weight) in [(WeightOrder::InputsFirst, &weight), (WeightOrder::OutputsFirst, &reversed)] {
                let mut given = values(layer.output_len(), 4);
                let (mut input, mut weights, mut bias) =
                    (vec![f32::NAN; layer.input_len()], vec![f32::NAN; layer.weight_len()], vec![f32::NAN; outputs]);
                let wanted =
                    LinearGradients { input: Some(&mut input), weight: Some(&mut weights), bias: Some(&mut bias) };
                layer.backward_at(isa, &x, weight, order, rectified, &mut given, wanted).unwrap();
                assert_eq!(&given, grad);
                assert_close("the input's gradient", layer, isa, &input, &to_input);
                assert_close("the weights' gradient", layer, isa, &weights, &to_weight);
                assert_close("the bias's gradient", layer, isa, &bias, &to_bias);
                let mut alone = vec![f32::NAN; layer.input_len()];
                let wanted = LinearGradients { input: Some(&mut alone), ..LinearGradients::default() };
                layer.backward_at(isa, &x, weight, order, None, &mut given, wanted).unwrap();
                assert_eq!(alone, input, "the same alone and beside the others");
            }
        }
    }
}

fn layers() -> impl Strategy<Value = Linear> {
    let most = if cfg!(miri) { 7 } else { 120 };
    let batch = prop_oneof![1 => Just(1usize), 3 => 0usize..=most.min(40)];
    (batch, 1..=most, 1..=most).prop_map(|(batch, inputs, outputs)| Linear { batch, inputs, outputs })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { ProptestConfig::default().cases }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_layers_agree_with_the_definition(layer in layers()) {
        compare(&layer);
    }
}

#[test]
#[cfg_attr(miri, ignore = "too many products for an interpreter")]
fn layers_of_networks_agree_with_the_definition() {
    for (batch, inputs, outputs) in
        [(64, 514, 258), (70, 66, 12), (3, 2100, 130), (1, 784, 514), (1, 2500, 40), (130, 1030, 17)]
    {
        compare(&Linear { batch, inputs, outputs });
    }
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let layer = Linear { batch: 2, inputs: 3, outputs: 4 };
    let (six, twelve, mut seven) = ([0.0; 6], [0.0; 12], [0.0; 7]);
    let order = WeightOrder::InputsFirst;
    let short = layer.forward(&six, &twelve, order, None, Activation::None, &mut seven);
    assert_eq!(short, Err(ShapeError::Length { what: "the output", expected: 8, found: 7 }));
    let none = Linear { inputs: 0, ..layer }.forward(&[], &[], order, None, Activation::None, &mut seven);
    assert_eq!(none, Err(ShapeError::Zero { what: "the number of inputs" }));
    let vast = Linear { batch: 1 << 40, inputs: 1 << 40, outputs: 1 };
    assert_eq!(vast.forward(&[], &[], order, None, Activation::None, &mut seven), Err(ShapeError::Overflow));
}

#[test]
#[cfg_attr(miri, ignore = "too many products for an interpreter")]
fn the_number_of_threads_changes_no_bit() {
    let layer = Linear { batch: 67, inputs: 1101, outputs: 131 };
    let (x, weight, bias) = (values(layer.input_len(), 1), values(layer.weight_len(), 2), values(layer.outputs, 3));
    let results = [1, 2, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            [WeightOrder::InputsFirst, WeightOrder::OutputsFirst].map(|order| {
                let mut output = vec![0.0; layer.output_len()];
                layer.forward(&x, &weight, order, Some(&bias), Activation::Relu, &mut output).unwrap();
                let (mut grad, mut to_input, mut to_weight) =
                    (output.clone(), vec![0.0; layer.input_len()], vec![0.0; layer.weight_len()]);
                let wanted = LinearGradients { input: Some(&mut to_input), weight: Some(&mut to_weight), bias: None };
                layer.backward(&x, &weight, order, Some(&output), &mut grad, wanted).unwrap();
                (output, to_input, to_weight)
            })
        })
    });
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
}
