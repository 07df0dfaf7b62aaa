//! Attention of a sequence with itself as an operation of the CPU backends.

use burn::tensor::{Shape, Tensor};
use rekindle_kernels::Attention;

use super::operation::{Operation, one, takes};

#[derive(Debug)]
struct Attend(Attention);

impl Operation for Attend {
    fn shape(&self) -> Shape {
        Shape::from([self.0.batch * self.0.length, self.0.heads * self.0.width])
    }

    fn forward(&self, inputs: &[&[f32]]) -> Vec<f32> {
        self.0.forward(inputs[0])
    }

    fn backward(&self, inputs: &[&[f32]], _: &[f32], grad: Vec<f32>, _: &[bool]) -> Vec<Vec<f32>> {
        vec![self.0.backward(inputs[0], &grad)]
    }
}

/// The values of each position, weighted by the softmax of its products with all positions' keys, from rows
/// `[batch · length, 3 · heads · width]` of queries, keys and values to `[batch · length, heads · width]`; none where our kernels
/// cannot run.
pub fn attention(qkv: &Tensor<2>, [batch, length]: [usize; 2], heads: usize) -> Option<Tensor<2>> {
    let [rows, features] = qkv.dims();
    if !takes(qkv) || rows != batch * length || !features.is_multiple_of(3 * heads) {
        return None;
    }
    let width = features / 3 / heads;
    Some(one(qkv.clone(), Attend(Attention { batch, length, heads, width, scale: (width as f32).sqrt().recip() })))
}
