//! Pairs of images for super-resolution, made from any set of images.

use std::sync::Arc;

use burn::data::dataset::Dataset;

use super::transform::pixels::{Filter, centre_crop, luma, resize};
use super::{DataError, ImageDataset, Sample, Shape, Target};

/// Pairs of a small and a large grey image.
///
/// The large one, the target, is the luma of the source's image (ITU-R BT.601, PIL's
/// `convert("L")`; the `Y` of PIL's YCbCr is at most 1 of 255 away), cropped around its centre to
/// the largest size that the factor divides, or to the size that is asked for. The small one, the
/// input, is the large one scaled down by the factor with a bicubic filter (a = -0.5) widened
/// against aliasing, as PIL's `BICUBIC` is.
pub struct SuperResolution {
    name: String,
    source: Arc<dyn ImageDataset>,
    factor: usize,
    crop: Option<usize>,
    /// The size of the first target.
    first: Shape,
}

impl SuperResolution {
    /// Pairs from `source`, `factor` times apart. `crop` is the side of the square target in
    /// pixels; it is lowered to a multiple of the factor. Without one, targets are as large as
    /// the images allow.
    pub fn new(source: Arc<dyn ImageDataset>, factor: usize, crop: Option<usize>) -> Result<Self, DataError> {
        if factor < 2 {
            return Err(DataError::setting(
                "upscale_factor",
                "a whole number of at least 2",
                factor.to_string(),
                "set data.upscale_factor = 2",
            ));
        }
        // Refuses a crop or a factor that the first image is too small for.
        let first = target_shape(source.shape(), factor, crop, || source.origin(0))?;
        Ok(Self { name: format!("super-resolution x{factor} of {}", source.name()), source, factor, crop, first })
    }

    /// The size of the input that belongs to a target of size `large`.
    fn small(&self, large: Shape) -> Shape {
        Shape { height: large.height / self.factor, width: large.width / self.factor, ..large }
    }
}

/// The size of the target for an image of size `shape` that comes from `origin`.
fn target_shape(
    shape: Shape,
    factor: usize,
    crop: Option<usize>,
    origin: impl FnOnce() -> String,
) -> Result<Shape, DataError> {
    let (height, width) = match crop {
        Some(side) => (side, side),
        None => (shape.height, shape.width),
    };
    let (height, width) = (height - height % factor, width - width % factor);
    if height == 0 || width == 0 || height > shape.height || width > shape.width {
        let (expected, hint) = match crop {
            Some(side) => (
                format!("an image that data.crop = {side} and the factor {factor} fit into"),
                "choose another data.crop",
            ),
            None => (format!("at least {factor}x{factor} pixels"), "remove the image or lower data.upscale_factor"),
        };
        return Err(DataError::Unsuitable {
            origin: origin(),
            expected,
            found: format!("{}x{} pixels", shape.height, shape.width),
            hint: hint.to_owned(),
        });
    }
    Ok(Shape { channels: 1, height, width })
}

impl Dataset<Sample, DataError> for SuperResolution {
    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let image = self.source.get(index)?.image;
        let large = target_shape(image.shape(), self.factor, self.crop, || self.source.origin(index))?;
        let target = centre_crop(&luma(&image), large.height, large.width, 0);
        let small = self.small(large);
        let image = resize(&target, small.height, small.width, Filter::Bicubic);
        Ok(Sample { image, target: Target::Image(target) })
    }

    fn len(&self) -> usize {
        self.source.len()
    }
}

impl ImageDataset for SuperResolution {
    fn name(&self) -> &str {
        &self.name
    }

    fn shape(&self) -> Shape {
        self.small(self.first)
    }

    fn classes(&self) -> &[String] {
        &[]
    }

    fn target_shape(&self) -> Option<Shape> {
        Some(self.first)
    }

    fn origin(&self, index: usize) -> String {
        self.source.origin(index)
    }

    fn remarks(&self) -> Vec<String> {
        self.source.remarks()
    }
}
