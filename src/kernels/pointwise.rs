//! Functions of single values as operations of the CPU backends.

use burn::tensor::{Shape, Tensor};
use rekindle_kernels::Pointwise;

use super::operation::{Operation, one, takes};

#[derive(Debug)]
struct Function {
    function: Pointwise,
    shape: Shape,
}

impl Operation for Function {
    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn forward(&self, inputs: &[&[f32]]) -> Vec<f32> {
        self.function.forward(inputs[0])
    }

    fn backward(&self, inputs: &[&[f32]], _: &[f32], grad: Vec<f32>, _: &[bool]) -> Vec<Vec<f32>> {
        vec![self.function.backward(inputs[0], grad)]
    }
}

/// The function of each value; none where our kernels cannot run.
pub fn pointwise<const D: usize>(x: &Tensor<D>, function: Pointwise) -> Option<Tensor<D>> {
    takes(x).then(|| one(x.clone(), Function { function, shape: x.shape() }))
}
