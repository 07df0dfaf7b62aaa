//! Image files as a network's input: what `predict` does to a picture, and says that it did.

use std::fmt;
use std::path::Path;

use image::{DynamicImage, GrayImage, RgbImage};

use super::transform::{Extent, Normalize, Transforms, pixels};
use super::{DataConfig, DataError, Image, Shape, Split, image_file, open};
use crate::models::published::Preset;

/// Mean and standard deviation of ImageNet's channels, as torchvision's weights expect them.
const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/// How pictures become inputs.
#[derive(Debug, Clone)]
pub struct Preparation {
    channels: usize,
    /// Height and width of the input; none for a network that takes any size.
    size: Option<(usize, usize)>,
    /// Length of the shorter edge before the centre is cut out.
    edge: usize,
    transforms: Transforms,
}

impl Preparation {
    /// From the network's input (channels, height, width), how it is known to have been trained, and `--normalize`, which wins.
    pub fn new(
        [channels, height, width]: [usize; 3],
        known: Option<Normalize>,
        normalize: Option<&str>,
    ) -> Result<Self, DataError> {
        let is_imagenet = normalize == Some("imagenet");
        let normalize = match normalize {
            Some(text) => parse_normalize(text, channels)?,
            None => known,
        };
        let side = height.min(width);
        let edge = if is_imagenet { imagenet_edge(side) } else { side };
        let transforms =
            Transforms { grayscale: channels == 1, channels: Some(channels), normalize, ..Transforms::default() };
        Ok(Self { channels, size: Some((height, width)), edge, transforms })
    }

    /// The same with the sizes and the interpolation of published weights, and with their normalization unless `normalized` says that another
    /// one was asked for.
    #[must_use]
    pub fn published(mut self, preset: &Preset, normalized: bool) -> Self {
        // Every image is scaled, as torchvision does it, also one that has the network's size already.
        self.size = None;
        self.transforms.resize = Some(Extent::Edge(preset.edge));
        self.transforms.center_crop = preset.crop.map(Extent::Edge);
        self.transforms.interpolation = preset.filter();
        if !normalized {
            self.transforms.normalize = Some(preset.normalize());
        }
        self
    }

    /// The same for a network that takes pictures of any size: they are not scaled.
    #[must_use]
    pub fn any_size(self) -> Self {
        Self { size: None, ..self }
    }

    /// Appends a picture's values `[channels, height, width]` to `values`; gives the shape.
    pub fn read(&self, path: &Path, values: &mut Vec<f32>) -> Result<Shape, DataError> {
        self.append(image_file::read(path)?, &path.display().to_string(), values)
    }

    /// The same with the bytes of an image file that somebody sent.
    ///
    /// # Errors
    /// When they are no image, or one that cannot be prepared.
    pub fn read_bytes(&self, file: &[u8], values: &mut Vec<f32>) -> Result<Shape, DataError> {
        self.append(image_file::decode(file)?, image_file::SENT, values)
    }

    fn append(&self, image: Image, origin: &str, values: &mut Vec<f32>) -> Result<Shape, DataError> {
        let mut transforms = self.transforms.clone();
        // A picture of the right size is left as it is.
        if let Some((height, width)) = self.size.filter(|size| *size != (image.height, image.width)) {
            transforms.resize = Some(Extent::Edge(self.edge));
            transforms.center_crop = Some(Extent::Exact { height, width });
        }
        let pipeline = transforms.prepare_for(image.shape(), false)?;
        let image = pipeline.shape_up(image, origin)?;
        pipeline.normalize(image.shape(), &image.pixels, values);
        Ok(image.shape())
    }

    /// Writes an enlarged picture: its luma as given, its colours (if it has any) interpolated from the original.
    pub fn save_enlarged(
        &self,
        original: &Path,
        luma: &[u8],
        height: usize,
        width: usize,
        output: &Path,
    ) -> Result<(), DataError> {
        let enlarged = enlarged(&image_file::read(original)?, luma, height, width);
        enlarged.save(output).map_err(|source| DataError::Decode { path: output.to_path_buf(), source })
    }

    /// The same picture in memory, of the bytes of an image file that somebody sent.
    ///
    /// # Errors
    /// When they are no image.
    pub fn enlarged_bytes(
        &self,
        original: &[u8],
        luma: &[u8],
        height: usize,
        width: usize,
    ) -> Result<DynamicImage, DataError> {
        Ok(enlarged(&image_file::decode(original)?, luma, height, width))
    }
}

/// A picture of that luma with the colours of another one.
fn enlarged(original: &Image, luma: &[u8], height: usize, width: usize) -> DynamicImage {
    let colours = pixels::resize(original, height, width, pixels::Filter::Bicubic);
    let (wide, high) = (width as u32, height as u32);
    if is_grey(&colours) {
        GrayImage::from_raw(wide, high, luma.to_vec()).unwrap_or_default().into()
    } else {
        RgbImage::from_raw(wide, high, with_luma(&colours, luma)).unwrap_or_default().into()
    }
}

/// torchvision scales the shorter edge to 256 before it cuts 224 out of the centre.
fn imagenet_edge(side: usize) -> usize {
    side * 256 / 224
}

/// The settings of a data set whose pictures are prepared for a network that no recipe says more about: channels and size of its
/// input (channels, height, width), how it is known to have been trained, and `--normalize`, which wins.
///
/// # Errors
/// When `normalize` cannot be read.
pub fn fitted(
    data: DataConfig,
    [channels, height, width]: [usize; 3],
    known: Option<Normalize>,
    normalize: Option<&str>,
) -> Result<DataConfig, DataError> {
    let side = height.min(width);
    let edge = if normalize == Some("imagenet") { imagenet_edge(side) } else { side };
    let normalize = match normalize {
        Some(text) => parse_normalize(text, channels)?,
        None => known,
    };
    Ok(DataConfig {
        grayscale: channels == 1,
        channels: Some(channels),
        resize: Some(Extent::Edge(edge)),
        center_crop: Some(Extent::Exact { height, width }),
        normalize,
        ..data
    })
}

fn is_grey(image: &Image) -> bool {
    let planes: Vec<&[u8]> = image.planes().collect();
    planes.iter().all(|plane| *plane == planes[0])
}

/// Interleaved red, green and blue of a picture whose luma is replaced: the difference goes to all three channels, which leaves
/// the chroma (ITU-R BT.601) as it was.
fn with_luma(colours: &Image, luma: &[u8]) -> Vec<u8> {
    let old = pixels::luma(colours);
    let planes: Vec<&[u8]> = colours.planes().collect();
    let mut out = Vec::with_capacity(luma.len() * 3);
    for (i, (&new, &old)) in luma.iter().zip(&old.pixels).enumerate() {
        let change = i16::from(new) - i16::from(old);
        out.extend(planes.iter().map(|plane| (i16::from(plane[i]) + change).clamp(0, 255) as u8));
    }
    out
}

/// `imagenet`, `none` (values 0 to 1), `bytes` (values 0 to 255), or `MEAN/STD` with numbers joined by commas: `0.5/0.5`, `0.49,0.48,0.44/0.25,0.24,0.26`.
///
/// # Errors
/// When the text is none of these, or ImageNet's figures are asked for another number of channels than three.
pub fn parse_normalize(text: &str, channels: usize) -> Result<Option<Normalize>, DataError> {
    let wrong = || {
        DataError::option(
            "--normalize",
            "imagenet, none, bytes, or MEAN/STD such as 0.5/0.5",
            text,
            "numbers are joined by commas",
        )
    };
    match text {
        "none" => return Ok(None),
        "bytes" => return Ok(Some(Normalize { mean: vec![0.0; channels], std: vec![1.0 / 255.0; channels] })),
        "imagenet" if channels == 3 => {
            return Ok(Some(Normalize { mean: IMAGENET.0.to_vec(), std: IMAGENET.1.to_vec() }));
        }
        "imagenet" => {
            return Err(DataError::option(
                "--normalize",
                format!("figures for {channels} channels"),
                text,
                "use MEAN/STD",
            ));
        }
        _ => {}
    }
    let (mean, std) = text.split_once('/').ok_or_else(wrong)?;
    let numbers = |list: &str| {
        list.split(',').map(|number| number.trim().parse()).collect::<Result<Vec<f32>, _>>().map_err(|_| wrong())
    };
    Ok(Some(Normalize { mean: numbers(mean)?, std: numbers(std)? }))
}

impl fmt::Display for Preparation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", if self.channels == 1 { "luma" } else { "colour" })?;
        match (self.size, &self.transforms.resize, &self.transforms.center_crop) {
            (Some((height, width)), ..) => {
                write!(f, ", shorter edge scaled to {}, centre cut to {height}×{width}", self.edge)?
            }
            (None, Some(edge), Some(crop)) => {
                let (height, width) = crop.square();
                write!(f, ", shorter edge scaled to {edge}, centre cut to {height}×{width}")?
            }
            (None, Some(edge), None) => write!(f, ", shorter edge scaled to {edge}")?,
            (None, None, _) => write!(f, ", size kept")?,
        }
        match &self.transforms.normalize {
            Some(normalize) => {
                write!(f, ", values 0 to 1 normalized by mean {:?} and std {:?}", normalize.mean, normalize.std)
            }
            None => write!(f, ", values 0 to 1"),
        }
    }
}

/// The names of a data set's classes, as far as they are known.
pub fn class_names(data: &DataConfig) -> Vec<String> {
    let known = data.name.set().classes();
    if known.is_empty() {
        return open(data, Path::new(""), Split::Test).map(|set| set.classes().to_vec()).unwrap_or_default();
    }
    known.iter().map(|name| (*name).to_string()).collect()
}
