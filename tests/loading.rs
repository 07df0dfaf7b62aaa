//! Weights from a mapped file: nothing is copied that need not be, and nothing reaches the file.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use rekindle::models;
use rekindle::models::Registry;
use rekindle::models::import::{ImportOptions, import};
use rekindle::models::weights::{self, Layout};

/// A network with one weight that is large enough to stay as it is stored, and the files of its state.
fn large_network() -> (models::Architecture, rekindle::state::StateDict) {
    let config = serde_json::json!({"widths": [2, 2, 2, 2, 32], "hidden": [700, 5], "classes": 3});
    let architecture = Registry::built_in().find("vgg11").unwrap().configure(config.as_object().unwrap()).unwrap();
    let network = rekindle::train::fresh(&architecture, 3);
    let dict = weights::to_state_dict(&network).unwrap();
    (architecture, dict)
}

#[test]
fn weights_of_a_mapped_file_are_used_where_they_lie() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.pth");
    let (architecture, dict) = large_network();
    rekindle::state::save(&path, &rekindle::state::Value::Dict(dict), &rekindle::state::SaveOptions::default())
        .unwrap();
    let before = std::fs::read(&path).unwrap();
    let device = Device::flex();
    let load = |layout| {
        let options = ImportOptions { layout, ..ImportOptions::default() };
        import(architecture.build(&device), &path, &options).unwrap().0
    };
    let (turned, stored) = (load(Layout::RowMajor), load(Layout::AsStored));
    let [channels, height, width] = architecture.input_shape();
    for batch in [1, 3] {
        let values = (0..batch * channels * height * width).map(|i| (i % 255) as f32 / 128.0 - 1.0).collect::<Vec<_>>();
        let x = Tensor::<4>::from_data(TensorData::new(values, [batch, channels, height, width]), &device);
        let scores = |network: &models::Network| network.forward(x.clone()).unwrap().values();
        let largest = scores(&turned).iter().fold(0_f32, |most, score| most.max(score.abs()));
        for (a, b) in scores(&turned).iter().zip(scores(&stored)) {
            assert!((a - b).abs() <= 1e-5 * largest, "{a} and {b}");
        }
    }
    // What is done to the network afterwards does not reach the file, and what is saved again is the same.
    let network = stored.map(&mut Doubled);
    let doubled = weights::to_state_dict(&network).unwrap();
    let original = weights::to_state_dict(&load(Layout::AsStored)).unwrap();
    for ((name, a), (_, b)) in doubled.tensors().zip(original.tensors()) {
        let wanted: Vec<f32> = b.to_f32().unwrap().iter().map(|value| 2.0 * value).collect();
        assert_eq!(a.to_f32().unwrap(), wanted, "{name}");
    }
    assert!(std::fs::read(&path).unwrap() == before);
}

/// Doubles every parameter, in place where that can be.
struct Doubled;

impl ModuleMapper for Doubled {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|value| value.mul_scalar(2.0))
    }
}
