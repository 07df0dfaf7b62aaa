//! Training steps of torchvision's networks, in narrow forms, held against PyTorch: `generate.py` beside this file writes what it computes.

mod verbs;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use rekindle::data::BatchTarget;
use rekindle::models::{Network, Output, Registry, weights};
use rekindle::tasks::Objective;
use rekindle_state::{DType, StateDict};
use serde_json::Value as Json;

use super::support::numbers::{greatest, tensor_values};

const STEPS: &str = include_str!("steps.json");

/// Builder, number of entries and SHA-256 of the listing of each state dict, from `names.py`.
const NAMES: &str = include_str!("names.tsv");

#[test]
fn names_order_shapes_and_types_are_torchvisions() {
    use sha2::Digest;
    let registry = Registry::built_in();
    let mut wrong = Vec::new();
    for row in NAMES.lines() {
        let fields: Vec<&str> = row.split('\t').collect();
        let [name, count, expected] = fields[..] else { panic!("{row}") };
        let network = registry.find(name).unwrap().standard().unwrap().build(&Device::flex());
        let line = |entry: &weights::Entry| {
            let shape: Vec<String> = entry.shape.iter().map(ToString::to_string).collect();
            format!("{} {} {}", entry.name, entry.dtype(), shape.join("x"))
        };
        let lines: Vec<String> = weights::entries(&network).iter().map(line).collect();
        let digest = sha2::Sha256::digest(lines.join("\n").as_bytes());
        let found: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        if found != expected {
            wrong.push(format!("{name}: {} entries for {count}", lines.len()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How far a number may be from PyTorch's, in units of its tensor's largest: PyTorch computed in 64 bits, networks here
/// compute in 32. `generate.py` chose inputs with which that decides nothing.
const TOLERANCE: f64 = 1e-4;

/// The same for two networks that are wide and have batches of few values to normalize: PyTorch's own gradients in 32 bits are 6e-5
/// and 9e-5 apart, with channels last 1.6e-4 and 3.3e-4.
const WIDE: [&str; 2] = ["googlenet", "inception_v3"];

fn tolerance(network: &str) -> f64 {
    if WIDE.contains(&network) { 2.0 * TOLERANCE } else { TOLERANCE }
}

/// A gradient below this part of the network's largest is zero but for rounding: batch normalization takes the bias before it out again.
const ZERO: f64 = 1e-9;

/// `count` numbers in -1 to 1 that follow from a name, as in `generate.py`.
fn uniform(name: &str, count: usize, salt: u64) -> Vec<f64> {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let number = |i: usize| {
        let mut z = hash.wrapping_add(salt).wrapping_add((i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) >> 11) as f64 * 2_f64.powi(-52) - 1.0
    };
    (0..count).map(number).collect()
}

/// The values of a parameter or buffer, as in `generate.py`.
fn values(name: &str, shape: &[usize], steady: bool) -> Vec<f32> {
    let count = shape.iter().product::<usize>();
    let last = name.rsplit('.').next().unwrap();
    let value = |u: f64| match (shape.len(), last) {
        (_, "weight") if steady => 0.2 + 0.02 * u,
        (_, "bias") if steady => u.signum() + 0.1 * u,
        (2.., _) => u * (3.0 / (count / shape[0]) as f64).sqrt(),
        (_, "weight") => 1.0 + 0.2 * u,
        (_, "running_var") => 1.0 + 0.5 * u.abs(),
        _ => 0.5 * u,
    };
    uniform(name, count, 0).into_iter().map(|u| value(u) as f32).collect()
}

/// The same network with those values.
fn filled(network: Network, steady: bool) -> Network {
    let state = weights::to_state_dict(&network).unwrap();
    let mut filled = StateDict::ordered();
    for (name, tensor) in state.tensors() {
        if tensor.dtype() == DType::F32 && !name.ends_with("relative_coords_table") {
            let shape: Vec<usize> = tensor.shape().iter().map(|&axis| axis as usize).collect();
            let owner = name.rsplit_once('.').map_or("", |(owner, _)| owner);
            let normalizes = state.tensor(&format!("{owner}.running_var")).is_some();
            let bytes =
                values(name, &shape, steady && normalizes).iter().flat_map(|value| value.to_le_bytes()).collect();
            filled.insert(name, rekindle_state::Tensor::from_bytes(DType::F32, tensor.shape(), bytes).unwrap());
        }
    }
    weights::load(network, &filled, weights::Layout::RowMajor).unwrap()
}

/// Gradients by PyTorch's names, in PyTorch's layout.
fn gradients(network: &Network, gradients: &Gradients) -> Vec<(String, Vec<f32>)> {
    struct Reader<'a> {
        gradients: &'a Gradients,
        leaves: std::collections::HashMap<burn::module::ParamId, weights::Leaf>,
        found: Vec<(String, Vec<f32>)>,
    }
    impl ModuleVisitor for Reader<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let Some(gradient) = param.val().grad(self.gradients) else { return };
            let leaf = &self.leaves[&param.id];
            let gradient = if leaf.transposed { gradient.swap_dims(D - 2, D - 1) } else { gradient };
            self.found.push((leaf.name.clone(), gradient.into_data().iter::<f32>().collect()));
        }
    }
    let leaves = weights::leaves(network).into_iter().map(|leaf| (leaf.id, leaf)).collect();
    let mut reader = Reader { gradients, leaves, found: Vec::new() };
    network.visit(&mut reader);
    reader.found
}

fn numbers(json: &Json) -> Vec<f64> {
    json.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// The greatest difference of a tensor from what PyTorch has of it (largest absolute value, three elements), in units of its largest.
fn apart(found: &[f32], expected: &[f64], least: f64) -> f64 {
    let scale = expected[0].max(least);
    let largest = greatest(found.iter().map(|&value| f64::from(value).abs()));
    let places = [0, found.len() / 3, found.len() - 1].map(|at| f64::from(found[at]));
    let pairs = places.iter().zip(&expected[1..4]).map(|(found, expected)| (found - expected).abs());
    greatest(pairs.chain([(largest - expected[0]).abs()])) / scale
}

fn scores(outputs: rekindle::models::Outputs) -> Vec<f32> {
    match outputs.main {
        Output::Classes(scores) => scores.into_data().iter::<f32>().collect(),
        other => panic!("{}", other.describe()),
    }
}

fn check(case: &Json, device: &Device) {
    let name = case["name"].as_str().unwrap();
    let mut keys = case["config"].as_object().unwrap().clone();
    keys.insert("classes".into(), 10.into());
    let architecture = Registry::built_in().find(name).unwrap().configure(&keys).unwrap();
    let training = device.clone().autodiff();
    let mut network = filled(architecture.build(&training), case["steady"].as_bool().unwrap());
    let mut optimizer = SgdConfig::new().init();
    let shape: [usize; 4] =
        numbers(&case["input"]).iter().map(|&side| side as usize).collect::<Vec<_>>().try_into().unwrap();
    let input = |step: usize| -> Vec<f32> {
        uniform(&format!("input {} {step}", case["seed"]), shape.iter().product(), 0)
            .iter()
            .map(|&value| value as f32)
            .collect()
    };
    let steps = case["steps"].as_u64().unwrap() as usize;
    let objective = Objective::new(architecture.task(), None);
    for step in 0..steps {
        let x = Tensor::<4>::from_data(TensorData::new(input(step), shape), &training);
        let classes: Vec<i64> = (0..shape[0]).map(|i| ((3 * i + step) % 10) as i64).collect();
        let classes = Tensor::<1, Int>::from_data(TensorData::new(classes, [shape[0]]), &training);
        let outputs = network.outputs(x).unwrap();
        let logits = scores(outputs.clone());
        let measured = objective.task.measure(outputs, BatchTarget::Classes(classes), objective.loss).unwrap();
        let loss = f64::from(measured.loss.clone().into_data().iter::<f32>().next().unwrap());
        let expected = case["losses"][step].as_f64().unwrap();
        assert!(
            (loss - expected).abs() < TOLERANCE * expected.max(1.0),
            "{name}: loss {loss} for {expected} at {step}"
        );
        let all = measured.loss.backward();
        if step == 0 {
            let expected = numbers(&case["logits"]);
            let scale = expected.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
            let worst = logits.iter().zip(&expected).map(|(found, expected)| (f64::from(*found) - expected).abs());
            let worst = greatest(worst) / scale;
            assert!(worst < TOLERANCE, "{name}: logits {worst:.2e} apart");
            compare_gradients(name, &gradients(&network, &all), case["gradients"].as_object().unwrap());
        }
        let grads = GradientsParams::from_grads(all, &network);
        network = optimizer.step(case["rate"].as_f64().unwrap(), network, grads);
    }
    let state = weights::to_state_dict(&network).unwrap();
    let after = case["after"].as_object().unwrap();
    let mut worst = (0.0, String::new());
    for (name, expected) in after {
        let found = tensor_values(state.tensor(name).unwrap());
        let distance = apart(&found, &numbers(expected), 1e-3);
        if distance > worst.0 {
            worst = (distance, name.clone());
        }
    }
    assert!(worst.0 < tolerance(name), "{name}: '{}' {:.2e} apart after {steps} steps", worst.1, worst.0);
    let x = Tensor::<4>::from_data(TensorData::new(input(steps - 1), shape), device);
    let found = scores(network.valid().outputs(x).unwrap());
    let expected = numbers(&case["evaluated"]);
    let scale = expected.iter().fold(1.0_f64, |largest, value| largest.max(value.abs()));
    let apart = found.iter().zip(&expected).map(|(found, expected)| (f64::from(*found) - expected).abs() / scale);
    let apart = greatest(apart);
    assert!(apart < 10.0 * TOLERANCE, "{name}: {apart:.2e} apart in evaluation mode");
}

fn compare_gradients(network: &str, found: &[(String, Vec<f32>)], expected: &serde_json::Map<String, Json>) {
    assert_eq!(
        found.len(),
        expected.len(),
        "{network}: gradients of {} for {} parameters",
        found.len(),
        expected.len()
    );
    let largest = expected.values().map(|numbers| numbers[0].as_f64().unwrap()).fold(0.0, f64::max);
    let mut worst = (0.0, String::new());
    for (name, gradient) in found {
        let numbers = numbers(&expected[name]);
        // The scale of what is zero is that of the whole network.
        let least = if numbers[0] > ZERO * largest { 0.0 } else { largest };
        let signed = gradient.iter().zip(uniform(name, gradient.len(), 1));
        let product: f64 = signed.map(|(g, u)| if u < 0.0 { -f64::from(*g) } else { f64::from(*g) }).sum();
        // Rounding of independent elements adds up by the root of their number.
        let products = (product - numbers[4]).abs() / (numbers[0].max(least) * (gradient.len() as f64).sqrt());
        let distance = greatest([apart(gradient, &numbers, least), products].into_iter());
        if distance > worst.0 {
            worst = (distance, name.clone());
        }
    }
    assert!(worst.0 < tolerance(network), "{network}: gradient of '{}' {:.2e} apart", worst.1, worst.0);
}

/// Every case whose network's name begins so.
fn check_all(prefix: &str) {
    let cases: Vec<Json> = serde_json::from_str(STEPS).unwrap();
    let ours: Vec<&Json> = cases.iter().filter(|case| case["name"].as_str().unwrap().starts_with(prefix)).collect();
    assert!(!ours.is_empty(), "no case of {prefix}");
    ours.iter().for_each(|case| check(case, &Device::flex()));
}

macro_rules! families {
    ($($family:ident)*) => {
        $(
            #[test]
            fn $family() {
                check_all(stringify!($family));
            }
        )*
    };
}

families! {
    alexnet resnet resnext squeezenet densenet googlenet inception mobilenet_v2 mobilenet_v3 mnasnet shufflenet efficientnet regnet
    convnext vit swin maxvit
}
