//! `rekindle predict`: labels for images, or larger images.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{Tensor, TensorData};
use serde::Serialize;

use super::model::{self, Model, WeightArgs};
use super::output::{json, line};
use super::{Answer, Exit};
use crate::checkpoint::Which;
use crate::data::prepare::{Preparation, class_names};

use crate::device::DeviceName;
use crate::models::{Architecture, Network, Output};

/// Predict labels of image files, or enlarge them (super-resolution).
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rekindle predict checkpoints/fashion_mnist_sample shirt.png --top 3")]
pub struct Args {
    /// A built-in name, a recipe, or the folder of a run (its best checkpoint) or checkpoint.
    model: String,
    /// Image files (PNG, JPEG).
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    weights: WeightArgs,
    /// A text file with a label on each line, in the order of the classes.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// How many labels to print for each image.
    #[arg(long, default_value_t = 5, value_name = "K")]
    top: usize,
    /// Where enlarged images go [default: beside the input].
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// How inputs are normalized without a recipe: imagenet, none or MEAN/STD (numbers joined by commas).
    #[arg(long, value_name = "imagenet|none|MEAN/STD")]
    normalize: Option<String>,
    /// Images in a batch.
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    batch_size: u16,
    /// Threads that compute [default: all cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// auto, wgpu[:N], vulkan[:N], metal[:N], cuda[:N], ndarray or flex.
    #[arg(long, default_value = "auto")]
    device: DeviceName,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Prediction {
    input: PathBuf,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<Label>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
struct Label {
    class: usize,
    label: String,
    probability: f32,
}

pub fn run(args: &Args) -> Answer {
    let Model { architecture, network, recipe, .. } = model::resolve(&args.model, &args.weights, Which::Best)?;
    let preparation = Preparation::new(architecture.input_shape(), recipe.as_ref().map(|recipe| &recipe.data), args.normalize.as_deref())?;
    let preparation = if architecture.classes().is_none() { preparation.any_size() } else { preparation };
    let labels = labels(args.labels.as_deref(), recipe.as_ref(), &*architecture)?;
    let device = args.device.open()?;
    let network = network.fork(&device.device).valid();
    eprintln!("inputs: {preparation}; device {}", device.name);
    let mut predictions = Vec::new();
    for paths in args.inputs.chunks(usize::from(args.batch_size)) {
        predictions.extend(match architecture.classes() {
            Some(_) => classify(args, &*architecture, &network, &preparation, &device.device, paths, &labels)?,
            None => enlarge(args, &*architecture, &network, &preparation, &device.device, paths)?,
        });
    }
    if args.json {
        json(&predictions)?;
        return Ok(Exit::Done);
    }
    for prediction in &predictions {
        match &prediction.output {
            Some(output) => line(format!("{} -> {}", prediction.input.display(), output.display()))?,
            None => line(prediction.input.display())?,
        }
        for label in &prediction.labels {
            line(format!("  {:6.2} %  {}", label.probability * 100.0, label.label))?;
        }
    }
    Ok(Exit::Done)
}

fn labels(file: Option<&Path>, recipe: Option<&crate::train::Recipe>, architecture: &dyn Architecture) -> anyhow::Result<Vec<String>> {
    let Some(classes) = architecture.classes() else { return Ok(Vec::new()) };
    let mut names: Vec<String> = match file {
        Some(path) => {
            let text = fs::read_to_string(path).with_context(|| format!("{}: cannot read the labels", path.display()))?;
            let names: Vec<String> = text.lines().map(str::to_string).filter(|line| !line.trim().is_empty()).collect();
            if names.len() != classes {
                bail!("{}: {} labels, the model has {classes} classes", path.display(), names.len());
            }
            names
        }
        None => recipe.map(|recipe| class_names(&recipe.data)).unwrap_or_default(),
    };
    // A set may have fewer names than the model has classes.
    names.extend((names.len()..classes).map(|class| format!("class {class}")));
    Ok(names)
}

fn classify(
    args: &Args,
    architecture: &dyn Architecture,
    network: &Network,
    preparation: &Preparation,
    device: &burn::tensor::Device,
    paths: &[PathBuf],
    labels: &[String],
) -> anyhow::Result<Vec<Prediction>> {
    let mut values = Vec::new();
    let mut shape = [0; 3];
    for path in paths {
        shape = preparation.read(path, &mut values)?.into();
    }
    architecture.check_input(shape)?;
    let [channels, height, width] = shape;
    let input = Tensor::<4>::from_data(TensorData::new(values, [paths.len(), channels, height, width]), device);
    let Output::Classes(scores) = network.forward(input) else { bail!("the model gives images, not classes") };
    let classes = scores.dims()[1];
    // The softmax of log-probabilities is the probabilities themselves.
    let probabilities: Vec<f32> = softmax(scores, 1).into_data().iter::<f32>().collect();
    let predictions = paths.iter().zip(probabilities.chunks(classes)).map(|(path, row)| {
        let mut ranked: Vec<(usize, f32)> = row.iter().copied().enumerate().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        let top = ranked.into_iter().take(args.top).map(|(class, probability)| Label { class, label: labels[class].clone(), probability });
        Prediction { input: path.clone(), labels: top.collect(), output: None }
    });
    Ok(predictions.collect())
}

/// Each image on its own, because sizes may differ. Colour is kept: the network enlarges the luma, an interpolation the rest.
fn enlarge(
    args: &Args,
    architecture: &dyn Architecture,
    network: &Network,
    preparation: &Preparation,
    device: &burn::tensor::Device,
    paths: &[PathBuf],
) -> anyhow::Result<Vec<Prediction>> {
    let mut predictions = Vec::new();
    for path in paths {
        let mut values = Vec::new();
        let [channels, height, width] = preparation.read(path, &mut values)?.into();
        architecture.check_input([channels, height, width])?;
        let input = Tensor::<4>::from_data(TensorData::new(values, [1, channels, height, width]), device);
        let Output::Images(images) = network.forward(input) else { bail!("the model gives classes, not images") };
        let [_, _, out_height, out_width] = images.dims();
        let luma: Vec<u8> = images.into_data().iter::<f32>().map(|value| (value * 255.0).round().clamp(0.0, 255.0) as u8).collect();
        let folder = args.output.as_deref().or(path.parent()).unwrap_or(Path::new("."));
        fs::create_dir_all(folder).with_context(|| format!("{}: cannot create the folder", folder.display()))?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let factor = architecture.upscale_factor().unwrap_or(1);
        let output = folder.join(format!("{stem}-x{factor}.png"));
        preparation.save_enlarged(path, &luma, out_height, out_width, &output)?;
        predictions.push(Prediction { input: path.clone(), labels: Vec::new(), output: Some(output) });
    }
    Ok(predictions)
}
