//! `ImageDecoder`: the bytes of an image file as pixels.

use std::io::Cursor;

use image::{DynamicImage, ImageReader, Limits};

use super::one;
use crate::operator::{Entry, Parsed, RawNode, Schema, eval};
use crate::{Array, Error};

pub(super) const OPERATORS: &[Entry] = &[Entry::new(
    Schema::new("ImageDecoder", &[20], (1, 1)).attributes(&["pixel_format"]).without_gradient(),
    image_decoder,
)];

/// Pixels along a side that an image may have.
const GREATEST_SIDE: u32 = 1 << 15;
/// Bytes that decoding may take.
const GREATEST_MEMORY: u64 = 1 << 30;

/// What is stored for each pixel.
#[derive(Debug, Clone, Copy, PartialEq)]
enum PixelFormat {
    Rgb,
    Bgr,
    Gray,
}

fn image_decoder(node: &RawNode) -> Parsed {
    let format = match node.attributes.text_or("pixel_format", "RGB")? {
        "RGB" => PixelFormat::Rgb,
        "BGR" => PixelFormat::Bgr,
        "Grayscale" => PixelFormat::Gray,
        other => return Err(Error::invalid(format!("its pixel_format is '{other}', not RGB, BGR or Grayscale"))),
    };
    eval(move |inputs| {
        let bytes = inputs.array(0)?.expect::<u8>()?;
        let mut reader = ImageReader::new(Cursor::new(bytes))
            .with_guessed_format()
            .map_err(|error| Error::invalid(format!("the image cannot be read: {error}")))?;
        if reader.format().is_none() {
            return Err(Error::beyond("an image that is neither BMP, JPEG, PNG, PNM, TIFF nor WebP"));
        }
        let mut limits = Limits::default();
        (limits.max_image_width, limits.max_image_height) = (Some(GREATEST_SIDE), Some(GREATEST_SIDE));
        limits.max_alloc = Some(GREATEST_MEMORY);
        reader.limits(limits);
        let image = reader.decode().map_err(|error| Error::invalid(format!("the image cannot be decoded: {error}")))?;
        one(pixels(&image, format)?)
    })
}

/// Rows of pixels, each with its channels.
fn pixels(image: &DynamicImage, format: PixelFormat) -> crate::Result<Array> {
    let rgb = image.to_rgb8();
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    let mut values = rgb.into_raw();
    match format {
        PixelFormat::Rgb => {}
        PixelFormat::Bgr => values.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| pixel.reverse()),
        PixelFormat::Gray => {
            // The weights of ITU-R 601 in 16 bits, as Pillow has them.
            let gray = |&[r, g, b]: &[u8; 3]| {
                ((u32::from(r) * 19_595 + u32::from(g) * 38_470 + u32::from(b) * 7_471 + 0x8000) >> 16) as u8
            };
            values = values.as_chunks::<3>().0.iter().map(gray).collect();
        }
    }
    Array::new(vec![height, width, if format == PixelFormat::Gray { 1 } else { 3 }], values)
}
