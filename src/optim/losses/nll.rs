//! `nn.NLLLoss`.

use burn::Tensor;
use burn::tensor::Int;

use super::{Compute, Loss};

pub(super) static LOSS: Loss = Loss { name: "nll", compute: Compute::LogProbabilities(nll) };

/// `F.nll_loss`: minus the mean of the log-probabilities `[items, classes]` of the classes `[items]`.
pub fn nll(log_probabilities: Tensor<2>, classes: Tensor<1, Int>) -> Tensor<1> {
    log_probabilities.gather(1, classes.unsqueeze_dim(1)).mean().neg()
}
