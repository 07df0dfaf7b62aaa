//! Several operations of Burn that are one of ONNX: a linear layer, pixel shuffle.

use burn::backend::ir::{BaseOperationIr, FloatOperationIr, MatmulOpIr, NumericOperationIr, OperationIr, TensorIr};

use super::super::graph::{Graph, int, text};
use super::module;

/// Lowers operations at the start of a list as one node; gives the number of operations that it stands for.
///
/// # Errors
/// When the operations are recognized, but one of their inputs is nothing that can be written.
pub fn lower(graph: &mut Graph<'_>, operations: &[OperationIr]) -> Result<Option<usize>, String> {
    match pixel_shuffle(graph, operations)? {
        None => linear(graph, operations),
        found => Ok(found),
    }
}

/// A product with a weight matrix, and the sum with a bias that has been given a first axis.
fn linear(graph: &mut Graph<'_>, operations: &[OperationIr]) -> Result<Option<usize>, String> {
    let [OperationIr::Float(_, FloatOperationIr::Matmul(product)), rest @ ..] = operations else { return Ok(None) };
    let MatmulOpIr { lhs, rhs, out } = product;
    let matrices = lhs.shape.num_dims() == 2 && rhs.shape.num_dims() == 2;
    if !matrices || !graph.trace.parameters.contains_key(&rhs.id) {
        return Ok(None);
    }
    if let [
        OperationIr::BaseFloat(BaseOperationIr::Reshape(wide)),
        OperationIr::NumericFloat(_, NumericOperationIr::Add(sum)),
        ..,
    ] = rest
        && is_bias(graph, &wide.input)
        && (sum.lhs.id, sum.rhs.id) == (out.id, wide.out.id)
        && graph.used_once(out)
        && graph.used_once(&wide.out)
    {
        module::gemm(graph, lhs, rhs, Some(&wide.input), &sum.out)?;
        return Ok(Some(3));
    }
    module::gemm(graph, lhs, rhs, None, out)?;
    Ok(Some(1))
}

fn is_bias(graph: &Graph<'_>, tensor: &TensorIr) -> bool {
    tensor.shape.num_dims() == 1 && graph.trace.parameters.contains_key(&tensor.id)
}

/// The axes of `[n, c, r, r, h, w]` in the order that puts each block of `r × r` channels beside its pixel.
const ORDER: [usize; 6] = [0, 1, 4, 2, 5, 3];

/// A reshape to `[n, c, r, r, h, w]`, a permutation and a reshape to `[n, c, h·r, w·r]`.
fn pixel_shuffle(graph: &mut Graph<'_>, operations: &[OperationIr]) -> Result<Option<usize>, String> {
    let [
        OperationIr::BaseFloat(BaseOperationIr::Reshape(split)),
        OperationIr::BaseFloat(BaseOperationIr::Permute(order)),
        OperationIr::BaseFloat(BaseOperationIr::Reshape(join)),
        ..,
    ] = operations
    else {
        return Ok(None);
    };
    let linked = order.input.id == split.out.id && join.input.id == order.out.id;
    if !linked || order.axes != ORDER || !graph.used_once(&split.out) || !graph.used_once(&order.out) {
        return Ok(None);
    }
    let sizes = |tensor: &TensorIr| tensor.shape.to_vec();
    let (from, apart, to) = (sizes(&split.input), sizes(&split.out), sizes(&join.out));
    let [n, c, r, s, h, w] = apart[..] else { return Ok(None) };
    if r != s || from != [n, c * r * r, h, w] || to != [n, c, h * r, w * r] {
        return Ok(None);
    }
    let module = graph.names.layer("PixelShuffle");
    let input = graph.value(&split.input)?;
    graph.node(
        &module,
        "DepthToSpace",
        vec![input],
        &[&join.out],
        vec![int("blocksize", r as i64), text("mode", "CRD")],
    );
    Ok(Some(3))
}
