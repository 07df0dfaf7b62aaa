//! Max pooling.

use rekindle_kernels::MaxPool2d;
use rekindle_onnx::{Node, Result};

use super::HostOp;
use super::latest::Latest;
use crate::kernels::CHECKED;
use crate::onnx::run::Outputs;
use crate::onnx::run::call::Call;
use crate::onnx::run::pool::pool;

pub(super) fn plan(node: &Node) -> Result<Option<HostOp>> {
    let latest = Latest::default();
    let max: Option<HostOp> = match node.operator.as_str() {
        "MaxPool" => Some(Box::new(move |call| max(call, &latest))),
        _ => None,
    };
    Ok(max)
}

fn max(call: &mut Call<'_, '_>, latest: &Latest<(MaxPool2d, Vec<usize>)>) -> Outputs {
    let Some(shape @ &[items, channels, height, width]) = call.floats(0) else { return Ok(None) };
    let found = latest.of(shape, || {
        let Some((_, window, shape)) = pool::<2, true>(call)? else { return Ok(None) };
        let Some(padding) = window.symmetric() else { return Ok(None) };
        let (kernel, stride, dilation) = (window.kernel, window.stride, window.dilation);
        let pool = MaxPool2d { planes: items * channels, input: [height, width], kernel, stride, padding, dilation };
        Ok(pool.check().is_ok().then_some((pool, shape)))
    });
    let Some((pool, shape)) = found? else { return Ok(None) };
    let (x, _) = call.take_host(0)?;
    let mut output = call.buffer(&shape)?;
    pool.forward(x.values(), output.values_mut()).expect(CHECKED);
    call.answer(output, shape)
}
