//! Elements in other places: joined, cut, turned, chosen.

use super::{HostOp, Inputs, concat as joined, one};
use crate::array::{Broadcast, Data, axis, count, index_of};
use crate::{Array, Error, Node, Result, Value};

pub(super) fn find(operator: &str) -> Option<HostOp> {
    Some(match operator {
        "Concat" => concat,
        "Split" => split,
        "Slice" => slice,
        "Transpose" => transpose,
        "DepthToSpace" => depth_to_space,
        "SpaceToDepth" => space_to_depth,
        "ReverseSequence" => reverse_sequence,
        "Trilu" => trilu,
        "Where" => choose,
        _ => return None,
    })
}

fn concat(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let arrays = inputs.arrays()?;
    let rank = arrays.first().map_or(0, |first| first.rank());
    one(joined(&arrays, axis(node.attributes.int_or("axis", 1)?, rank)?)?)
}

/// Lengths as an attribute, an input, or from the number of outputs.
fn split(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let axis = axis(node.attributes.int_or("axis", 0)?, x.rank())?;
    let size = x.shape()[axis];
    let given = match inputs.ints(1)? {
        Some(given) => Some(given),
        None => node.attributes.ints("split")?.map(<[i64]>::to_vec),
    };
    let lengths = match given {
        Some(given) => super::sizes(&given)?,
        None => {
            let parts = match node.attributes.int("num_outputs")? {
                Some(parts) => usize::try_from(parts).ok().filter(|&parts| parts <= node.outputs.len()),
                None => Some(node.outputs.len()),
            };
            let parts = parts
                .filter(|&parts| parts > 0)
                .ok_or_else(|| Error::invalid("it is split into more parts than it has outputs"))?;
            // The last part may be shorter.
            let length = size.div_ceil(parts);
            (0..parts).map(|part| length.min(size.saturating_sub(part * length))).collect()
        }
    };
    parts(x, axis, &lengths).map(|parts| parts.into_iter().map(Value::from).collect())
}

/// Parts of an array along an axis, of lengths that make up the axis.
pub(super) fn parts(x: &Array, axis: usize, lengths: &[usize]) -> Result<Vec<Array>> {
    let size = x.shape()[axis];
    if lengths.iter().try_fold(0_usize, |sum, &length| sum.checked_add(length)) != Some(size) {
        return Err(Error::invalid(format!("parts of lengths {lengths:?} do not make up an axis of size {size}")));
    }
    let mut start = 0;
    let part = |&length: &usize| {
        let mut axes = vec![None; x.rank()];
        axes[axis] = Some((start..start + length).collect());
        start += length;
        x.select(&axes)
    };
    lengths.iter().map(part).collect()
}

/// Version 1 has everything in attributes, and no steps.
fn slice(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let list = |position: usize, name: &str| -> Result<Option<Vec<i64>>> {
        if node.version < 10 { Ok(node.attributes.ints(name)?.map(<[i64]>::to_vec)) } else { inputs.ints(position) }
    };
    let missing = |what| move || Error::invalid(format!("there are no {what}"));
    let starts = list(1, "starts")?.ok_or_else(missing("starts"))?;
    let ends = list(2, "ends")?.ok_or_else(missing("ends"))?;
    let axes = list(3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = list(4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err(Error::invalid("starts, ends, axes and steps are of different lengths"));
    }
    let mut chosen = vec![None; x.rank()];
    for (((start, end), along), step) in starts.into_iter().zip(ends).zip(axes).zip(steps) {
        let along = axis(along, x.rank())?;
        chosen[along] = Some(positions(x.shape()[along] as i64, start, end, step)?);
    }
    one(x.select(&chosen)?)
}

fn positions(size: i64, start: i64, end: i64, step: i64) -> Result<Vec<usize>> {
    let from_end = |position: i64| if position < 0 { position.saturating_add(size) } else { position };
    let (start, end) = (from_end(start), from_end(end));
    let each = usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX);
    Ok(match step {
        0 => return Err(Error::invalid("a step is 0")),
        1.. => (start.clamp(0, size) as usize..end.clamp(0, size) as usize).step_by(each).collect(),
        // Backwards `end` is the last one that is left out, so that -1 means the whole axis.
        _ => {
            let (first, last) = (start.clamp(-1, size - 1), end.clamp(-1, size - 1));
            (last + 1..=first).rev().step_by(each).map(|position| position as usize).collect()
        }
    })
}

fn transpose(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let order = match node.attributes.ints("perm")? {
        Some(perm) => perm.iter().map(|&from| axis(from, x.rank())).collect::<Result<_>>()?,
        None => (0..x.rank()).rev().collect::<Vec<_>>(),
    };
    one(x.transposed(&order)?)
}

/// Batch, channels, height, width and the block size.
fn image(node: &Node, x: &Array) -> Result<([usize; 4], usize)> {
    let shape = <[usize; 4]>::try_from(x.shape());
    let shape =
        shape.map_err(|_| Error::invalid(format!("expected images as [N, C, H, W], found shape {:?}", x.shape())))?;
    let block = node.attributes.int("blocksize")?.and_then(|block| usize::try_from(block).ok());
    let block = block
        .filter(|&block| block > 0 && block < 1 << 20)
        .ok_or_else(|| Error::invalid("attribute 'blocksize' should be 1 or more"))?;
    Ok((shape, block))
}

fn depth_to_space(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let ([n, c, h, w], b) = image(node, x)?;
    let depth = c / (b * b);
    if depth * b * b != c {
        return Err(Error::invalid(format!("{c} channels are no whole number of blocks of {b} × {b}")));
    }
    let (apart, order) = match node.attributes.text_or("mode", "DCR")? {
        "DCR" => (vec![n, b, b, depth, h, w], [0, 3, 4, 1, 5, 2]),
        "CRD" => (vec![n, depth, b, b, h, w], [0, 1, 4, 2, 5, 3]),
        other => return Err(Error::invalid(format!("mode is '{other}', not DCR or CRD"))),
    };
    one(x.reshaped(apart)?.transposed(&order)?.reshaped(vec![n, depth, h * b, w * b])?)
}

fn space_to_depth(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let ([n, c, h, w], b) = image(node, x)?;
    if h % b != 0 || w % b != 0 {
        return Err(Error::invalid(format!("{h} × {w} is no whole number of blocks of {b} × {b}")));
    }
    let order = match node.attributes.text_or("mode", "DCR")? {
        "DCR" => [0, 3, 5, 1, 2, 4],
        "CRD" => [0, 1, 3, 5, 2, 4],
        other => return Err(Error::invalid(format!("mode is '{other}', not DCR or CRD"))),
    };
    one(x.reshaped(vec![n, c, h / b, b, w / b, b])?.transposed(&order)?.reshaped(vec![n, c * b * b, h / b, w / b])?)
}

fn reverse_sequence(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let (x, lengths) = (inputs.array(0)?, super::sizes(&inputs.array(1)?.int64s()?)?);
    let time = axis(node.attributes.int_or("time_axis", 0)?, x.rank())?;
    let batch = axis(node.attributes.int_or("batch_axis", 1)?, x.rank())?;
    if time == batch || lengths.len() != x.shape()[batch] || lengths.iter().any(|&length| length > x.shape()[time]) {
        return Err(Error::invalid(format!("lengths {lengths:?} do not fit shape {:?}", x.shape())));
    }
    let steps = crate::array::strides(x.shape());
    let from = |position: usize| {
        let index = index_of(position, x.shape());
        let (at, length) = (index[time], lengths[index[batch]]);
        if at < length { position - at * steps[time] + (length - 1 - at) * steps[time] } else { position }
    };
    one(x.take(x.shape().to_vec(), &(0..x.len()).map(from).collect::<Vec<_>>())?)
}

/// The part of each matrix above or below a diagonal; zeros elsewhere.
fn trilu(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let &[.., rows, columns] = x.shape() else {
        return Err(Error::invalid("expected matrices, found a tensor of fewer than 2 axes"));
    };
    let diagonal = inputs.optional(1)?.map_or(Ok(0), Array::int)?;
    let upper = node.attributes.flag("upper", true)?;
    let zero = Data::zeros(x.dtype(), 1);
    let pool = Data::concat(&[&zero, x.data()]).ok_or_else(|| Error::invalid("there is nothing to cut"))?;
    let from = |i: usize| {
        let above = (i % columns) as i128 - (i / columns % rows) as i128 - i128::from(diagonal);
        if if upper { above >= 0 } else { above <= 0 } { i + 1 } else { 0 }
    };
    one(Array::from_data(x.shape().to_vec(), pool.take(&(0..x.len()).map(from).collect::<Vec<_>>()))?)
}

fn choose(_: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let (condition, x, y) = (inputs.array(0)?, inputs.array(1)?, inputs.array(2)?);
    if x.dtype() != y.dtype() {
        return Err(Error::invalid(format!("its inputs are of different types, {} and {}", x.dtype(), y.dtype())));
    }
    let all = Broadcast::new(&[condition.shape(), x.shape(), y.shape()])?;
    let choose = condition.expect::<bool>()?;
    let pool = Data::concat(&[x.data(), y.data()]).ok_or_else(|| Error::invalid("there is nothing to choose from"))?;
    let from = |i: usize| if choose[all.at(0, i)] { all.at(1, i) } else { x.len() + all.at(2, i) };
    let from: Vec<_> = (0..count(&all.shape)?).map(from).collect();
    one(Array::from_data(all.shape, pool.take(&from))?)
}
