//! `Einsum`: operands are contracted pairwise, each time as a stack of matrix products. Also `Det`.

use crate::operator::{ANY, Entry, Operator, RawNode, Schema, parsed};
use std::collections::{BTreeMap, BTreeSet};

use super::matmul::matmul;
use super::real::permuted;
use super::{Fact, Inputs, one};
use crate::array::{Rounding, offsets, strides};
use crate::{Array, DType, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(Schema::new("Einsum", &[12, 28], (1, ANY)).attributes(&["!equation"]).weights(), |node| {
        parsed(Einsum::parse(node)?)
    }),
    Entry::plain(Schema::new("Det", &[11, 22], (1, 1)), det),
];

/// A letter of the equation, or an axis that `...` stands for, counted from the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    /// An axis that `...` stands for.
    Hidden(usize),
    /// A letter.
    Letter(u8),
}

/// An array and what its axes are called.
struct Operand {
    labels: Vec<Label>,
    array: Array,
}

/// `Einsum`.
#[derive(Debug, Clone)]
pub struct Einsum {
    equation: String,
    /// What the axes of each operand are called.
    terms: Vec<String>,
    /// What those of the result are called, if the equation says so.
    result: Option<String>,
}

impl Einsum {
    fn parse(node: &RawNode) -> Result<Self> {
        let equation =
            node.attributes.text("equation")?.ok_or_else(|| Error::invalid("it has no attribute 'equation'"))?;
        let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
        let (left, right) = match equation.split_once("->") {
            Some((left, right)) => (left, Some(right.to_string())),
            None => (equation.as_str(), None),
        };
        let terms = left.split(',').map(ToString::to_string).collect();
        Ok(Self { terms, result: right, equation })
    }

    /// What the axes of operands of these ranks are called, and those of the result.
    ///
    /// # Errors
    /// When the equation does not fit them.
    pub fn labels(&self, ranks: &[usize]) -> Result<(Vec<Vec<Label>>, Vec<Label>)> {
        if self.terms.len() != ranks.len() || ranks.is_empty() {
            let (equation, wanted, found) = (&self.equation, self.terms.len(), ranks.len());
            return Err(Error::invalid(format!(
                "the equation '{equation}' is of {wanted} operands, and there are {found}"
            )));
        }
        let operands = self.terms.iter().zip(ranks).map(|(term, &rank)| labels(term, Some(rank), 0));
        let operands = operands.collect::<Result<Vec<_>>>()?;
        let hidden = |labels: &Vec<Label>| labels.iter().filter(|label| matches!(label, Label::Hidden(_))).count();
        let hidden = operands.iter().map(hidden).max().unwrap_or(0);
        let result = match &self.result {
            Some(term) => labels(term, None, hidden)?,
            None => implied(&operands, hidden),
        };
        Ok((operands, result))
    }
}

impl Operator for Einsum {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let arrays = inputs.arrays()?;
        let (labels, output) = self.labels(&arrays.iter().map(|array| array.rank()).collect::<Vec<_>>())?;
        let dtype = arrays[0].dtype();
        if arrays.iter().any(|array| array.dtype() != dtype) {
            return Err(Error::invalid("its inputs are of different types"));
        }
        let operands = labels.into_iter().zip(arrays).map(|(labels, array)| Operand { labels, array: array.clone() });
        let result = contract_all(operands.collect(), &output, wide(dtype)).map_err(|error| match error {
            Error::Invalid(message) => Error::invalid(format!("the equation '{}': {message}", self.equation)),
            other => other,
        })?;
        one(result.cast(dtype, true, Rounding::Nearest)?)
    }

    /// One multiplication for each combination of the labels of the result so far and of the next operand.
    fn work(&self, inputs: &[Fact], _outputs: &[Fact]) -> u64 {
        let Some(shapes) = inputs.iter().map(Fact::sizes).collect::<Option<Vec<_>>>() else { return 0 };
        let Ok((operands, output)) = self.labels(&shapes.iter().map(Vec::len).collect::<Vec<_>>()) else { return 0 };
        let mut sizes: BTreeMap<Label, u64> = BTreeMap::new();
        for (label, &size) in operands.iter().flatten().zip(shapes.iter().flatten()) {
            let known = sizes.entry(*label).or_default();
            *known = (*known).max(size as u64);
        }
        let mut held: BTreeSet<Label> = BTreeSet::new();
        let mut total = 0_u64;
        for (at, operand) in operands.iter().enumerate() {
            held.extend(operand);
            let products = held.iter().fold(1_u64, |products, label| products.saturating_mul(sizes[label]));
            // The first operand is multiplied by nothing, unless it is alone.
            if at > 0 || operands.len() == 1 {
                total = total.saturating_add(products);
            }
            held.retain(|label| output.contains(label) || operands[at + 1..].iter().flatten().any(|own| own == label));
        }
        total
    }
}

/// The type that sums are computed in.
fn wide(dtype: DType) -> DType {
    if dtype.is_float() && dtype.bits() < 32 { DType::F32 } else { dtype }
}

/// The labels of a term. `...` stands for as many axes as the rank leaves, or, in the output, for `hidden`.
fn labels(term: &str, rank: Option<usize>, hidden: usize) -> Result<Vec<Label>> {
    let letters = |part: &str| -> Result<Vec<Label>> {
        let letter = |c: u8| if c.is_ascii_alphabetic() { Ok(Label::Letter(c)) } else { Err(unreadable(term)) };
        part.bytes().map(letter).collect()
    };
    let (before, after, dots) = match term.split_once("...") {
        Some((before, after)) => (letters(before)?, letters(after)?, true),
        None => (letters(term)?, Vec::new(), false),
    };
    let named = before.len() + after.len();
    let count = match rank {
        Some(rank) if dots && rank >= named => rank - named,
        Some(rank) if rank != named => {
            return Err(Error::invalid(format!("the term '{term}' of the equation does not fit {rank} axes")));
        }
        None if dots => hidden,
        _ => 0,
    };
    Ok(before.into_iter().chain((0..count).rev().map(Label::Hidden)).chain(after).collect())
}

fn unreadable(term: &str) -> Error {
    Error::invalid(format!("the term '{term}' of the equation is not made of letters and '...'"))
}

/// Without `->`: what `...` stands for, then the letters that occur once, in alphabetical order.
fn implied(operands: &[Vec<Label>], hidden: usize) -> Vec<Label> {
    let mut counts: BTreeMap<u8, usize> = BTreeMap::new();
    for label in operands.iter().flatten() {
        if let Label::Letter(letter) = label {
            *counts.entry(*letter).or_default() += 1;
        }
    }
    let once = counts.into_iter().filter(|(_, count)| *count == 1).map(|(letter, _)| Label::Letter(letter));
    (0..hidden).rev().map(Label::Hidden).chain(once).collect()
}

fn contract_all(operands: Vec<Operand>, output: &[Label], dtype: DType) -> Result<Array> {
    let mut sizes: BTreeMap<Label, usize> = BTreeMap::new();
    for operand in &operands {
        for (label, &size) in operand.labels.iter().zip(operand.array.shape()) {
            let known = sizes.entry(*label).or_insert(size);
            if *known == 1 {
                *known = size;
            } else if size != 1 && size != *known {
                return Err(Error::invalid(format!("one label has the sizes {known} and {size}")));
            }
        }
    }
    let distinct: BTreeSet<Label> = output.iter().copied().collect();
    if distinct.len() != output.len() || !distinct.iter().all(|label| sizes.contains_key(label)) {
        return Err(Error::invalid("its output names a label twice, or one that no input has"));
    }
    let mut operands = operands
        .into_iter()
        .map(|operand| plain(&operand, &sizes, dtype))
        .collect::<Result<std::collections::VecDeque<_>>>()?;
    let mut result = operands.pop_front().ok_or_else(|| Error::invalid("there are no operands"))?;
    while let Some(next) = operands.pop_front() {
        let needed: BTreeSet<Label> = operands
            .iter()
            .flat_map(|operand| operand.labels.iter().copied())
            .chain(distinct.iter().copied())
            .collect();
        result = contract(result, next, &needed)?;
    }
    let result = summed(result, &distinct)?;
    let order: Option<Vec<usize>> =
        output.iter().map(|label| result.labels.iter().position(|own| own == label)).collect();
    permuted(&result.array, &order.ok_or_else(|| Error::invalid("its output names a label that no input has"))?)
}

/// An operand with each label once (repeated ones are a diagonal), and without those along which it is only repeated.
fn plain(operand: &Operand, sizes: &BTreeMap<Label, usize>, dtype: DType) -> Result<Operand> {
    let array = operand.array.cast(dtype, true, Rounding::Nearest)?;
    let (mut labels, mut shape, mut steps): (Vec<Label>, Vec<usize>, Vec<usize>) = Default::default();
    for ((label, &size), step) in operand.labels.iter().zip(array.shape()).zip(strides(array.shape())) {
        if size == 1 && sizes[label] != 1 {
            continue;
        }
        match labels.iter().position(|own| own == label) {
            Some(at) => steps[at] += step,
            None => {
                labels.push(*label);
                shape.push(size);
                steps.push(step);
            }
        }
    }
    if shape.iter().product::<usize>() == array.len() {
        return Ok(Operand { labels, array: array.reshaped(shape)? });
    }
    let indices = offsets(&shape, &steps)?;
    Ok(Operand { labels, array: array.take(shape, &indices)? })
}

/// The operand with its axes in the order of the labels.
fn ordered(operand: &Operand, labels: &[Label]) -> Result<Array> {
    let order: Vec<usize> =
        labels.iter().filter_map(|label| operand.labels.iter().position(|own| own == label)).collect();
    permuted(&operand.array, &order)
}

fn product(operand: &Operand, labels: &[Label]) -> usize {
    let size =
        |label: &Label| operand.labels.iter().position(|own| own == label).map_or(1, |at| operand.array.shape()[at]);
    labels.iter().map(size).product()
}

/// Sums over the labels that nothing needs: a product with a vector of ones.
fn summed(operand: Operand, needed: &BTreeSet<Label>) -> Result<Operand> {
    let (kept, gone): (Vec<Label>, Vec<Label>) = operand.labels.iter().partition(|label| needed.contains(label));
    if gone.is_empty() {
        return Ok(operand);
    }
    let (rows, size) = (product(&operand, &kept), product(&operand, &gone));
    let turned = ordered(&operand, &[kept.clone(), gone].concat())?;
    let shape = turned.shape()[..kept.len()].to_vec();
    let ones = Array::filled(turned.dtype(), &[size], 1.0)?;
    Ok(Operand { labels: kept, array: matmul(&turned.reshaped(vec![rows, size])?, &ones)?.reshaped(shape)? })
}

/// The product of two operands, summed over the labels that nothing else needs.
fn contract(a: Operand, b: Operand, needed: &BTreeSet<Label>) -> Result<Operand> {
    let with = |other: &Operand| needed.iter().chain(&other.labels).copied().collect::<BTreeSet<_>>();
    let (of_a, of_b) = (with(&b), with(&a));
    let (a, b) = (summed(a, &of_a)?, summed(b, &of_b)?);
    let (both, only_a): (Vec<Label>, Vec<Label>) = a.labels.iter().partition(|label| b.labels.contains(label));
    let (stack, inner): (Vec<Label>, Vec<Label>) = both.into_iter().partition(|label| needed.contains(label));
    let only_b: Vec<Label> = b.labels.iter().copied().filter(|label| !a.labels.contains(label)).collect();
    let [stacks, rows, depth, columns] =
        [product(&a, &stack), product(&a, &only_a), product(&a, &inner), product(&b, &only_b)];
    let left = ordered(&a, &[stack.clone(), only_a.clone(), inner.clone()].concat())?;
    let right = ordered(&b, &[stack.clone(), inner, only_b.clone()].concat())?;
    let shape = left.shape()[..stack.len() + only_a.len()]
        .iter()
        .chain(&right.shape()[right.rank() - only_b.len()..])
        .copied()
        .collect();
    let array = matmul(&left.reshaped(vec![stacks, rows, depth])?, &right.reshaped(vec![stacks, depth, columns])?)?;
    Ok(Operand { labels: [stack, only_a, only_b].concat(), array: array.reshaped(shape)? })
}

/// The determinant of each square matrix, by elimination.
fn det(inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let [lead @ .., rows, size] = x.shape() else {
        return Err(Error::invalid(format!("an input of shape {:?} is no matrix", x.shape())));
    };
    if rows != size {
        return Err(Error::invalid(format!("a matrix of shape [{rows}, {size}] is not square")));
    }
    let mut values = x.floats()?;
    let results = if *size == 0 {
        vec![1.0; crate::array::count(lead)?]
    } else {
        values.chunks_mut(size * size).map(|matrix| eliminate(matrix, *size)).collect()
    };
    one(Array::of_floats(x.dtype(), lead.to_vec(), results)?)
}

fn eliminate(matrix: &mut [f64], size: usize) -> f64 {
    let mut result = 1.0;
    for column in 0..size {
        if crate::limit::is_over() {
            return result;
        }
        let pivot =
            (column..size).max_by(|&a, &b| matrix[a * size + column].abs().total_cmp(&matrix[b * size + column].abs()));
        let pivot = pivot.unwrap_or(column);
        if pivot != column {
            (0..size).for_each(|at| matrix.swap(pivot * size + at, column * size + at));
            result = -result;
        }
        let head = matrix[column * size + column];
        result *= head;
        if head == 0.0 {
            return 0.0;
        }
        let (done, rest) = matrix.split_at_mut((column + 1) * size);
        let row = &done[column * size..];
        for below in rest.chunks_mut(size) {
            let factor = below[column] / head;
            below.iter_mut().zip(row).skip(column).for_each(|(v, &above)| *v -= factor * above);
        }
    }
    result
}
