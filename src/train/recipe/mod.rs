//! A recipe: everything that determines a training, in one TOML file.
//!
//! Every key is documented at its field here, and in `models/README.md`.

mod check;
mod sections;
mod source;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::DataConfig;
use crate::keys::read_toml;
use crate::models::{Architecture, ModelError, Registry};
use crate::optim::{OptimizerConfig, SchedulerConfig};
use crate::tasks;

pub use crate::checkpoint::{CheckpointSection, Mode};
pub use sections::{EarlyStopping, InitSection, ModelSection, TrainSection};

use check::check;
use source::Source;

/// A recipe with every decision made.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Names the run directory too.
    pub name: String,
    /// The network: its name and the arguments of its constructor.
    pub model: ModelSection,
    /// The data set and what happens to its images.
    pub data: DataConfig,
    /// The optimizer, with the keys and defaults of `torch.optim`.
    pub optimizer: OptimizerConfig,
    /// How the learning rate changes; constant when absent.
    #[serde(default)]
    pub scheduler: SchedulerConfig,
    /// Epochs, seed, loss and the like.
    #[serde(default)]
    pub train: TrainSection,
    /// When checkpoints are written and which are kept.
    #[serde(default)]
    pub checkpoint: CheckpointSection,
}

/// Why a recipe cannot be used. Its text is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("{path}: cannot read the recipe: {reason}; `rekindle train NAME` takes a file or one of {known}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        reason: String,
        /// Names of the recipes in the program.
        known: String,
    },
    /// A key is unknown, of a wrong type, or missing.
    #[error("{place}: {problem}")]
    Key {
        /// The file and line, or the flag.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// A value is impossible.
    #[error("{place}: {key}: {problem}")]
    Value {
        /// The file.
        place: String,
        /// The key.
        key: String,
        /// What is wrong.
        problem: String,
    },
}

/// A recipe, where it came from, and where its relative paths start.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The recipe.
    pub recipe: Recipe,
    /// The folder that relative paths in it start from.
    pub base: PathBuf,
    /// The file's name for messages.
    pub place: String,
}

/// Recipes that are in the program, by name.
pub const EMBEDDED: &[(&str, &str)] = &[
    ("fashion_mnist_sample", include_str!("../../../models/fashion_mnist_sample.toml")),
    ("fashion_mnist", include_str!("../../../models/fashion_mnist.toml")),
    ("the_model_class", include_str!("../../../models/the_model_class.toml")),
    ("net", include_str!("../../../models/net.toml")),
    ("cifar_cnn", include_str!("../../../models/cifar_cnn.toml")),
    ("cifar_cnn_guide", include_str!("../../../models/cifar_cnn_guide.toml")),
    ("super_resolution", include_str!("../../../models/super_resolution.toml")),
];

/// Recipes of popular networks, in the program too, by name.
pub const ZOO: &[(&str, &str)] = &[
    ("resnet18", include_str!("../../../models/zoo/resnet18.toml")),
    ("mobilenet_v3_small", include_str!("../../../models/zoo/mobilenet_v3_small.toml")),
    ("efficientnet_b0", include_str!("../../../models/zoo/efficientnet_b0.toml")),
    ("convnext_atto", include_str!("../../../models/zoo/convnext_atto.toml")),
    ("vit_tiny", include_str!("../../../models/zoo/vit_tiny.toml")),
    ("swin_tiny", include_str!("../../../models/zoo/swin_tiny.toml")),
];

/// Reads a recipe from a file, or one of those in the program by name, and applies overrides (`train.epochs=3`).
///
/// # Errors
/// With the file, the line and the key.
pub fn load(registry: &Registry, source: &Path, overrides: &[String]) -> Result<Loaded, RecipeError> {
    let embedded = source.to_str().and_then(|name| EMBEDDED.iter().chain(ZOO).find(|(known, _)| *known == name));
    let (text, base, place) = match (source.exists() && source.is_file(), embedded) {
        (false, Some((name, text))) => ((*text).to_string(), PathBuf::from("models"), format!("recipe {name}")),
        _ => {
            let text = std::fs::read_to_string(source).map_err(|error| RecipeError::Read {
                path: source.to_path_buf(),
                reason: if error.kind() == std::io::ErrorKind::NotFound {
                    "no such file".into()
                } else {
                    error.to_string()
                },
                known: EMBEDDED.iter().chain(ZOO).map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
            })?;
            let base = source.parent().map(Path::to_path_buf).unwrap_or_default();
            (text, base, source.display().to_string())
        }
    };
    let recipe = parse_in(registry, &text, overrides, &place, &base)?;
    Ok(Loaded { recipe, base, place })
}

/// Reads a recipe's text.
///
/// # Errors
/// With the place, the line and the key.
pub fn parse(registry: &Registry, text: &str, overrides: &[String], place: &str) -> Result<Recipe, RecipeError> {
    parse_in(registry, text, overrides, place, Path::new(""))
}

/// Reads a recipe's text whose relative paths start from `base`. A model's file is looked into, so its path is anchored at once.
fn parse_in(
    registry: &Registry,
    text: &str,
    overrides: &[String],
    place: &str,
    base: &Path,
) -> Result<Recipe, RecipeError> {
    let source = Source::new(text, overrides, place)?;
    let table = source.table()?;
    let recipe: Recipe = read_toml(&table).map_err(|mistake| source.error(&mistake))?;
    let mut recipe = if overrides.is_empty() { recipe } else { override_keys(&source, table)? };
    if let Some((kind, path)) = recipe.model.file() {
        let path = base.join(path);
        let path = std::fs::canonicalize(&path).unwrap_or(path);
        recipe.model.config.insert(kind.key.to_string(), serde_json::json!(path));
    }
    if recipe.model.name.is_empty() && recipe.model.file().is_none() {
        return Err(RecipeError::Key {
            place: source.place_of(&["model"]),
            problem: "model: the key 'name' is missing".into(),
        });
    }
    check(registry, &recipe, &source)?;
    Ok(recipe)
}

/// A recipe with overrides (`train.epochs=3`) on top of it.
///
/// # Errors
/// With the flag and the key.
pub fn changed(registry: &Registry, recipe: &Recipe, overrides: &[String], place: &str) -> Result<Recipe, RecipeError> {
    let text = toml::to_string(recipe)
        .map_err(|error| RecipeError::Key { place: place.to_string(), problem: error.to_string() })?;
    parse(registry, &text, overrides, place)
}

fn override_keys(source: &Source<'_>, mut table: toml::Table) -> Result<Recipe, RecipeError> {
    for setting in source.overrides {
        let flag = format!("--set {setting}");
        let Some((path, value)) = setting.split_once('=') else {
            return Err(RecipeError::Key { place: flag, problem: "expected key=value, such as train.epochs=3".into() });
        };
        set_key(&mut table, path.trim(), value.trim())
            .map_err(|problem| RecipeError::Key { place: flag.clone(), problem })?;
        // Reading the recipe after each setting names the one that is wrong.
        read_toml::<Recipe>(&table)
            .map_err(|mistake| RecipeError::Key { place: flag, problem: mistake.to_string() })?;
    }
    read_toml(&table).map_err(|mistake| source.error(&mistake))
}

/// Sets `a.b.c` in a table to a TOML value; what is no TOML value is taken as text.
fn set_key(table: &mut toml::Table, path: &str, value: &str) -> Result<(), String> {
    let parsed: Result<BTreeMap<String, toml::Value>, _> = toml::from_str(&format!("value = {value}"));
    let value = parsed
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| toml::Value::String(value.to_string()));
    let mut keys: Vec<&str> = path.split('.').collect();
    let last = keys.pop().filter(|key| !key.is_empty()).ok_or("the key is empty")?;
    let mut at = table;
    for key in keys {
        let entry = at.entry(key).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        at = entry.as_table_mut().ok_or_else(|| format!("'{key}' is not a section"))?;
    }
    at.insert(last.to_string(), value);
    Ok(())
}

/// The network that a recipe describes.
///
/// # Errors
/// When there is none of that name or a key of it is wrong.
pub fn architecture(registry: &Registry, recipe: &Recipe) -> Result<Architecture, ModelError> {
    let ModelSection { name, config } = &recipe.model;
    let Some((kind, path)) = recipe.model.file() else { return registry.find(name)?.configure(config) };
    if let Some(key) = config.keys().find(|key| *key != kind.key && !kind.settings.contains(&key.as_str())) {
        let problem = format!("is for models of the registry, and this one is the file '{}'", path.display());
        return Err(ModelError::Key { name: path.display().to_string(), key: key.clone(), problem });
    }
    if !name.is_empty() {
        let problem = format!("cannot stand beside '{}': a model is of the registry or a file", kind.key);
        return Err(ModelError::Key { name: name.clone(), key: "name".to_string(), problem });
    }
    let settings = config.iter().filter(|(key, _)| *key != kind.key);
    (kind.open)(path, &settings.map(|(key, value)| (key.clone(), value.clone())).collect())
}

impl Recipe {
    /// Makes relative paths absolute, so that a run does not depend on where it is resumed.
    pub(super) fn anchor(&mut self, base: &Path) {
        let anchored = |path: &Path| std::fs::canonicalize(base.join(path)).unwrap_or_else(|_| path.to_path_buf());
        if let Some(dir) = &mut self.data.dir {
            *dir = anchored(dir);
        }
        if let Some(init) = &mut self.train.init {
            init.weights = anchored(&init.weights);
        }
    }

    /// Makes each rank's batches as large as `train.global_batch` asks for, if it does.
    ///
    /// # Errors
    /// When the items cannot be divided among the ranks.
    pub(super) fn divide(&mut self, ranks: usize) -> Result<(), String> {
        let Some(items) = self.train.global_batch else { return Ok(()) };
        let parts = ranks * self.train.accumulate;
        if !items.is_multiple_of(parts) {
            let accumulated = if self.train.accumulate > 1 {
                format!(" × train.accumulate = {}", self.train.accumulate)
            } else {
                String::new()
            };
            return Err(format!(
                "train.global_batch = {items} cannot be divided among {ranks} ranks{accumulated}: use a multiple of {parts}"
            ));
        }
        self.data.batch_size = items / parts;
        Ok(())
    }

    /// What the network is trained for: its task, and the recipe's loss or the one that fits the network's output.
    pub fn objective(&self, architecture: &Architecture) -> tasks::Objective {
        tasks::Objective::new(architecture.task(), self.train.loss)
    }
}
