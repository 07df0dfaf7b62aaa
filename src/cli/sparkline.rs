//! A curve in one line of text.

/// Columns that it takes at most.
const WIDTH: usize = 24;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A curve that grows. Each point is the mean of as many values as keep it within [`WIDTH`] columns.
#[derive(Debug)]
pub struct Sparkline {
    points: Vec<f64>,
    /// Values in a point.
    share: usize,
    /// Values of the next point, and their sum.
    next: (usize, f64),
}

impl Default for Sparkline {
    fn default() -> Self {
        Self { points: Vec::new(), share: 1, next: (0, 0.0) }
    }
}

impl Sparkline {
    /// Adds a value; one that is no number leaves the curve as it is.
    pub fn push(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.next = (self.next.0 + 1, self.next.1 + value);
        if self.next.0 < self.share {
            return;
        }
        self.points.push(self.next.1 / self.share as f64);
        self.next = (0, 0.0);
        if self.points.len() > WIDTH {
            // Two points become one. An odd one at the end is a half of the next.
            let rest = self.points.chunks_exact(2).remainder().first().copied();
            self.next = rest.map_or((0, 0.0), |mean| (self.share, mean * self.share as f64));
            self.points = self.points.chunks_exact(2).map(|pair| f64::midpoint(pair[0], pair[1])).collect();
            self.share *= 2;
        }
    }
}

impl std::fmt::Display for Sparkline {
    /// From the lowest point at the bottom to the highest at the top.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let low = self.points.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self.points.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let top = (LEVELS.len() - 1) as f64;
        self.points.iter().try_for_each(|point| {
            let height = if high > low { (point - low) / (high - low) * top } else { 0.0 };
            write!(f, "{}", LEVELS[(height.round() as usize).min(LEVELS.len() - 1)])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(values: impl IntoIterator<Item = f64>) -> String {
        let mut curve = Sparkline::default();
        values.into_iter().for_each(|value| curve.push(value));
        curve.to_string()
    }

    #[test]
    fn a_falling_loss_falls() {
        assert_eq!(drawn([7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]), "█▇▆▅▄▃▂▁");
        assert_eq!(drawn([]), "");
        assert_eq!(drawn([2.0, 2.0]), "▁▁");
        assert_eq!(drawn([1.0, f64::NAN, f64::INFINITY, 0.0]), "█▁");
    }

    #[test]
    fn a_long_training_keeps_its_width_and_every_value() {
        let mut curve = Sparkline::default();
        for step in 0..1000 {
            curve.push(f64::from(step));
            let held = curve.points.len() * curve.share + curve.next.0;
            assert_eq!(held, step as usize + 1);
            assert!(curve.points.len() <= WIDTH);
            let sum = curve.points.iter().sum::<f64>() * curve.share as f64 + curve.next.1;
            assert!((sum - f64::from(step * (step + 1)) / 2.0).abs() < 1e-6);
        }
        let text = curve.to_string();
        assert!(text.starts_with('▁') && text.ends_with('█'), "{text}");
    }
}
