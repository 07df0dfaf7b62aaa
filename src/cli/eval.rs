//! `rekindle eval`: loss and accuracy (or PSNR) of a model on a data set.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::bail;
use burn::module::Module;
use indicatif::ProgressBar;

use super::model::{self, Model, WeightArgs};
use super::output::{json, line, say};
use super::{Answer, Exit};
use crate::checkpoint::Which;
use crate::data::prepare::{fitted, parse_normalize};
use crate::data::{DataConfig, DatasetName, Split};
use crate::device::DeviceName;
use crate::models::Registry;
use crate::models::weights::Layout;
use crate::tasks::Objective;
use crate::train::check_fit;
use crate::train::evaluate::evaluate;

/// Measure a model on the test split of a data set.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rekindle eval checkpoints/fashion_mnist_sample --data fashion-mnist --json")]
pub struct Args {
    /// A built-in name, a recipe, an ONNX file, a PyTorch program (.pt2, TorchScript), a file of weights that a built-in network
    /// fits, or the folder of a run (its best checkpoint) or checkpoint.
    model: String,
    #[command(flatten)]
    weights: WeightArgs,
    /// Which checkpoint of a run: last, best or a step [default: best].
    #[arg(long, value_name = "last|best|STEP")]
    from: Option<Which>,
    /// A data set by name (mnist, fashion-mnist, cifar-10), or a folder; by default that of the recipe.
    #[arg(long, value_name = "DIR|NAME")]
    data: Option<String>,
    /// How pictures are normalized, where no recipe or ONNX file says: imagenet, none (values 0 to 1), bytes (0 to 255) or MEAN/STD.
    #[arg(long, value_name = "imagenet|none|bytes|MEAN/STD")]
    normalize: Option<String>,
    /// auto, wgpu[:N], vulkan[:N], metal[:N], cuda[:N], ndarray or flex.
    #[arg(long, default_value = "auto")]
    device: DeviceName,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(registry: &Registry, args: &Args) -> Answer {
    let device = args.device.open()?;
    let layout = Layout::inference(&device);
    let Model { architecture, network, recipe, told, published, base, description, .. } =
        model::resolve(registry, &args.model, &args.weights, args.from, layout)?;
    let data = data_config(recipe.as_ref().map(|recipe| &recipe.data), args.data.as_deref())?;
    let data = match (&recipe, &args.normalize) {
        (None, normalize) if architecture.classes().is_some() => {
            let shape = architecture.input_shape();
            let data = fitted(data, shape, told.normalize_for(shape[0]), normalize.as_deref())?;
            match published {
                Some(row) => row.preparation.of_data(data, normalize.is_some()),
                None => data,
            }
        }
        (_, Some(text)) => DataConfig { normalize: parse_normalize(text, architecture.input_shape()[0])?, ..data },
        _ => data,
    };
    let loader = data.loader(&base, Split::Test, 0, &device.device)?;
    for remark in loader.dataset().remarks() {
        say!("{remark}");
    }
    check_fit(&architecture, &loader, &description)?;
    let loss = recipe.as_ref().and_then(|recipe| recipe.train.loss);
    let objective = Objective::new(architecture.task(), loss);
    let network = network.fork(&device.device);
    let bar = if std::io::stderr().is_terminal() {
        ProgressBar::new(loader.num_items() as u64)
    } else {
        ProgressBar::hidden()
    };
    let found = evaluate(&network, &loader, &objective, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    if args.json {
        let mut value = serde_json::to_value(&found)?;
        value["model"] = serde_json::json!(description);
        value["device"] = serde_json::json!(device.name);
        json(&value)?;
    } else {
        line(format!(
            "{description} on {} items: loss {:.4}, {} {} ({})",
            found.items,
            found.loss,
            found.metric.name,
            (found.metric.show)(found.score),
            device.name
        ))?;
    }
    Ok(Exit::Done)
}

/// The recipe's data, with another set or folder where one is given.
fn data_config(recipe: Option<&DataConfig>, data: Option<&str>) -> anyhow::Result<DataConfig> {
    let Some(data) = data else {
        return match recipe {
            Some(config) => Ok(config.clone()),
            None => bail!("which data? give --data NAME or --data DIR, or name a recipe or run, which knows its data"),
        };
    };
    let named = DatasetName::find(data);
    let mut config = match (recipe, named) {
        (Some(config), None) => config.clone(),
        (Some(config), Some(name)) => DataConfig { name, dir: None, ..config.clone() },
        (None, Some(name)) => DataConfig::new(name),
        (None, None) => DataConfig::new(DatasetName::of(Path::new(data))),
    };
    if named.is_none() {
        config.dir = Some(std::path::absolute(PathBuf::from(data))?);
    }
    config.limit = None;
    Ok(config)
}
