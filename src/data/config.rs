//! The `[data]` section of a recipe, and the data sets that it names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::cache::cache_dir;
use super::catalog::{FASHION_CLASSES, MNIST_CLASSES};
use super::embedded::{SAMPLE, sample};
use super::transform::{Augment, Extent, Filter, Normalize, Transforms};
use super::{DataError, FolderDataset, ImageDataset, Loader, LoaderConfig, Split, SuperResolution, cifar, idx};

/// The kind of data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DatasetName {
    /// Handwritten digits, in idx files.
    #[serde(rename = "mnist")]
    Mnist,
    /// Articles of clothing, in idx files.
    #[serde(rename = "fashion-mnist")]
    FashionMnist,
    /// The part of Fashion-MNIST that is in the program.
    #[serde(rename = "fashion-mnist-sample")]
    FashionMnistSample,
    /// Animals and vehicles, in binary files.
    #[serde(rename = "cifar-10")]
    Cifar10,
    /// PNG and JPEG files, a folder for each class.
    #[serde(rename = "folder")]
    Folder,
    /// Pairs of a small and a large picture, made from another set.
    #[serde(rename = "super-resolution")]
    SuperResolution,
}

impl DatasetName {
    /// The name in recipes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion-mnist",
            Self::FashionMnistSample => SAMPLE,
            Self::Cifar10 => "cifar-10",
            Self::Folder => "folder",
            Self::SuperResolution => "super-resolution",
        }
    }
}

/// How many pictures of each split are used; all when not given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Of the train split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<usize>,
    /// Of the test split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<usize>,
}

/// The `[data]` section of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Which data set.
    pub name: DatasetName,
    /// The folder or file that holds it, absolute or relative to the recipe's folder. Without it,
    /// the folder that `rekindle datasets fetch` fills. A `dir` that ends in
    /// `fashion-mnist-sample` and is not there means the sample in the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Pictures in a batch.
    #[serde(default = "default_batch_size")]
    pub batch_size: usize,
    /// Threads that read ahead; the batches are the same for any number.
    #[serde(default = "default_workers")]
    pub workers: usize,
    /// Whether training pictures come in a new order in each epoch.
    #[serde(default = "yes")]
    pub shuffle: bool,
    /// Leave out a last training batch that is smaller than the others.
    #[serde(default)]
    pub drop_last: bool,
    /// Turn colours into luma.
    #[serde(default)]
    pub grayscale: bool,
    /// Number of channels, 1 or 3: 3 repeats a grey picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// Scale the pictures: the shorter edge, or `[height, width]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<Extent>,
    /// How new pixels are computed from old ones when pictures are scaled: bilinear or bicubic, both widened against aliasing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub interpolation: Filter,
    /// Cut this size out of the centre, after scaling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub center_crop: Option<Extent>,
    /// Random changes of training pictures, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub augment: Vec<Augment>,
    /// Mean and standard deviation of each channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalize: Option<Normalize>,
    /// Super-resolution: the set that the pictures come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<DatasetName>,
    /// Super-resolution: how many times larger the target is; 3 when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upscale_factor: Option<usize>,
    /// Super-resolution: the side of the target in pixels, lowered to a multiple of the factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<usize>,
    /// Use only a part of each split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
}

fn is_default(filter: &Filter) -> bool {
    *filter == Filter::default()
}

fn default_batch_size() -> usize {
    64
}

fn default_workers() -> usize {
    2
}

fn yes() -> bool {
    true
}

impl From<DatasetName> for DataConfig {
    fn from(name: DatasetName) -> Self {
        Self::new(name)
    }
}

impl DataConfig {
    /// The settings of a data set when nothing else is said.
    pub fn new(name: DatasetName) -> Self {
        Self {
            name,
            dir: None,
            batch_size: default_batch_size(),
            workers: default_workers(),
            shuffle: yes(),
            drop_last: false,
            grayscale: false,
            channels: None,
            resize: None,
            interpolation: Filter::default(),
            center_crop: None,
            augment: Vec::new(),
            normalize: None,
            source: None,
            upscale_factor: None,
            crop: None,
            limit: None,
        }
    }

    /// The transforms of a split: augmentation is for training only.
    pub fn transforms(&self, split: Split) -> Transforms {
        Transforms {
            grayscale: self.grayscale,
            channels: self.channels,
            resize: self.resize,
            interpolation: self.interpolation,
            center_crop: self.center_crop,
            augment: match split {
                Split::Train => self.augment.clone(),
                Split::Test => Vec::new(),
            },
            normalize: self.normalize.clone(),
        }
    }

    /// The loader of a split. The test split is neither shuffled nor shortened. `base_dir` is the
    /// recipe's folder.
    pub fn loader(&self, base_dir: &Path, split: Split, seed: u64, device: &Device) -> Result<Loader, DataError> {
        let training = split == Split::Train;
        let config = LoaderConfig {
            batch_size: self.batch_size,
            seed,
            shuffle: training && self.shuffle,
            workers: self.workers,
            drop_last: training && self.drop_last,
        };
        let dataset = open(self, base_dir, split)?;
        Loader::new(dataset, &self.transforms(split), config, device)
    }

    /// Settings that only super-resolution has are refused elsewhere, not ignored.
    fn check(&self) -> Result<(), DataError> {
        if self.name == DatasetName::SuperResolution {
            return Ok(());
        }
        let given = [
            ("source", self.source.is_some()),
            ("upscale_factor", self.upscale_factor.is_some()),
            ("crop", self.crop.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((key, _)) => Err(DataError::setting(
                *key,
                format!("nothing for data.name = {:?}", self.name.as_str()),
                "a setting of super-resolution",
                "remove it, or set data.name = \"super-resolution\"",
            )),
        }
    }

    fn limit(&self, split: Split) -> Result<Option<usize>, DataError> {
        let limit = self.limit.unwrap_or_default();
        let limit = match split {
            Split::Train => limit.train,
            Split::Test => limit.test,
        };
        if limit == Some(0) {
            return Err(DataError::setting(
                format!("limit.{split}"),
                "at least 1 picture",
                "0",
                "leave it out to use all",
            ));
        }
        Ok(limit)
    }

    /// Where the files of the set `name` are; `None` for the sample in the program, never for
    /// another set.
    fn place(&self, name: DatasetName, base_dir: &Path) -> Result<Option<PathBuf>, DataError> {
        let Some(dir) = &self.dir else {
            return match name {
                DatasetName::FashionMnistSample => Ok(None),
                DatasetName::Folder | DatasetName::SuperResolution => {
                    Err(DataError::setting("dir", "the folder of the pictures", "nothing", "set data.dir"))
                }
                _ => {
                    let dir = cache_dir(name.as_str())?;
                    if dir.is_dir() {
                        return Ok(Some(dir));
                    }
                    Err(DataError::missing(
                        &dir,
                        format!("the data set {} is not there", name.as_str()),
                        format!(
                            "run `rekindle datasets fetch {}`, or set data.dir to the folder that has it",
                            name.as_str()
                        ),
                    ))
                }
            };
        };
        let path = base_dir.join(dir);
        if path.exists() {
            return Ok(Some(path));
        }
        let grey_clothes = matches!(name, DatasetName::FashionMnist | DatasetName::FashionMnistSample);
        if grey_clothes && dir.file_name().is_some_and(|last| last == SAMPLE) {
            return Ok(None);
        }
        let hint = match name {
            DatasetName::Mnist | DatasetName::FashionMnist | DatasetName::Cifar10 => {
                format!("run `rekindle datasets fetch {}` and leave out data.dir, or correct data.dir", name.as_str())
            }
            _ => "correct data.dir".to_owned(),
        };
        Err(DataError::missing(&path, "there is no such file or folder", hint))
    }

    /// Opens the set `name` at this section's place, with classes or (`unlabelled`) without.
    fn open_plain(
        &self,
        name: DatasetName,
        base_dir: &Path,
        split: Split,
        unlabelled: bool,
    ) -> Result<Arc<dyn ImageDataset>, DataError> {
        let limit = self.limit(split)?.unwrap_or(usize::MAX);
        let place = self.place(name, base_dir)?;
        let mut set = match (name, &place) {
            (DatasetName::Folder, Some(dir)) => {
                let mut folder = if unlabelled {
                    FolderDataset::open_unlabelled(dir, split)?
                } else {
                    FolderDataset::open(dir, split)?
                };
                folder.truncate(limit);
                return Ok(Arc::new(folder));
            }
            (DatasetName::Mnist, Some(dir)) => idx::open(dir, name.as_str(), &MNIST_CLASSES, split)?,
            (DatasetName::FashionMnist | DatasetName::FashionMnistSample, Some(dir)) => {
                idx::open(dir, DatasetName::FashionMnist.as_str(), &FASHION_CLASSES, split)?
            }
            (DatasetName::Cifar10, Some(path)) => cifar::open(path, split)?,
            // Pairs are made of plain pictures.
            (DatasetName::SuperResolution, Some(_)) => return Err(source_needed(name.as_str())),
            (_, None) => sample(split)?,
        };
        set.truncate(limit);
        Ok(Arc::new(set))
    }
}

/// Opens one split of the data set that a recipe names. `base_dir` is the recipe's folder.
pub fn open(config: &DataConfig, base_dir: &Path, split: Split) -> Result<Arc<dyn ImageDataset>, DataError> {
    config.check()?;
    if config.name != DatasetName::SuperResolution {
        return config.open_plain(config.name, base_dir, split, false);
    }
    let source = config.source.ok_or_else(|| source_needed("nothing"))?;
    let source = config.open_plain(source, base_dir, split, true)?;
    let factor = config.upscale_factor.unwrap_or(3);
    Ok(Arc::new(SuperResolution::new(source, factor, config.crop)?))
}

fn source_needed(found: &str) -> DataError {
    DataError::setting(
        "source",
        "the set that the pictures come from, such as \"cifar-10\" or \"folder\"",
        found,
        "set data.source",
    )
}

/// A hint that names the known name nearest to `name`.
pub(crate) fn nearest(name: &str, known: &[&str]) -> String {
    match rekindle_state::nearest(name, known.iter().copied()) {
        Some(known) => format!("did you mean {known:?}?"),
        None => "run `rekindle datasets` for a list".to_string(),
    }
}
