//! Axes in another order. With what reshapes before and after, which moves nothing, that is one pass over the values.

use rekindle_onnx::array::axis;
use rekindle_onnx::{Node, Result};

use super::HostOp;
use super::latest::Latest;
use crate::onnx::run::Outputs;
use crate::onnx::run::call::Call;
use crate::onnx::run::shape::{Move, Shuffle, neighbours};

pub(super) fn plan(node: &Node) -> Result<Option<HostOp>> {
    let latest = Latest::default();
    Ok(match node.operator.as_str() {
        "Transpose" => {
            let order = node.attributes.ints("perm")?.map(<[i64]>::to_vec);
            Some(Box::new(move |call| permuted(call, &latest, |shape| transposed(shape, order.as_deref()))))
        }
        "DepthToSpace" => {
            let Some(shuffle) = Shuffle::of(node)? else { return Ok(None) };
            Some(Box::new(move |call| permuted(call, &latest, |shape| Ok(shuffle.over(shape)))))
        }
        _ => None,
    })
}

fn transposed(shape: &[usize], order: Option<&[i64]>) -> Result<Option<Move>> {
    let order: Vec<usize> = match order {
        Some(order) => order.iter().map(|&at| axis(at, shape.len())).collect::<Result<_>>()?,
        None => (0..shape.len()).rev().collect(),
    };
    let mut sorted = order.clone();
    sorted.sort_unstable();
    let out = |order: &[usize]| order.iter().map(|&at| shape[at]).collect();
    Ok(sorted.into_iter().eq(0..shape.len()).then(|| Move { view: shape.to_vec(), shape: out(&order), order }))
}

fn permuted(
    call: &mut Call<'_, '_>,
    latest: &Latest<Move>,
    find: impl FnOnce(&[usize]) -> Result<Option<Move>>,
) -> Outputs {
    let Some(shape) = call.floats(0) else { return Ok(None) };
    // Axes that stay side by side count as one.
    let grouped = |Move { view, order, shape }: Move| {
        let (view, order) = neighbours(&view, &order);
        Move { view, order, shape }
    };
    let Some(Move { view, order, shape }) = latest.of(shape, || Ok(find(shape)?.map(grouped)))? else {
        return Ok(None);
    };
    let (x, _) = call.take_host(0)?;
    if order.len() < 2 {
        return call.answer(x, shape);
    }
    let mut output = call.buffer(&shape)?;
    rekindle_kernels::permute(x.values(), &view, &order, output.values_mut());
    call.answer(output, shape)
}
