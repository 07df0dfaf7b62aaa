//! Parts that many networks share, for anyone's own networks too. Names and order of their parameters are those of
//! PyTorch's and torchvision's modules.

mod activation;
mod attention;
mod conv;
mod excitation;
mod layer_norm;
mod linear;
mod named;
mod sequential;
mod stochastic_depth;
mod window;

use super::Invalid;

pub use activation::Activation;
pub use attention::MultiheadAttention;
pub(crate) use attention::split_heads;
pub use conv::{BasicConv2d, ConvConfig, ConvInit, ConvNormActivation, NormConfig, conv_norm};
pub use excitation::SqueezeExcitation;
pub use layer_norm::LayerNorm;
pub use linear::{Mlp, linear_last};
pub use named::Named;
pub(crate) use named::named_module;
pub use sequential::{
    Head, Layer, classify, from_imagenet, global_mean, linear_drawn, linear_normal, linear_normal_weight, max_pool, run,
};
pub use stochastic_depth::{StochasticDepth, rising};
pub use window::{ShiftedWindowAttention, WindowConfig, relative_bias, relative_position_index};
pub(crate) use window::{int_buffer, pad};

/// The multiple of `divisor` that is nearest to a width, and not less than nine tenths of it: torchvision's
/// `_make_divisible`.
pub fn make_divisible(width: f64, divisor: usize) -> usize {
    let nearest = divisor.max((width + divisor as f64 / 2.0) as usize / divisor * divisor);
    if (nearest as f64) < 0.9 * width { nearest + divisor } else { nearest }
}

/// Channels of a layer at a factor of a network's width. An image keeps its three, which are a multiple of no `step`.
pub(crate) fn scaled(channels: usize, step: usize, factor: f64) -> usize {
    if channels.is_multiple_of(step) { (channels as f64 * factor).round() as usize } else { channels }
}

/// Checks the factor of a network's width whose branches are joined: all channels are multiples of `step`, and stay whole.
///
/// # Errors
/// The key `width_mult`, when some channels would not be whole or none would be left.
pub(crate) fn check_width(step: usize, factor: f64) -> Result<(), Invalid> {
    let steps = factor * step as f64;
    if steps.fract() == 0.0 && (1.0..=1024.0).contains(&steps) {
        Ok(())
    } else {
        Err(Invalid::new(
            "width_mult",
            format!("must be a positive multiple of 1/{step}, at most {}, found {factor}", 1024 / step),
        ))
    }
}
