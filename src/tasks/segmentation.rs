//! A class for each pixel.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

use super::{Answer, Kind, Measured, Metric, RawScore, Task, unfit};
use crate::data::{BatchTarget, IGNORED, ImageDataset, Shape};
use crate::models::{ModelError, Output, Outputs};
use crate::optim::LossConfig;

pub(super) static KIND: Kind = Kind {
    name: "segmentation",
    gives: "a class for each pixel",
    metric: Metric { name: "pixel_accuracy", show: |share| format!("{:.2} %", share * 100.0) },
    keeps_size: true,
};

/// Scores of each pixel `[batch, classes, height, width]`.
#[derive(Debug, Clone, Copy)]
pub struct Segmentation {
    classes: usize,
}

impl Segmentation {
    /// So many classes, the background among them.
    pub fn new(classes: usize) -> Self {
        Self { classes }
    }
}

impl Task for Segmentation {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn default_loss(&self) -> LossConfig {
        LossConfig::CROSS_ENTROPY
    }

    fn check_loss(&self, loss: LossConfig) -> Result<(), String> {
        // Pixels that do not count need a mean of their own.
        if loss == LossConfig::CROSS_ENTROPY {
            return Ok(());
        }
        Err(format!("\"{}\" does not fit a model that gives {}", loss.name(), KIND.gives))
    }

    fn check_data(&self, _: Shape, dataset: &dyn ImageDataset) -> Result<(), String> {
        if !dataset.has_masks() {
            return Err(format!(
                "the model gives {}, and the data ({}) has no masks of classes",
                KIND.gives,
                dataset.name()
            ));
        }
        let found = dataset.num_classes();
        if found > self.classes {
            return Err(format!("the data has {found} classes, the model only {}: set model.classes", self.classes));
        }
        Ok(())
    }

    fn measure(&self, outputs: Outputs, target: BatchTarget, _: LossConfig) -> Result<Measured, ModelError> {
        let (Output::Images(maps), BatchTarget::Masks(masks)) = (outputs.main, target) else {
            return Err(unfit(&KIND, "maps of scores and masks of classes", "something else".to_string()));
        };
        if maps.dims()[1] != self.classes {
            return Err(unfit(&KIND, "a map of scores for each class", format!("{} maps", maps.dims()[1])));
        }
        let [batch, height, width] = masks.dims();
        let answers = maps.clone().without_autodiff().argmax(1).reshape([batch, height * width]);
        let classes = masks.clone().without_autodiff().reshape([batch, height * width]);
        let counted = classes.clone().equal_elem(i64::from(IGNORED)).bool_not().float();
        let right = answers.equal(classes).float() * counted.clone();
        // An image of which nothing counts has no error.
        let pixels = counted.sum_dim(1).clamp_min(1.0);
        let share = (right.sum_dim(1) / pixels).flatten(0, 1);
        let mut total = of_maps(maps, masks.clone());
        for head in outputs.auxiliary {
            let Output::Images(maps) = head.output else {
                return Err(unfit(&KIND, "maps of its auxiliary heads", head.output.describe()));
            };
            total = total + of_maps(maps, masks.clone()) * head.weight;
        }
        Ok(Measured { loss: total, score: RawScore::Each(share, f64::from) })
    }

    fn labels(&self) -> Option<usize> {
        Some(self.classes)
    }

    fn answers(&self, output: Output) -> Result<Vec<Answer>, ModelError> {
        let Output::Images(maps) = output else {
            return Err(unfit(&KIND, "maps of scores [batch, classes, height, width]", output.describe()));
        };
        let [_, _, height, width] = maps.dims();
        let classes: Vec<usize> = maps.argmax(1).into_data().iter::<i64>().map(|class| class as usize).collect();
        let masks = classes.chunks((height * width).max(1));
        Ok(masks.map(|classes| Answer::Mask { size: [height, width], classes: classes.to_vec() }).collect())
    }
}

/// Cross-entropy of maps `[batch, classes, height, width]`, the mean over the pixels that count.
fn of_maps(maps: Tensor<4>, masks: Tensor<3, Int>) -> Tensor<1> {
    let [batch, classes, height, width] = maps.dims();
    let pixels = batch * height * width;
    let scores = maps.permute([0, 2, 3, 1]).reshape([pixels, classes]);
    let masks: Tensor<1, Int> = masks.reshape([pixels]);
    let ignored = masks.clone().equal_elem(i64::from(IGNORED));
    let counted = ignored.clone().bool_not().float();
    let likely = log_softmax(scores, 1).gather(1, masks.mask_fill(ignored, 0).unsqueeze_dim(1)).reshape([pixels]);
    (likely * counted.clone()).sum().neg() / counted.sum()
}
