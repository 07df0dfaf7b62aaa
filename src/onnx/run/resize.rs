//! Images of another size, where Burn's interpolation is ONNX's.

use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Tensor, TensorData};
use rekindle_onnx::Value;
use rekindle_onnx::array::count;
use rekindle_onnx::ops::{Coordinates, Inputs, Kernel, Nearest, Policy, Resize, Upsample};

use super::call::{Call, DeviceOp, Outputs};
use super::tensor::DeviceTensor;

pub(super) fn find(operator: &str) -> Option<DeviceOp> {
    Some(match operator {
        "Resize" => resize,
        "Upsample" => upsample,
        _ => return None,
    })
}

/// Also `Resize` in version 10, which has no region of interest between the image and the scales; coordinates are asymmetric.
fn upsample(call: &mut Call<'_, '_>) -> Outputs {
    let Some(op) = call.node.get::<Upsample>() else { return Ok(None) };
    let scales = match call.host(1)? {
        Some(scales) => scales.floats()?,
        None => op.scales.iter().map(|&scale| f64::from(scale)).collect(),
    };
    match op.kernel {
        Kernel::Nearest(_) => run(call, |shape| scaled(shape, &scales), InterpolateMode::Nearest, false),
        _ => Ok(None),
    }
}

/// The sizes of an array after scales.
fn scaled(shape: &[usize], scales: &[f64]) -> Vec<f64> {
    scales.iter().zip(shape).map(|(scale, &size)| scale * size as f64).collect()
}

fn resize(call: &mut Call<'_, '_>) -> Outputs {
    let Some(op) = call.node.get::<Resize>() else { return upsample(call) };
    let mode = match (op.kernel, op.coordinates) {
        (Kernel::Nearest(Nearest::Floor), Coordinates::Asymmetric) => Some((InterpolateMode::Nearest, false)),
        (Kernel::Linear { antialias: false }, Coordinates::HalfPixel | Coordinates::PytorchHalfPixel) => {
            Some((InterpolateMode::Bilinear, false))
        }
        (Kernel::Linear { antialias: false }, Coordinates::AlignCorners) => Some((InterpolateMode::Bilinear, true)),
        _ => None,
    };
    let plain = op.axes.is_none() && op.policy == Policy::Stretch && !op.exclude_outside;
    if let Some((mode, corners)) = mode.filter(|_| plain) {
        let sizes = call.ints(3)?.filter(|sizes| !sizes.is_empty());
        let scales = if sizes.is_none() { call.host(2)? } else { None };
        let scales = scales.map_or(Ok(Vec::new()), |scales| scales.floats())?;
        let output = |shape: &[usize]| match sizes {
            Some(sizes) => sizes.into_iter().map(|size| size as f64).collect(),
            None => scaled(shape, &scales),
        };
        if let Some(outputs) = run(call, output, mode, corners)? {
            return Ok(Some(outputs));
        }
    }
    by_matrices(call, op)
}

/// Axis after axis, each value a sum of values of its axis.
fn by_matrices(call: &mut Call<'_, '_>, op: &Resize) -> Outputs {
    let Some(shape) = call.shape(0) else { return Ok(None) };
    let mut inputs = vec![None];
    for position in 1..4 {
        inputs.push(call.host(position)?.map(Value::from));
    }
    let matrices = op.matrices(&shape, &Inputs::new(inputs.iter().map(Option::as_ref).collect()))?;
    let Some(matrices) = matrices else { return Ok(None) };
    let mut whole = shape;
    for (axis, matrix) in &matrices {
        whole[*axis] = matrix.shape()[0];
    }
    count(&whole)?;
    if whole.contains(&0) {
        return Ok(None);
    }
    let mut x = call.take(0)?;
    for (axis, matrix) in matrices {
        let &[to, from] = matrix.shape() else { return Ok(None) };
        let mut shape = x.shape().to_vec();
        let dtype = x.dtype();
        shape[axis] = to;
        let whole: Tensor<3> = x.around(axis);
        let [outer, _, inner] = whole.dims();
        let values = TensorData::new(matrix.expect::<f32>()?.to_vec(), [to, from]);
        let weights = Tensor::<2>::from_data(values, (&whole.device(), whole.dtype()));
        // With the axis last it is one product, whatever is around it.
        let out = if inner == 1 {
            whole.reshape([outer, from]).matmul(weights.transpose()).reshape([outer, to, 1])
        } else {
            weights.unsqueeze_dim::<3>(0).matmul(whole)
        };
        x = DeviceTensor::new(out, shape, dtype);
    }
    Ok(Some(vec![x]))
}

/// Images by Burn's interpolation, to the sizes that `output` gives for their shape.
fn run(
    call: &mut Call<'_, '_>,
    output: impl FnOnce(&[usize]) -> Vec<f64>,
    mode: InterpolateMode,
    corners: bool,
) -> Outputs {
    let Some(shape) = call.shape(0).filter(|shape| shape.len() == 4) else { return Ok(None) };
    let output = output(&shape);
    // Scales that do not give whole sizes make other coordinates than the sizes alone.
    let whole = output.len() == 4 && output.iter().all(|size| size.fract() == 0.0 && (1.0..1e9).contains(size));
    if !whole || output[0] != shape[0] as f64 || output[1] != shape[1] as f64 {
        return Ok(None);
    }
    let (height, width) = (output[2] as usize, output[3] as usize);
    // A single row or column has coordinates of its own in some modes.
    if height < 2 || width < 2 || shape[2] < 2 || shape[3] < 2 {
        return Ok(None);
    }
    let x = call.take(0)?;
    let dtype = x.dtype();
    let options = InterpolateOptions::new(mode).with_align_corners(corners).with_output_size([height, width]);
    let out = interpolate(x.view_as(&shape), options);
    Ok(Some(vec![DeviceTensor::new(out, vec![shape[0], shape[1], height, width], dtype)]))
}
