//! Sums, means and extremes along axes.

use burn::tensor::Tensor;
use rekindle_onnx::ops::Reduce;

use super::call::{Call, DeviceOp, Outputs};
use super::tensor::DeviceTensor;

/// Along the middle axis of `[outer, size, inner]`.
type Along = fn(Tensor<3>) -> Tensor<3>;
/// Of single elements.
type Each = fn(Tensor<1>) -> Tensor<1>;

pub(super) fn find(operator: &str) -> Option<DeviceOp> {
    fn same(x: Tensor<1>) -> Tensor<1> {
        x
    }
    Some(match operator {
        "ReduceSum" => |call| reduce(call, same, |x| x.sum_dim(1), same),
        "ReduceMean" => |call| reduce(call, same, |x| x.mean_dim(1), same),
        "ReduceMax" => |call| reduce(call, same, |x| x.max_dim(1), same),
        "ReduceMin" => |call| reduce(call, same, |x| x.min_dim(1), same),
        "ReduceProd" => |call| reduce(call, same, |x| x.prod_dim(1), same),
        "ReduceL1" => |call| reduce(call, Tensor::abs, |x| x.sum_dim(1), same),
        "ReduceL2" => |call| reduce(call, |x| x.clone() * x, |x| x.sum_dim(1), Tensor::sqrt),
        "ReduceSumSquare" => |call| reduce(call, |x| x.clone() * x, |x| x.sum_dim(1), same),
        "ReduceLogSum" => |call| reduce(call, same, |x| x.sum_dim(1), Tensor::log),
        "ReduceLogSumExp" => |call| reduce(call, same, log_sum_exp, same),
        _ => return None,
    })
}

/// The greatest value is taken out first, so that nothing overflows.
fn log_sum_exp(x: Tensor<3>) -> Tensor<3> {
    let most = x.clone().max_dim(1).detach();
    (x - most.clone()).exp().sum_dim(1).log() + most
}

fn reduce(call: &mut Call<'_, '_>, before: Each, along: Along, after: Each) -> Outputs {
    let (Some(op), Some(shape)) = (call.node.get::<Reduce>(), call.shape(0)) else { return Ok(None) };
    let mut axes = op.axes(call.ints(1)?, shape.len())?;
    let x = call.take(0)?;
    let dtype = x.dtype();
    let mut sizes = shape.clone();
    let mut values = before(x.flat());
    // Neighbouring axes at once, from the last on: what is before them stays as it is.
    while let Some(&last) = axes.last() {
        let mut first = last;
        axes.pop();
        while axes.last().is_some_and(|&previous| previous + 1 == first) {
            first -= 1;
            axes.pop();
        }
        let outer: usize = sizes[..first].iter().product();
        let size: usize = sizes[first..=last].iter().product();
        let inner: usize = sizes[last + 1..].iter().product();
        values = along(values.reshape([outer, size, inner])).reshape([outer * inner]);
        if op.keep {
            sizes[first..=last].fill(1);
        } else {
            sizes.drain(first..=last);
        }
    }
    Ok(Some(vec![DeviceTensor::new(after(values), sizes, dtype)]))
}
