//! Activation functions that are part of another operator's node.

use super::activation::sigmoid;
use crate::operator::RawNode;
use crate::{Array, Error, Result};

/// A function that is applied to each value of a result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FusedActivation {
    /// `max(v, 0)`; NaN stays NaN.
    Relu,
    /// The hyperbolic tangent.
    Tanh,
    /// The logistic function.
    Sigmoid,
    /// The factor of negative values.
    LeakyRelu(f64),
    /// The least and the greatest value.
    Clip(f64, f64),
    /// Factor and summand before the result is cut to `0..=1`.
    HardSigmoid(f64, f64),
}

impl FusedActivation {
    /// The function that the attribute `activation` names, with its parameters in order.
    ///
    /// # Errors
    /// When it is not known.
    pub fn parse(node: &RawNode, parameters: &[f32]) -> Result<Option<Self>> {
        let parameter = |at: usize, default: f64| parameters.get(at).map_or(default, |&p| f64::from(p));
        Ok(Some(match node.attributes.text_or("activation", "")? {
            "" => return Ok(None),
            "Relu" => Self::Relu,
            "Tanh" => Self::Tanh,
            "Sigmoid" => Self::Sigmoid,
            "LeakyRelu" => Self::LeakyRelu(parameter(0, 0.01)),
            "Clip" => Self::Clip(parameter(0, f64::NEG_INFINITY), parameter(1, f64::INFINITY)),
            "HardSigmoid" => Self::HardSigmoid(parameter(0, 0.2), parameter(1, 0.5)),
            other => return Err(Error::beyond(format!("the activation '{other}'"))),
        }))
    }

    /// The function of a value.
    pub fn apply(self, v: f64) -> f64 {
        match self {
            Self::Relu => {
                if v < 0.0 {
                    0.0
                } else {
                    v
                }
            }
            Self::Tanh => v.tanh(),
            Self::Sigmoid => sigmoid(v),
            Self::LeakyRelu(alpha) => {
                if v < 0.0 {
                    alpha * v
                } else {
                    v
                }
            }
            Self::Clip(low, high) => {
                if v.is_nan() {
                    v
                } else {
                    v.max(low).min(high)
                }
            }
            Self::HardSigmoid(alpha, beta) => (alpha * v + beta).clamp(0.0, 1.0),
        }
    }
}

/// A tensor through a function, if there is one.
pub(super) fn activated(activation: Option<FusedActivation>, array: Array) -> Result<Array> {
    let Some(activation) = activation else { return Ok(array) };
    let values = array.floats()?.into_iter().map(|v| activation.apply(v)).collect();
    Array::of_floats(array.dtype(), array.shape().to_vec(), values)
}
