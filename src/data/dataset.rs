//! What every source of pictures offers.

use burn::data::dataset::Dataset;

use super::{DataError, Sample, Shape};

/// A set of pictures. `Dataset::get` decodes one picture; a damaged one is an error and an index
/// past the end is one too.
pub trait ImageDataset: Dataset<Sample, DataError> {
    /// The name for messages, such as `fashion-mnist (train)`.
    fn name(&self) -> &str;

    /// The size of the pictures. Folders may hold pictures of different sizes: then it is the
    /// size of the first one.
    fn shape(&self) -> Shape;

    /// The names of the classes in the order of their numbers; empty when targets are pictures.
    fn classes(&self) -> &[String];

    /// Number of classes; 0 when targets are pictures.
    fn num_classes(&self) -> usize {
        self.classes().len()
    }

    /// The size of the target pictures (of the first one); `None` when targets are classes.
    fn target_shape(&self) -> Option<Shape> {
        None
    }

    /// Where picture `index` comes from, for messages.
    fn origin(&self, index: usize) -> String {
        format!("{}, picture {index}", self.name())
    }

    /// All pictures at once, when they lie in memory one after another: what the loader's fast
    /// path reads from.
    fn packed(&self) -> Option<Packed<'_>> {
        None
    }
}

/// Pictures of one size, one after another in memory.
#[derive(Debug, Clone, Copy)]
pub struct Packed<'a> {
    /// The size of each picture.
    pub shape: Shape,
    /// `[pictures * shape.len()]` values, planar.
    pub pixels: &'a [u8],
    /// The class of each picture.
    pub labels: &'a [u8],
}

/// The error for an index past the end.
pub(crate) fn out_of_range(name: &str, index: usize, len: usize) -> DataError {
    DataError::Unsuitable {
        origin: name.to_owned(),
        expected: format!("a picture number below {len}"),
        found: index.to_string(),
        hint: "ask for a picture that the set holds".to_owned(),
    }
}
