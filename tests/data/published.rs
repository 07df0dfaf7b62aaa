//! The published sets, if they lie beside the checkout: `../shared/data`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use burn::data::dataset::Dataset;
use burn::tensor::Device;
use rekindle::data::catalog::{FASHION_CLASSES, MNIST_CLASSES, published};
use rekindle::data::download::sha256_of;
use rekindle::data::transform::{Normalize, Transforms};
use rekindle::data::{ImageDataset, Loader, LoaderConfig, MemoryDataset, Split, Target, cifar, idx, sample};

/// The folder of a set, or a loud skip.
fn folder(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is not there", path.display());
    None
}

/// Mean and standard deviation of the values of one channel, from 0 to 1.
fn statistics(set: &MemoryDataset, channel: usize) -> (f64, f64) {
    let packed = set.packed().unwrap();
    let plane = packed.shape.height * packed.shape.width;
    let (mut sum, mut squares, mut count) = (0u64, 0u64, 0u64);
    for image in packed.pixels.chunks_exact(packed.shape.len()) {
        for &value in &image[channel * plane..(channel + 1) * plane] {
            sum += u64::from(value);
            squares += u64::from(value) * u64::from(value);
            count += 1;
        }
    }
    let mean = sum as f64 / count as f64;
    let variance = squares as f64 / count as f64 - mean * mean;
    (mean / 255.0, variance.sqrt() / 255.0)
}

fn near((mean, std): (f64, f64), expected: (f64, f64)) {
    assert!((mean - expected.0).abs() < 5e-5, "mean {mean}");
    assert!((std - expected.1).abs() < 5e-5, "standard deviation {std}");
}

#[test]
fn fashion_mnist() {
    let Some(dir) = folder("fashion-mnist") else {
        return;
    };
    // The sums that downloads are checked against are those of the published files.
    let (_, set) = published().find(|(name, _)| *name == "fashion-mnist").unwrap();
    for file in set.files {
        assert_eq!(sha256_of(&dir.join(file.name)).unwrap(), file.sha256);
        assert_eq!(dir.join(file.name).metadata().unwrap().len(), file.bytes);
    }
    let start = Instant::now();
    let train = idx::open(&dir, "fashion-mnist", &FASHION_CLASSES, Split::Train).unwrap();
    eprintln!("read in {:.3} s", start.elapsed().as_secs_f64());
    assert_eq!(train.len(), 60_000);
    near(statistics(&train, 0), (0.2860, 0.3530));
    let test = idx::open(&dir, "fashion-mnist", &FASHION_CLASSES, Split::Test).unwrap();
    assert_eq!(test.len(), 10_000);

    // The sample holds the first images of each class.
    let shipped = sample(Split::Test).unwrap();
    let first_boot = (0..).find(|&at| test.get(at).unwrap().target == Target::Class(9)).unwrap();
    let shipped_boot = (0..).find(|&at| shipped.get(at).unwrap().target == Target::Class(9)).unwrap();
    assert_eq!(test.get(first_boot).unwrap(), shipped.get(shipped_boot).unwrap());

    let transforms =
        Transforms { normalize: Some(Normalize { mean: vec![0.2860], std: vec![0.3530] }), ..Transforms::default() };
    let train: Arc<dyn ImageDataset> = Arc::new(train);
    for workers in [0, 1, 2] {
        let config = LoaderConfig { batch_size: 64, seed: 1, shuffle: true, workers, drop_last: false };
        let loader = Loader::new(Arc::clone(&train), &transforms, config, &Device::flex()).unwrap();
        let start = Instant::now();
        let count: usize = loader.batches(0, 0).map(|batch| batch.unwrap().len).sum();
        eprintln!("{count} images in {:.3} s, {workers} workers", start.elapsed().as_secs_f64());
        assert_eq!(count, 60_000);
    }
}

#[test]
fn mnist() {
    let Some(dir) = folder("mnist") else {
        return;
    };
    let train = idx::open(&dir, "mnist", &MNIST_CLASSES, Split::Train).unwrap();
    assert_eq!(train.len(), 60_000);
    near(statistics(&train, 0), (0.1307, 0.3081));
    let labels = &train.packed().unwrap().labels[..10];
    assert_eq!(labels, [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]);
    let test = idx::open(&dir, "mnist", &MNIST_CLASSES, Split::Test).unwrap();
    assert_eq!(test.len(), 10_000);
}

#[test]
fn cifar_10() {
    let Some(dir) = folder("cifar-10") else {
        return;
    };
    for (split, len) in [(Split::Train, 10_000), (Split::Test, 2_000)] {
        let set = cifar::open(&dir, split).unwrap();
        assert_eq!(set.len(), len);
        let mut counts = [0; 10];
        for &label in set.packed().unwrap().labels {
            counts[usize::from(label)] += 1;
        }
        assert_eq!(counts, [len / 10; 10]);
    }
    let first = cifar::open(&dir.join("data_batch_1-first-4000.bin.gz"), Split::Train).unwrap();
    assert_eq!(first.len(), 4_000);
    assert_eq!(first.packed().unwrap().labels[..10], [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]);
    for (channel, mean) in [0.4916, 0.4818, 0.4447].into_iter().enumerate() {
        assert!((statistics(&first, channel).0 - mean).abs() < 5e-5);
    }
}
