//! Small files that ask for much work: each operator whose work grows faster than its values leaves off when time is over, or is refused
//! before it begins.

mod support;

use std::time::{Duration, Instant};

use rekindle_onnx::{Accelerator, Array, Cpu, HostOnly, Limits, Model, Session};
use rekindle_state::onnx::External;
use rekindle_state::onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};
use support::{floats, graph, int, int64s, ints, model, node, port, text, untyped};

/// What a model may take here, and what it may take at most in truth: the last step of a loop, and freeing what it made, on a machine that
/// runs other tests meanwhile. Without a limit each of these takes half a minute or more.
const TIME: Duration = Duration::from_millis(300);
const MOST: Duration = Duration::from_secs(8);

/// A graph of one operator on tensors that are spread from one element.
struct Hostile {
    nodes: Vec<NodeProto>,
    weights: Vec<TensorProto>,
}

impl Hostile {
    fn new() -> Self {
        let byte = TensorProto { name: "byte".into(), data_type: 2, int32_data: vec![1], ..TensorProto::default() };
        Self { nodes: Vec::new(), weights: vec![int64s("number", &[1]), byte] }
    }

    /// A tensor of a shape: floats, integers (`i…`) or bytes (`u…`) by the first letter of its name.
    fn given(mut self, name: &str, shape: &[i64]) -> Self {
        let sizes = format!("{name}_shape");
        self.weights.push(TensorProto { dims: vec![shape.len() as i64], ..int64s(&sizes, shape) });
        let from = match &name[..1] {
            "i" => "number",
            "u" => "byte",
            _ => "one",
        };
        self.nodes.push(node("Expand", &[from, &sizes], &[name], vec![]));
        self
    }

    fn weight(mut self, tensor: TensorProto) -> Self {
        self.weights.push(tensor);
        self
    }

    /// The graph with its operator.
    fn by(mut self, operator: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> ModelProto {
        self.nodes.push(node(operator, inputs, &["y"], attributes));
        let graph = GraphProto {
            node: self.nodes,
            initializer: self.weights,
            // Not a constant: nothing is computed before the run.
            input: vec![port("one", 1, &[])],
            output: vec![untyped("y")],
            ..GraphProto::default()
        };
        model(graph, Vec::new())
    }
}

/// How long a model takes to end.
fn time<A: Accelerator>(proto: &ModelProto, prepared: bool, accelerator: A) -> (Duration, String) {
    let model = Model::from_proto(proto, &mut External::new("".as_ref())).unwrap();
    let begin = Instant::now();
    let session = if prepared { Session::prepared(model, accelerator) } else { Session::new(model, accelerator) };
    let ended = session.and_then(|mut session| {
        session.set_limits(Limits { time: TIME, ..Limits::USUAL });
        session.run(vec![("one".to_string(), Array::scalar(0.5_f32).into())])
    });
    (begin.elapsed(), ended.map_or_else(|error| error.to_string(), |_| "it ran".to_string()))
}

fn ends_in_time(name: &str, proto: &ModelProto) {
    let ends = [("plain", time(proto, false, HostOnly)), ("cpu", time(proto, true, Cpu))];
    for (runtime, (taken, how)) in ends {
        assert!(taken < MOST, "{name} on {runtime} took {:.1} s: {how}", taken.as_secs_f64());
        let refused = ["than", "fit", "too large", "time"].iter().any(|word| how.contains(word));
        assert!(refused || how == "it ran", "{name} on {runtime}: {how}");
    }
}

#[test]
fn products_end_in_time() {
    let square = || Hostile::new().given("a", &[4000, 4000]).given("b", &[4000, 4000]);
    ends_in_time("MatMul", &square().by("MatMul", &["a", "b"], vec![]));
    ends_in_time("Gemm", &square().by("Gemm", &["a", "b"], vec![int("transB", 1)]));
    ends_in_time("Einsum", &square().by("Einsum", &["a", "b", "a"], vec![text("equation", "ij,jk,kl->il")]));
    let bytes = || Hostile::new().given("ua", &[4000, 4000]).given("ub", &[4000, 4000]);
    ends_in_time("MatMulInteger", &bytes().by("MatMulInteger", &["ua", "ub"], vec![]));
    let scales = ["ua", "one", "byte", "ub", "one", "byte", "one", "byte"];
    ends_in_time("QLinearMatMul", &bytes().by("QLinearMatMul", &scales, vec![]));
    ends_in_time("Det", &Hostile::new().given("a", &[4000, 4000]).by("Det", &["a"], vec![]));
}

#[test]
fn convolutions_end_in_time() {
    let image = || Hostile::new().given("x", &[1, 128, 256, 256]).given("w", &[128, 128, 9, 9]);
    ends_in_time("Conv", &image().by("Conv", &["x", "w"], vec![]));
    ends_in_time("ConvTranspose", &image().by("ConvTranspose", &["x", "w"], vec![]));
    let bytes = || Hostile::new().given("ux", &[1, 128, 256, 256]).given("uw", &[128, 128, 9, 9]);
    ends_in_time("ConvInteger", &bytes().by("ConvInteger", &["ux", "uw"], vec![]));
    let scales = ["ux", "one", "byte", "uw", "one", "byte", "one", "byte"];
    ends_in_time("QLinearConv", &bytes().by("QLinearConv", &scales, vec![]));
    let deformed = image().given("offset", &[1, 162, 248, 248]);
    ends_in_time("DeformConv", &deformed.by("DeformConv", &["x", "w", "offset"], vec![]));
}

#[test]
fn windows_end_in_time() {
    let image = || Hostile::new().given("x", &[1, 64, 512, 512]);
    let window = || vec![ints("kernel_shape", &[255, 255])];
    for pool in ["MaxPool", "AveragePool", "LpPool"] {
        ends_in_time(pool, &image().by(pool, &["x"], window()));
    }
    ends_in_time("LRN", &Hostile::new().given("x", &[1, 4096, 64, 64]).by("LRN", &["x"], vec![int("size", 4095)]));
    let zeros = TensorProto { dims: vec![64], ..int64s("zeros", &[0; 64]) };
    let regions = image().given("rois", &[64, 4]).weight(zeros);
    let samples = vec![int("output_height", 64), int("output_width", 64), int("sampling_ratio", 1 << 20)];
    ends_in_time("RoiAlign", &regions.by("RoiAlign", &["x", "rois", "zeros"], samples));
    let smaller = image().weight(floats("scales", &[4], &[1.0, 1.0, 0.9, 0.9]));
    let cubic = vec![text("mode", "cubic"), int("antialias", 1)];
    ends_in_time("Resize", &smaller.by("Resize", &["x", "", "scales"], cubic));
}

#[test]
fn recurrent_layers_end_in_time() {
    let steps = |gates: i64| {
        Hostile::new()
            .given("x", &[100, 64, 512])
            .given("w", &[1, gates * 2048, 512])
            .given("r", &[1, gates * 2048, 2048])
    };
    for (operator, gates) in [("LSTM", 4), ("GRU", 3), ("RNN", 1)] {
        ends_in_time(operator, &steps(gates).by(operator, &["x", "w", "r"], vec![int("hidden_size", 2048)]));
    }
}

#[test]
fn signals_and_order_end_in_time() {
    let signal = || Hostile::new().given("x", &[1, 65_521 * 61, 1]);
    ends_in_time("DFT", &signal().by("DFT", &["x", "", "number"], vec![]));
    let frames =
        Hostile::new().given("x", &[64, 1 << 18]).weight(int64s("step", &[1])).weight(int64s("length", &[4099]));
    ends_in_time("STFT", &frames.by("STFT", &["x", "step", "", "length"], vec![]));
    let boxes = Hostile::new().given("boxes", &[1, 200_000, 4]).given("scores", &[1, 1, 200_000]);
    let boxes = boxes.weight(int64s("most", &[1 << 40]));
    ends_in_time("NonMaxSuppression", &boxes.by("NonMaxSuppression", &["boxes", "scores", "most", "one"], vec![]));
    let many =
        || Hostile::new().given("x", &[1 << 25]).weight(TensorProto { dims: vec![1], ..int64s("k", &[1 << 25]) });
    ends_in_time("TopK", &many().by("TopK", &["x", "k"], vec![]));
    ends_in_time("Unique", &many().by("Unique", &["x"], vec![]));
}

#[test]
fn a_scan_of_batches_of_different_sizes_is_an_error() {
    let body = GraphProto {
        input: vec![port("state", 1, &[2]), port("item", 1, &[2])],
        output: vec![port("next", 1, &[2]), port("each", 1, &[2])],
        node: vec![node("Add", &["state", "item"], &["next"], vec![]), node("Identity", &["next"], &["each"], vec![])],
        ..GraphProto::default()
    };
    let scan =
        node("Scan", &["", "state", "items"], &["final", "all"], vec![graph("body", body), int("num_scan_inputs", 1)]);
    let with = |batch: i64| {
        let own = GraphProto {
            node: vec![scan.clone()],
            initializer: vec![
                floats("state", &[3, 2], &[0.0; 6]),
                floats("items", &[batch, 4, 2], &vec![1.0; batch as usize * 8]),
            ],
            output: vec![untyped("final"), untyped("all")],
            ..GraphProto::default()
        };
        let mut proto = model(own, Vec::new());
        proto.opset_import[0].version = 8;
        let model = Model::from_proto(&proto, &mut External::new("".as_ref())).unwrap();
        Session::new(model, HostOnly).unwrap().run(Vec::new())
    };
    let outputs = with(3).unwrap();
    assert_eq!(outputs[0].clone().into_array().unwrap().floats().unwrap(), vec![4.0; 6]);
    for batch in [1, 2, 4] {
        assert!(with(batch).unwrap_err().to_string().contains("its inputs are not of one batch"), "{batch}");
    }
}
