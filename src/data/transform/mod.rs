//! From a picture of bytes to the values a network reads.

mod augment;
pub mod pixels;
mod settings;

pub use augment::{Augment, RandomCrop, RandomHorizontalFlip, RandomResizedCrop, RandomVerticalFlip};
pub use settings::{Extent, Normalize};

use super::{DataError, IGNORED, Image, ImageDataset, Sample, Shape, Target};
use crate::random;
pub use pixels::Filter;
use pixels::{centre_crop, luma, nearest, replicate, resize};

/// Sizes above this are refused: a slip of the keyboard should not ask for a terabyte.
const MOST_PIXELS: usize = 16_384;

/// The values of 256 bytes after normalization.
type Table = [f32; 256];

/// What happens to each picture, in this order: grey, resize, centre crop, augmentation, values
/// from 0 to 1, normalization.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transforms {
    /// Turn colours into luma (ITU-R BT.601), one channel unless `channels` says 3.
    pub grayscale: bool,
    /// Number of channels of the result: 3 repeats a grey picture, 1 is the luma of a coloured
    /// one. `None` keeps what there is.
    pub channels: Option<usize>,
    /// Scale to this size.
    pub resize: Option<Extent>,
    /// How new pixels are computed from old ones when pictures are scaled.
    pub interpolation: Filter,
    /// Cut this size out of the centre; black where the picture ends.
    pub center_crop: Option<Extent>,
    /// Random changes, for training.
    pub augment: Vec<Augment>,
    /// Mean and standard deviation of each channel.
    pub normalize: Option<Normalize>,
}

/// Transforms that were checked against a set of pictures, ready to run.
#[derive(Debug, Clone)]
pub struct Pipeline {
    transforms: Transforms,
    output: Shape,
    tables: Vec<Table>,
    raw: Table,
}

/// Checks a height and a width.
fn check_size(key: &str, (height, width): (usize, usize)) -> Result<(), DataError> {
    if (1..=MOST_PIXELS).contains(&height) && (1..=MOST_PIXELS).contains(&width) {
        return Ok(());
    }
    Err(DataError::setting(
        key,
        format!("sizes from 1 to {MOST_PIXELS} pixels"),
        format!("{height}x{width}"),
        "choose a size that fits the network",
    ))
}

/// Refuses a setting that moves an image against its target.
fn unaligned(key: &str) -> DataError {
    DataError::setting(
        key,
        "nothing, because pairs of pictures for super-resolution must stay aligned",
        "a setting",
        "use data.crop for the size of the pictures",
    )
}

impl Transforms {
    /// Checks the settings against the pictures of a set.
    pub fn prepare(&self, dataset: &dyn ImageDataset) -> Result<Pipeline, DataError> {
        self.prepare_for(dataset.shape(), dataset.target_shape().is_some())
    }

    /// Checks the settings against pictures of size `shape`. With `pairs`, targets are pictures
    /// too, and what would move the one against the other is refused.
    pub fn prepare_for(&self, shape: Shape, pairs: bool) -> Result<Pipeline, DataError> {
        self.check_sizes(pairs)?;
        let mut output = shape;
        output.channels = self.output_channels(shape.channels)?;
        if let Some(extent) = self.resize {
            (output.height, output.width) = extent.shorter_edge(shape.height, shape.width);
        }
        if let Some(extent) = self.center_crop {
            (output.height, output.width) = extent.square();
        }
        for augment in &self.augment {
            (output.height, output.width) = augment.output((output.height, output.width));
        }
        Ok(Pipeline { transforms: self.clone(), output, tables: self.tables(output.channels)?, raw: table(0.0, 1.0) })
    }

    /// The number of channels after the transforms.
    fn output_channels(&self, channels: usize) -> Result<usize, DataError> {
        let grey = self.grayscale || channels == 1;
        match self.channels {
            None if grey => Ok(1),
            None => Ok(channels),
            Some(1) => Ok(1),
            Some(wanted @ 3) if grey || channels == 3 => Ok(wanted),
            Some(wanted) => Err(DataError::setting(
                "channels",
                "1 or 3",
                wanted.to_string(),
                format!("the pictures have {channels}"),
            )),
        }
    }

    fn check_sizes(&self, pairs: bool) -> Result<(), DataError> {
        for (key, extent) in [("resize", self.resize), ("center_crop", self.center_crop)] {
            if let Some(extent) = extent {
                check_size(key, extent.square())?;
                if pairs {
                    return Err(unaligned(key));
                }
            }
        }
        self.augment.iter().try_for_each(|augment| augment.check(pairs))
    }

    fn tables(&self, channels: usize) -> Result<Vec<Table>, DataError> {
        let Some(Normalize { mean, std }) = &self.normalize else {
            return Ok(vec![table(0.0, 1.0); channels]);
        };
        for (key, values) in [("normalize.mean", mean), ("normalize.std", std)] {
            if values.len() != channels && values.len() != 1 {
                return Err(DataError::setting(
                    key,
                    format!("1 number or {channels}, one for each channel of the pictures"),
                    format!("{} numbers", values.len()),
                    "give as many numbers as there are channels",
                ));
            }
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                return Err(DataError::setting(
                    key,
                    "finite numbers",
                    value.to_string(),
                    "give the statistics of pixels between 0 and 1",
                ));
            }
        }
        if std.contains(&0.0) {
            return Err(DataError::setting(
                "normalize.std",
                "numbers other than zero, because values are divided by them",
                format!("{std:?}"),
                "give the statistics of pixels between 0 and 1",
            ));
        }
        let at = |values: &[f32], channel: usize| values[channel.min(values.len() - 1)];
        Ok((0..channels).map(|channel| table(at(mean, channel), at(std, channel))).collect())
    }
}

/// The 256 values of one channel, computed in the steps and in the precision of torchvision's
/// `ToTensor` and `Normalize`.
fn table(mean: f32, std: f32) -> Table {
    std::array::from_fn(|value| (value as f32 / 255.0 - mean) / std)
}

impl Pipeline {
    /// The size of the pictures after the transforms. It holds for pictures of the size that the
    /// pipeline was prepared for.
    pub fn output(&self) -> Shape {
        self.output
    }

    /// Whether pictures only become numbers, so that they need no copy of their own.
    pub(crate) fn is_plain(&self, shape: Shape) -> bool {
        let fixed = &self.transforms;
        shape == self.output
            && !(fixed.grayscale && shape.channels == 3)
            && fixed.augment.is_empty()
            && fixed.resize.is_none()
            && fixed.center_crop.is_none()
    }

    /// Applies everything but augmentation and normalization.
    pub fn shape_up(&self, mut image: Image, origin: &str) -> Result<Image, DataError> {
        let transforms = &self.transforms;
        let wants_grey = transforms.grayscale || transforms.channels == Some(1);
        if wants_grey && image.channels == 3 {
            image = luma(&image);
        }
        if let Some(extent) = transforms.resize {
            let (height, width) = extent.shorter_edge(image.height, image.width);
            if height > MOST_PIXELS || width > MOST_PIXELS || height == 0 || width == 0 {
                return Err(DataError::Unsuitable {
                    origin: origin.to_owned(),
                    expected: format!("a picture that data.resize = {extent} can scale"),
                    found: format!("{}x{} pixels", image.height, image.width),
                    hint: "give data.resize as [height, width] or remove the picture".to_owned(),
                });
            }
            image = resize(&image, height, width, transforms.interpolation);
        }
        if let Some(extent) = transforms.center_crop {
            let (height, width) = extent.square();
            image = centre_crop(&image, height, width, 0);
        }
        // Last, so that the steps before work on one channel.
        if image.channels == 1 && transforms.channels == Some(3) {
            image = replicate(&image, 3);
        }
        Ok(image)
    }

    /// The mask of an image after [`Self::shape_up`]: in the same place, of the same size.
    fn shape_up_mask(&self, mut mask: Image) -> Image {
        if let Some(extent) = self.transforms.resize {
            let (height, width) = extent.shorter_edge(mask.height, mask.width);
            mask = nearest(&mask, height, width);
        }
        match self.transforms.center_crop.map(Extent::square) {
            Some((height, width)) => centre_crop(&mask, height, width, IGNORED),
            None => mask,
        }
    }

    /// Applies everything but normalization to picture `index` of epoch `epoch`.
    pub(crate) fn apply(
        &self,
        sample: Sample,
        (seed, epoch, index): (u64, usize, usize),
        origin: &str,
    ) -> Result<Sample, DataError> {
        let mut image = self.shape_up(sample.image, origin)?;
        let mut target = match sample.target {
            Target::Mask(mask) => Target::Mask(self.shape_up_mask(mask)),
            other => other,
        };
        if !self.transforms.augment.is_empty() {
            let mut draws = random::augmentation(seed, epoch, index);
            for augment in &self.transforms.augment {
                augment.apply(&mut image, &mut target, &mut draws, origin)?;
            }
        }
        Ok(Sample { image, target })
    }

    /// Appends the normalized values of a picture's pixels, `[channels * height * width]`.
    pub fn normalize(&self, shape: Shape, pixels: &[u8], out: &mut Vec<f32>) {
        let planes = pixels.chunks_exact((shape.height * shape.width).max(1));
        for (plane, table) in planes.zip(&self.tables) {
            out.extend(plane.iter().map(|&value| table[usize::from(value)]));
        }
    }

    /// Appends the values of a target picture's pixels, from 0 to 1.
    pub(crate) fn scale(&self, pixels: &[u8], out: &mut Vec<f32>) {
        out.extend(pixels.iter().map(|&value| self.raw[usize::from(value)]));
    }
}
