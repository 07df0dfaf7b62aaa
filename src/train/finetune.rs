//! Transfer learning in one step: a recipe for a network on a folder of images.
//!
//! The network keeps its weights but for the layers whose size follows the number of classes: these are new, and learn ten times
//! as fast as the rest. Images are prepared as the published weights expect them.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde_json::{Map, Value, json};

use super::TrainError;
use super::recipe::{self, Loaded};
use crate::data::{FolderDataset, ImageDataset, Split};
use crate::models::published::{self, Preset};
use crate::models::{Architecture, Entry, FILES, FileKind, ModelError, Registry};

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Finetune {
    /// A network of the registry, or a file that is one: an ONNX model, a program of PyTorch.
    pub model: String,
    /// A folder of images, one folder a class, perhaps below `train` and `valid`.
    pub data: PathBuf,
    /// Weights to start from; what does not fit is passed over.
    pub init: Option<PathBuf>,
    /// Side of the images in pixels, where it is not that of the published weights.
    pub size: Option<usize>,
    /// Stages that do not move, up to and with this prefix of a parameter's name (`layer3`, `features.4`), or `all` but the head.
    pub freeze: Option<String>,
}

/// Learning rate of the layers that keep their weights.
const RATE: f64 = 1e-3;

/// How much faster new layers learn.
const FASTER: f64 = 10.0;

/// Epochs, where nothing else is said.
const EPOCHS: usize = 10;

impl Finetune {
    /// The recipe, with overrides (`train.epochs=3`) on top of it.
    ///
    /// # Errors
    /// When the network is unknown, gives no classes, or takes no such images; when the folder is none of images; when no stage
    /// has the name that is to be frozen.
    pub fn recipe(&self, registry: &Registry, overrides: &[String]) -> Result<Loaded, TrainError> {
        let place = format!("--finetune {}", self.model);
        let problem = |key: &str, problem: String| recipe::RecipeError::Value {
            place: place.clone(),
            key: key.to_string(),
            problem,
        };
        let source = Source::find(registry, &self.model)?;
        let classes = FolderDataset::open(&self.data, Split::Train)?.num_classes();
        let published = published::find(&format!("{}:DEFAULT", self.model));
        let mut keys = published.map(|row| row.keys.clone()).unwrap_or_default();
        if keys.contains_key("image_size")
            && let Some(side) = self.size
        {
            keys.insert("image_size".into(), side.into());
        }
        let network = |classes: usize| -> Result<Architecture, TrainError> {
            let mut keys = keys.clone();
            keys.insert("classes".into(), classes.into());
            Ok(source.configure(&keys)?)
        };
        let fitted = network(classes)?;
        if fitted.classes().is_none() {
            return Err(problem("model", "it gives no classes, and images of a folder have one each".into()).into());
        }
        let head = head(&fitted, &network(classes + 1)?);
        let [channels, height, _] = fitted.input_shape();
        let preset = published.map(|row| row.preparation.clone());
        let freeze = match self.freeze.as_deref() {
            None => Vec::new(),
            Some("all") => vec![all_but(&head, &fitted)],
            Some(stage) => {
                let known = trained_names(&fitted);
                let pattern = up_to(stage, &known);
                vec![pattern.ok_or_else(|| problem("freeze", format!("no parameter's name begins with '{stage}.'")))?]
            }
        };
        let mut model = keys;
        let (key, value) = source.key();
        model.insert(key.into(), value);
        model.insert("classes".into(), classes.into());
        let mut train = json!({ "epochs": EPOCHS, "freeze": freeze });
        if let Some(weights) = &self.init {
            train["init"] = json!({ "weights": absolute(weights), "partial": true });
        }
        let mut table = json!({
            "name": format!("{}-{}", source.name(), folder_name(&self.data)),
            "model": model,
            "data": data(&self.data, channels, preset.as_ref(), self.size.unwrap_or(height), self.size.is_some()),
            "optimizer": {
                "name": "sgd", "lr": RATE, "momentum": 0.9, "weight_decay": 1e-4,
                "groups": [{ "match": exactly(&head), "lr": RATE * FASTER }],
            },
            "scheduler": { "name": "cosine", "t_max": EPOCHS },
            "train": train,
        });
        let parsed = |table: &Value| -> Result<_, TrainError> {
            let text = toml::to_string(table).map_err(|error| problem("recipe", error.to_string()))?;
            Ok(recipe::parse(registry, &text, overrides, &place)?)
        };
        // The schedule ends with the last epoch, however many an override asks for.
        table["scheduler"]["t_max"] = parsed(&table)?.train.epochs.into();
        let recipe = parsed(&table)?;
        Ok(Loaded { recipe, base: PathBuf::new(), place })
    }
}

/// What is fine-tuned.
enum Source<'a> {
    Built(&'a Entry),
    File(&'static FileKind, PathBuf),
}

impl<'a> Source<'a> {
    fn find(registry: &'a Registry, model: &str) -> Result<Self, TrainError> {
        let path = Path::new(model);
        if path.is_file() {
            for kind in FILES {
                if (kind.is)(path)? {
                    return Ok(Self::File(kind, absolute(path)));
                }
            }
            let problem =
                format!("it is no network; if it holds weights, --finetune NETWORK --init {model} starts from them");
            return Err(ModelError::Config { name: model.to_string(), problem }.into());
        }
        Ok(Self::Built(registry.find(model)?))
    }

    fn configure(&self, keys: &Map<String, Value>) -> Result<Architecture, ModelError> {
        match self {
            Self::Built(entry) => entry.configure(keys),
            Self::File(kind, path) => (kind.open)(path, keys),
        }
    }

    /// The key of a recipe's `[model]` that names it.
    fn key(&self) -> (&'static str, Value) {
        match self {
            Self::Built(entry) => ("name", entry.name.into()),
            Self::File(kind, path) => (kind.key, path.to_string_lossy().into()),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Built(entry) => entry.name.to_string(),
            Self::File(_, path) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }
}

/// The section `[data]`: the preparation of the published weights, or its like at another size.
fn data(folder: &Path, channels: usize, preset: Option<&Preset>, side: usize, resized: bool) -> Value {
    let mut data = json!({ "name": "folder", "dir": absolute(folder), "batch_size": 32, "channels": channels });
    let crop = match preset.and_then(|preset| preset.crop).filter(|_| !resized) {
        Some(crop) => crop,
        None => side,
    };
    let edge = match preset {
        Some(preset) => preset.edge * crop / preset.crop.unwrap_or(preset.edge),
        None => crop,
    };
    data["resize"] = json!(edge);
    data["center_crop"] = json!(crop);
    // An eighth of the side, as CIFAR's 4 of 32 pixels.
    data["augment"] = json!([
        { "random_crop": { "size": crop, "padding": crop / 8 } },
        "random_horizontal_flip",
    ]);
    if let Some(Preset { mean, std, .. }) = preset {
        data["normalize"] = json!({ "mean": mean, "std": std });
    }
    data
}

/// The parameters whose shape follows the number of classes: those of the last layers.
fn head(network: &Architecture, other: &Architecture) -> Vec<String> {
    let shapes = |network: &Architecture| crate::models::weights::entries(&network.build(&Device::flex()));
    let (ours, theirs) = (shapes(network), shapes(other));
    let pairs = ours.into_iter().zip(theirs);
    pairs.filter(|(ours, theirs)| ours.shape != theirs.shape).map(|(ours, _)| ours.name).collect()
}

/// The names of the parameters that are trained, in order.
fn trained_names(network: &Architecture) -> Vec<String> {
    let entries = crate::models::weights::entries(&network.build(&Device::flex()));
    entries.into_iter().filter(|entry| entry.trained).map(|entry| entry.name).collect()
}

/// A regular expression for these names and no others.
fn exactly(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| regex::escape(name)).collect();
    format!("^({})$", names.join("|"))
}

/// A regular expression for the parameters that are none of these.
fn all_but(head: &[String], network: &Architecture) -> String {
    // Whole branches where none of them is in the head, which keeps the expression short.
    let names = trained_names(network);
    let mut prefixes: Vec<String> = Vec::new();
    for name in names.iter().filter(|name| !head.contains(name)) {
        let cuts = name.match_indices('.').map(|(at, _)| &name[..=at]);
        let free = |prefix: &&str| !head.iter().any(|name| name.starts_with(prefix));
        let prefix = cuts.into_iter().find(free).unwrap_or(name).to_string();
        if !prefixes.contains(&prefix) {
            prefixes.push(prefix);
        }
    }
    let prefixes: Vec<String> = prefixes.iter().map(|prefix| regex::escape(prefix)).collect();
    format!("^({})", prefixes.join("|"))
}

/// A regular expression for every stage up to one of this name; none when there is no such stage.
fn up_to(stage: &str, names: &[String]) -> Option<String> {
    let depth = stage.split('.').count();
    let prefix = |name: &str| name.split('.').take(depth).collect::<Vec<_>>().join(".");
    let last = names.iter().rposition(|name| prefix(name) == stage && name.len() > stage.len())?;
    let mut stages: Vec<String> = Vec::new();
    for name in &names[..=last] {
        let prefix = regex::escape(&prefix(name));
        if !stages.contains(&prefix) {
            stages.push(prefix);
        }
    }
    Some(format!(r"^({})(\.|$)", stages.join("|")))
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

fn folder_name(path: &Path) -> String {
    let name = absolute(path).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.chars().map(|c| if c.is_alphanumeric() || "-_".contains(c) { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    #[test]
    fn stages_are_frozen_up_to_a_name() {
        let names: Vec<String> =
            ["conv1.weight", "layer1.0.weight", "layer2.0.weight", "fc.weight"].map(String::from).into();
        assert_eq!(up_to("layer1", &names).unwrap(), r"^(conv1|layer1)(\.|$)");
        assert_eq!(up_to("layer3", &names), None);
        let pattern = regex::Regex::new(&up_to("layer1", &names).unwrap()).unwrap();
        let frozen: Vec<&String> = names.iter().filter(|name| pattern.is_match(name)).collect();
        assert_eq!(frozen, [&names[0], &names[1]]);
    }

    #[test]
    fn the_head_is_what_follows_the_number_of_classes() {
        let registry = Registry::built_in();
        for (model, expected) in [
            ("resnet18", &["fc.weight", "fc.bias"][..]),
            ("mobilenet_v3_small", &["classifier.3.weight", "classifier.3.bias"]),
            ("vit_b_32", &["heads.head.weight", "heads.head.bias"]),
        ] {
            let network = |classes: usize| {
                let keys: Map<String, Value> = [("classes".to_string(), classes.into())].into_iter().collect();
                registry.find(model).unwrap().configure(&keys).unwrap()
            };
            let found = head(&network(7), &network(8));
            assert_eq!(found, expected);
            let pattern = regex::Regex::new(&all_but(&found, &network(7))).unwrap();
            for name in trained_names(&network(7)) {
                assert_eq!(pattern.is_match(&name), !found.contains(&name), "{model}: {name}");
            }
        }
    }
}
