//! The activation functions of recurrent networks.

use super::real::Real;
use crate::operator::RawNode;
use crate::{Error, Result};

/// A function of values.
#[derive(Clone, Copy)]
enum Function<T> {
    /// Of many at once.
    All(fn(&mut [T])),
    /// Of each and two constants.
    Each(fn(T, T, T) -> T),
}

/// A function with its constants.
pub(super) struct Activation<T> {
    function: Function<T>,
    alpha: T,
    beta: T,
    /// What goes in is cut off at this and its negative.
    clip: Option<T>,
}

impl<T: Real> Activation<T> {
    /// Applies the function to every value, cut off first.
    pub fn apply(&self, values: &mut [T]) {
        if let Some(clip) = self.clip {
            let low = T::default() - clip;
            for value in values.iter_mut() {
                *value = if *value > clip {
                    clip
                } else if *value < low {
                    low
                } else {
                    *value
                };
            }
        }
        self.apply_plain(values);
    }

    /// Applies the function to every value as it is.
    pub fn apply_plain(&self, values: &mut [T]) {
        match self.function {
            Function::All(function) => function(values),
            Function::Each(function) => {
                values.iter_mut().for_each(|value| *value = function(*value, self.alpha, self.beta))
            }
        }
    }
}

/// A function of the standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sigmoid,
    Tanh,
    Relu,
    Affine,
    LeakyRelu,
    ThresholdedRelu,
    ScaledTanh,
    HardSigmoid,
    Elu,
    Softsign,
    Softplus,
}

impl Kind {
    fn named(name: &str) -> Result<Self> {
        Ok(match name.to_ascii_lowercase().as_str() {
            "sigmoid" => Self::Sigmoid,
            "tanh" => Self::Tanh,
            "relu" => Self::Relu,
            "affine" => Self::Affine,
            "leakyrelu" => Self::LeakyRelu,
            "thresholdedrelu" => Self::ThresholdedRelu,
            "scaledtanh" => Self::ScaledTanh,
            "hardsigmoid" => Self::HardSigmoid,
            "elu" => Self::Elu,
            "softsign" => Self::Softsign,
            "softplus" => Self::Softplus,
            _ => return Err(Error::invalid(format!("the activation '{name}' is unknown"))),
        })
    }

    /// What its two constants are unless the node says so, where it has them.
    fn constants(self) -> (Option<f64>, Option<f64>) {
        match self {
            Self::Sigmoid | Self::Tanh | Self::Relu | Self::Softsign | Self::Softplus => (None, None),
            Self::Affine => (Some(1.0), Some(0.0)),
            Self::LeakyRelu => (Some(0.01), None),
            Self::ThresholdedRelu | Self::Elu => (Some(1.0), None),
            Self::ScaledTanh => (Some(1.0), Some(1.0)),
            Self::HardSigmoid => (Some(0.2), Some(0.5)),
        }
    }

    fn function<T: Real>(self) -> Function<T> {
        match self {
            Self::Sigmoid => Function::All(T::sigmoids),
            Self::Tanh => Function::All(T::tanhs),
            Self::Relu => Function::Each(|x, _, _| if x < T::default() { T::default() } else { x }),
            Self::Affine => Function::Each(|x, alpha, beta| alpha * x + beta),
            Self::LeakyRelu => Function::Each(|x, alpha, _| if x < T::default() { alpha * x } else { x }),
            Self::ThresholdedRelu => Function::Each(|x, alpha, _| if x < alpha { T::default() } else { x }),
            Self::ScaledTanh => Function::Each(|x, alpha, beta| alpha * (beta * x).tanh()),
            Self::HardSigmoid => Function::Each(|x, alpha, beta| {
                let value = alpha * x + beta;
                if value < T::default() {
                    T::default()
                } else if value > T::of(1.0) {
                    T::of(1.0)
                } else {
                    value
                }
            }),
            Self::Elu => {
                Function::Each(|x, alpha, _| if x < T::default() { alpha * (x.exp() - T::of(1.0)) } else { x })
            }
            Self::Softsign => Function::Each(|x, _, _| x / (T::of(1.0) + x.abs())),
            Self::Softplus => Function::Each(|x, _, _| {
                if x > T::default() { x + (T::of(1.0) + (-x).exp()).ln() } else { (T::of(1.0) + x.exp()).ln() }
            }),
        }
    }
}

/// The functions of a node, those of one direction after those of another.
#[derive(Debug, Clone)]
pub(super) struct Activations {
    /// Each with its two constants.
    functions: Vec<(Kind, f64, f64)>,
    clip: Option<f32>,
    /// Whether they are those of a node that says nothing.
    pub usual: bool,
    /// Whether all of them are ReLU, and nothing is cut off.
    pub rectified: bool,
}

impl Activations {
    pub fn parse(node: &RawNode, defaults: &[&str], directions: usize) -> Result<Self> {
        let usual = defaults.iter().cycle().take(defaults.len() * directions).map(|name| Kind::named(name));
        let usual: Vec<Kind> = usual.collect::<Result<_>>()?;
        let kinds = match node.attributes.texts("activations")? {
            Some(names) if names.len() == usual.len() => {
                names.iter().map(|name| Kind::named(name)).collect::<Result<_>>()?
            }
            Some(names) => {
                return Err(Error::invalid(format!("{} activations where {} were expected", names.len(), usual.len())));
            }
            None => usual.clone(),
        };
        let clip = node.attributes.float("clip")?.filter(|&clip| clip > 0.0);
        let usual = kinds == usual && clip.is_none();
        let rectified = kinds.iter().all(|kind| *kind == Kind::Relu) && clip.is_none();
        let (mut alphas, mut betas) = (constants(node, "activation_alpha")?, constants(node, "activation_beta")?);
        let functions = kinds.into_iter().map(|kind| {
            // The next of the attributes, or else what the standard says.
            let (alpha, beta) = kind.constants();
            let alpha = alpha.map_or(0.0, |default| alphas.next().unwrap_or(default));
            (kind, alpha, beta.map_or(0.0, |default| betas.next().unwrap_or(default)))
        });
        Ok(Self { functions: functions.collect(), clip, usual, rectified })
    }

    /// As functions of values of a type.
    pub fn of<T: Real>(&self) -> Vec<Activation<T>> {
        let clip = self.clip.map(|clip| T::of(clip.into()));
        let each = self.functions.iter().map(|&(kind, alpha, beta)| Activation {
            function: kind.function(),
            alpha: T::of(alpha),
            beta: T::of(beta),
            clip,
        });
        each.collect()
    }
}

fn constants(node: &RawNode, name: &str) -> Result<std::vec::IntoIter<f64>> {
    let values: Vec<f64> =
        node.attributes.floats(name)?.unwrap_or_default().iter().map(|&value| value.into()).collect();
    Ok(values.into_iter())
}
