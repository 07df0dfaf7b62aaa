//! Networks as ONNX graphs: every built-in one, at every operator set, held against its state dict and against other engines.

mod damage;
mod program;
mod tracing;

use std::path::Path;

use burn::module::Module;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rekindle::models::{Architecture, Network, Registry, weights};
use rekindle::onnx::export::{self, EXTERNAL_ABOVE, ExportOptions, Exported, export_network};
use rekindle::onnx::verify::{self, Graphed};
use rekindle::train;
use rekindle_state::onnx::proto::{GraphProto, NodeProto, attribute, dimension, type_proto};
use rekindle_state::{DType, StateDict, Tensor};
use serde_json::{Map, json};

/// The guide's networks and every VGG with few channels, and the size of their input.
fn narrow() -> Vec<(&'static str, serde_json::Value, [usize; 3])> {
    let vgg = || json!({ "widths": [4, 6, 8, 8, 10], "hidden": [12, 10], "classes": 5 });
    let mut list = vec![
        ("the_model_class", json!({ "channels": [3, 5], "hidden": [12, 8] }), [4, 65, 65]),
        ("net", json!({ "channels": [3, 4], "grid": 2, "hidden": [9, 7], "classes": 6 }), [5, 62, 62]),
        ("fashion_classifier", json!({ "inputs": 144, "hidden": [20, 16, 14, 12] }), [1, 12, 12]),
        ("cifar_cnn", json!({ "channels": [4, 5, 6], "hidden": 12 }), [3, 64, 64]),
        ("super_resolution", json!({ "upscale_factor": 3, "channels": [5, 4, 3] }), [1, 9, 11]),
    ];
    for entry in Registry::built_in().entries().iter().filter(|entry| entry.name.starts_with("vgg")) {
        list.push((entry.name, vgg(), [3, 64, 64]));
    }
    list
}

fn architecture(name: &str, config: &serde_json::Value) -> Architecture {
    let config: Map<String, serde_json::Value> = config.as_object().cloned().unwrap_or_default();
    Registry::built_in().find(name).unwrap().configure(&config).unwrap()
}

/// A network whose every value matters to its output: a fresh one's biases, statistics and (in VGG) small weights would hide mistakes.
fn network(architecture: &Architecture) -> Network {
    let network = train::fresh(architecture, 3);
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut between = |low: f32, high: f32| low + (high - low) * (random.next_u32() >> 8) as f32 / (1 << 24) as f32;
    let mut changed = StateDict::ordered();
    for (name, tensor) in
        weights::to_state_dict(&network).unwrap().tensors().filter(|(_, tensor)| tensor.dtype() == DType::F32)
    {
        let shape = tensor.shape();
        let inputs = shape.iter().skip(1).product::<u64>() as f32;
        let (low, high) = match (shape.len(), name.ends_with("bias") || name.ends_with("running_mean")) {
            (1, true) => (-0.5, 0.5),
            (1, false) => (0.5, 1.5),
            // Keeps the size of what passes a ReLU.
            _ => (-(6.0 / inputs).sqrt(), (6.0 / inputs).sqrt()),
        };
        let bytes = (0..shape.iter().product::<u64>()).flat_map(|_| between(low, high).to_le_bytes()).collect();
        changed.insert(name, Tensor::from_bytes(DType::F32, shape, bytes).unwrap());
    }
    weights::load(network, &changed, weights::Layout::RowMajor).unwrap().valid()
}

/// Exports, writes and checks; gives the folder.
fn written(exported: &Exported) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    export::write(exported.model.clone(), folder.path(), "m.onnx", EXTERNAL_ABOVE).unwrap();
    folder
}

fn graph(exported: &Exported) -> &GraphProto {
    exported.model.graph.as_ref().unwrap()
}

fn operators(exported: &Exported) -> Vec<&str> {
    graph(exported).node.iter().map(|node| node.op_type.as_str()).collect()
}

fn node<'a>(exported: &'a Exported, name: &str) -> &'a NodeProto {
    let found = graph(exported).node.iter().find(|node| node.name == name);
    let names: Vec<&str> = graph(exported).node.iter().map(|node| node.name.as_str()).collect();
    found.unwrap_or_else(|| panic!("no node '{name}' among {names:?}"))
}

/// The axes of an input or output, as text.
fn axes(info: &rekindle_state::onnx::proto::ValueInfoProto) -> Vec<String> {
    let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_ref().and_then(|kind| kind.value.as_ref()) else {
        panic!("no tensor")
    };
    assert_eq!(tensor.elem_type, 1);
    let axes = tensor.shape.as_ref().unwrap().dim.iter().map(|axis| match &axis.value {
        Some(dimension::Value::DimValue(size)) => size.to_string(),
        Some(dimension::Value::DimParam(name)) => name.clone(),
        None => "?".to_string(),
    });
    axes.collect()
}

/// Every engine of this program agrees with the network.
fn agrees(network: &Network, exported: &Exported, path: &Path) {
    let findings = verify::compare(network, &Graphed::new(path, exported), &verify::built_in(), verify::USUAL).unwrap();
    for finding in findings {
        assert!(finding.difference.is_small(), "{finding:?}");
    }
}

#[test]
fn every_network_at_every_operator_set() {
    for (name, config, size) in narrow() {
        let architecture = architecture(name, &config);
        let network = network(&architecture);
        let state = weights::to_state_dict(&network).unwrap();
        for (opset, ir) in [(13, 7), (15, 8), (17, 8), (18, 8), (20, 9), (21, 10)] {
            let options = ExportOptions { opset, ..ExportOptions::default() };
            let exported = export_network(&network, size, &options).unwrap();
            let what = format!("{name}, opset {opset}");
            assert_eq!((exported.model.ir_version, exported.model.opset_import[0].version), (ir, opset), "{what}");
            assert_eq!(exported.model.producer_name, "rekindle");
            let folder = written(&exported);
            let path = folder.path().join("m.onnx");
            verify::check_structure(&path).unwrap_or_else(|error| panic!("{what}: {error}"));
            same_weights(&path, &state, &what);
            let [c, h, w] = size.map(|side| side.to_string());
            assert_eq!(axes(&graph(&exported).input[0]), ["batch", &c, &h, &w], "{what}");
            assert_eq!(axes(&graph(&exported).output[0])[0], "batch", "{what}");
            // All engines take a second; the oldest, the usual and the newest are enough.
            if [13, 17, 21].contains(&opset) {
                agrees(&network, &exported, &path);
            }
        }
    }
}

/// The narrow forms of torchvision's families that `bench --check` has, at the oldest and the newest operator set.
#[test]
fn every_family_of_the_zoo() {
    let cases: serde_json::Value = serde_json::from_str(include_str!("../../src/check/fixtures/zoo.json")).unwrap();
    let cases = cases.as_array().unwrap();
    assert!(cases.iter().any(|case| case["name"] == "maxvit_t"));
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let size = [1, 2, 3].map(|axis| case["input"][axis].as_u64().unwrap() as usize);
        let network = network(&architecture(name, &case["config"]));
        for opset in [13, 21] {
            let exported = export_network(&network, size, &ExportOptions { opset, ..ExportOptions::default() })
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            let folder = written(&exported);
            let path = folder.path().join("m.onnx");
            verify::check_structure(&path).unwrap_or_else(|error| panic!("{name}, opset {opset}: {error}"));
            agrees(&network, &exported, &path);
        }
    }
}

/// The initializers of a file are the tensors of the state dict, in its order; only the counters of batches are left out.
fn same_weights(path: &Path, state: &StateDict, what: &str) {
    let file = rekindle_state::open(path).unwrap();
    let found = file.content.root.as_dict().unwrap();
    let expected: Vec<(&str, &Tensor)> =
        state.tensors().filter(|(name, _)| !name.ends_with("num_batches_tracked")).collect();
    let names: Vec<&str> = found.tensors().map(|(name, _)| name).take(expected.len()).collect();
    assert_eq!(names, expected.iter().map(|(name, _)| *name).collect::<Vec<_>>(), "{what}");
    for (name, tensor) in expected {
        let found = found.tensor(name).unwrap();
        assert_eq!((found.dtype(), found.shape()), (tensor.dtype(), tensor.shape()), "{what}: {name}");
        assert_eq!(found.bytes().unwrap(), tensor.bytes().unwrap(), "{what}: {name}");
    }
}

#[test]
fn one_operator_for_one_layer() {
    let export = |name: &str| {
        let (_, config, size) = narrow().into_iter().find(|(known, ..)| *known == name).unwrap();
        let architecture = architecture(name, &config);
        export_network(&network(&architecture), size, &ExportOptions::default()).unwrap()
    };
    let found = export("the_model_class");
    assert_eq!(
        operators(&found),
        ["Conv", "Relu", "MaxPool", "Conv", "Relu", "MaxPool", "Flatten", "Gemm", "Relu", "Gemm", "Relu", "Gemm"]
    );
    let gemm = node(&found, "/fc1/Gemm");
    assert_eq!(gemm.input[1..], ["fc1.weight", "fc1.bias"]);
    let transposed = gemm.attribute.iter().find(|attribute| attribute.name == "transB").unwrap();
    assert_eq!((transposed.i, transposed.r#type), (1, attribute::INT));
    assert_eq!(node(&found, "/conv/Conv").input, ["input", "conv.weight", "conv.bias"]);
    assert_eq!(node(&found, "/fc3/Gemm").output, ["output"]);
    node(&found, "/pool/MaxPool_1");

    let found = export("super_resolution");
    assert_eq!(operators(&found), ["Conv", "Relu", "Conv", "Relu", "Conv", "Relu", "Conv", "DepthToSpace"]);
    let shuffle = node(&found, "/pixel_shuffle/DepthToSpace");
    assert!(shuffle.attribute.iter().any(|attribute| attribute.name == "mode" && attribute.s == "CRD"));
    assert_eq!(axes(&graph(&found).output[0]), ["batch", "1", "27", "33"]);

    let found = export("fashion_classifier");
    assert_eq!(operators(&found).last(), Some(&"LogSoftmax"));
    assert_eq!(operators(&found)[0], "Flatten");

    let found = export("cifar_cnn");
    assert!(operators(&found).contains(&"GlobalAveragePool"));

    let found = export("vgg11_bn");
    assert_eq!(operators(&found)[..4], ["Conv", "BatchNormalization", "Relu", "MaxPool"]);
    let norm = node(&found, "/features.1/BatchNormalization");
    let names = ["features.1.weight", "features.1.bias", "features.1.running_mean", "features.1.running_var"];
    assert_eq!(norm.input[1..], names);
    node(&found, "/features.2/Relu");
    node(&found, "/classifier.4/Relu");
}

#[test]
fn the_grid_of_vgg_fits_any_image() {
    // 224 is seven cells of one value, 448 of two by two, 256 of different sizes, 32 of the same value.
    for (side, expected) in
        [(224, vec![]), (448, vec!["AveragePool"]), (256, vec!["MatMul", "MatMul"]), (32, vec!["MatMul", "MatMul"])]
    {
        let config = json!({ "widths": [1, 1, 2, 2, 3], "hidden": [4, 4], "classes": 3 });
        let architecture = architecture("vgg11", &config);
        let network = network(&architecture);
        let exported = export_network(&network, [3, side, side], &ExportOptions::default()).unwrap();
        let found = operators(&exported).into_iter().filter(|operator| ["AveragePool", "MatMul"].contains(operator));
        assert_eq!(found.collect::<Vec<_>>(), expected, "{side}");
        let folder = written(&exported);
        verify::check_structure(&folder.path().join("m.onnx")).unwrap();
        agrees(&network, &exported, &folder.path().join("m.onnx"));
    }
}

#[test]
fn a_fixed_batch_size_and_a_name_for_the_input() {
    let (name, config, size) = narrow().remove(0);
    let architecture = architecture(name, &config);
    let network = network(&architecture);
    let options =
        ExportOptions { batch: Some(2), input_names: vec!["picture".to_string()], ..ExportOptions::default() };
    let exported = export_network(&network, size, &options).unwrap();
    assert_eq!(axes(&graph(&exported).input[0]), ["2", "4", "65", "65"]);
    assert_eq!(graph(&exported).input[0].name, "picture");
    assert_eq!(axes(&graph(&exported).output[0]), ["2", "10"]);
    let folder = written(&exported);
    verify::check_structure(&folder.path().join("m.onnx")).unwrap();
    agrees(&network, &exported, &folder.path().join("m.onnx"));
    for (names, expected) in [
        (vec!["output"], "the input cannot be called 'output'"),
        (vec!["fc1.weight"], "the input cannot be called 'fc1.weight'"),
        (vec!["a", "b"], "the model has one input, and --input-names gives 2 names: a, b"),
        (vec![" "], "the name of an input is empty"),
    ] {
        let input_names = names.into_iter().map(str::to_string).collect();
        let options = ExportOptions { input_names, ..ExportOptions::default() };
        let error = export_network(&network, size, &options).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    for opset in [12, 22] {
        let options = ExportOptions { opset, ..ExportOptions::default() };
        let error = export_network(&network, size, &options).unwrap_err().to_string();
        assert_eq!(error, format!("opset {opset} is not written: choose one from 13 to 21"));
    }
}

#[test]
fn weights_in_a_file_beside_the_model() {
    let (name, config, size) = narrow().remove(0);
    let architecture = architecture(name, &config);
    let network = network(&architecture);
    let exported = export_network(&network, size, &ExportOptions::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files = export::write(exported.model.clone(), folder.path(), "m.onnx", 4096).unwrap();
    assert_eq!(files, ["m.onnx.data", "m.onnx"]);
    let path = folder.path().join("m.onnx");
    assert!(std::fs::metadata(&path).unwrap().len() < 8192);
    verify::check_structure(&path).unwrap();
    same_weights(&path, &weights::to_state_dict(&network).unwrap(), "beside");
    agrees(&network, &exported, &path);
    // A file that is cut off is found before anything runs.
    let data = folder.path().join("m.onnx.data");
    let bytes = std::fs::read(&data).unwrap();
    std::fs::write(&data, &bytes[..bytes.len() - 1]).unwrap();
    let error = verify::check_structure(&path).unwrap_err().to_string();
    assert!(error.contains("past the end of 'm.onnx.data'"), "{error}");
}
