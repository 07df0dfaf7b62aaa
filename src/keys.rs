//! Keys and values that somebody wrote, read into a type. What is wrong with them is a [`Mistake`], with parts instead of a sentence:
//! where it is, which key, what was expected, what was found.

use std::fmt::{self, Display};

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};

/// A value as it was written, in TOML or JSON.
#[derive(Debug, Clone, Default)]
enum Written {
    #[default]
    Nothing,
    Flag(bool),
    Whole(i64),
    Large(u64),
    Number(f64),
    Text(String),
    List(Vec<Written>),
    Section(Vec<(String, Written)>),
}

/// Reads a type from TOML.
///
/// # Errors
/// With the first mistake.
pub(crate) fn read_toml<T: DeserializeOwned>(table: &toml::Table) -> Result<T, Mistake> {
    T::deserialize(toml_section(table))
}

/// Reads a type from JSON.
///
/// # Errors
/// With the first mistake.
pub(crate) fn read_json<T: DeserializeOwned>(keys: &serde_json::Map<String, serde_json::Value>) -> Result<T, Mistake> {
    T::deserialize(json_section(keys))
}

fn toml_section(table: &toml::Table) -> Written {
    Written::Section(table.iter().map(|(key, value)| (key.clone(), toml_value(value))).collect())
}

fn toml_value(value: &toml::Value) -> Written {
    match value {
        toml::Value::Boolean(value) => Written::Flag(*value),
        toml::Value::Integer(value) => Written::Whole(*value),
        toml::Value::Float(value) => Written::Number(*value),
        toml::Value::String(value) => Written::Text(value.clone()),
        toml::Value::Datetime(value) => Written::Text(value.to_string()),
        toml::Value::Array(list) => Written::List(list.iter().map(toml_value).collect()),
        toml::Value::Table(table) => toml_section(table),
    }
}

fn json_section(keys: &serde_json::Map<String, serde_json::Value>) -> Written {
    Written::Section(keys.iter().map(|(key, value)| (key.clone(), json_value(value))).collect())
}

fn json_value(value: &serde_json::Value) -> Written {
    match value {
        serde_json::Value::Null => Written::Nothing,
        serde_json::Value::Bool(value) => Written::Flag(*value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Written::Whole(whole),
            (None, Some(large)) => Written::Large(large),
            (None, None) => number.as_f64().map_or(Written::Nothing, Written::Number),
        },
        serde_json::Value::String(value) => Written::Text(value.clone()),
        serde_json::Value::Array(list) => Written::List(list.iter().map(json_value).collect()),
        serde_json::Value::Object(keys) => json_section(keys),
    }
}

/// What is wrong, and where: the keys from the outermost section to the value, numbers for places in lists.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mistake {
    pub path: Vec<String>,
    pub kind: MistakeKind,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum MistakeKind {
    /// The section has no such key.
    UnknownKey { key: String, known: &'static [&'static str] },
    /// The value is none of those that there are.
    UnknownValue { value: String, known: &'static [&'static str] },
    /// The section lacks a key.
    Missing(String),
    /// A value is of another type, or outside of its limits.
    Wrong { expected: String, found: String },
    /// What the type itself says.
    Said(String),
}

impl Mistake {
    fn new(kind: MistakeKind) -> Self {
        Self { path: Vec::new(), kind }
    }

    /// The same, seen from the section that holds it under a key.
    fn below(mut self, key: impl Into<String>) -> Self {
        self.path.insert(0, key.into());
        self
    }

    /// Where it is in the text: for an unknown key the key, else the value.
    pub fn place(&self) -> Vec<&str> {
        let key = match &self.kind {
            MistakeKind::UnknownKey { key, .. } => Some(key.as_str()),
            _ => None,
        };
        self.path.iter().map(String::as_str).chain(key).collect()
    }

    /// The key that the sentence needs in front of it, without places in lists.
    pub fn key(&self) -> Option<String> {
        let named =
            !matches!(self.kind, MistakeKind::UnknownKey { .. } | MistakeKind::Said(_)) && !self.path.is_empty();
        let is_key = |part: &&String| part.parse::<usize>().is_err();
        named.then(|| self.path.iter().filter(is_key).cloned().collect::<Vec<_>>().join("."))
    }
}

impl Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            MistakeKind::UnknownKey { key, known } => {
                write!(f, "unknown key '{key}'{}", crate::error::nearest_or_list(key, known))
            }
            MistakeKind::UnknownValue { value, known } => {
                write!(f, "unknown value '{value}', expected one of {}", known.join(", "))
            }
            MistakeKind::Missing(key) => write!(f, "the key '{key}' is missing"),
            MistakeKind::Wrong { expected, found } => write!(f, "expected {expected}, found {found}"),
            MistakeKind::Said(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Mistake {}

impl Error for Mistake {
    fn custom<T: Display>(text: T) -> Self {
        Self::new(MistakeKind::Said(text.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(MistakeKind::Wrong { expected: expected.to_string(), found: in_words(found) })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::new(MistakeKind::Wrong { expected: expected.to_string(), found: format!("a list of {length}") })
    }

    fn unknown_variant(value: &str, known: &'static [&'static str]) -> Self {
        Self::new(MistakeKind::UnknownValue { value: value.to_string(), known })
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::new(MistakeKind::UnknownKey { key: key.to_string(), known })
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(MistakeKind::Missing(key.to_string()))
    }
}

fn in_words(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(value) => value.to_string(),
        Unexpected::Signed(value) => value.to_string(),
        Unexpected::Float(value) => format!("{value:?}"),
        Unexpected::Str(text) => format!("the text {text:?}"),
        Unexpected::Seq => "a list".to_string(),
        Unexpected::Map => "a section".to_string(),
        Unexpected::Unit | Unexpected::Option => "nothing".to_string(),
        other => other.to_string(),
    }
}

/// Names what a type asked for in words, where its own are those of Rust.
macro_rules! asks_for {
    ($($method:ident $expected:literal,)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
            self.deserialize_any(visitor).map_err(|mistake| asked_for(mistake, $expected))
        })*
    };
}

fn asked_for(mut mistake: Mistake, words: &str) -> Mistake {
    if let (true, MistakeKind::Wrong { expected, .. }) = (mistake.path.is_empty(), &mut mistake.kind) {
        *expected = words.to_string();
    }
    mistake
}

impl<'de> Deserializer<'de> for Written {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self {
            Self::Nothing => visitor.visit_unit(),
            Self::Flag(value) => visitor.visit_bool(value),
            Self::Whole(value) => visitor.visit_i64(value),
            Self::Large(value) => visitor.visit_u64(value),
            Self::Number(value) => visitor.visit_f64(value),
            Self::Text(value) => visitor.visit_string(value),
            Self::List(list) => visitor.visit_seq(Items { left: list.into_iter(), place: 0 }),
            Self::Section(keys) => visitor.visit_map(Entries { left: keys.into_iter(), value: None }),
        }
    }

    asks_for! {
        deserialize_bool "true or false",
        deserialize_i8 "a whole number",
        deserialize_i16 "a whole number",
        deserialize_i32 "a whole number",
        deserialize_i64 "a whole number",
        deserialize_u8 "a whole number, 0 or more",
        deserialize_u16 "a whole number, 0 or more",
        deserialize_u32 "a whole number, 0 or more",
        deserialize_u64 "a whole number, 0 or more",
        deserialize_f32 "a number",
        deserialize_f64 "a number",
        deserialize_str "text in quotes",
        deserialize_string "text in quotes",
        deserialize_seq "a list in [ ]",
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.deserialize_any(visitor).map_err(|mistake| asked_for(mistake, "a section of keys and values"))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self {
            Self::Nothing => visitor.visit_none(),
            other => visitor.visit_some(other),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        match self {
            Self::Text(name) => visitor.visit_enum(Variant { name, value: None }),
            Self::Section(keys) if keys.len() == 1 => {
                let (name, value) = keys.into_iter().next().unwrap_or_default();
                visitor.visit_enum(Variant { name, value: Some(value) })
            }
            other => other.deserialize_any(visitor).map_err(|mistake| asked_for(mistake, "text in quotes")),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_any(visitor).map_err(|mistake| asked_for(mistake, &format!("a list of {length}")))
    }

    // What a type of its own asks for is in its own words.
    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple_struct map identifier ignored_any
    }
}

struct Items {
    left: std::vec::IntoIter<Written>,
    place: usize,
}

impl<'de> SeqAccess<'de> for Items {
    type Error = Mistake;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mistake> {
        let Some(value) = self.left.next() else { return Ok(None) };
        let place = self.place;
        self.place += 1;
        seed.deserialize(value).map(Some).map_err(|mistake| mistake.below(place.to_string()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.len())
    }
}

struct Entries {
    left: std::vec::IntoIter<(String, Written)>,
    /// The value of the key that was read last.
    value: Option<(String, Written)>,
}

impl<'de> MapAccess<'de> for Entries {
    type Error = Mistake;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mistake> {
        let Some((key, value)) = self.left.next() else { return Ok(None) };
        self.value = Some((key.clone(), value));
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mistake> {
        let (key, value) = self.value.take().unwrap_or_default();
        seed.deserialize(value).map_err(|mistake| mistake.below(key))
    }
}

struct Variant {
    name: String,
    value: Option<Written>,
}

impl<'de> EnumAccess<'de> for Variant {
    type Error = Mistake;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Mistake> {
        Ok((seed.deserialize(self.name.as_str().into_deserializer())?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant {
    type Error = Mistake;

    fn unit_variant(self) -> Result<(), Mistake> {
        match self.value {
            None => Ok(()),
            Some(_) => Err(Mistake::custom(format!("'{}' takes no settings", self.name))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Mistake> {
        let name = self.name;
        seed.deserialize(self.value.unwrap_or_default()).map_err(|mistake| mistake.below(name))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Mistake> {
        self.value.unwrap_or_default().deserialize_any(visitor).map_err(|mistake| mistake.below(self.name))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Mistake> {
        self.value.unwrap_or_default().deserialize_any(visitor).map_err(|mistake| mistake.below(self.name))
    }
}
