//! Images with a mask each.

use std::sync::Arc;

use super::{Contents, DataSet, Request};
use crate::data::{DataError, ImageDataset, SegmentationFolder};

#[derive(Debug)]
pub(super) struct Masked;

impl DataSet for Masked {
    fn name(&self) -> &'static str {
        "segmentation-folder"
    }

    fn recognizes(&self, contents: &Contents) -> bool {
        let has = |name: &str| contents.files.iter().any(|file| file == name);
        has("masks") || has("SegmentationClass") || has("classes.txt")
    }

    fn open(&self, request: &Request<'_>) -> Result<Arc<dyn ImageDataset>, DataError> {
        let mut set = SegmentationFolder::open(&request.place(self)?.unwrap_or_default(), request.split)?;
        set.truncate(request.limit()?);
        Ok(Arc::new(set))
    }
}
