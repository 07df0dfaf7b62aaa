//! One image and what belongs to it.

use std::fmt;

/// The size of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Number of channels: 1 for grey, 3 for red, green, blue.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Shape {
    /// Number of values of an image of this size.
    pub fn len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Whether an image of this size has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.channels, self.height, self.width)
    }
}

/// An image of 8 bits a value, planar: all of the first channel row by row, then the next one
/// (PyTorch's order, `[channels, height, width]`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Number of channels.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// `channels * height * width` values, 0 (black) to 255.
    pub pixels: Vec<u8>,
}

impl Image {
    /// An image of one colour.
    pub fn filled(shape: Shape, value: u8) -> Self {
        Self::from_shape(shape, vec![value; shape.len()])
    }

    /// An image from its size and values; `pixels` has `shape.len()` values.
    pub(crate) fn from_shape(shape: Shape, pixels: Vec<u8>) -> Self {
        debug_assert_eq!(shape.len(), pixels.len());
        Self { channels: shape.channels, height: shape.height, width: shape.width, pixels }
    }

    /// The size.
    pub fn shape(&self) -> Shape {
        Shape { channels: self.channels, height: self.height, width: self.width }
    }

    /// The channels, each `[height * width]` values.
    pub fn planes(&self) -> impl Iterator<Item = &[u8]> {
        // An image without pixels has no planes; a chunk size of zero would panic.
        self.pixels.chunks_exact((self.height * self.width).max(1))
    }
}

/// The class of a pixel that counts neither in the loss nor in the score, as in torchvision's reference training.
pub const IGNORED: u8 = 255;

/// What a network should answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The number of a class, from 0.
    Class(usize),
    /// An image, for super-resolution.
    Image(Image),
    /// The number of a class for each pixel, an image of one channel; [`IGNORED`] where none counts.
    Mask(Image),
}

/// One image with its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The network's input.
    pub image: Image,
    /// What it should answer.
    pub target: Target,
}

/// Which part of a data set. Validation uses the test part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// The part to train on; only this one is shuffled and augmented.
    Train,
    /// The part to validate and test on.
    Test,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Test => "test",
        })
    }
}

impl From<Shape> for [usize; 3] {
    fn from(shape: Shape) -> Self {
        [shape.channels, shape.height, shape.width]
    }
}
