//! Hyper-parameters as somebody gave them.

use rekindle_state::Value;
use serde::de::{DeserializeSeed, MapAccess};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A hyper-parameter's value.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Setting {
    /// A number.
    Number(f64),
    /// Two numbers.
    Pair([f64; 2]),
    /// A whole number.
    Length(u64),
    /// Whole numbers.
    Lengths(Vec<u64>),
    /// A switch.
    Flag(bool),
}

impl Setting {
    /// The number that it is.
    pub fn number(self) -> Option<f64> {
        match self {
            Self::Number(value) => Some(value),
            _ => None,
        }
    }
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(value) => write!(f, "{value:?}"),
            Self::Pair(values) => write!(f, "{values:?}"),
            Self::Length(value) => write!(f, "{value}"),
            Self::Lengths(values) => write!(f, "{values:?}"),
            Self::Flag(value) => write!(f, "{value}"),
        }
    }
}

impl From<f64> for Setting {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<[f64; 2]> for Setting {
    fn from(value: [f64; 2]) -> Self {
        Self::Pair(value)
    }
}

impl From<u64> for Setting {
    fn from(value: u64) -> Self {
        Self::Length(value)
    }
}

impl From<Vec<u64>> for Setting {
    fn from(values: Vec<u64>) -> Self {
        Self::Lengths(values)
    }
}

impl From<Setting> for Value {
    fn from(setting: Setting) -> Self {
        match setting {
            Setting::Number(value) => Self::Float(value),
            Setting::Pair(values) => Self::Tuple(values.map(Self::Float).to_vec()),
            Setting::Length(value) => i64::try_from(value).map_or(Self::BigInt(value.into()), Self::Int),
            Setting::Lengths(values) => {
                Self::List(values.into_iter().map(|value| Setting::Length(value).into()).collect())
            }
            Setting::Flag(value) => Self::Bool(value),
        }
    }
}

impl From<bool> for Setting {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}

/// Hyper-parameters under PyTorch's keys: those that are absent keep their value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    pairs: Vec<(&'static str, Setting)>,
}

impl Settings {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// These with one more.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Setting>) -> Self {
        let value = value.into();
        match self.pairs.iter_mut().find(|(known, _)| *known == key) {
            Some((_, slot)) => *slot = value,
            None => self.pairs.push((key, value)),
        }
        self
    }

    /// The value under a key.
    pub fn get(&self, key: &str) -> Option<Setting> {
        self.pairs.iter().find(|(known, _)| *known == key).map(|(_, value)| value.clone())
    }

    /// Keys and values in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Setting)> {
        self.pairs.iter().map(|(key, value)| (*key, value))
    }

    /// These settings without one.
    pub(super) fn without_key(mut self, key: &str) -> Self {
        self.pairs.retain(|(known, _)| *known != key);
        self
    }

    /// These settings without those that `common` has with the same value.
    pub(super) fn without(mut self, common: &Self) -> Self {
        self.pairs.retain(|(key, value)| common.get(key).as_ref() != Some(value));
        self
    }
}

/// A table with some keys of its own and those of any optimizer, or any curve. Serde cannot both flatten and refuse unknown keys.
pub(super) struct Table<T> {
    /// The table's own keys.
    pub own: T,
    pub settings: Settings,
}

/// A table's own keys.
pub(super) trait Own: Default {
    /// Their names.
    const KEYS: &'static [&'static str];

    /// The other keys with the kind of their values.
    fn settings() -> &'static [(&'static str, SettingKind)];

    /// The names of all keys.
    fn known() -> &'static [&'static str];

    /// Reads the value of one of them.
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error>;

    /// The first key that must be there and is not.
    fn missing(&self) -> Option<&'static str>;

    /// Writes them; the settings follow.
    fn write<S: SerializeMap>(&self, map: &mut S) -> Result<(), S::Error>;
}

impl<T: Own> Serialize for Table<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.own.write(&mut map)?;
        for (key, value) in self.settings.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de, T: Own> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(std::marker::PhantomData<T>);

        impl<'de, T: Own> serde::de::Visitor<'de> for Visitor<T> {
            type Value = Table<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a section of keys and values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut own, mut settings) = (T::default(), Settings::new());
                while let Some(key) = map.next_key_seed(KeySeed::<T>(std::marker::PhantomData))? {
                    match key {
                        (key, None) => own.read(key, &mut map)?,
                        (key, Some(kind)) => settings = settings.with(key, map.next_value_seed(kind)?),
                    }
                }
                match own.missing() {
                    Some(key) => Err(serde::de::Error::missing_field(key)),
                    None => Ok(Table { own, settings }),
                }
            }
        }

        deserializer.deserialize_map(Visitor(std::marker::PhantomData))
    }
}

/// Reads a key: one of the table's own, or a hyper-parameter with the kind of its values. An error is then at the key.
struct KeySeed<T>(std::marker::PhantomData<T>);

impl<'de, T: Own> DeserializeSeed<'de> for KeySeed<T> {
    type Value = (&'static str, Option<SettingKind>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let name = String::deserialize(deserializer)?;
        if let Some(key) = T::KEYS.iter().find(|key| **key == name) {
            return Ok((key, None));
        }
        match T::settings().iter().find(|(key, _)| *key == name) {
            Some((key, kind)) => Ok((key, Some(*kind))),
            None => Err(serde::de::Error::unknown_field(&name, T::known())),
        }
    }
}

/// A table's own keys with those of its settings.
pub(super) fn names(own: &[&'static str], settings: &[(&'static str, SettingKind)]) -> Vec<&'static str> {
    own.iter().copied().chain(settings.iter().map(|(key, _)| *key)).collect()
}

/// Reads a value of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SettingKind {
    Number,
    Pair,
    Length,
    Lengths,
    Flag,
}

impl<'de> DeserializeSeed<'de> for SettingKind {
    type Value = Setting;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Setting, D::Error> {
        match self {
            Self::Number => f64::deserialize(deserializer).map(Setting::Number),
            Self::Pair => <[f64; 2]>::deserialize(deserializer).map(Setting::Pair),
            Self::Length => u64::deserialize(deserializer).map(Setting::Length),
            Self::Lengths => Vec::deserialize(deserializer).map(Setting::Lengths),
            Self::Flag => bool::deserialize(deserializer).map(Setting::Flag),
        }
    }
}
