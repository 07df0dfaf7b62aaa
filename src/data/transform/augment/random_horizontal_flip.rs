//! `torchvision.transforms.RandomHorizontalFlip`.

use serde::{Deserialize, Serialize};

use super::super::super::{DataError, Image, Target};
use super::super::pixels::flip;
use super::{Augmentation, half, probability};
use crate::random::Draws;

/// Left and right change places with a probability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomHorizontalFlip {
    /// The probability, 0.5 when not given.
    #[serde(default = "half")]
    pub p: f64,
}

impl Augmentation for RandomHorizontalFlip {
    const NAME: &'static str = "random_horizontal_flip";

    fn plain() -> Result<Self, &'static str> {
        Ok(Self { p: half() })
    }

    fn check(&self, _: bool) -> Result<(), DataError> {
        probability("augment.random_horizontal_flip.p", self.p)
    }

    fn apply(&self, image: &mut Image, target: &mut Target, draws: &mut Draws, _: &str) -> Result<(), DataError> {
        if draws.chance(self.p) {
            flip(image);
            if let Target::Image(target) | Target::Mask(target) = target {
                flip(target);
            }
        }
        Ok(())
    }
}
