//! A schedule's state as `scheduler.state_dict()` writes it, and back.

use rekindle_state::{StateDict, Value};

use super::error::state;
use super::schedules::Linear;
use super::{Curve, OptimError, Schedule, SchedulerConfig, Warmup};

/// A schedule's state from a PyTorch checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct RestoredSchedule {
    /// How often the schedule was stepped (`last_epoch`).
    pub count: u64,
    /// The base learning rate of each group.
    pub base_lrs: Vec<f64>,
    /// Arguments that the checkpoint has otherwise than the configuration.
    pub differences: Vec<ScheduleDifference>,
    /// Groups whose rate is not what the schedule gives, a sentence each. They may follow from an argument.
    pub rates: Vec<String>,
}

/// An argument of a schedule that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleDifference {
    /// The class and its argument.
    pub argument: String,
    /// Its value in the checkpoint.
    pub found: String,
    /// Its value in the configuration.
    pub expected: String,
}

impl Curve {
    /// One scheduler's state; `count` is `None` for one that has not begun, whose rates are `lrs`.
    fn state_dict(&self, count: Option<u64>, base_lrs: &[f64], lrs: &[f64]) -> StateDict {
        let mut dict = StateDict::new();
        self.state(count.unwrap_or(0)).into_iter().for_each(|(key, value)| drop(dict.insert(key, value)));
        dict.insert("base_lrs", floats(base_lrs));
        dict.insert("last_epoch", count.map_or(Value::Int(-1), integer));
        dict.insert("_step_count", integer(self.step_count(count.unwrap_or(0))));
        dict.insert("_is_initial", false);
        dict.insert("_get_lr_called_within_step", false);
        dict.insert("_last_lr", floats(lrs));
        dict
    }
}

impl Schedule {
    /// The state dict that PyTorch's scheduler would give after `count` steps; with a warm-up, `SequentialLR`'s.
    pub fn to_state_dict(&self, count: u64, base_lrs: &[f64]) -> StateDict {
        let at = |curve: &Curve, count: u64| base_lrs.iter().map(|&base| curve.lr(base, count)).collect::<Vec<_>>();
        let Some(warmup) = &self.warmup else {
            return self.curve.state_dict(Some(count), base_lrs, &at(&self.curve, count));
        };
        let rise = warmup.curve();
        let (rise_count, begun) = (count.min(warmup.steps - 1), count.checked_sub(warmup.steps));
        let main_lrs = begun.map_or_else(|| at(&rise, 0), |count| at(&self.curve, count));
        let current: Vec<f64> = base_lrs.iter().map(|&base| self.lr(base, count)).collect();
        let parts = vec![
            Value::Dict(rise.state_dict(Some(rise_count), base_lrs, &at(&rise, rise_count))),
            Value::Dict(self.curve.state_dict(begun, base_lrs, &main_lrs)),
        ];
        let mut dict = StateDict::new();
        dict.insert("_milestones", vec![integer(warmup.steps)]);
        dict.insert("last_epoch", integer(count));
        dict.insert("_last_lr", floats(&current));
        dict.insert("_schedulers", parts);
        dict
    }

    /// Reads PyTorch's `scheduler.state_dict()`.
    ///
    /// # Errors
    /// When it is the state of another kind of scheduler, or has no count of steps.
    pub fn from_state_dict(&self, dict: &StateDict) -> Result<RestoredSchedule, OptimError> {
        let mut differences = Vec::new();
        let count = count(dict)?;
        let base_lrs = match &self.warmup {
            None => check(&self.curve, dict, &mut differences)?,
            Some(warmup) => {
                let parts = dict.get("_schedulers").and_then(Value::as_slice).and_then(|parts| match parts {
                    [Value::Dict(rise), Value::Dict(main)] => Some((rise, main)),
                    _ => None,
                });
                let Some((rise, main)) = parts else {
                    return state(format!(
                        "the checkpoint's scheduler is {}, the configuration's is SequentialLR of a warm-up and {}",
                        scheduler_class(dict),
                        self.curve.torch_name()
                    ));
                };
                let milestone = dict
                    .get("_milestones")
                    .and_then(Value::as_slice)
                    .and_then(|items| items.first())
                    .and_then(Value::as_int);
                if milestone != i64::try_from(warmup.steps).ok() {
                    differences.push(ScheduleDifference {
                        argument: "SequentialLR: milestones".to_string(),
                        found: milestone.map_or("unknown".to_string(), |steps| steps.to_string()),
                        expected: warmup.steps.to_string(),
                    });
                }
                check(&warmup.curve(), rise, &mut differences)?;
                check(&self.curve, main, &mut differences)?
            }
        };
        let mut other_rates = Vec::new();
        for (group, (&base, found)) in base_lrs.iter().zip(rates(dict, "_last_lr")).enumerate() {
            let expected = self.lr(base, count);
            if (found - expected).abs() > 1e-6 * base.abs() {
                other_rates.push(format!(
                    "the learning rate of group {group} is {found} in the checkpoint, the schedule gives {expected} after {count} steps"
                ));
            }
        }
        Ok(RestoredSchedule { count, base_lrs, differences, rates: other_rates })
    }
}

impl SchedulerConfig {
    /// The schedule that PyTorch's `scheduler.state_dict()` describes, if it is one that is here; stepped by epochs.
    pub fn from_state_dict(dict: &StateDict) -> Option<Self> {
        let fixed = |curve: Curve, warmup: Option<Warmup>| Self { curve, warmup, ..Self::default() };
        let Some([Value::Dict(rise), Value::Dict(main)]) = dict.get("_schedulers").and_then(Value::as_slice) else {
            return Some(fixed(read_curve(dict)?, None));
        };
        let Curve::Linear(Linear { start_factor, end_factor: 1.0, total_iters }) = read_curve(rise)? else {
            return None;
        };
        let milestones = dict.get("_milestones").and_then(Value::as_slice)?;
        let steps = milestones.first().and_then(Value::as_int).and_then(|steps| u64::try_from(steps).ok())?;
        (steps == total_iters && steps > 0).then_some(())?;
        Some(fixed(read_curve(main)?, Some(Warmup { steps, start_factor })))
    }
}

/// The curve of one of PyTorch's schedulers, by its arguments.
fn read_curve(dict: &StateDict) -> Option<Curve> {
    Curve::read(scheduler_class(dict), dict)
}

/// Compares a scheduler's arguments and gives its base rates.
fn check(curve: &Curve, dict: &StateDict, differences: &mut Vec<ScheduleDifference>) -> Result<Vec<f64>, OptimError> {
    let name = curve.torch_name();
    if scheduler_class(dict) != name {
        return state(format!(
            "the checkpoint's scheduler is {}, the configuration's is {name}",
            scheduler_class(dict)
        ));
    }
    for (key, expected) in curve.state(count(dict).unwrap_or(0)) {
        let found = dict.get(key).and_then(Value::as_float);
        if let (Some(found), Some(expected)) = (found, expected.as_float())
            && found != expected
        {
            let argument = format!("{name}: {key}");
            differences.push(ScheduleDifference { argument, found: found.to_string(), expected: expected.to_string() });
        }
    }
    if curve.is_measured() {
        // It changes the rates of the optimizer, and keeps none to begin with.
        return Ok(Vec::new());
    }
    let base_lrs = rates(dict, "base_lrs");
    if base_lrs.is_empty() {
        return state(format!("the checkpoint's {name} has no numbers under 'base_lrs'"));
    }
    Ok(base_lrs)
}

/// PyTorch's class, found by the arguments that only it has.
pub fn scheduler_class(dict: &StateDict) -> &'static str {
    const SIGNS: [(&str, &str); 13] = [
        ("_schedulers", "SequentialLR or ChainedScheduler"),
        ("step_size", "StepLR"),
        ("step_size_up", "CyclicLR"),
        ("total_size", "CyclicLR"),
        ("milestones", "MultiStepLR"),
        ("T_max", "CosineAnnealingLR"),
        ("T_0", "CosineAnnealingWarmRestarts"),
        ("start_factor", "LinearLR"),
        ("factor", "ConstantLR"),
        ("power", "PolynomialLR"),
        ("lr_lambdas", "LambdaLR or MultiplicativeLR"),
        ("total_steps", "OneCycleLR"),
        ("gamma", "ExponentialLR"),
    ];
    if dict.get("patience").is_some() {
        // It has a factor too.
        return "ReduceLROnPlateau";
    }
    SIGNS.iter().find(|(key, _)| dict.get(key).is_some()).map_or("unknown", |(_, name)| name)
}

fn count(dict: &StateDict) -> Result<u64, OptimError> {
    match dict.get("last_epoch").and_then(Value::as_int).and_then(|count| u64::try_from(count).ok()) {
        Some(count) => Ok(count),
        None => {
            state("the checkpoint's scheduler has no count of steps, an integer that is 0 or more, under 'last_epoch'")
        }
    }
}

fn rates(dict: &StateDict, key: &str) -> Vec<f64> {
    dict.get(key)
        .and_then(Value::as_slice)
        .map(|items| items.iter().filter_map(Value::as_float).collect())
        .unwrap_or_default()
}

fn integer(value: u64) -> Value {
    i64::try_from(value).map_or(Value::BigInt(value.into()), Value::Int)
}

fn floats(values: &[f64]) -> Vec<Value> {
    values.iter().copied().map(Value::Float).collect()
}
