//! Properties of public files that once gave an error or wrong numbers, with ONNX Runtime's answers.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use rekindle_onnx::reference::{Tolerance, difference, read_values};
use rekindle_onnx::{Array, Error, HostOnly, Model, Reason, Session, Value};
use rekindle_state::onnx::External;
use rekindle_state::onnx::proto::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto};
use support::{int, ints, model, node, port, untyped};

const TOLERANCE: Tolerance = Tolerance { rtol: 1e-3, atol: 1e-4 };

fn session(model: &ModelProto) -> Result<Session<HostOnly>, Error> {
    Session::new(Model::from_proto(model, &mut External::new(Path::new(".")))?, HostOnly)
}

/// Runs the test data of a fixture.
fn check(name: &str) {
    check_within(name, TOLERANCE);
}

fn check_within(name: &str, tolerance: Tolerance) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let session = Session::new(Model::open(&folder.join("model.onnx")).expect("a model"), HostOnly).expect("a session");
    let graph = &session.model().graph;
    let sets = (0..).map(|set| folder.join(format!("test_data_set_{set}"))).take_while(|set| set.is_dir());
    for set in sets {
        let inputs = read_values(&set, "input", &graph.inputs).expect("inputs");
        let expected = read_values(&set, "output", &graph.outputs).expect("outputs");
        assert!(!expected.is_empty());
        for (found, (name, expected)) in session.run(inputs).expect("outputs").iter().zip(&expected) {
            assert_eq!(difference(found, expected, tolerance, &mut 0.0).expect("numbers"), None, "{name}");
        }
    }
}

#[test]
fn batch_normalization_that_is_not_spatial_may_have_a_scale_for_each_channel() {
    check("batch_norm_not_spatial");
}

#[test]
fn axes_that_are_named_by_a_question_mark_are_each_open() {
    check("question_mark_axes");
}

#[test]
fn a_call_takes_the_function_of_its_overload() {
    check("x07_function_overloads");
}

#[test]
fn what_the_quantizer_of_onnx_runtime_writes_runs() {
    // One step of the result's scale is allowed: 1/255 for probabilities.
    for name in ["x01_qdq_u8s8", "x01_qoperator_u8s8"] {
        check_within(name, Tolerance { rtol: 0.0, atol: 0.004 });
    }
    check("x02_dynamic_quantize_lstm");
}

#[test]
fn a_decoder_block_with_grouped_queries_runs() {
    check("x04_gqa_llm_block");
}

#[test]
fn a_sequence_of_maps_is_compared_with_tolerances() {
    let maps = |value: f32| {
        let map: BTreeMap<i64, Value> = (0..3).map(|key| (key, Array::scalar(value + key as f32).into())).collect();
        Value::Sequence(vec![Value::IntMap(map)])
    };
    let how = |found, expected| difference(&found, &expected, TOLERANCE, &mut 0.0).expect("numbers");
    assert_eq!(how(maps(1.0), maps(1.00005)), None);
    let how = how(maps(1.0), maps(1.1)).expect("a difference");
    assert!(how.starts_with("element 0: key '0': 1 of 1 values differ"), "{how}");
}

/// A pool over an image of one row.
fn pooled(operator: &str, size: usize, kernel: i64, stride: i64) -> Result<Vec<f32>, Error> {
    let attributes = vec![ints("kernel_shape", &[kernel, 1]), ints("strides", &[stride, 1])];
    let graph = GraphProto {
        input: vec![port("x", 1, &[1, 1, size as i64, 1])],
        output: vec![untyped("y")],
        node: vec![node(operator, &["x"], &["y"], attributes)],
        ..GraphProto::default()
    };
    let x = Array::new(vec![1, 1, size, 1], (1..=size).map(|v| v as f32).collect())?;
    let outputs = session(&model(graph, Vec::new()))?.run(vec![("x".to_string(), x.into())])?;
    Ok(outputs[0].array()?.values::<f32>().expect("floats").to_vec())
}

#[test]
fn pools_wider_than_the_image_give_what_onnx_runtime_gives() {
    for (operator, two) in [("MaxPool", 2.0), ("AveragePool", 1.5)] {
        assert_eq!(pooled(operator, 1, 2, 2).expect("a window"), [1.0], "{operator}");
        assert_eq!(pooled(operator, 1, 3, 3).expect("a window"), [1.0], "{operator}");
        assert_eq!(pooled(operator, 2, 3, 2).expect("a window"), [two], "{operator}");
        assert!(pooled(operator, 1, 2, 1).expect("no window").is_empty(), "{operator}");
        assert!(pooled(operator, 1, 3, 1).is_err(), "{operator}");
    }
}

fn refused(nodes: Vec<NodeProto>, opset: i64) -> Vec<rekindle_onnx::Missing> {
    let last = nodes[nodes.len() - 1].output[0].clone();
    let graph = GraphProto {
        input: vec![port("x", 1, &[2])],
        output: vec![untyped(&last)],
        node: nodes,
        ..GraphProto::default()
    };
    let mut model = model(graph, Vec::new());
    model.opset_import = vec![OperatorSetIdProto { domain: String::new(), version: opset }];
    match session(&model) {
        Err(Error::Unsupported(missing)) => missing,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it is taken"),
    }
}

#[test]
fn operators_are_refused_together_with_the_reason() {
    let nodes = vec![
        node("Relu", &["x"], &["a"], Vec::new()),
        node("Whirl", &["a"], &["b"], Vec::new()),
        node("Whirl", &["b"], &["c"], Vec::new()),
        node("Gelu", &["c"], &["d"], Vec::new()),
    ];
    let missing = refused(nodes, 13);
    assert_eq!(missing.len(), 2);
    assert_eq!((missing[0].reason, missing[0].nodes.len()), (Reason::Unknown, 2));
    assert_eq!(missing[1].reason, Reason::Later(20));
    assert_eq!(missing[1].to_string(), "Gelu (opset 13, and it came with opset 20) ×1: 'd'");
    let missing = refused(vec![node("Relu", &["x"], &["y"], Vec::new())], 99);
    assert_eq!(missing[0].to_string(), "Relu (opset 99, newer than 28, the newest known) ×1: 'y'");
}

#[test]
fn attributes_are_read_when_a_model_is_loaded() {
    let graph = GraphProto {
        input: vec![port("x", 1, &[1, 1, 4, 4])],
        output: vec![untyped("y")],
        node: vec![node("MaxPool", &["x"], &["y"], vec![int("kernel_shape", 2)])],
        ..GraphProto::default()
    };
    let error = Model::from_proto(&model(graph, Vec::new()), &mut External::new(Path::new("."))).expect_err("no model");
    assert!(error.to_string().contains("attribute 'kernel_shape' is not a list of integers"), "{error}");
}
