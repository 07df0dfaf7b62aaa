//! Graphs that are wrong: the structure check refuses them, an engine disagrees, and the node that differs first is named.

use std::path::Path;

use rekindle::onnx::export::{ExportOptions, Exported, export_network};
use rekindle::onnx::verify::{self, Difference, Engine, Graphed, Values, structure};
use rekindle_state::onnx::proto::ModelProto;

use super::{architecture, graph, narrow, network, written};
use rekindle::models::Network;

fn exported(name: &str) -> (Network, Exported) {
    let (_, config, size) = narrow().into_iter().find(|(known, ..)| *known == name).unwrap();
    let architecture = architecture(name, &config);
    let network = network(&architecture);
    let exported = export_network(&network, size, &ExportOptions::default()).unwrap();
    (network, exported)
}

/// What is wrong with a model after a change.
fn problems(model: &ModelProto, change: impl FnOnce(&mut ModelProto)) -> Vec<String> {
    let mut model = model.clone();
    change(&mut model);
    structure::check(&model, Path::new("."))
}

#[test]
fn every_mistake_in_a_graph_is_found() {
    let (_, exported) = exported("the_model_class");
    let model = &exported.model;
    assert_eq!(problems(model, |_| {}), Vec::<String>::new());
    type Change = fn(&mut ModelProto);
    let cases: [(&str, Change); 19] = [
        ("names no operator set", |m| m.opset_import.clear()),
        ("format version 7 does not know opset 17", |m| m.ir_version = 7),
        ("format version 99 is not known", |m| m.ir_version = 99),
        ("has no graph", |m| m.graph = None),
        ("its graph has no name", |m| of(m).name.clear()),
        ("its input 'conv.bias' is made by nothing", |m| of(m).initializer.retain(|tensor| tensor.name != "conv.bias")),
        ("is made only later, or by itself", |m| of(m).node.swap(0, 1)),
        ("is made only later, or by itself", |m| of(m).node[0].input[0] = "/Relu_output_0".into()),
        ("'conv.bias' is made twice", |m| {
            let twice = of(m).initializer[1].clone();
            of(m).initializer.push(twice);
        }),
        ("two nodes are called '/conv/Conv'", |m| of(m).node[1].name = "/conv/Conv".into()),
        ("the initializer 'conv.weight'", |m| of(m).initializer[0].dims[0] += 1),
        ("its bias has not one value for each channel", |m| of(m).initializer[1].dims.insert(0, 1)),
        ("opset 17 has no such operator", |m| of(m).node[1].op_type = "Gelu".into()),
        ("opset 17 has no attribute 'axes' there", |m| of(m).node[2].attribute[0].name = "axes".into()),
        ("the attribute 'kernel_shape' is missing", |m| of(m).node[2].attribute.remove(0).name.clear()),
        ("inputs, where the operator takes 1 to 1", |m| of(m).node[1].input.push("input".into())),
        ("nothing makes the output 'answer'", |m| of(m).output[0].name = "answer".into()),
        ("and the file says of type float32 and shape [batch, 3", |m| of(m).node[0].attribute[1].ints = vec![2, 2]),
        ("its matrices do not fit each other", |m| of(m).node[7].attribute.iter_mut().for_each(|a| a.i = 0)),
    ];
    for (expected, change) in cases {
        let found = problems(model, change);
        assert!(found.iter().any(|problem| problem.contains(expected)), "{expected}: {found:?}");
    }
}

fn of(model: &mut ModelProto) -> &mut rekindle_state::onnx::proto::GraphProto {
    model.graph.as_mut().unwrap()
}

#[test]
fn what_is_no_model_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    std::fs::write(&path, b"not a model").unwrap();
    assert!(verify::check_structure(&path).is_err());
}

/// An engine that is wrong, or fails.
struct Wrong(Result<Vec<usize>, &'static str>);

impl Engine for Wrong {
    fn name(&self) -> &'static str {
        "wrong"
    }

    fn run(&self, _: &Path, _: &str, inputs: &[Values]) -> Result<Vec<Vec<Values>>, String> {
        let shape = self.0.clone().map_err(str::to_string)?;
        let answer = |input: &Values| {
            let shape: Vec<usize> = std::iter::once(input.shape[0]).chain(shape.iter().copied()).collect();
            vec![Values { data: vec![0.25; shape.iter().product()], shape }]
        };
        Ok(inputs.iter().map(answer).collect())
    }
}

#[test]
fn an_engine_that_disagrees_is_seen() {
    let (network, exported) = exported("the_model_class");
    let graphed = Graphed::new(Path::new("unused"), &exported);
    let compare = |engine: &Wrong| verify::compare(&network, &graphed, &[engine], verify::USUAL);
    let findings = compare(&Wrong(Ok(vec![10]))).unwrap();
    assert_eq!(findings.iter().map(|finding| finding.batch).collect::<Vec<_>>(), [1, 3]);
    assert!(findings.iter().all(|finding| !finding.difference.is_small()));
    let findings = compare(&Wrong(Ok(vec![11]))).unwrap();
    assert!(matches!(&findings[0].difference, Difference::Shape { found, .. } if found == &[1, 11]));
    let error = compare(&Wrong(Err("it is broken"))).unwrap_err().to_string();
    assert_eq!(error, "wrong cannot run the written graph: it is broken");
}

#[test]
fn the_first_node_that_differs_is_named() {
    for engine in verify::built_in() {
        let (network, mut exported) = exported("the_model_class");
        assert_eq!(graph(&exported).initializer[2].name, "conv1.weight");
        let folder = written(&exported);
        let path = folder.path().join("m.onnx");
        let first = |exported: &Exported| {
            verify::first_difference(&network, &Graphed::new(&path, exported), engine, 3, verify::USUAL).unwrap()
        };
        assert_eq!(first(&exported), None, "{}", engine.name());
        let mut raw = of(&mut exported.model).initializer[2].raw_data.take().unwrap().to_vec();
        raw[..4].copy_from_slice(&100.0_f32.to_le_bytes());
        of(&mut exported.model).initializer[2].raw_data = Some(raw.into());
        rekindle::onnx::export::write(exported.model.clone(), folder.path(), "m.onnx", u64::MAX).unwrap();
        let found = first(&exported).unwrap_or_default();
        assert!(found.starts_with("node '/conv1/Conv': greatest difference"), "{}: {found}", engine.name());
    }
}
