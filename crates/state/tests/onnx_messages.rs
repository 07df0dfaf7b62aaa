//! The messages of ONNX hold every field of a file: what is read and written again is the same file.

use prost::Message;
use rekindle_state::onnx::proto::{ModelProto, attribute, type_proto};

/// A model in which every field of every message has a value; see `fixtures/every_field.py`.
const EVERY_FIELD: &[u8] = include_bytes!("fixtures/every_field.onnx");

#[test]
fn a_model_with_every_field_is_written_as_it_was_read() {
    let model = ModelProto::decode(EVERY_FIELD).expect("a model");
    let written = model.encode_to_vec();
    assert_eq!(written.len(), EVERY_FIELD.len());
    // Fields may stand in another order: nothing is lost or changed.
    assert!(ModelProto::decode(written.as_slice()).expect("a model") == model, "other fields");
}

#[test]
fn fields_that_are_not_interpreted_are_there() {
    let model = ModelProto::decode(EVERY_FIELD).expect("a model");
    let graph = model.graph.as_ref().expect("a graph");
    assert_eq!(graph.quantization_annotation.len(), 2);
    assert_eq!(model.training_info.len(), 2);
    assert_eq!(model.configuration.len(), 2);
    assert_eq!(model.functions[0].value_info.len(), 2);
    assert_eq!(graph.initializer[0].metadata_props.len(), 2);
    assert_eq!(graph.node[0].device_configurations.len(), 2);
    assert_eq!(graph.node[0].attribute[0].r#type, attribute::TYPE_PROTOS);
    let kinds = graph.input.iter().filter_map(|info| info.r#type.as_ref()?.value.as_ref());
    assert!(kinds.clone().any(|kind| matches!(kind, type_proto::Value::OpaqueType(_))));
    assert!(kinds.clone().any(|kind| matches!(kind, type_proto::Value::OptionalType(_))));
}
