//! Counters in Prometheus's text format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the buckets of seconds: from half a millisecond to ten seconds.
const SECONDS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Upper bounds of the buckets of items in a batch.
const ITEMS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Everything that is counted.
#[derive(Default)]
pub struct Metrics {
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    /// By route and status.
    requests: BTreeMap<(String, u16), u64>,
    /// By route.
    latency: BTreeMap<String, Histogram>,
    /// By model, as the next ones.
    waiting: BTreeMap<String, i64>,
    batches: BTreeMap<String, Histogram>,
    compute: BTreeMap<String, Histogram>,
    reloads: BTreeMap<String, u64>,
}

/// Values in buckets; the bounds are given when it is used.
#[derive(Default)]
struct Histogram {
    counts: Vec<u64>,
    sum: f64,
    count: u64,
}

impl Histogram {
    fn add(&mut self, bounds: &[f64], value: f64) {
        self.counts.resize(bounds.len(), 0);
        if let Some(place) = bounds.iter().position(|bound| value <= *bound) {
            self.counts[place] += 1;
        }
        self.sum += value;
        self.count += 1;
    }

    fn write(&self, text: &mut String, name: &str, label: &str, bounds: &[f64]) {
        let mut below = 0;
        for (bound, count) in bounds.iter().zip(&self.counts) {
            below += count;
            let _ = writeln!(text, "{name}_bucket{{{label},le=\"{bound}\"}} {below}");
        }
        let _ = writeln!(text, "{name}_bucket{{{label},le=\"+Inf\"}} {}", self.count);
        let _ = writeln!(text, "{name}_sum{{{label}}} {}", self.sum);
        let _ = writeln!(text, "{name}_count{{{label}}} {}", self.count);
    }
}

impl Metrics {
    fn with(&self, change: impl FnOnce(&mut Inside)) {
        change(&mut self.inside.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A request was answered.
    pub fn answered(&self, route: &str, status: u16, took: Duration) {
        self.with(|inside| {
            *inside.requests.entry((route.to_string(), status)).or_default() += 1;
            inside.latency.entry(route.to_string()).or_default().add(&SECONDS, took.as_secs_f64());
        });
    }

    /// A request entered (1) or left (-1) a model's queue.
    pub fn waiting(&self, model: &str, change: i64) {
        self.with(|inside| *inside.waiting.entry(model.to_string()).or_default() += change);
    }

    /// A batch of so many items was computed.
    pub fn batch(&self, model: &str, items: usize) {
        self.with(|inside| inside.batches.entry(model.to_string()).or_default().add(&ITEMS, items as f64));
    }

    /// A computation took so long.
    pub fn computed(&self, model: &str, took: Duration) {
        self.with(|inside| inside.compute.entry(model.to_string()).or_default().add(&SECONDS, took.as_secs_f64()));
    }

    /// A newer version took a model's place.
    pub fn reloaded(&self, model: &str) {
        self.with(|inside| *inside.reloads.entry(model.to_string()).or_default() += 1);
    }

    /// The text of `/metrics`.
    pub fn render(&self) -> String {
        let mut text = String::new();
        self.with(|inside| {
            let head = |text: &mut String, name: &str, kind: &str, help: &str| {
                let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            };
            head(&mut text, "rekindle_requests_total", "counter", "Requests that were answered.");
            for ((route, status), count) in &inside.requests {
                let route = escape(route);
                let _ = writeln!(text, "rekindle_requests_total{{route=\"{route}\",status=\"{status}\"}} {count}");
            }
            head(&mut text, "rekindle_request_seconds", "histogram", "Seconds from a request to its answer.");
            for (route, histogram) in &inside.latency {
                let label = format!("route=\"{}\"", escape(route));
                histogram.write(&mut text, "rekindle_request_seconds", &label, &SECONDS);
            }
            head(&mut text, "rekindle_queue", "gauge", "Requests that wait for a model.");
            for (model, count) in &inside.waiting {
                let _ = writeln!(text, "rekindle_queue{{model=\"{}\"}} {count}", escape(model));
            }
            head(&mut text, "rekindle_batch_items", "histogram", "Items that were computed together.");
            for (model, histogram) in &inside.batches {
                histogram.write(&mut text, "rekindle_batch_items", &format!("model=\"{}\"", escape(model)), &ITEMS);
            }
            head(&mut text, "rekindle_compute_seconds", "histogram", "Seconds of one computation.");
            for (model, histogram) in &inside.compute {
                histogram.write(
                    &mut text,
                    "rekindle_compute_seconds",
                    &format!("model=\"{}\"", escape(model)),
                    &SECONDS,
                );
            }
            head(&mut text, "rekindle_reloads_total", "counter", "Newer versions that took a model's place.");
            for (model, count) in &inside.reloads {
                let _ = writeln!(text, "rekindle_reloads_total{{model=\"{}\"}} {count}", escape(model));
            }
        });
        text
    }
}

/// A label's value: quotes, backslashes and line breaks are escaped.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up() {
        let metrics = Metrics::default();
        for items in [1, 1, 5, 1000] {
            metrics.batch("a\"b", items);
        }
        let text = metrics.render();
        for line in [
            "rekindle_batch_items_bucket{model=\"a\\\"b\",le=\"1\"} 2",
            "rekindle_batch_items_bucket{model=\"a\\\"b\",le=\"8\"} 3",
            "rekindle_batch_items_bucket{model=\"a\\\"b\",le=\"+Inf\"} 4",
            "rekindle_batch_items_sum{model=\"a\\\"b\"} 1007",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
