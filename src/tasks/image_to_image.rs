//! An image for each image: super-resolution, denoising.

use burn::tensor::Tensor;

use super::{Answer, Kind, Measured, Metric, RawScore, Task, unfit};
use crate::data::{BatchTarget, ImageDataset, Shape};
use crate::models::{ModelError, Output, Outputs};
use crate::optim::{Compute, LossConfig};

pub(super) static KIND: Kind = Kind {
    name: "image to image",
    gives: "images",
    metric: Metric { name: "psnr", show: |decibels| format!("{decibels:.2} dB") },
    keeps_size: true,
};

/// Images `[batch, channels, height × factor, width × factor]` from images `[batch, channels, height, width]`.
#[derive(Debug, Clone, Copy)]
pub struct ImageToImage {
    factor: usize,
}

impl ImageToImage {
    /// Output images are so many times as high and wide as input images.
    pub fn new(factor: usize) -> Self {
        Self { factor }
    }
}

impl Task for ImageToImage {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn default_loss(&self) -> LossConfig {
        LossConfig::MSE
    }

    fn check_loss(&self, loss: LossConfig) -> Result<(), String> {
        match loss.compute() {
            Compute::Values(_) => Ok(()),
            _ => Err(format!("\"{}\" does not fit a model that gives {}", loss.name(), KIND.gives)),
        }
    }

    fn check_data(&self, input: Shape, dataset: &dyn ImageDataset) -> Result<(), String> {
        let factor = self.factor;
        match dataset.target_shape() {
            None => Err(format!("the model gives images, the data ({}) classes", dataset.name())),
            Some(target) if (target.height, target.width) != (input.height * factor, input.width * factor) => {
                Err(format!(
                    "the model enlarges {}×{} by {factor}, the data has targets of {}×{}: set data.upscale_factor and \
                     model.upscale_factor alike",
                    input.height, input.width, target.height, target.width
                ))
            }
            Some(_) => Ok(()),
        }
    }

    fn measure(&self, outputs: Outputs, target: BatchTarget, loss: LossConfig) -> Result<Measured, ModelError> {
        let (Output::Images(images), BatchTarget::Images(targets)) = (outputs.main, target) else {
            return Err(unfit(&KIND, "images and target images", "something else".to_string()));
        };
        let difference = images.clone().without_autodiff() - targets.clone().without_autodiff();
        let [batch, channels, height, width] = difference.dims();
        let squared = difference.powi_scalar(2).reshape([batch, channels * height * width]).mean_dim(1);
        let mut total = of_images(loss, images, targets.clone())?;
        for head in outputs.auxiliary {
            let Output::Images(images) = head.output else {
                return Err(unfit(&KIND, "images of its auxiliary heads", head.output.describe()));
            };
            total = total + of_images(loss, images, targets.clone())? * head.weight;
        }
        Ok(Measured { loss: total, score: RawScore::Each(squared.flatten(0, 1), psnr) })
    }

    fn answers(&self, output: Output) -> Result<Vec<Answer>, ModelError> {
        let Output::Images(images) = output else {
            return Err(unfit(&KIND, "images [batch, channels, height, width]", output.describe()));
        };
        let [_, channels, height, width] = images.dims();
        let values: Vec<f32> = images.into_data().iter::<f32>().collect();
        let shape = [channels, height, width];
        let images = values.chunks(shape.iter().product::<usize>().max(1));
        Ok(images.map(|values| Answer::Image { shape, values: values.to_vec() }).collect())
    }

    fn upscale_factor(&self) -> Option<usize> {
        Some(self.factor)
    }
}

fn of_images(loss: LossConfig, images: Tensor<4>, targets: Tensor<4>) -> Result<Tensor<1>, ModelError> {
    match loss.compute() {
        Compute::Values(compute) => Ok(compute(images, targets)),
        _ => Err(unfit(&KIND, "a loss of values", loss.name().to_string())),
    }
}

/// Decibels of a mean squared error of values in 0 to 1. An exact image counts as 100 dB.
pub fn psnr(squared_error: f32) -> f64 {
    (-10.0 * f64::from(squared_error).log10()).min(100.0)
}
