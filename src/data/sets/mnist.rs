//! MNIST: handwritten digits.

use std::sync::Arc;

use super::{Contents, DataSet, Request};
use crate::data::catalog::{MNIST, MNIST_CLASSES, Published};
use crate::data::{DataError, ImageDataset, idx};

#[derive(Debug)]
pub(super) struct Mnist;

impl DataSet for Mnist {
    fn name(&self) -> &'static str {
        "mnist"
    }

    fn published(&self) -> Option<&'static Published> {
        Some(&MNIST)
    }

    fn classes(&self) -> &'static [&'static str] {
        &MNIST_CLASSES
    }

    fn size(&self) -> Option<(usize, usize)> {
        Some((28, 28))
    }

    fn recognizes(&self, contents: &Contents) -> bool {
        is_idx(contents) && !contents.name.contains("fashion")
    }

    fn open(&self, request: &Request<'_>) -> Result<Arc<dyn ImageDataset>, DataError> {
        let dir = request.place(self)?.unwrap_or_default();
        let mut set = idx::open(&dir, self.name(), &MNIST_CLASSES, request.split)?;
        set.truncate(request.limit()?);
        Ok(Arc::new(set))
    }
}

/// Whether there are images in idx files.
pub(super) fn is_idx(contents: &Contents) -> bool {
    contents.files.iter().any(|file| file.contains("images-idx3-ubyte"))
}
