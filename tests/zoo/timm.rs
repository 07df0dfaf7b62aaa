//! Weight files of timm for networks that torchvision has under other names: `timm_names.py` writes what timm's compute.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use rekindle::models::import::{ImportOptions, import};
use rekindle::models::{Output, Recognised, Registry, recognise};
use rekindle_state::{DType, SaveOptions, StateDict, Storage, Value, View};
use serde_json::{Map, Value as Json};

const CASES: &str = include_str!("timm.json");

#[derive(serde::Deserialize)]
struct Case {
    /// timm's name.
    timm: String,
    /// The row of the registry, and keys of its configuration.
    model: String,
    keys: Map<String, Json>,
    /// Side of the image.
    side: usize,
    /// timm's names and shapes.
    tensors: Map<String, Json>,
    /// What timm's network answers; nothing for networks that are looked at and not run.
    logits: Vec<f32>,
}

/// `values` of `timm_names.py`.
fn values(name: &str, shape: &[u64]) -> Vec<f32> {
    let seed = name
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    let count: u64 = shape.iter().product();
    let bn = name.contains(".bn") || name.starts_with("bn");
    let value = |at: u64| {
        let mut z = seed.wrapping_add(at.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        let u = (z >> 11) as f64 * 2.0_f64.powi(-52) - 1.0;
        let u = match shape {
            [first, _, ..] => u * (3.0 / (count / first) as f64).sqrt(),
            _ if name.ends_with("running_var") => 0.002 + 0.001 * u,
            _ if name.ends_with(".weight") && bn => 0.05 + 0.01 * u,
            _ if name.ends_with(".weight") => 1.0 + 0.2 * u,
            _ => 0.5 * u,
        };
        u as f32
    };
    (1..=count).map(value).collect()
}

impl Case {
    fn all() -> Vec<Self> {
        serde_json::from_str(CASES).unwrap()
    }

    /// Writes timm's file, as DataParallel would, with values or with one number for all of them.
    fn write(&self, path: &Path) {
        let storage = Storage::new(vec![0; 4], "0");
        let mut dict = StateDict::ordered();
        for (name, shape) in &self.tensors {
            let shape: Vec<u64> = serde_json::from_value(shape.clone()).unwrap();
            let tensor = if self.logits.is_empty() {
                let strides = vec![0; shape.len()];
                let view = View { storage: storage.clone(), offset: 0, strides, conjugate: false, negative: false };
                rekindle_state::Tensor::strided(DType::F32, &shape, view)
            } else {
                rekindle_state::Tensor::from_f32(&shape, &values(name, &shape))
            };
            dict.insert(format!("module.{name}").as_str(), tensor.unwrap());
        }
        rekindle_state::save(path, &Value::Dict(dict), &SaveOptions::default()).unwrap();
    }

    /// Whether only the shapes of the network differ from those of its row.
    fn is_narrow(&self) -> bool {
        self.keys.keys().any(|key| !["classes", "norm_epsilon"].contains(&key.as_str()))
    }
}

#[test]
fn files_of_timm_are_recognised() {
    let folder = tempfile::tempdir().unwrap();
    for case in Case::all().iter().filter(|case| !case.is_narrow()) {
        let path = folder.path().join("timm.pth");
        case.write(&path);
        let found = recognise(&Registry::built_in(), &rekindle_state::open(&path).unwrap());
        let first = found.first().map(|found: &Recognised| (found.entry.name, &found.keys));
        assert_eq!(first, Some((case.model.as_str(), &case.keys)), "{}", case.timm);
    }
}

#[test]
fn weights_of_timm_give_its_answers() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    for case in Case::all().iter().filter(|case| !case.logits.is_empty()) {
        let path = folder.path().join("timm.pth");
        case.write(&path);
        let registry = Registry::built_in();
        let network = registry.find(&case.model).unwrap().configure(&case.keys).unwrap().build(&device);
        let (network, report) = import(network, &path, &ImportOptions::default()).unwrap();
        let helps = &report.matching.helps;
        assert!(helps.iter().any(|help| help.contains("timm's") && help.contains("torchvision's")), "{helps:?}");
        let shape = [1, 3, case.side, case.side];
        let image = values("image", &shape.map(|axis| axis as u64));
        let image: Tensor<4> = Tensor::from_data(TensorData::new(image, shape), &device);
        let Output::Classes(logits) = network.forward(image).unwrap() else { panic!("{}: no logits", case.timm) };
        let found: Vec<f32> = logits.into_data().try_to_vec().unwrap();
        let scale = case.logits.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        for (found, expected) in found.iter().zip(&case.logits) {
            assert!((found - expected).abs() <= 1e-4 * scale, "{}: {found:?} for {expected:?}", case.timm);
        }
        assert_eq!(found.len(), case.logits.len(), "{}", case.timm);
    }
}
