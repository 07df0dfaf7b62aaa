//! The loaders that Burn's learner is made with: ours, with task and loss beside each batch.
//!
//! The strategy takes its batches from our loader itself, which knows epochs and positions in them.

use std::sync::Arc;

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::Device;

use super::StepInput;
use crate::data::{Batch, Loader};
use crate::tasks::Objective;

/// A loader whose batches carry what they are trained for.
pub(super) struct WithLoss {
    loader: Arc<dyn DataLoader<Batch>>,
    objective: Objective,
}

impl WithLoss {
    pub(super) fn new(loader: &Loader, objective: &Objective) -> Self {
        Self { loader: Arc::new(loader.clone()), objective: objective.clone() }
    }

    fn with(&self, loader: Arc<dyn DataLoader<Batch>>) -> Arc<dyn DataLoader<StepInput>> {
        Arc::new(Self { loader, objective: self.objective.clone() })
    }
}

impl DataLoader<StepInput> for WithLoss {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<StepInput> + 'a> {
        Box::new(Inputs { batches: self.loader.iter(), objective: &self.objective })
    }

    fn num_items(&self) -> usize {
        self.loader.num_items()
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<StepInput>> {
        self.with(self.loader.to_device(device))
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<StepInput>> {
        self.with(self.loader.slice(start, end))
    }
}

struct Inputs<'a> {
    batches: Box<dyn DataLoaderIterator<Batch> + 'a>,
    objective: &'a Objective,
}

impl Iterator for Inputs<'_> {
    type Item = Result<StepInput, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.batches.next()?.map(|batch| StepInput { batch, objective: self.objective.clone() }))
    }
}

impl DataLoaderIterator<StepInput> for Inputs<'_> {
    fn progress(&self) -> Progress {
        self.batches.progress()
    }
}
