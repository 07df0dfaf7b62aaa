//! Learning rates as functions of how often a schedule was stepped: the closed forms of `torch.optim.lr_scheduler`.

use std::f64::consts::PI;

/// A learning-rate schedule with every default filled in.
///
/// The rate depends on nothing but the base rate and the number of steps, so that resuming needs this number only.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// The curve, from the end of the warm-up on.
    pub curve: Curve,
    /// A linear rise before it, joined as `SequentialLR([LinearLR, …])` does.
    pub warmup: Option<Warmup>,
}

/// A curve of the learning rate.
#[derive(Debug, Clone, PartialEq)]
pub enum Curve {
    /// The base rate throughout.
    Constant,
    /// `StepLR`: times `gamma` every `step_size` steps.
    Step {
        /// Steps between two changes.
        step_size: u64,
        /// Factor of each change.
        gamma: f64,
    },
    /// `ExponentialLR`: times `gamma` every step.
    Exponential {
        /// Factor of each step.
        gamma: f64,
    },
    /// `CosineAnnealingLR`: half a cosine from the base rate down to `eta_min` in `t_max` steps, and up again after it.
    Cosine {
        /// Steps down to the minimum.
        t_max: u64,
        /// The minimum.
        eta_min: f64,
    },
    /// `LinearLR`: a factor from `start_factor` to `end_factor` in `total_iters` steps, then `end_factor`.
    Linear {
        /// Factor at first.
        start_factor: f64,
        /// Factor in the end.
        end_factor: f64,
        /// Steps between them.
        total_iters: u64,
    },
}

/// A linear rise to the base rate: `LinearLR(start_factor, total_iters=steps)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Warmup {
    /// Steps until the curve begins.
    pub steps: u64,
    /// Factor at first.
    pub start_factor: f64,
}

impl Warmup {
    /// The rise as a curve of its own.
    pub(super) fn curve(&self) -> Curve {
        Curve::Linear { start_factor: self.start_factor, end_factor: 1.0, total_iters: self.steps }
    }
}

impl Curve {
    /// The rate after `count` steps.
    pub fn lr(&self, base: f64, count: u64) -> f64 {
        let n = count as f64;
        match *self {
            Self::Constant => base,
            Self::Step { step_size, gamma } => base * gamma.powf((count / step_size.max(1)) as f64),
            Self::Exponential { gamma } => base * gamma.powf(n),
            Self::Cosine { t_max, eta_min } => eta_min + (base - eta_min) * (1.0 + (PI * n / t_max as f64).cos()) / 2.0,
            Self::Linear { start_factor, end_factor, total_iters } => {
                let done = count.min(total_iters) as f64 / total_iters.max(1) as f64;
                base * (start_factor + (end_factor - start_factor) * done)
            }
        }
    }
}

impl Schedule {
    /// The rate after `count` calls of PyTorch's `scheduler.step()`, for a parameter group with base rate `base`.
    pub fn lr(&self, base: f64, count: u64) -> f64 {
        match &self.warmup {
            Some(warmup) if count < warmup.steps => warmup.curve().lr(base, count),
            Some(warmup) => self.curve.lr(base, count - warmup.steps),
            None => self.curve.lr(base, count),
        }
    }
}
