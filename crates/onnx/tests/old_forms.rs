//! Operators in the forms of old operator sets, and inputs that do not fit: what the conformance cases do not reach.

use std::path::Path;

use rekindle_onnx::{Array, HostOnly, Model, Result, Session, Value};
use rekindle_state::onnx::External;
use rekindle_state::onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto, attribute,
};

/// Runs one node of an operator set on inputs by position.
fn run(
    (domain, operator, version): (&str, &str, i64),
    attributes: Vec<AttributeProto>,
    inputs: &[Array],
    outputs: usize,
) -> Result<Vec<Array>> {
    let names = |stem: &str, count: usize| (0..count).map(|i| format!("{stem}{i}")).collect::<Vec<_>>();
    let ports = |names: &[String]| {
        names.iter().map(|name| ValueInfoProto { name: name.clone(), ..Default::default() }).collect()
    };
    let (ins, outs) = (names("x", inputs.len()), names("y", outputs));
    let node = NodeProto {
        input: ins.clone(),
        output: outs.clone(),
        op_type: operator.into(),
        domain: domain.into(),
        attribute: attributes,
        ..Default::default()
    };
    let graph = GraphProto { input: ports(&ins), output: ports(&outs), node: vec![node], ..Default::default() };
    let set = OperatorSetIdProto { domain: domain.into(), version };
    let model = ModelProto { ir_version: 8, opset_import: vec![set], graph: Some(graph), ..Default::default() };
    let session = Session::new(Model::from_proto(&model, &mut External::new(Path::new("")))?, HostOnly)?;
    let values = ins.into_iter().zip(inputs.iter().cloned().map(Value::from)).collect();
    session.run(values)?.iter().map(|value| value.array().cloned()).collect()
}

fn floats(shape: &[usize], values: &[f32]) -> Array {
    Array::new(shape.to_vec(), values.to_vec()).expect("as many values as the shape has")
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: attribute::INT, i, ..Default::default() }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: attribute::FLOAT, f, ..Default::default() }
}

fn text(name: &str, s: &str) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: attribute::STRING,
        s: s.as_bytes().to_vec().into(),
        ..Default::default()
    }
}

/// The sentence that says why a node cannot run.
fn refusal(operator: (&str, &str, i64), attributes: Vec<AttributeProto>, inputs: &[Array]) -> String {
    run(operator, attributes, inputs, 1).expect_err("the inputs do not fit").to_string()
}

#[test]
fn softmax_flattens_before_version_13() {
    let x = floats(&[1, 2, 2], &[0.0; 4]);
    let old = run(("", "Softmax", 11), vec![], std::slice::from_ref(&x), 1).expect("it runs");
    assert_eq!(old[0], floats(&[1, 2, 2], &[0.25; 4]));
    let new = run(("", "Softmax", 13), vec![], &[x], 1).expect("it runs");
    assert_eq!(new[0], floats(&[1, 2, 2], &[0.5; 4]));
}

#[test]
fn bounds_of_clip_were_attributes() {
    let x = floats(&[3], &[-2.0, 0.5, 2.0]);
    let clipped = run(("", "Clip", 6), vec![float("min", -1.0), float("max", 1.0)], &[x], 1).expect("it runs");
    assert_eq!(clipped[0], floats(&[3], &[-1.0, 0.5, 1.0]));
}

#[test]
fn reduction_axes_were_an_attribute() {
    let axes = AttributeProto { name: "axes".into(), r#type: attribute::INTS, ints: vec![-1], ..Default::default() };
    let x = floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let sums = run(("", "ReduceSum", 11), vec![axes, int("keepdims", 0)], &[x], 1).expect("it runs");
    assert_eq!(sums[0], floats(&[2], &[3.0, 7.0]));
}

#[test]
fn batch_normalization_trained_by_its_outputs_before_version_14() {
    let x = floats(&[2, 1], &[1.0, 3.0]);
    let one = |value: f32| floats(&[1], &[value]);
    let inputs = [x, one(1.0), one(0.0), one(0.0), one(1.0)];
    let attributes = vec![float("epsilon", 0.0), float("momentum", 0.5)];
    let trained = run(("", "BatchNormalization", 9), attributes.clone(), &inputs, 5).expect("it runs");
    let expected = [floats(&[2, 1], &[-1.0, 1.0]), one(1.0), one(1.0), one(2.0), one(1.0)];
    assert_eq!(trained, expected);
    let tested = run(("", "BatchNormalization", 9), attributes, &inputs, 1).expect("it runs");
    assert_eq!(tested[0], floats(&[2, 1], &[1.0, 3.0]));
}

#[test]
fn slopes_of_prelu_were_of_channels() {
    let x = floats(&[1, 2, 2], &[-1.0; 4]);
    let result = run(("", "PRelu", 6), vec![], &[x, floats(&[2], &[0.5, 2.0])], 1).expect("it runs");
    assert_eq!(result[0], floats(&[1, 2, 2], &[-0.5, -0.5, -2.0, -2.0]));
}

#[test]
fn small_inputs_cannot_ask_for_results_without_end() {
    let (rows, columns) = (floats(&[1 << 28, 0], &[]), floats(&[0, 1 << 28], &[]));
    let message = refusal(("", "MatMul", 13), vec![], &[rows.clone(), columns.clone()]);
    assert!(message.contains("too large"), "{message}");
    let message = refusal(("", "Einsum", 12), vec![text("equation", "ij,jk->ik")], &[rows, columns]);
    assert!(message.contains("too large"), "{message}");
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let x = floats(&[2, 3], &[0.0; 6]);
    let message = refusal(("", "MatMul", 13), vec![], &[x.clone(), x.clone()]);
    assert_eq!(message, "node 'y0' (MatMul): shapes [2, 3] and [2, 3] cannot be multiplied as matrices");
    let message = refusal(("", "Einsum", 12), vec![text("equation", "ij,ij->k")], &[x.clone(), x.clone()]);
    assert!(message.contains("'ij,ij->k'") && message.contains("no input has"), "{message}");
    let message = refusal(
        ("", "Attention", 23),
        vec![int("q_num_heads", 2)],
        &[floats(&[1, 2, 3], &[0.0; 6]), x.clone(), x.clone()],
    );
    assert!(message.contains("number of heads does not divide a hidden size of 3"), "{message}");
    let target = Array::new(vec![2], vec![0_i64, 7]).expect("two numbers");
    let message = refusal(("", "NegativeLogLikelihoodLoss", 13), vec![], &[x, target]);
    assert!(message.contains("the target 7 is none of 3 classes"), "{message}");
}

#[test]
fn blocks_of_four_bits_are_multiplied() {
    // Two columns of one block of 16 values: all 8 (zero) but the first, which is 9 and 6; scales 2 and 0.5.
    let mut packed = vec![0x88_u8; 16];
    (packed[0], packed[8]) = (0x89, 0x86);
    let (b, scales) = (Array::new(vec![2, 1, 8], packed).expect("16 bytes"), floats(&[2], &[2.0, 0.5]));
    let attributes = vec![int("K", 16), int("N", 2), int("bits", 4), int("block_size", 16)];
    let result = run(("com.microsoft", "MatMulNBits", 1), attributes, &[floats(&[1, 16], &[3.0; 16]), b, scales], 1)
        .expect("it runs");
    assert_eq!(result[0], floats(&[1, 2], &[6.0, -3.0]));
}

#[test]
fn distances_between_rows() {
    let (a, b) = (floats(&[2, 2], &[0.0, 0.0, 3.0, 4.0]), floats(&[3, 2], &[0.0, 0.0, 3.0, 0.0, 0.0, 4.0]));
    let inputs = [a.clone(), b];
    let squares = run(("com.microsoft", "CDist", 1), vec![], &inputs, 1).expect("it runs");
    assert_eq!(squares[0], floats(&[2, 3], &[0.0, 9.0, 16.0, 25.0, 16.0, 9.0]));
    let lengths = run(("com.microsoft", "CDist", 1), vec![text("metric", "euclidean")], &inputs, 1).expect("it runs");
    assert_eq!(lengths[0], floats(&[2, 3], &[0.0, 3.0, 4.0, 5.0, 4.0, 3.0]));
    // Rows without values are everywhere the same.
    let empty = [floats(&[2, 0], &[]), floats(&[1, 0], &[])];
    assert_eq!(run(("com.microsoft", "CDist", 1), vec![], &empty, 1).expect("it runs")[0], floats(&[2, 1], &[0.0; 2]));
    let message = refusal(("com.microsoft", "CDist", 1), vec![], &[a.clone(), floats(&[1, 3], &[0.0; 3])]);
    assert!(message.contains("2 values") && message.contains("3 of"), "{message}");
    let message = refusal(("com.microsoft", "CDist", 1), vec![text("metric", "cosine")], &[a.clone(), a]);
    assert!(message.contains("'cosine'"), "{message}");
}
