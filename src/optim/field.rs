//! The arguments of a class of PyTorch's, listed once: a recipe's keys, their limits, and what the class's state holds all follow.

use rekindle_state::Value;

use super::error::config;
use super::settings::SettingKind;
use super::{OptimError, Setting, Settings};

/// An argument, or a constant that PyTorch's state has among them.
#[derive(Debug)]
pub struct Field<'a> {
    /// The key in a recipe.
    pub key: &'static str,
    /// The key in PyTorch's state.
    pub torch: &'static str,
    holds: Holds<'a>,
    limit: Limit,
}

#[derive(Debug)]
enum Holds<'a> {
    Number(&'a mut f64),
    Pair(&'a mut [f64; 2]),
    Length(&'a mut u64),
    Count(&'a mut u64),
    Lengths(&'a mut Vec<u64>),
    Flag(&'a mut bool),
    Constant(Box<Value>),
}

/// Which numbers an argument may be. Infinite ones are never taken.
#[derive(Debug, Clone, Copy)]
enum Limit {
    Finite,
    NotNegative,
    /// 0 or more, below 1.
    BelowOne,
    /// From 0 to 1.
    Share,
    /// Above 0, up to 1.
    Factor,
    /// Above 0.
    Positive,
}

impl Limit {
    fn holds(self, value: f64) -> bool {
        value.is_finite()
            && match self {
                Self::Finite => true,
                Self::NotNegative => value >= 0.0,
                Self::BelowOne => (0.0..1.0).contains(&value),
                Self::Share => (0.0..=1.0).contains(&value),
                Self::Factor => value > 0.0 && value <= 1.0,
                Self::Positive => value > 0.0,
            }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Finite => "a number",
            Self::NotNegative => "a number that is 0 or more",
            Self::BelowOne => "a number from 0 to 1, 1 excluded",
            Self::Share => "a number from 0 to 1",
            Self::Factor => "a number from 0 to 1, 0 excluded",
            Self::Positive => "a number above 0",
        }
    }
}

impl<'a> Field<'a> {
    fn new(key: &'static str, holds: Holds<'a>) -> Self {
        Self { key, torch: key, holds, limit: Limit::Finite }
    }

    /// A number.
    pub fn number(key: &'static str, at: &'a mut f64) -> Self {
        Self::new(key, Holds::Number(at))
    }

    /// Two numbers.
    pub fn pair(key: &'static str, at: &'a mut [f64; 2]) -> Self {
        Self::new(key, Holds::Pair(at))
    }

    /// A whole number, 1 or more.
    pub fn length(key: &'static str, at: &'a mut u64) -> Self {
        Self::new(key, Holds::Length(at))
    }

    /// A whole number, 0 or more.
    pub fn count(key: &'static str, at: &'a mut u64) -> Self {
        Self::new(key, Holds::Count(at))
    }

    /// Whole numbers, each larger than the one before.
    pub fn lengths(key: &'static str, at: &'a mut Vec<u64>) -> Self {
        Self::new(key, Holds::Lengths(at))
    }

    /// A switch.
    pub fn flag(key: &'static str, at: &'a mut bool) -> Self {
        Self::new(key, Holds::Flag(at))
    }

    /// What PyTorch's state has and no recipe says.
    pub fn constant(key: &'static str, value: impl Into<Value>) -> Self {
        Self::new(key, Holds::Constant(Box::new(value.into())))
    }

    /// The same under another key in PyTorch's state.
    #[must_use]
    pub fn torch(self, key: &'static str) -> Self {
        Self { torch: key, ..self }
    }

    fn limited(self, limit: Limit) -> Self {
        Self { limit, ..self }
    }

    /// Refuses numbers below 0.
    #[must_use]
    pub fn not_negative(self) -> Self {
        self.limited(Limit::NotNegative)
    }

    /// Refuses numbers outside of 0 to 1, and 1.
    #[must_use]
    pub fn below_one(self) -> Self {
        self.limited(Limit::BelowOne)
    }

    /// Refuses numbers outside of 0 to 1.
    #[must_use]
    pub fn share(self) -> Self {
        self.limited(Limit::Share)
    }

    /// Refuses numbers outside of 0 to 1, and 0.
    #[must_use]
    pub fn factor(self) -> Self {
        self.limited(Limit::Factor)
    }

    /// Refuses numbers that are not above 0.
    #[must_use]
    pub fn positive(self) -> Self {
        self.limited(Limit::Positive)
    }

    /// The value, if a recipe may say it.
    pub fn get(&self) -> Option<Setting> {
        Some(match &self.holds {
            Holds::Number(value) => Setting::Number(**value),
            Holds::Pair(value) => Setting::Pair(**value),
            Holds::Length(value) | Holds::Count(value) => Setting::Length(**value),
            Holds::Lengths(value) => Setting::Lengths((*value).clone()),
            Holds::Flag(value) => Setting::Flag(**value),
            Holds::Constant(_) => return None,
        })
    }

    /// Takes a value; whether it is of the right kind.
    pub(super) fn set(&mut self, value: &Setting) -> bool {
        match (&mut self.holds, value) {
            (Holds::Number(at), Setting::Number(value)) => **at = *value,
            (Holds::Pair(at), Setting::Pair(value)) => **at = *value,
            (Holds::Length(at) | Holds::Count(at), Setting::Length(value)) => **at = *value,
            (Holds::Lengths(at), Setting::Lengths(value)) => (*at).clone_from(value),
            (Holds::Flag(at), Setting::Flag(value)) => **at = *value,
            _ => return false,
        }
        true
    }

    /// The kind of its values, if a recipe may say it.
    pub(super) fn kind(&self) -> Option<SettingKind> {
        Some(match &self.holds {
            Holds::Number(_) => SettingKind::Number,
            Holds::Pair(_) => SettingKind::Pair,
            Holds::Length(_) | Holds::Count(_) => SettingKind::Length,
            Holds::Lengths(_) => SettingKind::Lengths,
            Holds::Flag(_) => SettingKind::Flag,
            Holds::Constant(_) => return None,
        })
    }

    /// The value as PyTorch's state has it.
    pub(super) fn value(self) -> Value {
        match self.holds {
            Holds::Constant(value) => *value,
            _ => self.get().map_or(Value::None, Value::from),
        }
    }

    fn expected(&self) -> &'static str {
        match &self.holds {
            Holds::Number(_) => "a number",
            Holds::Pair(_) => "two numbers",
            Holds::Length(_) | Holds::Count(_) => "a whole number",
            Holds::Lengths(_) => "a list of whole numbers",
            Holds::Flag(_) => "true or false",
            Holds::Constant(_) => "nothing",
        }
    }

    /// Refuses a value outside of its limits; `owner` begins the sentence: `optimizer 'sgd'`.
    ///
    /// # Errors
    /// When it is one.
    pub(super) fn check(&self, owner: &str) -> Result<(), OptimError> {
        let limit = self.limit;
        let numbers = |key: &dyn Fn(usize) -> String, values: &[f64]| match values
            .iter()
            .position(|value| !limit.holds(*value))
        {
            None => Ok(()),
            Some(at) => {
                config(format!("{owner} cannot have {} = {}: expected {}", key(at), values[at], limit.expected()))
            }
        };
        match &self.holds {
            Holds::Number(value) => numbers(&|_| self.key.to_string(), &[**value]),
            Holds::Pair(values) => numbers(&|at| format!("{}[{at}]", self.key), &values[..]),
            Holds::Length(0) => config(format!("{owner} cannot have {} = 0: expected 1 or more", self.key)),
            Holds::Lengths(values) if values.is_empty() || values[0] == 0 || !values.is_sorted_by(|a, b| a < b) => {
                config(format!(
                    "{owner} cannot have {} = {values:?}: expected whole numbers from 1 on, each larger than the one before",
                    self.key
                ))
            }
            _ => Ok(()),
        }
    }
}

/// Puts settings into fields and checks all of them. `others` are keys of the table that are no fields.
///
/// # Errors
/// When a setting has no field, or a value is one that PyTorch refuses.
pub(super) fn lay(
    owner: &str,
    mut fields: Vec<Field<'_>>,
    settings: &Settings,
    others: &[&str],
) -> Result<(), OptimError> {
    for (key, value) in settings.iter() {
        let Some(place) = fields.iter().position(|field| field.key == key && field.kind().is_some()) else {
            let known = fields.iter().filter(|field| field.kind().is_some()).map(|field| field.key);
            let known: Vec<&str> = known.chain(others.iter().copied()).collect();
            return config(format!("{owner} has no setting '{key}': it knows {}", known.join(", ")));
        };
        let field = &mut fields[place];
        if !field.set(value) {
            return config(format!("{owner} cannot have {key} = {value}: expected {}", field.expected()));
        }
    }
    fields.iter().try_for_each(|field| field.check(owner))
}

/// The settings that fields hold.
pub(super) fn settings(fields: &[Field<'_>]) -> Settings {
    let held = fields.iter().filter_map(|field| Some((field.key, field.get()?)));
    held.fold(Settings::new(), |settings, (key, value)| settings.with(key, value))
}

/// The keys of several classes together, with the kind of their values.
pub(super) fn kinds(keys: &mut Vec<(&'static str, SettingKind)>, fields: &[Field<'_>]) {
    for field in fields {
        if let Some(kind) = field.kind().filter(|_| keys.iter().all(|(known, _)| *known != field.key)) {
            keys.push((field.key, kind));
        }
    }
}
