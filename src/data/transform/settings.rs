//! The transforms as they are written in a recipe.

use std::fmt;

use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Serialize, Serializer};

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
