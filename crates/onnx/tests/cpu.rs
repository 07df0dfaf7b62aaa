//! Graphs on the CPU runtime give what the plain operators give.

#[path = "support/mod.rs"]
mod made;

use std::path::Path;
use std::sync::Arc;

use made::{floats, int, int64s, ints, model, node, untyped};
use rekindle_onnx::reference::{Tolerance, difference};
use rekindle_onnx::{Array, Cpu, HostOnly, Model, Session, Value};
use rekindle_state::onnx::External;
use rekindle_state::onnx::proto::{AttributeProto, GraphProto, NodeProto, TensorProto, attribute};

/// Numbers without a pattern, of both signs.
fn some(count: usize, seed: f32) -> Vec<f32> {
    (0..count).map(|k| (k as f32 * 1.7 + seed).sin() * 1.5 + 0.2).collect()
}

fn weight(name: &str, dims: &[i64], seed: f32) -> TensorProto {
    floats(name, dims, &some(dims.iter().product::<i64>() as usize, seed))
}

fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: name.to_string(),
        r#type: attribute::STRING,
        s: value.as_bytes().to_vec().into(),
        ..AttributeProto::default()
    }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.to_string(), r#type: attribute::FLOAT, f, ..AttributeProto::default() }
}

/// Runs nodes from inputs `a`, `b`, … of these shapes to an output `y`: plainly, and prepared on the CPU runtime, each twice; then all again
/// with other values.
fn compare(nodes: &[NodeProto], weights: &[TensorProto], inputs: &[&[&[usize]]]) {
    let count = inputs[0].len();
    let names = ["a", "b", "c"];
    let graph = GraphProto {
        input: names[..count].iter().map(|name| untyped(name)).collect(),
        output: vec![untyped("y")],
        node: nodes.to_vec(),
        initializer: weights.to_vec(),
        ..GraphProto::default()
    };
    let model =
        Arc::new(Model::from_proto(&model(graph, vec![]), &mut External::new(Path::new(""))).expect("a valid model"));
    let host = Session::new(model.clone(), HostOnly).unwrap();
    let session = Session::prepared(model.clone(), Cpu).unwrap();
    for (turn, shapes) in inputs.iter().chain(inputs).enumerate() {
        let value = |(name, shape): (&&str, &&[usize])| {
            let values = some(shape.iter().product(), turn as f32 + name.len() as f32);
            ((*name).to_string(), Value::from(Array::new(shape.to_vec(), values).unwrap()))
        };
        let given: Vec<(String, Value)> = names.iter().zip(shapes.iter()).map(value).collect();
        let before = given.clone();
        let expected = host.run(given.clone()).unwrap().remove(0);
        for _ in 0..2 {
            let found = session.run(given.clone()).unwrap().remove(0);
            let how = difference(&found, &expected, Tolerance { rtol: 2e-4, atol: 5e-5 }, &mut 0.0).unwrap();
            let operators = nodes.iter().map(|node| &node.op_type).collect::<Vec<_>>();
            assert!(how.is_none(), "{operators:?} on {shapes:?}: {}", how.unwrap());
        }
        // What was given is still what it was.
        for ((_, given), (_, before)) in given.iter().zip(&before) {
            assert_eq!(given.array().unwrap(), before.array().unwrap());
        }
    }
}

fn gemm(attributes: Vec<AttributeProto>) -> NodeProto {
    node("Gemm", &["a", "w", "v"], &["y"], attributes)
}

#[test]
fn products() {
    let row = weight("v", &[7], 2.0);
    for batch in [1, 3, 70] {
        compare(&[gemm(vec![])], &[weight("w", &[5, 7], 1.0), row.clone()], &[&[&[batch, 5]]]);
        compare(
            &[gemm(vec![int("transB", 1)])],
            &[weight("w", &[7, 5], 1.0), weight("v", &[1, 7], 2.0)],
            &[&[&[batch, 5]]],
        );
        compare(
            &[node("Gemm", &["a", "w"], &["y"], vec![int("transB", 1)])],
            &[weight("w", &[300, 200], 1.0)],
            &[&[&[batch, 200]]],
        );
    }
    // What the kernels do not know.
    let both = [weight("w", &[5, 7], 1.0), row.clone()];
    compare(&[gemm(vec![float("alpha", 0.5), float("beta", 2.0)])], &both, &[&[&[3, 5]]]);
    compare(&[gemm(vec![int("transA", 1)])], &both, &[&[&[5, 3]]]);
    compare(&[gemm(vec![])], &[weight("w", &[5, 7], 1.0), weight("v", &[3, 1], 2.0)], &[&[&[3, 5]]]);
    for after in ["Relu", "Sigmoid", "Tanh"] {
        compare(
            &[node("Gemm", &["a", "w", "v"], &["t"], vec![]), node(after, &["t"], &["y"], vec![])],
            &both,
            &[&[&[3, 5]]],
        );
        let nodes = [
            node("MatMul", &["a", "w"], &["s"], vec![]),
            node("Add", &["v", "s"], &["t"], vec![]),
            node(after, &["t"], &["y"], vec![]),
        ];
        compare(&nodes, &both, &[&[&[2, 3, 5]], &[&[5]], &[&[1, 5]]]);
    }
    let matmul = [node("MatMul", &["a", "b"], &["y"], vec![])];
    let pairs: &[&[&[usize]]] = &[
        &[&[2, 3, 4, 5], &[2, 3, 5, 6]],
        &[&[2, 1, 4, 5], &[3, 5, 6]],
        &[&[4, 5], &[5, 6]],
        &[&[5], &[5, 6]],
        &[&[8, 128, 32], &[8, 32, 128]],
        &[&[2, 4, 5], &[5]],
        &[&[2, 4, 5], &[5, 1]],
    ];
    compare(&matmul, &[], pairs);
}

#[test]
fn convolutions_and_pools() {
    for (attributes, dims, shape) in [
        (vec![ints("pads", &[1, 1, 1, 1])], vec![6, 4, 3, 3], vec![2, 4, 9, 8]),
        (vec![ints("pads", &[0, 1, 2, 1]), ints("strides", &[2, 1])], vec![6, 4, 3, 3], vec![1, 4, 9, 8]),
        (
            vec![text("auto_pad", "SAME_UPPER"), ints("strides", &[2, 2]), int("group", 2)],
            vec![6, 2, 5, 5],
            vec![1, 4, 11, 8],
        ),
        (vec![int("group", 2), ints("dilations", &[2, 1])], vec![6, 2, 3, 2], vec![3, 4, 9, 8]),
        (vec![ints("pads", &[2, 1])], vec![6, 4, 3], vec![2, 4, 9]),
        (vec![ints("pads", &[1, 1, 1, 1, 1, 1])], vec![6, 4, 3, 3, 3], vec![1, 4, 5, 5, 5]),
    ] {
        let mut other = shape.clone();
        other[0] += 1;
        *other.last_mut().unwrap() += 3;
        let weights = [weight("w", &dims, 1.0), weight("v", &[6], 2.0)];
        let conv = |output: &str| node("Conv", &["a", "w", "v"], &[output], attributes.clone());
        compare(&[conv("y")], &weights, &[&[&shape], &[&other]]);
        compare(&[conv("t"), node("Relu", &["t"], &["y"], vec![])], &weights, &[&[&shape], &[&other]]);
        compare(&[conv("t"), node("LeakyRelu", &["t"], &["y"], vec![])], &weights, &[&[&shape]]);
    }
    // A kernel that is no constant.
    compare(
        &[node("Conv", &["a", "b"], &["y"], vec![])],
        &[],
        &[&[&[1, 3, 7, 7], &[4, 3, 3, 3]], &[&[2, 3, 7, 9], &[4, 3, 2, 3]]],
    );
    for attributes in [
        vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])],
        vec![ints("kernel_shape", &[3, 2]), ints("pads", &[1, 1, 1, 1])],
        vec![ints("kernel_shape", &[3, 2]), ints("pads", &[0, 0, 1, 1])],
        vec![ints("kernel_shape", &[2, 2]), int("ceil_mode", 1), ints("strides", &[2, 2])],
        vec![ints("kernel_shape", &[3, 3]), ints("dilations", &[2, 2])],
    ] {
        compare(
            &[node("MaxPool", &["a"], &["y"], attributes)],
            &[],
            &[&[&[2, 3, 9, 8]], &[&[1, 1, 30, 31]], &[&[4, 40, 40, 41]]],
        );
    }
}

#[test]
fn single_values() {
    let shapes: &[&[&[usize]]] = &[&[&[2, 3]], &[&[]], &[&[70_000]]];
    for operator in ["Abs", "Erf", "Exp", "Gelu", "Neg", "Reciprocal", "Relu", "Sigmoid", "Tanh"] {
        compare(&[node(operator, &["a"], &["y"], vec![])], &[], shapes);
    }
    compare(&[node("Abs", &["a"], &["t"], vec![]), node("Sqrt", &["t"], &["y"], vec![])], &[], shapes);
    compare(&[node("Gelu", &["a"], &["y"], vec![text("approximate", "tanh")])], &[], shapes);
}

#[test]
fn pairs_that_broadcast() {
    let pairs: &[&[&[usize]]] = &[
        &[&[2, 3], &[2, 3]],
        &[&[2, 3], &[3]],
        &[&[3], &[2, 3]],
        &[&[2, 1], &[1, 3]],
        &[&[], &[2, 3]],
        &[&[2, 3], &[1]],
        &[&[4, 3, 1, 5], &[3, 7, 1]],
        &[&[2, 3, 4, 5], &[1, 3, 1, 1]],
        &[&[300, 500], &[500]],
        &[&[300, 1], &[300, 500]],
        &[&[], &[]],
    ];
    for operator in ["Add", "Sub", "Mul", "Div"] {
        compare(&[node(operator, &["a", "b"], &["y"], vec![])], &[], pairs);
        // In the memory of what is not needed any more, on either side.
        let nodes = [
            node("Tanh", &["a"], &["s"], vec![]),
            node("Sigmoid", &["b"], &["t"], vec![]),
            node(operator, &["s", "t"], &["u"], vec![]),
            node("Mul", &["u", "b"], &["y"], vec![]),
        ];
        compare(&nodes, &[], pairs);
    }
}

#[test]
fn values_that_are_needed_later_stay_as_they_are() {
    let nodes = [
        node("Neg", &["a"], &["s"], vec![]),
        node("Relu", &["s"], &["t"], vec![]),
        node("Reshape", &["s", "shape"], &["flat"], vec![]),
        node("Exp", &["flat"], &["e"], vec![]),
        node("Softmax", &["s"], &["p"], vec![]),
        node("Add", &["t", "p"], &["u"], vec![]),
        node("Add", &["u", "s"], &["v"], vec![]),
        node("Mul", &["v", "v"], &["w"], vec![]),
        node("Reshape", &["w", "shape"], &["x"], vec![]),
        node("Add", &["x", "e"], &["y"], vec![]),
    ];
    compare(&nodes, &[int64s("shape", &[1, -1])], &[&[&[3, 4]], &[&[200, 300]]]);
    // What is passed on as it is must not be written over either.
    let passed = [
        node("Identity", &["a"], &["s"], vec![]),
        node("Relu", &["s"], &["t"], vec![]),
        node("Add", &["t", "a"], &["y"], vec![]),
    ];
    compare(&passed, &[], &[&[&[3, 4]], &[&[200, 300]]]);
}

#[test]
fn rows() {
    let shapes: &[&[&[usize]]] = &[&[&[2, 3, 5]], &[&[1, 1, 1]], &[&[40, 30, 70]]];
    for operator in ["Softmax", "LogSoftmax"] {
        for axis in [-1, 2, 1, 0] {
            compare(&[node(operator, &["a"], &["y"], vec![int("axis", axis)])], &[], shapes);
        }
    }
    let with = |inputs: &[&str], axis| {
        [node("LayerNormalization", inputs, &["y"], vec![int("axis", axis), float("epsilon", 1e-3)])]
    };
    let (scale, shift) = (weight("w", &[70], 1.0), weight("v", &[70], 2.0));
    compare(&with(&["a", "w", "v"], -1), &[scale.clone(), shift.clone()], &[&[&[3, 70]], &[&[40, 30, 70]]]);
    compare(&with(&["a", "w"], -1), &[scale], &[&[&[3, 70]]]);
    compare(&with(&["a", "w", "v"], 1), &[weight("w", &[4, 5], 1.0), weight("v", &[4, 5], 2.0)], &[&[&[3, 4, 5]]]);
}

#[test]
fn borders() {
    let shapes: &[&[&[usize]]] = &[&[&[2, 3, 5, 4]], &[&[1, 1, 1, 1]]];
    for pads in [[0, 0, 1, 2, 0, 0, 3, 0], [0; 8], [1, 2, 0, 3, 0, 1, 0, 1]] {
        let pad = |x: &str, y: &str| node("Pad", &[x, "pads"], &[y], vec![]);
        compare(&[pad("a", "y")], &[int64s("pads", &pads)], shapes);
        // Of an image whose channels are last, as what it becomes.
        let pool = |x: &str, y: &str| node("MaxPool", &[x], &[y], vec![ints("kernel_shape", &[1, 1])]);
        compare(&[pool("a", "s"), pad("s", "t"), pool("t", "y")], &[int64s("pads", &pads)], shapes);
    }
}

#[test]
fn orders_of_axes() {
    let transpose = |order: &[i64]| [node("Transpose", &["a"], &["y"], vec![ints("perm", order)])];
    compare(&[node("Transpose", &["a"], &["y"], vec![])], &[], &[&[&[3, 4]], &[&[2, 3, 4]], &[&[5]]]);
    compare(&transpose(&[0, 2, 1, 3]), &[], &[&[&[1, 128, 8, 32]], &[&[2, 3, 1, 5]]]);
    compare(&transpose(&[0, 2, 3, 1]), &[], &[&[&[1, 128, 8, 32]], &[&[2, 3, 4, 5]]]);
    compare(&transpose(&[1, 0, 3, 2, 5, 4, 6]), &[], &[&[&[2, 3, 2, 3, 2, 3, 2]]]);
    for mode in ["DCR", "CRD"] {
        let depth = |block| [node("DepthToSpace", &["a"], &["y"], vec![int("blocksize", block), text("mode", mode)])];
        compare(&depth(3), &[], &[&[&[2, 9, 4, 5]], &[&[1, 18, 30, 40]]]);
        compare(&depth(2), &[], &[&[&[1, 4, 200, 150]]]);
    }
    // The pixel shuffle as PyTorch writes it.
    let nodes = [
        node("Reshape", &["a", "wide"], &["s"], vec![]),
        node("Transpose", &["s"], &["t"], vec![ints("perm", &[0, 1, 4, 2, 5, 3])]),
        node("Reshape", &["t", "large"], &["y"], vec![]),
    ];
    compare(
        &nodes,
        &[int64s("wide", &[1, 1, 3, 3, 60, 70]), int64s("large", &[1, 1, 180, 210])],
        &[&[&[1, 9, 60, 70]]],
    );
}

#[test]
fn slices_by_number() {
    for axis in [0, 1, -1] {
        let nodes = [node("Gather", &["a", "at"], &["y"], vec![int("axis", axis)])];
        compare(&nodes, &[int64s("at", &[0, 2, -1, 2])], &[&[&[3, 4, 5]], &[&[300, 40, 30]]]);
        compare(&nodes, &[int64s("at", &[1])], &[&[&[3, 4, 5]]]);
    }
}

#[test]
fn values_of_two_tensors() {
    let shapes: &[&[&[usize]]] = &[
        &[&[2, 3], &[2, 3], &[2, 3]],
        &[&[2, 3], &[], &[2, 3]],
        &[&[4, 1, 3], &[5, 1], &[]],
        &[&[1], &[2, 3], &[3]],
        &[&[], &[], &[]],
        &[&[2, 1, 1, 30], &[1], &[2, 8, 30, 30]],
    ];
    let nodes = [
        node("Greater", &["a", "b"], &["s"], vec![]),
        node("Less", &["a", "limit"], &["t"], vec![]),
        node("Where", &["s", "b", "c"], &["u"], vec![]),
        node("Where", &["t", "c", "u"], &["y"], vec![]),
    ];
    compare(&nodes, &[floats("limit", &[], &[0.5])], shapes);
}

#[test]
fn long_short_term_memory() {
    let sequences: &[&[&[usize]]] = &[&[&[6, 1, 3]], &[&[4, 2, 3]], &[&[1, 5, 3]]];
    for (direction, d) in [("forward", 1), ("reverse", 1), ("bidirectional", 2)] {
        let weights = [weight("w", &[d, 20, 3], 1.0), weight("r", &[d, 20, 5], 2.0), weight("v", &[d, 40], 3.0)];
        let attributes = || vec![int("hidden_size", 5), text("direction", direction)];
        for (inputs, outputs) in [
            (&["a", "w", "r", "v"][..], &["y"][..]),
            (&["a", "w", "r"], &["", "y"]),
            (&["a", "w", "r", "v"], &["", "", "y"]),
        ] {
            compare(&[node("LSTM", inputs, outputs, attributes())], &weights, sequences);
        }
        let started = [weights.as_slice(), &[weight("h", &[d, 2, 5], 4.0), weight("c", &[d, 2, 5], 5.0)]].concat();
        compare(&[node("LSTM", &["a", "w", "r", "v", "", "h", "c"], &["y"], attributes())], &started, &[&[&[4, 2, 3]]]);
        // What the kernels do not know.
        let peepholes = [started.as_slice(), &[weight("p", &[d, 15], 6.0)]].concat();
        compare(
            &[node("LSTM", &["a", "w", "r", "v", "", "h", "c", "p"], &["y"], attributes())],
            &peepholes,
            &[&[&[4, 2, 3]]],
        );
    }
}

/// Weights and bias of a convolution.
fn layer(name: &str, dims: &[i64], seed: f32) -> [TensorProto; 2] {
    [weight(name, dims, seed), weight(&format!("{name}b"), &dims[..1], seed + 1.0)]
}

fn conv(name: &str, input: &str, output: &str, attributes: Vec<AttributeProto>) -> NodeProto {
    node("Conv", &[input, name, &format!("{name}b")], &[output], attributes)
}

#[test]
fn blocks_of_image_networks() {
    let images: &[&[&[usize]]] = &[&[&[1, 3, 20, 17]], &[&[2, 3, 9, 9]]];
    let around = || vec![ints("pads", &[1, 1, 1, 1])];
    let stem = || conv("s", "a", "x", vec![ints("pads", &[1, 1, 1, 1]), ints("strides", &[2, 2])]);
    let weights = |more: &[[TensorProto; 2]]| -> Vec<TensorProto> {
        [layer("s", &[24, 3, 3, 3], 1.0)].iter().chain(more).flatten().cloned().collect()
    };
    // A residual, added on either side, before a function.
    for sum in [["r", "x"], ["x", "r"]] {
        let nodes = [
            stem(),
            conv("p", "x", "q", around()),
            node("Relu", &["q"], &["t"], vec![]),
            conv("o", "t", "r", around()),
            node("Add", &sum, &["u"], vec![]),
            node("Relu", &["u"], &["y"], vec![]),
        ];
        compare(&nodes, &weights(&[layer("p", &[24, 24, 3, 3], 2.0), layer("o", &[24, 24, 3, 3], 3.0)]), images);
    }
    // An inverted residual with squeeze and excitation.
    let mut grouped = around();
    grouped.push(int("group", 24));
    for pool in ["GlobalAveragePool", "ReduceMean"] {
        let axes = if pool == "ReduceMean" { vec!["m", "axes"] } else { vec!["m"] };
        let nodes = [
            stem(),
            conv("p", "x", "d", grouped.clone()),
            node("HardSwish", &["d"], &["m"], vec![]),
            node(pool, &axes, &["g"], vec![]),
            conv("e", "g", "h", vec![]),
            node("Sigmoid", &["h"], &["k"], vec![]),
            node("Mul", &["h", "k"], &["l"], vec![]),
            conv("f", "l", "n", vec![]),
            node("HardSigmoid", &["n"], &["gate"], vec![float("alpha", 1.0 / 6.0)]),
            node("Mul", &["gate", "m"], &["v"], vec![]),
            conv("o", "v", "w", vec![]),
            node("Add", &["x", "w"], &["y"], vec![]),
        ];
        let mut weights = weights(&[
            layer("p", &[24, 1, 3, 3], 2.0),
            layer("e", &[6, 24, 1, 1], 3.0),
            layer("f", &[24, 6, 1, 1], 4.0),
            layer("o", &[24, 24, 1, 1], 5.0),
        ]);
        weights.push(int64s("axes", &[2, 3]));
        compare(&nodes, &weights, images);
    }
    let nodes = [
        stem(),
        node("Reshape", &["x", "grouped"], &["q"], vec![]),
        node("Transpose", &["q"], &["r"], vec![ints("perm", &[0, 2, 1, 3, 4])]),
        node("Reshape", &["r", "joined"], &["t"], vec![]),
        conv("p", "t", "y", around()),
    ];
    let mut with = weights(&[layer("p", &[5, 24, 3, 3], 2.0)]);
    with.extend([int64s("grouped", &[1, 3, 8, 10, 9]), int64s("joined", &[1, 24, 10, 9])]);
    compare(&nodes, &with, &[&[&[1, 3, 20, 17]]]);
    // Branches put together,, split, normalized, pooled, and flattened.
    let nodes = [
        stem(),
        conv("p", "x", "q", vec![]),
        node("MaxPool", &["x"], &["m"], vec![ints("kernel_shape", &[3, 3]), ints("pads", &[1, 1, 1, 1])]),
        node("Concat", &["q", "m", "x"], &["c"], vec![int("axis", 1)]),
        node("Split", &["c"], &["left", "right"], vec![int("axis", 1), int("num_outputs", 2)]),
        node("Shape", &["left"], &["shape"], vec![]),
        node("Gather", &["shape", "zero"], &["n"], vec![]),
        node("Unsqueeze", &["n", "at"], &["ns"], vec![]),
        node("Concat", &["ns", "minus"], &["flat"], vec![int("axis", 0)]),
        node("BatchNormalization", &["left", "g", "g", "g", "v"], &["b"], vec![]),
        node("Relu", &["b"], &["t"], vec![]),
        node("Sub", &["t", "right"], &["d"], vec![]),
        node("AveragePool", &["d"], &["e"], vec![ints("kernel_shape", &[2, 2])]),
        node("Transpose", &["e"], &["f"], vec![ints("perm", &[0, 2, 3, 1])]),
        node("Softmax", &["f"], &["h"], vec![]),
        node("Transpose", &["h"], &["i"], vec![ints("perm", &[0, 3, 1, 2])]),
        node("Add", &["i", "e"], &["j"], vec![]),
        node("Reshape", &["j", "flat"], &["y"], vec![]),
    ];
    let mut weights = weights(&[layer("p", &[20, 24, 1, 1], 2.0)]);
    weights.extend([int64s("zero", &[0]), int64s("at", &[0]), int64s("minus", &[-1])]);
    for name in ["at", "minus"] {
        weights.iter_mut().filter(|tensor| tensor.name == name).for_each(|tensor| tensor.dims = vec![1]);
    }
    weights.push(weight("g", &[34], 3.0));
    let variance: Vec<f32> = (0..34).map(|i| 0.5 + i as f32 * 0.1).collect();
    weights.push(floats("v", &[34], &variance));
    compare(&nodes, &weights, images);
}

#[test]
fn gated_recurrent_units() {
    let sequences: &[&[&[usize]]] = &[&[&[6, 1, 3]], &[&[4, 2, 3]]];
    for (direction, d) in [("forward", 1), ("reverse", 1), ("bidirectional", 2)] {
        for reset in [0, 1] {
            let weights = [weight("w", &[d, 15, 3], 1.0), weight("r", &[d, 15, 5], 2.0), weight("v", &[d, 30], 3.0)];
            let attributes =
                vec![int("hidden_size", 5), text("direction", direction), int("linear_before_reset", reset)];
            for outputs in [&["y"][..], &["", "y"]] {
                compare(&[node("GRU", &["a", "w", "r", "v"], outputs, attributes.clone())], &weights, sequences);
            }
        }
    }
}
