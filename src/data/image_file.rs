//! Decoding of image files, as torchvision's `ImageFolder` reads them.

use std::ffi::OsStr;
use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageBuffer, ImageReader, Limits, Pixel, Rgb, RgbImage};

use super::{DataError, Image, Shape};

/// Extensions of the files that count as images, in lower case: those of torchvision's `IMG_EXTENSIONS`.
pub const EXTENSIONS: [&str; 9] = ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp"];

/// The most memory that an image may take, against files that declare huge sizes; the decoder's own limit.
pub(crate) const MOST_BYTES: usize = 512 << 20;

/// A file that a PNG decoder refused.
pub(crate) fn decode_error(path: &Path, error: png::DecodingError) -> DataError {
    let format = image::error::ImageFormatHint::Exact(image::ImageFormat::Png);
    let source = image::ImageError::Decoding(image::error::DecodingError::new(format, error));
    DataError::Decode { path: path.to_path_buf(), source }
}

/// Whether a file's name is that of an image.
pub(crate) fn is_image(path: &Path) -> bool {
    path.extension()
        .and_then(OsStr::to_str)
        .is_some_and(|extension| EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

/// Reads an image file as red, green and blue, with the values that Pillow's `convert("RGB")` gives: grey is repeated, alpha is
/// dropped, a palette is looked up, CMYK is converted, an animation is its first frame, and an orientation in EXIF is left alone.
/// The content decides, not the extension. The decoder's own limit of 512 MiB stands against files that declare huge sizes.
///
/// JPEG alone may differ, by up to 1 for grey and 6 for subsampled colour of 255: decoders round differently, and Pillow's smooths
/// chroma.
///
/// # Errors
/// When the file cannot be read or decoded.
pub fn read(path: &Path) -> Result<Image, DataError> {
    let failed = |source| DataError::Decode { path: path.to_path_buf(), source };
    Ok(planar(reader(path)?.decode().map_err(failed)?))
}

/// How messages call an image that has no file.
pub(crate) const SENT: &str = "the image";
/// Longest side, and most bytes when it is decoded, of an image that somebody sent: a small file may declare any size.
const SENT_SIDE: u32 = 16_384;
const SENT_BYTES: u64 = 128 << 20;

/// As [`read`], from bytes that somebody sent, within limits of their own.
pub(crate) fn decode(bytes: &[u8]) -> Result<Image, DataError> {
    let failed = |source| DataError::Decode { path: SENT.into(), source };
    let mut reader = ImageReader::new(Cursor::new(bytes));
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(SENT_SIDE), Some(SENT_SIDE));
    limits.max_alloc = Some(SENT_BYTES);
    reader.limits(limits);
    let reader = reader.with_guessed_format().map_err(DataError::io(Path::new(SENT), "read the file"))?;
    Ok(planar(reader.decode().map_err(failed)?))
}

/// Red, green and blue one after another.
fn planar(image: DynamicImage) -> Image {
    let pixels = rgb8(image);
    let shape = rgb(pixels.dimensions());
    let mut planar = Vec::with_capacity(shape.len());
    for channel in 0..3 {
        planar.extend(pixels.as_raw().iter().skip(channel).step_by(3));
    }
    Image::from_shape(shape, planar)
}

/// The size that `read` will give, from the file's header alone.
pub(crate) fn size(path: &Path) -> Result<Shape, DataError> {
    let failed = |source| DataError::Decode { path: path.to_path_buf(), source };
    Ok(rgb(reader(path)?.into_dimensions().map_err(failed)?))
}

/// 8 bits of each channel. Pillow keeps 16-bit grey as integers and cuts them off at 255, but takes the high byte of 16-bit colours.
fn rgb8(image: DynamicImage) -> RgbImage {
    match &image {
        DynamicImage::ImageLuma16(grey) => {
            RgbImage::from_fn(grey.width(), grey.height(), |x, y| Rgb([grey.get_pixel(x, y).0[0].min(255) as u8; 3]))
        }
        DynamicImage::ImageLumaA16(grey) => high_bytes(grey, |pixel| [pixel[0]; 3]),
        DynamicImage::ImageRgb16(colours) => high_bytes(colours, |pixel| [pixel[0], pixel[1], pixel[2]]),
        DynamicImage::ImageRgba16(colours) => high_bytes(colours, |pixel| [pixel[0], pixel[1], pixel[2]]),
        _ => image.into_rgb8(),
    }
}

fn high_bytes<P: Pixel<Subpixel = u16>>(
    image: &ImageBuffer<P, Vec<u16>>,
    colours: impl Fn(&[u16]) -> [u16; 3],
) -> RgbImage {
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        Rgb(colours(image.get_pixel(x, y).channels()).map(|value| (value >> 8) as u8))
    })
}

fn rgb((width, height): (u32, u32)) -> Shape {
    Shape { channels: 3, height: height as usize, width: width as usize }
}

fn reader(path: &Path) -> Result<ImageReader<std::io::BufReader<std::fs::File>>, DataError> {
    ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(DataError::io(path, "read the file"))
}
