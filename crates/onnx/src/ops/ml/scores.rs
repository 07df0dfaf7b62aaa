//! What classifiers and regressors make of their raw scores.

use crate::array::count;
use crate::operator::RawNode;
use crate::{Array, Error, Result, Value};

/// What is done to the scores of an observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transform {
    None,
    Softmax,
    Logistic,
    /// Softmax in which a score of zero stays zero.
    SoftmaxZero,
    Probit,
}

impl Transform {
    pub fn of(node: &RawNode) -> Result<Self> {
        Ok(match node.attributes.text_or("post_transform", "NONE")? {
            "NONE" => Self::None,
            "SOFTMAX" => Self::Softmax,
            "LOGISTIC" => Self::Logistic,
            "SOFTMAX_ZERO" => Self::SoftmaxZero,
            "PROBIT" => Self::Probit,
            other => return Err(Error::invalid(format!("post_transform is '{other}', which is unknown"))),
        })
    }

    pub fn apply(self, scores: &mut [f64]) {
        match self {
            Self::None => {}
            Self::Logistic => scores.iter_mut().for_each(|score| *score = logistic(*score)),
            Self::Probit => scores.iter_mut().for_each(|score| *score = probit(*score)),
            Self::Softmax | Self::SoftmaxZero => {
                let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let zero = |score: f64| self == Self::SoftmaxZero && score.abs() <= 1e-7;
                scores.iter_mut().for_each(|score| {
                    *score = if zero(*score) { *score * (-greatest).exp() } else { (*score - greatest).exp() }
                });
                let sum: f64 = scores.iter().sum();
                scores.iter_mut().for_each(|score| *score = if sum == 0.0 { 0.5 } else { *score / sum });
            }
        }
    }
}

pub(super) fn logistic(value: f64) -> f64 {
    1.0 / (1.0 + (-value).exp())
}

fn probit(value: f64) -> f64 {
    // The inverse of the error function by Winitzki's approximation, as the reference has it.
    let x = value * 2.0 - 1.0;
    let log = ((1.0 - x) * (1.0 + x)).ln();
    let v = 2.0 / (std::f64::consts::PI * 0.147) + 0.5 * log;
    let root = (-v + (v * v - log / 0.147).sqrt()).sqrt();
    std::f64::consts::SQRT_2 * if x < 0.0 { -root } else { root }
}

/// The names of the classes.
pub(super) enum Labels {
    Ints(Vec<i64>),
    Texts(Vec<String>),
}

impl Labels {
    /// Reads them from the attribute of integers or that of texts.
    pub fn of(node: &RawNode, ints: &str, texts: &str) -> Result<Self> {
        match (node.attributes.texts(texts)?, node.attributes.ints(ints)?) {
            (Some(texts), _) if !texts.is_empty() => Ok(Self::Texts(texts)),
            (_, Some(ints)) if !ints.is_empty() => Ok(Self::Ints(ints.to_vec())),
            _ => Err(Error::invalid(format!("it needs {ints} or {texts}"))),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Ints(labels) => labels.len(),
            Self::Texts(labels) => labels.len(),
        }
    }

    /// The names of chosen classes; of a single one, the other is 0 or the empty text.
    fn array(&self, chosen: &[usize]) -> Array {
        fn pick<T: Clone + Default>(labels: &[T], chosen: &[usize]) -> Vec<T> {
            let one = |&class: &usize| match labels {
                [only] => {
                    if class > 0 {
                        only.clone()
                    } else {
                        T::default()
                    }
                }
                labels => labels.get(class).cloned().unwrap_or_default(),
            };
            chosen.iter().map(one).collect()
        }
        match self {
            Self::Ints(labels) => Array::vector(pick(labels, chosen)),
            Self::Texts(labels) => Array::vector(pick(labels, chosen)),
        }
    }
}

/// How a classifier with a single score for two classes decides, and what its two scores are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    /// The score is a probability: the other class has the rest of 1.
    Probability,
    /// The score is a margin: the other class has the opposite.
    Margin,
}

impl Binary {
    /// Votes that are never negative are probabilities.
    pub fn of_weights(weights: &[f32]) -> Self {
        if weights.iter().all(|&weight| weight >= 0.0) { Self::Probability } else { Self::Margin }
    }

    /// The class, and the scores of both classes.
    pub fn decide(self, score: f64, transform: Transform) -> (usize, Vec<f64>) {
        let class = usize::from(score > if self == Self::Probability { 0.5 } else { 0.0 });
        let scores = match (self, transform) {
            (_, Transform::Probit) => vec![probit(1.0 - score), probit(score)],
            (_, Transform::Logistic) => vec![logistic(-score), logistic(score)],
            // As in ONNX Runtime, softmax is for more than one score.
            (Self::Probability, _) => vec![1.0 - score, score],
            (Self::Margin, _) => vec![-score, score],
        };
        (class, scores)
    }
}

/// The position of the greatest score; the first of equal ones.
pub(super) fn greatest(scores: &[f64]) -> usize {
    (1..scores.len()).fold(0, |best, i| if scores[i] > scores[best] { i } else { best })
}

/// The two outputs of a classifier: the labels, and the scores as 32-bit floats.
pub(super) fn classified(labels: &Labels, chosen: &[usize], scores: Vec<Vec<f64>>, width: usize) -> Result<Vec<Value>> {
    let shape = vec![chosen.len(), width];
    count(&shape)?;
    let scores = Array::new(shape, scores.into_iter().flatten().map(|score| score as f32).collect())?;
    Ok(vec![labels.array(chosen).into(), scores.into()])
}
