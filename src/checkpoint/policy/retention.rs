//! Which checkpoints are kept.

use super::{CheckpointSection, Mode};
use crate::checkpoint::{Checkpoint, Manifest};

/// A checkpoint, as far as keeping it goes.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The number of its save; 0 where its manifest cannot be read.
    pub save: u64,
    /// The monitored metric, if the checkpoint stands for an epoch.
    pub value: Option<f64>,
    /// Bytes on the disk.
    pub bytes: u64,
}

/// The checkpoints of a run in two orders.
#[derive(Debug)]
pub struct Ranked<'a> {
    /// The newest first.
    pub newest: Vec<&'a Candidate>,
    /// Those that stand for an epoch, the best by the monitored metric first.
    pub best: Vec<&'a Candidate>,
}

/// What the policies decide.
#[derive(Debug, Default)]
pub struct Verdict {
    /// The checkpoints that go, in this order.
    pub doomed: Vec<Checkpoint>,
    /// Bytes above the limit that remain, because `last` and `best` are never removed.
    pub above_limit: u64,
}

impl Candidate {
    /// A checkpoint of a run.
    pub fn new(checkpoint: Checkpoint, manifest: Option<&Manifest>, monitor: &str) -> Self {
        // Only a checkpoint at the end of an epoch stands for that epoch's metrics.
        let value =
            manifest.filter(|manifest| manifest.batch == 0).and_then(|manifest| manifest.metrics.get(monitor).copied());
        let value = value.filter(|value| !value.is_nan());
        Self { save: manifest.map_or(0, |manifest| manifest.save), value, bytes: checkpoint.size(), checkpoint }
    }
}

/// Decides which checkpoints go. `last` and `best` are kept whatever the policies say, because the pointers name them.
pub fn judge(all: &[Candidate], section: &CheckpointSection, last: u64, best: Option<u64>) -> Verdict {
    let mut newest: Vec<&Candidate> = all.iter().collect();
    newest.sort_by_key(|candidate| std::cmp::Reverse((candidate.save, candidate.checkpoint.step)));
    let mut ranked: Vec<&Candidate> = newest.iter().copied().filter(|candidate| candidate.value.is_some()).collect();
    let sign = if section.mode() == Mode::Min { 1.0 } else { -1.0 };
    let value = |candidate: &Candidate| candidate.value.unwrap_or(f64::NAN) * sign;
    ranked.sort_by(|a, b| value(a).total_cmp(&value(b)));
    let run = Ranked { newest, best: ranked };
    let held = section.keeps(&run);
    let pinned = |candidate: &Candidate| candidate.checkpoint.step == last || Some(candidate.checkpoint.step) == best;
    let (mut kept, gone): (Vec<_>, Vec<_>) = run
        .newest
        .iter()
        .enumerate()
        .partition(|(age, candidate)| *age == 0 || held.contains(&candidate.checkpoint.step) || pinned(candidate));
    let mut verdict = Verdict {
        doomed: gone.iter().rev().map(|(_, candidate)| candidate.checkpoint.clone()).collect(),
        above_limit: 0,
    };
    let Some(limit) = section.limit() else { return verdict };
    let mut total: u64 = kept.iter().map(|(_, candidate)| candidate.bytes).sum();
    // First the oldest of those that are no best ones, then the worst of the best ones.
    let top = &run.best[..section.top_k.0.min(run.best.len())];
    let rank = |candidate: &Candidate| top.iter().position(|best| best.checkpoint.step == candidate.checkpoint.step);
    kept.sort_by_key(|(age, candidate)| match rank(candidate) {
        None => (0, std::cmp::Reverse(*age)),
        Some(rank) => (1, std::cmp::Reverse(rank)),
    });
    for (_, candidate) in kept.into_iter().filter(|(_, candidate)| !pinned(candidate)) {
        if total <= limit {
            break;
        }
        total -= candidate.bytes;
        verdict.doomed.push(candidate.checkpoint.clone());
    }
    verdict.above_limit = total.saturating_sub(limit);
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{ByteSize, KeepAll, KeepLast, MaxTotalSize, TopK};

    /// Checkpoints of 100 bytes, one a save, with these values of the metric.
    fn run(values: &[Option<f64>]) -> Vec<Candidate> {
        let candidate = |(at, value): (usize, &Option<f64>)| {
            let step = 10 * (at as u64 + 1);
            let checkpoint = Checkpoint { step, path: Checkpoint::folder(step).into() };
            Candidate { checkpoint, save: at as u64 + 1, value: *value, bytes: 100 }
        };
        values.iter().enumerate().map(candidate).collect()
    }

    fn policy(keep_last: usize, top_k: usize) -> CheckpointSection {
        CheckpointSection { keep_last: KeepLast(keep_last), top_k: TopK(top_k), ..CheckpointSection::default() }
    }

    #[track_caller]
    fn gone(all: &[Candidate], policy: &CheckpointSection, last: u64, best: Option<u64>) -> Vec<u64> {
        judge(all, policy, last, best).doomed.iter().map(|checkpoint| checkpoint.step).collect()
    }

    #[test]
    fn the_newest_and_the_best_stay() {
        let all = run(&[Some(0.5), Some(0.1), Some(0.9), Some(0.2), None, Some(0.8)]);
        assert_eq!(gone(&all, &policy(1, 1), 60, Some(20)), [10, 30, 40, 50]);
        assert_eq!(gone(&all, &policy(2, 2), 60, Some(20)), [10, 30]);
        assert_eq!(gone(&all, &policy(1, 0), 60, None), [10, 20, 30, 40, 50]);
        assert_eq!(
            gone(&all, &CheckpointSection { mode: Some(Mode::Max), ..policy(1, 1) }, 60, Some(30)),
            [10, 20, 40, 50]
        );
        assert_eq!(gone(&all, &CheckpointSection { keep_all: KeepAll(true), ..policy(1, 0) }, 60, None), [0_u64; 0]);
    }

    #[test]
    fn what_last_and_best_name_is_never_removed() {
        let all = run(&[Some(0.5), Some(0.1), Some(0.9)]);
        // The run went back: the newest save is of an early step, and its best is not the best of all.
        let mut back = all.clone();
        back[0].save = 9;
        assert_eq!(gone(&back, &policy(1, 0), 10, Some(30)), [20]);
        // A damaged manifest says nothing of age; it counts as the oldest and not as the newest.
        let mut damaged = all;
        damaged[2].save = 0;
        assert_eq!(gone(&damaged, &policy(1, 0), 20, None), [30, 10]);
        assert_eq!(gone(&run(&[None]), &policy(1, 0), 10, None), [0_u64; 0]);
    }

    #[test]
    fn a_limit_on_size_takes_the_oldest_then_the_worst() {
        let all = run(&[Some(0.3), Some(0.1), Some(0.2), Some(0.9), Some(0.8)]);
        let limited = |bytes| CheckpointSection { max_total_size: MaxTotalSize(Some(ByteSize(bytes))), ..policy(3, 3) };
        assert_eq!(gone(&all, &limited(500), 50, Some(20)), [0_u64; 0]);
        assert_eq!(gone(&all, &limited(400), 50, Some(20)), [40]);
        assert_eq!(gone(&all, &limited(300), 50, Some(20)), [40, 10]);
        assert_eq!(gone(&all, &limited(299), 50, Some(20)), [40, 10, 30]);
        // Smaller than the two that are always there.
        let verdict = judge(&all, &limited(150), 50, Some(20));
        assert_eq!((verdict.doomed.len(), verdict.above_limit), (3, 50));
    }
}
