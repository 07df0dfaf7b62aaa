//! The scheduler of a recipe: names and defaults of `torch.optim.lr_scheduler`.

use std::sync::LazyLock;

use serde::de::MapAccess;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize};

use super::error::config;
use super::field::Field;
use super::schedules::keys;
use super::settings::{Own, SettingKind, Table, names};
use super::{Curve, OptimError, Schedule, Warmup};

/// A learning-rate schedule as a recipe describes it.
///
/// Reads from a table with `name` ([`Curve::names`]), the keys of PyTorch's class, `per`, and `warmup` with `warmup_start_factor`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Table<SchedulerKeys>", into = "Table<SchedulerKeys>")]
pub struct SchedulerConfig {
    /// The curve.
    pub curve: Curve,
    /// Whether the curve's length is that of the training, whatever length it has.
    pub over_training: bool,
    /// When it is stepped.
    pub per: Per,
    /// A linear rise before it.
    pub warmup: Option<Warmup>,
    /// The metric that a schedule of `name = "plateau"` follows; `valid.loss` if none is given.
    pub monitor: Option<String>,
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

/// The own keys of the table of a scheduler.
#[derive(Default)]
struct SchedulerKeys {
    name: String,
    per: Per,
    warmup: Option<u64>,
    warmup_start_factor: Option<f64>,
    monitor: Option<String>,
}

impl Own for SchedulerKeys {
    const KEYS: &'static [&'static str] = &["name", "per", "warmup", "warmup_start_factor", "monitor"];

    fn settings() -> &'static [(&'static str, SettingKind)] {
        keys()
    }

    fn known() -> &'static [&'static str] {
        static KNOWN: LazyLock<Vec<&str>> = LazyLock::new(|| names(SchedulerKeys::KEYS, keys()));
        &KNOWN
    }

    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "name" => self.name = map.next_value()?,
            "per" => self.per = map.next_value()?,
            "warmup" => self.warmup = Some(map.next_value()?),
            "monitor" => self.monitor = Some(map.next_value()?),
            _ => self.warmup_start_factor = Some(map.next_value()?),
        }
        Ok(())
    }

    fn missing(&self) -> Option<&'static str> {
        None
    }

    fn write<S: SerializeMap>(&self, map: &mut S) -> Result<(), S::Error> {
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("per", &self.per)?;
        if let (Some(steps), Some(factor)) = (self.warmup, self.warmup_start_factor) {
            map.serialize_entry("warmup", &steps)?;
            map.serialize_entry("warmup_start_factor", &factor)?;
        }
        if let Some(monitor) = &self.monitor {
            map.serialize_entry("monitor", monitor)?;
        }
        Ok(())
    }
}

impl TryFrom<Table<SchedulerKeys>> for SchedulerConfig {
    type Error = OptimError;

    fn try_from(table: Table<SchedulerKeys>) -> Result<Self, OptimError> {
        let SchedulerKeys { name, per, warmup, warmup_start_factor, monitor } = table.own;
        let (curve, over_training) = Curve::named(&name, &table.settings)?;
        match (curve.is_measured(), per) {
            (false, _) if monitor.is_some() => {
                return config(format!("scheduler '{name}' follows no metric: leave monitor out"));
            }
            (true, Per::Step) => {
                return config(format!(
                    "scheduler '{name}' follows a metric, which comes once an epoch: leave per out"
                ));
            }
            _ => {}
        }
        let warmup = match (warmup, warmup_start_factor) {
            (Some(steps), factor) if steps > 0 => {
                // PyTorch's default is a third.
                let mut start_factor = factor.unwrap_or(1.0 / 3.0);
                Field::number("warmup_start_factor", &mut start_factor).factor().check("a scheduler")?;
                if let Curve::OneCycle(_) = curve {
                    return config("scheduler 'one_cycle' rises by itself: leave warmup out");
                }
                if curve.is_measured() {
                    return config(format!("scheduler '{name}' follows a metric and no warm-up: leave warmup out"));
                }
                Some(Warmup { steps, start_factor })
            }
            (_, Some(_)) => {
                return config(
                    "a scheduler has warmup_start_factor without warmup: give the number of warm-up steps too",
                );
            }
            _ => None,
        };
        Ok(Self { curve, over_training, per, warmup, monitor })
    }
}

impl From<SchedulerConfig> for Table<SchedulerKeys> {
    fn from(config: SchedulerConfig) -> Self {
        let (warmup, warmup_start_factor) = config.warmup.map(|warmup| (warmup.steps, warmup.start_factor)).unzip();
        let length = config.curve.length_key().filter(|_| config.over_training);
        let name = config.curve.name().to_string();
        let settings = config.curve.settings();
        Self {
            own: SchedulerKeys { name, per: config.per, warmup, warmup_start_factor, monitor: config.monitor },
            settings: match length {
                Some(key) => settings.without_key(key),
                None => settings,
            },
        }
    }
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self { curve: Curve::default(), over_training: false, per: Per::Epoch, warmup: None, monitor: None }
    }
}

impl SchedulerConfig {
    /// The name in a recipe.
    pub fn name(&self) -> String {
        self.curve.name().to_string()
    }

    /// Whether the rate stays what it is.
    pub fn is_constant(&self) -> bool {
        self.warmup.is_none() && self.curve == Curve::default()
    }

    /// The metric that it follows, if it follows one.
    pub fn monitor(&self) -> Option<&str> {
        self.curve.is_measured().then(|| self.monitor.as_deref().unwrap_or("valid.loss"))
    }

    /// Whether another configuration is of the same PyTorch classes.
    pub fn is_like(&self, other: &Self) -> bool {
        self.name() == other.name() && self.warmup.is_some() == other.warmup.is_some()
    }

    /// The schedule of a training of some epochs with so many batches each.
    ///
    /// A curve without a length (a cosine without `t_max`) ends with the training, warm-up included.
    pub fn resolve(&self, epochs: u64, steps_per_epoch: u64) -> Schedule {
        let total = match self.per {
            Per::Epoch => epochs,
            Per::Step => epochs.saturating_mul(steps_per_epoch),
        };
        let curve = match self.over_training {
            true => {
                let warmup = self.warmup.as_ref().map_or(0, |warmup| warmup.steps);
                self.curve.clone().with_length(total.saturating_sub(warmup).max(1))
            }
            false => self.curve.clone(),
        };
        Schedule { curve, warmup: self.warmup.clone(), lowered: 0 }
    }

    /// Optimizer steps from one step of the schedule to the next.
    pub fn interval(&self, steps_per_epoch: u64) -> u64 {
        match self.per {
            Per::Epoch => steps_per_epoch.max(1),
            Per::Step => 1,
        }
    }
}
