//! Linear models.

use super::scores::{Binary, Labels, Transform, classified, greatest};
use super::{Rows, one};
use crate::array::count;
use crate::operator::{Entry, Parsed, RawNode, Schema, eval};
use crate::{Array, Error, Result};

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
        classify,
    ),
    Entry::new(
        Schema::of("ai.onnx.ml", "LinearRegressor", &[1], (1, 1)).attributes(&[
            "coefficients",
            "intercepts",
            "post_transform",
            "targets",
        ]),
        regress,
    ),
];

/// The rows of coefficients.
struct Linear {
    coefficients: Vec<f32>,
    intercepts: Vec<f32>,
    /// How many rows there are; as many as the coefficients fill where nothing is said.
    targets: Option<usize>,
    transform: Transform,
}

impl Linear {
    fn parse(node: &RawNode, targets: Option<usize>) -> Result<Self> {
        let list = |name: &str| Ok::<_, Error>(node.attributes.floats(name)?.unwrap_or_default().to_vec());
        let transform = Transform::of(node)?;
        Ok(Self { coefficients: list("coefficients")?, intercepts: list("intercepts")?, targets, transform })
    }

    /// For each observation, a score for each row of coefficients.
    fn scores(&self, x: &Rows) -> Result<(usize, Vec<Vec<f64>>)> {
        let Self { coefficients, intercepts, .. } = self;
        let targets = self.targets.unwrap_or_else(|| coefficients.len() / x.columns.max(1));
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
}

fn classify(node: &RawNode) -> Parsed {
    let labels = Labels::of(node, "classlabels_ints", "classlabels_strings")?;
    let linear = Linear::parse(node, None)?;
    eval(move |inputs| {
        let x = Rows::new(inputs.array(0)?)?;
        let (targets, mut scores) = linear.scores(&x)?;
        let both = targets == 1 && labels.len() == 2;
        let mut chosen = Vec::with_capacity(scores.len());
        for scores in &mut scores {
            if let ([score], true) = (scores.as_slice(), both) {
                let score = *score;
                chosen.push(usize::from(score > 0.0));
                *scores = Binary::Probability.decide(score, linear.transform).1;
                continue;
            }
            chosen.push(if let [score] = scores[..] { usize::from(score > 0.0) } else { greatest(scores) });
            linear.transform.apply(scores);
        }
        classified(&labels, &chosen, scores, if both { 2 } else { targets })
    })
}

fn regress(node: &RawNode) -> Parsed {
    let targets = usize::try_from(node.attributes.int_or("targets", 1)?)
        .map_err(|_| Error::invalid("attribute 'targets' is negative"))?;
    let linear = Linear::parse(node, Some(targets))?;
    eval(move |inputs| {
        let x = Rows::new(inputs.array(0)?)?;
        let (targets, mut scores) = linear.scores(&x)?;
        scores.iter_mut().for_each(|scores| linear.transform.apply(scores));
        one(Array::new(vec![x.rows, targets], scores.into_iter().flatten().map(|score| score as f32).collect())?)
    })
}
