//! Means of images' channels, and channels times a factor each, as operations of the CPU backends.

use burn::tensor::{Shape, Tensor};
use rekindle_kernels::Planes;

use super::operation::{Operation, one, takes, two};

#[derive(Debug)]
struct Mean {
    planes: Planes,
    shape: Shape,
}

impl Operation for Mean {
    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn forward(&self, inputs: &[&[f32]]) -> Vec<f32> {
        self.planes.mean(inputs[0])
    }

    fn reads(&self, _: usize) -> bool {
        false
    }

    fn backward(&self, _: &[&[f32]], _: &[f32], grad: Vec<f32>, _: &[bool]) -> Vec<Vec<f32>> {
        vec![self.planes.mean_backward(&grad)]
    }
}

#[derive(Debug)]
struct Scale {
    planes: Planes,
    shape: Shape,
}

impl Operation for Scale {
    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn forward(&self, inputs: &[&[f32]]) -> Vec<f32> {
        self.planes.scale(inputs[0], inputs[1])
    }

    fn backward(&self, inputs: &[&[f32]], _: &[f32], grad: Vec<f32>, _: &[bool]) -> Vec<Vec<f32>> {
        let (input, factors) = self.planes.scale_backward(inputs[0], inputs[1], grad);
        vec![input, factors]
    }
}

fn sizes(x: &Tensor<4>) -> Planes {
    let [batch, channels, height, width] = x.dims();
    Planes { planes: batch * channels, pixels: height * width }
}

/// The mean of each channel of `[batch, channels, height, width]`, as `[batch, channels, 1, 1]`; none where our kernels cannot run.
pub fn mean_of_planes(x: &Tensor<4>) -> Option<Tensor<4>> {
    let [batch, channels, _, _] = x.dims();
    takes(x).then(|| one(x.clone(), Mean { planes: sizes(x), shape: Shape::from([batch, channels, 1, 1]) }))
}

/// Each channel of `[batch, channels, height, width]` times its factor of `[batch, channels, 1, 1]`; none where our kernels cannot run.
pub fn scaled_planes(x: &Tensor<4>, factors: &Tensor<4>) -> Option<Tensor<4>> {
    let [batch, channels, _, _] = x.dims();
    let fits = takes(x) && takes(factors) && factors.dims() == [batch, channels, 1, 1];
    fits.then(|| two(x.clone(), factors.clone(), Scale { planes: sizes(x), shape: x.shape() }))
}
