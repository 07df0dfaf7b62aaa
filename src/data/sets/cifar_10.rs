//! CIFAR-10: animals and vehicles.

use std::sync::Arc;

use super::{Contents, DataSet, Request};
use crate::data::catalog::{CIFAR_10, Published};
use crate::data::{DataError, ImageDataset, cifar};

#[derive(Debug)]
pub(super) struct Cifar10;

impl DataSet for Cifar10 {
    fn name(&self) -> &'static str {
        "cifar-10"
    }

    fn published(&self) -> Option<&'static Published> {
        Some(&CIFAR_10)
    }

    fn classes(&self) -> &'static [&'static str] {
        &cifar::CLASSES
    }

    fn size(&self) -> Option<(usize, usize)> {
        Some((cifar::SHAPE.height, cifar::SHAPE.width))
    }

    fn recognizes(&self, contents: &Contents) -> bool {
        contents.files.iter().any(|file| file.starts_with("test_batch") || file.starts_with("cifar-10"))
    }

    fn open(&self, request: &Request<'_>) -> Result<Arc<dyn ImageDataset>, DataError> {
        let mut set = cifar::open(&request.place(self)?.unwrap_or_default(), request.split)?;
        set.truncate(request.limit()?);
        Ok(Arc::new(set))
    }
}
