//! Programs of PyTorch on the command line and as networks that learn. `fixtures/programs/make.py` writes them and what PyTorch
//! makes of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use rekindle::models::graph::{self, Settings};
use rekindle::models::weights::to_state_dict;
use rekindle::models::{Input, Network, Output};
use rekindle::optim::{OptimizerConfig, Schedule, cross_entropy, module_optimizer, module_scheduler};
use rekindle::train::trained_parameters;
use rekindle_state::{DType, StateDict, Value};

use super::support::numbers::greatest;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/programs").join(name)
}

/// The arrays of an archive, by name.
fn arrays(path: &Path) -> StateDict {
    match rekindle_state::open(path).unwrap().content.root {
        Value::Dict(dict) => dict,
        other => panic!("{}: {}", path.display(), other.type_name()),
    }
}

fn tensor<'d>(dict: &'d StateDict, name: &str) -> &'d rekindle_state::Tensor {
    match dict.get(name) {
        Some(Value::Tensor(tensor)) => tensor,
        Some(Value::Array(array)) => array.tensor.as_ref().unwrap(),
        _ => panic!("there is no '{name}'"),
    }
}

fn floats(tensor: &rekindle_state::Tensor) -> Vec<f32> {
    tensor.cast(DType::F32).unwrap().to_f32().unwrap()
}

/// One of the five batches: inputs and classes.
fn batch(held: &StateDict, step: usize, device: &Device) -> (Input, Tensor<1, Int>) {
    let (x, y) = (tensor(held, "x"), tensor(held, "y"));
    let shape: Vec<usize> = x.shape()[1..].iter().map(|&axis| axis as usize).collect();
    let count: usize = shape.iter().product();
    let input = match shape.len() {
        2 => {
            let ids = x.to_i64().unwrap()[step * count..][..count].to_vec();
            Input::Ids(Tensor::from_data(TensorData::new(ids, shape), device))
        }
        _ => Tensor::<4>::from_data(TensorData::new(floats(x)[step * count..][..count].to_vec(), shape), device).into(),
    };
    let classes: usize = y.shape()[1..].iter().product::<u64>() as usize;
    let y = y.to_i64().unwrap()[step * classes..][..classes].to_vec();
    (input, Tensor::from_data(TensorData::new(y, [classes]), device))
}

fn scores(output: Output) -> Tensor<2> {
    match output {
        Output::Classes(scores) => scores,
        Output::Sequences(x) => {
            let [batch, steps, classes] = x.dims();
            x.reshape([batch * steps, classes])
        }
        Output::Images(_) => panic!("it gives images"),
    }
}

/// The greatest difference of two lists, relative to `1 + |b|` times the tolerance: over 1 is too far.
fn apart(a: &[f32], b: &[f32], rtol: f32, atol: f32) -> f32 {
    assert_eq!(a.len(), b.len());
    greatest(a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs() / (atol + rtol * b.abs())))) as f32
}

/// Takes some steps of training on a network.
fn steps(network: Network, held: &StateDict, optimizer: serde_json::Value, device: &Device) -> (Network, Vec<f32>) {
    let config: OptimizerConfig = serde_json::from_value(optimizer).unwrap();
    let table = trained_parameters(&network);
    let groups = config.resolve(&table).unwrap();
    let mut optimizer = module_optimizer(&groups, &table).unwrap();
    let mut scheduler = module_scheduler(&groups, &table, &Schedule::constant(), 1, 0).unwrap();
    let mut network = network.train().fork(device);
    let mut losses = Vec::new();
    for step in 0..5 {
        let (x, y) = batch(held, step, device);
        let loss = cross_entropy(scores(network.forward(x).unwrap()), y);
        losses.push(loss.clone().into_scalar::<f32>());
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        network = optimizer.step(scheduler.step(), network, gradients);
    }
    (network.valid(), losses)
}

/// Five steps of an evaluation export against the module in training mode: losses, weights, running statistics and answers.
fn learns(name: &str, kind: &str, optimizer: serde_json::Value) {
    let held = arrays(&fixture(&format!("{name}.npz")));
    let file = fixture(&format!("{name}.pt2"));
    let network = Network::new(graph::load(&file, &Settings::default(), &Device::flex()).unwrap());
    let (network, losses) = steps(network, &held, optimizer, &Device::flex().autodiff());
    let expected = floats(tensor(&held, &format!("{kind}_losses")));
    assert!(apart(&losses, &expected, 1e-4, 1e-5) < 1.0, "{name} {kind}: losses {losses:?}, PyTorch has {expected:?}");
    let dict = to_state_dict(&network).unwrap();
    let mut worst = (0.0, String::new());
    for (key, tensor_) in dict.tensors() {
        let expected = tensor(&held, &format!("{kind}/{key}"));
        assert_eq!(tensor_.shape(), expected.shape(), "{key}");
        if tensor_.dtype() == DType::I64 {
            assert_eq!(tensor_.to_i64().unwrap(), expected.to_i64().unwrap(), "{key}");
            continue;
        }
        let far = apart(&floats(tensor_), &floats(expected), 1e-4, 1e-5);
        if far > worst.0 {
            worst = (far, key.to_string());
        }
    }
    println!("{name} {kind}: the furthest tensor is {} at {} of the tolerance", worst.1, worst.0);
    assert!(worst.0 < 1.0, "{name} {kind}: {} is {} times the tolerance away", worst.1, worst.0);
    let (x, _) = batch(&held, 0, &Device::flex());
    let answer: Vec<f32> = scores(network.forward(x).unwrap()).into_data().iter::<f32>().collect();
    let expected = floats(tensor(&held, &format!("{kind}_out")));
    assert!(apart(&answer, &expected, 1e-3, 1e-4) < 1.0, "{name} {kind}: {answer:?}, PyTorch has {expected:?}");
}

fn sgd() -> serde_json::Value {
    serde_json::json!({ "name": "sgd", "lr": 0.05, "momentum": 0.9 })
}

/// A large eps: with a small one, gradients that are zero but for rounding would become full steps.
fn adam() -> serde_json::Value {
    serde_json::json!({ "name": "adam", "lr": 0.002, "eps": 1e-3 })
}

#[test]
fn a_program_with_batch_norm_learns_as_its_module_does() {
    learns("bn_net", "sgd", sgd());
    learns("bn_net", "adam", adam());
}

#[test]
fn residual_and_depthwise_programs_learn_as_their_modules_do() {
    for name in ["resnet", "mobilenet"] {
        learns(name, "sgd", sgd());
        learns(name, "adam", adam());
    }
}

#[test]
fn a_program_of_tokens_with_tied_weights_learns_as_its_module_does() {
    learns("encoder", "sgd", sgd());
    learns("encoder", "adam", adam());
}

#[test]
fn a_program_of_recurrent_layers_learns_as_its_module_does() {
    learns("recurrent", "sgd", sgd());
    learns("recurrent", "adam", adam());
}

#[test]
fn statistics_stay_where_the_settings_say_so() {
    let file = fixture("bn_net.pt2");
    let settings = Settings { frozen_statistics: true, ..Settings::default() };
    let network = Network::new(graph::load(&file, &settings, &Device::flex()).unwrap());
    let before = to_state_dict(&network).unwrap();
    let held = arrays(&fixture("bn_net.npz"));
    let (network, _) = steps(network, &held, sgd(), &Device::flex().autodiff());
    let after = to_state_dict(&network).unwrap();
    for (key, tensor) in after.tensors() {
        let same = tensor.bytes().unwrap() == before.tensor(key).unwrap().bytes().unwrap();
        assert_eq!(
            same,
            ["running_mean", "running_var", "num_batches_tracked"].iter().any(|end| key.ends_with(end)),
            "{key}"
        );
    }
}

/// Runs the program and checks the exit code; gives stdout and stderr.
#[track_caller]
fn rekindle(arguments: &[&str], code: i32) -> (String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_rekindle")).args(arguments).output().unwrap();
    let texts = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(code), "rekindle {arguments:?}\n{}\n{}", texts.0, texts.1);
    texts
}

/// A recipe that trains a program on the sample of Fashion-MNIST.
fn recipe(folder: &Path, program: &str, epochs: usize) -> String {
    let path = folder.join("recipe.toml");
    let text = format!(
        "name = \"tuned\"\nmodel = {{ program = {:?} }}\n[data]\nname = \"fashion-mnist-sample\"\nbatch_size = 100\n\
         [optimizer]\nname = \"sgd\"\nlr = 0.05\nmomentum = 0.9\n[train]\nepochs = {epochs}\n",
        fixture(program)
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_string()
}

#[test]
fn a_recipe_trains_a_program_and_resuming_changes_no_bit() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let path = recipe(folder.path(), "bn_net.pt2", 2);
    rekindle(&["train", &path, "--run", &run("whole"), "--device", "flex"], 0);
    rekindle(&["train", &path, "--run", &run("parts"), "--device", "flex", "--set", "train.epochs=1"], 0);
    rekindle(&["resume", &run("parts"), "--epochs", "2", "--device", "flex"], 0);
    let state = |name: &str| {
        let file = folder.path().join(format!("{name}.pth"));
        rekindle(&["export", &run(name), file.to_str().unwrap(), "--from", "last"], 0);
        arrays(&file)
    };
    let (whole, parts) = (state("whole"), state("parts"));
    let file = arrays(&fixture("bn_net.pt2"));
    for (key, tensor) in whole.tensors() {
        assert_eq!(tensor.bytes().unwrap(), parts.tensor(key).unwrap().bytes().unwrap(), "{key}");
        // The bias before a batch norm has no gradient but rounding.
        let moved = tensor.bytes().unwrap() != file.tensor(key).unwrap().bytes().unwrap();
        assert!(moved || key == "c.bias", "{key} did not move");
    }
    assert_eq!(whole.len(), 9);
    let count = |dict: &StateDict| dict.tensor("b.num_batches_tracked").unwrap().to_i64().unwrap()[0];
    assert!(count(&whole) > count(&file) + 2, "{} batches", count(&whole));

    // The same program with these weights answers as the run does.
    for end in ["pt2", "onnx"] {
        let out = run(&format!("out.{end}"));
        let (_, said) = rekindle(&["export", &run("whole"), &out, "--from", "last"], 0);
        assert!(said.contains("gives what the network gives"), "{said}");
    }
    let again = arrays(&folder.path().join("out.pt2"));
    for (key, tensor) in whole.tensors() {
        assert_eq!(tensor.bytes().unwrap(), again.tensor(key).unwrap().bytes().unwrap(), "{key}");
    }
}

#[test]
fn a_traced_program_is_written_back() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run").to_str().unwrap().to_string();
    let path = recipe(folder.path(), "bn_net.pt", 1);
    rekindle(&["train", &path, "--run", &run, "--device", "flex"], 0);
    let out = folder.path().join("out.pt");
    rekindle(&["export", &run, out.to_str().unwrap()], 0);
    let (before, after) = (arrays(&fixture("bn_net.pt")), arrays(&out));
    assert_ne!(
        before.tensor("b.running_mean").unwrap().bytes().unwrap(),
        after.tensor("b.running_mean").unwrap().bytes().unwrap()
    );
    rekindle(&["eval", &run, "--device", "flex"], 0);
}

#[test]
fn every_verb_takes_a_program() {
    let folder = tempfile::tempdir().unwrap();
    let (encoder, net) = (fixture("encoder.pt2"), fixture("bn_net.pt2"));
    let (encoder, net) = (encoder.to_str().unwrap(), net.to_str().unwrap());
    let out = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (said, _) = rekindle(&["inspect", encoder], 0);
    for part in [
        "program of torch.export of PyTorch 2.",
        "ids",
        "aten.scaled_dot_product_attention.default",
        "encoder.layers.0.self_attn",
    ] {
        assert!(said.contains(part), "no '{part}' in {said}");
    }
    // Constants and buffers that are not persistent are no part of a state dict.
    rekindle(&["convert", encoder, &out("encoder.pth")], 0);
    let dict = arrays(&folder.path().join("encoder.pth"));
    assert!(
        dict.get("pos").is_none() && dict.get("head.weight").is_some() && dict.len() == 26,
        "{:?}",
        dict.keys().len()
    );
    rekindle(&["diff", encoder, &out("encoder.pth")], 1);
    let (_, said) = rekindle(&["export", encoder, &out("encoder.onnx")], 0);
    assert!(said.contains("gives what the program gives"), "{said}");
    let (said, _) = rekindle(&["bench", "--onnx", encoder, "--device", "flex"], 0);
    assert!(said.contains("onnx/encoder"), "{said}");
    let picture = image(folder.path());
    let (said, _) = rekindle(&["predict", net, picture.to_str().unwrap(), "--device", "flex"], 0);
    assert!(!said.is_empty());
}

/// A grey picture of 28 × 28.
fn image(folder: &Path) -> PathBuf {
    let path = folder.join("grey.png");
    image::GrayImage::from_fn(28, 28, |x, y| image::Luma([(x * 9 + y) as u8])).save(&path).unwrap();
    path
}

#[test]
fn the_optimizer_of_a_program_goes_to_pytorch_s_layout_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let path = recipe(folder.path(), "bn_net.pt2", 1);
    let adam = ["--set", "optimizer={ name = \"adam\", lr = 0.002 }"];
    rekindle(&[&["train", &path, "--run", &at("run"), "--device", "flex"][..], &adam].concat(), 0);
    rekindle(&["export", &at("run"), &at("whole.pth"), "--checkpoint"], 0);
    let whole = arrays(&folder.path().join("whole.pth"));
    let part = |name: &str| match whole.get(name) {
        Some(Value::Dict(dict)) => dict.clone(),
        _ => panic!("no '{name}'"),
    };
    let (model, optimizer) = (part("model_state_dict"), part("optimizer_state_dict"));
    let Some(Value::Dict(state)) = optimizer.get("state") else { panic!("no state") };
    // As `parameters()` of the module counts them.
    let names = ["c.weight", "c.bias", "b.weight", "b.bias", "f.weight", "f.bias"];
    assert_eq!(state.len(), names.len());
    for (number, name) in names.iter().enumerate() {
        let (_, Value::Dict(own)) = state.iter().nth(number).unwrap() else { panic!("no state of {name}") };
        let Some(Value::Tensor(average)) = own.get("exp_avg") else { panic!("no average of {name}") };
        assert_eq!(average.shape(), model.tensor(name).unwrap().shape(), "{name}");
    }
    let import = ["import", &at("whole.pth"), "--recipe", &path, "--run", &at("again")];
    rekindle(&[&import[..], &adam].concat(), 0);
    for run in ["run", "again"] {
        rekindle(&["resume", &at(run), "--epochs", "2", "--device", "flex"], 0);
        rekindle(&["export", &at(run), &at(&format!("{run}.pth")), "--from", "last"], 0);
    }
    let (first, second) = (arrays(&folder.path().join("run.pth")), arrays(&folder.path().join("again.pth")));
    for (key, tensor) in first.tensors() {
        assert_eq!(tensor.bytes().unwrap(), second.tensor(key).unwrap().bytes().unwrap(), "{key}");
    }
}

/// A folder of grey pictures of three classes.
fn pictures(folder: &Path) {
    for (class, name) in ["coat", "dress", "shoe"].into_iter().enumerate() {
        for split in ["train", "valid"] {
            let place = folder.join("pictures").join(split).join(name);
            std::fs::create_dir_all(&place).unwrap();
            for at in 0..4_u32 {
                let value = |x: u32, y: u32| (x * 3 + y * 2 + at + 80 * class as u32) as u8;
                let image = image::GrayImage::from_fn(28, 28, |x, y| image::Luma([value(x, y)]));
                image.save(place.join(format!("{at}.png"))).unwrap();
            }
        }
    }
}

#[test]
fn a_program_and_a_graph_are_finetuned_to_other_classes() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    pictures(folder.path());
    let program = fixture("bn_net.pt2");
    rekindle(&["export", program.to_str().unwrap(), &at("graph.onnx")], 0);
    for (model, run) in [(program.to_str().unwrap(), "program"), (&at("graph.onnx"), "graph")] {
        let train = ["train", "--finetune", model, "--data", &at("pictures"), "--run", &at(run), "--epochs", "2"];
        rekindle(&[&train[..], &["--device", "flex", "--freeze", "all"]].concat(), 0);
        for end in ["pth", "onnx"] {
            rekindle(&["export", &at(run), &at(&format!("{run}.{end}")), "--from", "last"], 0);
        }
        let (before, after) = (arrays(&program), arrays(&folder.path().join(format!("{run}.pth"))));
        assert_eq!(after.tensor("f.weight").unwrap().shape(), [3, 196]);
        assert_eq!(after.tensor("f.bias").unwrap().shape(), [3]);
        let kept =
            |key: &str| before.tensor(key).unwrap().bytes().unwrap() == after.tensor(key).unwrap().bytes().unwrap();
        assert!(kept("c.weight") && kept("b.weight"), "{run}: the rest learned, and was frozen");
        // The file has the new sizes, and the run names its own classes.
        let (shown, _) = rekindle(&["inspect", &at(&format!("{run}.onnx"))], 0);
        assert!(shown.contains("[3, 196]") && !shown.contains("10]"), "{shown}");
        let picture = image(folder.path());
        let (shown, _) = rekindle(&["predict", &at(run), picture.to_str().unwrap(), "--device", "flex"], 0);
        assert!(["coat", "dress", "shoe"].iter().all(|name| shown.contains(name)), "{shown}");
    }
    // An archive keeps the shapes that it has.
    let (_, error) = rekindle(&["export", &at("program"), &at("out.pt2")], 2);
    assert!(error.contains("3 classes") && error.contains(".onnx"), "{error}");
}

#[test]
fn a_new_last_layer_is_drawn_as_pytorch_draws_it() {
    let settings = Settings { classes: Some(400), ..Settings::default() };
    let device = Device::flex();
    device.seed(5);
    let network = graph::load(&fixture("bn_net.pt2"), &settings, &device).unwrap();
    let dict = to_state_dict(&Network::new(network)).unwrap();
    let (weight, bias) = (floats(dict.tensor("f.weight").unwrap()), floats(dict.tensor("f.bias").unwrap()));
    assert_eq!((weight.len(), bias.len()), (400 * 196, 400));
    // Uniform within 1 / sqrt(196): its deviation is the bound over the root of three.
    let bound = 1.0 / 14.0;
    let square = weight.iter().map(|value| value * value).sum::<f32>() / weight.len() as f32;
    assert!(weight.iter().chain(&bias).all(|value| value.abs() <= bound));
    assert!((square.sqrt() * 3_f32.sqrt() / bound - 1.0).abs() < 0.01, "{}", square.sqrt());
}

#[test]
fn what_has_no_last_layer_of_its_own_gets_no_other_classes() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |program: &str, classes: usize| {
        let path = recipe(folder.path(), program, 1);
        rekindle(&["train", &path, "--set", &format!("model.classes={classes}"), "--run", "never"], 2).1
    };
    let tied = refused("encoder.pt2", 3);
    assert!(tied.contains("'embed.weight'") && tied.contains("used elsewhere too"), "{tied}");
    let sequences = refused("recurrent.pt2", 3);
    assert!(sequences.contains("3 classes instead of 12") && sequences.contains("[1, 6, 3]"), "{sequences}");
    let none = refused("bn_net.pt2", 0);
    assert!(none.contains("at least one"), "{none}");
    let file = folder.path().join("weights.pth");
    rekindle(&["convert", fixture("bn_net.pt2").to_str().unwrap(), file.to_str().unwrap()], 0);
    let (_, error) = rekindle(&["train", "--finetune", file.to_str().unwrap(), "--data", "."], 2);
    assert!(error.contains("no network") && error.contains("--init"), "{error}");
}
