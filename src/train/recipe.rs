//! A recipe: everything that determines a training, in one TOML file.
//!
//! Every key is documented at its field here, and in `models/README.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::DeTable;

use super::ByteSize;
use crate::data::DataConfig;
use crate::models::{Architecture, FILES, FileKind, ModelError, Registry};
use crate::optim::{LossConfig, OptimizerConfig, SchedulerConfig};
use crate::tasks;

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
    /// A name of the registry; none when a file is named (`onnx = "model.onnx"`, relative to the recipe's folder).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The arguments of its constructor, or the key of a file.
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
    /// Batches whose gradients are added up for one step of the optimizer: the step is that of a batch as many times as large.
    #[serde(skip_serializing_if = "is_one")]
    pub accumulate: usize,
    /// Items of one step of the optimizer, over all ranks and accumulated batches; `data.batch_size` follows from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_batch: Option<usize>,
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
    /// Whether the numbers of epochs are also written as event files that TensorBoard reads.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tensorboard: bool,
}

impl Default for TrainSection {
    fn default() -> Self {
        Self {
            epochs: 10,
            seed: 42,
            loss: None,
            accumulate: 1,
            global_batch: None,
            clip_grad_norm: None,
            clip_grad_value: None,
            freeze: Vec::new(),
            init: None,
            early_stopping: None,
            tensorboard: false,
        }
    }
}

// Serde gives a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_one(count: &usize) -> bool {
    *count == 1
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
    /// Epochs without improvement before stopping, at least 1.
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
    /// A checkpoint when so many minutes have passed since the one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_minutes: Option<f64>,
    /// How many of the newest checkpoints are kept.
    pub keep_last: usize,
    /// Whether none is ever removed because of its age.
    pub keep_all: bool,
    /// How many of the best checkpoints are kept.
    pub top_k: usize,
    /// The metric that says which is best.
    pub monitor: String,
    /// Whether less or more of it is better; by default, what fits the metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// How much all checkpoints of the run may take together; `last` and `best` are kept in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_total_size: Option<ByteSize>,
    /// Whether the optimizer's state is left out, without which a run cannot go on.
    pub weights_only: bool,
    /// Whether a training that breaks off on an error saves first.
    pub on_exception: bool,
}

impl Default for CheckpointSection {
    fn default() -> Self {
        Self {
            every_epochs: 1,
            every_steps: None,
            every_minutes: None,
            keep_last: 2,
            keep_all: false,
            top_k: 1,
            monitor: default_monitor(),
            mode: None,
            max_total_size: None,
            weights_only: false,
            on_exception: true,
        }
    }
}

impl CheckpointSection {
    /// The direction of the metric that is monitored.
    pub fn mode(&self) -> Mode {
        self.mode.unwrap_or_else(|| Mode::of(&self.monitor))
    }
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
    ("fashion_mnist_sample", include_str!("../../models/fashion_mnist_sample.toml")),
    ("fashion_mnist", include_str!("../../models/fashion_mnist.toml")),
    ("the_model_class", include_str!("../../models/the_model_class.toml")),
    ("net", include_str!("../../models/net.toml")),
    ("cifar_cnn", include_str!("../../models/cifar_cnn.toml")),
    ("cifar_cnn_guide", include_str!("../../models/cifar_cnn_guide.toml")),
    ("super_resolution", include_str!("../../models/super_resolution.toml")),
];

/// Recipes of popular networks, in the program too, by name.
pub const ZOO: &[(&str, &str)] = &[
    ("resnet18", include_str!("../../models/zoo/resnet18.toml")),
    ("mobilenet_v3_small", include_str!("../../models/zoo/mobilenet_v3_small.toml")),
    ("efficientnet_b0", include_str!("../../models/zoo/efficientnet_b0.toml")),
    ("convnext_atto", include_str!("../../models/zoo/convnext_atto.toml")),
    ("vit_tiny", include_str!("../../models/zoo/vit_tiny.toml")),
    ("swin_tiny", include_str!("../../models/zoo/swin_tiny.toml")),
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
    let recipe: Recipe = toml::from_str(text).map_err(|error| source.key_error(&error))?;
    let mut recipe = if overrides.is_empty() { recipe } else { override_keys(&source)? };
    if let Some((kind, path)) = recipe.model.file() {
        let path = base.join(path);
        let path = std::fs::canonicalize(&path).unwrap_or(path);
        recipe.model.config.insert(kind.key.to_string(), serde_json::json!(path));
    }
    if recipe.model.name.is_empty() && recipe.model.file().is_none() {
        return Err(RecipeError::Key {
            place: source.place_of("model"),
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

fn override_keys(source: &Source<'_>) -> Result<Recipe, RecipeError> {
    let mut table: toml::Table = toml::from_str(source.text).map_err(|error| source.key_error(&error))?;
    for setting in source.overrides {
        let flag = format!("--set {setting}");
        let Some((path, value)) = setting.split_once('=') else {
            return Err(RecipeError::Key { place: flag, problem: "expected key=value, such as train.epochs=3".into() });
        };
        set_key(&mut table, path.trim(), value.trim())
            .map_err(|problem| RecipeError::Key { place: flag.clone(), problem })?;
        // Reading the recipe after each setting names the one that is wrong.
        Recipe::deserialize(table.clone())
            .map_err(|error| RecipeError::Key { place: flag, problem: in_words(error.message()) })?;
    }
    let read = Recipe::deserialize(table);
    read.map_err(|error| RecipeError::Key { place: source.place.to_string(), problem: in_words(error.message()) })
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

/// A recipe's text with the position of every key, and the overrides that go on top of it.
struct Source<'a> {
    text: &'a str,
    overrides: &'a [String],
    place: &'a str,
    table: Spanned<DeTable<'a>>,
}

impl<'a> Source<'a> {
    fn new(text: &'a str, overrides: &'a [String], place: &'a str) -> Result<Self, RecipeError> {
        match DeTable::parse(text) {
            Ok(table) => Ok(Self { text, overrides, place, table }),
            Err(error) => {
                let at = error
                    .span()
                    .map_or_else(|| place.to_string(), |span| format!("{place}: line {}", line(text, span.start)));
                Err(RecipeError::Key {
                    place: at,
                    problem: format!("this is not valid TOML: {}", one_line(error.message())),
                })
            }
        }
    }

    /// Where a key was set: the flag, or the file and the line. Keys that are nowhere take the place of their section.
    fn place_of(&self, path: &str) -> String {
        let sets = |setting: &&String| setting.split_once('=').is_some_and(|(key, _)| key.trim() == path);
        if let Some(setting) = self.overrides.iter().rev().find(sets) {
            return format!("--set {setting}");
        }
        let mut at = self.table.get_ref();
        let mut found = None;
        for key in path.split('.') {
            let Some((key, value)) = at.get_key_value(key) else { break };
            found = Some(key.span().start);
            let Some(inner) = value.get_ref().as_table() else { break };
            at = inner;
        }
        found.map_or_else(|| self.place.to_string(), |start| format!("{}: line {}", self.place, line(self.text, start)))
    }

    /// The path of the innermost value at a position of the text: `train.epochs`, `optimizer.groups`.
    fn path_at(&self, position: usize) -> String {
        fn find<'t>(table: &'t DeTable<'_>, position: usize, path: &mut Vec<&'t str>) -> bool {
            table.iter().any(|(key, value)| {
                path.push(key.get_ref());
                // The span of a section is its header alone, so what is inside is looked at in any case.
                let inside = value.get_ref().as_table().is_some_and(|table| find(table, position, path));
                let found = inside || value.span().contains(&position);
                if !found {
                    path.pop();
                }
                found
            })
        }
        let mut path = Vec::new();
        find(self.table.get_ref(), position, &mut path);
        path.join(".")
    }

    /// serde's message with the line, the key and, for an unknown key, the nearest known one.
    fn key_error(&self, error: &toml::de::Error) -> RecipeError {
        let message = error.message();
        let problem = in_words(message);
        let Some(span) = error.span() else { return RecipeError::Key { place: self.place.to_string(), problem } };
        let path = self.path_at(span.start);
        if message.starts_with("missing field") && path.is_empty() {
            // A section that is nowhere has no line.
            return RecipeError::Key { place: self.place.to_string(), problem };
        }
        let place = format!("{}: line {}", self.place, line(self.text, span.start));
        let names_value =
            ["invalid", "unknown variant", "missing field"].iter().any(|start| message.starts_with(start));
        let problem = if names_value && !path.is_empty() { format!("{path}: {problem}") } else { problem };
        RecipeError::Key { place, problem }
    }
}

/// The number of the line of a position, from 1.
fn line(text: &str, position: usize) -> usize {
    text.get(..position).map_or(1, |before| before.matches('\n').count() + 1)
}

fn one_line(message: &str) -> String {
    message.trim().replace('\n', "; ").replace('`', "'")
}

/// serde's message for somebody who writes TOML and not Rust.
fn in_words(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field") || message.starts_with("unknown variant") {
        let name = quoted.next().unwrap_or_default();
        let known: Vec<&str> = quoted.collect();
        return match message.starts_with("unknown variant") {
            true => format!("unknown value '{name}', expected one of {}", known.join(", ")),
            false => format!("unknown key '{name}'{}", crate::error::nearest_or_list(name, &known)),
        };
    }
    if message.starts_with("missing field") {
        return format!("the key '{}' is missing", quoted.next().unwrap_or_default());
    }
    let wrong = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    match wrong.and_then(|wrong| wrong.rsplit_once(", expected ")) {
        Some((found, expected)) if !expected.contains('{') => {
            format!("expected {}, found {}", expected_in_words(expected), found_in_words(found))
        }
        // A message of ours, whose own commas must stay.
        _ => match wrong.and_then(|wrong| wrong.split_once(", expected ")) {
            Some((found, expected)) => format!("expected {}, found {}", one_line(expected), found_in_words(found)),
            None => one_line(message),
        },
    }
}

fn expected_in_words(expected: &str) -> String {
    match expected.trim() {
        "usize" | "u64" | "u32" => "a whole number, 0 or more".to_string(),
        "i64" => "a whole number".to_string(),
        "f64" | "f32" => "a number".to_string(),
        "a string" => "text in quotes".to_string(),
        "a boolean" => "true or false".to_string(),
        "a sequence" => "a list in [ ]".to_string(),
        "struct ModelSection" => "a section such as { name = \"net\" }".to_string(),
        structure if structure.starts_with("struct ") => "a section of keys and values".to_string(),
        other => one_line(other),
    }
}

fn found_in_words(found: &str) -> String {
    let found = one_line(found);
    let bare = ["integer ", "floating point ", "boolean "].iter().find_map(|kind| found.strip_prefix(kind));
    match (bare, found.strip_prefix("string "), found.as_str()) {
        (Some(value), ..) => value.trim_matches('\'').to_string(),
        (_, Some(text), _) => format!("the text {text}"),
        (.., "sequence") => "a list".to_string(),
        (.., "map") => "a section".to_string(),
        _ => found,
    }
}

/// Checks values that types alone do not.
fn check(registry: &Registry, recipe: &Recipe, source: &Source<'_>) -> Result<(), RecipeError> {
    let wrong = |key: &str, problem: String| {
        Err(RecipeError::Value { place: source.place_of(key), key: key.to_string(), problem })
    };
    let train = &recipe.train;
    if recipe.name.is_empty() || recipe.name.contains(['/', '\\']) || recipe.name.starts_with('.') {
        return wrong("name", format!("'{}' cannot name a folder", recipe.name));
    }
    let counts = [
        ("data.batch_size", Some(recipe.data.batch_size)),
        ("train.epochs", Some(train.epochs)),
        ("train.accumulate", Some(train.accumulate)),
        ("train.global_batch", train.global_batch),
        ("train.early_stopping.patience", train.early_stopping.as_ref().map(|stopping| stopping.patience)),
        ("checkpoint.every_steps", recipe.checkpoint.every_steps),
    ];
    if let Some((key, _)) = counts.into_iter().find(|(_, count)| *count == Some(0)) {
        return wrong(key, "must be at least 1, found 0".into());
    }
    let positive = [
        ("train.clip_grad_norm", train.clip_grad_norm),
        ("train.clip_grad_value", train.clip_grad_value),
        ("checkpoint.every_minutes", recipe.checkpoint.every_minutes),
    ];
    for (key, value) in positive {
        if let Some(value) = value.filter(|value| !(*value > 0.0 && value.is_finite())) {
            return wrong(key, format!("must be positive, found {value}"));
        }
    }
    if let Some(items) = train.global_batch.filter(|items| !items.is_multiple_of(train.accumulate)) {
        return wrong(
            "train.global_batch",
            format!("{items} items cannot be divided into train.accumulate = {} batches", train.accumulate),
        );
    }
    if train.clip_grad_norm.is_some() && train.clip_grad_value.is_some() {
        return wrong("train.clip_grad_value", "cannot be used together with clip_grad_norm".into());
    }
    for pattern in &train.freeze {
        if let Err(error) = regex::Regex::new(pattern) {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
            return wrong("train.freeze", format!("'{pattern}' is not a regular expression: {reason}"));
        }
    }
    if recipe.checkpoint.keep_last == 0 {
        return wrong("checkpoint.keep_last", "must be at least 1: the newest checkpoint is always kept".into());
    }
    let architecture = architecture(registry, recipe).map_err(|error| model_error(&error, source))?;
    let kind = architecture.task().kind();
    let metrics = tasks::metric_names();
    let metrics: Vec<&str> = metrics.iter().map(String::as_str).collect();
    let monitors = train.early_stopping.as_ref().map(|stopping| ("train.early_stopping.monitor", &stopping.monitor));
    for (key, monitor) in monitors.into_iter().chain([("checkpoint.monitor", &recipe.checkpoint.monitor)]) {
        if !metrics.contains(&monitor.as_str()) {
            return wrong(
                key,
                format!("unknown metric '{monitor}'{}", crate::error::nearest_or_list(monitor, &metrics)),
            );
        }
        let (gives, own) = (kind.gives, kind.metric.name);
        let measures = |metric: &str| monitor.rsplit('.').next() == Some(metric);
        if let Some(other) =
            tasks::KINDS.iter().map(|kind| kind.metric.name).find(|name| *name != own && measures(name))
        {
            let problem = format!("a model that gives {gives} has no {other}: use valid.loss or valid.{own}");
            return wrong(key, problem);
        }
    }
    Ok(())
}

/// A network's error with the line of the key that it is about.
fn model_error(error: &ModelError, source: &Source<'_>) -> RecipeError {
    let place = |key: &str| source.place_of(&format!("model.{key}"));
    match error {
        ModelError::Key { name, key, problem } => RecipeError::Key {
            place: place(key),
            problem: format!("model '{name}': key '{key}': {}", in_words(problem)),
        },
        ModelError::UnknownKey { key, .. } => RecipeError::Key { place: place(key), problem: error.to_string() },
        other => RecipeError::Key { place: source.place_of("model.name"), problem: other.to_string() },
    }
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

impl ModelSection {
    /// What the model is called: its name in the registry, or the name of the file.
    pub fn title(&self) -> String {
        match self.file() {
            Some((_, path)) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            None => self.name.clone(),
        }
    }

    /// The file that is the model, if one is.
    pub fn file(&self) -> Option<(&'static FileKind, &Path)> {
        let file = |kind: &'static FileKind| Some((kind, Path::new(self.config.get(kind.key)?.as_str()?)));
        FILES.iter().find_map(file)
    }
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
