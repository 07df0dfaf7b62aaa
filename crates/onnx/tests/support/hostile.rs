//! Small graphs that ask for much: each operator whose work grows faster than its values, and settings out of proportion.

use std::time::Duration;

use rekindle_state::onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto};

use super::{floats, int, int64s, ints, model, node, port, text, untyped};

/// What a model may take here, and what it may take at most in truth: the last step of a loop, and freeing what it made, on a machine that
/// runs other tests meanwhile. Without a limit each of these takes half a minute or more.
pub const TIME: Duration = Duration::from_millis(300);
pub const MOST: Duration = Duration::from_secs(20);

/// A graph of one operator on tensors that are spread from one element.
pub struct Hostile {
    nodes: Vec<NodeProto>,
    weights: Vec<TensorProto>,
}

impl Hostile {
    pub fn new() -> Self {
        let byte = TensorProto { name: "byte".into(), data_type: 2, int32_data: vec![1], ..TensorProto::default() };
        Self { nodes: Vec::new(), weights: vec![int64s("number", &[1]), byte] }
    }

    /// A tensor of a shape: floats, integers (`i…`) or bytes (`u…`) by the first letter of its name.
    pub fn given(mut self, name: &str, shape: &[i64]) -> Self {
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

    pub fn weight(mut self, tensor: TensorProto) -> Self {
        self.weights.push(tensor);
        self
    }

    /// The graph with its operator; one of `com.microsoft` is named with its domain.
    pub fn by(mut self, operator: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> ModelProto {
        let (domain, operator) = operator.rsplit_once('.').unwrap_or(("", operator));
        self.nodes.push(NodeProto { domain: domain.into(), ..node(operator, inputs, &["y"], attributes) });
        let graph = GraphProto {
            node: self.nodes,
            initializer: self.weights,
            // Not a constant: nothing is computed before the run.
            input: vec![port("one", 1, &[])],
            output: vec![untyped("y")],
            ..GraphProto::default()
        };
        let mut model = model(graph, Vec::new());
        model.opset_import.push(OperatorSetIdProto { domain: "com.microsoft".into(), version: 1 });
        model
    }
}

/// Whether an error says that a limit, or time, is over.
pub fn is_refusal(error: &str) -> bool {
    ["than", "fit", "too large", "time"].iter().any(|word| error.contains(word))
}

/// Products of large matrices.
pub fn products() -> Vec<(&'static str, ModelProto)> {
    let mut graphs = Vec::new();
    let square = || Hostile::new().given("a", &[4000, 4000]).given("b", &[4000, 4000]);
    graphs.push(("MatMul", square().by("MatMul", &["a", "b"], vec![])));
    graphs.push(("CDist", square().by("com.microsoft.CDist", &["a", "b"], vec![])));
    graphs.push(("Gemm", square().by("Gemm", &["a", "b"], vec![int("transB", 1)])));
    graphs.push(("Einsum", square().by("Einsum", &["a", "b", "a"], vec![text("equation", "ij,jk,kl->il")])));
    let bytes = || Hostile::new().given("ua", &[4000, 4000]).given("ub", &[4000, 4000]);
    graphs.push(("MatMulInteger", bytes().by("MatMulInteger", &["ua", "ub"], vec![])));
    let scales = ["ua", "one", "byte", "ub", "one", "byte", "one", "byte"];
    graphs.push(("QLinearMatMul", bytes().by("QLinearMatMul", &scales, vec![])));
    graphs.push(("Det", Hostile::new().given("a", &[4000, 4000]).by("Det", &["a"], vec![])));
    graphs
}

/// Convolutions of many channels by large windows.
pub fn convolutions() -> Vec<(&'static str, ModelProto)> {
    let mut graphs = Vec::new();
    let image = || Hostile::new().given("x", &[1, 128, 256, 256]).given("w", &[128, 128, 9, 9]);
    graphs.push(("Conv", image().by("Conv", &["x", "w"], vec![])));
    graphs.push(("ConvTranspose", image().by("ConvTranspose", &["x", "w"], vec![])));
    let bytes = || Hostile::new().given("ux", &[1, 128, 256, 256]).given("uw", &[128, 128, 9, 9]);
    graphs.push(("ConvInteger", bytes().by("ConvInteger", &["ux", "uw"], vec![])));
    let scales = ["ux", "one", "byte", "uw", "one", "byte", "one", "byte"];
    graphs.push(("QLinearConv", bytes().by("QLinearConv", &scales, vec![])));
    let deformed = image().given("offset", &[1, 162, 248, 248]);
    graphs.push(("DeformConv", deformed.by("DeformConv", &["x", "w", "offset"], vec![])));
    graphs
}

/// Large windows, and many regions.
pub fn windows() -> Vec<(&'static str, ModelProto)> {
    let mut graphs = Vec::new();
    let image = || Hostile::new().given("x", &[1, 64, 512, 512]);
    let window = || vec![ints("kernel_shape", &[255, 255])];
    for pool in ["MaxPool", "AveragePool", "LpPool"] {
        graphs.push((pool, image().by(pool, &["x"], window())));
    }
    graphs.push(("LRN", Hostile::new().given("x", &[1, 4096, 64, 64]).by("LRN", &["x"], vec![int("size", 4095)])));
    let zeros = TensorProto { dims: vec![64], ..int64s("zeros", &[0; 64]) };
    let regions = image().given("rois", &[64, 4]).weight(zeros);
    let samples = vec![int("output_height", 64), int("output_width", 64), int("sampling_ratio", 1 << 20)];
    graphs.push(("RoiAlign", regions.by("RoiAlign", &["x", "rois", "zeros"], samples)));
    let smaller = image().weight(floats("scales", &[4], &[1.0, 1.0, 0.9, 0.9]));
    let cubic = vec![text("mode", "cubic"), int("antialias", 1)];
    graphs.push(("Resize", smaller.by("Resize", &["x", "", "scales"], cubic)));
    graphs
}

/// Recurrent layers of many steps.
pub fn recurrent_layers() -> Vec<(&'static str, ModelProto)> {
    let mut graphs = Vec::new();
    let steps = |gates: i64| {
        Hostile::new()
            .given("x", &[100, 64, 512])
            .given("w", &[1, gates * 2048, 512])
            .given("r", &[1, gates * 2048, 2048])
    };
    for (operator, gates) in [("LSTM", 4), ("GRU", 3), ("RNN", 1)] {
        graphs.push((operator, steps(gates).by(operator, &["x", "w", "r"], vec![int("hidden_size", 2048)])));
    }
    graphs
}

/// Transforms of long signals, and much to put in order.
pub fn signals_and_order() -> Vec<(&'static str, ModelProto)> {
    let mut graphs = Vec::new();
    let signal = || Hostile::new().given("x", &[1, 65_521 * 61, 1]);
    graphs.push(("DFT", signal().by("DFT", &["x", "", "number"], vec![])));
    let frames =
        Hostile::new().given("x", &[64, 1 << 18]).weight(int64s("step", &[1])).weight(int64s("length", &[4099]));
    graphs.push(("STFT", frames.by("STFT", &["x", "step", "", "length"], vec![])));
    let boxes = Hostile::new().given("boxes", &[1, 200_000, 4]).given("scores", &[1, 1, 200_000]);
    let boxes = boxes.weight(int64s("most", &[1 << 40]));
    graphs.push(("NonMaxSuppression", boxes.by("NonMaxSuppression", &["boxes", "scores", "most", "one"], vec![])));
    let many =
        || Hostile::new().given("x", &[1 << 25]).weight(TensorProto { dims: vec![1], ..int64s("k", &[1 << 25]) });
    graphs.push(("TopK", many().by("TopK", &["x", "k"], vec![])));
    graphs.push(("Unique", many().by("Unique", &["x"], vec![])));
    graphs
}

/// A tensor of integers of one axis, even where there is one.
fn list(name: &str, values: &[i64]) -> TensorProto {
    TensorProto { dims: vec![values.len() as i64], ..int64s(name, values) }
}

/// Settings that fit no tensor, or whose sums and products do not fit 64 bits.
pub fn settings() -> Vec<(&'static str, ModelProto)> {
    const MAX: i64 = i64::MAX;
    let mut graphs = Vec::new();
    let line = || Hostile::new().given("x", &[4]);
    let table = || Hostile::new().given("x", &[3, 4]);
    let image = || Hostile::new().given("x", &[1, 4, 8, 8]);
    // 4 elements, modulo 2^64.
    for shape in [[(1 << 62) + 1, 4], [MAX, MAX], [-1, MAX], [-1, 0], [-2, -2], [0, 0]] {
        graphs.push(("Reshape", line().weight(list("to", &shape)).by("Reshape", &["x", "to"], vec![])));
    }
    for lengths in [vec![MAX, MAX, 6], vec![-1, 5], vec![0, 4], vec![MAX], vec![2, 2, 2]] {
        graphs.push(("Split", line().weight(list("of", &lengths)).by("Split", &["x", "of"], vec![])));
    }
    graphs.push(("Split", line().by("Split", &["x"], vec![int("num_outputs", MAX)])));
    let cuts = [
        ([1, 2], [4, 4], [0, 0], [1, 1]),
        ([MAX, i64::MIN], [i64::MIN, MAX], [0, 1], [i64::MIN, MAX]),
        ([-9, 2], [-11, 2], [0, 1], [-1, 0]),
        ([i64::MIN, 0], [MAX, MAX], [-1, -2], [3, MAX]),
    ];
    for (starts, ends, axes, steps) in cuts {
        let cut = [("starts", starts), ("ends", ends), ("axes", axes), ("steps", steps)];
        let graph = cut.iter().fold(table(), |graph, (name, values)| graph.weight(list(name, values)));
        graphs.push(("Slice", graph.by("Slice", &["x", "starts", "ends", "axes", "steps"], vec![])));
    }
    for pads in [[MAX, 0, MAX, 0], [1 << 40, 0, 0, 0], [-MAX, 0, 0, 0], [i64::MIN; 4], [0, 1 << 27, 0, 0]] {
        graphs.push(("Pad", table().weight(list("pads", &pads)).by("Pad", &["x", "pads"], vec![])));
    }
    let twice = table().weight(list("pads", &[1, 2, 3, 4])).weight(list("axes", &[1, 1]));
    graphs.push(("Pad", twice.by("Pad", &["x", "pads", "", "axes"], vec![])));
    for sizes in [[MAX, MAX], [1 << 40, 1], [-1, 4], [0, 4]] {
        for operator in ["Expand", "Tile"] {
            graphs.push((operator, table().weight(list("sizes", &sizes)).by(operator, &["x", "sizes"], vec![])));
        }
    }
    for at in [i64::MIN, MAX, 3, -4] {
        let indices = || list("at", &[at]);
        graphs.push(("Gather", table().weight(indices()).by("Gather", &["x", "at"], vec![])));
        graphs.push(("GatherND", table().weight(indices()).by("GatherND", &["x", "at"], vec![])));
        graphs.push(("Squeeze", table().weight(indices()).by("Squeeze", &["x", "at"], vec![])));
        graphs.push(("Unsqueeze", table().weight(indices()).by("Unsqueeze", &["x", "at"], vec![])));
        graphs.push(("ReduceSum", table().weight(indices()).by("ReduceSum", &["x", "at"], vec![])));
        for operator in ["Softmax", "LogSoftmax", "Flatten", "LayerNormalization", "Concat", "Split", "Gather"] {
            let graph = table().weight(list("first", &[0])).given("scale", &[4]);
            let inputs: &[&str] = match operator {
                "LayerNormalization" => &["x", "scale"],
                "Concat" => &["x", "x"],
                "Gather" => &["x", "first"],
                _ => &["x"],
            };
            graphs.push((operator, graph.by(operator, inputs, vec![int("axis", at)])));
        }
    }
    for order in [[0, 0], [1, 2], [MAX, i64::MIN], [-1, -2]] {
        graphs.push(("Transpose", table().by("Transpose", &["x"], vec![ints("perm", &order)])));
    }
    for block in [0, -1, 2, 3, 1 << 19, 1 << 40] {
        graphs.push(("DepthToSpace", image().by("DepthToSpace", &["x"], vec![int("blocksize", block)])));
        graphs.push(("SpaceToDepth", image().by("SpaceToDepth", &["x"], vec![int("blocksize", block)])));
    }
    for bounds in [[f32::NAN, 1.0], [0.0, f32::NAN], [1.0, 0.0], [f32::NEG_INFINITY, f32::INFINITY]] {
        let graph = table().weight(floats("low", &[], &bounds[..1])).weight(floats("high", &[], &bounds[1..]));
        graphs.push(("Clip", graph.by("Clip", &["x", "low", "high"], vec![])));
    }
    let training = || {
        let flag = TensorProto { name: "on".into(), data_type: 9, int32_data: vec![1], ..TensorProto::default() };
        table().weight(flag)
    };
    for ratio in [-1.0, 1.0, 2.0, f32::NAN] {
        let graph = training().weight(floats("ratio", &[], &[ratio]));
        graphs.push(("Dropout", graph.by("Dropout", &["x", "ratio", "on"], vec![])));
    }
    for groups in [0, -1, 3, MAX] {
        let graph = image().given("scale", &[4]);
        let attributes = vec![int("num_groups", groups)];
        graphs.push(("GroupNormalization", graph.by("GroupNormalization", &["x", "scale", "scale"], attributes)));
    }
    for scales in [[1.0, 1.0, 1e9, 1e9], [1.0, 1.0, f32::NAN, 2.0], [1.0, 1.0, -1.0, 2.0], [1.0, 1.0, 1e-9, 2.0]] {
        let graph = image().weight(floats("scales", &[4], &scales));
        graphs.push(("Resize", graph.by("Resize", &["x", "", "scales"], vec![text("mode", "linear")])));
    }
    for sizes in [[1, 4, 1 << 30, 1 << 30], [1, 4, MAX, 8], [1, 4, -1, 8], [1, 4, 0, 8]] {
        let graph = image().weight(list("sizes", &sizes));
        graphs.push(("Resize", graph.by("Resize", &["x", "", "", "sizes"], vec![text("mode", "nearest")])));
    }
    graphs.extend(sliding());
    graphs
}

/// Windows whose settings are far larger than the image that they slide over.
fn sliding() -> Vec<(&'static str, ModelProto)> {
    let mut graphs = Vec::new();
    let image = || Hostile::new().given("x", &[1, 4, 8, 8]).given("w", &[4, 4, 3, 3]);
    let far = 1_i64 << 30;
    let settings = [
        vec![ints("pads", &[far; 4]), ints("strides", &[far; 2])],
        vec![ints("pads", &[far; 4]), ints("dilations", &[far; 2])],
        vec![ints("pads", &[far; 4])],
        vec![ints("pads", &[-far; 4])],
        vec![ints("pads", &[-3, 0, 0, 0])],
        vec![ints("strides", &[far; 2])],
        vec![ints("dilations", &[far; 2])],
        vec![ints("strides", &[2 * far; 2]), ints("pads", &[0, 0, 2 * far, 2 * far])],
        vec![ints("strides", &[i64::MAX; 2])],
        vec![ints("strides", &[0, 0])],
        vec![ints("pads", &[1])],
        vec![int("group", i64::MAX)],
        vec![int("group", 3)],
        vec![int("group", 0)],
        vec![ints("kernel_shape", &[2, 2])],
        vec![text("auto_pad", "SAME_UPPER"), ints("dilations", &[far; 2])],
        vec![ints("output_shape", &[far; 2])],
        vec![ints("output_shape", &[1, 1]), ints("strides", &[far; 2])],
        vec![ints("output_padding", &[far; 2])],
    ];
    for attributes in settings {
        for operator in ["Conv", "ConvTranspose"] {
            let unknown = |attribute: &AttributeProto| operator == "Conv" && attribute.name.starts_with("output");
            if !attributes.iter().any(unknown) {
                graphs.push((operator, image().by(operator, &["x", "w"], attributes.clone())));
            }
        }
    }
    let pools = [
        vec![ints("kernel_shape", &[1 << 20; 2]), ints("pads", &[(1 << 20) - 1; 4]), ints("strides", &[1 << 20; 2])],
        vec![ints("kernel_shape", &[1 << 13; 2]), ints("pads", &[(1 << 13) - 1; 4]), ints("strides", &[1 << 13; 2])],
        vec![ints("kernel_shape", &[9, 9])],
        vec![ints("kernel_shape", &[9, 9]), ints("strides", &[9, 9])],
        vec![ints("kernel_shape", &[2, 2]), ints("pads", &[far; 4]), ints("strides", &[far; 2])],
        vec![ints("kernel_shape", &[2, 2]), ints("dilations", &[far; 2])],
        vec![ints("kernel_shape", &[2])],
        vec![ints("kernel_shape", &[0, 2])],
        vec![ints("kernel_shape", &[i64::MAX; 2])],
    ];
    for attributes in pools {
        for operator in ["MaxPool", "AveragePool"] {
            graphs.push((operator, image().by(operator, &["x"], attributes.clone())));
        }
    }
    graphs
}
