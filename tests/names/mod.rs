//! PyTorch's names for Burn's own layers: states in and out, outputs, training and the optimizer's state against real PyTorch.

mod cases;
mod shapes;

use std::path::Path;

use burn::Tensor;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, TensorData};
use rekindle::models::import::{ImportOptions, import};
use rekindle::models::weights;
use rekindle::optim::{
    OptimizerConfig, ParameterInfo, ParameterPart, Schedule, Settings, from_state_dict, module_optimizer,
    module_scheduler, mse, to_state_dict,
};
use rekindle_state::{StateDict, TorchOptions, Value, write_torch};

use crate::support::numbers::{distance, tensor_values};

/// Relative differences of single-precision sums in another order, over five steps of Adam.
const TOLERANCE: f64 = 2e-4;
const STEPS: usize = 5;

/// The table of parameters that an optimizer works by.
pub fn table<M: Module>(module: &M) -> Vec<ParameterInfo> {
    let entries = weights::entries(module).into_iter().filter(|entry| entry.trained);
    let part = |part: weights::Part| ParameterPart { id: part.id, path: part.path, transposed: part.transposed };
    entries
        .map(|entry| ParameterInfo {
            name: entry.name,
            shape: entry.shape,
            parts: entry.parts.into_iter().map(part).collect(),
        })
        .collect()
}

fn fixture() -> StateDict {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/names/layers.pth");
    match rekindle_state::open(&path).expect("the fixture").content.root {
        Value::Dict(dict) => dict,
        other => panic!("the fixture is a {}", other.type_name()),
    }
}

fn tensor<const D: usize>(dict: &StateDict, name: &str, device: &Device) -> Tensor<D> {
    let tensor = dict.tensor(name).expect(name);
    let shape: Vec<usize> = tensor.shape().iter().map(|&axis| axis as usize).collect();
    Tensor::from_data(TensorData::new(tensor_values(tensor), shape), device)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Names, order, types, shapes and bytes of two state dicts.
fn assert_same(found: &StateDict, expected: &StateDict, case: &str) {
    let list = |dict: &StateDict| {
        let tensors = dict.tensors().map(|(name, tensor)| (name.to_string(), tensor.dtype(), tensor.shape().to_vec()));
        tensors.collect::<Vec<_>>()
    };
    assert_eq!(list(found), list(expected), "{case}");
    for (name, tensor) in found.tensors() {
        let other = expected.tensor(name).expect(name);
        assert_eq!(tensor.bytes().unwrap(), other.bytes().unwrap(), "{case}: {name}");
    }
}

/// A count of batches that Burn does not keep.
fn without_counts(dict: &StateDict) -> StateDict {
    let mut dict = dict.clone();
    for name in dict.keys().map(|key| key.text().into_owned()).collect::<Vec<_>>() {
        if name.ends_with("num_batches_tracked") {
            dict.insert(name.as_str(), rekindle_state::Tensor::from_i64(&[], &[0]).unwrap());
        }
    }
    dict
}

/// The largest difference between float tensors of two state dicts.
fn gap(found: &StateDict, expected: &StateDict, case: &str) -> f64 {
    let mut worst = 0.0_f64;
    for (name, tensor) in expected.tensors().filter(|(_, tensor)| tensor.dtype().is_float()) {
        let other = found.tensor(name).unwrap_or_else(|| panic!("{case}: no '{name}'"));
        worst = worst.max(distance(&tensor_values(other), &tensor_values(tensor)));
    }
    worst
}

/// Everything of a case, on a module of Burn's with fresh weights.
pub fn check<M: Module, const I: usize, const O: usize>(
    name: &str,
    fresh: impl Fn(&Device) -> M,
    forward: impl Fn(&M, Tensor<I>) -> Tensor<O>,
) {
    let fixture = fixture();
    let case = fixture.dict(name).expect(name);
    let (before, after) = (case.dict("state").unwrap(), case.dict("after").unwrap());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("names");
    std::fs::create_dir_all(&folder).unwrap();

    // PyTorch's file, into a module whose weights were never drawn.
    let path = folder.join(format!("{name}.torch.pth"));
    write_torch(&path, &Value::Dict(before.clone()), &TorchOptions::default()).unwrap();
    let device = Device::flex().autodiff();
    let (module, report) = import(fresh(&device), &path, &ImportOptions::default()).unwrap();
    assert!(report.matching.is_complete() && report.matching.helps.is_empty(), "{name}: {report}");

    // And back: the same state dict in every byte.
    let dict = weights::to_state_dict(&module).unwrap();
    assert_same(&dict, &without_counts(before), name);
    let mut dict = dict;
    dict.set_metadata(Some(weights::metadata(&module)));
    write_torch(&folder.join(format!("{name}.pth")), &Value::Dict(dict), &TorchOptions::default()).unwrap();

    // Every parameter is a leaf once, in Burn's order.
    let leaves = weights::leaves(&module);
    assert_eq!(leaves.len(), weights::entries(&module).iter().map(|entry| entry.parts.len()).sum::<usize>());
    let unstacked = weights::to_unstacked(&module).unwrap();
    assert!(leaves.iter().all(|leaf| unstacked.tensor(&leaf.name).is_some()), "{name}: {leaves:?}");

    // Burn's own record is the same file.
    let record = folder.join(format!("{name}.bpk"));
    module.clone().save_file(&record).unwrap();
    let (again, _) = import(fresh(&device), &record, &ImportOptions::default()).unwrap();
    assert_same(&weights::to_state_dict(&again).unwrap(), &without_counts(before), name);

    // The same output.
    let plain = Device::flex();
    let y = forward(&module.valid(), tensor(case, "x", &plain));
    let apart = distance(&values(y), &tensor_values(case.tensor("y").unwrap()));
    assert!(apart < TOLERANCE, "{name}: outputs differ by {apart}");

    // Five steps of Adam.
    let table = table(&module);
    let settings = Settings::new().with("lr", 0.01).with("eps", 1e-4);
    let groups = OptimizerConfig::new("adam", &settings).unwrap().resolve(&table).unwrap();
    let mut optimizer = module_optimizer(&groups, &table).unwrap();
    let constant = Schedule::constant();
    let mut scheduler = module_scheduler(&groups, &table, &constant, 1, 0).unwrap();
    let losses: Vec<f64> =
        case.get("losses").and_then(Value::as_slice).unwrap().iter().filter_map(Value::as_float).collect();
    let mut module = module;
    for expected in &losses[..STEPS] {
        let loss = mse(forward(&module, tensor(case, "x", &device)), tensor(case, "target", &device));
        let value = loss.clone().into_scalar::<f32>();
        let apart = distance(&[value], &[*expected as f32]);
        assert!(apart < TOLERANCE, "{name}: losses differ by {apart}");
        let grads = GradientsParams::from_grads(loss.backward(), &module);
        module = optimizer.step(scheduler.step(), module, grads);
    }
    let dict = weights::to_state_dict(&module.valid()).unwrap();
    let apart = gap(&dict, &biased(before, after, case), name);
    assert!(apart < TOLERANCE, "{name}: weights after {STEPS} steps differ by {apart}");

    // The optimizer's state, there and back.
    let expected = case.dict("optimizer").unwrap();
    let found = to_state_dict(optimizer.to_record(), &table, &groups).unwrap();
    let (found, expected) = (found.dict("state").unwrap(), expected.dict("state").unwrap());
    assert_eq!(found.len(), expected.len(), "{name}");
    for ((key, found), (other, expected)) in found.iter().zip(expected.iter()) {
        assert_eq!(key, other, "{name}");
        let (found, expected) = (found.as_dict().unwrap(), expected.as_dict().unwrap());
        let shapes = |dict: &StateDict| dict.tensors().map(|(_, tensor)| tensor.shape().to_vec()).collect::<Vec<_>>();
        assert_eq!(shapes(found), shapes(expected), "{name}: {key:?}");
        let apart = gap(found, expected, name);
        assert!(apart < 10.0 * TOLERANCE, "{name}: the optimizer's state {key:?} differs by {apart}");
    }
    let dict = case.dict("optimizer").unwrap();
    let restored = from_state_dict(dict, &table, &groups).unwrap();
    let again = to_state_dict(restored.record, &table, &restored.groups).unwrap();
    assert_eq!(gap(&flat(&again), &flat(dict), name), 0.0, "{name}: the optimizer's state changes on its way");
}

/// The moments of an optimizer's state dict as one dictionary.
fn flat(dict: &StateDict) -> StateDict {
    let mut flat = StateDict::new();
    for (key, state) in dict.dict("state").unwrap().iter() {
        for (name, tensor) in state.as_dict().unwrap().tensors() {
            flat.insert(format!("{}.{name}", key.text()), tensor.clone());
        }
    }
    flat
}

/// PyTorch's state with the running variance that Burn's rule gives: biased variances instead of unbiased ones.
fn biased(before: &StateDict, after: &StateDict, case: &StateDict) -> StateDict {
    let mut after = after.clone();
    let shape = case.tensor("x").unwrap().shape();
    let samples: u64 = shape.iter().product::<u64>() / shape.get(1).copied().unwrap_or(1);
    let kept = 0.9_f32.powi(STEPS as i32);
    for name in after.keys().map(|key| key.text().into_owned()).collect::<Vec<_>>() {
        let (Some(new), Some(old)) = (after.tensor(&name), before.tensor(&name)) else { continue };
        if name.ends_with("running_var") {
            let share = (samples - 1) as f32 / samples as f32;
            let values = tensor_values(new).into_iter().zip(tensor_values(old));
            let values: Vec<f32> = values.map(|(new, old)| kept * old + (new - kept * old) * share).collect();
            let tensor = rekindle_state::Tensor::from_f32(new.shape(), &values).unwrap();
            after.insert(name.as_str(), tensor);
        }
    }
    after
}

/// A float tensor of ids as integers.
pub fn ids(x: Tensor<2>) -> Tensor<2, Int> {
    x.int()
}
