//! Curves of the learning rate: one file that implements [`CurveKind`] for each, and one row of the table here.
//!
//! A curve is a function of the base rate and of how often it was stepped: the closed form of a class of
//! `torch.optim.lr_scheduler`. So resuming needs nothing but the count. One that follows a metric counts how often it lowered the rate.

mod constant;
mod cosine;
mod exponential;
mod linear;
mod multi_step;
mod one_cycle;
mod plateau;
mod polynomial;
mod step;
mod warm_restarts;

use std::fmt::Debug;
use std::sync::LazyLock;

pub use constant::Constant;
pub use cosine::Cosine;
pub use exponential::Exponential;
pub use linear::Linear;
pub use multi_step::MultiStep;
pub use one_cycle::OneCycle;
pub use plateau::{Plateau, PlateauState};
pub use polynomial::Polynomial;
use rekindle_state::{StateDict, Value};
pub use step::Step;
pub use warm_restarts::WarmRestarts;

use super::error::config;
use super::field::{self, Field};
use super::settings::SettingKind;
use super::{OptimError, Setting, Settings};

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
    /// Whether it follows a metric: its count is then how often the rate was lowered.
    const MEASURED: bool = false;

    /// Its arguments in the order of PyTorch's state, with their limits, and constants.
    fn fields(&mut self) -> Vec<Field<'_>>;

    /// The rate after `count` steps.
    fn lr(&self, base: f64, count: u64) -> f64;

    /// What PyTorch keeps as a group's `initial_lr`.
    fn initial_lr(&self, base: f64) -> f64 {
        base
    }

    /// What PyTorch's class keeps in each of `param_groups` beside it.
    fn group_keys(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }

    /// The arguments under PyTorch's keys, and what else its state has before the base rates.
    fn state(&self, _count: u64) -> Vec<(&'static str, Value)> {
        let mut this = self.clone();
        this.fields().into_iter().map(|field| (field.torch, field.value())).collect()
    }

    /// PyTorch's count of calls after `count` steps.
    fn step_count(count: u64) -> u64 {
        count + 1
    }

    /// The curve with the arguments of a state of PyTorch's class.
    fn read(state: &StateDict) -> Option<Self> {
        let mut this = Self::default();
        let fields = this.fields().into_iter().map(|mut field| {
            let value = state.get(field.torch)?;
            let read = match field.kind()? {
                SettingKind::Length => Setting::Length(u64::try_from(value.as_int()?).ok()?),
                SettingKind::Number => Setting::Number(value.as_float()?),
                SettingKind::Flag => Setting::Flag(value.as_bool()?),
                SettingKind::Pair | SettingKind::Lengths => return None,
            };
            field.set(&read);
            field.check("").ok()
        });
        fields.collect::<Option<()>>()?;
        Some(this)
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

            /// Whether it follows a metric.
            pub fn is_measured(&self) -> bool {
                match self { $(Self::$kind(_) => <$kind>::MEASURED,)* }
            }

            fn fields(&mut self) -> Vec<Field<'_>> {
                match self { $(Self::$kind(curve) => curve.fields(),)* }
            }

            /// The rate after `count` steps.
            pub fn lr(&self, base: f64, count: u64) -> f64 {
                match self { $(Self::$kind(curve) => curve.lr(base, count),)* }
            }

            /// What PyTorch keeps as a group's `initial_lr`.
            pub fn initial_lr(&self, base: f64) -> f64 {
                match self { $(Self::$kind(curve) => curve.initial_lr(base),)* }
            }

            /// What PyTorch's class keeps in each of `param_groups` beside it.
            pub fn group_keys(&self) -> Vec<(&'static str, f64)> {
                match self { $(Self::$kind(curve) => curve.group_keys(),)* }
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

curves! { Constant, Step, MultiStep, Exponential, Cosine, Linear, Polynomial, WarmRestarts, OneCycle, Plateau, }

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
            field::kinds(&mut keys, &curve.fields());
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
        field::lay(
            &format!("scheduler '{name}'"),
            curve.fields(),
            settings,
            &["per", "warmup", "warmup_start_factor", "monitor"],
        )?;
        if let Some(key) = needed.iter().find(|key| settings.get(key).is_none()) {
            return config(format!("scheduler '{name}' needs the setting '{key}'"));
        }
        Ok((curve, length.is_some_and(|key| settings.get(key).is_none())))
    }

    /// The plateau that it is.
    pub fn plateau(&self) -> Option<&Plateau> {
        match self {
            Self::Plateau(plateau) => Some(plateau),
            _ => None,
        }
    }

    /// Every setting with its value.
    pub(super) fn settings(&self) -> Settings {
        let mut this = self.clone();
        field::settings(&this.fields())
    }

    /// The key of its length.
    pub(super) fn length_key(&self) -> Option<&'static str> {
        kinds().iter().find(|(curve, ..)| curve.name() == self.name())?.2
    }

    /// The same curve with another length.
    pub(super) fn with_length(mut self, length: u64) -> Self {
        let key = self.length_key();
        if let Some(mut field) = self.fields().into_iter().find(|field| Some(field.key) == key) {
            field.set(&Setting::Length(length));
        }
        self
    }
}
