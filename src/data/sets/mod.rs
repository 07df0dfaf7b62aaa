//! The data sets that a recipe can name: each a file here and a row of [`SETS`].

mod cifar_10;
mod fashion_mnist;
mod folder;
mod mnist;
mod segmentation_folder;
mod super_resolution;

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::cache::cache_dir;
use super::catalog::Published;
use super::{DataConfig, DataError, ImageDataset, SAMPLE, Split};

/// Every data set, in the order of messages.
pub static SETS: &[&dyn DataSet] = &[
    &mnist::Mnist,
    &fashion_mnist::FashionMnist,
    &fashion_mnist::Sample,
    &cifar_10::Cifar10,
    &folder::Folder,
    &segmentation_folder::Masked,
    &super_resolution::Pairs,
];

/// The names of all data sets, in the same order.
static NAMES: LazyLock<Vec<&'static str>> = LazyLock::new(|| SETS.iter().map(|set| set.name()).collect());

/// A kind of data set.
pub trait DataSet: Debug + Send + Sync {
    /// The name in recipes.
    fn name(&self) -> &'static str;

    /// The files that are published, if they are.
    fn published(&self) -> Option<&'static Published> {
        None
    }

    /// The names of the classes in the order of their numbers, where every copy of the set has the same.
    fn classes(&self) -> &'static [&'static str] {
        &[]
    }

    /// Height and width of the images, where every copy of the set has the same.
    fn size(&self) -> Option<(usize, usize)> {
        None
    }

    /// Whether the sample in the program stands for the set where `data.dir` is this.
    fn is_in_program(&self, dir: Option<&Path>) -> bool {
        let _ = dir;
        false
    }

    /// Whether a folder with these files, or a file of this name, holds the set.
    fn recognizes(&self, contents: &Contents) -> bool {
        let _ = contents;
        false
    }

    /// Keys of the section that this set alone has.
    fn keys(&self) -> &'static [&'static str] {
        &[]
    }

    /// Opens a split.
    ///
    /// # Errors
    /// When files are missing or damaged.
    fn open(&self, request: &Request<'_>) -> Result<Arc<dyn ImageDataset>, DataError>;
}

/// What a folder or file is called, and what is in it.
#[derive(Debug)]
pub struct Contents {
    /// Its own name, in small letters.
    pub name: String,
    /// The names of the files in a folder, and its own.
    pub files: Vec<String>,
}

impl Contents {
    /// Looks at a place; what cannot be read holds nothing.
    pub fn of(place: &Path) -> Self {
        let name = place.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
        let files = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        Self { files: files.chain([name.clone()]).collect(), name }
    }
}

/// What is asked of a data set.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The section of the recipe.
    pub config: &'a DataConfig,
    /// The recipe's folder.
    pub base_dir: &'a Path,
    /// Which split.
    pub split: Split,
    /// Whether targets are classes; otherwise images alone count.
    pub labelled: bool,
}

impl Request<'_> {
    /// The number of images that are wanted at most.
    pub(super) fn limit(&self) -> Result<usize, DataError> {
        Ok(self.config.limit(self.split)?.unwrap_or(usize::MAX))
    }

    /// Where the files of a set are; `None` for the sample in the program.
    pub(super) fn place(&self, set: &dyn DataSet) -> Result<Option<PathBuf>, DataError> {
        let name = set.name();
        let dir = self.config.dir.as_deref();
        let path = match (dir, set.published()) {
            (Some(dir), _) => self.base_dir.join(dir),
            (None, _) if set.is_in_program(None) => return Ok(None),
            (None, Some(_)) => cache_dir(name)?,
            (None, None) => {
                return Err(DataError::setting("dir", "the folder of the pictures", "nothing", "set data.dir"));
            }
        };
        if path.exists() {
            return Ok(Some(path));
        }
        match (dir, set.published()) {
            (None, _) => Err(DataError::missing(
                &path,
                format!("the data set {name} is not there"),
                format!("run `rekindle datasets fetch {name}`, or set data.dir to the folder that has it"),
            )),
            (Some(_), _) if set.is_in_program(dir) => Ok(None),
            (Some(_), published) => {
                let hint = match published {
                    Some(_) => {
                        format!("run `rekindle datasets fetch {name}` and leave out data.dir, or correct data.dir")
                    }
                    None => "correct data.dir".to_string(),
                };
                Err(DataError::missing(&path, "there is no such file or folder", hint))
            }
        }
    }
}

/// Whether a path names the folder of the sample, which is in the program too.
fn names_sample(dir: &Path) -> bool {
    dir.file_name().is_some_and(|last| last == SAMPLE)
}

/// A data set of a recipe, by its name.
#[derive(Debug, Clone, Copy)]
pub struct DatasetName(&'static dyn DataSet);

impl DatasetName {
    /// Handwritten digits, in idx files.
    pub const MNIST: Self = Self(&mnist::Mnist);
    /// Articles of clothing, in idx files.
    pub const FASHION_MNIST: Self = Self(&fashion_mnist::FashionMnist);
    /// The part of Fashion-MNIST that is in the program.
    pub const FASHION_MNIST_SAMPLE: Self = Self(&fashion_mnist::Sample);
    /// Animals and vehicles, in binary files.
    pub const CIFAR_10: Self = Self(&cifar_10::Cifar10);
    /// Image files, a folder for each class.
    pub const FOLDER: Self = Self(&folder::Folder);
    /// Images with a mask each.
    pub const SEGMENTATION_FOLDER: Self = Self(&segmentation_folder::Masked);
    /// Pairs of a small and a large picture, made from another set.
    pub const SUPER_RESOLUTION: Self = Self(&super_resolution::Pairs);

    /// The data set of a name.
    pub fn find(name: &str) -> Option<Self> {
        SETS.iter().find(|set| set.name() == name).map(|set| Self(*set))
    }

    /// The data set that a folder or file holds, by the names of its files; a folder of images where nothing else is known.
    pub fn of(place: &Path) -> Self {
        let contents = Contents::of(place);
        SETS.iter().find(|set| set.recognizes(&contents)).map_or(Self::FOLDER, |set| Self(*set))
    }

    /// The name in recipes.
    pub fn as_str(self) -> &'static str {
        self.0.name()
    }

    /// What is known of it.
    pub fn set(self) -> &'static dyn DataSet {
        self.0
    }
}

impl PartialEq for DatasetName {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for DatasetName {}

impl Serialize for DatasetName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for DatasetName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::find(&name).ok_or_else(|| serde::de::Error::unknown_variant(&name, NAMES.as_slice()))
    }
}
