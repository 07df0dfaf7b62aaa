//! Image files, a folder for each class.

use std::sync::Arc;

use super::{DataSet, Request};
use crate::data::{DataError, FolderDataset, ImageDataset};

#[derive(Debug)]
pub(super) struct Folder;

impl DataSet for Folder {
    fn name(&self) -> &'static str {
        "folder"
    }

    fn open(&self, request: &Request<'_>) -> Result<Arc<dyn ImageDataset>, DataError> {
        let dir = request.place(self)?.unwrap_or_default();
        let mut folder = if request.labelled {
            FolderDataset::open(&dir, request.split)?
        } else {
            FolderDataset::open_unlabelled(&dir, request.split)?
        };
        folder.truncate(request.limit()?);
        Ok(Arc::new(folder))
    }
}
