//! Models that are damaged or built to do harm: opening and running one gives values or an error, never a panic, and takes no more
//! than it may.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use prost::Message;
use prost::bytes::Bytes;
use rekindle_onnx::graph::Kind;
use rekindle_onnx::{Array, Axis, DType, Data, Error, HostOnly, Limits, Model, Session, Value};
use rekindle_state::onnx::proto::{
    FunctionProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, ValueInfoProto,
};
use support::{call, external, floats, function, graph, int, int64s, ints, model, node, port, untyped};

const LIMITS: Limits = Limits { elements: 1 << 14, nodes: 500 };

/// Opens and runs a model on small inputs.
fn open_and_run(bytes: &[u8], folder: &Path) -> Result<Vec<Value>, Error> {
    let model = Model::decode(Bytes::copy_from_slice(bytes), folder)?;
    let inputs = model.graph.inputs.iter().map(|port| (port.name.clone(), value(&port.kind))).collect();
    let mut session = Session::new(model, HostOnly)?;
    session.set_limits(LIMITS);
    session.run(inputs)
}

fn value(kind: &Kind) -> Value {
    match kind {
        Kind::Array(dtype, axes) => {
            let size = |axis: &Axis| if let Axis::Size(size) = axis { (*size).min(8) } else { 2 };
            let shape: Vec<usize> = axes.iter().flatten().map(size).take(4).collect();
            let data = Data::zeros(dtype.unwrap_or(DType::F32), shape.iter().product());
            Array::from_data(shape, data).expect("as many zeros as the shape has").into()
        }
        Kind::Other("a sequence") => Value::Sequence(Vec::new()),
        Kind::Other(_) => Value::Optional(None),
        Kind::Unknown => Array::scalar(1_f32).into(),
    }
}

fn of(nodes: Vec<NodeProto>, weights: Vec<TensorProto>, inputs: Vec<ValueInfoProto>, outputs: &[&str]) -> GraphProto {
    GraphProto {
        node: nodes,
        initializer: weights,
        input: inputs,
        output: outputs.iter().map(|name| untyped(name)).collect(),
        ..GraphProto::default()
    }
}

/// Layers, shapes and indices.
fn layers() -> ModelProto {
    let nodes = vec![
        node("Gemm", &["x", "w", "b"], &["g"], vec![int("transB", 1)]),
        node("Relu", &["g"], &["r"], vec![]),
        node("Reshape", &["r", "shape"], &["s"], vec![]),
        node("Transpose", &["s"], &["t"], vec![ints("perm", &[0, 2, 1])]),
        node("Slice", &["t", "starts", "ends", "axes", "steps"], &["c"], vec![]),
        node("Concat", &["c", "t"], &["cc"], vec![int("axis", 1)]),
        node("Gather", &["cc", "axes"], &["i"], vec![int("axis", 2)]),
        node("Softmax", &["i"], &["p"], vec![]),
        node("TopK", &["p", "k"], &["top", "which"], vec![]),
        node("Pad", &["top", "pads"], &["padded"], vec![]),
        node("ReduceSum", &["padded", "axes"], &["y"], vec![]),
        node("Cast", &["which"], &["z"], vec![int("to", 8)]),
    ];
    let weights = vec![
        floats("w", &[6, 4], &[0.5; 24]),
        floats("b", &[6], &[1.0; 6]),
        int64s("shape", &[-1, 2, 3]),
        int64s("starts", &[-1, 0]),
        int64s("ends", &[-4, 2]),
        int64s("axes", &[1, 0]),
        int64s("steps", &[-1, 1]),
        TensorProto { dims: vec![1], ..int64s("k", &[1]) },
        int64s("pads", &[0, 0, 1, 1, 0, 0]),
    ];
    model(of(nodes, weights, vec![port("x", 1, &[2, 4])], &["y", "z"]), vec![])
}

/// A loop that collects, a branch, and values from outside.
fn control() -> ModelProto {
    let body = GraphProto {
        input: vec![port("turn", 7, &[]), port("go", 9, &[]), port("sum", 1, &[2])],
        output: vec![port("go_on", 9, &[]), port("next", 1, &[2]), port("each", 1, &[2])],
        node: vec![
            node("Identity", &["go"], &["go_on"], vec![]),
            node("Add", &["sum", "x"], &["next"], vec![]),
            node("Mul", &["next", "x"], &["each"], vec![]),
        ],
        ..GraphProto::default()
    };
    let branch = |operator: &str| of(vec![node(operator, &["final"], &["out"], vec![])], vec![], vec![], &["out"]);
    let nodes = vec![
        node("Loop", &["turns", "", "x"], &["final", "all"], vec![graph("body", body)]),
        node("ReduceMax", &["final"], &["most"], vec![int("keepdims", 0)]),
        node("Greater", &["most", "zero"], &["positive"], vec![]),
        node(
            "If",
            &["positive"],
            &["y"],
            vec![graph("then_branch", branch("Neg")), graph("else_branch", branch("Abs"))],
        ),
        node("SplitToSequence", &["all"], &["list"], vec![int("keepdims", 0)]),
        node("ConcatFromSequence", &["list"], &["z"], vec![int("axis", 0), int("new_axis", 1)]),
    ];
    model(
        of(nodes, vec![int64s("turns", &[3]), floats("zero", &[], &[0.0])], vec![port("x", 1, &[2])], &["y", "z"]),
        vec![],
    )
}

/// Functions, and a weight in another file.
fn functions() -> ModelProto {
    let twice = function("Twice", &["a"], &["b"], vec![node("Add", &["a", "a"], &["b"], vec![])]);
    let more = function(
        "More",
        &["a", "w"],
        &["b"],
        vec![call("Twice", &["a"], &["t"]), node("MatMul", &["t", "w"], &["b"], vec![])],
    );
    let nodes = vec![
        call("More", &["x", "w"], &["m"]),
        node("QuantizeLinear", &["m", "scale", "zero"], &["y"], vec![int("axis", 1)]),
    ];
    let zero = TensorProto {
        name: "zero".to_string(),
        dims: vec![3],
        data_type: 3,
        int32_data: vec![1, -2, 3],
        ..TensorProto::default()
    };
    let weights = vec![external("w", &[2, 3], "weights.bin", 8), floats("scale", &[3], &[0.1, 0.2, 0.3]), zero];
    model(of(nodes, weights, vec![port("x", 1, &[2, 2])], &["y"]), vec![twice, more])
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("weights.bin"), [7; 32]).expect("a file");
    folder
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % end.max(1)
    }
}

/// Bits flipped, bytes set to extremes, the end cut off, or a part put elsewhere.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        match random.below(8) {
            0 => bytes.truncate(at),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            2 => {
                let from = random.below(bytes.len());
                let part = bytes[from..(from + random.below(16)).min(bytes.len())].to_vec();
                bytes.splice(at..at, part);
            }
            _ => bytes[at] ^= 1 << random.below(8),
        }
        if bytes.is_empty() {
            break;
        }
    }
}

#[test]
fn damaged_models_do_not_panic() {
    let folder = folder();
    let (mut ran, mut refused) = (0, 0);
    for (which, seed) in [layers(), control(), functions()].into_iter().enumerate() {
        let whole = seed.encode_to_vec();
        open_and_run(&whole, folder.path()).unwrap_or_else(|error| panic!("model {which}: {error}"));
        for end in 0..whole.len() {
            let _ = open_and_run(&whole[..end], folder.path());
        }
        let mut random = Random(which as u64);
        for case in 0..33_000 {
            let mut bytes = whole.clone();
            damage(&mut bytes, &mut random);
            match catch_unwind(AssertUnwindSafe(|| open_and_run(&bytes, folder.path()))) {
                Ok(Ok(_)) => ran += 1,
                Ok(Err(error)) => {
                    refused += 1;
                    assert!(!error.to_string().is_empty());
                }
                Err(_) => panic!("model {which}, case {case} panics"),
            }
        }
    }
    assert!(ran > 1000 && refused > 1000, "{ran} ran, {refused} were refused");
}

/// The message of what is wrong with a model.
fn refused(proto: &ModelProto) -> String {
    open_and_run(&proto.encode_to_vec(), folder().path()).expect_err("it should be refused").to_string()
}

#[test]
fn a_cycle_is_named() {
    let nodes = vec![node("Add", &["x", "b"], &["a"], vec![]), node("Neg", &["a"], &["b"], vec![])];
    assert!(refused(&model(of(nodes, vec![], vec![port("x", 1, &[2])], &["b"]), vec![])).contains("cyclic"));
}

#[test]
fn an_input_that_is_missing_is_named() {
    let model = Model::decode(layers().encode_to_vec().into(), Path::new("")).expect("a model");
    let error = Session::new(model, HostOnly)
        .expect("operators that are there")
        .run(Vec::new())
        .expect_err("an input is missing");
    assert_eq!(error.to_string(), "the input 'x' is missing: give a tensor of float32 and shape [2, 4]");
}

#[test]
fn shapes_that_overflow_are_refused() {
    let many = 1 << 40;
    let weights = || {
        vec![
            floats("v", &[1], &[1.0]),
            int64s("shape", &[many, many]),
            int64s("n", &[many]),
            int64s("one", &[1]),
            int64s("zero", &[0]),
        ]
    };
    let list = TensorProto { dims: vec![1], ..int64s("list", &[many]) };
    let cases = [
        node("ConstantOfShape", &["shape"], &["y"], vec![]),
        node("ConstantOfShape", &["list"], &["y"], vec![]),
        node("Expand", &["v", "shape"], &["y"], vec![]),
        node("Tile", &["v", "list"], &["y"], vec![]),
        node("Range", &["zero", "n", "one"], &["y"], vec![]),
        node("Pad", &["v", "shape"], &["y"], vec![]),
        node("OneHot", &["list", "n", "shape"], &["y"], vec![]),
        node("Reshape", &["v", "shape"], &["y"], vec![]),
        node("CenterCropPad", &["v", "list"], &["y"], vec![]),
        node("RandomNormal", &[], &["y"], vec![ints("shape", &[many, many])]),
        node("Multinomial", &["v"], &["y"], vec![int("sample_size", many)]),
    ];
    for case in cases {
        let operator = case.op_type.clone();
        let mut weights = weights();
        weights.push(list.clone());
        let message = refused(&model(of(vec![case], weights, vec![], &["y"]), vec![]));
        assert!(message.contains(&operator), "{message}");
    }
    let claimed = TensorProto { dims: vec![1 << 32, 1 << 32, 1 << 32], ..floats("w", &[], &[1.0]) };
    assert!(refused(&model(of(vec![], vec![claimed], vec![], &["w"]), vec![])).contains("'w'"));
}

#[test]
fn four_gigabytes_in_a_small_file_are_refused() {
    let sparse = SparseTensorProto {
        values: Some(floats("w", &[1], &[1.0])),
        indices: Some(TensorProto { dims: vec![1], ..int64s("", &[5]) }),
        dims: vec![1 << 30],
    };
    let graph = GraphProto { sparse_initializer: vec![sparse], ..of(vec![], vec![], vec![], &["w"]) };
    let message = refused(&model(graph, vec![]));
    assert!(message.contains("sparse") || message.contains("too large"), "{message}");
    let claimed = TensorProto { dims: vec![1 << 30], ..floats("w", &[], &[1.0]) };
    assert!(refused(&model(of(vec![], vec![claimed], vec![], &["w"]), vec![])).contains("'w'"));
    let beside = external("w", &[1 << 30], "weights.bin", 0);
    assert!(refused(&model(of(vec![], vec![beside], vec![], &["w"]), vec![])).contains("'w'"));
}

#[test]
fn weights_outside_the_folder_are_refused() {
    for place in ["../secret.bin", "/etc/hostname", "a/../../secret.bin"] {
        let message = refused(&model(of(vec![], vec![external("w", &[1], place, 0)], vec![], &["w"]), vec![]));
        assert!(message.contains(place), "{message}");
    }
}

fn calling(functions: Vec<FunctionProto>) -> ModelProto {
    model(of(vec![call("f0", &["x"], &["y"])], vec![], vec![port("x", 1, &[2])], &["y"]), functions)
}

#[test]
fn functions_without_end_are_refused() {
    let chain =
        |i: usize| function(&format!("f{i}"), &["a"], &["b"], vec![call(&format!("f{}", i + 1), &["a"], &["b"])]);
    let last = |i: usize| function(&format!("f{i}"), &["a"], &["b"], vec![node("Neg", &["a"], &["b"], vec![])]);
    let sixty: Vec<_> = (0..60).map(chain).chain([last(60)]).collect();
    assert!(open_and_run(&calling(sixty).encode_to_vec(), folder().path()).is_ok());
    let itself = function("f0", &["a"], &["b"], vec![call("f0", &["a"], &["b"])]);
    assert!(refused(&calling(vec![itself])).contains("nested more than"));
    // Each calls the next twice: 2^40 nodes from a few lines.
    let doubling = |i: usize| {
        let next = format!("f{}", i + 1);
        function(&format!("f{i}"), &["a"], &["b"], vec![call(&next, &["a"], &["t"]), call(&next, &["t"], &["b"])])
    };
    let mut all: Vec<_> = (0..40).map(doubling).collect();
    all.push(last(40));
    assert!(refused(&calling(all)).contains("unfolds into more than"));
}

/// `If` in `If`, so many deep.
fn nested(depth: usize) -> ModelProto {
    let mut inner = of(vec![node("Neg", &["x"], &["y0"], vec![])], vec![], vec![], &["y0"]);
    for i in 1..depth {
        let out = format!("y{i}");
        let branches =
            vec![graph("then_branch", inner.clone()), graph("else_branch", of(vec![], vec![], vec![], &["x"]))];
        inner = of(vec![node("If", &["yes"], &[&out], branches)], vec![], vec![], &[&out]);
    }
    inner.input = vec![port("x", 1, &[2]), port("yes", 9, &[])];
    model(inner, vec![])
}

#[test]
fn graphs_nested_deeply_are_refused() {
    let folder = folder();
    assert!(open_and_run(&nested(20).encode_to_vec(), folder.path()).is_ok());
    let error =
        Model::from_proto(&nested(120), &mut rekindle_state::onnx::External::new(folder.path())).expect_err("too deep");
    assert!(error.to_string().contains("nested more than"), "{error}");
    assert!(open_and_run(&nested(120).encode_to_vec(), folder.path()).is_err());
}

fn turning(nodes: Vec<NodeProto>, dtype: i32, start: TensorProto, collect: bool) -> ModelProto {
    let mut body =
        of(nodes, vec![], vec![port("turn", 7, &[]), port("go", 9, &[]), port("a", dtype, &[2])], &["go", "b"]);
    let mut outputs = vec!["y"];
    if collect {
        body.output.push(untyped("b"));
        outputs.push("all");
    }
    let turns = int64s("turns", &[i64::MAX]);
    model(
        of(
            vec![node("Loop", &["turns", "", "v"], &outputs, vec![graph("body", body)])],
            vec![turns, start],
            vec![],
            &outputs,
        ),
        vec![],
    )
}

#[test]
fn loops_stay_within_their_limits() {
    let negate = || vec![node("Neg", &["a"], &["b"], vec![])];
    let start = || floats("v", &[2], &[1.0, 2.0]);
    assert!(refused(&turning(negate(), 1, start(), false)).contains("more nodes than it may"));
    let whole =
        Model::decode(turning(negate(), 1, start(), true).encode_to_vec().into(), Path::new("")).expect("a model");
    let mut session = Session::new(whole, HostOnly).expect("operators that are there");
    session.set_limits(Limits { elements: 1 << 14, nodes: u64::MAX });
    assert!(session.run(Vec::new()).expect_err("it collects too much").to_string().contains("too large"));
    let doubled = vec![node("Concat", &["a", "a"], &["b"], vec![int("axis", 0)])];
    assert!(refused(&turning(doubled, 1, start(), false)).contains("too large"));
    let texts = TensorProto {
        name: "v".to_string(),
        dims: vec![1],
        data_type: 8,
        string_data: vec![Bytes::from_static(b"ab")],
        ..TensorProto::default()
    };
    let doubled = vec![node("StringConcat", &["a", "a"], &["b"], vec![])];
    assert!(refused(&turning(doubled, 8, texts, false)).contains("too large"));
}
