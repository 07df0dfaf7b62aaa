//! Progress for people: bars on a terminal, a line an epoch elsewhere. Everything goes to stderr.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::MetricDefinition;
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation, MetricsRendererTraining,
};
use indicatif::{ProgressBar, ProgressStyle};

use super::metrics::{self, Score};
use crate::checkpoint::EpochSums;

/// Shows one epoch after the other.
pub(super) struct Progress {
    score: Score,
    epochs: usize,
    bar: Option<ProgressBar>,
    started: Instant,
}

impl Progress {
    pub(super) fn new(score: Score, epochs: usize) -> Self {
        Self { score, epochs, bar: None, started: Instant::now() }
    }

    /// A new epoch, numbered from 1, of which `done` items were seen before.
    pub(super) fn start(&mut self, epoch: usize, items: u64, done: u64) {
        self.started = Instant::now();
        if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(items);
            let template = "{prefix} [{bar:30}] {pos}/{len}  {msg}  {eta} left";
            bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(format!("epoch {epoch}/{}", self.epochs));
            bar.set_position(done);
            bar.reset_eta();
            self.bar = Some(bar);
        }
    }

    /// The state of the epoch under way.
    pub(super) fn update(&self, items: u64, sums: &EpochSums) {
        if let Some(bar) = &self.bar {
            bar.set_position(items);
            if sums.items > 0 {
                let score = self.score.show(metrics::score(sums));
                let speed = bar.per_sec();
                bar.set_message(format!(
                    "loss {:.4}  {} {score}  {speed:.0} items/s",
                    metrics::loss(sums),
                    self.score.name()
                ));
            }
        }
    }

    /// A finished epoch.
    pub(super) fn finish(&mut self, epoch: usize, train: &EpochSums, valid: &EpochSums, items: u64, best: bool) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let part = |sums: &EpochSums| {
            format!("loss {:.4} {} {}", metrics::loss(sums), self.score.name(), self.score.show(metrics::score(sums)))
        };
        let best = if best { "  best so far" } else { "" };
        eprintln!(
            "epoch {epoch}/{}  train {}  valid {}  {} items/s, {}{best}",
            self.epochs,
            part(train),
            part(valid),
            (items as f64 / seconds.max(1e-9)) as u64,
            show_time(Duration::from_secs_f64(seconds)),
        );
    }

    /// Removes the bar of an epoch that does not finish.
    pub(super) fn abandon(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Seconds since the epoch started.
    pub(super) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}

fn show_time(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds}.{} s", time.subsec_millis() / 100),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// Burn's learner asks for a renderer; [`Progress`] shows more of what a run is about, so this one stays silent.
pub(super) struct Silent;

impl MetricsRendererTraining for Silent {
    fn update_train(&mut self, _: MetricState) {}
    fn update_valid(&mut self, _: MetricState) {}
}

impl MetricsRendererEvaluation for Silent {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}
}

impl MetricsRenderer for Silent {
    fn manual_close(&mut self) {}
    fn register_metric(&mut self, _: MetricDefinition) {}
}

impl TrainingProgressLogger for Silent {
    fn start(&mut self, _: usize, _: usize, _: Option<usize>, _: Option<&str>) {}
    fn update_epoch(&mut self, _: usize) {}
    fn start_split(&mut self, _: &str, _: usize) {}
    fn update_split(&mut self, _: usize) {}
    fn end_split(&mut self) {}
    fn end(&mut self) {}
    fn log_event_training(&mut self, _: String) {}
}

impl EvaluationProgressLogger for Silent {
    fn start_global_progress(&mut self, _: usize) {}
    fn start_test(&mut self, _: &str, _: usize) {}
    fn update_test_progress(&mut self, _: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _: String) {}
}
