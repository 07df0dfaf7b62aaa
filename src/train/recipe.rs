//! A recipe: everything that determines a training, in one TOML file.
//!
//! Every key is documented at its field here, and in `models/README.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::DataConfig;
use crate::models::{self, Architecture};
use crate::optim::{LossConfig, OptimizerConfig, SchedulerConfig};

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

/// The network of a recipe.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ModelSection {
    /// A name of `rekindle models`.
    pub name: String,
    /// The arguments of its constructor.
    #[serde(flatten)]
    pub config: serde_json::Map<String, serde_json::Value>,
}

/// The section `[train]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSection {
    /// Passes through the training set.
    pub epochs: usize,
    /// Determines initial weights, order, augmentation and dropout.
    pub seed: u64,
    /// The loss; by default the one that fits the network's output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<LossConfig>,
    /// Largest norm of all gradients together, as `clip_grad_norm_`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_grad_norm: Option<f64>,
    /// Largest absolute value of a gradient, as `clip_grad_value_`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_grad_value: Option<f64>,
    /// Parameters that do not move: regular expressions on their names.
    pub freeze: Vec<String>,
    /// Weights to start from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<InitSection>,
    /// When to stop before the last epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<EarlyStopping>,
}

impl Default for TrainSection {
    fn default() -> Self {
        Self {
            epochs: 10,
            seed: 42,
            loss: None,
            clip_grad_norm: None,
            clip_grad_value: None,
            freeze: Vec::new(),
            init: None,
            early_stopping: None,
        }
    }
}

/// Weights to start from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitSection {
    /// A model file, relative to the recipe's folder.
    pub weights: PathBuf,
    /// Whether names and shapes that do not fit are passed over (a new head on loaded weights).
    #[serde(default)]
    pub partial: bool,
}

/// Stops when a metric has not improved for some epochs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// The metric, `valid.loss` by default.
    #[serde(default = "default_monitor")]
    pub monitor: String,
    /// Whether less or more of it is better; by default, what fits the metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Epochs without improvement before stopping.
    pub patience: usize,
    /// A change smaller than this is no improvement.
    #[serde(default)]
    pub min_delta: f64,
}

fn default_monitor() -> String {
    "valid.loss".to_string()
}

/// Which direction of a metric is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Less is better.
    Min,
    /// More is better.
    Max,
}

impl Mode {
    /// The direction that fits a metric's name: losses fall, the others rise.
    pub fn of(metric: &str) -> Self {
        if metric.ends_with("loss") { Self::Min } else { Self::Max }
    }

    /// Whether `new` is better than `old` by more than `min_delta`.
    pub fn better(self, new: f64, old: f64, min_delta: f64) -> bool {
        match self {
            Self::Min => new < old - min_delta,
            Self::Max => new > old + min_delta,
        }
    }
}

/// The section `[checkpoint]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointSection {
    /// A checkpoint every so many epochs; 0 for none but the last.
    pub every_epochs: usize,
    /// A checkpoint every so many steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_steps: Option<usize>,
    /// How many of the newest checkpoints are kept.
    pub keep_last: usize,
    /// How many of the best checkpoints are kept.
    pub top_k: usize,
    /// The metric that says which is best.
    pub monitor: String,
    /// Whether less or more of it is better; by default, what fits the metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

impl Default for CheckpointSection {
    fn default() -> Self {
        Self { every_epochs: 1, every_steps: None, keep_last: 2, top_k: 1, monitor: default_monitor(), mode: None }
    }
}

impl CheckpointSection {
    /// The direction of the metric that is monitored.
    pub fn mode(&self) -> Mode {
        self.mode.unwrap_or_else(|| Mode::of(&self.monitor))
    }
}

/// Metrics that a run records.
pub const METRICS: &[&str] = &["train.loss", "train.accuracy", "train.psnr", "valid.loss", "valid.accuracy", "valid.psnr"];

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
    ("fashion_mnist_sample", include_str!("../../models/fashion_mnist_sample.toml")),
    ("fashion_mnist", include_str!("../../models/fashion_mnist.toml")),
    ("the_model_class", include_str!("../../models/the_model_class.toml")),
    ("net", include_str!("../../models/net.toml")),
    ("cifar_cnn", include_str!("../../models/cifar_cnn.toml")),
    ("super_resolution", include_str!("../../models/super_resolution.toml")),
];

/// Reads a recipe from a file, or one of those in the program by name, and applies overrides (`train.epochs=3`).
///
/// # Errors
/// With the file, the line and the key.
pub fn load(source: &Path, overrides: &[String]) -> Result<Loaded, RecipeError> {
    let embedded = source.to_str().and_then(|name| EMBEDDED.iter().find(|(known, _)| *known == name));
    let (text, base, place) = match (source.exists() && source.is_file(), embedded) {
        (false, Some((name, text))) => ((*text).to_string(), PathBuf::from("models"), format!("recipe {name}")),
        _ => {
            let text = std::fs::read_to_string(source).map_err(|error| RecipeError::Read {
                path: source.to_path_buf(),
                reason: if error.kind() == std::io::ErrorKind::NotFound { "no such file".into() } else { error.to_string() },
                known: EMBEDDED.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
            })?;
            let base = source.parent().map(Path::to_path_buf).unwrap_or_default();
            (text, base, source.display().to_string())
        }
    };
    let recipe = parse(&text, overrides, &place)?;
    Ok(Loaded { recipe, base, place })
}

/// Reads a recipe's text.
///
/// # Errors
/// With the place, the line and the key.
pub fn parse(text: &str, overrides: &[String], place: &str) -> Result<Recipe, RecipeError> {
    let recipe: Recipe = toml::from_str(text).map_err(|error| key_error(&error, Some(text), place))?;
    let recipe = if overrides.is_empty() { recipe } else { override_keys(text, overrides, place)? };
    check(&recipe, place)?;
    Ok(recipe)
}

fn override_keys(text: &str, overrides: &[String], place: &str) -> Result<Recipe, RecipeError> {
    let mut table: toml::Table = toml::from_str(text).map_err(|error| key_error(&error, Some(text), place))?;
    for setting in overrides {
        let flag = format!("--set {setting}");
        let Some((path, value)) = setting.split_once('=') else {
            return Err(RecipeError::Key { place: flag, problem: "expected key=value, such as train.epochs=3".into() });
        };
        set_key(&mut table, path.trim(), value.trim()).map_err(|problem| RecipeError::Key { place: flag.clone(), problem })?;
        // Reading the recipe after each setting names the one that is wrong.
        Recipe::deserialize(table.clone()).map_err(|error| key_error(&error, None, &flag))?;
    }
    Recipe::deserialize(table).map_err(|error| key_error(&error, None, place))
}

/// Sets `a.b.c` in a table to a TOML value; what is no TOML value is taken as text.
fn set_key(table: &mut toml::Table, path: &str, value: &str) -> Result<(), String> {
    let parsed: Result<BTreeMap<String, toml::Value>, _> = toml::from_str(&format!("value = {value}"));
    let value = parsed.ok().and_then(|mut table| table.remove("value")).unwrap_or_else(|| toml::Value::String(value.to_string()));
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

/// serde's message with the line and, for an unknown key, the nearest known one.
fn key_error(error: &toml::de::Error, text: Option<&str>, place: &str) -> RecipeError {
    let place = match (text, error.span()) {
        (Some(text), Some(span)) => {
            let line = text.get(..span.start).map_or(1, |before| before.matches('\n').count() + 1);
            format!("{place}: line {line}")
        }
        _ => place.to_string(),
    };
    let message = error.message();
    let mut quoted = message.split('`').skip(1).step_by(2);
    let problem = match quoted.next() {
        Some(key) if message.starts_with("unknown field") => {
            let known: Vec<&str> = quoted.collect();
            format!("unknown key '{key}'{}", crate::error::nearest_or_list(key, &known))
        }
        Some(key) if message.starts_with("missing field") => format!("the key '{key}' is missing"),
        _ => message.trim().replace('\n', "; ").replace('`', "'"),
    };
    RecipeError::Key { place, problem }
}

/// Checks values that types alone do not.
fn check(recipe: &Recipe, place: &str) -> Result<(), RecipeError> {
    let wrong = |key: &str, problem: String| Err(RecipeError::Value { place: place.to_string(), key: key.to_string(), problem });
    if recipe.name.is_empty() || recipe.name.contains(['/', '\\']) || recipe.name.starts_with('.') {
        return wrong("name", format!("'{}' cannot name a folder", recipe.name));
    }
    if recipe.train.epochs == 0 {
        return wrong("train.epochs", "must be at least 1, found 0".into());
    }
    for (key, value) in [("train.clip_grad_norm", recipe.train.clip_grad_norm), ("train.clip_grad_value", recipe.train.clip_grad_value)] {
        if let Some(value) = value.filter(|value| !(*value > 0.0 && value.is_finite())) {
            return wrong(key, format!("must be positive, found {value}"));
        }
    }
    if recipe.train.clip_grad_norm.is_some() && recipe.train.clip_grad_value.is_some() {
        return wrong("train.clip_grad_value", "cannot be used together with clip_grad_norm".into());
    }
    for pattern in &recipe.train.freeze {
        if let Err(error) = regex::Regex::new(pattern) {
            let reason = error.to_string();
            return wrong("train.freeze", format!("'{pattern}' is no regular expression: {}", reason.lines().last().unwrap_or_default()));
        }
    }
    let monitors = recipe.train.early_stopping.as_ref().map(|stopping| ("train.early_stopping.monitor", &stopping.monitor));
    for (key, monitor) in monitors.into_iter().chain([("checkpoint.monitor", &recipe.checkpoint.monitor)]) {
        if !METRICS.contains(&monitor.as_str()) {
            return wrong(key, format!("unknown metric '{monitor}'{}", crate::error::nearest_or_list(monitor, METRICS)));
        }
    }
    if recipe.checkpoint.keep_last == 0 {
        return wrong("checkpoint.keep_last", "must be at least 1: the newest checkpoint is always kept".into());
    }
    architecture(recipe).map(|_| ()).or_else(|error| wrong("model", error.to_string()))
}

/// The network that a recipe describes.
///
/// # Errors
/// When there is none of that name or a key of it is wrong.
pub fn architecture(recipe: &Recipe) -> Result<Box<dyn Architecture>, models::ModelError> {
    models::find(&recipe.model.name)?.configure(&recipe.model.config)
}

impl Recipe {
    /// The loss: the recipe's, or the one that fits the network's output.
    pub fn loss(&self, architecture: &dyn Architecture) -> LossConfig {
        self.train.loss.unwrap_or(match architecture.classes() {
            None => LossConfig::Mse,
            Some(_) if architecture.log_probabilities() => LossConfig::Nll,
            Some(_) => LossConfig::CrossEntropy,
        })
    }
}
