//! Networks of 8-bit codes on the CPU runtime give what the plain operators give, up to one step of the last scale where a value is
//! halfway between two codes; and they run on kernels for codes.

#[path = "support/mod.rs"]
mod made;

use std::path::Path;
use std::sync::Arc;

use made::{floats, int, int64s, ints, model, node, untyped};
use rekindle_onnx::{Array, Cpu, HostOnly, Model, Session, Value};
use rekindle_state::onnx::External;
use rekindle_state::onnx::proto::{GraphProto, NodeProto, TensorProto};

const U8: i32 = 2;
const I8: i32 = 3;
const I32: i32 = 6;

/// Integers without a pattern.
fn codes(name: &str, dims: &[i64], dtype: i32, seed: u32) -> TensorProto {
    let count = dims.iter().product::<i64>() as u32;
    let byte = |i: u32| ((i + seed).wrapping_mul(2_654_435_761) >> 24) as u8;
    let raw: Vec<u8> = match dtype {
        I32 => (0..count).flat_map(|i| (i32::from(byte(i)) * 20 - 2500).to_le_bytes()).collect(),
        _ => (0..count).map(byte).collect(),
    };
    let (name, dims) = (name.to_string(), dims.to_vec());
    TensorProto { name, dims, data_type: dtype, raw_data: Some(raw.into()), ..TensorProto::default() }
}

fn number(name: &str, dtype: i32, value: i32) -> TensorProto {
    let raw = if dtype == I32 { value.to_le_bytes().to_vec() } else { vec![value as u8] };
    TensorProto { name: name.to_string(), data_type: dtype, raw_data: Some(raw.into()), ..TensorProto::default() }
}

fn scale(name: &str, value: f32) -> TensorProto {
    floats(name, &[], &[value])
}

/// The codes of a value, by the scale and zero point of a name.
fn quantize(x: &str, by: &str, out: &str) -> NodeProto {
    node("QuantizeLinear", &[x, &format!("{by}_scale"), &format!("{by}_zero")], &[out], vec![])
}

fn dequantize(x: &str, by: &str, out: &str, axis: i64) -> NodeProto {
    let inputs = [x, &format!("{by}_scale"), &format!("{by}_zero")];
    node("DequantizeLinear", &inputs, &[out], vec![int("axis", axis)])
}

fn scaled(by: &str, value: f32, dtype: i32, zero: i32) -> [TensorProto; 2] {
    [scale(&format!("{by}_scale"), value), number(&format!("{by}_zero"), dtype, zero)]
}

/// Runs nodes on inputs `a` of these shapes, plainly and prepared; `step` is that of the last codes. All of `kernels` run, and nothing
/// plainly.
fn compare(nodes: &[NodeProto], weights: &[TensorProto], shapes: &[&[usize]], step: f64, kernels: &[&str]) {
    let graph = GraphProto {
        input: vec![untyped("a")],
        output: vec![untyped("y")],
        node: nodes.to_vec(),
        initializer: weights.to_vec(),
        ..GraphProto::default()
    };
    let model = Model::from_proto(&model(graph, vec![]), &mut External::new(Path::new("")));
    let model = Arc::new(model.expect("a valid model"));
    let host = Session::new(model.clone(), HostOnly).unwrap();
    let session = Session::prepared(model, Cpu).unwrap();
    for shape in shapes {
        let values = (0..shape.iter().product::<usize>()).map(|k| (k as f32 * 1.7).sin() * 2.5 + 0.3).collect();
        let given = vec![("a".to_string(), Value::from(Array::new(shape.to_vec(), values).unwrap()))];
        let expected = host.run(given.clone()).unwrap().remove(0);
        let expected = expected.array().unwrap();
        for _ in 0..2 {
            let found = session.run(given.clone()).unwrap().remove(0);
            let found = found.array().unwrap();
            assert_eq!((found.shape(), found.dtype()), (expected.shape(), expected.dtype()));
            let (found, expected) = (found.floats().unwrap(), expected.floats().unwrap());
            let off = found.iter().zip(&expected).filter(|(a, b)| (**a - **b).abs() > 1e-4 * b.abs().max(step)).count();
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst <= step * 1.001, "{shape:?}: {worst} apart, steps are {step}");
            assert!(off * 50 <= found.len(), "{shape:?}: {off} of {} differ", found.len());
        }
        let steps = session.profile(given, 0.0).unwrap();
        let names: Vec<&str> = steps.iter().map(|(name, _, _)| name.as_str()).collect();
        assert!(names.iter().all(|name| !name.starts_with("plain")), "{names:?}");
        assert!(kernels.iter().all(|kernel| names.iter().any(|name| name.contains(kernel))), "{names:?}");
    }
}

#[test]
fn convolutions_between_codes() {
    for (x_dtype, x_zero, w_dtype) in [(U8, 113, I8), (U8, 113, U8), (I8, -7, I8), (I8, 3, U8)] {
        for (dims, group, shape) in [
            (vec![10_i64, 6, 3, 3], 1, vec![1_usize, 6, 9, 8]),
            (vec![6, 1, 3, 3], 6, vec![2, 6, 9, 8]),
            (vec![12, 6, 1, 1], 1, vec![2, 6, 5, 7]),
            (vec![8, 3, 3, 3], 2, vec![1, 6, 7, 7]),
            (vec![10, 6, 3], 1, vec![2, 6, 11]),
        ] {
            let (out, axes) = (dims[0], dims.len() - 2);
            let pads = if dims[2] == 1 { vec![0; 2 * axes] } else { vec![1; 2 * axes] };
            let attributes = vec![ints("pads", &pads), int("group", group)];
            let (x_scale, y_scale) = (0.021, 0.9);
            let w_scales: Vec<f32> = (0..out).map(|j| 0.004 + 0.001 * j as f32).collect();
            let b_scales: Vec<f32> = w_scales.iter().map(|scale| scale * x_scale).collect();
            let zeros = vec![if w_dtype == U8 { 120_u8 } else { 0 }; out as usize];
            let mut weights = vec![
                codes("w", &dims, w_dtype, 5),
                floats("w_scale", &[out], &w_scales),
                codes("b", &[out], I32, 9),
                floats("b_scale", &[out], &b_scales),
                TensorProto {
                    name: "w_zero".to_string(),
                    dims: vec![out],
                    data_type: w_dtype,
                    raw_data: Some(zeros.into()),
                    ..TensorProto::default()
                },
            ];
            weights.extend(scaled("x", x_scale, x_dtype, x_zero));
            weights.extend(scaled("y", y_scale, x_dtype, x_zero));
            for relu in [false, true] {
                let mut nodes = vec![
                    quantize("a", "x", "q"),
                    dequantize("q", "x", "x", 0),
                    dequantize("w", "w", "wf", 0),
                    node("DequantizeLinear", &["b", "b_scale"], &["bf"], vec![int("axis", 0)]),
                    node("Conv", &["x", "wf", "bf"], &["c"], attributes.clone()),
                ];
                let last = if relu { "r" } else { "c" };
                if relu {
                    nodes.push(node("Relu", &["c"], &["r"], vec![]));
                }
                let kernels = ["QuantizedConv"];
                // Codes, floats that they stand for, and floats without codes between.
                nodes.push(quantize(last, "y", "y"));
                compare(&nodes, &weights, &[&shape], 1.0, &kernels);
                nodes.pop();
                nodes.extend([quantize(last, "y", "s"), dequantize("s", "y", "y", 0)]);
                compare(&nodes, &weights, &[&shape], f64::from(y_scale), &kernels);
                nodes.truncate(nodes.len() - 2);
                nodes.push(node("Sigmoid", &[last], &["y"], vec![]));
                compare(&nodes, &weights, &[&shape], 1e-3, &kernels);
            }
            let inputs = ["q", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero", "b"];
            let nodes = [quantize("a", "x", "q"), node("QLinearConv", &inputs, &["y"], attributes)];
            compare(&nodes, &weights, &[&shape], 1.0, &["QuantizedConv"]);
        }
    }
}

#[test]
fn products_of_codes() {
    for (x_dtype, x_zero, w_dtype, w_zero) in [(U8, 113, I8, 0), (I8, -7, I8, 4), (U8, 20, U8, 130)] {
        let mut weights = vec![codes("w", &[21, 10], w_dtype, 5), codes("t", &[10, 21], w_dtype, 6)];
        for (by, value, dtype, zero) in [
            ("x", 0.021, x_dtype, x_zero),
            ("w", 0.007, w_dtype, w_zero),
            ("t", 0.009, w_dtype, w_zero),
            ("y", 0.4, x_dtype, x_zero),
        ] {
            weights.extend(scaled(by, value, dtype, zero));
        }
        weights.push(floats("v", &[10], &[0.25, -1.0, 3.0, 0.0, 1.0, 2.0, -2.0, 0.5, 0.1, 7.0]));
        let before = [quantize("a", "x", "q"), dequantize("q", "x", "x", 0), dequantize("w", "w", "wf", 0)];
        let nodes = [&before[..], &[node("MatMul", &["x", "wf"], &["m"], vec![]), quantize("m", "y", "y")]].concat();
        compare(&nodes, &weights, &[&[3, 5, 21], &[1, 21], &[40, 21]], 1.0, &["QuantizedMatMul"]);
        let turned = vec![int("transB", 1)];
        let gemm = [dequantize("t", "t", "tf", 0), node("Gemm", &["x", "tf", "v"], &["y"], turned)];
        compare(&[&before[..2], &gemm].concat(), &weights, &[&[3, 21]], 1e-3, &["QuantizedMatMul"]);
        let inputs = ["q", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero"];
        let nodes = [quantize("a", "x", "q"), node("QLinearMatMul", &inputs, &["y"], vec![])];
        compare(&nodes, &weights, &[&[7, 21], &[2, 3, 21]], 1.0, &["QuantizedMatMul"]);
    }
}

#[test]
fn products_of_what_is_quantized_in_each_run() {
    let weights = [
        codes("w", &[24, 10], I8, 5),
        scale("w_scale", 0.01),
        number("w_zero", I8, 0),
        floats("v", &[10], &[0.25, -1.0, 3.0, 0.0, 1.0, 2.0, -2.0, 0.5, 0.1, 7.0]),
    ];
    let nodes = [
        node("DynamicQuantizeLinear", &["a"], &["q", "s", "z"], vec![]),
        node("Mul", &["s", "w_scale"], &["sw"], vec![]),
        node("MatMulInteger", &["q", "w", "z", "w_zero"], &["i"], vec![]),
        node("Cast", &["i"], &["f"], vec![int("to", 1)]),
        node("Mul", &["f", "sw"], &["m"], vec![]),
        node("Add", &["m", "v"], &["n"], vec![]),
        node("Relu", &["n"], &["y"], vec![]),
    ];
    compare(&nodes, &weights, &[&[3, 5, 24], &[1, 24], &[50, 24]], 1e-3, &["QuantizedMatMul", "DynamicQuantizeLinear"]);
    let weights = [codes("w", &[6, 4, 3, 3], I8, 5), scale("w_scale", 0.01), floats("v", &[1, 6, 1, 1], &[1.0; 6])];
    let nodes = [
        node("DynamicQuantizeLinear", &["a"], &["q", "s", "z"], vec![]),
        node("ConvInteger", &["q", "w", "z"], &["i"], vec![ints("pads", &[1, 1, 1, 1])]),
        node("Cast", &["i"], &["f"], vec![int("to", 1)]),
        node("Mul", &["w_scale", "s"], &["sw"], vec![]),
        node("Mul", &["f", "sw"], &["m"], vec![]),
        node("Add", &["v", "m"], &["y"], vec![]),
    ];
    compare(&nodes, &weights, &[&[2, 4, 7, 5]], 1e-3, &["QuantizedConv"]);
}

#[test]
fn codes_stay_codes() {
    let mut weights = vec![codes("w", &[8, 4, 1, 1], I8, 5), codes("k", &[8, 1, 1], U8, 3)];
    for (by, value, dtype, zero) in
        [("x", 0.021, U8, 113), ("w", 0.007, I8, 0), ("k", 0.01, U8, 9), ("u", 0.05, U8, 100), ("y", 0.06, U8, 80)]
    {
        weights.extend(scaled(by, value, dtype, zero));
    }
    weights.push(int64s("flat", &[0, -1]));
    let nodes = [
        quantize("a", "x", "q"),
        dequantize("q", "x", "x", 0),
        dequantize("w", "w", "wf", 0),
        node("Conv", &["x", "wf"], &["c"], vec![]),
        quantize("c", "u", "cq"),
        dequantize("cq", "u", "d", 0),
        node("MaxPool", &["d"], &["m"], vec![ints("kernel_shape", &[2, 2]), ints("strides", &[1, 1])]),
        quantize("m", "u", "mq"),
        dequantize("mq", "u", "n", 0),
        node("HardSigmoid", &["n"], &["h"], vec![]),
        quantize("h", "k", "hq"),
        dequantize("hq", "k", "hd", 0),
        node("Mul", &["hd", "n"], &["p"], vec![]),
        quantize("p", "y", "pq"),
        dequantize("pq", "y", "pd", 0),
        dequantize("k", "k", "kf", 0),
        node("Add", &["pd", "kf"], &["s"], vec![]),
        quantize("s", "y", "sq"),
        dequantize("sq", "y", "sd", 0),
        node("Concat", &["sd", "n", "pd"], &["t"], vec![int("axis", 1)]),
        quantize("t", "u", "tq"),
        dequantize("tq", "u", "td", 0),
        node("Reshape", &["td", "flat"], &["r"], vec![]),
        quantize("r", "u", "rq"),
        dequantize("rq", "u", "y", 0),
    ];
    let kernels = ["QuantizedConv", "MaxPool", "QLinearMul", "QLinearAdd", "QLinearConcat"];
    compare(&nodes, &weights, &[&[1, 4, 6, 5], &[2, 4, 3, 9]], 0.13, &kernels);
}
