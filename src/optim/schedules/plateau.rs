//! `ReduceLROnPlateau`.

use rekindle_state::{StateDict, Value};
use serde::{Deserialize, Serialize};

use super::{CurveKind, Field};

/// `ReduceLROnPlateau`: times `factor` when a metric has not improved for more than `patience` epochs. What it is stepped by is a
/// value of the metric; what the rate depends on is how often it was lowered.
#[derive(Debug, Clone, PartialEq)]
pub struct Plateau {
    /// Factor of each lowering.
    pub factor: f64,
    /// Epochs without improvement that change nothing.
    pub patience: u64,
    /// By how much of the best value so far the metric must improve.
    pub threshold: f64,
    /// Whether `threshold` is an amount and not a share: `threshold_mode="abs"`.
    pub absolute: bool,
    /// Epochs after a lowering that are not counted.
    pub cooldown: u64,
    /// The lowest rate.
    pub min_lr: f64,
    /// Lowerings by less than this are left out.
    pub eps: f64,
}

impl Default for Plateau {
    fn default() -> Self {
        Self { factor: 0.1, patience: 10, threshold: 1e-4, absolute: false, cooldown: 0, min_lr: 0.0, eps: 1e-8 }
    }
}

/// What a [`Plateau`] has seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PlateauState {
    /// The best value of the metric; none before the first.
    pub best: Option<f64>,
    /// Epochs in a row without improvement.
    pub bad_epochs: u64,
    /// Epochs that are still not counted.
    pub cooldown: u64,
    /// How often the rate was lowered.
    pub lowered: u64,
}

impl Plateau {
    /// The state after an epoch with this value of the metric, which should fall or grow.
    #[must_use]
    pub fn after(&self, mut state: PlateauState, value: f64, falls: bool) -> PlateauState {
        let worst = if falls { f64::INFINITY } else { f64::NEG_INFINITY };
        if self.is_better(value, state.best.unwrap_or(worst), falls) {
            state.best = Some(value);
            state.bad_epochs = 0;
        } else {
            state.bad_epochs += 1;
        }
        if state.cooldown > 0 {
            state.cooldown -= 1;
            state.bad_epochs = 0;
        }
        if state.bad_epochs > self.patience {
            state.lowered += 1;
            state.cooldown = self.cooldown;
            state.bad_epochs = 0;
        }
        state
    }

    /// In PyTorch's order of operations.
    fn is_better(&self, value: f64, best: f64, falls: bool) -> bool {
        match (falls, self.absolute) {
            (true, false) => value < best * (1.0 - self.threshold),
            (true, true) => value < best - self.threshold,
            (false, false) => value > best * (self.threshold + 1.0),
            (false, true) => value > best + self.threshold,
        }
    }

    /// PyTorch's `state_dict()` after some epochs; `lrs` are the rates of the groups now.
    pub fn to_state_dict(&self, state: &PlateauState, falls: bool, epochs: u64, lrs: &[f64]) -> StateDict {
        let whole = |value: u64| Value::Int(i64::try_from(value).unwrap_or(i64::MAX));
        let floats = |values: &mut dyn Iterator<Item = f64>| Value::List(values.map(Value::Float).collect());
        let worst = if falls { f64::INFINITY } else { f64::NEG_INFINITY };
        let mut dict = StateDict::new();
        dict.insert("factor", self.factor);
        dict.insert("default_min_lr", self.min_lr);
        dict.insert("min_lrs", floats(&mut lrs.iter().map(|_| self.min_lr)));
        dict.insert("patience", whole(self.patience));
        dict.insert("cooldown", whole(self.cooldown));
        dict.insert("eps", self.eps);
        dict.insert("last_epoch", whole(epochs));
        dict.insert("_last_lr", floats(&mut lrs.iter().copied()));
        dict.insert("mode_worse", worst);
        dict.insert("mode", if falls { "min" } else { "max" });
        dict.insert("threshold", self.threshold);
        dict.insert("threshold_mode", if self.absolute { "abs" } else { "rel" });
        dict.insert("best", state.best.unwrap_or(worst));
        dict.insert("cooldown_counter", whole(state.cooldown));
        dict.insert("num_bad_epochs", whole(state.bad_epochs));
        dict
    }

    /// What a state of PyTorch's class has seen, and whether its metric should fall. How often the rate was lowered is not in it: the
    /// rates of the optimizer are those to go on from.
    pub fn seen(state: &StateDict) -> Option<(PlateauState, bool)> {
        let falls = state.get("mode")?.as_str()? == "min";
        let count = |key: &str| u64::try_from(state.get(key)?.as_int()?).ok();
        let best = state.get("best")?.as_float().filter(|best| best.is_finite());
        let seen = PlateauState {
            best,
            bad_epochs: count("num_bad_epochs")?,
            cooldown: count("cooldown_counter")?,
            lowered: 0,
        };
        Some((seen, falls))
    }
}

impl CurveKind for Plateau {
    const NAME: &'static str = "plateau";
    const TORCH: &'static str = "ReduceLROnPlateau";
    const MEASURED: bool = true;

    fn fields(&mut self) -> Vec<Field<'_>> {
        vec![
            Field::number("factor", &mut self.factor).below_one(),
            Field::count("patience", &mut self.patience),
            Field::number("threshold", &mut self.threshold).not_negative(),
            Field::flag("absolute", &mut self.absolute),
            Field::count("cooldown", &mut self.cooldown),
            Field::number("min_lr", &mut self.min_lr).torch("default_min_lr").not_negative(),
            Field::number("eps", &mut self.eps).not_negative(),
        ]
    }

    /// The rate after it was lowered `count` times.
    fn lr(&self, base: f64, count: u64) -> f64 {
        let mut lr = base;
        for _ in 0..count {
            let lower = (lr * self.factor).max(self.min_lr);
            if lr - lower <= self.eps {
                break;
            }
            lr = lower;
        }
        lr
    }

    fn read(state: &StateDict) -> Option<Self> {
        let number = |key: &str| state.get(key)?.as_float();
        let count = |key: &str| u64::try_from(state.get(key)?.as_int()?).ok();
        let floors = state.get("min_lrs")?.as_slice()?.iter().map(Value::as_float).collect::<Option<Vec<f64>>>()?;
        let min_lr = *floors.first()?;
        let mut this = Self {
            factor: number("factor")?,
            patience: count("patience")?,
            threshold: number("threshold")?,
            absolute: state.get("threshold_mode")?.as_str()? == "abs",
            cooldown: count("cooldown")?,
            min_lr,
            eps: number("eps")?,
        };
        let right = this.fields().iter().all(|field| field.check("").is_ok());
        // One floor for all groups: a recipe has no other.
        (right && floors.iter().all(|floor| *floor == min_lr)).then_some(this)
    }
}
