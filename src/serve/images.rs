//! Image files as inputs, and answers that are images.

use std::io::Cursor;

use image::{DynamicImage, GrayImage, ImageFormat};
use rekindle_state::Tensor;

use crate::data::DataError;
use crate::data::prepare::Preparation;

/// How images become an input of a model, and its answers images again.
#[derive(Debug, Clone)]
pub struct Images {
    preparation: Preparation,
    /// The shape of one item of the input, where that is no image: a sequence of rows, or features.
    item: Option<Vec<u64>>,
}

impl Images {
    /// As a preparation says.
    pub fn new(preparation: Preparation) -> Self {
        Self { preparation, item: None }
    }

    /// The same for a network whose input has other axes than an image.
    #[must_use]
    pub fn as_item(self, shape: Vec<u64>) -> Self {
        Self { item: Some(shape), ..self }
    }

    /// The bytes of an image file as one item of the input, with an axis for the batch.
    ///
    /// # Errors
    /// When they are no image.
    pub fn read(&self, file: &[u8]) -> Result<Tensor, String> {
        let mut values = Vec::new();
        let shape: [usize; 3] = self.preparation.read_bytes(file, &mut values).map_err(words)?.into();
        let image = shape.iter().map(|size| *size as u64).collect();
        let shape: Vec<u64> = std::iter::once(1).chain(self.item.clone().unwrap_or(image)).collect();
        Tensor::from_f32(&shape, &values).map_err(|error| error.to_string())
    }

    /// A PNG file of an enlarged image: its luma as given, its colours interpolated from the original.
    ///
    /// # Errors
    /// When the original is no image, or the file cannot be made.
    pub fn enlarged(&self, original: &[u8], luma: &[u8], height: usize, width: usize) -> Result<Vec<u8>, String> {
        png(&self.preparation.enlarged_bytes(original, luma, height, width).map_err(words)?)
    }

    /// A PNG file of grey values.
    ///
    /// # Errors
    /// When there are not as many as pixels.
    pub fn grey(&self, values: Vec<u8>, height: usize, width: usize) -> Result<Vec<u8>, String> {
        let image = GrayImage::from_raw(width as u32, height as u32, values).ok_or("the answer is no image")?;
        png(&image.into())
    }
}

fn png(image: &DynamicImage) -> Result<Vec<u8>, String> {
    let mut file = Cursor::new(Vec::new());
    image.write_to(&mut file, ImageFormat::Png).map_err(|error| error.to_string())?;
    Ok(file.into_inner())
}

fn words(error: DataError) -> String {
    match error {
        DataError::Decode { source, .. } => format!("the image cannot be decoded: {source}"),
        other => other.to_string(),
    }
}
