//! Inputs of a model from files: arrays, ONNX's own test data, pictures.

use std::path::Path;

use rekindle_onnx::graph::Kind;
use rekindle_onnx::{Array, Axis, DType, Error, Port, Result, Value, reference};

use crate::data::DataError;
use crate::data::prepare::Preparation;
use crate::onnx::metadata::Told;

/// Why an input cannot be made of a file.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The file does not hold what the model takes.
    #[error(transparent)]
    Value(#[from] Error),
    /// A picture cannot be read or prepared.
    #[error(transparent)]
    Picture(#[from] DataError),
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] rekindle_state::Error),
}

/// Reads the value of an input: an `.npy` array, a `.pb` of ONNX's test data, or a picture (PNG, JPEG) that is prepared as the
/// input's axes and `normalize` (or the model itself, which `told` it) say. Also says what was done to a picture.
///
/// # Errors
/// When the file cannot be read or does not hold such a value.
pub fn read(
    path: &Path,
    port: &Port,
    told: &Told,
    normalize: Option<&str>,
) -> std::result::Result<(Value, Option<String>), InputError> {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("pb") => Ok((reference::read_value(path, &port.kind)?, None)),
        Some("png" | "jpg" | "jpeg") => picture(path, port, told, normalize),
        _ => {
            let file = rekindle_state::open(path)?;
            let Some(tensor) = file.content.root.as_tensor() else {
                let message =
                    "an input is one array (.npy), a value of ONNX's test data (.pb) or a picture, and this is none";
                return Err(Error::invalid(message).at(path).into());
            };
            Ok((Array::from_tensor(tensor).map_err(|error| error.at(path))?.into(), None))
        }
    }
}

fn picture(
    path: &Path,
    port: &Port,
    told: &Told,
    normalize: Option<&str>,
) -> std::result::Result<(Value, Option<String>), InputError> {
    let wants = image_shape(port).map_err(|error| error.at(path))?;
    let [channels, height, width] = wants.map(|size| size.unwrap_or(0));
    if channels != 1 && channels != 3 {
        let message = format!("a picture has 1 or 3 channels, and the input '{}' takes {channels}", port.name);
        return Err(Error::Input(message).at(path).into());
    }
    let preparation =
        Preparation::new([channels, height.max(1), width.max(1)], told.normalize_for(channels), normalize)?;
    let preparation = if wants[1].is_some() && wants[2].is_some() { preparation } else { preparation.any_size() };
    let mut values = Vec::new();
    let [channels, height, width] = preparation.read(path, &mut values)?.into();
    Ok((Array::new(vec![1, channels, height, width], values)?.into(), Some(preparation.to_string())))
}

/// Channels, height and width of an input `[batch, channels, height, width]` of floats; height and width may be free.
///
/// # Errors
/// When the input is another one.
pub fn image_shape(port: &Port) -> Result<[Option<usize>; 3]> {
    let size = |axis: &Axis| if let Axis::Size(size) = axis { Some(*size) } else { None };
    if let Kind::Array(None | Some(DType::F32), Some(axes)) = &port.kind
        && let [_, channels @ Axis::Size(_), height, width] = axes.as_slice()
    {
        return Ok([size(channels), size(height), size(width)]);
    }
    let message =
        format!("the input '{}' takes no pictures: these are float32 [batch, channels, height, width]", port.name);
    Err(Error::Input(message))
}
