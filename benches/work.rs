//! The cases of `rekindle bench` under criterion, with its statistics and its comparison with the run before:
//! `cargo bench --bench work -- forward`. One program, because each links all of Burn.

use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use rekindle::cli::bench::{Bench, named};
use rekindle::device::DeviceName;
use rekindle::models::Registry;

/// Seconds altogether; `rekindle bench` has more of them, and any size.
const CASES: &[&str] = &[
    "list/vgg16",
    "load/64MB",
    "save/64MB",
    "save-unsynced/64MB",
    "forward/fashion_classifier/64",
    "forward/the_model_class/64",
    "forward/cifar_cnn/64",
    "forward/super_resolution/1",
    "forward/vgg16/1",
    "train-step/fashion_classifier/64/sgd",
    "train-step/fashion_classifier/64/adam",
    "train-step/the_model_class/64/sgd",
    "train-step/cifar_cnn/64/sgd",
    "onnx/super_resolution/1",
    "onnx/the_model_class/64",
];

fn all(criterion: &mut Criterion) {
    let registry = Registry::built_in();
    let bench = Bench::new(&registry, DeviceName::FLEX, None::<&Path>).expect("the CPU opens");
    for name in CASES {
        // Within the closure, so that only what is asked for is set up.
        criterion.bench_function(name, |bencher| {
            let mut work = named(&registry, name).and_then(|case| case.prepare(&bench)).expect("the case is set up");
            bencher.iter(|| work().expect("the case runs"));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    targets = all
}
criterion_main!(benches);
