//! `nn.CrossEntropyLoss`.

use burn::Tensor;
use burn::tensor::Int;
use burn::tensor::activation::log_softmax;

use super::{Compute, Loss, nll};

pub(super) static LOSS: Loss = Loss { name: "cross-entropy", compute: Compute::Scores(cross_entropy) };

/// `F.cross_entropy`: log-softmax of scores `[items, classes]`, then [`nll`].
pub fn cross_entropy(scores: Tensor<2>, classes: Tensor<1, Int>) -> Tensor<1> {
    nll(log_softmax(scores, 1), classes)
}
