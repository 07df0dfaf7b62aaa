//! Losses and scores of an epoch, summed on the host in a fixed order.

use std::collections::BTreeMap;

use crate::checkpoint::EpochSums;
use crate::tasks::Metric;
use crate::train::Reported;

/// How many outputs may wait on the device before they are read: a GPU is not made to wait at each step.
const PENDING: usize = 8;

/// Running sums of an epoch.
#[derive(Default)]
pub struct Sums {
    sums: EpochSums,
    pending: Vec<Reported>,
}

impl Sums {
    /// Sums that go on from those of an interrupted epoch.
    pub fn resume(sums: EpochSums) -> Self {
        Self { sums, pending: Vec::new() }
    }

    /// Adds a step's output.
    pub fn add(&mut self, output: Reported) {
        self.pending.push(output);
        if self.pending.len() >= PENDING {
            self.flush();
        }
    }

    /// Adds sums that were read already.
    pub fn add_read(&mut self, sums: EpochSums) {
        self.sums = self.sums.plus(sums);
    }

    /// The sums so far, everything read.
    pub fn now(&mut self) -> EpochSums {
        self.flush();
        self.sums
    }

    /// The sums of what has been read already: good enough to show.
    pub fn shown(&self) -> EpochSums {
        self.sums
    }

    fn flush(&mut self) {
        for output in self.pending.drain(..) {
            let (items, loss, score) = output.read();
            self.sums.items += items;
            self.sums.loss += loss * items as f64;
            self.sums.score += score;
        }
    }
}

/// Mean loss of some sums.
pub fn loss(sums: &EpochSums) -> f64 {
    sums.loss / sums.items.max(1) as f64
}

/// Mean score of some sums.
pub fn score(sums: &EpochSums) -> f64 {
    sums.score / sums.items.max(1) as f64
}

/// The metrics of an epoch under their names.
pub fn named(metric: &Metric, train: &EpochSums, valid: &EpochSums) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::new();
    for (split, sums) in [("train", train), ("valid", valid)] {
        metrics.insert(format!("{split}.loss"), loss(sums));
        metrics.insert(format!("{split}.{}", metric.name), score(sums));
    }
    metrics
}
