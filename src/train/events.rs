//! What a training reports while it runs. The library prints nothing: whoever runs it listens.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::tasks::Metric;

/// Something that happened in a training.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// An epoch begins, numbered from 1; `done` of its items were seen before an interruption.
    EpochStarted {
        /// The epoch.
        epoch: usize,
        /// Epochs in all.
        epochs: usize,
        /// Items of the training set.
        items: u64,
        /// Items of it that were seen before.
        done: u64,
    },
    /// A step of the epoch is done. Loss and score are means over the items whose values were read from the device so far.
    Step {
        /// Optimizer steps since the training began, from 1.
        step: u64,
        /// Items of the epoch that were seen.
        items: u64,
        /// Mean loss; none before the first value was read.
        loss: Option<f64>,
        /// Mean score; none before the first value was read.
        score: Option<f64>,
    },
    /// An epoch is complete, validation too.
    EpochEnded(EpochReport),
    /// The training stops in the middle of an epoch.
    Stopped,
    /// Something that should be known: a limit that cannot be kept, a checkpoint that cannot be used.
    Note(String),
}

/// The numbers of an epoch.
#[derive(Debug, Clone)]
pub struct EpochReport {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Epochs in all.
    pub epochs: usize,
    /// Optimizer steps since the training began.
    pub step: u64,
    /// What the score is.
    pub metric: &'static Metric,
    /// Every metric by name: `train.loss`, `valid.accuracy`, ….
    pub metrics: BTreeMap<String, f64>,
    /// The base learning rate at the end of the epoch.
    pub lr: f64,
    /// Seconds of training and validation.
    pub seconds: f64,
    /// Training items in these seconds.
    pub items: u64,
    /// Whether it is the best epoch so far.
    pub best: bool,
}

/// Listens to a training. Called on the thread that trains: it should be quick.
pub trait Observer: Send {
    /// Something happened.
    fn event(&mut self, event: &Event);
}

impl<F: FnMut(&Event) + Send> Observer for F {
    fn event(&mut self, event: &Event) {
        self(event);
    }
}

/// Everybody who listens. A clone is the same list.
#[derive(Clone, Default)]
pub(super) struct Observers {
    list: Arc<Mutex<Vec<Box<dyn Observer>>>>,
}

impl Observers {
    pub(super) fn add(&self, observer: impl Observer + 'static) {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(observer));
    }

    pub(super) fn tell(&self, event: &Event) {
        for observer in self.list.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            observer.event(event);
        }
    }
}
