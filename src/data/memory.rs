//! Images of one size held in memory as bytes: MNIST, Fashion-MNIST, CIFAR-10.

use burn::data::dataset::Dataset;

use super::dataset::out_of_range;
use super::{DataError, Image, ImageDataset, Packed, Sample, Shape, Target};

/// A set of equally sized images with classes, in memory.
#[derive(Debug, Clone)]
pub struct MemoryDataset {
    name: String,
    shape: Shape,
    classes: Vec<String>,
    pixels: Vec<u8>,
    labels: Vec<u8>,
}

impl MemoryDataset {
    /// The readers of this layer have checked that there are `shape.len()` values for each label
    /// and that each label is the number of a class.
    pub(crate) fn new(name: String, shape: Shape, classes: &[&str], pixels: Vec<u8>, labels: Vec<u8>) -> Self {
        debug_assert_eq!(pixels.len(), labels.len() * shape.len());
        Self { name, shape, classes: classes.iter().map(ToString::to_string).collect(), pixels, labels }
    }

    /// Keeps the first `limit` images.
    pub fn truncate(&mut self, limit: usize) {
        self.labels.truncate(limit);
        self.pixels.truncate(self.labels.len() * self.shape.len());
    }
}

impl Dataset<Sample, DataError> for MemoryDataset {
    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let size = self.shape.len();
        let label = *self.labels.get(index).ok_or_else(|| out_of_range(&self.name, index, self.labels.len()))?;
        let pixels = self.pixels[index * size..(index + 1) * size].to_vec();
        Ok(Sample { image: Image::from_shape(self.shape, pixels), target: Target::Class(usize::from(label)) })
    }

    fn len(&self) -> usize {
        self.labels.len()
    }
}

impl ImageDataset for MemoryDataset {
    fn name(&self) -> &str {
        &self.name
    }

    fn shape(&self) -> Shape {
        self.shape
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn packed(&self) -> Option<Packed<'_>> {
        Some(Packed { shape: self.shape, pixels: &self.pixels, labels: &self.labels })
    }
}
