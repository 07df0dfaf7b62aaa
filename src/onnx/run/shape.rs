//! Operators that move elements and do not change them.

use burn::tensor::{Int, Tensor, TensorData};
use rekindle_onnx::array::{axis, count};
use rekindle_onnx::{Array, DType, Node, Result, Slot};

use super::call::{Call, DeviceOp, Outputs};
use super::elementwise::Lined;
use super::tensor::{DeviceTensor, around, with_rank};
use crate::layers::dropped;

pub(super) fn find(operator: &str) -> Option<DeviceOp> {
    Some(match operator {
        "Identity" => |call| reshaped(call, |shape| Some(shape.to_vec())),
        "Dropout" => dropout,
        "Reshape" => reshape,
        "Flatten" => flatten,
        "Squeeze" => squeeze,
        "Unsqueeze" => unsqueeze,
        "Transpose" => transpose,
        "Concat" => concat,
        "Split" => split,
        "Slice" => slice,
        "Gather" => gather,
        "Expand" => expand,
        "Tile" => tile,
        "Pad" => pad,
        "DepthToSpace" => depth_to_space,
        "SpaceToDepth" => space_to_depth,
        _ => return None,
    })
}

/// The answer of `Shape` or `Size` to a tensor on the device, whose values are not needed for it.
pub(super) fn of_device_tensor(node: &Node, inputs: &[Option<Slot<DeviceTensor>>]) -> Result<Option<Array>> {
    let Some(tensor) = inputs.first().and_then(Option::as_ref).and_then(Slot::on_device) else { return Ok(None) };
    match node.operator.as_str() {
        "Shape" => {
            let rank = tensor.rank() as i64;
            let bound = |at: i64| (if at < 0 { at + rank } else { at }).clamp(0, rank) as usize;
            let (start, end) =
                (bound(node.attributes.int_or("start", 0)?), bound(node.attributes.int_or("end", rank)?));
            let sizes = tensor.shape().get(start..end).unwrap_or_default();
            Ok(Some(Array::vector(sizes.iter().map(|&size| size as i64).collect())))
        }
        "Size" => Ok(Some(Array::scalar(tensor.count() as i64))),
        _ => Ok(None),
    }
}

/// The same elements in the same order under a shape of as many elements.
fn reshaped(call: &mut Call<'_, '_>, shape: impl FnOnce(&[usize]) -> Option<Vec<usize>>) -> Outputs {
    let Some(own) = call.shape(0) else { return Ok(None) };
    let fitting = |shape: &Vec<usize>| shape.iter().product::<usize>() == own.iter().product::<usize>();
    let Some(shape) = shape(&own).filter(fitting) else { return Ok(None) };
    Ok(Some(vec![call.take(0)?.reshaped(shape)]))
}

/// Inference passes everything on. In training values are drawn from the device's random numbers, so that a run that is resumed
/// draws the same ones.
fn dropout(call: &mut Call<'_, '_>) -> Outputs {
    if call.wants(1) || call.node.version < 7 {
        return Ok(None);
    }
    let trains = match call.host(2)? {
        Some(flag) => flag.values::<bool>().is_some_and(|flag| flag == [true]),
        None => false,
    };
    let ratio = if call.node.version < 12 {
        f64::from(call.node.attributes.float_or("ratio", 0.5)?)
    } else {
        call.host(1)?.map_or(Ok(0.5), |ratio| ratio.float())?
    };
    if !trains || ratio == 0.0 {
        return reshaped(call, |shape| Some(shape.to_vec()));
    }
    // A node with a seed of its own draws what the reference implementation does.
    if call.dtype(0) != Some(DType::F32) || call.node.attributes.int_or("seed", i64::MIN)? != i64::MIN {
        return Ok(None);
    }
    let x = call.take(0)?;
    Ok(Some(vec![x.map(|x| dropped(x, ratio))]))
}

fn reshape(call: &mut Call<'_, '_>) -> Outputs {
    let Some(wanted) = call.ints_of("shape", 1)? else { return Ok(None) };
    let zero_is_zero = call.node.attributes.flag("allowzero", false)?;
    reshaped(call, |own| {
        let mut shape = Vec::new();
        let mut open = None;
        for (at, &size) in wanted.iter().enumerate() {
            shape.push(match size {
                0 if !zero_is_zero => *own.get(at)?,
                -1 if open.replace(at).is_none() => 1,
                size => usize::try_from(size).ok()?,
            });
        }
        if let Some(at) = open {
            let known: usize = shape.iter().product();
            shape[at] = own.iter().product::<usize>().checked_div(known)?;
        }
        Some(shape)
    })
}

fn flatten(call: &mut Call<'_, '_>) -> Outputs {
    let at = call.node.attributes.int_or("axis", 1)?;
    reshaped(call, |shape| {
        let at = if at < 0 { at + shape.len() as i64 } else { at };
        let (before, after) = shape.split_at_checked(usize::try_from(at).ok()?)?;
        Some(vec![before.iter().product(), after.iter().product()])
    })
}

fn squeeze(call: &mut Call<'_, '_>) -> Outputs {
    let axes = call.ints_of("axes", 1)?;
    reshaped(call, |shape| {
        let axes: Vec<usize> = match axes {
            Some(axes) => axes.into_iter().map(|at| axis(at, shape.len())).collect::<Result<_>>().ok()?,
            None => (0..shape.len()).filter(|&at| shape[at] == 1).collect(),
        };
        Some(shape.iter().enumerate().filter(|(at, _)| !axes.contains(at)).map(|(_, &size)| size).collect())
    })
}

fn unsqueeze(call: &mut Call<'_, '_>) -> Outputs {
    let axes = call.ints_of("axes", 1)?.unwrap_or_default();
    reshaped(call, |shape| {
        let rank = shape.len() + axes.len();
        let mut axes = axes.into_iter().map(|at| axis(at, rank)).collect::<Result<Vec<_>>>().ok()?;
        axes.sort_unstable();
        let mut shape = shape.to_vec();
        for at in axes {
            if at > shape.len() {
                return None;
            }
            shape.insert(at, 1);
        }
        Some(shape)
    })
}

fn transpose(call: &mut Call<'_, '_>) -> Outputs {
    let Some(shape) = call.shape(0) else { return Ok(None) };
    let order: Vec<usize> = match call.node.attributes.ints("perm")? {
        Some(order) => order.iter().map(|&at| axis(at, shape.len())).collect::<Result<_>>()?,
        None => (0..shape.len()).rev().collect(),
    };
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
pub(super) fn neighbours(shape: &[usize], order: &[usize]) -> (Vec<usize>, Vec<usize>) {
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
    let shapes: Option<Vec<Vec<usize>>> = (0..call.len()).map(|position| call.shape(position)).collect();
    let Some(shapes) = shapes.filter(|shapes| !shapes.is_empty() && !shapes[0].is_empty()) else { return Ok(None) };
    let mut shape = shapes[0].clone();
    let along = axis(call.node.attributes.int_or("axis", 1)?, shape.len())?;
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

/// Sizes from an attribute or an input; else equal parts, as many as there are outputs, the last possibly smaller.
fn split(call: &mut Call<'_, '_>) -> Outputs {
    let Some(shape) = call.shape(0).filter(|shape| !shape.is_empty()) else { return Ok(None) };
    let along = axis(call.node.attributes.int_or("axis", 0)?, shape.len())?;
    let size = shape[along];
    let sizes: Vec<usize> = match call.ints_of("split", 1)? {
        Some(sizes) => sizes.into_iter().map(|size| size.max(0) as usize).collect(),
        None => {
            let parts = call.node.outputs.len();
            let each = size.div_ceil(parts);
            (0..parts).map(|part| each.min(size.saturating_sub(part * each))).collect()
        }
    };
    if sizes.iter().sum::<usize>() != size || sizes.contains(&0) {
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

/// Starts, ends, axes and steps are attributes up to version 9, then inputs.
fn slice(call: &mut Call<'_, '_>) -> Outputs {
    let Some(mut shape) = call.shape(0) else { return Ok(None) };
    let (Some(starts), Some(ends)) = (call.ints_of("starts", 1)?, call.ints_of("ends", 2)?) else { return Ok(None) };
    let axes = call.ints_of("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = call.ints(4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Ok(None);
    }
    let mut cuts: Vec<(usize, Cut)> = Vec::new();
    for (at, &along) in axes.iter().enumerate() {
        let along = axis(along, shape.len())?;
        let Some(cut) = Cut::of(starts[at], ends[at], steps[at], shape[along]) else { return Ok(None) };
        shape[along] = cut.count;
        cuts.push((along, cut));
    }
    let mut x = call.take(0)?;
    for (along, cut) in cuts {
        let (_, size, _) = around(x.shape(), along);
        if cut.count == size && cut.step == 1 {
            continue;
        }
        let mut shape = x.shape().to_vec();
        shape[along] = cut.count;
        let dtype = x.dtype();
        let whole = x.around(along);
        let part = if cut.step == 1 { whole.narrow(1, cut.start, cut.count) } else { select(whole, &cut.positions()) };
        x = DeviceTensor::new(part, shape, dtype);
    }
    Ok(Some(vec![x]))
}

/// Positions along an axis: a first one, a step, and how many.
struct Cut {
    start: usize,
    step: i64,
    count: usize,
}

impl Cut {
    /// What a slice means on an axis of some size; `None` when nothing is left of it or its step is zero.
    fn of(start: i64, end: i64, step: i64, size: usize) -> Option<Self> {
        let size = size as i64;
        let wrapped = |at: i64| if at < 0 { at.saturating_add(size) } else { at };
        let (start, end) = match step {
            0 => return None,
            1.. => (wrapped(start).clamp(0, size), wrapped(end).clamp(0, size)),
            _ => (wrapped(start).clamp(0, size - 1), wrapped(end).clamp(-1, size - 1)),
        };
        let count = if step > 0 { (end - start + step - 1) / step } else { (start - end - step - 1) / -step };
        (count > 0).then_some(Self { start: start as usize, step, count: count as usize })
    }

    fn positions(&self) -> Vec<i64> {
        (0..self.count as i64).map(|turn| self.start as i64 + turn * self.step).collect()
    }
}

/// Positions along the middle axis.
fn select(x: Tensor<3>, positions: &[i64]) -> Tensor<3> {
    let device = x.device();
    let positions = Tensor::<1, Int>::from_data(TensorData::new(positions.to_vec(), [positions.len()]), &device);
    x.select(1, positions)
}

/// The indices come from the host.
fn gather(call: &mut Call<'_, '_>) -> Outputs {
    let (Some(shape), Some(taken)) = (call.shape(0).filter(|shape| !shape.is_empty()), call.shape(1)) else {
        return Ok(None);
    };
    let along = axis(call.node.attributes.int_or("axis", 0)?, shape.len())?;
    let size = shape[along] as i64;
    let Some(indices) = call.ints(1)?.filter(|indices| !indices.is_empty()) else { return Ok(None) };
    let indices: Vec<i64> = indices.into_iter().map(|index| if index < 0 { index + size } else { index }).collect();
    if indices.iter().any(|index| !(0..size).contains(index)) {
        return Ok(None);
    }
    let out: Vec<usize> = shape[..along].iter().chain(&taken).chain(&shape[along + 1..]).copied().collect();
    count(&out)?;
    let x = call.take(0)?;
    let dtype = x.dtype();
    Ok(Some(vec![DeviceTensor::new(select(x.around(along), &indices), out, dtype)]))
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

/// With a constant on either side of axes. Amounts and value are attributes up to version 10, then inputs.
fn pad(call: &mut Call<'_, '_>) -> Outputs {
    let Some(shape) = call.shape(0) else { return Ok(None) };
    let attributes = &call.node.attributes;
    if attributes.text_or("mode", "constant")? != "constant" {
        return Ok(None);
    }
    let Some(amounts) = call.ints_of("pads", 1)? else { return Ok(None) };
    let value = match attributes.float("value")? {
        Some(value) => f64::from(value),
        None => call.host(2)?.map(|value| value.float()).transpose()?.unwrap_or(0.0),
    };
    let axes = match call.ints(3)? {
        Some(axes) => axes.into_iter().map(|at| axis(at, shape.len())).collect::<Result<Vec<_>>>()?,
        None => (0..shape.len()).collect(),
    };
    let amounts: Option<Vec<usize>> = amounts.into_iter().map(|amount| usize::try_from(amount).ok()).collect();
    let Some(amounts) = amounts.filter(|amounts| amounts.len() == 2 * axes.len()) else { return Ok(None) };
    let mut whole = shape.clone();
    for (at, &along) in axes.iter().enumerate() {
        whole[along] = whole[along].saturating_add(amounts[at]).saturating_add(amounts[at + axes.len()]);
    }
    count(&whole)?;
    let mut x = call.take(0)?;
    for (at, &along) in axes.iter().enumerate() {
        let (before, after) = (amounts[at], amounts[at + axes.len()]);
        if before + after == 0 {
            continue;
        }
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

/// Values seen as an array of some shape, its axes in another order, and the shape that comes out.
#[derive(Debug, Clone)]
pub(super) struct Move {
    /// The array of values.
    pub view: Vec<usize>,
    /// Where its axes go.
    pub order: Vec<usize>,
    /// What comes out.
    pub shape: Vec<usize>,
}

/// Channels that become pixels, in blocks of so many rows and columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shuffle {
    block: usize,
    /// Columns and rows first (`CRD`, the pixel shuffle of PyTorch), else depth first (`DCR`).
    pixels_first: bool,
}

impl Shuffle {
    /// That of a `DepthToSpace`.
    pub fn of(node: &Node) -> Result<Option<Self>> {
        let pixels_first = match node.attributes.text_or("mode", "DCR")? {
            "DCR" => false,
            "CRD" => true,
            _ => return Ok(None),
        };
        Ok(block(node)?.map(|block| Self { block, pixels_first }))
    }

    /// What moves where in an array of some shape.
    pub fn over(self, shape: &[usize]) -> Option<Move> {
        let (&[items, channels, height, width], block) = (four(shape)?, self.block);
        let left = Some(channels).filter(|channels| channels.is_multiple_of(block * block))? / (block * block);
        let (view, order) = if self.pixels_first {
            ([items, left, block, block, height, width], [0, 1, 4, 2, 5, 3])
        } else {
            ([items, block, block, left, height, width], [0, 3, 4, 1, 5, 2])
        };
        Some(Move {
            view: view.to_vec(),
            order: order.to_vec(),
            shape: vec![items, left, height * block, width * block],
        })
    }
}

fn depth_to_space(call: &mut Call<'_, '_>) -> Outputs {
    let shuffle = Shuffle::of(call.node)?.zip(call.shape(0)).and_then(|(shuffle, shape)| shuffle.over(&shape));
    let Some(Move { view, order, shape }) = shuffle else { return Ok(None) };
    let x = call.take(0)?;
    Ok(permuted(x, &view, &order, shape).map(|out| vec![out]))
}

fn space_to_depth(call: &mut Call<'_, '_>) -> Outputs {
    let Some((&[items, channels, height, width], block)) =
        call.shape(0).as_deref().and_then(four).zip(block(call.node)?)
    else {
        return Ok(None);
    };
    if height % block != 0 || width % block != 0 {
        return Ok(None);
    }
    let shape = vec![items, channels * block * block, height / block, width / block];
    let view = [items, channels, height / block, block, width / block, block];
    let order = match call.node.attributes.text_or("mode", "DCR")? {
        "DCR" => [0, 3, 5, 1, 2, 4],
        "CRD" => [0, 1, 3, 5, 2, 4],
        _ => return Ok(None),
    };
    let x = call.take(0)?;
    Ok(permuted(x, &view, &order, shape).map(|out| vec![out]))
}

fn four(shape: &[usize]) -> Option<&[usize; 4]> {
    shape.try_into().ok()
}

fn block(node: &Node) -> Result<Option<usize>> {
    Ok(usize::try_from(node.attributes.int_or("blocksize", 0)?).ok().filter(|&block| block > 0))
}
