//! Support vector machines.

use super::scores::{Binary, Labels, Transform, classified, greatest};
use super::{Inputs, Rows, one, sizes};
use crate::array::count;
use crate::operator::{Entry, Operator, RawNode, Schema, parsed};
use crate::{Array, Error, Result, Value};

pub(in crate::ops) const OPERATORS: &[Entry] = &[
    Entry::new(
        Schema::of("ai.onnx.ml", "SVMClassifier", &[1], (1, 1)).attributes(&[
            "classlabels_ints",
            "classlabels_strings",
            "coefficients",
            "kernel_params",
            "kernel_type",
            "post_transform",
            "prob_a",
            "prob_b",
            "rho",
            "support_vectors",
            "vectors_per_class",
        ]),
        |node| parsed(Classifier::parse(node)?),
    ),
    Entry::new(
        Schema::of("ai.onnx.ml", "SVMRegressor", &[1], (1, 1)).attributes(&[
            "coefficients",
            "kernel_params",
            "kernel_type",
            "n_supports",
            "one_class",
            "post_transform",
            "rho",
            "support_vectors",
        ]),
        |node| parsed(Regressor::parse(node)?),
    ),
];

/// How alike two observations are.
struct Kernel {
    kind: Kind,
    gamma: f64,
    constant: f64,
    degree: f64,
}

enum Kind {
    Linear,
    Poly,
    Rbf,
    Sigmoid,
}

impl Kernel {
    fn of(node: &RawNode) -> Result<Self> {
        let kind = match node.attributes.text_or("kernel_type", "LINEAR")? {
            "LINEAR" => Kind::Linear,
            "POLY" => Kind::Poly,
            "RBF" => Kind::Rbf,
            "SIGMOID" => Kind::Sigmoid,
            other => return Err(Error::invalid(format!("kernel_type is '{other}', not LINEAR, POLY, RBF or SIGMOID"))),
        };
        let given = node.attributes.floats("kernel_params")?.unwrap_or_default();
        let parameter = |i: usize| given.get(i).map_or(0.0, |&value| f64::from(value));
        Ok(Self { kind, gamma: parameter(0), constant: parameter(1), degree: parameter(2).trunc() })
    }

    fn linear() -> Self {
        Self { kind: Kind::Linear, gamma: 0.0, constant: 0.0, degree: 0.0 }
    }

    fn of_pair(&self, a: &[f64], b: &[f32]) -> f64 {
        let pairs = || a.iter().zip(b).map(|(&a, &b)| (a, f64::from(b)));
        let dot: f64 = pairs().map(|(a, b)| a * b).sum();
        match self.kind {
            Kind::Linear => dot,
            Kind::Poly => (self.gamma * dot + self.constant).powf(self.degree),
            Kind::Sigmoid => (self.gamma * dot + self.constant).tanh(),
            Kind::Rbf => (-self.gamma * pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>()).exp(),
        }
    }
}

fn misfit() -> Error {
    Error::invalid("its vectors, coefficients and observations do not fit together")
}

fn list(node: &RawNode, name: &str) -> Result<Vec<f32>> {
    Ok(node.attributes.floats(name)?.unwrap_or_default().to_vec())
}

/// `SVMRegressor`.
struct Regressor {
    kernel: Kernel,
    supports: usize,
    coefficients: Vec<f32>,
    vectors: Vec<f32>,
    rho: f64,
    one_class: bool,
    transform: Transform,
}

impl Regressor {
    fn parse(node: &RawNode) -> Result<Self> {
        let supports = usize::try_from(node.attributes.int_or("n_supports", 0)?).map_err(|_| misfit())?;
        Ok(Self {
            kernel: if supports > 0 { Kernel::of(node)? } else { Kernel::linear() },
            supports,
            coefficients: list(node, "coefficients")?,
            vectors: list(node, "support_vectors")?,
            rho: node.attributes.floats("rho")?.and_then(|rho| rho.first()).map_or(0.0, |&rho| f64::from(rho)),
            one_class: node.attributes.flag("one_class", false)?,
            transform: Transform::of(node)?,
        })
    }
}

impl Operator for Regressor {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let x = Rows::new(inputs.array(0)?)?;
        let Self { kernel, supports, coefficients, vectors, .. } = self;
        let fits = if *supports > 0 {
            supports.checked_mul(x.columns) == Some(vectors.len()) && coefficients.len() == *supports
        } else {
            coefficients.len() == x.columns
        };
        if !fits {
            return Err(misfit());
        }
        let score = |row: &[f64]| {
            let sum = if *supports > 0 {
                let vector = |i: usize| &vectors[i * x.columns..(i + 1) * x.columns];
                (0..*supports).map(|i| f64::from(coefficients[i]) * kernel.of_pair(row, vector(i))).sum()
            } else {
                kernel.of_pair(row, coefficients)
            };
            let score: f64 = sum + self.rho;
            if self.one_class { if score > 0.0 { 1.0 } else { -1.0 } } else { score }
        };
        let mut scores: Vec<f64> = x.iter().map(score).collect();
        scores.chunks_mut(1).for_each(|score| self.transform.apply(score));
        one(Array::new(vec![x.rows, 1], scores.into_iter().map(|score| score as f32).collect())?)
    }
}

/// A machine for each pair of classes, and what it votes.
struct Pairs<'n> {
    kernel: &'n Kernel,
    vectors: &'n [f32],
    coefficients: &'n [f32],
    rho: &'n [f32],
    /// Where the vectors of each class begin, and how many there are.
    classes: &'n [(usize, usize)],
    total: usize,
    columns: usize,
}

impl Pairs<'_> {
    /// Votes by class, and the score of each pair.
    fn vote(&self, row: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let alike: Vec<f64> = (0..self.total)
            .map(|i| self.kernel.of_pair(row, &self.vectors[i * self.columns..(i + 1) * self.columns]))
            .collect();
        let sum = |line: usize, (start, length): (usize, usize)| -> f64 {
            let by = &self.coefficients[line * self.total..];
            (start..start + length).map(|i| f64::from(by[i]) * alike[i]).sum()
        };
        let (mut votes, mut scores) = (vec![0.0; self.classes.len()], Vec::new());
        for i in 0..self.classes.len() {
            for j in i + 1..self.classes.len() {
                let score = f64::from(self.rho[scores.len()]) + sum(j - 1, self.classes[i]) + sum(i, self.classes[j]);
                votes[if score > 0.0 { i } else { j }] += 1.0;
                scores.push(score);
            }
        }
        (votes, scores)
    }
}

/// `SVMClassifier`.
struct Classifier {
    kernel: Kernel,
    labels: Labels,
    coefficients: Vec<f32>,
    vectors: Vec<f32>,
    rho: Vec<f32>,
    prob_a: Vec<f32>,
    prob_b: Vec<f32>,
    transform: Transform,
    /// Where the vectors of each class begin, and how many there are.
    classes: Vec<(usize, usize)>,
    /// Vectors of all classes; none for a linear model.
    total: usize,
}

impl Classifier {
    fn parse(node: &RawNode) -> Result<Self> {
        let mut total = 0_usize;
        let mut classes = Vec::new();
        for length in sizes(node.attributes.ints("vectors_per_class")?.unwrap_or_default())? {
            classes.push((total, length));
            total = total.checked_add(length).ok_or_else(misfit)?;
        }
        Ok(Self {
            kernel: if total > 0 { Kernel::of(node)? } else { Kernel::linear() },
            labels: Labels::of(node, "classlabels_ints", "classlabels_strings")?,
            coefficients: list(node, "coefficients")?,
            vectors: list(node, "support_vectors")?,
            rho: list(node, "rho")?,
            prob_a: list(node, "prob_a")?,
            prob_b: list(node, "prob_b")?,
            transform: Transform::of(node)?,
            classes,
            total,
        })
    }

    /// A row of coefficients for each class.
    fn linear(&self, x: &Rows) -> Result<Vec<Value>> {
        let targets = self.labels.len();
        if targets.checked_mul(x.columns) != Some(self.coefficients.len()) || self.rho.is_empty() {
            return Err(misfit());
        }
        let (mut chosen, mut all) = (Vec::new(), Vec::new());
        for row in x.iter() {
            let lines = (0..targets).map(|i| &self.coefficients[i * x.columns..(i + 1) * x.columns]);
            let mut scores: Vec<f64> =
                lines.map(|line| f64::from(self.rho[0]) + self.kernel.of_pair(row, line)).collect();
            chosen.push(greatest(&scores));
            self.transform.apply(&mut scores);
            all.push(scores);
        }
        classified(&self.labels, &chosen, all, targets)
    }
}

impl Operator for Classifier {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let x = Rows::new(inputs.array(0)?)?;
        let Self { coefficients, vectors, rho, prob_a, prob_b, classes, transform, total, .. } = self;
        if *total == 0 {
            return self.linear(&x);
        }
        let pairs = classes.len() * classes.len().saturating_sub(1) / 2;
        let lines = classes.len().saturating_sub(1);
        count(&[classes.len(), classes.len()])?;
        let fits = total.checked_mul(x.columns) == Some(vectors.len())
            && lines.checked_mul(*total).is_some_and(|needed| needed <= coefficients.len())
            && rho.len() >= pairs
            && (prob_a.is_empty() || prob_a.len() >= pairs && prob_b.len() >= pairs)
            && classes.len() > 1;
        if !fits {
            return Err(misfit());
        }
        let kernel = &self.kernel;
        let machine = Pairs { kernel, vectors, coefficients, rho, classes, total: *total, columns: x.columns };
        let (mut chosen, mut all, mut width) = (Vec::new(), Vec::new(), pairs);
        for row in x.iter() {
            let (votes, mut scores) = machine.vote(row);
            if !prob_a.is_empty() {
                scores = probabilities(&scores, prob_a, prob_b, classes.len());
                transform.apply(&mut scores);
            } else if let [score] = scores[..] {
                // The pair's score speaks for its first class.
                let kind = if *transform == Transform::None { Binary::Margin } else { Binary::Probability };
                scores = kind.decide(score, *transform).1;
            } else {
                transform.apply(&mut scores);
            }
            width = scores.len();
            chosen.push(greatest(&votes));
            all.push(scores);
        }
        classified(&self.labels, &chosen, all, width)
    }
}

/// Probabilities of the classes from those of the pairs: the method of Wu, Lin and Weng that libsvm uses.
fn probabilities(scores: &[f64], prob_a: &[f32], prob_b: &[f32], classes: usize) -> Vec<f64> {
    let mut pair = vec![vec![0.0; classes]; classes];
    let pairs = (0..classes).flat_map(|i| (i + 1..classes).map(move |j| (i, j)));
    for (index, (i, j)) in pairs.enumerate() {
        let value = super::scores::logistic(-(scores[index] * f64::from(prob_a[index]) + f64::from(prob_b[index])));
        pair[i][j] = value.clamp(1e-7, 1.0 - 1e-7);
        pair[j][i] = 1.0 - pair[i][j];
    }
    let entry = |t: usize, j: usize| {
        if t == j {
            (0..classes).filter(|&i| i != t).map(|i| pair[i][t] * pair[i][t]).sum()
        } else {
            -pair[j][t] * pair[t][j]
        }
    };
    let q: Vec<Vec<f64>> = (0..classes).map(|t| (0..classes).map(|j| entry(t, j)).collect()).collect();
    let mut p = vec![1.0 / classes as f64; classes];
    for _ in 0..classes.max(100) {
        let mut qp: Vec<f64> = q.iter().map(|row| row.iter().zip(&p).map(|(q, p)| q * p).sum()).collect();
        let mut pqp: f64 = p.iter().zip(&qp).map(|(p, qp)| p * qp).sum();
        if qp.iter().all(|qp| (qp - pqp).abs() < 0.005 / classes as f64) {
            break;
        }
        for t in 0..classes {
            let step = (pqp - qp[t]) / q[t][t];
            p[t] += step;
            pqp = (pqp + step * (step * q[t][t] + 2.0 * qp[t])) / (1.0 + step) / (1.0 + step);
            for j in 0..classes {
                qp[j] = (qp[j] + step * q[t][j]) / (1.0 + step);
                p[j] /= 1.0 + step;
            }
        }
    }
    p
}
