//! Linear models.

use super::super::later;
use super::scores::{Binary, Labels, Transform, classified, greatest};
use super::{Inputs, Rows, one};
use crate::array::count;
use crate::operator::{Entry, RawNode, Schema};
use crate::{Array, Error, Result, Value};

pub(in crate::ops) const OPERATORS: &[Entry] = &[
    Entry::new(
        Schema::of("ai.onnx.ml", "LinearClassifier", &[1], (1, 1)).attributes(&[
            "classlabels_ints",
            "classlabels_strings",
            "!coefficients",
            "intercepts",
            "multi_class",
            "post_transform",
        ]),
        |node| later(node, classify),
    ),
    Entry::new(
        Schema::of("ai.onnx.ml", "LinearRegressor", &[1], (1, 1)).attributes(&[
            "coefficients",
            "intercepts",
            "post_transform",
            "targets",
        ]),
        |node| later(node, regress),
    ),
];

/// For each observation, a score for each row of coefficients.
fn scores(node: &RawNode, x: &Rows, targets: Option<usize>) -> Result<(usize, Vec<Vec<f64>>)> {
    let coefficients = node.attributes.floats("coefficients")?.unwrap_or_default();
    let intercepts = node.attributes.floats("intercepts")?.unwrap_or_default();
    let targets = targets.unwrap_or_else(|| coefficients.len() / x.columns.max(1));
    let fits = targets > 0
        && targets.checked_mul(x.columns) == Some(coefficients.len())
        && (intercepts.is_empty() || intercepts.len() == targets);
    if !fits {
        let found = format!("{} coefficients and {} intercepts", coefficients.len(), intercepts.len());
        return Err(Error::invalid(format!("{found} do not fit observations of {} values", x.columns)));
    }
    count(&[x.rows, targets])?;
    let score = |row: &[f64], target: usize| {
        let by = coefficients[target * x.columns..].iter().map(|&by| f64::from(by));
        row.iter().zip(by).map(|(value, by)| value * by).sum::<f64>()
            + intercepts.get(target).map_or(0.0, |&add| f64::from(add))
    };
    Ok((targets, x.iter().map(|row| (0..targets).map(|target| score(row, target)).collect()).collect()))
}

fn classify(node: &RawNode, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = Rows::new(inputs.array(0)?)?;
    let labels = Labels::of(node, "classlabels_ints", "classlabels_strings")?;
    let transform = Transform::of(node)?;
    let (targets, mut scores) = scores(node, &x, None)?;
    let both = targets == 1 && labels.len() == 2;
    let mut chosen = Vec::with_capacity(scores.len());
    for scores in &mut scores {
        if let ([score], true) = (scores.as_slice(), both) {
            let score = *score;
            chosen.push(usize::from(score > 0.0));
            *scores = Binary::Probability.decide(score, transform).1;
            continue;
        }
        chosen.push(if let [score] = scores[..] { usize::from(score > 0.0) } else { greatest(scores) });
        transform.apply(scores);
    }
    classified(&labels, &chosen, scores, if both { 2 } else { targets })
}

fn regress(node: &RawNode, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = Rows::new(inputs.array(0)?)?;
    let targets = usize::try_from(node.attributes.int_or("targets", 1)?)
        .map_err(|_| Error::invalid("attribute 'targets' is negative"))?;
    let transform = Transform::of(node)?;
    let (targets, mut scores) = scores(node, &x, Some(targets))?;
    scores.iter_mut().for_each(|scores| transform.apply(scores));
    one(Array::new(vec![x.rows, targets], scores.into_iter().flatten().map(|score| score as f32).collect())?)
}
