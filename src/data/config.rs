//! The `[data]` section of a recipe.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::sets::{DatasetName, Request, SETS};
use super::transform::{Augment, Extent, Filter, Normalize, Transforms};
use super::{DataError, ImageDataset, Loader, LoaderConfig, Split};

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

    /// Keys that only another data set has are refused, not ignored.
    fn check(&self) -> Result<(), DataError> {
        let given = [
            ("source", self.source.is_some()),
            ("upscale_factor", self.upscale_factor.is_some()),
            ("crop", self.crop.is_some()),
        ];
        let own = self.name.set().keys();
        let Some((key, _)) = given.iter().find(|(key, given)| *given && !own.contains(key)) else { return Ok(()) };
        let owner = SETS.iter().find(|set| set.keys().contains(key)).map_or("another set", |set| set.name());
        Err(DataError::setting(
            *key,
            format!("nothing for data.name = {:?}", self.name.as_str()),
            format!("a setting of {owner}"),
            format!("remove it, or set data.name = {owner:?}"),
        ))
    }

    pub(super) fn limit(&self, split: Split) -> Result<Option<usize>, DataError> {
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
}

/// Opens one split of the data set that a recipe names. `base_dir` is the recipe's folder.
pub fn open(config: &DataConfig, base_dir: &Path, split: Split) -> Result<Arc<dyn ImageDataset>, DataError> {
    config.check()?;
    config.name.set().open(&Request { config, base_dir, split, labelled: true })
}

/// A hint that names the known name nearest to `name`.
pub(crate) fn nearest(name: &str, known: &[&str]) -> String {
    match rekindle_state::nearest(name, known.iter().copied()) {
        Some(known) => format!("did you mean {known:?}?"),
        None => "run `rekindle datasets` for a list".to_string(),
    }
}
