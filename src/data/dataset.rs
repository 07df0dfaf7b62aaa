//! What every source of images offers.

use burn::data::dataset::Dataset;

use super::{DataError, Sample, Shape};

/// A set of images. `Dataset::get` decodes one image; a damaged one is an error and an index
/// past the end is one too.
pub trait ImageDataset: Dataset<Sample, DataError> {
    /// The name for messages, such as `fashion-mnist (train)`.
    fn name(&self) -> &str;

    /// The size of the images. Folders may hold images of different sizes: then it is the
    /// size of the first one.
    fn shape(&self) -> Shape;

    /// The names of the classes in the order of their numbers, of items or of their pixels; empty when targets are images.
    fn classes(&self) -> &[String];

    /// Number of classes; 0 when targets are images.
    fn num_classes(&self) -> usize {
        self.classes().len()
    }

    /// The size of the target images (of the first one); `None` when targets are classes.
    fn target_shape(&self) -> Option<Shape> {
        None
    }

    /// Whether targets are masks: the number of a class for each pixel.
    fn has_masks(&self) -> bool {
        false
    }

    /// Where image `index` comes from, for messages.
    fn origin(&self, index: usize) -> String {
        format!("{}, image {index}", self.name())
    }

    /// What a user should know of the set, as sentences: files of a folder that are no images.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }

    /// All images at once, when they lie in memory one after another: what the loader's fast
    /// path reads from.
    fn packed(&self) -> Option<Packed<'_>> {
        None
    }
}

/// Images of one size, one after another in memory.
#[derive(Debug, Clone, Copy)]
pub struct Packed<'a> {
    /// The size of each image.
    pub shape: Shape,
    /// `[images * shape.len()]` values, planar.
    pub pixels: &'a [u8],
    /// The class of each image.
    pub labels: &'a [u8],
}

/// The error for an index past the end.
pub(crate) fn out_of_range(name: &str, index: usize, len: usize) -> DataError {
    DataError::Unsuitable {
        origin: name.to_string(),
        expected: format!("an image number below {len}"),
        found: index.to_string(),
        hint: "ask for an image that the set holds".to_string(),
    }
}
