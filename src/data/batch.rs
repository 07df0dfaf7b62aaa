//! Several pictures at once, first in this computer's memory, then on a device.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::transform::Pipeline;
use super::{DataError, ImageDataset, Shape, Target};
use crate::models::Input;

/// What a network is trained or tested on in one step.
#[derive(Debug, Clone)]
pub struct Batch {
    /// What goes into the network: of an image set the images `[images, channels, height, width]`, normalized.
    pub input: Input,
    /// What the network should answer.
    pub target: BatchTarget,
    /// Number of pictures; the last batch of an epoch may be smaller than the others.
    pub len: usize,
}

/// The targets of a batch.
#[derive(Debug, Clone)]
pub enum BatchTarget {
    /// Numbers of classes, `[pictures]`.
    Classes(Tensor<1, Int>),
    /// Pictures with values from 0 to 1, `[pictures, channels, height, width]`.
    Images(Tensor<4>),
    /// Numbers of classes for each pixel, `[pictures, height, width]`.
    Masks(Tensor<3, Int>),
}

/// A batch before it goes to a device.
pub(crate) struct HostBatch {
    len: usize,
    shape: Shape,
    input: Vec<f32>,
    target: HostTarget,
}

enum HostTarget {
    Classes(Vec<i64>),
    Images(Shape, Vec<f32>),
    Masks(Vec<i64>),
}

impl HostTarget {
    fn kind(&self) -> &'static str {
        match self {
            Self::Classes(_) => "a class",
            Self::Images(..) => "an image",
            Self::Masks(_) => "a mask",
        }
    }
}

fn kind(target: &Target) -> &'static str {
    match target {
        Target::Class(_) => "a class",
        Target::Image(_) => "an image",
        Target::Mask(_) => "a mask",
    }
}

impl HostBatch {
    /// Reads the pictures `indices` of a set, in that order, augmented for (`seed`, `epoch`).
    pub fn read(
        dataset: &dyn ImageDataset,
        pipeline: &Pipeline,
        indices: &[usize],
        seed: u64,
        epoch: usize,
    ) -> Result<Self, DataError> {
        let shape = pipeline.output();
        let mut input = buffer(indices.len(), shape)?;
        if let Some(packed) = dataset.packed().filter(|packed| pipeline.is_plain(packed.shape)) {
            let size = shape.len();
            let mut classes = Vec::with_capacity(indices.len());
            for &index in indices {
                let pixels = &packed.pixels[index * size..(index + 1) * size];
                pipeline.normalize(shape, pixels, &mut input);
                classes.push(i64::from(packed.labels[index]));
            }
            let target = HostTarget::Classes(classes);
            return Ok(Self { len: indices.len(), shape, input, target });
        }
        let mut target = match dataset.target_shape() {
            Some(shape) => HostTarget::Images(shape, buffer(indices.len(), shape)?),
            None if dataset.has_masks() => HostTarget::Masks(Vec::new()),
            None => HostTarget::Classes(Vec::with_capacity(indices.len())),
        };
        for &index in indices {
            let origin = dataset.origin(index);
            let sample = pipeline.apply(dataset.get(index)?, (seed, epoch, index), &origin)?;
            same_size(shape, sample.image.shape(), &origin)?;
            pipeline.normalize(shape, &sample.image.pixels, &mut input);
            match (&mut target, sample.target) {
                (HostTarget::Classes(classes), Target::Class(class)) => classes.push(class as i64),
                (HostTarget::Images(shape, values), Target::Image(image)) => {
                    same_size(*shape, image.shape(), &origin)?;
                    pipeline.scale(&image.pixels, values);
                }
                (HostTarget::Masks(classes), Target::Mask(mask)) => {
                    same_size(Shape { channels: 1, ..shape }, mask.shape(), &origin)?;
                    classes.extend(mask.pixels.iter().map(|class| i64::from(*class)));
                }
                (expected, found) => return Err(mixed(&origin, expected.kind(), kind(&found))),
            }
        }
        Ok(Self { len: indices.len(), shape, input, target })
    }

    /// Moves the values to a device.
    pub fn upload(self, device: &Device) -> Batch {
        let len = self.len;
        Batch {
            input: images(self.input, len, self.shape, device).into(),
            target: match self.target {
                HostTarget::Classes(classes) => {
                    BatchTarget::Classes(Tensor::from_data(TensorData::new(classes, [len]), device))
                }
                HostTarget::Images(shape, values) => BatchTarget::Images(images(values, len, shape, device)),
                HostTarget::Masks(classes) => {
                    let shape = [len, self.shape.height, self.shape.width];
                    BatchTarget::Masks(Tensor::from_data(TensorData::new(classes, shape), device))
                }
            },
            len,
        }
    }
}

fn images(values: Vec<f32>, len: usize, shape: Shape, device: &Device) -> Tensor<4> {
    let shape = [len, shape.channels, shape.height, shape.width];
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Memory for the values of `len` pictures.
fn buffer(len: usize, shape: Shape) -> Result<Vec<f32>, DataError> {
    let mut values = Vec::new();
    values.try_reserve_exact(len.saturating_mul(shape.len())).map_err(|_| {
        DataError::setting(
            "batch_size",
            format!("a batch of {shape} images that fits into memory"),
            len.to_string(),
            "lower data.batch_size or data.resize",
        )
    })?;
    Ok(values)
}

/// The pictures of a batch must be of one size.
fn same_size(expected: Shape, found: Shape, origin: &str) -> Result<(), DataError> {
    if expected == found {
        return Ok(());
    }
    Err(DataError::Unsuitable {
        origin: origin.to_owned(),
        expected: format!("{expected} (channels x height x width), the size of the first image"),
        found: found.to_string(),
        hint: "set data.resize = [height, width], or data.crop for super-resolution".to_owned(),
    })
}

fn mixed(origin: &str, expected: &str, found: &str) -> DataError {
    DataError::Unsuitable {
        origin: origin.to_owned(),
        expected: format!("{expected} as the target, as the set announces"),
        found: found.to_owned(),
        hint: "make all targets of one kind".to_owned(),
    }
}
