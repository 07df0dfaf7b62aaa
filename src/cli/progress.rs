//! Progress of a training for people: a bar with a curve of the loss on a terminal, a line an epoch elsewhere. Everything goes to stderr.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::output::{is_quiet, say};
use super::sparkline::Sparkline;
use crate::tasks::Metric;
use crate::train::{EpochReport, Event, Observer};

/// Prints the events of a training.
pub struct Progress {
    metric: &'static Metric,
    bar: Option<ProgressBar>,
    /// Of the loss since the training began.
    curve: Sparkline,
}

impl Progress {
    /// For a training that is measured by a metric.
    pub fn new(metric: &'static Metric) -> Self {
        Self { metric, bar: None, curve: Sparkline::default() }
    }

    fn start(&mut self, epoch: usize, epochs: usize, items: u64, done: u64) {
        if std::io::stderr().is_terminal() && !is_quiet() {
            let bar = ProgressBar::new(items);
            let template = "{prefix} [{bar:30}] {pos}/{len}  {msg}  {eta} left";
            bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(format!("epoch {epoch}/{epochs}"));
            bar.set_position(done);
            bar.reset_eta();
            self.bar = Some(bar);
        }
    }

    fn step(&mut self, items: u64, loss: Option<f64>, score: Option<f64>) {
        let Some(bar) = &self.bar else { return };
        bar.set_position(items);
        self.curve.push(loss.unwrap_or(f64::NAN));
        if let (Some(loss), Some(score)) = (loss, score) {
            let (name, score, speed) = (self.metric.name, (self.metric.show)(score), bar.per_sec());
            bar.set_message(format!("loss {loss:.4} {}  {name} {score}  {speed:.0} items/s", self.curve));
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Observer for Progress {
    fn event(&mut self, event: &Event) {
        match event {
            Event::EpochStarted { epoch, epochs, items, done } => self.start(*epoch, *epochs, *items, *done),
            Event::Step { items, loss, score, .. } => self.step(*items, *loss, *score),
            Event::EpochEnded(report) => {
                self.end();
                say!("{}", line(report));
            }
            Event::Stopped => self.end(),
            Event::Note(note) => say!("{note}"),
        }
    }
}

/// An epoch in a line.
fn line(report: &EpochReport) -> String {
    let EpochReport { epoch, epochs, metric, metrics, seconds, items, best, .. } = report;
    let value = |name: String| metrics.get(&name).copied().unwrap_or(f64::NAN);
    let part = |split: &str| {
        let (loss, score) = (value(format!("{split}.loss")), value(format!("{split}.{}", metric.name)));
        format!("loss {loss:.4} {} {}", metric.name, (metric.show)(score))
    };
    let best = if *best { "  best so far" } else { "" };
    let (train, valid, time) = (part("train"), part("valid"), show_time(Duration::from_secs_f64(*seconds)));
    let rate = (*items as f64 / seconds.max(1e-9)) as u64;
    format!("epoch {epoch}/{epochs}  train {train}  valid {valid}  {rate} items/s, {time}{best}")
}

fn show_time(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds}.{} s", time.subsec_millis() / 100),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}
