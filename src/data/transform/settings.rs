//! The transforms as they are written in a recipe.

use std::fmt;

use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

/// `normalize = { mean = [...], std = [...] }`: each channel becomes `(value - mean) / std`,
/// where values run from 0 to 1. One number stands for all channels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalize {
    /// What is taken away, for each channel.
    pub mean: Vec<f32>,
    /// What is divided by, for each channel.
    pub std: Vec<f32>,
}

/// A size in pixels: `71`, `[64, 96]` (height, width) or `{ height = 64, width = 96 }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// One number. For `resize` it is the length of the shorter edge, and the other one keeps the
    /// proportions, as in torchvision; for crops it is the side of a square.
    Edge(usize),
    /// Height and width.
    Exact {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
}

impl Extent {
    /// Height and width where one number means a square.
    pub fn square(self) -> (usize, usize) {
        match self {
            Self::Edge(side) => (side, side),
            Self::Exact { height, width } => (height, width),
        }
    }

    /// Height and width where one number is the shorter edge of a picture of `height` x `width`
    /// pixels. The longer one is rounded down, as by torchvision.
    pub fn shorter_edge(self, height: usize, width: usize) -> (usize, usize) {
        match self {
            Self::Exact { height, width } => (height, width),
            Self::Edge(edge) if height == 0 || width == 0 => (edge, edge),
            Self::Edge(edge) if width <= height => (edge * height / width, edge),
            Self::Edge(edge) => (edge, edge * width / height),
        }
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Edge(edge) => write!(f, "{edge}"),
            Self::Exact { height, width } => write!(f, "[{height}, {width}]"),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeightWidth {
    height: usize,
    width: usize,
}

impl Serialize for Extent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Edge(edge) => edge.serialize(serializer),
            Self::Exact { height, width } => [height, width].serialize(serializer),
        }
    }
}

// By hand: the messages of an untagged enum name neither the value nor what is accepted.
impl<'de> Deserialize<'de> for Extent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sizes;

        impl<'de> Visitor<'de> for Sizes {
            type Value = Extent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size as 32, [32, 48] or { height = 32, width = 48 }")
            }

            fn visit_u64<E: de::Error>(self, edge: u64) -> Result<Extent, E> {
                usize::try_from(edge)
                    .map(Extent::Edge)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(edge), &self))
            }

            fn visit_i64<E: de::Error>(self, edge: i64) -> Result<Extent, E> {
                usize::try_from(edge)
                    .map(Extent::Edge)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(edge), &self))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sizes: A) -> Result<Extent, A::Error> {
                match (sizes.next_element()?, sizes.next_element()?, sizes.next_element::<usize>()?) {
                    (Some(height), Some(width), None) => Ok(Extent::Exact { height, width }),
                    _ => Err(de::Error::invalid_type(de::Unexpected::Seq, &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Extent, A::Error> {
                let HeightWidth { height, width } = HeightWidth::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Extent::Exact { height, width })
            }
        }

        deserializer.deserialize_any(Sizes)
    }
}

/// A random change of a training picture, as in
/// `augment = [{ random_crop = { size = 32, padding = 4 } }, "random_horizontal_flip"]`.
#[derive(Debug, Clone, PartialEq)]
pub enum Augment {
    /// A part of the picture at a random place.
    RandomCrop(RandomCrop),
    /// Left and right change places with a probability.
    RandomHorizontalFlip(RandomHorizontalFlip),
}

/// The settings of `random_crop`, torchvision's `RandomCrop(size, padding)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomCrop {
    /// The size of the part in pixels.
    pub size: Extent,
    /// Black pixels added at each of the four sides first.
    #[serde(default)]
    pub padding: usize,
}

/// The settings of `random_horizontal_flip`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomHorizontalFlip {
    /// The probability, 0.5 when not given.
    #[serde(default = "half")]
    pub p: f64,
}

fn half() -> f64 {
    0.5
}

impl Augment {
    const NAMES: [&str; 2] = ["random_crop", "random_horizontal_flip"];
}

impl Serialize for Augment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match self {
            Self::RandomCrop(crop) => map.serialize_entry(Self::NAMES[0], crop)?,
            Self::RandomHorizontalFlip(flip) => map.serialize_entry(Self::NAMES[1], flip)?,
        }
        map.end()
    }
}

// By hand: the derived form takes either "name" or { name = {} } for one transform, not both.
impl<'de> Deserialize<'de> for Augment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Named;

        impl<'de> Visitor<'de> for Named {
            type Value = Augment;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "\"random_horizontal_flip\", { random_horizontal_flip = { p = 0.5 } } or \
                     { random_crop = { size = 32, padding = 4 } }",
                )
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Augment, E> {
                match name {
                    "random_horizontal_flip" => Ok(Augment::RandomHorizontalFlip(RandomHorizontalFlip { p: half() })),
                    "random_crop" => {
                        Err(E::custom("random_crop needs a size: { random_crop = { size = 32, padding = 4 } }"))
                    }
                    _ => Err(E::unknown_variant(name, &Augment::NAMES)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Augment, A::Error> {
                let augment = match map.next_key::<String>()?.as_deref() {
                    Some("random_crop") => Augment::RandomCrop(map.next_value()?),
                    Some("random_horizontal_flip") => Augment::RandomHorizontalFlip(map.next_value()?),
                    Some(name) => return Err(de::Error::unknown_variant(name, &Augment::NAMES)),
                    None => return Err(de::Error::invalid_length(0, &self)),
                };
                match map.next_key::<String>()? {
                    None => Ok(augment),
                    Some(name) => {
                        Err(de::Error::custom(format!("{name:?} must be an entry of its own: [{{ ... }}, {{ ... }}]")))
                    }
                }
            }
        }

        deserializer.deserialize_any(Named)
    }
}
