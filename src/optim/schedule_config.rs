//! The scheduler of a recipe: names and defaults of `torch.optim.lr_scheduler`.

use serde::{Deserialize, Serialize};

use super::error::config;
use super::{Curve, OptimError, Schedule, Warmup};

/// A learning-rate schedule as a recipe describes it.
///
/// Reads from a table with `name` (`constant`, `step`, `exponential`, `cosine`, `linear`), the keys of PyTorch's class, `per`, and
/// `warmup` with `warmup_start_factor`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "SchedulerTable", into = "SchedulerTable")]
pub struct SchedulerConfig {
    /// The curve.
    pub curve: CurveConfig,
    /// When it is stepped.
    pub per: Per,
    /// A linear rise before it.
    pub warmup: Option<Warmup>,
}

/// When a schedule is stepped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// Once after each epoch, as PyTorch's examples do.
    #[default]
    Epoch,
    /// Once after each batch.
    Step,
}

/// A curve whose length may be that of the training.
#[derive(Debug, Clone, PartialEq)]
pub enum CurveConfig {
    /// A cosine over the whole training.
    CosineOverTraining {
        /// The minimum, reached in the end.
        eta_min: f64,
    },
    /// A curve with all its numbers.
    Fixed(Curve),
}

#[derive(Serialize, Deserialize, Clone, Default)]
#[serde(default, deny_unknown_fields)]
struct SchedulerTable {
    name: String,
    per: Per,
    #[serde(skip_serializing_if = "Option::is_none")]
    step_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gamma: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    t_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eta_min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_iters: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warmup: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warmup_start_factor: Option<f64>,
}

impl SchedulerTable {
    /// The first key of a curve that has a value and is not among `known`.
    fn foreign(&self, known: &[&str]) -> Option<&'static str> {
        let set = [
            ("step_size", self.step_size.is_some()),
            ("gamma", self.gamma.is_some()),
            ("t_max", self.t_max.is_some()),
            ("eta_min", self.eta_min.is_some()),
            ("start_factor", self.start_factor.is_some()),
            ("end_factor", self.end_factor.is_some()),
            ("total_iters", self.total_iters.is_some()),
        ];
        set.into_iter().find_map(|(key, is_set)| (is_set && !known.contains(&key)).then_some(key))
    }

    /// The keys of the curve that it names.
    fn known(&self) -> Result<&'static [&'static str], OptimError> {
        match self.name.as_str() {
            "constant" => Ok(&[]),
            "step" => Ok(&["step_size", "gamma"]),
            "exponential" => Ok(&["gamma"]),
            "cosine" => Ok(&["t_max", "eta_min"]),
            "linear" => Ok(&["start_factor", "end_factor", "total_iters"]),
            "" => {
                config("the scheduler has no name: expected name = one of constant, step, exponential, cosine, linear")
            }
            name => config(format!(
                "unknown scheduler '{name}': expected one of constant, step, exponential, cosine, linear"
            )),
        }
    }

    fn curve(&self) -> Result<CurveConfig, OptimError> {
        let name = &self.name;
        let known = self.known()?;
        if let Some(key) = self.foreign(known) {
            let known = if known.is_empty() { "none of its own".to_string() } else { known.join(", ") };
            return config(format!(
                "scheduler '{name}' has no setting '{key}': it knows {known}, per, warmup and warmup_start_factor"
            ));
        }
        let needed = |key: &str| OptimError::Config(format!("scheduler '{name}' needs the setting '{key}'"));
        let length = |key: &str, value: u64| match value {
            0 => config(format!("scheduler '{name}' cannot have {key} = 0: expected 1 or more")),
            value => Ok(value),
        };
        let finite = |key: &str, value: f64| {
            if value.is_finite() && value >= 0.0 {
                return Ok(value);
            }
            config(format!("scheduler '{name}' cannot have {key} = {value}: expected a number that is 0 or more"))
        };
        let curve = match name.as_str() {
            "step" => Curve::Step {
                step_size: length("step_size", self.step_size.ok_or_else(|| needed("step_size"))?)?,
                gamma: finite("gamma", self.gamma.unwrap_or(0.1))?,
            },
            "exponential" => Curve::Exponential { gamma: finite("gamma", self.gamma.ok_or_else(|| needed("gamma"))?)? },
            "cosine" => {
                let eta_min = finite("eta_min", self.eta_min.unwrap_or(0.0))?;
                match self.t_max {
                    Some(t_max) => Curve::Cosine { t_max: length("t_max", t_max)?, eta_min },
                    None => return Ok(CurveConfig::CosineOverTraining { eta_min }),
                }
            }
            "linear" => Curve::Linear {
                start_factor: start_factor("start_factor", self.start_factor)?,
                end_factor: match self.end_factor.unwrap_or(1.0) {
                    factor if (0.0..=1.0).contains(&factor) => factor,
                    factor => {
                        return config(format!(
                            "scheduler 'linear' cannot have end_factor = {factor}: expected a number from 0 to 1"
                        ));
                    }
                },
                total_iters: length("total_iters", self.total_iters.unwrap_or(5))?,
            },
            _ => Curve::Constant,
        };
        Ok(CurveConfig::Fixed(curve))
    }
}

/// A start factor, PyTorch's default being a third.
fn start_factor(key: &str, value: Option<f64>) -> Result<f64, OptimError> {
    match value.unwrap_or(1.0 / 3.0) {
        factor if factor > 0.0 && factor <= 1.0 => Ok(factor),
        factor => {
            config(format!("a scheduler cannot have {key} = {factor}: expected a number from 0 to 1, 0 excluded"))
        }
    }
}

impl TryFrom<SchedulerTable> for SchedulerConfig {
    type Error = OptimError;

    fn try_from(table: SchedulerTable) -> Result<Self, OptimError> {
        let curve = table.curve()?;
        let warmup = match (table.warmup, table.warmup_start_factor) {
            (Some(steps), factor) if steps > 0 => {
                Some(Warmup { steps, start_factor: start_factor("warmup_start_factor", factor)? })
            }
            (_, Some(_)) => {
                return config(
                    "a scheduler has warmup_start_factor without warmup: give the number of warm-up steps too",
                );
            }
            _ => None,
        };
        Ok(Self { curve, per: table.per, warmup })
    }
}

impl From<SchedulerConfig> for SchedulerTable {
    fn from(config: SchedulerConfig) -> Self {
        let mut table = Self { per: config.per, ..Self::default() };
        if let Some(warmup) = config.warmup {
            (table.warmup, table.warmup_start_factor) = (Some(warmup.steps), Some(warmup.start_factor));
        }
        let name = match config.curve {
            CurveConfig::CosineOverTraining { eta_min } => {
                table.eta_min = Some(eta_min);
                "cosine"
            }
            CurveConfig::Fixed(Curve::Constant) => "constant",
            CurveConfig::Fixed(Curve::Step { step_size, gamma }) => {
                (table.step_size, table.gamma) = (Some(step_size), Some(gamma));
                "step"
            }
            CurveConfig::Fixed(Curve::Exponential { gamma }) => {
                table.gamma = Some(gamma);
                "exponential"
            }
            CurveConfig::Fixed(Curve::Cosine { t_max, eta_min }) => {
                (table.t_max, table.eta_min) = (Some(t_max), Some(eta_min));
                "cosine"
            }
            CurveConfig::Fixed(Curve::Linear { start_factor, end_factor, total_iters }) => {
                (table.start_factor, table.end_factor) = (Some(start_factor), Some(end_factor));
                table.total_iters = Some(total_iters);
                "linear"
            }
        };
        table.name = name.to_string();
        table
    }
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self { curve: CurveConfig::Fixed(Curve::Constant), per: Per::Epoch, warmup: None }
    }
}

impl SchedulerConfig {
    /// The name in a recipe.
    pub fn name(&self) -> String {
        SchedulerTable::from(self.clone()).name
    }

    /// Whether the rate stays what it is.
    pub fn is_constant(&self) -> bool {
        self.warmup.is_none() && matches!(self.curve, CurveConfig::Fixed(Curve::Constant))
    }

    /// Whether another configuration is of the same PyTorch classes.
    pub fn is_like(&self, other: &Self) -> bool {
        self.name() == other.name() && self.warmup.is_some() == other.warmup.is_some()
    }

    /// The schedule of a training of some epochs with so many batches each.
    ///
    /// A cosine without `t_max` reaches its minimum at the end of the training, warm-up included.
    pub fn resolve(&self, epochs: u64, steps_per_epoch: u64) -> Schedule {
        let total = match self.per {
            Per::Epoch => epochs,
            Per::Step => epochs.saturating_mul(steps_per_epoch),
        };
        let curve = match &self.curve {
            CurveConfig::Fixed(curve) => curve.clone(),
            CurveConfig::CosineOverTraining { eta_min } => {
                let warmup = self.warmup.as_ref().map_or(0, |warmup| warmup.steps);
                Curve::Cosine { t_max: total.saturating_sub(warmup).max(1), eta_min: *eta_min }
            }
        };
        Schedule { curve, warmup: self.warmup.clone() }
    }

    /// Optimizer steps from one step of the schedule to the next.
    pub fn interval(&self, steps_per_epoch: u64) -> u64 {
        match self.per {
            Per::Epoch => steps_per_epoch.max(1),
            Per::Step => 1,
        }
    }
}
