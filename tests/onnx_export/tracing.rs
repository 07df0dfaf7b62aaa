//! Modules of one's own: operations that can be written, and those that cannot.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::{gelu, leaky_relu, sigmoid, softmax};
use burn::tensor::{Device, Tensor, s};
use rekindle::onnx::export::{ExportOptions, Exported, export_module};
use rekindle::onnx::verify::structure;

#[derive(Module, Debug)]
struct Own {
    linear: Linear,
}

impl Own {
    fn new() -> Self {
        Self { linear: LinearConfig::new(4, 3).init(&Device::flex()) }
    }
}

fn export<const D: usize>(opset: i64, forward: impl Fn(&Own, Tensor<4>) -> Tensor<D>) -> Result<Exported, String> {
    let options = ExportOptions { opset, ..ExportOptions::default() };
    export_module(&Own::new(), [2, 6, 4], forward, &options).map_err(|error| error.to_string())
}

/// The operators of a module that can be written, which is valid.
#[track_caller]
fn operators<const D: usize>(opset: i64, forward: impl Fn(&Own, Tensor<4>) -> Tensor<D>) -> Vec<String> {
    let exported = export(opset, forward).unwrap();
    assert_eq!(structure::check(&exported.model, ".".as_ref()), Vec::<String>::new());
    exported.model.graph.unwrap().node.into_iter().map(|node| node.op_type).collect()
}

#[test]
fn operations_have_their_operators() {
    assert_eq!(operators(17, |own, x| own.linear.forward(x)), ["Transpose", "Reshape", "MatMul", "Reshape", "Add"]);
    assert_eq!(operators(17, |_, x| sigmoid(leaky_relu(x, 0.1))), ["LeakyRelu", "Sigmoid"]);
    assert_eq!(operators(17, |_, x| softmax(x.clamp(-0.5, 0.5), 3)), ["Clip", "Softmax"]);
    assert_eq!(operators(20, |_, x| gelu(x)), ["Gelu"]);
    assert_eq!(operators(17, |_, x| gelu(x)), ["Div", "Erf", "Add", "Mul", "Mul"]);
    assert_eq!(operators(17, |_, x| x.permute([0, 2, 1, 3]).swap_dims(2, 3)), ["Transpose", "Transpose"]);
    assert_eq!(operators(17, |_, x| x.mean_dim(3).sum_dim(2)), ["ReduceMean", "ReduceSum"]);
    assert_eq!(operators(18, |_, x| x.mean_dim(3)), ["ReduceMean"]);
    assert_eq!(operators(17, |_, x| (x.clone().exp() + 1.0) * x), ["Exp", "Add", "Mul"]);
    assert_eq!(
        operators(17, |_, x| x.slice(s![.., 0..2, 1..5, 0..4]).flatten::<2>(1, 3)).first().map(String::as_str),
        Some("Slice")
    );
    // As many images as the smaller of the two traced batches has: the graph would keep all of a larger one.
    let part = export(17, |_, x| x.slice([0..2, 0..2, 1..5, 0..4]).flatten::<2>(1, 3)).unwrap_err();
    assert!(part.contains("it takes a part of the batch"), "{part}");
}

#[test]
fn a_reshape_holds_for_any_batch() {
    // The batch first, in the middle and joined with another axis.
    for operator in operators(17, |_, x| x.reshape([0, 12, 4])) {
        assert_eq!(operator, "Reshape");
    }
    let joined = export(17, |_, x| {
        let [batch, ..] = x.dims();
        x.reshape([batch * 2, 24])
    });
    assert_eq!(structure::check(&joined.unwrap().model, ".".as_ref()), Vec::<String>::new());
}

#[test]
fn all_that_cannot_be_written_is_named_at_once() {
    let error = export(17, |_, x| x.cumsum(1).sort(2)).unwrap_err();
    assert!(error.starts_with("2 operations cannot be exported: no ONNX of opset 17 is known for "), "{error}");
    assert!(error.contains("CumSum") && error.contains("Sort"), "{error}");
    let error = export(17, |_, x| x.slice([0..1, 0..2, 0..6, 0..4])).unwrap_err();
    assert!(error.contains("batch"), "{error}");
    // A value that is looked at cannot be traced.
    let error = export(17, |_, x| if x.clone().sum().into_scalar::<f32>() > 0.0 { x } else { x * 2.0 }).unwrap_err();
    assert!(error.starts_with("the network cannot be traced: "), "{error}");
    // Another operation for another batch size.
    let error = export(17, |_, x| if x.dims()[0] == 2 { x.exp() } else { x.abs() }).unwrap_err();
    assert!(
        error.starts_with("the batch size cannot be left open: ") && error.ends_with("fix it with --batch N"),
        "{error}"
    );
}
