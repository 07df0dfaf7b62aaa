//! The operations of training steps, on one thread and on two: which of them leaves the second thread idle.
//!
//! `cargo bench -p rekindle-kernels --bench step`: for each operation the least time on one thread and on two, in milliseconds, the
//! quotient, and what all of its kind take in a step. ResNet-18 with 16 images of 64×64, and an LSTM over 64 sequences of 28 rows.

use std::hint::black_box;
use std::time::{Duration, Instant};

use rekindle_kernels::{Activation, BatchNorm, Conv2d, Gradient, LstmLayer, RELU, Seen, SgdStep, scope};

/// Channels in and out, side of the input, kernel, stride, and how often it occurs.
const CONVOLUTIONS: &[([usize; 2], usize, usize, usize, usize)] = &[
    ([3, 64], 64, 7, 2, 1),
    ([64, 64], 16, 3, 1, 4),
    ([64, 128], 16, 3, 2, 1),
    ([64, 128], 16, 1, 2, 1),
    ([128, 128], 8, 3, 1, 3),
    ([128, 256], 8, 3, 2, 1),
    ([128, 256], 8, 1, 2, 1),
    ([256, 256], 4, 3, 1, 3),
    ([256, 512], 4, 3, 2, 1),
    ([256, 512], 4, 1, 2, 1),
    ([512, 512], 2, 3, 1, 3),
];
const BATCH: usize = 16;

/// The least time of some runs, about half a second of them.
fn least(work: &mut dyn FnMut()) -> Duration {
    let (mut best, mut all) = (Duration::MAX, Duration::ZERO);
    while all < Duration::from_millis(400) {
        let start = Instant::now();
        work();
        let took = start.elapsed();
        (best, all) = (best.min(took), all + took);
    }
    best
}

struct Table {
    pools: [rayon::ThreadPool; 2],
    totals: Vec<(&'static str, [f64; 2])>,
}

impl Table {
    fn row(&mut self, kind: &'static str, name: &str, times: usize, mut work: impl FnMut() + Send) {
        let [one, two] = self.pools.each_ref().map(|pool| {
            let took = pool.install(|| scope(|| least(&mut work)));
            took.as_secs_f64() * 1e3
        });
        println!("{kind:12} {name:24} {times} × {one:8.3} {two:8.3}  {:.2}", one / two);
        let total = match self.totals.iter_mut().find(|total| total.0 == kind) {
            Some(total) => total,
            None => {
                self.totals.push((kind, [0.0; 2]));
                self.totals.last_mut().unwrap()
            }
        };
        total.1 = [total.1[0] + times as f64 * one, total.1[1] + times as f64 * two];
    }
}

fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 37 % 255) as f32 / 127.5 - 1.0).collect()
}

fn main() {
    let pools = [1, 2].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap());
    let mut table = Table { pools, totals: Vec::new() };
    for &(channels, side, kernel, stride, times) in CONVOLUTIONS {
        let shape = Conv2d {
            batch: BATCH,
            in_channels: channels[0],
            out_channels: channels[1],
            input: [side; 2],
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [[kernel / 2; 2]; 2],
            dilation: [1; 2],
            groups: 1,
        };
        let name = format!("{}->{} {side}x{side} k{kernel} s{stride}", channels[0], channels[1]);
        let (input, weight, grad) = (values(shape.input_len()), values(shape.weight_len()), values(shape.output_len()));
        table.row("forward", &name, times, || {
            let mut output = vec![0.0; shape.output_len()];
            shape.forward(&input, &weight, None, Activation::None, &mut output).unwrap();
            black_box(output);
        });
        table.row("weight", &name, times, || {
            black_box(shape.grad_weight(&input, &grad).unwrap());
        });
        if channels[0] > 3 {
            table.row("input", &name, times, || {
                black_box(shape.grad_input(&grad, &weight).unwrap());
            });
        }
        let [height, width] = shape.output();
        let norm =
            BatchNorm { batch: BATCH, channels: channels[1], pixels: height * width, epsilon: 1e-5, function: RELU };
        let (scale, shift) = (values(channels[1]), values(channels[1]));
        table.row("norm", &name, times, || {
            black_box(norm.forward(&grad, &scale, &shift, None));
        });
        let made = norm.forward(&grad, &scale, &shift, None);
        table.row("norm back", &name, times, || {
            let seen = Seen {
                input: &grad,
                weight: &scale,
                bias: &shift,
                mean: &made.mean,
                variance: &made.variance,
                output: None,
            };
            black_box(norm.backward(&seen, grad.clone()));
        });
        let gradient = Gradient { maximize: false, penalty: 0.0 };
        let step = SgdStep { gradient, lr: 1e-3, momentum: 0.9, taken: 1.0, nesterov: false };
        let (mut to_weight, mut velocity) = (values(shape.weight_len()), values(shape.weight_len()));
        table.row("update", &name, times, || step.run(&weight, &mut to_weight, Some(&mut velocity)));
    }
    let layer = LstmLayer { batch: 64, steps: 28, inputs: 28, hidden: 128 };
    let (x, weight, bias) = (values(64 * 28 * 28), values((28 + 128) * 512), values(512));
    table.row("lstm", "forward", 1, || {
        black_box(layer.forward(&x, &weight, &bias));
    });
    let (output, seen) = layer.forward(&x, &weight, &bias);
    table.row("lstm", "backward", 1, || {
        black_box(layer.backward(&weight, &seen, &output, false));
    });
    for (kind, [one, two]) in table.totals {
        println!("{kind:12} in all {one:8.2} {two:8.2}  {:.2}", one / two);
    }
}
