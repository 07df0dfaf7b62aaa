//! Pairs of a small and a large picture, made from another data set.

use std::sync::Arc;

use super::{DataSet, DatasetName, Request};
use crate::data::{DataError, ImageDataset, SuperResolution};

#[derive(Debug)]
pub(super) struct Pairs;

/// How many times larger targets are unless the recipe says.
const FACTOR: usize = 3;

impl DataSet for Pairs {
    fn name(&self) -> &'static str {
        "super-resolution"
    }

    fn keys(&self) -> &'static [&'static str] {
        &["source", "upscale_factor", "crop"]
    }

    fn open(&self, request: &Request<'_>) -> Result<Arc<dyn ImageDataset>, DataError> {
        let source = match request.config.source {
            // Pairs are made of plain pictures.
            Some(source) if source == DatasetName::SUPER_RESOLUTION => return Err(source_needed(self.name())),
            Some(source) => source,
            None => return Err(source_needed("nothing")),
        };
        let images = source.set().open(&Request { labelled: false, ..*request })?;
        let factor = request.config.upscale_factor.unwrap_or(FACTOR);
        Ok(Arc::new(SuperResolution::new(images, factor, request.config.crop)?))
    }
}

fn source_needed(found: &str) -> DataError {
    DataError::setting(
        "source",
        "the set that the pictures come from, such as \"cifar-10\" or \"folder\"",
        found,
        "set data.source",
    )
}
