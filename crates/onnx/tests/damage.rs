//! Models that are damaged or built to do harm: opening and running one gives values or an error, never a panic, and takes no more
//! than it may.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use prost::Message;
use prost::bytes::Bytes;
use rekindle_onnx::graph::Kind;
use rekindle_onnx::{Accelerator, Array, Axis, Cpu, DType, Data, Error, HostOnly, Limits, Model, Session, Value};
use rekindle_state::onnx::proto::{
    FunctionProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, ValueInfoProto,
};
use support::{call, external, floats, function, graph, int, int64s, ints, model, node, port, untyped};

const LIMITS: Limits = Limits { elements: 1 << 14, nodes: 500, ..Limits::USUAL };

/// Opens and runs a model on small inputs, node after node.
fn open_and_run(bytes: &[u8], folder: &Path) -> Result<Vec<Value>, Error> {
    let model = Model::decode(Bytes::copy_from_slice(bytes), folder)?;
    run(Session::new(model, HostOnly)?)
}

/// Opens a model and runs it as a whole on the CPU's kernels, twice: planned, then by the plan.
fn open_and_plan(bytes: &[u8], folder: &Path) -> Result<Vec<Value>, Error> {
    let model = Model::decode(Bytes::copy_from_slice(bytes), folder)?;
    let session = Session::prepared(model, Cpu)?;
    let inputs = inputs(session.model());
    let mut session = session;
    session.set_limits(LIMITS);
    session.run(inputs.clone())?;
    session.run(inputs)
}

fn inputs(model: &Model) -> Vec<(String, Value)> {
    model.graph.inputs.iter().map(|port| (port.name.clone(), value(&port.kind))).collect()
}

fn run<A: Accelerator>(mut session: Session<A>) -> Result<Vec<Value>, Error> {
    session.set_limits(LIMITS);
    session.run(inputs(session.model()))
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

/// How a damaged model ended: whether it ran, on either runtime.
fn both(bytes: &[u8], folder: &Path, what: &dyn Fn() -> String) -> bool {
    let both = catch_unwind(AssertUnwindSafe(|| [open_and_run(bytes, folder), open_and_plan(bytes, folder)]));
    let Ok(both) = both else { panic!("{} panics", what()) };
    for error in both.iter().filter_map(|ended| ended.as_ref().err()) {
        assert!(!error.to_string().is_empty());
    }
    both[0].is_ok()
}

/// Random damage for as long as `REKINDLE_FUZZ_SECONDS` says, on the models of this file and those of a folder
/// (`REKINDLE_FUZZ_SEEDS`, `.onnx` files up to 16 KiB); nothing where it says nothing. What panics is written to `panics.onnx`.
#[test]
fn damaged_models_for_long() {
    let Some(seconds) = std::env::var("REKINDLE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()) else { return };
    let folder = folder();
    let mut seeds: Vec<Vec<u8>> = [layers(), control(), functions()].iter().map(Message::encode_to_vec).collect();
    let mut left: Vec<_> = std::env::var("REKINDLE_FUZZ_SEEDS").into_iter().map(std::path::PathBuf::from).collect();
    while let Some(place) = left.pop() {
        for entry in std::fs::read_dir(place).expect("a folder of models").flatten() {
            let path = entry.path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|end| end == "onnx") {
                seeds.extend(std::fs::read(path).ok().filter(|bytes| !bytes.is_empty() && bytes.len() <= 16 << 10));
            }
        }
    }
    let begin = std::time::Instant::now();
    let mut random = Random(begin.elapsed().subsec_nanos().into());
    let (mut cases, mut ran, mut slowest) = (0_u64, 0_u64, std::time::Duration::ZERO);
    while begin.elapsed().as_secs() < seconds {
        let mut bytes = seeds[random.below(seeds.len())].clone();
        damage(&mut bytes, &mut random);
        let start = std::time::Instant::now();
        let ended = both(&bytes, folder.path(), &|| {
            std::fs::write("panics.onnx", &bytes).expect("what panics is written");
            format!("case {cases}, in panics.onnx,")
        });
        slowest = slowest.max(start.elapsed());
        (cases, ran) = (cases + 1, ran + u64::from(ended));
    }
    println!("{} models, {cases} cases, {ran} ran, the slowest took {slowest:?}", seeds.len());
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
        for case in 0..20_000 {
            let mut bytes = whole.clone();
            damage(&mut bytes, &mut random);
            let ended = both(&bytes, folder.path(), &|| format!("model {which}, case {case}"));
            *(if ended { &mut ran } else { &mut refused }) += 1;
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
    assert!(refused(&turning(negate(), 1, start(), false)).contains("more than the 500 nodes"));
    let whole =
        Model::decode(turning(negate(), 1, start(), true).encode_to_vec().into(), Path::new("")).expect("a model");
    let mut session = Session::new(whole, HostOnly).expect("operators that are there");
    session.set_limits(Limits { elements: 1 << 14, nodes: u64::MAX, ..Limits::USUAL });
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

/// Runs a model without inputs under limits, plainly and on the CPU's kernels; what each answers.
fn limited(proto: &ModelProto, limits: Limits) -> [String; 2] {
    let bytes = Bytes::from(proto.encode_to_vec());
    let answer = |ended: Result<Vec<Value>, Error>| ended.map_or_else(|error| error.to_string(), |_| "it ran".into());
    let open = || Model::decode(bytes.clone(), Path::new("")).expect("a model");
    let mut plain = Session::new(open(), HostOnly).expect("operators that are there");
    let mut planned = Session::prepared(open(), Cpu).expect("operators that are there");
    plain.set_limits(limits);
    planned.set_limits(limits);
    [answer(plain.run(Vec::new())), answer(planned.run(Vec::new()))]
}

/// A product of two matrices of `size` rows and columns, from a file of some hundred bytes.
fn square(size: i64) -> ModelProto {
    let nodes = vec![
        node("RandomUniform", &[], &["a"], vec![ints("shape", &[size, size])]),
        node("MatMul", &["a", "a"], &["y"], vec![]),
    ];
    model(of(nodes, vec![], vec![], &["y"]), vec![])
}

#[test]
fn what_takes_too_long_is_left_off() {
    let moment = std::time::Duration::from_millis(1);
    let begin = std::time::Instant::now();
    for answer in limited(&square(3000), Limits { time: moment, ..Limits::USUAL }) {
        assert!(answer.contains("--graph-limit seconds="), "{answer}");
    }
    // 27 billion products: a minute by the plain definition. The numbers are made twice in any case.
    assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
    for answer in limited(&square(100), Limits::USUAL) {
        assert_eq!(answer, "it ran");
    }
}

#[test]
fn values_that_are_kept_count_together() {
    let names: Vec<String> = (0..40).map(|at| format!("v{at}")).collect();
    let nodes = names.iter().map(|name| node("RandomNormal", &[], &[name], vec![ints("shape", &[100_000])])).collect();
    let outputs: Vec<&str> = names.iter().map(String::as_str).collect();
    let proto = model(of(nodes, vec![], vec![], &outputs), vec![]);
    for answer in limited(&proto, Limits { bytes: 8 << 20, ..Limits::USUAL }) {
        assert!(answer.contains("--graph-limit memory="), "{answer}");
    }
    for answer in limited(&proto, Limits { bytes: 64 << 20, ..Limits::USUAL }) {
        assert_eq!(answer, "it ran");
    }
}

#[test]
fn turns_and_depth_are_limited() {
    let negate = vec![node("Neg", &["a"], &["b"], vec![])];
    let turning = turning(negate, 1, floats("v", &[2], &[1.0, 2.0]), false);
    for answer in limited(&turning, Limits { turns: 10, ..Limits::USUAL }) {
        assert!(answer.contains("more than the 10 turns"), "{answer}");
    }
    let yes = TensorProto { name: "yes".to_string(), data_type: 9, int32_data: vec![1], ..TensorProto::default() };
    let mut deep = nested(20);
    let graph = deep.graph.as_mut().expect("a graph");
    graph.input.clear();
    graph.initializer = vec![floats("x", &[2], &[1.0, 2.0]), yes];
    for answer in limited(&deep, Limits { depth: 10, ..Limits::USUAL }) {
        assert!(answer.contains("nested more than 10 deep"), "{answer}");
    }
}
