//! Curves of the learning rate: one file that implements [`CurveKind`] for each, and one row of the table here.
//!
//! A curve is a function of the base rate and of how often it was stepped: the closed form of a class of
//! `torch.optim.lr_scheduler`. So resuming needs nothing but the count.

mod constant;
mod cosine;
mod exponential;
mod linear;
mod polynomial;
mod step;
mod warm_restarts;

use std::fmt::Debug;
use std::sync::LazyLock;

pub use constant::Constant;
pub use cosine::Cosine;
pub use exponential::Exponential;
pub use linear::Linear;
pub use polynomial::Polynomial;
use rekindle_state::{StateDict, Value};
pub use step::Step;
pub use warm_restarts::WarmRestarts;

use super::error::config;
use super::kind::Slot;
use super::settings::SettingKind;
use super::{OptimError, Settings};

/// A curve of the learning rate.
pub trait CurveKind: Debug + Clone + PartialEq + Default {
    /// The name in a recipe.
    const NAME: &'static str;
    /// The class in `torch.optim.lr_scheduler`.
    const TORCH: &'static str;
    /// Keys without a default.
    const NEEDED: &'static [&'static str] = &[];
    /// The key whose absence means the length of the training.
    const LENGTH: Option<&'static str> = None;

    /// Every setting under its key in a recipe, in the order of PyTorch's state.
    fn settings(&mut self) -> Vec<(&'static str, Slot<'_>)>;

    /// PyTorch's key of a setting.
    fn torch_key(key: &'static str) -> &'static str {
        key
    }

    /// Limits of the settings.
    ///
    /// # Errors
    /// With the first setting that is wrong.
    fn check(&self) -> Result<(), OptimError>;

    /// The rate after `count` steps.
    fn lr(&self, base: f64, count: u64) -> f64;

    /// The arguments under PyTorch's keys, and what else its state has before the base rates.
    fn state(&self, _count: u64) -> Vec<(&'static str, Value)> {
        let mut this = self.clone();
        let settings = this.settings();
        settings.iter().map(|(key, slot)| (Self::torch_key(key), slot.get().into())).collect()
    }

    /// PyTorch's count of calls after `count` steps.
    fn step_count(count: u64) -> u64 {
        count + 1
    }

    /// The curve with the arguments of a state of PyTorch's class.
    fn read(state: &StateDict) -> Option<Self> {
        let mut this = Self::default();
        for (key, mut slot) in this.settings() {
            let value = state.get(Self::torch_key(key))?;
            match &mut slot {
                Slot::Length(slot) => **slot = u64::try_from(value.as_int()?).ok()?,
                Slot::Number(slot) => **slot = value.as_float().filter(|value| value.is_finite())?,
                Slot::Pair(_) | Slot::Flag(_) => return None,
            }
        }
        this.check().is_ok().then_some(this)
    }
}

/// Declares [`Curve`] with a variant for each kind, and hands everything that is asked of a curve to it.
macro_rules! curves {
    ($($kind:ident,)*) => {
        /// A curve of the learning rate, of any kind.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Curve {
            $(
                #[doc = concat!("[`", stringify!($kind), "`].")]
                $kind($kind),
            )*
        }

        /// Each kind with its defaults, the keys that it needs, and the one for its length.
        fn kinds() -> Vec<(Curve, &'static [&'static str], Option<&'static str>)> {
            vec![$((Curve::$kind(<$kind>::default()), <$kind>::NEEDED, <$kind>::LENGTH),)*]
        }

        $(impl From<$kind> for Curve {
            fn from(curve: $kind) -> Self {
                Self::$kind(curve)
            }
        })*

        impl Curve {
            /// The name in a recipe.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$kind(_) => <$kind>::NAME,)* }
            }

            /// PyTorch's class.
            pub fn torch_name(&self) -> &'static str {
                match self { $(Self::$kind(_) => <$kind>::TORCH,)* }
            }

            fn slots(&mut self) -> Vec<(&'static str, Slot<'_>)> {
                match self { $(Self::$kind(curve) => curve.settings(),)* }
            }

            fn check(&self) -> Result<(), OptimError> {
                match self { $(Self::$kind(curve) => curve.check(),)* }
            }

            /// The rate after `count` steps.
            pub fn lr(&self, base: f64, count: u64) -> f64 {
                match self { $(Self::$kind(curve) => curve.lr(base, count),)* }
            }

            /// What PyTorch's state has before the base rates.
            pub(super) fn state(&self, count: u64) -> Vec<(&'static str, Value)> {
                match self { $(Self::$kind(curve) => curve.state(count),)* }
            }

            /// PyTorch's count of calls.
            pub(super) fn step_count(&self, count: u64) -> u64 {
                match self { $(Self::$kind(_) => <$kind>::step_count(count),)* }
            }

            /// The curve that a state of one of PyTorch's classes describes.
            pub(super) fn read(class: &str, state: &StateDict) -> Option<Self> {
                $(if class == <$kind>::TORCH { return <$kind>::read(state).map(Self::$kind); })*
                None
            }
        }
    };
}

curves! { Constant, Step, Exponential, Cosine, Linear, Polynomial, WarmRestarts, }

impl Default for Curve {
    fn default() -> Self {
        Self::Constant(Constant)
    }
}

/// Every setting of any curve, with the kind of its values.
pub(super) fn keys() -> &'static [(&'static str, SettingKind)] {
    static KEYS: LazyLock<Vec<(&str, SettingKind)>> = LazyLock::new(|| {
        let mut keys: Vec<(&str, SettingKind)> = Vec::new();
        for (mut curve, ..) in kinds() {
            for (key, slot) in curve.slots() {
                if keys.iter().all(|(known, _)| *known != key) {
                    keys.push((key, slot.kind()));
                }
            }
        }
        keys
    });
    &KEYS
}

impl Curve {
    /// The names that a recipe may use.
    pub fn names() -> Vec<&'static str> {
        kinds().iter().map(|(curve, ..)| curve.name()).collect()
    }

    /// The curve of a name with some settings, and whether its length is that of the training.
    pub(super) fn named(name: &str, settings: &Settings) -> Result<(Self, bool), OptimError> {
        let names = Self::names().join(", ");
        if name.is_empty() {
            return config(format!("the scheduler has no name: expected name = one of {names}"));
        }
        let Some((mut curve, needed, length)) = kinds().into_iter().find(|(curve, ..)| curve.name() == name) else {
            return config(format!("unknown scheduler '{name}': expected one of {names}"));
        };
        let mut slots = curve.slots();
        for (key, value) in settings.iter() {
            let Some(place) = slots.iter().position(|(known, _)| *known == key) else {
                let known: Vec<_> = slots.iter().map(|(key, _)| *key).collect();
                let known = if known.is_empty() { "none of its own".to_string() } else { known.join(", ") };
                return config(format!(
                    "scheduler '{name}' has no setting '{key}': it knows {known}, per, warmup and warmup_start_factor"
                ));
            };
            let slot = &mut slots[place].1;
            if !slot.set(&value) {
                let expected = slot.expected();
                return config(format!("scheduler '{name}' cannot have {key} = {value}: expected {expected}"));
            }
        }
        drop(slots);
        if let Some(key) = needed.iter().find(|key| settings.get(key).is_none()) {
            return config(format!("scheduler '{name}' needs the setting '{key}'"));
        }
        curve.check()?;
        Ok((curve, length.is_some_and(|key| settings.get(key).is_none())))
    }

    /// Every setting with its value.
    pub(super) fn settings(&self) -> Settings {
        let mut this = self.clone();
        this.slots().iter().fold(Settings::new(), |settings, (key, slot)| settings.with(key, slot.get()))
    }

    /// The key of its length.
    pub(super) fn length_key(&self) -> Option<&'static str> {
        kinds().iter().find(|(curve, ..)| curve.name() == self.name())?.2
    }

    /// The same curve with another length.
    pub(super) fn with_length(mut self, length: u64) -> Self {
        let key = self.length_key();
        if let Some((_, Slot::Length(slot))) = self.slots().into_iter().find(|(known, _)| Some(*known) == key) {
            *slot = length;
        }
        self
    }
}

/// Refuses a length of 0.
fn length(name: &str, key: &str, value: u64) -> Result<(), OptimError> {
    match value {
        0 => config(format!("scheduler '{name}' cannot have {key} = 0: expected 1 or more")),
        _ => Ok(()),
    }
}

/// Refuses numbers below 0.
fn not_negative(name: &str, key: &str, value: f64) -> Result<(), OptimError> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    config(format!("scheduler '{name}' cannot have {key} = {value}: expected a number that is 0 or more"))
}

/// Refuses a factor to start from that is not above 0, or above 1.
pub(super) fn start_factor(key: &str, factor: f64) -> Result<f64, OptimError> {
    if factor > 0.0 && factor <= 1.0 {
        return Ok(factor);
    }
    config(format!("a scheduler cannot have {key} = {factor}: expected a number from 0 to 1, 0 excluded"))
}
