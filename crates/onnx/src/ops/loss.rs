//! Losses of class scores against class numbers.

use super::softmax::{log_softmax, rows};
use super::{Inputs, one};
use crate::operator::{Entry, Parsed, RawNode, Schema, eval};
use crate::{Array, Error, Result};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(
        Schema::new("NegativeLogLikelihoodLoss", &[12, 13, 22], (2, 3)).attributes(&["ignore_index", "reduction"]),
        negative_log_likelihood,
    ),
    Entry::new(
        Schema::new("SoftmaxCrossEntropyLoss", &[12, 13], (2, 3)).attributes(&["ignore_index", "reduction"]),
        softmax_cross_entropy,
    ),
];

fn negative_log_likelihood(node: &RawNode) -> Parsed {
    let loss = Loss::parse(node)?;
    eval(move |inputs| {
        let scores = inputs.array(0)?;
        one(loss.of(inputs, scores, &scores.floats()?)?)
    })
}

fn softmax_cross_entropy(node: &RawNode) -> Parsed {
    let loss = Loss::parse(node)?;
    eval(move |inputs| {
        let scores = inputs.array(0)?;
        let (_, classes, inner) = layout(scores)?;
        let logs = rows(scores.floats()?, classes, inner, log_softmax);
        let result = loss.of(inputs, scores, &logs)?;
        Ok(vec![result.into(), Array::of_floats(scores.dtype(), scores.shape().to_vec(), logs)?.into()])
    })
}

/// What becomes of the losses of all samples.
#[derive(Clone, Copy)]
enum Reduction {
    None,
    Sum,
    Mean,
}

/// How losses are counted.
struct Loss {
    /// Targets of this class count nothing.
    ignored: Option<i64>,
    reduction: Reduction,
}

/// Samples, classes, places of each sample.
fn layout(scores: &Array) -> Result<(usize, usize, usize)> {
    match scores.shape() {
        [samples, classes, rest @ ..] => Ok((*samples, *classes, rest.iter().product())),
        shape => Err(Error::invalid(format!("scores of shape {shape:?} have no axis of classes"))),
    }
}

impl Loss {
    fn parse(node: &RawNode) -> Result<Self> {
        let reduction = match node.attributes.text_or("reduction", "mean")? {
            "none" => Reduction::None,
            "sum" => Reduction::Sum,
            "mean" => Reduction::Mean,
            other => {
                return Err(Error::invalid(format!("attribute 'reduction' is '{other}', not 'none', 'sum' or 'mean'")));
            }
        };
        Ok(Self { ignored: node.attributes.int("ignore_index")?, reduction })
    }

    /// The loss from the logarithms of probabilities, in the type of the scores.
    fn of(&self, inputs: &Inputs<'_>, scores: &Array, logs: &[f64]) -> Result<Array> {
        let (samples, classes, inner) = layout(scores)?;
        let target = inputs.array(1)?;
        let expected = [&scores.shape()[..1], &scores.shape()[2..]].concat();
        if target.shape() != expected {
            return Err(Error::invalid(format!(
                "a target of shape {:?} does not fit scores of shape {:?}",
                target.shape(),
                scores.shape()
            )));
        }
        let weights = inputs.optional(2)?.map(Array::floats).transpose()?;
        if let Some(weights) = weights.as_ref().filter(|weights| weights.len() != classes) {
            return Err(Error::invalid(format!("{} weights do not fit {classes} classes", weights.len())));
        }
        let mut losses = Vec::with_capacity(samples * inner);
        let mut total = 0.0;
        for (i, class) in target.int64s()?.into_iter().enumerate() {
            if Some(class) == self.ignored {
                losses.push(0.0);
                continue;
            }
            let found = usize::try_from(class).ok().filter(|&class| class < classes);
            let found =
                found.ok_or_else(|| Error::invalid(format!("the target {class} is none of {classes} classes")))?;
            let weight = weights.as_ref().map_or(1.0, |weights| weights[found]);
            losses.push(-weight * logs[(i / inner * classes + found) * inner + i % inner]);
            total += weight;
        }
        let sum = || losses.iter().sum::<f64>();
        match self.reduction {
            Reduction::None => Array::of_floats(scores.dtype(), expected, losses),
            Reduction::Sum => Array::of_floats(scores.dtype(), Vec::new(), vec![sum()]),
            Reduction::Mean => Array::of_floats(scores.dtype(), Vec::new(), vec![sum() / total]),
        }
    }
}
