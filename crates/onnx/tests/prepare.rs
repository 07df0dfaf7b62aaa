//! A prepared graph gives what the graph as it is gives, with fewer nodes.

mod support;

use std::path::Path;

use rekindle_onnx::reference::{Tolerance, difference};
use rekindle_onnx::{Array, HostOnly, Model, Session, Value};
use rekindle_state::onnx::External;
use rekindle_state::onnx::proto::{AttributeProto, GraphProto, NodeProto, TensorProto, attribute};
use support::{floats, graph, int, int64s, ints, model, node, port};

const FLOAT: i32 = 1;
const BOOL: i32 = 9;

/// Numbers without a pattern, around zero.
fn some(count: usize, seed: f32) -> Vec<f32> {
    (0..count).map(|k| (k as f32 * 1.7 + seed).sin() * 0.8 + 0.1).collect()
}

fn weight(name: &str, dims: &[i64], seed: f32) -> TensorProto {
    floats(name, dims, &some(dims.iter().product::<i64>() as usize, seed))
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.to_string(), r#type: attribute::FLOAT, f, ..AttributeProto::default() }
}

/// A graph of one input `x` and one output `y`.
fn one_to_one(x: &[i64], nodes: Vec<NodeProto>, weights: Vec<TensorProto>) -> GraphProto {
    GraphProto {
        input: vec![port("x", FLOAT, x)],
        output: vec![support::untyped("y")],
        node: nodes,
        initializer: weights,
        ..GraphProto::default()
    }
}

/// Runs a graph as it is and prepared; answers the operators that the prepared one has left.
fn compare(graph: GraphProto) -> Vec<String> {
    let shape: Vec<usize> = match &graph.input[0].r#type.as_ref().and_then(|kind| kind.value.as_ref()) {
        Some(rekindle_state::onnx::proto::type_proto::Value::TensorType(tensor)) => {
            let dims = &tensor.shape.as_ref().expect("a shape").dim;
            let size = |dim: &rekindle_state::onnx::proto::Dimension| match dim.value {
                Some(rekindle_state::onnx::proto::dimension::Value::DimValue(size)) => size as usize,
                _ => 1,
            };
            dims.iter().map(size).collect()
        }
        _ => panic!("an input that is no tensor"),
    };
    let model = Model::from_proto(&model(graph, vec![]), &mut External::new(Path::new(""))).expect("a valid model");
    let session = Session::prepared(model, HostOnly).expect("a model that runs");
    let x = Array::new(shape.clone(), some(shape.iter().product(), 0.3)).expect("as many values");
    let plain = session
        .run_watched(vec![("x".into(), rekindle_onnx::Slot::host(x.clone()))], &mut |_, _| Ok(()))
        .expect("plain");
    let prepared = session.run(vec![("x".into(), x.into())]).expect("prepared");
    assert_eq!(plain.len(), prepared.len());
    for (plain, prepared) in plain.iter().zip(&prepared) {
        let plain = plain.value(session.accelerator()).expect("a value");
        let how = difference(prepared, plain, Tolerance { rtol: 1e-5, atol: 1e-6 }, &mut 0.0).expect("arrays");
        assert_eq!(how, None);
        assert!(!plain.array().expect("an array").is_empty());
    }
    session.running_graph().nodes.iter().map(|node| node.full_operator()).collect()
}

#[test]
fn normalization_becomes_part_of_a_convolution() {
    for bias in [true, false] {
        let mut conv = node("Conv", &["x", "w"], &["a"], vec![ints("pads", &[1, 1, 1, 1]), ints("strides", &[2, 1])]);
        if bias {
            conv.input.push("b".into());
        }
        let nodes = vec![
            conv,
            node(
                "BatchNormalization",
                &["a", "scale", "shift", "mean", "variance"],
                &["c"],
                vec![float("epsilon", 0.01)],
            ),
            node("Relu", &["c"], &["y"], vec![]),
        ];
        let variance = floats("variance", &[3], &[0.5, 1.5, 2.5]);
        let weights = vec![weight("w", &[3, 2, 3, 3], 0.1), weight("b", &[3], 0.2), weight("scale", &[3], 0.3)];
        let weights = [weights, vec![weight("shift", &[3], 0.4), weight("mean", &[3], 0.5), variance]].concat();
        assert_eq!(compare(one_to_one(&[2, 2, 5, 6], nodes, weights)), ["Conv"]);
    }
}

#[test]
fn numbers_of_channels_become_part_of_weights() {
    for (operator, first) in
        [("Add", true), ("Add", false), ("Sub", true), ("Mul", true), ("Mul", false), ("Div", true)]
    {
        for dims in [&[4, 1][..], &[1, 4, 1], &[1]] {
            let inputs = if first { ["a", "c"] } else { ["c", "a"] };
            let nodes =
                vec![node("Conv", &["x", "w"], &["a"], vec![int("group", 2)]), node(operator, &inputs, &["y"], vec![])];
            let weights = vec![weight("w", &[4, 1, 3], 0.1), weight("c", dims, 0.9)];
            assert_eq!(compare(one_to_one(&[2, 2, 5], nodes, weights)), ["Conv"], "{operator} {dims:?}");
        }
        for flip in [0, 1] {
            let inputs = if first { ["a", "c"] } else { ["c", "a"] };
            let nodes = vec![
                node("Gemm", &["x", "w", "b"], &["a"], vec![int("transB", flip)]),
                node(operator, &inputs, &["y"], vec![]),
            ];
            let dims: &[i64] = if flip == 1 { &[5, 3] } else { &[3, 5] };
            let weights = vec![weight("w", dims, 0.1), weight("b", &[5], 0.4), weight("c", &[1, 5], 0.9)];
            assert_eq!(compare(one_to_one(&[2, 3], nodes, weights)), ["Gemm"], "{operator}");
        }
    }
}

/// What differs between rows, columns or samples is no bias; a constant less the values is none either.
#[test]
fn other_numbers_stay_apart() {
    for (operator, inputs, dims) in [
        ("Add", ["a", "c"], &[1, 1, 3][..]),
        ("Add", ["a", "c"], &[2, 1, 1]),
        ("Mul", ["a", "c"], &[2, 4, 3]),
        ("Sub", ["c", "a"], &[4, 1]),
        ("Div", ["c", "a"], &[4, 1]),
        ("Add", ["a", "c"], &[1, 1, 1, 1]),
    ] {
        let nodes = vec![node("Conv", &["x", "w"], &["a"], vec![]), node(operator, &inputs, &["y"], vec![])];
        let weights = vec![weight("w", &[4, 2, 3], 0.1), weight("c", dims, 0.9)];
        assert_eq!(compare(one_to_one(&[2, 2, 5], nodes, weights)), ["Conv", operator]);
    }
}

#[test]
fn bias_and_activation_go_into_products() {
    let activations = [
        node("Relu", &["b"], &["y"], vec![]),
        node("LeakyRelu", &["b"], &["y"], vec![float("alpha", 0.3)]),
        node("Clip", &["b", "low", "high"], &["y"], vec![]),
        node("Clip", &["b", "", "high"], &["y"], vec![]),
        node("Sigmoid", &["b"], &["y"], vec![]),
        node("Tanh", &["b"], &["y"], vec![]),
        node("HardSigmoid", &["b"], &["y"], vec![float("alpha", 0.3), float("beta", 0.4)]),
    ];
    for activation in activations {
        let bounds = vec![floats("low", &[], &[-0.2]), floats("high", &[], &[0.7])];
        let matmul = node("MatMul", &["x", "w"], &["a"], vec![]);
        let add = node("Add", &["c", "a"], &["b"], vec![]);
        let weights = [vec![weight("w", &[3, 5], 0.1), weight("c", &[5], 0.5)], bounds.clone()].concat();
        assert_eq!(compare(one_to_one(&[2, 4, 3], vec![matmul, add, activation.clone()], weights)), ["MatMul"]);
        for first in [node("Gemm", &["x", "w"], &["b"], vec![]), node("MatMul", &["x", "w"], &["b"], vec![])] {
            let operator = first.op_type.clone();
            let weights = [vec![weight("w", &[3, 5], 0.1)], bounds.clone()].concat();
            assert_eq!(compare(one_to_one(&[2, 3], vec![first, activation.clone()], weights)), [operator]);
        }
        let conv = node("Conv", &["x", "w"], &["b"], vec![]);
        let weights = [vec![weight("w", &[3, 2, 2, 2], 0.1)], bounds].concat();
        assert_eq!(compare(one_to_one(&[1, 2, 4, 4], vec![conv, activation], weights)), ["Conv"]);
    }
}

/// The values of the convolution are an output too.
#[test]
fn what_is_used_twice_is_not_merged() {
    let nodes = vec![node("Conv", &["x", "w"], &["a"], vec![]), node("Relu", &["a"], &["y"], vec![])];
    let mut graph = one_to_one(&[1, 2, 4, 4], nodes.clone(), vec![weight("w", &[3, 2, 2, 2], 0.1)]);
    graph.output.push(support::untyped("a"));
    assert_eq!(compare(graph), ["Conv", "Relu"]);
    let nodes = [nodes, vec![node("Neg", &["a"], &["z"], vec![])]].concat();
    let mut graph = one_to_one(&[1, 2, 4, 4], nodes, vec![weight("w", &[3, 2, 2, 2], 0.1)]);
    graph.output.push(support::untyped("z"));
    assert_eq!(compare(graph), ["Conv", "Relu", "Neg"]);
}

#[test]
fn layer_normalization_is_found() {
    let nodes = |square: NodeProto| {
        let axes = vec![int("keepdims", 1)];
        vec![
            node("ReduceMean", &["x", "last"], &["mean"], axes.clone()),
            node("Sub", &["x", "mean"], &["centred"], vec![]),
            square,
            node("ReduceMean", &["squares", "last"], &["variance"], axes),
            node("Add", &["variance", "epsilon"], &["more"], vec![]),
            node("Sqrt", &["more"], &["deviation"], vec![]),
            node("Div", &["centred", "deviation"], &["standard"], vec![]),
            node("Mul", &["standard", "scale"], &["scaled"], vec![]),
            node("Add", &["scaled", "shift"], &["y"], vec![]),
        ]
    };
    let weights = |axis: i64| {
        let last = TensorProto { dims: vec![1], ..int64s("last", &[axis]) };
        let weights = vec![weight("scale", &[6], 0.1), weight("shift", &[6], 0.2), floats("two", &[], &[2.0])];
        [weights, vec![floats("epsilon", &[], &[1e-5]), last]].concat()
    };
    let squares = [
        node("Pow", &["centred", "two"], &["squares"], vec![]),
        node("Mul", &["centred", "centred"], &["squares"], vec![]),
    ];
    for square in squares {
        let left = compare(one_to_one(&[2, 3, 6], nodes(square.clone()), weights(-1)));
        assert_eq!(left, ["LayerNormalization"]);
        // Over another axis it is another function.
        assert_eq!(compare(one_to_one(&[2, 3, 6], nodes(square), weights(1))).len(), 9);
    }
}

#[test]
fn gelu_is_found_in_any_order() {
    let root = std::f32::consts::SQRT_2;
    let weights = vec![
        floats("root", &[], &[root]),
        floats("inverse", &[], &[1.0 / root]),
        floats("one", &[], &[1.0]),
        floats("half", &[], &[0.5]),
    ];
    let ends = [
        [("x", "sum", "product"), ("product", "half", "y")],
        [("x", "half", "product"), ("product", "sum", "y")],
        [("half", "sum", "product"), ("x", "product", "y")],
    ];
    for scale in [node("Div", &["x", "root"], &["scaled"], vec![]), node("Mul", &["inverse", "x"], &["scaled"], vec![])]
    {
        for end in ends {
            let products = end.map(|(a, b, c)| node("Mul", &[a, b], &[c], vec![])).to_vec();
            let start = vec![
                scale.clone(),
                node("Erf", &["scaled"], &["erf"], vec![]),
                node("Add", &["erf", "one"], &["sum"], vec![]),
            ];
            assert_eq!(compare(one_to_one(&[3, 4], [start, products].concat(), weights.clone())), ["Gelu"]);
        }
    }
    // A whole instead of a half.
    let nodes = vec![
        node("Div", &["x", "root"], &["scaled"], vec![]),
        node("Erf", &["scaled"], &["erf"], vec![]),
        node("Add", &["erf", "one"], &["sum"], vec![]),
        node("Mul", &["x", "sum"], &["product"], vec![]),
        node("Mul", &["product", "one"], &["y"], vec![]),
    ];
    assert_eq!(compare(one_to_one(&[3, 4], nodes, weights)).len(), 5);
}

#[test]
fn constants_are_computed_and_doubles_left_out() {
    let nodes = vec![
        node("Transpose", &["w"], &["turned"], vec![]),
        node("Reshape", &["turned", "sizes"], &["matrix"], vec![]),
        node("Identity", &["x"], &["same"], vec![]),
        node("Dropout", &["same"], &["kept"], vec![]),
        node("Shape", &["kept"], &["one"], vec![]),
        node("Shape", &["x"], &["two"], vec![]),
        node("Add", &["one", "two"], &["unused"], vec![]),
        node("Exp", &["kept"], &["e"], vec![]),
        node("Exp", &["x"], &["f"], vec![]),
        node("Add", &["e", "f"], &["sum"], vec![]),
        node("MatMul", &["sum", "matrix"], &["y"], vec![]),
    ];
    let weights = vec![weight("w", &[2, 6], 0.1), int64s("sizes", &[4, 3])];
    assert_eq!(compare(one_to_one(&[5, 4], nodes, weights)), ["Exp", "Add", "MatMul"]);
}

/// A random node draws at every run, and a small constant does not grow to a large one.
#[test]
fn what_must_not_be_computed_once_is_not() {
    let nodes = vec![
        node("RandomUniformLike", &["w"], &["a"], vec![]),
        node("RandomUniformLike", &["w"], &["b"], vec![]),
        node("Sub", &["a", "b"], &["c"], vec![]),
        node("Expand", &["one", "sizes"], &["large"], vec![]),
        node("Mul", &["x", "large"], &["d"], vec![]),
        node("ReduceSum", &["d"], &["e"], vec![]),
        node("Mul", &["c", "zero"], &["f"], vec![]),
        node("Add", &["e", "f"], &["y"], vec![]),
    ];
    let weights = vec![
        weight("w", &[1], 0.1),
        floats("one", &[], &[1.0]),
        floats("zero", &[], &[0.0]),
        int64s("sizes", &[1000, 100]),
    ];
    let left = compare(one_to_one(&[1, 1], nodes, weights));
    assert_eq!(left.iter().filter(|operator| *operator == "RandomUniformLike").count(), 2);
    assert!(left.contains(&"Expand".to_string()));
}

/// Branches see values of the graph around them, also when those have lost a name.
#[test]
fn branches_keep_what_they_use() {
    let branch = |operator: &str| GraphProto {
        node: vec![node(operator, &["same"], &["out"], vec![]), node("Identity", &["out"], &["again"], vec![])],
        output: vec![support::untyped("again")],
        name: operator.to_string(),
        ..GraphProto::default()
    };
    let choice = TensorProto {
        name: "choice".into(),
        data_type: BOOL,
        raw_data: Some(vec![1].into()),
        ..TensorProto::default()
    };
    let nodes = vec![
        node("Conv", &["x", "w"], &["a"], vec![]),
        node("Identity", &["a"], &["same"], vec![]),
        node("Relu", &["a"], &["b"], vec![]),
        node("If", &["choice"], &["c"], vec![graph("then_branch", branch("Exp")), graph("else_branch", branch("Neg"))]),
        node("Add", &["b", "c"], &["y"], vec![]),
    ];
    let left = compare(one_to_one(&[1, 2, 4, 4], nodes, vec![weight("w", &[3, 2, 2, 2], 0.1), choice]));
    assert_eq!(left, ["Conv", "Relu", "If", "Add"]);
}

/// A default that a run changes was merged into weights: that run takes the graph as it is.
#[test]
fn a_changed_default_is_respected() {
    let nodes = vec![node("Conv", &["x", "w"], &["a"], vec![]), node("Mul", &["a", "factor"], &["y"], vec![])];
    let mut graph =
        one_to_one(&[1, 1, 3], nodes, vec![floats("w", &[1, 1, 1], &[1.0]), floats("factor", &[1], &[2.0])]);
    graph.input.push(port("factor", FLOAT, &[1]));
    let model = Model::from_proto(&model(graph, vec![]), &mut External::new(Path::new(""))).expect("a valid model");
    let session = Session::prepared(model, HostOnly).expect("a model that runs");
    assert_eq!(session.running_graph().nodes.len(), 1);
    let array = |shape: &[usize], values: &[f32]| {
        Value::from(Array::new(shape.to_vec(), values.to_vec()).expect("as many values"))
    };
    let x = || ("x".to_string(), array(&[1, 1, 3], &[1.0, 2.0, 3.0]));
    assert_eq!(session.run(vec![x()]).expect("an answer"), [array(&[1, 1, 3], &[2.0, 4.0, 6.0])]);
    let changed = session.run(vec![x(), ("factor".to_string(), array(&[1], &[10.0]))]).expect("an answer");
    assert_eq!(changed, [array(&[1, 1, 3], &[10.0, 20.0, 30.0])]);
}
