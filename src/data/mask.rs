//! Masks: PNG files whose pixels are numbers of classes, as in PASCAL VOC.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use png::{BitDepth, ColorType, Decoder, Transformations};

use super::image_file::{MOST_BYTES, decode_error};
use super::{DataError, IGNORED, Image, Shape};

/// Reads the numbers of a mask: the indices of a palette, or the values of a grey image.
///
/// # Errors
/// When the file is no such PNG, or a pixel has a number that is neither below `classes` nor [`IGNORED`].
pub fn read(path: &Path, classes: usize) -> Result<Image, DataError> {
    let file = File::open(path).map_err(DataError::io(path, "read the file"))?;
    let mut decoder = Decoder::new(BufReader::new(file));
    // Numbers as they are stored: no palette is looked up, nothing is scaled.
    decoder.set_transformations(Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(|error| decode_error(path, error))?;
    let (colour, depth) = reader.output_color_type();
    let (height, width) = (reader.info().height as usize, reader.info().width as usize);
    let bits = match (colour, depth) {
        (ColorType::Indexed | ColorType::Grayscale, BitDepth::One) => 1,
        (ColorType::Indexed | ColorType::Grayscale, BitDepth::Two) => 2,
        (ColorType::Indexed | ColorType::Grayscale, BitDepth::Four) => 4,
        (ColorType::Indexed | ColorType::Grayscale, BitDepth::Eight) => 8,
        _ => {
            return Err(DataError::damaged(
                path,
                "a mask: a PNG file with a palette or grey, of at most 8 bits",
                format!("{colour:?} of {depth:?} bits"),
                "save the numbers of the classes as grey values",
            ));
        }
    };
    let size =
        reader.output_buffer_size().filter(|size| *size <= MOST_BYTES && height.saturating_mul(width) <= MOST_BYTES);
    let Some(size) = size else {
        return Err(DataError::damaged(
            path,
            "a mask of at most 512 MiB",
            format!("{width}x{height}"),
            "scale it down",
        ));
    };
    let mut rows = vec![0; size];
    let line = reader.next_frame(&mut rows).map_err(|error| decode_error(path, error))?.line_size;
    let mut pixels = Vec::with_capacity(height * width);
    for row in rows.chunks_exact(line.max(1)).take(height) {
        pixels.extend((0..width).map(|column| unpack(row, column, bits)));
    }
    if let Some(unknown) = pixels.iter().find(|class| usize::from(**class) >= classes && **class != IGNORED) {
        return Err(DataError::damaged(
            path,
            format!("classes below {classes}, or {IGNORED} where none counts"),
            unknown.to_string(),
            "name all classes, or correct the mask",
        ));
    }
    Ok(Image::from_shape(Shape { channels: 1, height, width }, pixels))
}

/// The value of a column in a row of values of so many bits, the first one in the highest bits.
fn unpack(row: &[u8], column: usize, bits: usize) -> u8 {
    let at = column * bits;
    let byte = row.get(at / 8).copied().unwrap_or(0);
    (byte >> (8 - bits - at % 8)) & (u8::MAX >> (8 - bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_any_depth_are_unpacked() {
        let unpacked = |row: &[u8], bits| (0..row.len() * 8 / bits).map(|at| unpack(row, at, bits)).collect::<Vec<_>>();
        assert_eq!(unpacked(&[0b1010_0001], 1), [1, 0, 1, 0, 0, 0, 0, 1]);
        assert_eq!(unpacked(&[0b1101_0010], 2), [3, 1, 0, 2]);
        assert_eq!(unpacked(&[0x5f, 0x0a], 4), [5, 15, 0, 10]);
        assert_eq!(unpacked(&[0, 255], 8), [0, 255]);
    }
}
