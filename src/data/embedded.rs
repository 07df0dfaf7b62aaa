//! The sample of Fashion-MNIST that is part of the program.

use super::blob::Blob;
use super::catalog::FASHION_CLASSES;
use super::{DataError, MemoryDataset, Split, idx};

/// The name of the sample in recipes, and the name of its folder in `datasets/`.
pub const SAMPLE: &str = "fashion-mnist-sample";

/// A file of the sample.
macro_rules! sample_file {
    ($name:literal) => {
        Blob::embedded(
            concat!("fashion-mnist-sample/", $name, " (in the program)"),
            include_bytes!(concat!("../../datasets/fashion-mnist-sample/", $name)),
        )
    };
}

/// One split of the sample: 6,000 training or 1,000 test images of 1x28x28, as many of each of
/// the ten classes, the first ones of Fashion-MNIST in its order.
pub fn sample(split: Split) -> Result<MemoryDataset, DataError> {
    let (images, labels) = match split {
        Split::Train => (
            sample_file!("train-images-idx3-ubyte.gz"),
            sample_file!("train-labels-idx1-ubyte.gz"),
        ),
        Split::Test => (
            sample_file!("t10k-images-idx3-ubyte.gz"),
            sample_file!("t10k-labels-idx1-ubyte.gz"),
        ),
    };
    idx::parse(&format!("{SAMPLE} ({split})"), &FASHION_CLASSES, &images, &labels)
}
