//! Attention as `torch.nn.MultiheadAttention` has it.

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig, Initializer, Linear};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};

use super::linear::linear_last;
use super::sequential::linear_drawn;
use crate::layers;

/// `torch.nn.MultiheadAttention` of a sequence with itself, batch first.
#[derive(Module, Debug)]
pub struct MultiheadAttention {
    in_proj_weight: Param<Tensor<2>>,
    in_proj_bias: Param<Tensor<1>>,
    out_proj: Linear,
    heads: usize,
    dropout: Dropout,
}

impl MultiheadAttention {
    /// `features` are divided among `heads`; `dropout` is that of the attention's weights.
    pub fn new(features: usize, heads: usize, dropout: f64, device: &Device) -> Self {
        // Xavier's uniform distribution over the three weights as one matrix, as PyTorch draws it.
        let bound = (6.0 / (4 * features) as f64).sqrt();
        let own = layers::uniform(1.0 / (features as f64).sqrt());
        Self {
            in_proj_weight: layers::uniform(bound).init([3 * features, features], device),
            in_proj_bias: Initializer::Zeros.init([3 * features], device),
            out_proj: linear_drawn(features, features, own, device),
            heads,
            dropout: DropoutConfig::new(dropout).init(),
        }
    }

    /// `[batch, length, features]` to the same.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, length, features] = x.dims();
        let x = x.reshape([batch * length, features]);
        // The weight has PyTorch's layout, [outputs, inputs].
        let qkv = crate::kernels::linear(
            x,
            self.in_proj_weight.val().transpose(),
            Some(self.in_proj_bias.val()),
            crate::kernels::Activation::None,
        );
        let drops = self.dropout.training.is_enabled() && self.dropout.prob > 0.0 && qkv.device().is_autodiff();
        if !drops && let Some(y) = crate::kernels::attention(&qkv, [batch, length], self.heads) {
            return linear_last(&self.out_proj, y.reshape([batch, length, features]));
        }
        let [q, k, v] = split_heads(qkv, [batch, length], self.heads);
        let scale = ((features / self.heads) as f64).powf(-0.5);
        let weights = softmax((q * scale).matmul(k.transpose()), 3);
        let y = layers::dropout(&self.dropout, weights).matmul(v);
        linear_last(&self.out_proj, y.swap_dims(1, 2).reshape([batch, length, features]))
    }
}

/// Queries, keys and values `[batch, heads, length, features of a head]` of rows that hold all three.
pub(crate) fn split_heads(qkv: Tensor<2>, [batch, length]: [usize; 2], heads: usize) -> [Tensor<4>; 3] {
    let width = qkv.dims()[1] / 3 / heads;
    let qkv = qkv.reshape([batch, length, 3, heads, width]).permute([2, 0, 3, 1, 4]);
    [0, 1, 2].map(|part| qkv.clone().narrow(0, part, 1).reshape([batch, heads, length, width]))
}
