//! Fashion-MNIST: articles of clothing; and the part of it that is in the program.

use std::path::Path;
use std::sync::Arc;

use super::mnist::is_idx;
use super::{Contents, DataSet, Request, names_sample};
use crate::data::catalog::{FASHION, FASHION_CLASSES, Published};
use crate::data::{DataError, ImageDataset, SAMPLE, idx, sample};

#[derive(Debug)]
pub(super) struct FashionMnist;

impl DataSet for FashionMnist {
    fn name(&self) -> &'static str {
        "fashion-mnist"
    }

    fn published(&self) -> Option<&'static Published> {
        Some(&FASHION)
    }

    fn classes(&self) -> &'static [&'static str] {
        &FASHION_CLASSES
    }

    fn size(&self) -> Option<(usize, usize)> {
        Some((28, 28))
    }

    fn is_in_program(&self, dir: Option<&Path>) -> bool {
        dir.is_some_and(names_sample)
    }

    fn recognizes(&self, contents: &Contents) -> bool {
        is_idx(contents) && contents.name.contains("fashion")
    }

    fn open(&self, request: &Request<'_>) -> Result<Arc<dyn ImageDataset>, DataError> {
        open(self, request)
    }
}

#[derive(Debug)]
pub(super) struct Sample;

impl DataSet for Sample {
    fn name(&self) -> &'static str {
        SAMPLE
    }

    fn classes(&self) -> &'static [&'static str] {
        &FASHION_CLASSES
    }

    fn size(&self) -> Option<(usize, usize)> {
        Some((28, 28))
    }

    fn is_in_program(&self, dir: Option<&Path>) -> bool {
        dir.is_none_or(names_sample)
    }

    fn open(&self, request: &Request<'_>) -> Result<Arc<dyn ImageDataset>, DataError> {
        open(self, request)
    }
}

fn open(set: &dyn DataSet, request: &Request<'_>) -> Result<Arc<dyn ImageDataset>, DataError> {
    let mut images = match request.place(set)? {
        Some(dir) => idx::open(&dir, FashionMnist.name(), &FASHION_CLASSES, request.split)?,
        None => sample(request.split)?,
    };
    images.truncate(request.limit()?);
    Ok(Arc::new(images))
}
