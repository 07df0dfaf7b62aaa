//! Which checkpoints are kept.

use super::{Best, Checkpoint};
use crate::checkpoint::Manifest;

/// How many checkpoints of a run are kept.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The newest.
    pub keep_last: usize,
    /// The best by the monitored metric.
    pub top_k: usize,
    /// The monitored metric.
    pub monitor: String,
    /// Whether less of it is better.
    pub minimize: bool,
}

/// The checkpoints that the policy lets go: neither among the newest, nor among the best, nor the best of all.
///
/// `best` is kept whatever the numbers say, because the pointer `best` names it.
pub fn doomed(all: &[(Checkpoint, Option<Manifest>)], policy: &Policy, best: Option<&Best>) -> Vec<Checkpoint> {
    let newest = all.len().saturating_sub(policy.keep_last.max(1));
    let mut ranked: Vec<(u64, f64)> = all
        .iter()
        .filter_map(|(checkpoint, manifest)| {
            // Only a checkpoint at the end of an epoch stands for that epoch's metrics.
            let manifest = manifest.as_ref().filter(|manifest| manifest.batch == 0)?;
            manifest.metrics.get(&policy.monitor).map(|&value| (checkpoint.step, value))
        })
        .collect();
    ranked.sort_by(|a, b| if policy.minimize { a.1.total_cmp(&b.1) } else { b.1.total_cmp(&a.1) });
    let top: Vec<u64> = ranked.into_iter().take(policy.top_k).map(|(step, _)| step).collect();
    all[..newest]
        .iter()
        .map(|(checkpoint, _)| checkpoint)
        .filter(|checkpoint| !top.contains(&checkpoint.step) && best.is_none_or(|best| best.step != checkpoint.step))
        .cloned()
        .collect()
}
