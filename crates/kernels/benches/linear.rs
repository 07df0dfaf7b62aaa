//! The linear layers of the built-in models, forward and backward.
//!
//! `cargo bench -p rekindle-kernels --bench linear`: criterion's throughput is products per second, two operations each.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rekindle_kernels::{Activation, Linear, LinearGradients, WeightOrder};

/// Batch, inputs, outputs.
const LAYERS: &[[usize; 3]] = &[
    [64, 784, 514],
    [64, 514, 258],
    [64, 258, 130],
    [64, 130, 66],
    [64, 66, 12],
    [1, 784, 514],
    [1, 4096, 4096],
    [8, 4096, 4096],
];

fn layers(c: &mut Criterion) {
    let mut group = c.benchmark_group("linear");
    group.sample_size(20);
    for &[batch, inputs, outputs] in LAYERS {
        let layer = Linear { batch, inputs, outputs };
        let (mut input, mut weight) = (vec![0.5; layer.input_len()], vec![0.5; layer.weight_len()]);
        let (mut output, bias) = (vec![0.5; layer.output_len()], vec![0.5; outputs]);
        let name = format!("{inputs}to{outputs}b{batch}");
        group.throughput(Throughput::Elements((batch * inputs * outputs) as u64));
        for (kind, order) in [("forward", WeightOrder::InputsFirst), ("forward_stored", WeightOrder::OutputsFirst)] {
            group.bench_function(BenchmarkId::new(kind, &name), |b| {
                b.iter(|| {
                    layer
                        .forward(
                            black_box(&input),
                            black_box(&weight),
                            order,
                            Some(&bias),
                            Activation::Relu,
                            &mut output,
                        )
                        .unwrap()
                });
            });
        }
        let mut grad = output.clone();
        let other = input.clone();
        group.bench_function(BenchmarkId::new("input", &name), |b| {
            b.iter(|| {
                let wanted = LinearGradients { input: Some(&mut input), ..LinearGradients::default() };
                layer
                    .backward(black_box(&other), black_box(&weight), WeightOrder::InputsFirst, None, &mut grad, wanted)
                    .unwrap();
            });
        });
        let given = weight.clone();
        group.bench_function(BenchmarkId::new("weight", &name), |b| {
            b.iter(|| {
                let mut bias = bias.clone();
                let wanted = LinearGradients { weight: Some(&mut weight), bias: Some(&mut bias), input: None };
                layer
                    .backward(
                        black_box(&other),
                        black_box(&given),
                        WeightOrder::InputsFirst,
                        Some(&output),
                        &mut grad,
                        wanted,
                    )
                    .unwrap();
            });
        });
    }
    group.finish();
}

criterion_group!(benches, layers);
criterion_main!(benches);
