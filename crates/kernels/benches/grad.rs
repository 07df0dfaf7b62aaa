//! The gradients of the convolutions that the built-in models train, at their batch of 64.
//!
//! `cargo bench -p rekindle-kernels --bench grad`: criterion's throughput is products per second, two operations each.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rekindle_kernels::Conv2d;

/// Batch, channels in and out, side, kernel, padding.
const LAYERS: &[(usize, [usize; 2], usize, usize, usize)] = &[
    (64, [1, 32], 28, 3, 1),
    (64, [3, 32], 32, 3, 1),
    (64, [32, 64], 16, 3, 1),
    (64, [64, 128], 8, 3, 1),
    (64, [3, 6], 65, 5, 0),
    (64, [6, 16], 30, 5, 0),
    (64, [3, 66], 32, 7, 1),
    (64, [66, 66], 6, 7, 3),
    (64, [66, 130], 1, 7, 3),
    (64, [1, 64], 32, 5, 2),
    (64, [64, 64], 32, 3, 1),
    (64, [64, 32], 32, 3, 1),
    (64, [32, 9], 32, 3, 1),
    (8, [64, 64], 64, 3, 1),
    (1, [64, 64], 128, 3, 1),
];

fn gradients(c: &mut Criterion) {
    let mut group = c.benchmark_group("grad");
    group.sample_size(20);
    for &(batch, channels, side, kernel, padding) in LAYERS {
        let shape = Conv2d {
            batch,
            in_channels: channels[0],
            out_channels: channels[1],
            input: [side; 2],
            kernel: [kernel; 2],
            stride: [1; 2],
            padding: [[padding; 2]; 2],
            dilation: [1; 2],
            groups: 1,
        };
        let name = format!("{}to{}k{kernel}s{side}b{batch}", channels[0], channels[1]);
        let (input, weight) = (vec![0.5; shape.input_len()], vec![0.5; shape.weight_len()]);
        let (grad, mut bias) = (vec![0.5; shape.output_len()], vec![0.0; shape.out_channels]);
        let [height, width] = shape.output();
        group.throughput(Throughput::Elements((batch * height * width * shape.weight_len()) as u64));
        group.bench_function(BenchmarkId::new("weight", &name), |b| {
            b.iter(|| shape.grad_weight(black_box(&input), black_box(&grad)).unwrap());
        });
        group.bench_function(BenchmarkId::new("input", &name), |b| {
            b.iter(|| shape.grad_input(black_box(&grad), black_box(&weight)).unwrap());
        });
        group.bench_function(BenchmarkId::new("bias", &name), |b| {
            b.iter(|| shape.grad_bias(black_box(&grad), &mut bias).unwrap())
        });
    }
    group.finish();
}

criterion_group!(benches, gradients);
criterion_main!(benches);
