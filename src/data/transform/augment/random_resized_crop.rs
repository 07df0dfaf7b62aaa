//! `torchvision.transforms.RandomResizedCrop`.

use serde::{Deserialize, Serialize};

use super::super::super::{DataError, IGNORED, Image, Target};
use super::super::pixels::{Filter, crop, nearest, resize};
use super::super::{Extent, check_size, unaligned};
use super::Augmentation;
use crate::random::Draws;

/// A part of the image of random area and proportions, scaled to one size: torchvision's `RandomResizedCrop(size, scale, ratio)`, with
/// which networks are trained on ImageNet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomResizedCrop {
    /// The size of the result in pixels.
    pub size: Extent,
    /// Least and largest share of the image's area.
    #[serde(default = "shares")]
    pub scale: [f64; 2],
    /// Least and largest width over height.
    #[serde(default = "proportions")]
    pub ratio: [f64; 2],
}

fn shares() -> [f64; 2] {
    [0.08, 1.0]
}

fn proportions() -> [f64; 2] {
    [3.0 / 4.0, 4.0 / 3.0]
}

/// How often a part is drawn that may not fit, before the largest one in the middle is taken.
const ATTEMPTS: usize = 10;

/// A part of an image: its first row and column, height and width.
type Part = [usize; 4];

impl RandomResizedCrop {
    /// A part, in the order of draws and with the rounding of torchvision's `get_params`.
    fn part(&self, height: usize, width: usize, draws: &mut Draws) -> Part {
        let [low, high] = self.ratio;
        for _ in 0..ATTEMPTS {
            let area = (height * width) as f64 * draws.between(self.scale[0], self.scale[1]);
            let ratio = draws.between(low.ln(), high.ln()).exp();
            let side = |square: f64| square.sqrt().round_ties_even() as usize;
            let (h, w) = (side(area / ratio), side(area * ratio));
            if (1..=height).contains(&h) && (1..=width).contains(&w) {
                return [draws.below(height - h + 1), draws.below(width - w + 1), h, w];
            }
        }
        let found = width as f64 / height as f64;
        let (h, w) = if found < low {
            ((width as f64 / low).round_ties_even() as usize, width)
        } else if found > high {
            (height, (height as f64 * high).round_ties_even() as usize)
        } else {
            (height, width)
        };
        [(height - h) / 2, (width - w) / 2, h, w]
    }
}

impl Augmentation for RandomResizedCrop {
    const NAME: &'static str = "random_resized_crop";

    fn plain() -> Result<Self, &'static str> {
        Err("random_resized_crop needs a size: { random_resized_crop = { size = 224 } }")
    }

    fn check(&self, pairs: bool) -> Result<(), DataError> {
        check_size("augment.random_resized_crop.size", self.size.square())?;
        for (key, [low, high], most) in [("scale", self.scale, 1.0), ("ratio", self.ratio, f64::MAX)] {
            if !(low > 0.0 && low <= high && high <= most) {
                return Err(DataError::setting(
                    format!("augment.random_resized_crop.{key}"),
                    "two numbers above 0, the smaller one first".to_string()
                        + if key == "scale" { ", up to 1" } else { "" },
                    format!("[{low}, {high}]"),
                    "leave it out for torchvision's",
                ));
            }
        }
        if pairs { Err(unaligned("augment.random_resized_crop")) } else { Ok(()) }
    }

    fn output(&self, _: (usize, usize)) -> (usize, usize) {
        self.size.square()
    }

    fn apply(&self, image: &mut Image, target: &mut Target, draws: &mut Draws, _: &str) -> Result<(), DataError> {
        let [top, left, h, w] = self.part(image.height, image.width, draws).map(|place| place as isize);
        let (height, width) = self.size.square();
        let part = |image: &Image, fill: u8| crop(image, top, left, h as usize, w as usize, fill);
        *image = resize(&part(image, 0), height, width, Filter::Bilinear);
        if let Target::Mask(mask) = target {
            *mask = nearest(&part(mask, IGNORED), height, width);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_the_shares_and_proportions_that_were_asked_for() {
        let augment = RandomResizedCrop { size: Extent::Edge(8), scale: shares(), ratio: proportions() };
        let mut draws = crate::random::augmentation(1, 0, 0);
        let (mut areas, mut tall) = (Vec::new(), 0);
        for _ in 0..2000 {
            let [top, left, h, w] = augment.part(300, 200, &mut draws);
            assert!(top + h <= 300 && left + w <= 200, "{top} {left} {h} {w}");
            let (share, ratio) = ((h * w) as f64 / 60_000.0, w as f64 / h as f64);
            assert!((0.079..=1.0).contains(&share) && (0.73..1.36).contains(&ratio), "{share} {ratio}");
            areas.push(share);
            tall += usize::from(h > w);
        }
        areas.sort_by(f64::total_cmp);
        // Evenly from 0.08 to 1, but for the largest, which do not fit into an image that is not square.
        assert!((0.10..0.16).contains(&areas[100]) && areas[1999] > 0.75, "{} {}", areas[100], areas[1999]);
        assert!((800..1400).contains(&tall), "{tall}");
    }

    #[test]
    fn what_never_fits_is_the_largest_part_in_the_middle() {
        // torchvision 0.29.2: RandomResizedCrop.get_params(img, [1, 1], [3/4, 4/3]) for these sizes.
        let augment = RandomResizedCrop { size: Extent::Edge(8), scale: [1.0, 1.0], ratio: proportions() };
        let mut draws = crate::random::augmentation(2, 0, 0);
        for ((height, width), part) in
            [((20, 200), [0, 86, 20, 27]), ((200, 21), [86, 0, 28, 21]), ((1, 90), [0, 44, 1, 1])]
        {
            assert_eq!(augment.part(height, width, &mut draws), part, "{height}x{width}");
        }
    }

    #[test]
    fn an_image_and_its_mask_stay_together() {
        let augment = RandomResizedCrop { size: Extent::Exact { height: 6, width: 5 }, ..sized() };
        let mut draws = crate::random::augmentation(3, 0, 0);
        // The left half is dark and of class 0, the right half bright and of class 1.
        let half = |low: u8, high: u8| (0..40 * 40).map(|at| if at % 40 < 20 { low } else { high }).collect();
        for _ in 0..50 {
            let mut image = Image { channels: 1, height: 40, width: 40, pixels: half(0, 200) };
            let mut target = Target::Mask(Image { channels: 1, height: 40, width: 40, pixels: half(0, 1) });
            augment.apply(&mut image, &mut target, &mut draws, "").unwrap();
            let Target::Mask(mask) = target else { unreachable!() };
            assert_eq!((image.height, image.width, mask.height, mask.width), (6, 5, 6, 5));
            let apart =
                image.pixels.iter().zip(&mask.pixels).filter(|(bright, class)| (**bright > 100) != (**class == 1));
            // Along the edge a pixel may fall to either side.
            assert!(apart.count() <= 6);
        }
    }

    fn sized() -> RandomResizedCrop {
        RandomResizedCrop { size: Extent::Edge(1), scale: shares(), ratio: proportions() }
    }

    #[test]
    fn settings_that_draw_nothing_are_refused() {
        for (augment, key) in [
            (RandomResizedCrop { scale: [0.0, 1.0], ..sized() }, "scale"),
            (RandomResizedCrop { scale: [0.5, 1.5], ..sized() }, "scale"),
            (RandomResizedCrop { ratio: [2.0, 1.0], ..sized() }, "ratio"),
        ] {
            let error = augment.check(false).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("data.augment.random_resized_crop.{key}: expected two numbers")),
                "{error}"
            );
        }
        assert!(sized().check(true).is_err() && sized().check(false).is_ok());
    }
}
