//! The ordered loader: the same batches for the same seed, whatever the number of threads and
//! wherever an epoch is entered.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::Device;

use super::batch::HostBatch;
use super::prefetch::Prefetch;
use super::transform::{Pipeline, Transforms};
use super::{Batch, DataError, ImageDataset, Sample, Shape};
use crate::random::order;

/// More threads than this help nobody.
const MOST_WORKERS: usize = 256;

/// How a loader goes through its set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoaderConfig {
    /// Images in a batch, at least 1.
    pub batch_size: usize,
    /// The seed of order and augmentation.
    pub seed: u64,
    /// Whether each epoch has an order of its own; otherwise it is the order of the set.
    pub shuffle: bool,
    /// Threads that read and transform ahead; 0 reads on the caller's thread. The batches are the
    /// same for any number.
    pub workers: usize,
    /// Leave out a last batch that is smaller than the others.
    pub drop_last: bool,
}

/// The place where an epoch is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The epoch; any numbering will do as long as it is the same when resuming.
    pub epoch: usize,
    /// Batches of that epoch that are left out, because they were seen before.
    pub batch: usize,
}

/// Which batches of an epoch one of several ranks takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Number of the rank, from 0.
    pub rank: usize,
    /// Number of ranks, at least 1.
    pub ranks: usize,
}

impl Share {
    /// Every batch.
    pub const ALL: Self = Self { rank: 0, ranks: 1 };
}

/// Batches of a set in an order that depends on the seed and the epoch alone.
///
/// [`Loader::batches`] goes through one epoch. As Burn's [`DataLoader`], `iter` starts at the
/// position last set by [`Loader::seek`]; copies of the loader, on another device or of a part of
/// the set, share that position.
#[derive(Clone)]
pub struct Loader {
    dataset: Arc<dyn ImageDataset>,
    pipeline: Arc<Pipeline>,
    config: LoaderConfig,
    range: Range<usize>,
    device: Device,
    position: Arc<Mutex<Position>>,
}

impl Loader {
    /// A loader for the whole set. The transforms are checked against the set here.
    pub fn new(
        dataset: Arc<dyn ImageDataset>,
        transforms: &Transforms,
        config: LoaderConfig,
        device: &Device,
    ) -> Result<Self, DataError> {
        if config.batch_size == 0 {
            return Err(DataError::setting("batch_size", "at least 1", "0", "set data.batch_size = 64"));
        }
        if config.workers > MOST_WORKERS {
            return Err(DataError::setting(
                "workers",
                format!("at most {MOST_WORKERS} threads"),
                config.workers.to_string(),
                "use as many as there are processor cores",
            ));
        }
        let pipeline = Arc::new(transforms.prepare(&*dataset)?);
        Ok(Self {
            range: 0..dataset.len(),
            dataset,
            pipeline,
            config,
            device: device.clone(),
            position: Arc::default(),
        })
    }

    /// The set that is read.
    pub fn dataset(&self) -> &Arc<dyn ImageDataset> {
        &self.dataset
    }

    /// An item as it is in a batch of epoch 0, before its values are normalized.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn sample(&self, index: usize) -> Result<Sample, DataError> {
        let origin = self.dataset.origin(index);
        self.pipeline.apply(self.dataset.get(index)?, (self.config.seed, 0, index), &origin)
    }

    /// The size of the images in a batch.
    pub fn input_shape(&self) -> Shape {
        self.pipeline.output()
    }

    /// Number of batches in an epoch.
    pub fn num_batches(&self) -> usize {
        if self.config.drop_last {
            self.range.len() / self.config.batch_size
        } else {
            self.range.len().div_ceil(self.config.batch_size)
        }
    }

    /// Number of images in an epoch.
    pub fn num_items(&self) -> usize {
        if self.config.drop_last { self.num_batches() * self.config.batch_size } else { self.range.len() }
    }

    /// Sets where [`DataLoader::iter`] starts, for this loader and its copies.
    pub fn seek(&self, epoch: usize, batch: usize) {
        *self.position.lock().unwrap_or_else(PoisonError::into_inner) = Position { epoch, batch };
    }

    /// Where [`DataLoader::iter`] starts.
    pub fn position(&self) -> Position {
        *self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of images in some batches of an epoch.
    pub fn items_in(&self, batches: Range<usize>) -> usize {
        let before = |batch: usize| batch.saturating_mul(self.config.batch_size).min(self.num_items());
        before(batches.end) - before(batches.start)
    }

    /// The batches of an epoch from number `start` (counted from 0) to its end. After an error
    /// there are no more.
    pub fn batches(&self, epoch: usize, start: usize) -> Batches {
        self.shared_batches(epoch, start, Share::ALL)
    }

    /// One batch of an epoch.
    pub fn batch(&self, epoch: usize, number: usize) -> Batches {
        let left = number..(number + 1).min(self.num_batches());
        self.made(Source::Inline(Plan::new(self, epoch)), left, 1)
    }

    /// Of the batches of an epoch from number `start` on, those of a rank: ranks take turns.
    pub fn shared_batches(&self, epoch: usize, start: usize, share: Share) -> Batches {
        let total = self.num_batches();
        let left = (start + share.rank).min(total)..total;
        let plan = Plan::new(self, epoch);
        let (first, count) = (left.start, left.len().div_ceil(share.ranks));
        let source = if self.config.workers == 0 || left.is_empty() {
            Source::Inline(plan)
        } else {
            match Prefetch::start(self.config.workers, 0..count, move |n| plan.batch(first + n * share.ranks)) {
                Ok(prefetch) => Source::Threads(prefetch),
                Err(error) => Source::Failed(Some(error)),
            }
        };
        self.made(source, left, share.ranks)
    }

    fn made(&self, source: Source, left: Range<usize>, ranks: usize) -> Batches {
        let (batch_size, items, device) = (self.config.batch_size, self.num_items(), self.device.clone());
        Batches { source, left, ranks, batch_size, items, device }
    }
}

/// Everything that is needed to make the batches of an epoch, on any thread.
struct Plan {
    dataset: Arc<dyn ImageDataset>,
    pipeline: Arc<Pipeline>,
    order: Vec<usize>,
    batch_size: usize,
    seed: u64,
    epoch: usize,
}

impl Plan {
    fn new(loader: &Loader, epoch: usize) -> Self {
        let range = loader.range.clone();
        let order = if loader.config.shuffle {
            let mut order = order(loader.config.seed, epoch, range.len());
            order.iter_mut().for_each(|index| *index += range.start);
            order
        } else {
            range.collect()
        };
        Self {
            dataset: Arc::clone(&loader.dataset),
            pipeline: Arc::clone(&loader.pipeline),
            order,
            batch_size: loader.config.batch_size,
            seed: loader.config.seed,
            epoch,
        }
    }

    fn batch(&self, number: usize) -> Result<HostBatch, DataError> {
        let start = number * self.batch_size;
        let end = start.saturating_add(self.batch_size).min(self.order.len());
        HostBatch::read(&*self.dataset, &self.pipeline, &self.order[start..end], self.seed, self.epoch)
    }
}

enum Source {
    Inline(Plan),
    Threads(Prefetch<Result<HostBatch, DataError>>),
    Failed(Option<DataError>),
}

/// The batches of one epoch, in order.
pub struct Batches {
    source: Source,
    left: Range<usize>,
    /// From one batch to the next.
    ranks: usize,
    batch_size: usize,
    items: usize,
    device: Device,
}

impl Batches {
    /// Number of images of the epoch that lie before the next batch.
    pub fn items_done(&self) -> usize {
        (self.left.start * self.batch_size).min(self.items)
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let number = self.left.next()?;
        self.left.start = (number + self.ranks).min(self.left.end);
        let batch = match &mut self.source {
            Source::Inline(plan) => plan.batch(number),
            Source::Threads(prefetch) => prefetch.next()?.flatten(),
            Source::Failed(error) => Err(error.take()?),
        };
        if batch.is_err() {
            self.left = self.left.end..self.left.end;
        }
        Some(batch.map(|batch| batch.upload(&self.device)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left.len().div_ceil(self.ranks)))
    }
}

/// [`Batches`] as Burn's learner wants them.
struct LearnerBatches(Batches);

impl Iterator for LearnerBatches {
    type Item = Result<Batch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.map_err(DatasetError::new))
    }
}

impl DataLoaderIterator<Batch> for LearnerBatches {
    fn progress(&self) -> Progress {
        Progress::new(self.0.items_done(), self.0.items, Some("items".to_string()))
    }
}

impl DataLoader<Batch> for Loader {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<Batch> + 'a> {
        let Position { epoch, batch } = self.position();
        Box::new(LearnerBatches(self.batches(epoch, batch)))
    }

    fn num_items(&self) -> usize {
        Self::num_items(self)
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<Batch>> {
        Arc::new(Self { device: device.clone(), ..self.clone() })
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<Batch>> {
        let len = self.range.len();
        let end = end.min(len);
        let first = self.range.start;
        Arc::new(Self { range: first + start.min(end)..first + end, ..self.clone() })
    }
}
