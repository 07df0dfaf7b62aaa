//! Networks of the zoo through the program: weight files that say themselves what they are, fine-tuning on a folder of images.

use std::path::Path;
use std::process::{Command, Output};

use burn::tensor::Device;
use rekindle::models::{Network, Registry, weights};
use rekindle::train::drawn;
use rekindle_state::{SaveOptions, StateDict, Value};

fn rekindle(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle"));
    command.current_dir(folder).env("XDG_CACHE_HOME", folder.join("cache")).args(args);
    command.output().expect("the program runs")
}

/// What the program prints, when it succeeds.
fn succeeds(folder: &Path, args: &[&str]) -> String {
    let output = rekindle(folder, args);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Writes fresh weights of a network.
fn write(path: &Path, model: &str, classes: usize) {
    let keys = [("classes".to_string(), classes.into())].into_iter().collect();
    let network = Registry::built_in().find(model).unwrap().configure(&keys).unwrap().build(&Device::flex());
    let dict = weights::to_state_dict(&drawn(network, 3)).unwrap();
    rekindle_state::save(path, &Value::Dict(dict), &SaveOptions::default()).unwrap();
}

#[test]
fn files_of_an_earlier_torchvision_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let network = |model: &str, keys: serde_json::Value| {
        let keys = keys.as_object().unwrap().clone();
        let network = Registry::built_in().find(model).unwrap().configure(&keys).unwrap().build(&Device::flex());
        drawn(network, 3)
    };
    let save = |name: &str, dict: StateDict| {
        rekindle_state::save(&folder.path().join(name), &Value::Dict(dict), &SaveOptions::default()).unwrap();
        succeeds(folder.path(), &["inspect", name, "--limit", "1"])
    };
    // `denselayer1.norm1.weight` was `denselayer1.norm.1.weight`.
    let of_today = weights::to_state_dict(&network("densenet121", serde_json::json!({ "classes": 4 }))).unwrap();
    let layer = regex::Regex::new(r"(denselayer\d+\.(?:norm|conv))([12])\.").unwrap();
    let mut former = StateDict::ordered();
    for (name, tensor) in of_today.tensors() {
        former.insert(layer.replace(name, "$1.$2.").as_ref(), tensor.clone());
    }
    assert!(former.tensor("features.denseblock1.denselayer1.conv.2.weight").is_some());
    let shown = save("densenet.pth", former);
    assert!(shown.contains("these are the weights of densenet121 with classes = 4"), "{shown}");

    // The first layers were as wide for every factor.
    let version = |network: &Network| {
        let Value::Dict(metadata) = weights::metadata(network) else { panic!("no dictionary") };
        metadata.get("").unwrap().as_dict().unwrap().get("version").unwrap().as_int().unwrap()
    };
    let first = network("mnasnet0_5", serde_json::json!({ "fixed_stem": true }));
    let second = network("mnasnet0_5", serde_json::json!({}));
    assert_eq!((version(&first), version(&second)), (1, 2));
    let shown = save("mnasnet.pth", weights::to_state_dict(&first).unwrap());
    assert!(shown.contains("these are the weights of mnasnet0_5 with fixed_stem = true"), "{shown}");
}

#[test]
fn files_without_auxiliary_heads_are_recognised() {
    let folder = tempfile::tempdir().unwrap();
    // torchvision leaves the heads out where it builds a network from published weights; MobileNet's has one more than its row.
    let cases = [
        ("googlenet", serde_json::json!({ "aux_logits": false, "classes": 7, "width_mult": 0.125 })),
        ("inception_v3", serde_json::json!({ "aux_logits": false, "width_mult": 0.0625 })),
        ("deeplabv3_mobilenet_v3_large", serde_json::json!({ "aux_loss": true, "classes": 3 })),
    ];
    for (model, keys) in cases {
        let keys = keys.as_object().unwrap();
        let network = Registry::built_in().find(model).unwrap().configure(keys).unwrap().build(&Device::flex());
        let dict = weights::to_state_dict(&drawn(network, 3)).unwrap();
        rekindle_state::save(&folder.path().join("mine.pth"), &Value::Dict(dict), &SaveOptions::default()).unwrap();
        let shown = succeeds(folder.path(), &["inspect", "mine.pth", "--json"]);
        let json: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!((&json["fits"][0]["model"], &json["fits"][0]["config"]), (&model.into(), &keys.clone().into()));
    }
}

#[test]
fn a_width_that_would_split_channels_is_refused() {
    let keys = |width: f64| [("width_mult".to_string(), width.into())].into_iter().collect();
    for (model, step) in [("googlenet", 8.0), ("inception_v3", 16.0)] {
        let registry = Registry::built_in();
        let entry = registry.find(model).unwrap();
        assert!(entry.configure(&keys(3.0 / step)).is_ok());
        for wrong in [0.0, -1.0, 0.3, f64::MAX] {
            let error = entry.configure(&keys(wrong)).unwrap_err().to_string();
            assert!(error.contains(&format!("key 'width_mult': must be a positive multiple of 1/{step}")), "{error}");
        }
    }
}

/// A folder of twelve images in three classes, the last of them in `valid`.
fn images(folder: &Path) {
    for (class, name) in ["ant", "bee", "cat"].iter().enumerate() {
        for (split, count) in [("train", 4), ("valid", 2)] {
            let place = folder.join(split).join(name);
            std::fs::create_dir_all(&place).unwrap();
            for at in 0..count {
                let value = |x: u32, y: u32, c: u32| ((x * 7 + y * 3 + c * 40) as usize * (class + 1) + at * 11) as u8;
                let image = image::RgbImage::from_fn(40, 36, |x, y| image::Rgb([0, 1, 2].map(|c| value(x, y, c))));
                image.save(place.join(format!("{at}.png"))).unwrap();
            }
        }
    }
}

#[test]
fn a_weight_file_says_which_network_it_is_for() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("mine.pth"), "squeezenet1_1", 7);
    write(&folder.path().join("wrapped.safetensors"), "shufflenet_v2_x0_5", 1000);
    let shown = succeeds(folder.path(), &["inspect", "mine.pth", "--limit", "1"]);
    assert!(shown.contains("these are the weights of squeezenet1_1 with classes = 7"), "{shown}");
    let json: serde_json::Value =
        serde_json::from_str(&succeeds(folder.path(), &["inspect", "wrapped.safetensors", "--json"])).unwrap();
    assert_eq!(json["fits"][0]["model"], "shufflenet_v2_x0_5");
    assert_eq!(json["fits"][0]["config"], serde_json::json!({}));

    images(&folder.path().join("data"));
    let image = "data/train/ant/0.png";
    let shown = succeeds(folder.path(), &["predict", "mine.pth", image, "--device", "flex", "--json", "--top", "9"]);
    let json: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(json[0]["labels"].as_array().unwrap().len(), 7);
    let named =
        ["predict", "squeezenet1_1", image, "--weights", "mine.pth", "--device", "flex", "--json", "--top", "9"];
    assert_eq!(shown, succeeds(folder.path(), &named));

    std::fs::write(folder.path().join("other.npz"), []).unwrap();
    let refused = rekindle(folder.path(), &["predict", "other.npz", image]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn finetuning_keeps_what_is_frozen_and_learns_a_new_head() {
    let folder = tempfile::tempdir().unwrap();
    images(&folder.path().join("insects"));
    write(&folder.path().join("pretrained.pth"), "resnet18", 10);
    let train = [
        "train",
        "--finetune",
        "resnet18",
        "--data",
        "insects",
        "--init",
        "pretrained.pth",
        "--size",
        "32",
        "--freeze",
        "layer3",
        "--epochs",
        "1",
        "--batch-size",
        "6",
        "--device",
        "flex",
        "--run",
        "run",
        "--seed",
        "5",
    ];
    succeeds(folder.path(), &train);
    let recipe = std::fs::read_to_string(folder.path().join("run/recipe.toml")).unwrap();
    for key in ["name = \"resnet18\"", "classes = 3", "partial = true", "layer3", "fc\\.weight", "t_max = 1\n"] {
        assert!(recipe.contains(key), "{key} is not in:\n{recipe}");
    }
    succeeds(folder.path(), &["export", "run", "after.pth"]);
    let open = |name: &str| match rekindle_state::open(folder.path().join(name)).unwrap().content.root {
        Value::Dict(dict) => dict,
        other => panic!("{}", other.type_name()),
    };
    let (before, after) = (open("pretrained.pth"), open("after.pth"));
    let same =
        |name: &str| before.tensor(name).unwrap().bytes().unwrap() == after.tensor(name).unwrap().bytes().unwrap();
    assert!(same("conv1.weight") && same("layer3.1.conv2.weight") && same("bn1.weight"));
    assert!(!same("layer4.0.conv1.weight"));
    assert_eq!(after.tensor("fc.weight").unwrap().shape(), [3, 512]);
    let shown = succeeds(folder.path(), &["predict", "run", "insects/valid/bee/0.png", "--device", "flex"]);
    assert!(["ant", "bee", "cat"].iter().all(|name| shown.contains(name)), "{shown}");

    let unknown = rekindle(
        folder.path(),
        &["train", "--finetune", "resnet18", "--data", "insects", "--init", "none", "--freeze", "layer9"],
    );
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("layer9"), "{unknown:?}");
}

#[test]
fn an_unknown_model_is_told_what_a_model_may_be() {
    let folder = tempfile::tempdir().unwrap();
    for verb in ["predict", "eval"] {
        let mut arguments = vec![verb, "nothing.pt2"];
        arguments.extend((verb == "predict").then_some("image.png"));
        let output = rekindle(folder.path(), &arguments);
        assert_eq!(output.status.code(), Some(2));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let kinds = [
            "a built-in name",
            "a recipe",
            "an ONNX file",
            ".pt2",
            "TorchScript",
            "a file of weights",
            "a run or checkpoint",
        ];
        assert!(kinds.iter().all(|kind| error.contains(kind)) && error.contains("'nothing.pt2' is none"), "{error}");
    }
}

#[test]
fn whole_modules_are_networks_when_their_settings_agree() {
    let folder = tempfile::tempdir().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/modules");
    for (file, network, beside) in [
        ("squeezenet", "squeezenet1_1", ""),
        ("shufflenet", "shufflenet_v2_x0_5", ""),
        ("googlenet", "googlenet", "transform_input = true"),
    ] {
        let path = fixtures.join(file).with_extension("pt");
        let path = path.to_str().unwrap();
        let shown = succeeds(folder.path(), &["inspect", path, "--limit", "1"]);
        assert!(shown.contains(&format!("these are the weights of {network} with classes = 3")), "{shown}");
        assert!(shown.contains(beside), "{shown}");
        succeeds(folder.path(), &["export", path, "out.onnx"]);
    }
    for (file, differs) in [
        ("squeezenet_stride", "features.0 has stride [1, 1], where the network has [2, 2]"),
        (
            "squeezenet_leaky",
            "features.6.squeeze_activation is LeakyReLU(negative_slope=0.1), which the network has nowhere",
        ),
        (
            "squeezenet_pool",
            "features.2 is MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1), which the network has nowhere",
        ),
        ("shufflenet_eps", "stage2.0.branch1.1 has eps 0.001, where the network has 1e-5"),
    ] {
        let path = fixtures.join(file).with_extension("pt");
        let path = path.to_str().unwrap();
        let shown = succeeds(folder.path(), &["inspect", path, "--limit", "1"]);
        assert!(shown.contains(differs) && !shown.contains("these are the weights"), "{shown}");
        let output = rekindle(folder.path(), &["export", path, "out.onnx"]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && error.contains(differs), "{error}");
        // Asked for by name, a network takes the weights as they are.
        let network = if file.starts_with("squeezenet") { "squeezenet1_1" } else { "shufflenet_v2_x0_5" };
        succeeds(folder.path(), &["export", network, "out.onnx", "--weights", path]);
    }
}
