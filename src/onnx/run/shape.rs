//! Operators that move elements and do not change them.

use burn::tensor::{Int, Tensor, TensorData};
use rekindle_onnx::array::{axis, count};
use rekindle_onnx::ops::{
    Blocks, Concat, Cut, Dropout, Flatten, Gather, Moves, Pad, Reshape, Shape, SingleAxes, Slice, Split, Transpose,
};
use rekindle_onnx::{Array, DType, Node, Result, Slot};

use super::call::{Call, DeviceOp, Outputs};
use super::elementwise::Lined;
use super::tensor::{DeviceTensor, with_rank};
use crate::layers::dropped;

pub(super) fn find(operator: &str) -> Option<DeviceOp> {
    Some(match operator {
        "Identity" => |call| reshaped(call, |shape| Ok(shape.to_vec())),
        "Dropout" => dropout,
        "Reshape" => reshape,
        "Flatten" => flatten,
        "Squeeze" | "Unsqueeze" => single_axes,
        "Transpose" => transpose,
        "Concat" => concat,
        "Split" => split,
        "Slice" => slice,
        "Gather" => gather,
        "Expand" => expand,
        "Tile" => tile,
        "Pad" => pad,
        "DepthToSpace" | "SpaceToDepth" => blocks,
        _ => return None,
    })
}

/// The answer of `Shape` or `Size` to a tensor on the device, whose values are not needed for it.
pub(super) fn of_device_tensor(node: &Node, inputs: &[Option<Slot<DeviceTensor>>]) -> Option<Array> {
    let tensor = inputs.first()?.as_ref()?.on_device()?;
    if let Some(op) = node.get::<Shape>() {
        return Some(op.sizes(tensor.shape()));
    }
    (node.operator == "Size").then(|| Array::scalar(tensor.count() as i64))
}

/// The same elements in the same order under a shape of as many elements.
fn reshaped(call: &mut Call<'_, '_>, shape: impl FnOnce(&[usize]) -> Result<Vec<usize>>) -> Outputs {
    let Some(own) = call.shape(0) else { return Ok(None) };
    let shape = shape(&own)?;
    // Sizes of a file may be so large that their product is not.
    let elements = shape.iter().try_fold(1_usize, |elements, &size| elements.checked_mul(size));
    if elements != Some(own.iter().product()) {
        return Ok(None);
    }
    Ok(Some(vec![call.take(0)?.reshaped(shape)]))
}

/// Inference passes everything on. In training values are drawn from the device's random numbers, so that a run that is resumed
/// draws the same ones.
fn dropout(call: &mut Call<'_, '_>) -> Outputs {
    let Some(op) = call.node.get::<Dropout>().filter(|_| !call.wants(1) && call.node.version >= 7) else {
        return Ok(None);
    };
    let trains = match call.host(2)? {
        Some(flag) => flag.values::<bool>().is_some_and(|flag| flag == [true]),
        None => false,
    };
    let ratio = call.host(1)?.map_or(Ok(0.5), |ratio| ratio.float())?;
    if !trains || ratio == 0.0 {
        return reshaped(call, |shape| Ok(shape.to_vec()));
    }
    // A node with a seed of its own draws what the reference implementation does.
    if call.dtype(0) != Some(DType::F32) || op.seed.is_some() || !(0.0..=1.0).contains(&ratio) {
        return Ok(None);
    }
    let x = call.take(0)?;
    Ok(Some(vec![x.map(|x| dropped(x, ratio))]))
}

fn reshape(call: &mut Call<'_, '_>) -> Outputs {
    let Some(op) = call.node.get::<Reshape>() else { return Ok(None) };
    let wanted = call.ints(1)?;
    reshaped(call, |shape| op.target(wanted, shape))
}

fn flatten(call: &mut Call<'_, '_>) -> Outputs {
    let Some(op) = call.node.get::<Flatten>() else { return Ok(None) };
    reshaped(call, |shape| {
        let (before, after) = shape.split_at(op.cut(shape.len())?);
        Ok(vec![before.iter().product(), after.iter().product()])
    })
}

/// `Squeeze` and `Unsqueeze`.
fn single_axes(call: &mut Call<'_, '_>) -> Outputs {
    let Some(op) = call.node.get::<SingleAxes>() else { return Ok(None) };
    let axes = call.ints(1)?;
    reshaped(call, |shape| op.apply(axes, shape, 1, |&size| size == 1))
}

fn transpose(call: &mut Call<'_, '_>) -> Outputs {
    let (Some(op), Some(shape)) = (call.node.get::<Transpose>(), call.shape(0)) else { return Ok(None) };
    let order = op.order(shape.len())?;
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..shape.len()) {
        return Ok(None);
    }
    let (grouped, moved) = neighbours(&shape, &order);
    if grouped.len() > 6 {
        return Ok(None);
    }
    let x = call.take(0)?;
    Ok(permuted(x, &grouped, &moved, order.iter().map(|&at| shape[at]).collect()).map(|out| vec![out]))
}

/// A shape and an order of its axes with those taken together that stay side by side, and those of size 1 left out.
fn neighbours(shape: &[usize], order: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let order: Vec<usize> = order.iter().copied().filter(|&at| shape[at] != 1).collect();
    let real: Vec<usize> = (0..shape.len()).filter(|&at| shape[at] != 1).collect();
    let place = |at: usize| real.iter().position(|&own| own == at).unwrap_or(0);
    // Runs of axes that follow one another, in the new order.
    let mut runs: Vec<Vec<usize>> = Vec::new();
    for at in order.into_iter().map(place) {
        match runs.last_mut() {
            Some(run) if run.last().is_some_and(|&last| last + 1 == at) => run.push(at),
            _ => runs.push(vec![at]),
        }
    }
    let mut starts: Vec<usize> = runs.iter().map(|run| run[0]).collect();
    starts.sort_unstable();
    let moved = runs.iter().map(|run| starts.iter().position(|&start| start == run[0]).unwrap_or(0)).collect();
    let size = |start: &usize| -> usize {
        let run = runs.iter().find(|run| run[0] == *start);
        run.map_or(1, |run| run.iter().map(|&at| shape[real[at]]).product())
    };
    (starts.iter().map(size).collect(), moved)
}

/// Elements seen as an array of shape `view` with its axes in another order; `shape` is what comes out.
pub(super) fn permuted(x: DeviceTensor, view: &[usize], order: &[usize], shape: Vec<usize>) -> Option<DeviceTensor> {
    if order.len() < 2 {
        return Some(x.reshaped(shape));
    }
    let dtype = x.dtype();
    with_rank!(view.len(), D => {
        let order: [usize; D] = std::array::from_fn(|at| order[at]);
        DeviceTensor::new(x.view_as::<D>(view).permute(order), shape, dtype)
    })
}

fn concat(call: &mut Call<'_, '_>) -> Outputs {
    let Some(op) = call.node.get::<Concat>() else { return Ok(None) };
    let shapes: Option<Vec<Vec<usize>>> = (0..call.len()).map(|position| call.shape(position)).collect();
    let Some(shapes) = shapes.filter(|shapes| !shapes.is_empty() && !shapes[0].is_empty()) else { return Ok(None) };
    let mut shape = shapes[0].clone();
    let along = axis(op.axis, shape.len())?;
    let rest = |shape: &[usize]| {
        shape.iter().enumerate().filter(|(at, _)| *at != along).map(|(_, &size)| size).collect::<Vec<_>>()
    };
    let fits = shapes.iter().all(|own| own.len() == shape.len() && rest(own) == rest(&shape));
    if !fits || (0..call.len()).any(|position| call.dtype(position) != call.dtype(0)) {
        return Ok(None);
    }
    shape[along] = shapes.iter().map(|own| own[along]).sum();
    let outer: usize = shape[..along].iter().product();
    let mut parts: Vec<Tensor<2>> = Vec::new();
    let mut dtype = DType::F32;
    for position in 0..call.len() {
        let part = call.take(position)?;
        dtype = part.dtype();
        let inner = part.count() / outer;
        parts.push(part.view([outer, inner]));
    }
    Ok(Some(vec![DeviceTensor::new(Tensor::cat(parts, 1), shape, dtype)]))
}

fn split(call: &mut Call<'_, '_>) -> Outputs {
    let (Some(op), Some(shape)) = (call.node.get::<Split>(), call.shape(0)) else { return Ok(None) };
    let along = axis(op.axis, shape.len())?;
    let sizes = op.lengths(shape[along], call.ints(1)?.as_deref())?;
    let total = sizes.iter().try_fold(0_usize, |total, &size| total.checked_add(size));
    if total != Some(shape[along]) || sizes.contains(&0) {
        return Ok(None);
    }
    let x = call.take(0)?;
    let dtype = x.dtype();
    let whole: Tensor<3> = x.around(along);
    let mut start = 0;
    let parts = sizes.into_iter().map(|size| {
        let mut shape = shape.clone();
        shape[along] = size;
        let part = whole.clone().narrow(1, start, size);
        start += size;
        DeviceTensor::new(part, shape, dtype)
    });
    Ok(Some(parts.collect()))
}

fn slice(call: &mut Call<'_, '_>) -> Outputs {
    let (Some(op), Some(shape)) = (call.node.get::<Slice>(), call.shape(0)) else { return Ok(None) };
    let mut cuts = Vec::new();
    for (along, bounds) in op.cuts(|position| call.ints(position), shape.len())? {
        cuts.push((along, Cut::new(shape[along], bounds)?));
    }
    if cuts.iter().any(|(_, cut)| cut.count == 0) {
        return Ok(None);
    }
    let mut x = call.take(0)?;
    for (along, cut) in cuts {
        if cut.count == shape[along] && cut.step == 1 {
            continue;
        }
        let mut shape = x.shape().to_vec();
        shape[along] = cut.count;
        let dtype = x.dtype();
        let whole = x.around(along);
        let part = if cut.step == 1 { whole.narrow(1, cut.start, cut.count) } else { select(whole, cut.positions()) };
        x = DeviceTensor::new(part, shape, dtype);
    }
    Ok(Some(vec![x]))
}

/// Positions along the middle axis.
fn select(x: Tensor<3>, positions: impl Iterator<Item = usize>) -> Tensor<3> {
    let device = x.device();
    let positions: Vec<i64> = positions.map(|position| position as i64).collect();
    let count = positions.len();
    x.select(1, Tensor::<1, Int>::from_data(TensorData::new(positions, [count]), &device))
}

/// The indices come from the host.
fn gather(call: &mut Call<'_, '_>) -> Outputs {
    let (Some(op), Some(shape)) = (call.node.get::<Gather>(), call.shape(0)) else { return Ok(None) };
    let Some(indices) = call.host(1)?.filter(|indices| !indices.is_empty()) else { return Ok(None) };
    let (along, positions) = op.positions(&shape, &indices)?;
    let out = [&shape[..along], indices.shape(), &shape[along + 1..]].concat();
    count(&out)?;
    let x = call.take(0)?;
    let dtype = x.dtype();
    Ok(Some(vec![DeviceTensor::new(select(x.around(along), positions.into_iter()), out, dtype)]))
}

fn expand(call: &mut Call<'_, '_>) -> Outputs {
    let (Some(own), Some(wanted)) = (call.shape(0), call.ints(1)?) else { return Ok(None) };
    let wanted: Option<Vec<usize>> =
        wanted.into_iter().map(|size| usize::try_from(size).ok().filter(|&size| size > 0)).collect();
    let Some(lined) = wanted.and_then(|wanted| Lined::up(&[&own, &wanted])) else { return Ok(None) };
    let Lined { shape, grouped, parts } = lined;
    count(&shape)?;
    let x = call.take(0)?;
    let dtype = x.dtype();
    let out = with_rank!(grouped.len(), D => {
        let whole: [usize; D] = std::array::from_fn(|at| grouped[at]);
        DeviceTensor::new(x.view_as::<D>(&parts[0]).expand::<D, _>(whole), shape, dtype)
    });
    Ok(out.map(|out| vec![out]))
}

fn tile(call: &mut Call<'_, '_>) -> Outputs {
    let (Some(mut shape), Some(repeats)) = (call.shape(0), call.ints(1)?) else { return Ok(None) };
    let repeats: Option<Vec<usize>> =
        repeats.into_iter().map(|times| usize::try_from(times).ok().filter(|&times| times > 0)).collect();
    let Some(repeats) = repeats.filter(|repeats| repeats.len() == shape.len() && call.node.version >= 6) else {
        return Ok(None);
    };
    count(&shape.iter().zip(&repeats).map(|(&size, &times)| size.saturating_mul(times)).collect::<Vec<_>>())?;
    let mut x = call.take(0)?;
    for (along, times) in repeats.into_iter().enumerate().filter(|(_, times)| *times > 1) {
        shape[along] *= times;
        let dtype = x.dtype();
        let mut grown = x.shape().to_vec();
        grown[along] *= times;
        x = DeviceTensor::new(x.around(along).repeat_dim(1, times), grown, dtype);
    }
    Ok(Some(vec![x.reshaped(shape)]))
}

/// With a constant on either side of axes.
fn pad(call: &mut Call<'_, '_>) -> Outputs {
    let (Some(op), Some(shape)) = (call.node.get::<Pad>(), call.shape(0)) else { return Ok(None) };
    if !op.constant() {
        return Ok(None);
    }
    let value = call.host(2)?.map_or(Ok(f64::from(op.value)), |value| value.float())?;
    let borders = op.borders(call.ints(1)?, call.ints(3)?, shape.len())?;
    let added = |(before, after)| Some((usize::try_from(before).ok()?, usize::try_from(after).ok()?));
    let Some(borders) = borders.into_iter().map(added).collect::<Option<Vec<_>>>() else { return Ok(None) };
    let with = |(size, (before, after)): (&usize, &(usize, usize))| size.saturating_add(*before).saturating_add(*after);
    count(&shape.iter().zip(&borders).map(with).collect::<Vec<_>>())?;
    let mut x = call.take(0)?;
    for (along, (before, after)) in borders.into_iter().enumerate().filter(|(_, border)| *border != (0, 0)) {
        let dtype = x.dtype();
        let mut shape = x.shape().to_vec();
        shape[along] += before + after;
        let whole: Tensor<3> = x.around(along);
        let [outer, _, inner] = whole.dims();
        let device = whole.device();
        let block =
            |size: usize| (size > 0).then(|| Tensor::full([outer, size, inner], value, (&device, whole.dtype())));
        let parts: Vec<Tensor<3>> = [block(before), Some(whole.clone()), block(after)].into_iter().flatten().collect();
        x = DeviceTensor::new(Tensor::cat(parts, 1), shape, dtype);
    }
    Ok(Some(vec![x]))
}

/// `DepthToSpace` and `SpaceToDepth`.
fn blocks(call: &mut Call<'_, '_>) -> Outputs {
    let (Some(op), Some(shape)) = (call.node.get::<Blocks>(), call.shape(0)) else { return Ok(None) };
    let Moves { view, order, shape } = op.moves(&shape)?;
    let x = call.take(0)?;
    Ok(permuted(x, &view, &order, shape.to_vec()).map(|out| vec![out]))
}
