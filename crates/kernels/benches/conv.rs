//! Convolutions of the models that rekindle has, forward, in floating-point operations a second (a product and its sum are two,
//! whatever the algorithm really computes).

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rekindle_kernels::{Activation, Conv2d};
use std::hint::black_box;
use std::time::Duration;

/// A square convolution with stride 1 and as much padding as keeps the size: batch, channels in and out, side, kernel.
fn same(batch: usize, channels: [usize; 2], side: usize, kernel: usize) -> Conv2d {
    Conv2d {
        batch,
        in_channels: channels[0],
        out_channels: channels[1],
        input: [side; 2],
        kernel: [kernel; 2],
        stride: [1; 2],
        padding: [[kernel / 2; 2]; 2],
        dilation: [1; 2],
        groups: 1,
    }
}

/// The convolutions of each model, with how often each occurs.
fn models() -> Vec<(&'static str, Vec<(usize, Conv2d)>)> {
    let vgg = [
        (1, [3, 64], 224),
        (1, [64, 64], 224),
        (1, [64, 128], 112),
        (1, [128, 128], 112),
        (1, [128, 256], 56),
        (2, [256, 256], 56),
        (1, [256, 512], 28),
        (2, [512, 512], 28),
        (3, [512, 512], 14),
    ];
    let unpadded = |shape: Conv2d| Conv2d { padding: [[0; 2]; 2], ..shape };
    vec![
        (
            "super_resolution",
            vec![
                (1, same(1, [1, 64], 224, 5)),
                (1, same(1, [64, 64], 224, 3)),
                (1, same(1, [64, 32], 224, 3)),
                (1, same(1, [32, 9], 224, 3)),
            ],
        ),
        ("vgg16", vgg.into_iter().map(|(times, channels, side)| (times, same(1, channels, side, 3))).collect()),
        (
            "mnist_64",
            vec![
                (1, same(64, [1, 16], 28, 3)),
                (1, same(64, [1, 32], 28, 3)),
                (1, unpadded(same(64, [32, 64], 26, 3))),
            ],
        ),
        (
            "cifar_64",
            vec![(1, same(64, [3, 32], 32, 3)), (1, same(64, [32, 64], 16, 3)), (1, same(64, [64, 128], 8, 3))],
        ),
        ("small_64", vec![(1, unpadded(same(64, [3, 6], 71, 5))), (1, unpadded(same(64, [6, 16], 33, 5)))]),
        (
            "strided",
            vec![
                (1, Conv2d { stride: [2; 2], ..same(1, [3, 64], 224, 7) }),
                (1, Conv2d { stride: [2; 2], ..same(1, [128, 256], 56, 1) }),
            ],
        ),
        ("depthwise", vec![(1, Conv2d { groups: 96, ..same(1, [96, 96], 112, 3) })]),
        ("pointwise", vec![(1, same(1, [256, 64], 56, 1)), (1, same(8, [64, 256], 56, 1))]),
    ]
}

/// Multiplications and additions of the definition.
fn operations(shape: &Conv2d) -> u64 {
    (2 * shape.output_len() * shape.weight_len() / shape.out_channels) as u64
}

/// All convolutions of a model one after the other, as inference runs them.
fn bench_models(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("forward");
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_millis(1500));
    for (model, layers) in models() {
        let total = layers.iter().map(|(times, shape)| *times as u64 * operations(shape)).sum();
        let mut cases: Vec<_> = layers
            .iter()
            .map(|(times, shape)| {
                let weight: Vec<f32> = (0..shape.weight_len()).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect();
                let input: Vec<f32> = (0..shape.input_len()).map(|i| (i % 23) as f32 / 23.0 - 0.5).collect();
                (
                    *times,
                    *shape,
                    input,
                    shape.pack(&weight).unwrap(),
                    weight,
                    vec![0.0; shape.out_channels],
                    vec![0.0; shape.output_len()],
                )
            })
            .collect();
        group.throughput(Throughput::Elements(total));
        group.bench_function(BenchmarkId::new(model, "all"), |bencher| {
            bencher.iter(|| {
                for (times, shape, input, weights, _, bias, output) in &mut cases {
                    for _ in 0..*times {
                        shape.forward_packed(black_box(input), weights, Some(bias), Activation::Relu, output).unwrap();
                    }
                }
            });
        });
        for (_, shape, input, weights, weight, bias, output) in &mut cases {
            let name = format!(
                "{}x{}->{} {}x{} k{} s{}",
                shape.batch,
                shape.in_channels,
                shape.out_channels,
                shape.input[0],
                shape.input[1],
                shape.kernel[0],
                shape.stride[0]
            );
            group.throughput(Throughput::Elements(operations(shape)));
            group.bench_function(BenchmarkId::new(model, format!("{name} packed")), |bencher| {
                bencher.iter(|| {
                    shape.forward_packed(black_box(input), weights, Some(bias), Activation::Relu, output).unwrap()
                });
            });
            group.bench_function(BenchmarkId::new(model, format!("{name} plain")), |bencher| {
                bencher.iter(|| shape.forward(black_box(input), weight, Some(bias), Activation::None, output).unwrap());
            });
        }
    }
    group.finish();
}

criterion_group!(benches, bench_models);
criterion_main!(benches);
