//! The network of a checkpoint on the whole test set, item by item.

use std::path::Path;

use base64::Engine;
use burn::module::Module;
use burn::tensor::activation::softmax;

use super::data::{ClassesData, Evaluation, ImagesData, Mistake, Pair};
use super::masks::{self, MasksData};
use crate::checkpoint::Checkpoint;
use crate::data::prepare::class_names;
use crate::data::transform::pixels::{self, Filter};
use crate::data::{BatchTarget, Image, ImageDataset, Loader, Split, Target};
use crate::device::OpenDevice;
use crate::models::{Network, Output, Registry};
use crate::tasks::{Objective, psnr};
use crate::train::recipe;
use crate::train::{Recipe, TrainError, check_fit, restored};

/// How many mistakes are shown.
const MISTAKES: usize = 24;
/// How many images are shown before and after.
const PAIRS: usize = 6;

/// Runs a checkpoint on the test set of its recipe.
///
/// # Errors
/// When the checkpoint, the network or the data cannot be read.
pub(super) fn evaluate(
    registry: &Registry,
    recipe: &Recipe,
    checkpoint: &Checkpoint,
    device: &OpenDevice,
) -> Result<Evaluation, TrainError> {
    let contents = checkpoint.read()?;
    let place = checkpoint.path.display().to_string();
    let architecture = recipe::architecture(registry, recipe)?;
    let network = restored(&architecture, &contents, &place)?.fork(&device.device).valid();
    let loader = recipe.data.loader(Path::new(""), Split::Test, recipe.train.seed, &device.device)?;
    check_fit(&architecture, &loader, &place)?;
    let of = format!("step {}", checkpoint.step);
    let task = architecture.task();
    let names = |count: usize| {
        let mut names = class_names(&recipe.data);
        names.truncate(count);
        names.extend((names.len()..count).map(|class| format!("class {class}")));
        names
    };
    match (task.classes(), task.labels(), task.upscale_factor()) {
        (Some(count), ..) => {
            let confusion = vec![vec![0; count]; count];
            let data = ClassesData { of, names: names(count), confusion, ..ClassesData::default() };
            classify(&network, &loader, data).map(Evaluation::Classes)
        }
        (None, Some(count), _) => {
            let confusion = vec![vec![0; count]; count];
            let data = MasksData { of, names: names(count), confusion, ..MasksData::default() };
            let objective = Objective::new(task, recipe.train.loss);
            masks::evaluate(&network, &objective, &loader, data).map(Evaluation::Masks)
        }
        (None, None, Some(factor)) => enlarge(&network, factor, &loader, of).map(Evaluation::Images),
        (None, None, None) => {
            Ok(Evaluation::Failed(format!("predictions of the task {} are not shown", task.kind().name)))
        }
    }
}

fn classify(network: &Network, loader: &Loader, mut data: ClassesData) -> Result<ClassesData, TrainError> {
    let mut index = 0;
    let mut loss = 0.0;
    for batch in loader.batches(0, 0) {
        let batch = batch?;
        let (Output::Classes(scores), BatchTarget::Classes(labels)) = (network.forward(batch.input)?, batch.target)
        else {
            continue;
        };
        let classes = scores.dims()[1];
        // The softmax of log-probabilities is the probabilities themselves.
        let probabilities: Vec<f32> = softmax(scores, 1).into_data().iter::<f32>().collect();
        let labels: Vec<usize> = labels.into_data().iter::<i64>().map(|label| label as usize).collect();
        for (row, truth) in probabilities.chunks(classes).zip(labels) {
            let answer = (0..classes).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or(0);
            data.confusion[truth][answer] += 1;
            loss -= f64::from(row[truth].max(f32::MIN_POSITIVE)).ln();
            if answer != truth {
                keep(&mut data.mistakes, index, (truth, answer), row);
            }
            index += 1;
        }
    }
    data.loss = loss / index.max(1) as f64;
    for mistake in &mut data.mistakes {
        mistake.image = picture(&**loader.dataset(), mistake.index)?;
    }
    Ok(data)
}

/// Keeps the most confident wrong answers, the worst first.
fn keep(worst: &mut Vec<Mistake>, index: usize, (truth, answer): (usize, usize), row: &[f32]) {
    let mistake = Mistake { image: String::new(), index, truth, answer, confidence: row[answer], of_truth: row[truth] };
    let place = worst.partition_point(|other| other.confidence >= mistake.confidence);
    if place < MISTAKES {
        worst.insert(place, mistake);
        worst.truncate(MISTAKES);
    }
}

fn enlarge(network: &Network, factor: usize, loader: &Loader, of: String) -> Result<ImagesData, TrainError> {
    let mut data = ImagesData { of, factor, ..ImagesData::default() };
    let mut index = 0;
    for batch in loader.batches(0, 0) {
        let batch = batch?;
        let (Output::Images(images), BatchTarget::Images(targets)) = (network.forward(batch.input)?, batch.target)
        else {
            continue;
        };
        let [items, channels, height, width] = images.dims();
        let len = channels * height * width;
        let (images, targets): (Vec<f32>, Vec<f32>) =
            (images.into_data().iter::<f32>().collect(), targets.into_data().iter::<f32>().collect());
        for item in 0..items {
            let (after, target) = (&images[item * len..(item + 1) * len], &targets[item * len..(item + 1) * len]);
            let sample = loader.dataset().get(index)?;
            let before = pixels::resize(&sample.image, height, width, Filter::Bicubic);
            let squares = |a: &[f32]| squared_error(a.iter().copied(), target);
            let psnr_after = psnr(squares(after));
            let psnr_before = psnr(squared_error(before.pixels.iter().map(|value| f32::from(*value) / 255.0), target));
            data.loss += f64::from(squares(after));
            data.psnr += psnr_after;
            data.bicubic += psnr_before;
            if data.pairs.len() < PAIRS {
                let after = Image { channels, height, width, pixels: after.iter().map(|value| byte(*value)).collect() };
                let target = match sample.target {
                    Target::Image(target) => address(&target)?,
                    Target::Class(_) | Target::Mask(_) => String::new(),
                };
                let (before, after) = (address(&before)?, address(&after)?);
                data.pairs.push(Pair { before, after, target, psnr_before, psnr_after, index });
            }
            index += 1;
        }
    }
    let count = index.max(1) as f64;
    data.items = index as u64;
    data.loss /= count;
    data.psnr /= count;
    data.bicubic /= count;
    Ok(data)
}

fn squared_error(values: impl Iterator<Item = f32>, target: &[f32]) -> f32 {
    let sum: f64 = values.zip(target).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    (sum / target.len().max(1) as f64) as f32
}

/// A value of 0 to 1 as a byte.
fn byte(value: f32) -> u8 {
    (value * 255.0).round().clamp(0.0, 255.0) as u8
}

/// A picture of the set as a `data:` address.
fn picture(set: &dyn ImageDataset, index: usize) -> Result<String, TrainError> {
    address(&set.get(index)?.image)
}

/// A picture as a PNG file in a `data:` address.
pub(super) fn address(image: &Image) -> Result<String, TrainError> {
    let (width, height) = (image.width as u32, image.height as u32);
    let plane = image.width * image.height;
    let (bytes, colour) = if image.channels == 3 {
        let interleaved = (0..plane).flat_map(|at| [0, 1, 2].map(|channel| image.pixels[channel * plane + at]));
        (interleaved.collect(), image::ExtendedColorType::Rgb8)
    } else {
        (image.pixels[..plane].to_vec(), image::ExtendedColorType::L8)
    };
    let mut png = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut png);
    image::ImageEncoder::write_image(encoder, &bytes, width, height, colour).map_err(|error| TrainError::Mismatch {
        place: "a picture of the test set".into(),
        problem: format!("it cannot be written as PNG: {error}"),
    })?;
    Ok(format!("data:image/png;base64,{}", base64::engine::general_purpose::STANDARD.encode(png)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_confident_mistakes_are_kept_in_order() {
        let mut worst = Vec::new();
        for (index, confidence) in [0.5, 0.9, 0.7].into_iter().cycle().take(90).enumerate() {
            keep(&mut worst, index, (0, 1), &[1.0 - confidence, confidence]);
        }
        assert_eq!(worst.len(), MISTAKES);
        assert!(worst.is_sorted_by(|a, b| a.confidence >= b.confidence));
        assert_eq!((worst[0].index, worst[MISTAKES - 1].confidence), (1, 0.9));
    }

    #[test]
    fn a_picture_is_a_png_in_an_address() {
        let image = Image { channels: 3, height: 1, width: 2, pixels: vec![255, 0, 0, 255, 0, 0] };
        let text = address(&image).unwrap();
        let bytes = base64::engine::general_purpose::STANDARD.decode(text.rsplit(',').next().unwrap()).unwrap();
        let decoded = image::load_from_memory(&bytes).unwrap().into_rgb8();
        assert_eq!(decoded.as_raw(), &[255, 0, 0, 0, 255, 0]);
    }
}
