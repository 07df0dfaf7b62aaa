//! Matrix products.

use burn::tensor::Tensor;
use rekindle_onnx::ops::{Gemm, merged};

use super::call::{Call, DeviceOp, Outputs};
use super::elementwise::Lined;
use super::tensor::{DeviceTensor, with_rank};

pub(super) fn find(operator: &str) -> Option<DeviceOp> {
    Some(match operator {
        "MatMul" => matmul,
        "Gemm" => gemm,
        _ => return None,
    })
}

/// A product with one matrix on the right, and a row added.
pub(super) fn matmul_biased(call: &mut Call<'_, '_>) -> Outputs {
    let (Some(left), Some(right)) = (call.shape(0), call.shape(1)) else { return Ok(None) };
    let added = call.shape(2).unwrap_or_default();
    // A bias of more axes than the product would give it these.
    if call.has(2) && (right.len() != 2 || added.len() > left.len() || added.iter().product::<usize>() != right[1]) {
        return Ok(None);
    }
    let Some(products) = matmul(call)? else { return Ok(None) };
    let Some(bias) = call.take_optional(2)?.map(DeviceTensor::flat) else { return Ok(Some(products)) };
    let sums = products.into_iter().map(|product| {
        let (shape, dtype) = (product.shape().to_vec(), product.dtype());
        let (rows, columns) = (product.count() / right[1], right[1]);
        DeviceTensor::new(product.view([rows, columns]) + bias.clone().reshape([1, columns]), shape, dtype)
    });
    Ok(Some(sums.collect()))
}

/// As NumPy's: a vector is a row on the left and a column on the right, axes before the last two broadcast.
fn matmul(call: &mut Call<'_, '_>) -> Outputs {
    let (Some(mut left), Some(mut right)) = (call.shape(0), call.shape(1)) else { return Ok(None) };
    if left.is_empty() || right.is_empty() {
        return Ok(None);
    }
    let (row, column) = (left.len() == 1, right.len() == 1);
    if row {
        left.insert(0, 1);
    }
    if column {
        right.push(1);
    }
    let (Some((batch_left, &[m, k])), Some((batch_right, &[depth, n]))) =
        (left.split_last_chunk(), right.split_last_chunk())
    else {
        return Ok(None);
    };
    let Some(lined) = Lined::up(&[batch_left, batch_right]).filter(|lined| depth == k && lined.grouped.len() <= 4)
    else {
        return Ok(None);
    };
    let mut shape = lined.shape.clone();
    if !row {
        shape.push(m);
    }
    if !column {
        shape.push(n);
    }
    let (a, b) = (call.take(0)?, call.take(1)?);
    let dtype = a.dtype();
    // One matrix on the right for the whole batch: a single product.
    if batch_right.iter().all(|&size| size == 1) {
        let rows = a.count() / k;
        let product = a.view([rows, k]).matmul(b.view([k, n]));
        return Ok(Some(vec![DeviceTensor::new(product, shape, dtype)]));
    }
    let with = |batch: &[usize], matrix: [usize; 2]| -> Vec<usize> { batch.iter().copied().chain(matrix).collect() };
    let (left, right) = (with(&lined.parts[0], [m, k]), with(&lined.parts[1], [k, n]));
    let product = with_rank!(left.len(), D => DeviceTensor::new(a.view_as::<D>(&left).matmul(b.view_as::<D>(&right)), shape, dtype));
    Ok(product.map(|product| vec![product]))
}

/// `alpha × A × B + beta × C`, each matrix possibly transposed.
pub(super) fn gemm(call: &mut Call<'_, '_>) -> Outputs {
    let Some((&Gemm { alpha, beta, transpose_a, transpose_b }, _)) = merged(call.node) else { return Ok(None) };
    let (Some(&[a0, a1]), Some(&[b0, b1])) = (call.shape(0).as_deref(), call.shape(1).as_deref()) else {
        return Ok(None);
    };
    let (m, k) = if transpose_a { (a1, a0) } else { (a0, a1) };
    let (depth, n) = if transpose_b { (b1, b0) } else { (b0, b1) };
    let added = if call.has(2) {
        let Some(added) = call.shape(2) else { return Ok(None) };
        let fits = added.len() <= 2 && added.iter().rev().zip([n, m]).all(|(&size, whole)| size == 1 || size == whole);
        if !fits {
            return Ok(None);
        }
        Some([added.len().checked_sub(2).map_or(1, |axis| added[axis]), added.last().copied().unwrap_or(1)])
    } else {
        None
    };
    if depth != k {
        return Ok(None);
    }
    let (a, b, c) = (call.take(0)?, call.take(1)?, call.take_optional(2)?);
    let dtype = a.dtype();
    let (a, b): (Tensor<2>, Tensor<2>) = (a.view([a0, a1]), b.view([b0, b1]));
    let mut product = (if transpose_a { a.transpose() } else { a }).matmul(if transpose_b { b.transpose() } else { b });
    if alpha != 1.0 {
        product = product.mul_scalar(alpha);
    }
    if let (Some(c), Some(shape)) = (c, added) {
        let c: Tensor<2> = c.view(shape);
        product = product + if beta == 1.0 { c } else { c.mul_scalar(beta) };
    }
    Ok(Some(vec![DeviceTensor::new(product, vec![m, n], dtype)]))
}
