//! Right answers: those of `predict` and `run`, whatever the request is written in.

use std::path::Path;

use rekindle_state::{DType, StateDict, Tensor, Value as Stored, npy_bytes, safetensors_bytes};
use serde_json::{Value, json};

use super::client::Server;
use super::{assert_same, labels, picture, predicted, trained};
use crate::support::program::Dir;

fn form(files: &[Vec<u8>]) -> Vec<u8> {
    let mut body = b"--xx\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\ntext\r\n".to_vec();
    for (i, file) in files.iter().enumerate() {
        let head = format!("--xx\r\nContent-Disposition: form-data; name=\"f\"; filename=\"{i}.png\"\r\n\r\n");
        body.extend([head.as_bytes(), file, b"\r\n"].concat());
    }
    [body, b"--xx--\r\n".to_vec()].concat()
}

#[test]
fn images_get_the_labels_of_predict() {
    let dir = trained();
    dir.run(&["export", "run", "model.onnx"]).done();
    let (run, graph) = (predicted(&dir, "run"), predicted(&dir, "model.onnx"));
    let server = Server::start(&dir, &["run", "graph=model.onnx"]);
    for (i, (run, graph)) in run.iter().zip(&graph).enumerate() {
        let reply = server.post("/predict?top=3", "image/png", &picture(&dir, i)).ok().json();
        assert_same(&labels(&reply["predictions"][0]), run);
        assert_eq!(reply["model"], "run");
        // curl says this of any --data-binary.
        let kind = "application/x-www-form-urlencoded";
        let reply = server.post("/models/graph/predict?top=3", kind, &picture(&dir, i)).ok().json();
        assert_same(&labels(&reply["predictions"][0]), graph);
    }
    let files: Vec<Vec<u8>> = (0..8).map(|i| picture(&dir, i)).collect();
    for (model, expected) in [("run", &run), ("graph", &graph)] {
        let path = format!("/models/{model}/predict?top=3");
        let reply = server.post(&path, "multipart/form-data; boundary=xx", &form(&files)).ok().json();
        let items = reply["predictions"].as_array().unwrap();
        assert_eq!(items.len(), 8);
        items.iter().zip(expected).for_each(|(item, expected)| assert_same(&labels(item), expected));
    }
    let models = server.get("/models").ok().json();
    assert_eq!(models[0]["inputs"][0], json!({ "name": "input", "datatype": "FP32", "shape": [-1, 1, 28, 28] }));
    assert_eq!((&models[0]["classes"][9], &models[1]["classes"][9]), (&json!("Ankle boot"), &json!("Ankle boot")));
}

/// An image of the network's size as tensor values.
fn values(scale: f32) -> (Tensor, Vec<f32>) {
    let values: Vec<f32> = (0..28 * 28).map(|i| ((i * 7) % 23) as f32 * scale).collect();
    (Tensor::from_f32(&[1, 1, 28, 28], &values).unwrap(), values)
}

#[test]
fn tensors_of_every_kind_get_the_outputs_of_run() {
    let dir = trained();
    dir.run(&["export", "run", "model.onnx"]).done();
    let (tensor, values) = values(0.05);
    std::fs::write(dir.path("x.npy"), npy_bytes(&tensor).unwrap()).unwrap();
    dir.run(&["run", "model.onnx", "--input", "x.npy", "--output", "out", "--device", "flex"]).done();
    let file = rekindle_state::open(dir.path("out/output.npy")).unwrap();
    let expected = file.content.root.as_tensor().unwrap().to_f32().unwrap();
    let close = |found: &[f32]| {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4), "{found:?}, expected {expected:?}");
    };
    let server = Server::start(&dir, &["run", "graph=model.onnx"]);
    let rows: Vec<Value> = values.chunks(28).map(|row| json!(row)).collect();
    let mut named = StateDict::new();
    named.insert("input", tensor.clone());
    for model in ["run", "graph"] {
        let path = format!("/models/{model}/predict");
        let bodies = [
            ("application/json", json!({ "inputs": [[rows]] }).to_string().into_bytes()),
            ("application/json", json!({ "inputs": { "input": [[rows]] } }).to_string().into_bytes()),
            ("application/x-npy", npy_bytes(&tensor).unwrap()),
            ("application/octet-stream", npy_bytes(&tensor).unwrap()),
            ("application/x-safetensors", safetensors_bytes(&Stored::Dict(named.clone())).unwrap()),
        ];
        for (kind, body) in bodies {
            let headers = [("Content-Type", kind), ("Accept", "application/x-npy")];
            close(&server.ask("POST", &path, &headers, &body).ok().tensor().to_f32().unwrap());
            let headers = [("Content-Type", kind), ("Accept", "application/x-safetensors;q=0.9, text/html")];
            let reply = server.ask("POST", &path, &headers, &body).ok();
            let map = rekindle_state::Map::from_bytes("answer".as_ref(), reply.body);
            let root = rekindle_state::read_safetensors(&map).unwrap().root;
            let Stored::Dict(outputs) = root else { panic!("no dictionary") };
            close(&outputs.tensor("output").unwrap().to_f32().unwrap());
        }
        close(&v2_json(&server, model, &values));
        close(&v2_binary(&server, model, &values));
    }
}

/// Through KServe's protocol with JSON data.
fn v2_json(server: &Server, model: &str, values: &[f32]) -> Vec<f32> {
    let input = json!({ "name": "input", "shape": [1, 1, 28, 28], "datatype": "FP32", "data": values });
    let body = json!({ "id": "7", "inputs": [input] }).to_string();
    let reply = server.post(&format!("/v2/models/{model}/infer"), "application/json", body.as_bytes()).ok().json();
    assert_eq!((&reply["id"], &reply["model_name"]), (&json!("7"), &json!(model)));
    assert_eq!(reply["outputs"][0]["shape"], json!([1, 10]));
    reply["outputs"][0]["data"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

/// Through KServe's protocol with its extension for binary tensors.
fn v2_binary(server: &Server, model: &str, values: &[f32]) -> Vec<f32> {
    let parameters = json!({ "binary_data_size": values.len() * 4 });
    let input = json!({ "name": "input", "shape": [1, 1, 28, 28], "datatype": "FP32", "parameters": parameters });
    let outputs = json!([{ "name": "output", "parameters": { "binary_data": true } }]);
    let head = json!({ "inputs": [input], "outputs": outputs }).to_string();
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let length = head.len().to_string();
    let path = format!("/v2/models/{model}/versions/1/infer");
    let headers = [("Inference-Header-Content-Length", length.as_str())];
    let reply = server.ask("POST", &path, &headers, &[head.as_bytes(), &bytes].concat()).ok();
    let length: usize = reply.headers["inference-header-content-length"].parse().unwrap();
    let (head, binary) = reply.body.split_at(length);
    let head: Value = serde_json::from_slice(head).unwrap();
    assert_eq!(head["outputs"][0]["parameters"]["binary_data_size"], json!(40));
    binary.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn a_graph_with_several_inputs_is_served_by_their_names() {
    let dir = Dir::new();
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx/cases/test_basic_conv_with_padding");
    std::fs::copy(case.join("model.onnx"), dir.path("conv.onnx")).unwrap();
    let model = rekindle_onnx::Model::open(&dir.path("conv.onnx")).unwrap();
    let read = |stem: &str, ports: &[rekindle_onnx::Port]| -> Vec<(String, Tensor)> {
        let set = case.join("test_data_set_0");
        let values = rekindle_onnx::reference::read_values(&set, stem, ports).unwrap();
        values.into_iter().map(|(name, value)| (name, value.array().unwrap().to_tensor().unwrap())).collect()
    };
    let (inputs, outputs) = (read("input", &model.graph.inputs), read("output", &model.graph.outputs));
    let server = Server::start(&dir, &["conv.onnx"]);
    let described = |(name, tensor): &(String, Tensor)| json!({ "name": name, "shape": tensor.shape(), "datatype": "FP32", "data": tensor.to_f32().unwrap() });
    // In another order than the model's.
    let list: Vec<Value> = inputs.iter().rev().map(described).collect();
    let body = json!({ "inputs": list }).to_string();
    let reply = server.post("/v2/models/conv/infer", "application/json", body.as_bytes()).ok().json();
    let found: Vec<f32> = serde_json::from_value(reply["outputs"][0]["data"].clone()).unwrap();
    assert_eq!(found, outputs[0].1.to_f32().unwrap());
    let mut named = StateDict::new();
    inputs.iter().for_each(|(name, tensor)| drop(named.insert(name.as_str(), tensor.clone())));
    let body = safetensors_bytes(&Stored::Dict(named)).unwrap();
    let reply = server.post("/predict", "application/x-safetensors", &body).ok().json();
    assert_eq!(reply["outputs"]["y"]["shape"], json!([1, 1, 5, 5]));

    let missing = server.post("/predict", "application/json", json!({ "inputs": { "x": [1] } }).to_string().as_bytes());
    assert_eq!((missing.status, missing.error().as_str()), (400, "the input 'W' is missing"));
    let wrong = Tensor::from_bytes(DType::I64, &[1], 3_i64.to_le_bytes().to_vec()).unwrap();
    let mut named = StateDict::new();
    named.insert("x", wrong.clone());
    named.insert("W", wrong);
    let body = safetensors_bytes(&Stored::Dict(named)).unwrap();
    let reply = server.post("/predict", "application/x-safetensors", &body);
    assert_eq!(reply.error(), "input 'x': expected values of float32, found int64");
    let image = server.post("/predict", "image/png", b"\x89PNG");
    assert!(image.error().starts_with("the model takes no images"), "{}", image.text());
}

#[test]
fn images_are_enlarged_as_predict_does_it() {
    let recipe = "name = \"sr\"\nmodel = { name = \"super_resolution\", upscale_factor = 3, channels = [8, 8, 4] }\n\
        [data]\nname = \"super-resolution\"\nsource = \"folder\"\ndir = \"pictures\"\ncrop = 24\nbatch_size = 4\n\
        [optimizer]\nname = \"adam\"\n[train]\nepochs = 1\n[checkpoint]\nmonitor = \"valid.psnr\"\n";
    let dir = Dir::with(recipe);
    for (split, count) in [("train", 4), ("test", 2)] {
        let folder = dir.path("pictures").join(split).join("all");
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..count {
            let colour = |x: u32, y: u32| image::Rgb([(x * 8) as u8, (y * 9) as u8, (x * y + i * 10) as u8]);
            image::RgbImage::from_fn(30, 26, colour).save(folder.join(format!("{i}.png"))).unwrap();
        }
    }
    dir.train("run", &[]);
    let small = |x: u32, y: u32| image::Rgb([(x * 20) as u8, (y * 30) as u8, 90]);
    image::RgbImage::from_fn(10, 7, small).save(dir.path("small.png")).unwrap();
    dir.run(&["predict", "run", "small.png", "--device", "flex"]).done();
    let expected = image::open(dir.path("small-x3.png")).unwrap().into_rgb8();
    let server = Server::start(&dir, &["run"]);
    let body = std::fs::read(dir.path("small.png")).unwrap();
    let headers = [("Content-Type", "image/png"), ("Accept", "image/png")];
    let reply = server.ask("POST", "/predict", &headers, &body).ok();
    assert_eq!(reply.headers["content-type"], "image/png");
    let found = image::load_from_memory(&reply.body).unwrap().into_rgb8();
    assert_eq!(found.dimensions(), (30, 21));
    let worst = found.as_raw().iter().zip(expected.as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(worst <= Some(1), "{worst:?}");
}

#[test]
fn requests_within_the_window_are_computed_together() {
    let dir = trained();
    let expected = predicted(&dir, "run");
    // The eighth request fills the batch: nobody waits for the whole window.
    let server = Server::start(&dir, &["run", "--window", "20000", "--batch-size", "8"]);
    std::thread::scope(|scope| {
        for (i, expected) in expected.iter().enumerate() {
            let (server, dir) = (&server, &dir);
            scope.spawn(move || {
                let reply = server.post("/predict?top=3", "image/png", &picture(dir, i)).ok().json();
                assert_same(&labels(&reply["predictions"][0]), expected);
            });
        }
    });
    assert_eq!(server.metric("rekindle_batch_items_count{model=\"run\"}"), 1.0);
    assert_eq!(server.metric("rekindle_batch_items_sum{model=\"run\"}"), 8.0);
    assert_eq!(server.metric("rekindle_queue{model=\"run\"}"), 0.0);
}

#[test]
fn pages_and_descriptions_are_there() {
    let dir = trained();
    let server = Server::start(&dir, &["run"]);
    assert_eq!(server.get("/healthz").ok().text(), "ok\n");
    assert_eq!(server.get("/readyz").ok().text(), "ready\n");
    assert_eq!(server.get("/v2/health/ready").ok().json(), json!({ "ready": true }));
    assert_eq!(server.get("/v2/models/run/ready").ok().json()["ready"], true);
    assert_eq!(server.get("/v2").ok().json()["extensions"], json!(["binary_tensor_data"]));
    let page = server.get("/").ok();
    assert!(page.text().contains("data-model=\"run\"") && page.headers["content-security-policy"].contains("'none'"));
    let document = server.get("/openapi.json").ok().json();
    assert!(document["paths"]["/models/{name}/predict"]["post"]["requestBody"].is_object(), "{document}");
    let head = server.ask("HEAD", "/healthz", &[], b"");
    assert_eq!((head.status, head.headers["content-length"].as_str()), (200, "3"));
    let metrics = server.get("/metrics").ok().text();
    assert!(metrics.contains("rekindle_requests_total{route=\"/healthz\",status=\"200\"} 2"), "{metrics}");
}
