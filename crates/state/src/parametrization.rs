//! Weights that PyTorch computes from other parameters before each use: weight normalization and spectral normalization, in the
//! old form (`weight_g` and `weight_v`; `weight_orig`, `weight_u` and `weight_v`) and that of `torch.nn.utils.parametrizations`.

use std::collections::HashMap;

use crate::{Error, Result, Tensor};

/// How a weight is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Norm {
    /// `g · v / ‖v‖`, the norm for each index of one axis or of the whole.
    Weight,
    /// `w / σ`, with `σ = uᵀ w v` for the singular vectors of the last training step, as in evaluation.
    Spectral,
}

/// A weight that is made of tensors at some places of a list.
#[derive(Debug)]
pub(crate) struct Made {
    /// The weight's name: `fc.weight`.
    pub name: String,
    pub norm: Norm,
    /// Places of the magnitude and the direction, or of the weight, u and v.
    pub places: Vec<usize>,
}

/// Ends of names, in the order of [`Made::places`], and how they follow the weight's name. In the new form the weight is
/// `LAYER.parametrizations.WEIGHT.original0`.
const FORMS: [(Norm, bool, &[&str]); 4] = [
    (Norm::Spectral, false, &["_orig", "_u", "_v"]),
    (Norm::Weight, false, &["_g", "_v"]),
    (Norm::Spectral, true, &[".original", ".0._u", ".0._v"]),
    (Norm::Weight, true, &[".original0", ".original1"]),
];

/// The weights that a list of tensors holds in parts.
pub(crate) fn find(entries: &[(String, Tensor)]) -> Vec<Made> {
    let by_name: HashMap<&str, usize> = entries.iter().enumerate().map(|(at, (name, _))| (name.as_str(), at)).collect();
    let mut found = Vec::new();
    for (name, _) in entries {
        for (norm, new, ends) in FORMS {
            let Some(base) = name.strip_suffix(ends[0]) else { continue };
            let places = ends.iter().map(|end| by_name.get(format!("{base}{end}").as_str()).copied());
            let Some(places) = places.collect::<Option<Vec<usize>>>() else { continue };
            let whole = match new {
                false => Some(base.to_string()),
                true => base.rsplit_once("parametrizations.").map(|(layer, weight)| format!("{layer}{weight}")),
            };
            if let Some(name) = whole.filter(|name| !name.is_empty() && !name.ends_with('.')) {
                found.push(Made { name, norm, places });
                break;
            }
        }
    }
    found
}

impl Made {
    /// The weight, as PyTorch has it in evaluation.
    ///
    /// # Errors
    /// When the parts cannot be read or do not fit each other.
    pub fn weight(&self, entries: &[(String, Tensor)]) -> Result<Tensor> {
        let part = |at: usize| &entries[self.places[at]].1;
        let made = match self.norm {
            Norm::Weight => weight_norm(part(0), part(1)),
            Norm::Spectral => spectral_norm(part(0), part(1), part(2)),
        };
        made.map_err(|error| error.within(format!("the normalized weight '{}'", self.name)))
    }
}

fn weight_norm(magnitude: &Tensor, direction: &Tensor) -> Result<Tensor> {
    let shape = direction.shape();
    let (g, mut v) = (magnitude.to_f64()?, direction.to_f64()?);
    // The axis that has a magnitude for each index; none when there is one for all.
    let axis = magnitude.shape().iter().position(|&size| size > 1);
    let fits = match axis {
        Some(axis) => shape.len() == magnitude.shape().len() && shape[axis] == g.len() as u64,
        None => g.len() == 1,
    };
    if !fits {
        return Err(misfit("magnitude", magnitude, direction));
    }
    let inner: usize = axis.map_or(v.len(), |axis| shape[axis + 1..].iter().product::<u64>() as usize);
    let index = |at: usize| if axis.is_some() { at / inner.max(1) % g.len() } else { 0 };
    let mut norms = vec![0.0; g.len()];
    v.iter().enumerate().for_each(|(at, value)| norms[index(at)] += value * value);
    v.iter_mut().enumerate().for_each(|(at, value)| *value *= g[index(at)] / norms[index(at)].sqrt());
    in_f32(direction, &v)
}

fn spectral_norm(weight: &Tensor, left: &Tensor, right: &Tensor) -> Result<Tensor> {
    let shape: Vec<usize> = weight.shape().iter().map(|&axis| axis as usize).collect();
    let (mut w, u, v) = (weight.to_f64()?, left.to_f64()?, right.to_f64()?);
    // Rows are the first axis, the second for transposed convolutions; where both would do, the one that u and v belong to.
    let sigma = (0..shape.len().min(2))
        .filter(|&axis| shape[axis] == u.len() && shape[axis] * v.len() == w.len())
        .map(|axis| {
            let inner: usize = shape[axis + 1..].iter().product();
            let outer = inner * shape[axis];
            let term = |(at, value): (usize, &f64)| {
                let row = at / inner.max(1) % shape[axis];
                let column = at / outer.max(1) * inner + at % inner.max(1);
                u[row] * value * v[column]
            };
            w.iter().enumerate().map(term).sum::<f64>()
        })
        .max_by(|a, b| a.abs().total_cmp(&b.abs()));
    let Some(sigma) = sigma else { return Err(misfit("singular vector", left, weight)) };
    w.iter_mut().for_each(|value| *value /= sigma);
    in_f32(weight, &w)
}

fn in_f32(like: &Tensor, values: &[f64]) -> Result<Tensor> {
    let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    Tensor::from_f32(like.shape(), &values)?.cast(like.dtype())
}

fn misfit(what: &str, part: &Tensor, weight: &Tensor) -> Error {
    let message = format!(
        "a {what} of shape {} for one of shape {}",
        crate::show_shape(part.shape()),
        crate::show_shape(weight.shape())
    );
    Error::new(crate::ErrorKind::Mismatch, message)
}
