//! `torchvision.transforms.RandomCrop`.

use serde::{Deserialize, Serialize};

use super::super::super::{DataError, IGNORED, Image, Target};
use super::super::pixels::crop;
use super::super::{Extent, check_size, unaligned};
use super::Augmentation;
use crate::random::Draws;

/// A part of the image at a random place: torchvision's `RandomCrop(size, padding)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomCrop {
    /// The size of the part in pixels.
    pub size: Extent,
    /// Black pixels added at each of the four sides first.
    #[serde(default)]
    pub padding: usize,
}

impl Augmentation for RandomCrop {
    const NAME: &'static str = "random_crop";

    fn plain() -> Result<Self, &'static str> {
        Err("random_crop needs a size: { random_crop = { size = 32, padding = 4 } }")
    }

    fn check(&self, pairs: bool) -> Result<(), DataError> {
        check_size("augment.random_crop.size", self.size.square())?;
        if self.padding > 0 {
            check_size("augment.random_crop.padding", (self.padding, self.padding))?;
        }
        if pairs { Err(unaligned("augment.random_crop")) } else { Ok(()) }
    }

    fn output(&self, _: (usize, usize)) -> (usize, usize) {
        self.size.square()
    }

    /// Black pixels around, then a part at a place drawn evenly from all places where it fits.
    fn apply(&self, image: &mut Image, target: &mut Target, draws: &mut Draws, origin: &str) -> Result<(), DataError> {
        let (height, width) = self.size.square();
        let padded = |size: usize| size + 2 * self.padding;
        if height > padded(image.height) || width > padded(image.width) {
            return Err(DataError::Unsuitable {
                origin: origin.to_string(),
                expected: format!("at least {height}x{width} pixels for random_crop"),
                found: format!("{}x{} with a padding of {}", image.height, image.width, self.padding),
                hint: "set data.resize, a larger padding or a smaller size".to_string(),
            });
        }
        // The row first.
        let top = draws.below(padded(image.height) - height + 1);
        let left = draws.below(padded(image.width) - width + 1);
        let shifted = |place: usize| place as isize - self.padding as isize;
        *image = crop(image, shifted(top), shifted(left), height, width, 0);
        if let Target::Mask(mask) = target {
            *mask = crop(mask, shifted(top), shifted(left), height, width, IGNORED);
        }
        Ok(())
    }
}
