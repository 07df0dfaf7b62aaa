//! Operations on whole pictures of bytes.

use image::imageops::{self, FilterType};
use image::{ImageBuffer, Luma};
use serde::{Deserialize, Serialize};

use crate::data::{Image, Shape};

/// How new pixels are computed from old ones. Both filters widen when a picture shrinks, which
/// keeps it free of aliasing, as PIL's do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// Linear in both directions.
    #[default]
    Bilinear,
    /// Cubic with a = -0.5 in both directions.
    Bicubic,
}

/// The luma of a picture of three channels: ITU-R BT.601, in the integer arithmetic of PIL's
/// `convert("L")`. A picture of one channel stays as it is.
pub fn luma(image: &Image) -> Image {
    let planes: Vec<&[u8]> = image.planes().collect();
    let [red, green, blue] = planes[..] else {
        return image.clone();
    };
    let pixels = red
        .iter()
        .zip(green)
        .zip(blue)
        .map(|((&r, &g), &b)| {
            let sum = 19_595 * u32::from(r) + 38_470 * u32::from(g) + 7_471 * u32::from(b);
            ((sum + 0x8000) >> 16) as u8
        })
        .collect();
    Image { channels: 1, height: image.height, width: image.width, pixels }
}

/// The first channel `channels` times.
pub fn replicate(image: &Image, channels: usize) -> Image {
    let plane = &image.pixels[..image.height * image.width];
    Image { channels, height: image.height, width: image.width, pixels: plane.repeat(channels) }
}

/// The picture scaled to `height` x `width`, both at least 1.
pub fn resize(image: &Image, height: usize, width: usize, filter: Filter) -> Image {
    if (height, width) == (image.height, image.width) {
        return image.clone();
    }
    let filter = match filter {
        Filter::Bilinear => FilterType::Triangle,
        Filter::Bicubic => FilterType::CatmullRom,
    };
    let mut pixels = Vec::with_capacity(image.channels * height * width);
    for plane in image.planes() {
        let plane: Option<ImageBuffer<Luma<u8>, &[u8]>> =
            ImageBuffer::from_raw(image.width as u32, image.height as u32, plane);
        if let Some(plane) = plane {
            let scaled = imageops::resize(&plane, width as u32, height as u32, filter);
            pixels.extend_from_slice(scaled.as_raw());
        }
    }
    Image { channels: image.channels, height, width, pixels }
}

/// The image scaled to `height` x `width` by taking the nearest pixel, as PIL's `NEAREST`: for masks, whose numbers have no mean.
pub fn nearest(image: &Image, height: usize, width: usize) -> Image {
    let from = |at: usize, size: usize, old: usize| (2 * at + 1) * old / (2 * size);
    let mut pixels = Vec::with_capacity(image.channels * height * width);
    for plane in image.planes() {
        for row in 0..height {
            let line = &plane[from(row, height, image.height) * image.width..];
            pixels.extend((0..width).map(|column| line[from(column, width, image.width)]));
        }
    }
    Image { channels: image.channels, height, width, pixels }
}

/// The part of `height` x `width` whose upper left corner lies at (`top`, `left`); what lies
/// outside of the picture is `fill`.
pub fn crop(image: &Image, top: isize, left: isize, height: usize, width: usize, fill: u8) -> Image {
    let shape = Shape { channels: image.channels, height, width };
    let mut out = Image::filled(shape, fill);
    // The columns of the crop that the picture covers.
    let from = left.min(0).unsigned_abs().min(width);
    let source = left.max(0) as usize;
    let count = (width - from).min(image.width.saturating_sub(source));
    for channel in 0..image.channels {
        for row in 0..height {
            let y = top + row as isize;
            if count == 0 || y < 0 || y as usize >= image.height {
                continue;
            }
            let old = (channel * image.height + y as usize) * image.width + source;
            let new = (channel * height + row) * width + from;
            out.pixels[new..new + count].copy_from_slice(&image.pixels[old..old + count]);
        }
    }
    out
}

/// The part of `height` x `width` around the centre, placed as by torchvision's `CenterCrop`
/// (half a pixel is rounded to even); what lies outside of the picture is `fill`.
pub fn centre_crop(image: &Image, height: usize, width: usize, fill: u8) -> Image {
    let start = |size: usize, part: usize| {
        let twice = size as isize - part as isize;
        let half = twice.div_euclid(2);
        if twice.rem_euclid(2) == 1 && half.rem_euclid(2) == 1 { half + 1 } else { half }
    };
    let (top, left) = (start(image.height, height), start(image.width, width));
    crop(image, top, left, height, width, fill)
}

/// Mirrors the picture left to right.
pub fn flip(image: &mut Image) {
    let width = image.width.max(1);
    for row in image.pixels.chunks_exact_mut(width) {
        row.reverse();
    }
}

/// Mirrors the image top to bottom.
pub fn flip_vertically(image: &mut Image) {
    let (height, width) = (image.height, image.width);
    for plane in image.pixels.chunks_exact_mut((height * width).max(1)) {
        for row in 0..height / 2 {
            let (above, below) = plane.split_at_mut((height - 1 - row) * width);
            above[row * width..][..width].swap_with_slice(&mut below[..width]);
        }
    }
}
