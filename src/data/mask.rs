//! Masks: PNG files whose pixels are numbers of classes, with PASCAL VOC's colours as palette.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use png::{BitDepth, ColorType, Decoder, Encoder, Transformations};

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

/// The PNG file of a mask: the numbers of classes, row by row, as indices of a palette with VOC's colours.
///
/// # Errors
/// When there are not as many numbers as pixels.
pub fn file(classes: &[u8], [height, width]: [usize; 2]) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(ColorType::Indexed);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_palette((0..=u8::MAX).flat_map(colour).collect::<Vec<u8>>());
    let mut writer = encoder.write_header()?;
    writer.write_image_data(classes)?;
    writer.finish()?;
    Ok(bytes)
}

/// PASCAL VOC's colour of a class: its bits, spread from the highest bit of each channel downwards. White where none counts.
pub fn colour(class: u8) -> [u8; 3] {
    if class == IGNORED {
        return [255; 3];
    }
    [0, 1, 2].map(|channel| {
        // Of 8 bits; the third of blue would be the ninth.
        let bit = |place: u32| class.checked_shr(3 * place + channel).unwrap_or(0) & 1;
        (0..3).fold(0, |value, place| value | bit(place) << (7 - place))
    })
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
    fn classes_have_the_colours_of_voc() {
        let found = [0, 1, 2, 3, 4, 8, 15, 20, 64, 255].map(colour);
        let expected = [
            [0, 0, 0],
            [128, 0, 0],
            [0, 128, 0],
            [128, 128, 0],
            [0, 0, 128],
            [64, 0, 0],
            [192, 128, 128],
            [0, 64, 128],
            [32, 0, 0],
            [255, 255, 255],
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_mask_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mask.png");
        std::fs::write(&path, file(&[0, 1, 2, 255, 20, 3], [2, 3]).unwrap()).unwrap();
        assert_eq!(read(&path, 21).unwrap().pixels, [0, 1, 2, 255, 20, 3]);
        assert!(file(&[0, 1], [2, 3]).is_err());
    }

    #[test]
    fn values_of_any_depth_are_unpacked() {
        let unpacked = |row: &[u8], bits| (0..row.len() * 8 / bits).map(|at| unpack(row, at, bits)).collect::<Vec<_>>();
        assert_eq!(unpacked(&[0b1010_0001], 1), [1, 0, 1, 0, 0, 0, 0, 1]);
        assert_eq!(unpacked(&[0b1101_0010], 2), [3, 1, 0, 2]);
        assert_eq!(unpacked(&[0x5f, 0x0a], 4), [5, 15, 0, 10]);
        assert_eq!(unpacked(&[0, 255], 8), [0, 255]);
    }
}
