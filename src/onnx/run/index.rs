//! Elements looked up and put at positions that the host knows.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};
use rekindle_onnx::ops::{GatherElements, GatherNd, Reduction, Scatter};

use super::call::{Call, DeviceOp, Outputs};
use super::tensor::DeviceTensor;

pub(super) fn find(operator: &str) -> Option<DeviceOp> {
    Some(match operator {
        "GatherElements" => gather_elements,
        "GatherND" => gather_nd,
        "Scatter" | "ScatterElements" | "ScatterND" => scatter,
        _ => return None,
    })
}

/// Positions as a tensor.
fn on_device(positions: impl IntoIterator<Item = usize>, x: &Tensor<2>) -> Tensor<1, Int> {
    let positions: Vec<i64> = positions.into_iter().map(|position| position as i64).collect();
    let count = positions.len();
    Tensor::from_data(TensorData::new(positions, [count]), &x.device())
}

fn gather_elements(call: &mut Call<'_, '_>) -> Outputs {
    let (Some(op), Some(shape)) = (call.node.get::<GatherElements>(), call.shape(0)) else { return Ok(None) };
    let Some(indices) = call.host(1)?.filter(|indices| !indices.is_empty()) else { return Ok(None) };
    let positions = op.positions(&shape, &indices)?;
    let x = call.take(0)?;
    let (dtype, count) = (x.dtype(), x.count());
    let x: Tensor<2> = x.view([count, 1]);
    let positions = on_device(positions, &x);
    Ok(Some(vec![DeviceTensor::new(x.select(0, positions), indices.shape().to_vec(), dtype)]))
}

fn gather_nd(call: &mut Call<'_, '_>) -> Outputs {
    let (Some(op), Some(shape)) = (call.node.get::<GatherNd>(), call.shape(0)) else { return Ok(None) };
    let Some(indices) = call.host(1)? else { return Ok(None) };
    let (starts, block, out) = op.positions(&shape, &indices)?;
    if starts.is_empty() || block == 0 {
        return Ok(None);
    }
    let x = call.take(0)?;
    let (dtype, count) = (x.dtype(), x.count());
    let x: Tensor<2> = x.view([count / block, block]);
    let positions = on_device(starts.into_iter().map(|start| start / block), &x);
    Ok(Some(vec![DeviceTensor::new(x.select(0, positions), out, dtype)]))
}

/// Updates are added at their positions: to what is there, or, where they replace it, to zeros that are put there first.
fn scatter(call: &mut Call<'_, '_>) -> Outputs {
    let Some(&op) = call.node.get::<Scatter>() else { return Ok(None) };
    let (Some(shape), Some(updates)) = (call.shape(0), call.shape(2)) else { return Ok(None) };
    let Some(indices) = call.host(1)? else { return Ok(None) };
    if !matches!(op.reduction, Reduction::None | Reduction::Add) || call.dtype(0) != call.dtype(2) {
        return Ok(None);
    }
    let positions = op.positions(&shape, &indices, &updates)?;
    let total: usize = updates.iter().product();
    if positions.is_empty() || positions.len() != total {
        return Ok(None);
    }
    let (x, updates) = (call.take(0)?, call.take(2)?);
    let (dtype, count) = (x.dtype(), x.count());
    let (mut x, mut updates): (Tensor<2>, Tensor<2>) = (x.view([count, 1]), updates.view([total, 1]));
    let mut positions = positions;
    if op.reduction == Reduction::None {
        // Of several updates of one element the last stays.
        let mut last = vec![usize::MAX; count];
        positions.iter().enumerate().for_each(|(update, &position)| last[position] = update);
        let kept: Vec<usize> = (0..positions.len()).filter(|&update| last[positions[update]] == update).collect();
        if kept.len() < positions.len() {
            updates = updates.select(0, on_device(kept.iter().copied(), &x));
            positions = kept.iter().map(|&update| positions[update]).collect();
        }
        let kept = last.iter().map(|&update| if update == usize::MAX { 1.0_f32 } else { 0.0 }).collect::<Vec<_>>();
        let kept = Tensor::<2>::from_data(TensorData::new(kept, [count, 1]), (&x.device(), x.dtype()));
        // What is replaced may be no number.
        x = x.clone().mask_where(kept.equal_elem(0.0), x.zeros_like());
    }
    let positions = on_device(positions, &x);
    let out = x.select_assign(0, positions, updates, IndexingUpdateOp::Add);
    Ok(Some(vec![DeviceTensor::new(out, shape, dtype)]))
}
