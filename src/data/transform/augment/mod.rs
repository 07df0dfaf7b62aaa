//! Random changes of training images: one file that implements [`Augmentation`] for each, and one row of the table here.

mod random_crop;
mod random_horizontal_flip;
mod random_resized_crop;
mod random_vertical_flip;

use std::fmt;

pub use random_crop::RandomCrop;
pub use random_horizontal_flip::RandomHorizontalFlip;
pub use random_resized_crop::RandomResizedCrop;
pub use random_vertical_flip::RandomVerticalFlip;
use serde::de::{self, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use super::super::{DataError, Image, Target};
use crate::random::Draws;

/// A random change of a training image, with its settings.
pub(crate) trait Augmentation: fmt::Debug + Clone + PartialEq + Serialize + DeserializeOwned {
    /// The name in a recipe: torchvision's class, in small letters.
    const NAME: &'static str;

    /// The settings that the name alone stands for; what is missing otherwise.
    ///
    /// # Errors
    /// When some setting has no default.
    fn plain() -> Result<Self, &'static str>;

    /// Checks the settings. With `pairs`, targets are images that must stay aligned with the inputs.
    ///
    /// # Errors
    /// With the setting that is wrong.
    fn check(&self, pairs: bool) -> Result<(), DataError>;

    /// Height and width of its output.
    fn output(&self, size: (usize, usize)) -> (usize, usize) {
        size
    }

    /// Changes an image, and its target where that is an image. The draws and their order are part of what makes runs repeatable.
    ///
    /// # Errors
    /// When the image does not fit the settings; `origin` is where it came from.
    fn apply(&self, image: &mut Image, target: &mut Target, draws: &mut Draws, origin: &str) -> Result<(), DataError>;
}

/// Declares [`Augment`] with a variant for each kind, and hands everything that is asked of it to that.
macro_rules! augmentations {
    ($($kind:ident,)*) => {
        /// A random change of a training image, as in
        /// `augment = [{ random_crop = { size = 32, padding = 4 } }, "random_horizontal_flip"]`.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Augment {
            $(
                #[doc = concat!("[`", stringify!($kind), "`].")]
                $kind($kind),
            )*
        }

        impl Augment {
            /// The names that a recipe may use.
            pub const NAMES: &'static [&'static str] = &[$(<$kind>::NAME,)*];

            pub(super) fn check(&self, pairs: bool) -> Result<(), DataError> {
                match self { $(Self::$kind(augment) => augment.check(pairs),)* }
            }

            pub(super) fn output(&self, size: (usize, usize)) -> (usize, usize) {
                match self { $(Self::$kind(augment) => augment.output(size),)* }
            }

            pub(super) fn apply(
                &self,
                image: &mut Image,
                target: &mut Target,
                draws: &mut Draws,
                origin: &str,
            ) -> Result<(), DataError> {
                match self { $(Self::$kind(augment) => augment.apply(image, target, draws, origin),)* }
            }

            fn plain<E: de::Error>(name: &str) -> Result<Self, E> {
                $(if name == <$kind>::NAME { return <$kind>::plain().map(Self::$kind).map_err(E::custom); })*
                Err(E::unknown_variant(name, Self::NAMES))
            }

            fn with_settings<'de, A: MapAccess<'de>>(name: &str, map: &mut A) -> Result<Self, A::Error> {
                $(if name == <$kind>::NAME { return map.next_value().map(Self::$kind); })*
                Err(de::Error::unknown_variant(name, Self::NAMES))
            }
        }

        impl Serialize for Augment {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(Some(1))?;
                match self { $(Self::$kind(augment) => map.serialize_entry(<$kind>::NAME, augment)?,)* }
                map.end()
            }
        }
    };
}

augmentations! { RandomCrop, RandomHorizontalFlip, RandomVerticalFlip, RandomResizedCrop, }

// By hand: the derived form takes either "name" or { name = {} } for one augmentation, not both.
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
                Augment::plain(name)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Augment, A::Error> {
                let Some(name) = map.next_key::<String>()? else { return Err(de::Error::invalid_length(0, &self)) };
                let augment = Augment::with_settings(&name, &mut map)?;
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

/// Refuses what is no probability.
fn probability(key: &str, p: f64) -> Result<(), DataError> {
    if (0.0..=1.0).contains(&p) {
        return Ok(());
    }
    Err(DataError::setting(key, "a probability from 0 to 1", p.to_string(), "leave it out for 0.5"))
}

fn half() -> f64 {
    0.5
}
