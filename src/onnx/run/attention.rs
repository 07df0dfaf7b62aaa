//! Attention in the form of the standard.

use burn::tensor::{Tensor, TensorData, activation};
use rekindle_onnx::DType;
use rekindle_onnx::ops::Attention;

use super::call::{Call, DeviceOp, Outputs};
use super::tensor::{DeviceTensor, computed_as};

pub(super) fn find(operator: &str) -> Option<DeviceOp> {
    (operator == "Attention").then_some(attention)
}

/// Batch, heads, positions and width of an input that has the heads as an axis, or within the last one.
fn split(shape: &[usize], heads: Option<i64>) -> Option<[usize; 4]> {
    match *shape {
        [batch, heads, positions, width] => Some([batch, heads, positions, width]),
        [batch, positions, hidden] => {
            let heads = usize::try_from(heads?).ok().filter(|&heads| heads > 0 && hidden % heads == 0)?;
            Some([batch, heads, positions, hidden / heads])
        }
        _ => None,
    }
}

fn with_heads(x: DeviceTensor, [batch, heads, positions, width]: [usize; 4], flat: bool) -> Tensor<4> {
    if flat {
        x.view::<4>([batch, positions, heads, width]).swap_dims(1, 2)
    } else {
        x.view([batch, heads, positions, width])
    }
}

/// Queries over keys and values of as many heads or fewer, with a mask; scores are not shown.
fn attention(call: &mut Call<'_, '_>) -> Outputs {
    let Some(op) = call.node.get::<Attention>() else { return Ok(None) };
    let shapes: Option<Vec<Vec<usize>>> = (0..3).map(|position| call.shape(position)).collect();
    let Some(shapes) = shapes else { return Ok(None) };
    let flat = shapes[0].len() == 3;
    let heads = [op.heads[0], op.heads[1], op.heads[1]];
    let parts: Option<Vec<[usize; 4]>> = shapes.iter().zip(heads).map(|(shape, heads)| split(shape, heads)).collect();
    let Some(&[q, k, v]) = parts.as_deref() else { return Ok(None) };
    let [batch, queries, rows, depth] = q;
    let past = match (call.shape(4), call.shape(5)) {
        (None, None) => 0,
        (Some(keys), Some(values)) if keys.len() == 4 && values.len() == 4 && keys[..3] == values[..3] => {
            let fits = keys[..2] == k[..2] && keys[3] == k[3] && values[3] == v[3];
            if !fits {
                return Ok(None);
            }
            keys[2]
        }
        _ => return Ok(None),
    };
    let columns = past + k[2];
    let fits =
        k[0] == batch && k[3] == depth && v[..3] == k[..3] && queries % k[1].max(1) == 0 && rows > 0 && columns > 0;
    let sixteen = call.dtype(0) != Some(DType::F32) && call.dtype(0) != Some(DType::F64);
    if !fits || sixteen || call.wants(3) || call.has(6) || (0..3).any(|at| call.dtype(at) != call.dtype(0)) {
        return Ok(None);
    }
    // Without a key to see, a query gives 0 and not what softmax makes of it: that is left to the host.
    let mask = match call.shape(3) {
        None => None,
        Some(shape) => {
            let full = [batch, queries, rows, columns];
            let Some(lead) = 4_usize.checked_sub(shape.len()) else { return Ok(None) };
            let mut wide = [1; 4];
            wide[lead..].copy_from_slice(&shape);
            if wide.iter().zip(full).any(|(&size, whole)| size != 1 && size != whole) {
                return Ok(None);
            }
            Some(wide)
        }
    };
    let seen = |row: usize, column: usize| {
        let (here, column) = ((row + past) as i64, column as i64);
        (!op.causal || column <= here)
            && op.window[0].is_none_or(|left| column >= here.saturating_sub(left))
            && op.window[1].is_none_or(|right| column <= here.saturating_add(right))
    };
    let narrow = op.causal || op.window.iter().any(Option::is_some);
    let hidden: Vec<bool> =
        (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))).map(|(r, c)| !seen(r, c)).collect();
    let mut added = vec![0.0_f32; if narrow { rows * columns } else { 0 }];
    added.iter_mut().zip(&hidden).for_each(|(value, hidden)| *value = if *hidden { f32::NEG_INFINITY } else { 0.0 });
    // Booleans as numbers; they, and what of other masks is infinite, are known on the host.
    let is_bool = call.dtype(3) == Some(DType::Bool);
    let host = match call.host(3)? {
        Some(host) if is_bool => {
            Some(host.expect::<bool>()?.iter().map(|&seen| if seen { 0.0 } else { f32::NEG_INFINITY }).collect())
        }
        Some(host) => Some(host.floats()?.into_iter().map(|value| value as f32).collect::<Vec<f32>>()),
        None => None,
    };
    let blocked = |group: usize, row: usize| {
        (0..columns).all(|column| {
            let masked = host.as_ref().zip(mask).is_some_and(|(values, wide)| {
                let at = [group / queries, group % queries, row, column];
                let place = at.iter().zip(wide).fold(0, |place, (&at, size)| place * size + at.min(size - 1));
                values[place] == f32::NEG_INFINITY
            });
            masked || narrow && added[row * columns + column] != 0.0
        })
    };
    if (narrow || host.is_some()) && (0..batch * queries).any(|group| (0..rows).any(|row| blocked(group, row))) {
        return Ok(None);
    }
    let (scale, softcap, device) = (op.scale, op.softcap, call.accelerator.device.clone());
    let precision = computed_as(call.dtype(0).unwrap_or(DType::F32), &device);
    let Some(precision) = precision else { return Ok(None) };
    let dtype = call.dtype(0).unwrap_or(DType::F32);
    let query = with_heads(call.take(0)?, q, flat);
    let (mut keys, mut values) =
        (with_heads(call.take(1)?, k, shapes[1].len() == 3), with_heads(call.take(2)?, v, shapes[2].len() == 3));
    if past > 0 {
        let (old_keys, old_values) =
            (call.take(4)?.view([k[0], k[1], past, k[3]]), call.take(5)?.view([v[0], v[1], past, v[3]]));
        (keys, values) = (Tensor::cat(vec![old_keys, keys], 2), Tensor::cat(vec![old_values, values], 2));
    }
    let present = (keys.clone(), values.clone());
    let shared = |x: Tensor<4>, width: usize| -> Tensor<4> {
        let group = queries / k[1];
        if group == 1 {
            return x;
        }
        x.reshape([batch, k[1], 1, columns, width]).repeat_dim(2, group).reshape([batch, queries, columns, width])
    };
    // Half of the scale on either side, as the standard has it.
    let root = scale.map_or(1.0 / (depth as f64).sqrt(), f64::from);
    let mut scores = (query * root.sqrt()).matmul((shared(keys, depth) * root.sqrt()).swap_dims(2, 3));
    if softcap > 0.0 {
        scores = (scores / softcap).tanh() * softcap;
    }
    if narrow {
        scores = scores + Tensor::<4>::from_data(TensorData::new(added, [1, 1, rows, columns]), (&device, precision));
    }
    if let Some(wide) = mask {
        let bias: Tensor<4> = match host.filter(|_| is_bool) {
            Some(values) => Tensor::from_data(TensorData::new(values, wide), (&device, precision)),
            None => call.take(3)?.view(wide),
        };
        scores = scores + bias;
    }
    let out = activation::softmax(scores, 3).matmul(shared(values, v[3]));
    let outputs = vec![
        if flat {
            DeviceTensor::new(out.swap_dims(1, 2), vec![batch, rows, queries * v[3]], dtype)
        } else {
            DeviceTensor::new(out, vec![batch, queries, rows, v[3]], dtype)
        },
        DeviceTensor::new(present.0, vec![batch, k[1], columns, depth], dtype),
        DeviceTensor::new(present.1, vec![batch, k[1], columns, v[3]], dtype),
    ];
    Ok(Some(outputs))
}
