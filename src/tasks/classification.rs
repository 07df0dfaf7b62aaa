//! One class for each item, out of a number of classes.

use burn::tensor::activation::softmax;
use burn::tensor::{Int, Tensor};

use super::{Answer, Kind, Measured, Metric, RawScore, Task, unfit};
use crate::data::{BatchTarget, ImageDataset, Shape};
use crate::models::{ModelError, Output, Outputs};
use crate::optim::{Compute, LossConfig};

pub(super) static KIND: Kind = Kind {
    name: "classification",
    gives: "classes",
    metric: Metric { name: "accuracy", show: |share| format!("{:.2} %", share * 100.0) },
    keeps_size: false,
};

/// Telling classes apart by scores `[batch, classes]`.
#[derive(Debug, Clone, Copy)]
pub struct Classification {
    classes: usize,
    log_probabilities: bool,
}

impl Classification {
    /// Scores are logits.
    pub fn logits(classes: usize) -> Self {
        Self { classes, log_probabilities: false }
    }

    /// Scores are log-probabilities: their exponentials sum to 1.
    pub fn log_probabilities(classes: usize) -> Self {
        Self { classes, log_probabilities: true }
    }
}

impl Task for Classification {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn default_loss(&self) -> LossConfig {
        if self.log_probabilities { LossConfig::NLL } else { LossConfig::CROSS_ENTROPY }
    }

    fn check_loss(&self, loss: LossConfig) -> Result<(), String> {
        let name = loss.name();
        match loss.compute() {
            // Log-softmax of log-probabilities is the log-probabilities: a loss of scores is right for both.
            Compute::Scores(_) => Ok(()),
            Compute::LogProbabilities(_) if self.log_probabilities => Ok(()),
            Compute::LogProbabilities(_) => {
                let others = LossConfig::names(|compute| matches!(compute, Compute::Scores(_)));
                Err(format!(
                    "\"{name}\" needs log-probabilities, and the model gives logits: its loss would fall without end; use \
                     \"{others}\""
                ))
            }
            Compute::Values(_) => Err(format!("\"{name}\" does not fit a model that gives {}", KIND.gives)),
        }
    }

    fn check_data(&self, _: Shape, dataset: &dyn ImageDataset) -> Result<(), String> {
        if dataset.target_shape().is_some() {
            return Err(format!("the model gives classes, the data ({}) pairs of images", dataset.name()));
        }
        if dataset.has_masks() {
            return Err(format!(
                "the model gives a class for each image, the data ({}) for each pixel",
                dataset.name()
            ));
        }
        let found = dataset.num_classes();
        if found > self.classes {
            return Err(format!("the data has {found} classes, the model only {}: set model.classes", self.classes));
        }
        Ok(())
    }

    fn measure(&self, outputs: Outputs, target: BatchTarget, loss: LossConfig) -> Result<Measured, ModelError> {
        let (Output::Classes(scores), BatchTarget::Classes(classes)) = (outputs.main, target) else {
            return Err(unfit(&KIND, "scores [batch, classes] and class numbers", "something else".to_string()));
        };
        let answers = scores.clone().without_autodiff().argmax(1).flatten::<1>(0, 1);
        let right = answers.equal(classes.clone().without_autodiff()).int().sum();
        let mut total = of_scores(loss, scores, classes.clone())?;
        for head in outputs.auxiliary {
            let Output::Classes(scores) = head.output else {
                return Err(unfit(&KIND, "scores of its auxiliary heads", head.output.describe()));
            };
            total = total + of_scores(loss, scores, classes.clone())? * head.weight;
        }
        Ok(Measured { loss: total, score: RawScore::Right(right) })
    }

    fn answers(&self, output: Output) -> Result<Vec<Answer>, ModelError> {
        let Output::Classes(scores) = output else {
            return Err(unfit(&KIND, "scores [batch, classes]", output.describe()));
        };
        let classes = scores.dims()[1].max(1);
        // The softmax of log-probabilities is the probabilities themselves.
        let probabilities: Vec<f32> = softmax(scores, 1).into_data().iter::<f32>().collect();
        let ranked = |row: &[f32]| {
            let mut ranked: Vec<(usize, f32)> = row.iter().copied().enumerate().collect();
            ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
            Answer::Classes(ranked)
        };
        Ok(probabilities.chunks(classes).map(ranked).collect())
    }

    fn classes(&self) -> Option<usize> {
        Some(self.classes)
    }
}

fn of_scores(loss: LossConfig, scores: Tensor<2>, classes: Tensor<1, Int>) -> Result<Tensor<1>, ModelError> {
    match loss.compute() {
        Compute::Scores(compute) | Compute::LogProbabilities(compute) => Ok(compute(scores, classes)),
        Compute::Values(_) => Err(unfit(&KIND, "a loss of scores", loss.name().to_string())),
    }
}
