//! Gradients through operators of graphs on devices, held against differences of what the plain definition gives.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use rekindle::device::DeviceName;
use rekindle::onnx::run::{BurnDevice, DeviceTensor};
use rekindle_onnx::builder::{Attr, GraphBuilder};
use rekindle_onnx::{Array, Axis, DType, HostOnly, Model, Session, Slot};
use rekindle_state::onnx::External;

/// An operator, its inputs (floats learn, integers are constants) and attributes.
struct Case {
    operator: &'static str,
    opset: i64,
    inputs: Vec<Option<Array>>,
    outputs: usize,
    attributes: Vec<(&'static str, Attr)>,
}

/// Numbers between -1 and 1, the same every time.
fn floats(shape: &[usize], seed: u32) -> Array {
    let count: usize = shape.iter().product();
    let value =
        |i: usize| ((i as u32 + 1).wrapping_mul(2_654_435_761).wrapping_add(seed * 97) >> 8) as f32 / (1 << 23) as f32;
    Array::new(shape.to_vec(), (0..count).map(|i| value(i) - 1.0).collect()).unwrap()
}

fn ints(shape: &[usize], values: &[i64]) -> Option<Array> {
    Some(Array::new(shape.to_vec(), values.to_vec()).unwrap())
}

fn case(operator: &'static str, opset: i64, inputs: Vec<Option<Array>>, attributes: Vec<(&'static str, Attr)>) -> Case {
    Case { operator, opset, inputs, outputs: 1, attributes }
}

fn cases() -> Vec<Case> {
    let f = |shape: &[usize], seed: u32| Some(floats(shape, seed));
    let text = |value: &'static str| Attr::Text(value);
    let recurrent = |gates: usize, directions: usize| {
        let (steps, batch, inputs, hidden) = (3, 2, 3, 2);
        vec![
            f(&[steps, batch, inputs], 1),
            f(&[directions, gates * hidden, inputs], 2),
            f(&[directions, gates * hidden, hidden], 3),
            f(&[directions, 2 * gates * hidden], 4),
            None,
            f(&[directions, batch, hidden], 5),
        ]
    };
    let scales = |values: &[f32]| Some(Array::new(vec![values.len()], values.to_vec()).unwrap());
    vec![
        case("LSTM", 22, recurrent(4, 2), vec![("hidden_size", Attr::Int(2)), ("direction", text("bidirectional"))]),
        case("LSTM", 14, recurrent(4, 1), vec![("hidden_size", Attr::Int(2)), ("direction", text("reverse"))]),
        case("GRU", 22, recurrent(3, 1), vec![("hidden_size", Attr::Int(2))]),
        case(
            "GRU",
            22,
            recurrent(3, 2),
            vec![
                ("hidden_size", Attr::Int(2)),
                ("linear_before_reset", Attr::Int(1)),
                ("direction", text("bidirectional")),
            ],
        ),
        case("RNN", 22, recurrent(1, 1), vec![("hidden_size", Attr::Int(2))]),
        case("Einsum", 12, vec![f(&[2, 3, 4], 1), f(&[2, 4, 3], 2)], vec![("equation", text("bij,bjk->kbi"))]),
        case("Einsum", 12, vec![f(&[3, 2], 1), f(&[2, 3], 2), f(&[3], 3)], vec![("equation", text("ij,ji,i->j"))]),
        case("GatherND", 13, vec![f(&[3, 4, 2], 1), ints(&[3, 2], &[0, 1, 2, -1, 0, 1])], vec![]),
        case(
            "GatherElements",
            13,
            vec![f(&[3, 4], 1), ints(&[2, 4], &[0, 1, 2, -1, 0, 1, 1, 0])],
            vec![("axis", Attr::Int(0))],
        ),
        case("ScatterND", 18, vec![f(&[4, 3], 1), ints(&[3, 1], &[0, 2, 0]), f(&[3, 3], 2)], vec![]),
        case(
            "ScatterND",
            18,
            vec![f(&[4, 3], 1), ints(&[3, 1], &[0, 2, 0]), f(&[3, 3], 2)],
            vec![("reduction", text("add"))],
        ),
        case(
            "ScatterElements",
            18,
            vec![f(&[3, 3], 1), ints(&[2, 3], &[1, 0, 2, 0, 2, 1]), f(&[2, 3], 2)],
            vec![("axis", Attr::Int(0))],
        ),
        case(
            "Resize",
            19,
            vec![f(&[1, 2, 3, 4], 1), None, scales(&[1.0, 1.0, 1.5, 2.0])],
            vec![("mode", text("linear")), ("coordinate_transformation_mode", text("half_pixel"))],
        ),
        case(
            "Resize",
            19,
            vec![f(&[1, 2, 4, 4], 1), None, scales(&[1.0, 1.0, 0.5, 0.5])],
            vec![("mode", text("cubic")), ("antialias", Attr::Int(1))],
        ),
        case("Resize", 13, vec![f(&[2, 2, 3], 1), None, scales(&[1.0, 1.0, 2.0])], vec![("mode", text("nearest"))]),
        case(
            "ConvTranspose",
            22,
            vec![f(&[1, 2, 4], 1), f(&[2, 3, 3], 2), f(&[3], 3)],
            vec![("strides", Attr::Ints(vec![2]))],
        ),
        case("ConvTranspose", 22, vec![f(&[1, 2, 3, 3], 1), f(&[2, 1, 2, 2], 2)], vec![("group", Attr::Int(2))]),
        case("ConvTranspose", 22, vec![f(&[1, 1, 2, 2, 2], 1), f(&[1, 2, 2, 2, 2], 2)], vec![]),
        case(
            "Attention",
            23,
            vec![f(&[1, 2, 3, 4], 1), f(&[1, 1, 3, 4], 2), f(&[1, 1, 3, 2], 3)],
            vec![("is_causal", Attr::Int(1))],
        ),
        case(
            "Attention",
            23,
            vec![f(&[2, 3, 4], 1), f(&[2, 3, 4], 2), f(&[2, 3, 4], 3)],
            vec![("q_num_heads", Attr::Int(2)), ("kv_num_heads", Attr::Int(2))],
        ),
        Case {
            outputs: 3,
            ..case(
                "BatchNormalization",
                15,
                vec![f(&[4, 3, 2], 1), f(&[3], 2), f(&[3], 3), f(&[3], 4), f(&[3], 5)],
                vec![("training_mode", Attr::Int(1))],
            )
        },
    ]
}

impl Case {
    /// A graph of the node alone; floats are its inputs, all others constants.
    fn model(&self) -> Model {
        let mut builder = GraphBuilder::new("case", self.opset);
        let mut names = Vec::new();
        for (at, input) in self.inputs.iter().enumerate() {
            names.push(match input {
                None => String::new(),
                Some(array) if self.learns(at) => {
                    let axes: Vec<Axis> = array.shape().iter().map(|&size| Axis::Size(size)).collect();
                    builder.input(&format!("x{at}"), DType::F32, &axes).unwrap().to_string()
                }
                Some(array) => builder.constant(array).unwrap().to_string(),
            });
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let outputs = builder.node(self.operator, "", &names, self.outputs, &self.attributes).unwrap();
        for output in &outputs {
            builder.output(output, None, None).unwrap();
        }
        Model::from_proto(&builder.finish("test"), &mut External::new(Path::new(""))).unwrap()
    }

    /// Scales of `Resize`, running statistics and integers do not learn.
    fn learns(&self, at: usize) -> bool {
        let first = match self.operator {
            "Resize" => 1,
            "BatchNormalization" => 3,
            _ => usize::MAX,
        };
        at < first && self.inputs[at].as_ref().is_some_and(|array| array.dtype() == DType::F32)
    }

    /// What the plain definition gives.
    fn plain(&self, session: &Session<HostOnly>, inputs: &[Option<Array>]) -> Vec<Vec<f64>> {
        let given = inputs.iter().enumerate().filter(|(at, _)| self.learns(*at));
        let given = given.map(|(at, array)| (format!("x{at}"), array.clone().unwrap().into())).collect();
        let outputs = session.run(given).unwrap();
        outputs.iter().map(|output| output.array().unwrap().floats().unwrap()).collect()
    }
}

/// How much each output counts in the loss.
fn weight(i: usize) -> f64 {
    f64::from(((i as u32).wrapping_mul(747_796_405).wrapping_add(5) >> 9) as f32 / (1 << 22) as f32) - 1.0
}

fn loss(values: &[f64]) -> f64 {
    values.iter().enumerate().map(|(i, value)| value * weight(i)).sum()
}

fn check(case: &Case, device: &Device, name: &str) {
    let what = format!("{} on {name}", case.operator);
    let plain = Session::new(case.model(), HostOnly).unwrap();
    let session = Session::new(case.model(), BurnDevice::taking_all(device)).unwrap();
    let mut leaves: Vec<(usize, Tensor<1>)> = Vec::new();
    let mut given = Vec::new();
    for (at, array) in case.inputs.iter().enumerate().filter(|(at, _)| case.learns(*at)) {
        let array = array.as_ref().unwrap();
        let leaf = Tensor::<1>::from_data(array.expect::<f32>().unwrap(), device).require_grad();
        let tensor = DeviceTensor::new(leaf.clone(), array.shape().to_vec(), DType::F32).following_gradients();
        given.push((format!("x{at}"), Slot::device(tensor)));
        leaves.push((at, leaf));
    }
    let outputs = session.run_slots(given).unwrap_or_else(|error| panic!("{what}: {error}"));
    let expected = case.plain(&plain, &case.inputs);
    for (output, expected) in outputs.iter().zip(&expected) {
        let tensor = output.on_device().unwrap_or_else(|| panic!("{what}: it does not run on the device"));
        let found = tensor.clone().flat().into_data().iter::<f64>().collect::<Vec<f64>>();
        assert_eq!(found.len(), expected.len(), "{what}");
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-5 + 1e-4 * b.abs(), "{what}: {a} where {b} was expected");
        }
    }
    let first = outputs[0].on_device().unwrap().clone().flat();
    let weights: Vec<f32> = (0..expected[0].len()).map(|i| weight(i) as f32).collect();
    let gradients = (first * Tensor::<1>::from_data(weights.as_slice(), device)).sum().backward();
    for (at, leaf) in leaves {
        let found = leaf.grad(&gradients).unwrap_or_else(|| panic!("{what}: input {at} has no gradient"));
        let found = found.into_data().iter::<f64>().collect::<Vec<f64>>();
        for (i, found) in found.into_iter().enumerate() {
            let moved = |by: f32| {
                let mut inputs = case.inputs.clone();
                let array = inputs[at].as_ref().unwrap();
                let mut values = array.expect::<f32>().unwrap().to_vec();
                values[i] += by;
                inputs[at] = Some(Array::new(array.shape().to_vec(), values).unwrap());
                loss(&case.plain(&plain, &inputs)[0])
            };
            let step = 1e-2;
            let expected = (moved(step) - moved(-step)) / f64::from(2.0 * step);
            assert!(
                (found - expected).abs() < 2e-3 + 1e-2 * expected.abs(),
                "{what}: input {at}, element {i}: {found}, not {expected}"
            );
        }
    }
}

#[test]
fn gradients_are_those_of_the_plain_definition() {
    for name in [DeviceName::FLEX, DeviceName::NDARRAY] {
        let device = name.open().unwrap().device.autodiff();
        for case in cases() {
            check(&case, &device, &name.to_string());
        }
    }
}
