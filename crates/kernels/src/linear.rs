//! Linear layers: `x · W + b`, perhaps with a ReLU after it, and the gradients of that.
#![allow(unsafe_code)]

use std::ops::Range;
use std::slice;

use pulp::{Simd, WithSimd};

use crate::arch::Arch;
use crate::inner::Inner;
use crate::lanes::Isa;
use crate::outer::Outer;
use crate::parallel::{Shared, each};
use crate::{Activation, ShapeError};

/// Columns of a gradient whose sums one thread makes at a time.
const COLUMNS: usize = 64;

/// How the weights of a linear layer lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightOrder {
    /// `[inputs, outputs]`.
    InputsFirst,
    /// `[outputs, inputs]`, as PyTorch keeps them.
    OutputsFirst,
}

/// The sizes of a linear layer from `[batch, inputs]` to `[batch, outputs]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Linear {
    /// Samples.
    pub batch: usize,
    /// Values of a sample before the layer.
    pub inputs: usize,
    /// Values of a sample after it.
    pub outputs: usize,
}

/// Where the gradients of a linear layer go, each if it is wanted.
#[derive(Debug, Default)]
pub struct LinearGradients<'a> {
    /// Of the input, `[batch, inputs]`.
    pub input: Option<&'a mut [f32]>,
    /// Of the weights, `[inputs, outputs]` however the weights lie.
    pub weight: Option<&'a mut [f32]>,
    /// Of the bias, `[outputs]`.
    pub bias: Option<&'a mut [f32]>,
}

/// A product of matrices, divided into tasks.
enum Product<'a> {
    Outer(Outer<'a>, crate::outer::Plan),
    Inner(Inner<'a>, crate::inner::Plan),
}

impl<'a> Product<'a> {
    fn outer(isa: Isa, product: Outer<'a>) -> Self {
        let plan = product.plan(isa);
        Self::Outer(product, plan)
    }

    fn inner(product: Inner<'a>) -> Self {
        let plan = product.plan();
        Self::Inner(product, plan)
    }

    fn tasks(&self) -> usize {
        match self {
            Self::Outer(_, plan) => plan.tasks(),
            Self::Inner(_, plan) => plan.tasks(),
        }
    }

    fn operations(&self) -> usize {
        match self {
            Self::Outer(product, _) => product.operations(),
            Self::Inner(product, _) => product.operations(),
        }
    }

    fn run(&self, isa: Isa, task: usize) {
        match self {
            Self::Outer(product, plan) => product.run(isa, plan, task),
            Self::Inner(product, plan) => product.run(isa, plan, task),
        }
    }
}

impl Linear {
    /// Whether the sizes make sense together.
    ///
    /// # Errors
    /// The first size that doesn't.
    pub fn check(&self) -> Result<(), ShapeError> {
        for (what, size) in [("the number of inputs", self.inputs), ("the number of outputs", self.outputs)] {
            if size == 0 {
                return Err(ShapeError::Zero { what });
            }
        }
        let fits = |a: usize, b: usize| {
            a.checked_mul(b).and_then(|len| len.checked_mul(4)).is_some_and(|len| len <= isize::MAX as usize)
        };
        let all = fits(self.batch, self.inputs) && fits(self.batch, self.outputs) && fits(self.inputs, self.outputs);
        if all { Ok(()) } else { Err(ShapeError::Overflow) }
    }

    /// Values of the input.
    pub fn input_len(&self) -> usize {
        self.batch * self.inputs
    }

    /// Values of the weights.
    pub fn weight_len(&self) -> usize {
        self.inputs * self.outputs
    }

    /// Values of the output.
    pub fn output_len(&self) -> usize {
        self.batch * self.outputs
    }

    /// The output, `[batch, outputs]`.
    ///
    /// # Errors
    /// When a size is wrong or a slice has another length than it says.
    pub fn forward(
        &self,
        input: &[f32],
        weight: &[f32],
        order: WeightOrder,
        bias: Option<&[f32]>,
        activation: Activation,
        output: &mut [f32],
    ) -> Result<(), ShapeError> {
        self.forward_at(Isa::best(), input, weight, order, bias, activation, output)
    }

    /// [`Self::forward`] with one vector unit.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn forward_at(
        &self,
        isa: Isa,
        input: &[f32],
        weight: &[f32],
        order: WeightOrder,
        bias: Option<&[f32]>,
        activation: Activation,
        output: &mut [f32],
    ) -> Result<(), ShapeError> {
        self.check()?;
        ShapeError::length("the input", self.input_len(), input.len())?;
        ShapeError::length("the weights", self.weight_len(), weight.len())?;
        ShapeError::length("the bias", self.outputs, bias.map_or(self.outputs, <[f32]>::len))?;
        ShapeError::length("the output", self.output_len(), output.len())?;
        if self.batch == 0 {
            return Ok(());
        }
        let (rows, depth, columns) = (self.batch, self.inputs, self.outputs);
        let (relu, out) = (activation == Activation::Relu, Shared::new(output));
        let product = match order {
            WeightOrder::InputsFirst => {
                let left_strides = [depth, 1];
                Product::outer(
                    isa,
                    Outer { rows, depth, columns, left: input, left_strides, right: weight, bias, relu, out },
                )
            }
            WeightOrder::OutputsFirst => {
                Product::inner(Inner { rows, depth, columns, left: input, right: weight, bias, relu, out })
            }
        };
        each(product.tasks(), product.operations(), |task| product.run(isa, task));
        Ok(())
    }

    /// The gradients from `grad`, the one of the output. With `rectified`, what came out of a ReLU after the layer, `grad` is that of
    /// the ReLU's output, and becomes that of its input.
    ///
    /// # Errors
    /// When a size is wrong or a slice has another length than it says.
    pub fn backward(
        &self,
        input: &[f32],
        weight: &[f32],
        order: WeightOrder,
        rectified: Option<&[f32]>,
        grad: &mut [f32],
        wanted: LinearGradients<'_>,
    ) -> Result<(), ShapeError> {
        self.backward_at(Isa::best(), input, weight, order, rectified, grad, wanted)
    }

    /// [`Self::backward`] with one vector unit.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn backward_at(
        &self,
        isa: Isa,
        input: &[f32],
        weight: &[f32],
        order: WeightOrder,
        rectified: Option<&[f32]>,
        grad: &mut [f32],
        wanted: LinearGradients<'_>,
    ) -> Result<(), ShapeError> {
        self.check()?;
        let length = |what, expected, slice: Option<&[f32]>| {
            ShapeError::length(what, expected, slice.map_or(expected, <[f32]>::len))
        };
        length("the input", self.input_len(), Some(input))?;
        length("the weights", self.weight_len(), Some(weight))?;
        length("the rectified output", self.output_len(), rectified)?;
        length("the output's gradient", self.output_len(), Some(grad))?;
        length("the input's gradient", self.input_len(), wanted.input.as_deref())?;
        length("the weights' gradient", self.weight_len(), wanted.weight.as_deref())?;
        length("the bias's gradient", self.outputs, wanted.bias.as_deref())?;
        if self.batch == 0 {
            [wanted.weight, wanted.bias].into_iter().flatten().for_each(|grad| grad.fill(0.0));
            return Ok(());
        }
        self.prepare(rectified, grad, wanted.bias);
        let Self { batch, inputs, outputs } = *self;
        let grad = &*grad;
        let to_weight = wanted.weight.map(|out| {
            let (rows, depth, columns, left_strides) = (inputs, batch, outputs, [1, inputs]);
            let (bias, relu, out) = (None, false, Shared::new(out));
            Product::outer(isa, Outer { rows, depth, columns, left: input, left_strides, right: grad, bias, relu, out })
        });
        let to_input = wanted.input.map(|out| {
            let (rows, depth, columns) = (batch, outputs, inputs);
            let (bias, relu, out) = (None, false, Shared::new(out));
            match order {
                WeightOrder::InputsFirst => {
                    Product::inner(Inner { rows, depth, columns, left: grad, right: weight, bias, relu, out })
                }
                WeightOrder::OutputsFirst => {
                    let left_strides = [outputs, 1];
                    Product::outer(
                        isa,
                        Outer { rows, depth, columns, left: grad, left_strides, right: weight, bias, relu, out },
                    )
                }
            }
        });
        // Both at once: threads wake up only once.
        let (tasks, operations) = to_weight
            .iter()
            .chain(&to_input)
            .fold((0, 0), |(tasks, ops), product| (tasks + product.tasks(), ops + product.operations()));
        let before = to_weight.as_ref().map_or(0, Product::tasks);
        each(tasks, operations, |task| match (&to_weight, &to_input) {
            (Some(product), _) if task < before => product.run(isa, task),
            (_, Some(product)) => product.run(isa, task - before),
            _ => unreachable!("tasks are those of the products"),
        });
        Ok(())
    }
    /// What comes before the products: the ReLU's gradient in place, and the sums of columns.
    fn prepare(&self, rectified: Option<&[f32]>, grad: &mut [f32], bias: Option<&mut [f32]>) {
        if rectified.is_none() && bias.is_none() {
            return;
        }
        let (arch, outputs) = (Arch::new(), self.outputs);
        let (values, grad, bias) = (grad.len(), Shared::new(grad), bias.map(Shared::new));
        each(outputs.div_ceil(COLUMNS), 8 * values, |task| {
            let columns = task * COLUMNS..outputs.min((task + 1) * COLUMNS);
            arch.dispatch(Prepare { layer: self, rectified, grad, bias, columns });
        });
    }
}

/// [`Linear::prepare`] for some columns, which nobody else uses.
struct Prepare<'a> {
    layer: &'a Linear,
    rectified: Option<&'a [f32]>,
    grad: Shared,
    bias: Option<Shared>,
    columns: Range<usize>,
}

impl WithSimd for Prepare<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { layer: Linear { batch, outputs, .. }, rectified, grad, bias, columns } = self;
        // Sums over many samples: f64.
        let mut sums = [0.0f64; COLUMNS];
        for row in 0..*batch {
            let place = row * outputs + columns.start..row * outputs + columns.end;
            // SAFETY: inside of the gradient, and these columns are this task's.
            let grad = unsafe { slice::from_raw_parts_mut(grad.at(place.start), place.len()) };
            if let Some(rectified) = rectified {
                for (grad, output) in grad.iter_mut().zip(&rectified[place]) {
                    *grad = if *output > 0.0 { *grad } else { 0.0 };
                }
            }
            for (sum, grad) in sums.iter_mut().zip(grad) {
                *sum += f64::from(*grad);
            }
        }
        if let Some(bias) = bias {
            for (column, sum) in columns.zip(sums) {
                // SAFETY: as above, of the bias.
                unsafe { bias.at(column).write(sum as f32) };
            }
        }
    }
}
