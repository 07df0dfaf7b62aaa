//! Operations on the shape and place of values.

use burn::backend::ir::{BaseOperationIr, CastOpIr, RepeatDimOpIr, ShapeOpIr, SliceOpIr, TensorIr};

use super::super::dims::Dim;
use super::super::graph::{Graph, element_type, int, ints};
use super::UNKNOWN;

pub fn lower(graph: &mut Graph<'_>, operation: &BaseOperationIr) -> Result<(), String> {
    match operation {
        BaseOperationIr::Reshape(op) => reshape(graph, op),
        BaseOperationIr::Permute(op) => transpose(graph, &op.input, &op.out, &op.axes),
        BaseOperationIr::SwapDims(op) => {
            let mut axes: Vec<usize> = (0..op.input.shape.num_dims()).collect();
            axes.swap(op.dim1, op.dim2);
            transpose(graph, &op.input, &op.out, &axes)
        }
        BaseOperationIr::Expand(op) => expand(graph, op),
        BaseOperationIr::RepeatDim(op) => repeat(graph, op),
        BaseOperationIr::Slice(op) => slice(graph, op),
        BaseOperationIr::Cat(op) => {
            let inputs = op.tensors.iter().map(|tensor| graph.value(tensor)).collect::<Result<_, _>>()?;
            graph.node("", "Concat", inputs, &[&op.out], vec![int("axis", op.dim as i64)]);
            Ok(())
        }
        BaseOperationIr::Select(op) => {
            let inputs = vec![graph.value(&op.tensor)?, graph.value(&op.indices)?];
            graph.node("", "Gather", inputs, &[&op.out], vec![int("axis", op.dim as i64)]);
            Ok(())
        }
        BaseOperationIr::Cast(op) => cast(graph, op),
        _ => Err(UNKNOWN.to_string()),
    }
}

pub fn cast(graph: &mut Graph<'_>, op: &CastOpIr) -> Result<(), String> {
    let input = graph.value(&op.input)?;
    graph.node("", "Cast", vec![input], &[&op.out], vec![int("to", i64::from(element_type(op.out.dtype)?))]);
    Ok(())
}

fn transpose(graph: &mut Graph<'_>, input: &TensorIr, out: &TensorIr, axes: &[usize]) -> Result<(), String> {
    let input = graph.value(input)?;
    graph.node("", "Transpose", vec![input], &[out], vec![ints("perm", axes)]);
    Ok(())
}

/// `Flatten` where all but the first axis become one; else `Reshape`, whose 0 keeps an axis and whose -1 is what is left.
fn reshape(graph: &mut Graph<'_>, op: &ShapeOpIr) -> Result<(), String> {
    let (from, to) = (graph.shape(&op.input), graph.shape(&op.out));
    if from == to {
        return graph.alias(&op.input, &op.out);
    }
    let input = graph.value(&op.input)?;
    let joined = from.get(1..).unwrap_or_default().iter().map(|dim| dim.fixed()).product::<Option<usize>>();
    if let ([first, second], Some(joined)) = (&to[..], joined)
        && from.first() == Some(first)
        && second.fixed() == Some(joined)
    {
        let module = graph.names.layer("Flatten");
        graph.node(&module, "Flatten", vec![input], &[&op.out], vec![int("axis", 1)]);
        return Ok(());
    }
    let mut left = false;
    let mut target = Vec::new();
    for (axis, dim) in to.iter().enumerate() {
        target.push(match dim {
            // 0 would keep an axis: an empty one cannot be said so.
            Dim::Fixed(0) => return Err("it makes an empty tensor".to_string()),
            Dim::Fixed(size) => *size as i64,
            Dim::Batch(_) if from.get(axis) == Some(dim) => 0,
            Dim::Batch(_) if !left => {
                left = true;
                -1
            }
            Dim::Batch(_) => return Err("two of its axes depend on the batch size".to_string()),
        });
    }
    let shape = graph.integers("Shape", &target);
    graph.node("", "Reshape", vec![input, shape], &[&op.out], vec![]);
    Ok(())
}

fn expand(graph: &mut Graph<'_>, op: &ShapeOpIr) -> Result<(), String> {
    let (from, to) = (graph.shape(&op.input), graph.shape(&op.out));
    let added = to.len() - from.len().min(to.len());
    // An axis stays as it is where the target says 1.
    let stays = |(axis, dim): (usize, &Dim)| axis >= added && from[axis - added] == *dim;
    let target: Vec<Dim> =
        to.iter().enumerate().map(|(axis, dim)| if stays((axis, dim)) { Dim::Fixed(1) } else { *dim }).collect();
    let input = graph.value(&op.input)?;
    let shape = graph.sizes(&target);
    graph.node("", "Expand", vec![input, shape], &[&op.out], vec![]);
    Ok(())
}

/// Copies along an axis: of one value `Expand`, which knows the batch size; of several `Tile`.
fn repeat(graph: &mut Graph<'_>, op: &RepeatDimOpIr) -> Result<(), String> {
    let (from, to) = (graph.shape(&op.tensor), graph.shape(&op.out));
    let single = from.get(op.dim) == Some(&Dim::Fixed(1));
    let copies = |axis: usize| if axis == op.dim { op.times as i64 } else { 1 };
    if !single && to.get(op.dim).is_some_and(|dim| dim.fixed().is_none()) {
        return Err("it repeats several values for each item of the batch".to_string());
    }
    let input = graph.value(&op.tensor)?;
    if single {
        let target: Vec<Dim> =
            (0..to.len()).map(|axis| if axis == op.dim { to[axis] } else { Dim::Fixed(1) }).collect();
        let shape = graph.sizes(&target);
        graph.node("", "Expand", vec![input, shape], &[&op.out], vec![]);
    } else {
        let times: Vec<i64> = (0..to.len()).map(copies).collect();
        let times = graph.integers("Repeats", &times);
        graph.node("", "Tile", vec![input, times], &[&op.out], vec![]);
    }
    Ok(())
}

/// A slice of some axes; those that are whole are left out, and hold for any batch size.
fn slice(graph: &mut Graph<'_>, op: &SliceOpIr) -> Result<(), String> {
    let (shape, left) = (graph.shape(&op.tensor), graph.shape(&op.out));
    let (mut starts, mut ends, mut axes, mut steps) = (vec![], vec![], vec![], vec![]);
    for (axis, (range, dim)) in op.ranges.iter().zip(&shape).enumerate() {
        let size = op.tensor.shape.to_vec()[axis] as isize;
        let end = range.end.unwrap_or(size);
        // What is left of an open axis is open too, or it is as many as happen to be in the smaller of two batches.
        let whole = range.start == 0 && range.step == 1 && end >= size;
        if dim.fixed().is_none() && (!whole || left[axis].fixed().is_some()) {
            return Err("it takes a part of the batch".to_string());
        }
        if whole {
            continue;
        }
        if range.step < 1 || range.start < 0 || end < 0 {
            return Err("it counts backwards".to_string());
        }
        starts.push(range.start as i64);
        ends.push(end as i64);
        axes.push(axis as i64);
        steps.push(range.step as i64);
    }
    if axes.is_empty() {
        return graph.alias(&op.tensor, &op.out);
    }
    let mut inputs = vec![graph.value(&op.tensor)?];
    for (name, values) in [("Starts", starts), ("Ends", ends), ("Axes", axes), ("Steps", steps)] {
        inputs.push(graph.integers(name, &values));
    }
    graph.node("", "Slice", inputs, &[&op.out], vec![]);
    Ok(())
}
