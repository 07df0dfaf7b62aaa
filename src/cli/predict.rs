//! `rekindle predict`: labels for images, or larger images.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use serde::Serialize;

use super::Exit;
use super::model::{self, Model, WeightArgs};
use super::output::{cannot, json, line, say};
use crate::checkpoint::Which;
use crate::data::mask;
use crate::data::prepare::Preparation;
use crate::device::DeviceName;
use crate::models::weights::Layout;
use crate::models::{Architecture, Network, Output, Registry};
use crate::tasks::Answer;

/// Predict labels of image files, enlarge them (super-resolution), or write masks of classes (segmentation).
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rekindle predict checkpoints/fashion_mnist_sample shirt.png --top 3")]
pub struct Args {
    /// A built-in name, a recipe, an ONNX file, a PyTorch program (.pt2, TorchScript), a file of weights that a built-in network
    /// fits, or the folder of a run (its best checkpoint) or checkpoint.
    model: String,
    /// Image files (PNG, JPEG).
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    weights: WeightArgs,
    /// Which checkpoint of a run: last, best or a step [default: best].
    #[arg(long, value_name = "last|best|STEP")]
    from: Option<Which>,
    /// A text file with a label on each line, in the order of the classes.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// How many labels to print for each image.
    #[arg(long, default_value_t = 5, value_name = "K")]
    top: usize,
    /// Where enlarged images go [default: beside the input].
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// How inputs are normalized where no recipe or ONNX file says: imagenet, none (values 0 to 1), bytes (0 to 255) or MEAN/STD (numbers joined by commas).
    #[arg(long, value_name = "imagenet|none|bytes|MEAN/STD")]
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

pub fn run(registry: &Registry, args: &Args) -> super::Answer {
    let device = args.device.open()?;
    let layout = Layout::inference(&device);
    let model = model::resolve(registry, &args.model, &args.weights, args.from, layout)?;
    let preparation = model.preparation(args.normalize.as_deref())?;
    let labels = labels(args.labels.as_deref(), model.labels(), &model.architecture)?;
    let Model { architecture, network, .. } = model;
    say!("inputs: {preparation}; device {}", device.name);
    let network = network.fork(&device.device).valid();
    let predictor = Predictor { args, architecture: &architecture, network, preparation, device: device.device };
    let mut predictions = Vec::new();
    for paths in args.inputs.chunks(usize::from(args.batch_size)) {
        predictions.extend(predictor.predict(paths, &labels)?);
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

/// Names of all classes: from a file, or those that are known.
fn labels(file: Option<&Path>, known: Vec<String>, architecture: &Architecture) -> anyhow::Result<Vec<String>> {
    let Some(classes) = architecture.task().labels() else { return Ok(Vec::new()) };
    let mut names: Vec<String> = match file {
        Some(path) => {
            let text = fs::read_to_string(path).map_err(cannot("read the labels", path))?;
            let names: Vec<String> = text.lines().map(str::to_string).filter(|line| !line.trim().is_empty()).collect();
            if names.len() != classes {
                bail!("{}: {} labels, the model has {classes} classes", path.display(), names.len());
            }
            names
        }
        None => known,
    };
    // A set may have fewer names than the model has classes.
    names.extend((names.len()..classes).map(|class| format!("class {class}")));
    Ok(names)
}

/// A network on its device, ready to take pictures.
struct Predictor<'a> {
    args: &'a Args,
    architecture: &'a Architecture,
    network: Network,
    preparation: Preparation,
    device: Device,
}

impl Predictor<'_> {
    /// Runs the network on pictures of one size.
    fn forward(&self, paths: &[PathBuf]) -> anyhow::Result<Output> {
        let mut values = Vec::new();
        let mut shape = [0; 3];
        for path in paths {
            shape = self.preparation.read(path, &mut values)?.into();
        }
        self.architecture.check_input(shape)?;
        let [channels, height, width] = shape;
        let input =
            Tensor::<4>::from_data(TensorData::new(values, [paths.len(), channels, height, width]), &self.device);
        Ok(self.network.forward(input)?)
    }

    fn predict(&self, paths: &[PathBuf], labels: &[String]) -> anyhow::Result<Vec<Prediction>> {
        let task = self.architecture.task();
        if task.kind().keeps_size {
            // Each image on its own, because sizes may differ.
            let answers = paths.iter().map(|path| Ok(task.answers(self.forward(std::slice::from_ref(path))?)?));
            let answers: Vec<Vec<Answer>> = answers.collect::<anyhow::Result<_>>()?;
            return paths
                .iter()
                .zip(answers.into_iter().flatten())
                .map(|(path, answer)| self.shown(path, answer, labels))
                .collect();
        }
        let answers = task.answers(self.forward(paths)?)?;
        paths.iter().zip(answers).map(|(path, answer)| self.shown(path, answer, labels)).collect()
    }

    /// What is printed of an answer; an image is written as a file.
    fn shown(&self, path: &Path, answer: Answer, labels: &[String]) -> anyhow::Result<Prediction> {
        let mut prediction = Prediction { input: path.to_path_buf(), labels: Vec::new(), output: None };
        match answer {
            Answer::Classes(ranked) => {
                let top = ranked.into_iter().take(self.args.top);
                let label =
                    |(class, probability): (usize, f32)| Label { class, label: labels[class].clone(), probability };
                prediction.labels = top.map(label).collect();
            }
            Answer::Image { shape: [_, height, width], values } => {
                prediction.output = Some(self.write(path, &values, height, width)?);
            }
            Answer::Mask { size, classes } => {
                let mut counts = vec![0_usize; labels.len()];
                classes.iter().for_each(|&class| counts[class] += 1);
                let mut ranked: Vec<(usize, usize)> = counts.into_iter().enumerate().filter(|(_, n)| *n > 0).collect();
                ranked.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
                let label = |(class, count): (usize, usize)| {
                    let probability = count as f32 / classes.len() as f32;
                    Label { class, label: labels[class].clone(), probability }
                };
                prediction.labels = ranked.into_iter().take(self.args.top).map(label).collect();
                prediction.output = Some(self.write_mask(path, &classes, size)?);
            }
        }
        Ok(prediction)
    }

    /// Writes a mask: an image whose values are the numbers of classes, with a palette of colours.
    fn write_mask(&self, path: &Path, classes: &[usize], size: [usize; 2]) -> anyhow::Result<PathBuf> {
        let output = self.place(path, "mask")?;
        let values: Vec<u8> = classes.iter().map(|&class| u8::try_from(class).unwrap_or(u8::MAX)).collect();
        let written =
            mask::file(&values, size).map_err(anyhow::Error::from).and_then(|file| Ok(fs::write(&output, file)?));
        written.with_context(|| format!("{}: cannot write the mask", output.display()))?;
        Ok(output)
    }

    /// Where the image goes that is made of another one.
    fn place(&self, path: &Path, what: &str) -> anyhow::Result<PathBuf> {
        let folder = self.args.output.as_deref().or(path.parent()).unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(cannot("create the folder", folder))?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        Ok(folder.join(format!("{stem}-{what}.png")))
    }

    /// Writes an enlarged image. Colour is kept: the network enlarges the luma, an interpolation the rest.
    fn write(&self, path: &Path, values: &[f32], height: usize, width: usize) -> anyhow::Result<PathBuf> {
        let luma: Vec<u8> = values.iter().map(|value| (value * 255.0).round().clamp(0.0, 255.0) as u8).collect();
        let output = self.place(path, &format!("x{}", self.architecture.upscale_factor().unwrap_or(1)))?;
        self.preparation.save_enlarged(path, &luma, height, width, &output)?;
        Ok(output)
    }
}
