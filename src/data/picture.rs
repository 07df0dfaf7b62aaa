//! Decoding of PNG and JPEG files.

use std::ffi::OsStr;
use std::path::Path;

use image::ImageReader;

use super::{DataError, Image, Shape};

/// Extensions of the files that count as pictures, in lower case.
const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

/// Whether a file's name is that of a picture.
pub(crate) fn is_picture(path: &Path) -> bool {
    path.extension()
        .and_then(OsStr::to_str)
        .is_some_and(|extension| EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

/// Reads a PNG or JPEG file as red, green and blue, as torchvision's `ImageFolder` does: grey is
/// repeated, alpha is dropped, 16 bits become 8. The content decides, not the extension. The
/// decoder's own limit of 512 MiB stands against files that declare huge sizes.
pub fn read(path: &Path) -> Result<Image, DataError> {
    let failed = |source| DataError::Picture { path: path.to_path_buf(), source };
    let pixels = reader(path)?.decode().map_err(failed)?.into_rgb8();
    let shape = rgb(pixels.dimensions());
    let mut planar = Vec::with_capacity(shape.len());
    for channel in 0..3 {
        planar.extend(pixels.as_raw().iter().skip(channel).step_by(3));
    }
    Ok(Image::from_shape(shape, planar))
}

/// The size that `read` will give, from the file's header alone.
pub(crate) fn size(path: &Path) -> Result<Shape, DataError> {
    let failed = |source| DataError::Picture { path: path.to_path_buf(), source };
    Ok(rgb(reader(path)?.into_dimensions().map_err(failed)?))
}

fn rgb((width, height): (u32, u32)) -> Shape {
    Shape { channels: 3, height: height as usize, width: width as usize }
}

fn reader(path: &Path) -> Result<ImageReader<std::io::BufReader<std::fs::File>>, DataError> {
    ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(DataError::io(path, "read the file"))
}
