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

/// The functions of a node, those of one direction after those of another.
pub(super) fn activations<T: Real>(node: &RawNode, defaults: &[&str], directions: usize) -> Result<Vec<Activation<T>>> {
    let names = match node.attributes.texts("activations")? {
        Some(names) if names.len() == defaults.len() * directions => names,
        Some(names) => {
            let message = format!("{} activations where {} were expected", names.len(), defaults.len() * directions);
            return Err(Error::invalid(message));
        }
        None => defaults.iter().cycle().take(defaults.len() * directions).map(ToString::to_string).collect(),
    };
    let clip = node.attributes.float("clip")?.filter(|&clip| clip > 0.0).map(|clip| T::of(clip.into()));
    let (mut alphas, mut betas) = (constants(node, "activation_alpha")?, constants(node, "activation_beta")?);
    let functions = names.into_iter().map(|name| {
        let zero = T::default();
        // The function, and its constants where it has them: the next of the attributes, or else these.
        let (function, alpha, beta): (Function<T>, Option<f64>, Option<f64>) = match name.to_ascii_lowercase().as_str()
        {
            "sigmoid" => (Function::All(T::sigmoids), None, None),
            "tanh" => (Function::All(T::tanhs), None, None),
            "relu" => (Function::Each(|x, _, _| if x < T::default() { T::default() } else { x }), None, None),
            "affine" => (Function::Each(|x, alpha, beta| alpha * x + beta), Some(1.0), Some(0.0)),
            "leakyrelu" => {
                (Function::Each(|x, alpha, _| if x < T::default() { alpha * x } else { x }), Some(0.01), None)
            }
            "thresholdedrelu" => {
                (Function::Each(|x, alpha, _| if x < alpha { T::default() } else { x }), Some(1.0), None)
            }
            "scaledtanh" => (Function::Each(|x, alpha, beta| alpha * (beta * x).tanh()), Some(1.0), Some(1.0)),
            "hardsigmoid" => (
                Function::Each(|x, alpha, beta| {
                    let value = alpha * x + beta;
                    if value < T::default() {
                        T::default()
                    } else if value > T::of(1.0) {
                        T::of(1.0)
                    } else {
                        value
                    }
                }),
                Some(0.2),
                Some(0.5),
            ),
            "elu" => (
                Function::Each(|x, alpha, _| if x < T::default() { alpha * (x.exp() - T::of(1.0)) } else { x }),
                Some(1.0),
                None,
            ),
            "softsign" => (Function::Each(|x, _, _| x / (T::of(1.0) + x.abs())), None, None),
            "softplus" => {
                let softplus = |x: T, _, _| {
                    if x > T::default() { x + (T::of(1.0) + (-x).exp()).ln() } else { (T::of(1.0) + x.exp()).ln() }
                };
                (Function::Each(softplus), None, None)
            }
            _ => return Err(Error::invalid(format!("the activation '{name}' is unknown"))),
        };
        let alpha = alpha.map_or(zero, |default| T::of(alphas.next().unwrap_or(default)));
        let beta = beta.map_or(zero, |default| T::of(betas.next().unwrap_or(default)));
        Ok(Activation { function, alpha, beta, clip })
    });
    functions.collect()
}

fn constants(node: &RawNode, name: &str) -> Result<std::vec::IntoIter<f64>> {
    let values: Vec<f64> =
        node.attributes.floats(name)?.unwrap_or_default().iter().map(|&value| value.into()).collect();
    Ok(values.into_iter())
}
