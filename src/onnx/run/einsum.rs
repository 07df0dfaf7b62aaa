//! `Einsum`: operands are contracted pairwise, each time as a stack of matrix products.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use rekindle_onnx::ops::{Einsum, Label};

use super::call::{Call, DeviceOp, Outputs};
use super::shape::permuted;
use super::tensor::DeviceTensor;

pub(super) fn find(operator: &str) -> Option<DeviceOp> {
    (operator == "Einsum").then_some(einsum)
}

/// A tensor and what its axes are called, each differently.
struct Operand {
    labels: Vec<Label>,
    values: DeviceTensor,
}

impl Operand {
    fn size(&self, label: Label) -> usize {
        self.labels.iter().position(|own| *own == label).map_or(1, |at| self.values.shape()[at])
    }

    fn sizes(&self, labels: &[Label]) -> usize {
        labels.iter().map(|&label| self.size(label)).product()
    }

    /// With its axes in the order of the labels, which are its own; `None` where they are too many for the device.
    fn ordered(self, labels: &[Label]) -> Option<DeviceTensor> {
        let order: Option<Vec<usize>> =
            labels.iter().map(|label| self.labels.iter().position(|own| own == label)).collect();
        let (order, shape) = (order?, self.values.shape().to_vec());
        let out = order.iter().map(|&at| shape[at]).collect();
        if order.iter().copied().eq(0..order.len()) {
            return Some(self.values);
        }
        permuted(self.values, &shape, &order, out)
    }

    /// Summed over the axes that nothing needs.
    fn summed(self, needed: impl Fn(Label) -> bool) -> Option<Self> {
        let (kept, gone): (Vec<Label>, Vec<Label>) = self.labels.iter().partition(|label| needed(**label));
        if gone.is_empty() {
            return Some(self);
        }
        let (rows, size) = (self.sizes(&kept), self.sizes(&gone));
        let shape = kept.iter().map(|&label| self.size(label)).collect();
        let all = [kept.clone(), gone].concat();
        let values = self.ordered(&all)?;
        let dtype = values.dtype();
        let sums = values.view::<2>([rows, size]).sum_dim(1);
        Some(Self { labels: kept, values: DeviceTensor::new(sums, shape, dtype) })
    }
}

/// Each label once an operand, and of one size wherever it is.
fn einsum(call: &mut Call<'_, '_>) -> Outputs {
    let Some(op) = call.node.get::<Einsum>() else { return Ok(None) };
    let shapes: Option<Vec<Vec<usize>>> = (0..call.len()).map(|position| call.shape(position)).collect();
    let Some(shapes) = shapes else { return Ok(None) };
    let (labels, result) = op.labels(&shapes.iter().map(Vec::len).collect::<Vec<_>>())?;
    let mut sizes = BTreeMap::new();
    for (labels, shape) in labels.iter().zip(&shapes) {
        let once = labels.iter().enumerate().all(|(at, label)| !labels[..at].contains(label));
        if !once || labels.iter().zip(shape).any(|(label, size)| sizes.entry(*label).or_insert(*size) != size) {
            return Ok(None);
        }
    }
    let named = result.iter().enumerate().all(|(at, label)| sizes.contains_key(label) && !result[..at].contains(label));
    // Axes of all operands together bound those of every step.
    if !named || sizes.len() > 6 || (0..call.len()).any(|position| call.dtype(position) != call.dtype(0)) {
        return Ok(None);
    }
    let whole: Vec<usize> = result.iter().map(|label| sizes[label]).collect();
    rekindle_onnx::array::count(&whole)?;
    let mut operands = Vec::with_capacity(labels.len());
    for (position, labels) in labels.into_iter().enumerate() {
        operands.push(Operand { labels, values: call.take(position)? });
    }
    Ok(contracted(operands, &result).map(|values| vec![values]))
}

fn contracted(operands: Vec<Operand>, result: &[Label]) -> Option<DeviceTensor> {
    let mut operands = operands.into_iter();
    let mut product = operands.next()?;
    let rest: Vec<Operand> = operands.collect();
    let after: Vec<Vec<Label>> = rest.iter().map(|operand| operand.labels.clone()).collect();
    for (at, next) in rest.into_iter().enumerate() {
        let needed = |label: Label| result.contains(&label) || after[at + 1..].iter().any(|own| own.contains(&label));
        product = pair(product, next, &needed)?;
    }
    product.summed(|label| result.contains(&label))?.ordered(result)
}

/// The product of two operands, summed over the labels that nothing else needs.
fn pair(a: Operand, b: Operand, needed: &dyn Fn(Label) -> bool) -> Option<Operand> {
    let (of_a, of_b) = (a.labels.clone(), b.labels.clone());
    let a = a.summed(|label| needed(label) || of_b.contains(&label))?;
    let b = b.summed(|label| needed(label) || of_a.contains(&label))?;
    let (both, only_a): (Vec<Label>, Vec<Label>) = a.labels.iter().partition(|label| b.labels.contains(label));
    let (stack, inner): (Vec<Label>, Vec<Label>) = both.into_iter().partition(|label| needed(*label));
    let only_b: Vec<Label> = b.labels.iter().copied().filter(|label| !a.labels.contains(label)).collect();
    let [stacks, rows, depth, columns] = [a.sizes(&stack), a.sizes(&only_a), a.sizes(&inner), b.sizes(&only_b)];
    let labels = [stack.clone(), only_a.clone(), only_b.clone()].concat();
    let shape = labels.iter().map(|&label| if a.labels.contains(&label) { a.size(label) } else { b.size(label) });
    let (shape, dtype): (Vec<usize>, _) = (shape.collect(), a.values.dtype());
    let left: Tensor<3> = a.ordered(&[stack.clone(), only_a, inner.clone()].concat())?.view([stacks, rows, depth]);
    let right: Tensor<3> = b.ordered(&[stack, inner, only_b].concat())?.view([stacks, depth, columns]);
    Some(Operand { labels, values: DeviceTensor::new(left.matmul(right), shape, dtype) })
}
