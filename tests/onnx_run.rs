//! ONNX graphs run on devices, taken for networks, and run by the program.

#[path = "../crates/onnx/tests/support/mod.rs"]
mod graphs;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use rekindle::device::{self, DeviceName};
use rekindle::models::{Architecture, GraphConfig, Network, Output as Answer, Registry, weights};
use rekindle::onnx::export::{EXTERNAL_ABOVE, ExportOptions, export_network, rewrite, write};
use rekindle::onnx::run::{BurnDevice, DeviceTensor};
use rekindle_onnx::conformance::{Outcome, cases};
use rekindle_onnx::{Array, DType, Limits, Model, Session, Slot};
use rekindle_state::onnx::External;
use rekindle_state::onnx::proto::{GraphProto, OperatorSetIdProto};
use serde_json::json;

use graphs::hostile::{self, MOST, TIME};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx/cases")
}

/// The ONNX project's own cases: with whatever the device takes, and with what it takes by default.
#[test]
fn node_tests_pass_on_flex_and_ndarray() {
    let cases = cases(&fixtures()).unwrap();
    assert!(cases.len() > 70);
    for name in [DeviceName::FLEX, DeviceName::NDARRAY] {
        let device = name.open().unwrap().device;
        for case in &cases {
            assert_eq!(case.run(BurnDevice::taking_all(&device)), Outcome::Passed, "{} on {name}", case.name);
            assert_eq!(case.run(BurnDevice::new(&device)), Outcome::Passed, "{} on {name}", case.name);
        }
    }
}

/// As on the runtimes without a device: small graphs that ask for much end in time, by an answer or an error.
#[test]
fn hostile_graphs_end_in_time_on_a_device() {
    let devices = [("inference", Device::flex()), ("training", Device::flex().autodiff())];
    let heavy = [
        hostile::products(),
        hostile::convolutions(),
        hostile::windows(),
        hostile::recurrent_layers(),
        hostile::signals_and_order(),
    ];
    let heavy = heavy.into_iter().flatten().map(|graph| (true, graph));
    let mut wrong = Vec::new();
    for (is_heavy, (name, proto)) in heavy.chain(hostile::settings().into_iter().map(|graph| (false, graph))) {
        for (purpose, device) in devices.iter().take(if is_heavy { 1 } else { 2 }) {
            let begin = Instant::now();
            let ended = catch_unwind(AssertUnwindSafe(|| {
                let model = Model::from_proto(&proto, &mut External::new("".as_ref()))?;
                let mut session = Session::new(model, BurnDevice::taking_all(device))?;
                session.set_limits(Limits { time: TIME, ..Limits::USUAL });
                session.run(vec![("one".to_string(), Array::scalar(0.5_f32).into())])
            }));
            let taken = begin.elapsed();
            let (how, as_meant) = match ended {
                // An operator that breaks off gives what it has: that is no answer.
                Ok(Ok(_)) => ("it ran".to_string(), !is_heavy || taken < 2 * TIME),
                Ok(Err(error)) => (error.to_string(), !is_heavy || hostile::is_refusal(&error.to_string())),
                Err(_) => ("it panicked".to_string(), false),
            };
            if !as_meant || taken > MOST {
                let attributes = &proto.graph.as_ref().unwrap().node.last().unwrap().attribute;
                wrong.push(format!("{name} for {purpose} after {:.1} s: {how} {attributes:?}", taken.as_secs_f64()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Operators that no device computes run on the host, where a gradient would be lost without a word.
#[test]
fn training_through_an_operator_of_the_host_is_refused() {
    for domain in ["", "com.microsoft"] {
        let mut gelu = graphs::node("Gelu", &["x"], &["y"], vec![]);
        gelu.domain = domain.to_string();
        let mut proto = graphs::model(
            GraphProto {
                node: vec![gelu],
                input: vec![graphs::port("x", 1, &[2, 3])],
                output: vec![graphs::untyped("y")],
                ..GraphProto::default()
            },
            Vec::new(),
        );
        let set = OperatorSetIdProto { domain: "com.microsoft".to_string(), version: 1 };
        proto.opset_import.push(set);
        let device = Device::flex().autodiff();
        let session = || {
            let model = Model::from_proto(&proto, &mut External::new("".as_ref())).unwrap();
            Session::new(model, BurnDevice::taking_all(&device)).unwrap()
        };
        let x = DeviceTensor::new(Tensor::<2>::ones([2, 3], &device), vec![2, 3], DType::F32);
        let run = |x: DeviceTensor| session().run_slots(vec![("x".to_string(), Slot::device(x))]);
        assert!(run(x.clone()).is_ok(), "without a gradient");
        match (domain, run(x.following_gradients())) {
            ("", answer) => assert!(answer.is_ok()),
            (_, Err(error)) => assert!(error.to_string().contains("training through the operator"), "{error}"),
            (_, Ok(_)) => panic!("the gradient is lost"),
        }
    }
}

/// A built-in network written as ONNX and opened again.
fn written(folder: &Path, name: &str, config: serde_json::Value) -> (Network, GraphConfig, PathBuf) {
    let architecture = Registry::built_in().find(name).unwrap().configure(config.as_object().unwrap()).unwrap();
    let network = rekindle::train::fresh(&architecture, 3).valid();
    let size = architecture.input_shape();
    let exported = export_network(&network, size, &ExportOptions::default()).unwrap();
    write(exported.model, folder, "model.onnx", EXTERNAL_ABOVE).unwrap();
    let path = folder.join("model.onnx");
    let config = GraphConfig::open(&path).unwrap();
    (network, config, path)
}

fn pictures([channels, height, width]: [usize; 3], device: &Device) -> Tensor<4> {
    let _seeds = device::seed_lock();
    device::seed(&Device::flex(), 5);
    let pictures = Tensor::random([3, channels, height, width], Distribution::Uniform(0.0, 1.0), &Device::flex());
    pictures.to_device(device)
}

fn scores(network: &Network, x: Tensor<4>) -> Vec<f32> {
    network.forward(x).unwrap().values()
}

fn close(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5 + 1e-4 * b.abs())
}

#[test]
fn an_exported_network_comes_back_as_one_that_answers_the_same() {
    let networks = [
        ("the_model_class", json!({})),
        ("cifar_cnn", json!({ "channels": [4, 6, 8], "hidden": 20 })),
        ("super_resolution", json!({ "channels": [6, 6, 4] })),
        ("fashion_classifier", json!({})),
        ("vgg11_bn", json!({ "widths": [4, 4, 6, 6, 6], "hidden": [12, 12], "classes": 3 })),
    ];
    for (name, config) in networks {
        let folder = tempfile::tempdir().unwrap();
        let (network, graph, _) = written(folder.path(), name, config);
        let again = Architecture::new(graph.clone()).build(&Device::flex()).valid();
        let x = pictures(graph.item(), &Device::flex());
        assert!(close(&scores(&again, x.clone()), &scores(&network, x)), "{name}");
        // The count of batches is no weight of any node.
        let counts = |name: &String| name.ends_with("num_batches_tracked");
        let names = |network: &Network| -> Vec<String> {
            weights::entries(network).into_iter().map(|entry| entry.name).filter(|name| !counts(name)).collect()
        };
        let (mut ours, mut theirs) = (names(&again), names(&network));
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "{name}");
    }
}

/// One step of gradient descent lowers the loss, every weight moves, and the file that is then written has the new weights.
#[test]
fn an_imported_graph_learns_and_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let (_, graph, _) =
        written(folder.path(), "the_model_class", json!({ "channels": [3, 4], "hidden": [10, 9], "classes": 5 }));
    let device = Device::flex().autodiff();
    let network = Architecture::new(graph.clone()).build(&Device::flex()).train().fork(&device);
    let x = pictures(graph.item(), &device);
    let loss = |network: &Network| match network.forward(x.clone()).unwrap() {
        Answer::Classes(scores) => scores.powi_scalar(2).mean(),
        other => unreachable!("it gives classes, not {other:?}"),
    };
    let gradients = loss(&network).backward();
    struct Step<'g>(&'g burn::tensor::Gradients, usize);
    impl burn::module::ModuleMapper for Step<'_> {
        fn map_float<const D: usize>(
            &mut self,
            param: burn::module::Param<Tensor<D>>,
        ) -> burn::module::Param<Tensor<D>> {
            let value = param.val();
            let gradient = value.grad(self.0).expect("every weight has a gradient");
            self.1 += 1;
            param.map(|value| Tensor::from_inner(value.without_autodiff() - gradient * 0.05).require_grad())
        }
    }
    let before = loss(&network).into_data().iter::<f32>().next().unwrap();
    let mut step = Step(&gradients, 0);
    let network = network.map(&mut step);
    assert_eq!(step.1, 10);
    let after = loss(&network).into_data().iter::<f32>().next().unwrap();
    assert!(after < before, "{before} to {after}");

    let network = network.valid();
    let exported = rewrite(network.get().unwrap(), &graph, Vec::new()).unwrap();
    write(exported.model, folder.path(), "again.onnx", EXTERNAL_ABOVE).unwrap();
    let again = Architecture::new(GraphConfig::open(&folder.path().join("again.onnx")).unwrap());
    let again = again.build(&Device::flex()).valid();
    let x = pictures(graph.item(), &Device::flex());
    assert!(close(&scores(&again, x.clone()), &scores(&network, x)));
}

/// Batch normalisation keeps the file's statistics: no gradient moves them, after a checkpoint too.
#[test]
fn statistics_of_batch_normalisation_stay_frozen() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({ "widths": [4, 4, 6, 6, 6], "hidden": [12, 12], "classes": 3 });
    let (_, graph, _) = written(folder.path(), "vgg11_bn", config);
    let device = Device::flex().autodiff();
    let graph = Architecture::new(graph);
    let record = graph.build(&Device::flex()).into_record();
    let network = graph.build(&Device::flex()).try_load_record(record).unwrap().train().fork(&device);
    let loss = match network.forward(pictures(graph.input_shape(), &device)).unwrap() {
        Answer::Classes(scores) => scores.powi_scalar(2).mean(),
        other => unreachable!("it gives classes, not {other:?}"),
    };
    struct Moved<'g>(&'g burn::tensor::Gradients, Vec<bool>);
    impl burn::module::ModuleVisitor for Moved<'_> {
        fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
            self.1.push(param.val().grad(self.0).is_some());
        }
    }
    let gradients = loss.backward();
    let mut moved = Moved(&gradients, Vec::new());
    network.visit(&mut moved);
    for (entry, moved) in weights::entries(&network).iter().zip(moved.1) {
        assert_eq!(moved, !entry.name.contains("running_"), "{}", entry.name);
    }
}

/// Runs the program.
fn rekindle(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rekindle")).args(arguments).output().expect("the program starts")
}

/// Runs it and checks the exit code; gives stdout and stderr.
#[track_caller]
fn answer(arguments: &[&str], code: i32) -> (String, String) {
    let output = rekindle(arguments);
    let texts = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(code), "rekindle {arguments:?}\n{}\n{}", texts.0, texts.1);
    texts
}

#[test]
fn run_compares_with_a_reference() {
    let case = fixtures().join("test_basic_conv_with_padding");
    let (model, folder) = (case.join("model.onnx"), case.to_str().unwrap());
    let model = model.to_str().unwrap();
    let (told, _) = answer(&["run", model, "--reference", folder, "--device", "flex"], 0);
    assert!(told.contains("y: agrees"), "{told}");
    // Another case's outputs are not these.
    let scratch = tempfile::tempdir().unwrap();
    let set = case.join("test_data_set_0");
    for file in ["input_0.pb", "input_1.pb"] {
        std::fs::copy(set.join(file), scratch.path().join(file)).unwrap();
    }
    std::fs::copy(set.join("input_0.pb"), scratch.path().join("output_0.pb")).unwrap();
    let (told, _) = answer(&["run", model, "--reference", scratch.path().to_str().unwrap(), "--device", "flex"], 1);
    assert!(told.contains("y: DIFFERS"), "{told}");
    let empty = tempfile::tempdir().unwrap();
    let (_, error) = answer(&["run", model, "--reference", empty.path().to_str().unwrap(), "--device", "flex"], 2);
    assert!(error.contains("output_0.pb"), "{error}");
}

#[test]
fn run_takes_arrays_and_writes_arrays() {
    let case = fixtures().join("test_basic_conv_with_padding");
    let (model, set) = (case.join("model.onnx"), case.join("test_data_set_0"));
    let scratch = tempfile::tempdir().unwrap();
    let model = model.to_str().unwrap();
    let given = |name: &str, file: &str| format!("{name}={}", set.join(file).display());
    let (x, w) = (given("x", "input_0.pb"), given("W", "input_1.pb"));
    let out = scratch.path().to_str().unwrap();
    answer(&["run", model, "--input", &x, "--input", &w, "--output", out, "--device", "ndarray"], 0);
    let y = scratch.path().join("y.npy");
    let tensor = rekindle_state::open(&y).unwrap();
    assert_eq!(tensor.content.root.as_tensor().unwrap().shape(), [1, 1, 5, 5]);
    // What was written can be given.
    let y = format!("x={}", y.display());
    let (told, _) = answer(&["run", model, "--input", &y, "--input", &w, "--device", "flex"], 0);
    assert!(told.contains("float32") && told.contains("[1, 1, 5, 5]"), "{told}");
}

#[test]
fn run_says_what_is_wrong_with_inputs() {
    let case = fixtures().join("test_basic_conv_with_padding");
    let (model, set) = (case.join("model.onnx"), case.join("test_data_set_0"));
    let model = model.to_str().unwrap();
    let file = |name: &str| set.join(name).display().to_string();
    let messages = [
        (vec![], "the input 'x' is missing: give a tensor of float32 and shape [1, 1, 5, 5]"),
        (vec![format!("x={}", file("input_0.pb"))], "the input 'W' is missing"),
        (vec![format!("z={}", file("input_0.pb"))], "there is no input 'z': the model's inputs are 'x', 'W'"),
        (
            vec![format!("x={}", file("input_1.pb")), format!("W={}", file("input_1.pb"))],
            "the input 'x' should be a tensor of float32",
        ),
        (vec![format!("x={}", file("none.npy"))], "none.npy"),
    ];
    for (inputs, expected) in messages {
        let mut arguments = vec!["run", model, "--device", "flex"];
        inputs.iter().for_each(|input| arguments.extend(["--input", input.as_str()]));
        let (_, error) = answer(&arguments, 2);
        assert!(error.contains(expected) && error.trim_end().lines().count() == 1, "{error}");
    }
}
