//! The messages of `onnx-ml.proto` and `onnx-data.proto`, with their field numbers and names, every field of them.
//!
//! Written by `messages/generate.py`: change that.

#![allow(clippy::doc_markdown, clippy::too_long_first_doc_paragraph, clippy::doc_lazy_continuation)]

use prost::bytes::Bytes;
use prost::{Message, Oneof};

/// Attributes A named attribute containing either singular float, integer, string, graph, and tensor values, or repeated float, integer, string, graph, and tensor values.
#[derive(Clone, PartialEq, Message)]
pub struct AttributeProto {
    /// The name field MUST be present for this version of the IR.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Namespace Attribute if ref_attr_name is not empty, ref_attr_name is the attribute name in parent function.
    #[prost(string, tag = "21")]
    pub ref_attr_name: String,
    /// A human-readable documentation for this attribute.
    #[prost(string, tag = "13")]
    pub doc_string: String,
    /// The type field MUST be present for this version of the IR. For 0.0.1 versions of the IR, this field was not defined, and implementations needed to use has_field heuristics to determine which value field was in use.
    #[prost(int32, tag = "20")]
    pub r#type: i32,
    /// Discriminator that indicates which field below is in use Exactly ONE of the following fields must be present for this version of the IR.
    #[prost(float, tag = "2")]
    pub f: f32,
    /// Float.
    #[prost(int64, tag = "3")]
    pub i: i64,
    /// The field `s`.
    #[prost(bytes = "bytes", tag = "4")]
    pub s: Bytes,
    /// UTF-8 string.
    #[prost(message, optional, tag = "5")]
    pub t: Option<TensorProto>,
    /// Tensor value.
    #[prost(message, optional, tag = "6")]
    pub g: Option<GraphProto>,
    /// Graph.
    #[prost(message, optional, tag = "22")]
    pub sparse_tensor: Option<SparseTensorProto>,
    /// Sparse tensor value Do not use field below, it's deprecated.
    #[prost(message, optional, tag = "14")]
    pub tp: Option<TypeProto>,
    /// Type proto.
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub floats: Vec<f32>,
    /// List of floats.
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    /// List of ints.
    #[prost(bytes = "bytes", repeated, tag = "9")]
    pub strings: Vec<Bytes>,
    /// List of UTF-8 strings.
    #[prost(message, repeated, tag = "10")]
    pub tensors: Vec<TensorProto>,
    /// List of tensors.
    #[prost(message, repeated, tag = "11")]
    pub graphs: Vec<GraphProto>,
    /// List of graph.
    #[prost(message, repeated, tag = "23")]
    pub sparse_tensors: Vec<SparseTensorProto>,
    /// List of sparse tensors.
    #[prost(message, repeated, tag = "15")]
    pub type_protos: Vec<TypeProto>,
}

/// Defines information on value, including the name, the type, and the shape of the value.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfoProto {
    /// This field MUST be present in this version of the IR.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Namespace Value This field MUST be present in this version of the IR for inputs and outputs of the top-level graph.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
    /// A human-readable documentation for this value.
    #[prost(string, tag = "3")]
    pub doc_string: String,
    /// Named metadata values; keys should be distinct.
    #[prost(message, repeated, tag = "4")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// Nodes Computation graphs are made up of a DAG of nodes, which represent what is commonly called a "layer" or "pipeline stage" in machine learning frameworks.
#[derive(Clone, PartialEq, Message)]
pub struct NodeProto {
    /// The field `input`.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Namespace Value.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// Namespace Value An optional identifier for this node in a graph.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Namespace Node The symbolic identifier of the Operator to execute.
    #[prost(string, tag = "4")]
    pub op_type: String,
    /// Namespace Operator The domain of the OperatorSet that specifies the operator named by op_type.
    #[prost(string, tag = "7")]
    pub domain: String,
    /// Namespace Domain Overload identifier, used only to map this to a model-local function.
    #[prost(string, tag = "8")]
    pub overload: String,
    /// Additional named attributes.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
    /// A human-readable documentation for this node.
    #[prost(string, tag = "6")]
    pub doc_string: String,
    /// Named metadata values; keys should be distinct.
    #[prost(message, repeated, tag = "9")]
    pub metadata_props: Vec<StringStringEntryProto>,
    /// Configuration of multi-device annotations.
    #[prost(message, repeated, tag = "10")]
    pub device_configurations: Vec<NodeDeviceConfigurationProto>,
}

/// IntIntListEntryProto follows the pattern for cross-proto-version maps.
#[derive(Clone, PartialEq, Message)]
pub struct IntIntListEntryProto {
    /// The field `key`.
    #[prost(int64, tag = "1")]
    pub key: i64,
    /// The field `value`.
    #[prost(int64, repeated, packed = "false", tag = "2")]
    pub value: Vec<i64>,
}

/// Multi-device configuration proto for NodeProto.
#[derive(Clone, PartialEq, Message)]
pub struct NodeDeviceConfigurationProto {
    /// This field MUST be present for this version of the IR. ID of the configuration.
    #[prost(string, tag = "1")]
    pub configuration_id: String,
    /// Sharding spec for the node.
    #[prost(message, repeated, tag = "2")]
    pub sharding_spec: Vec<ShardingSpecProto>,
    /// Pipeline stage of this node.
    #[prost(int32, tag = "3")]
    pub pipeline_stage: i32,
}

/// ShardingSpecProto: This describes the sharding spec for a specific input or output tensor of a node.
#[derive(Clone, PartialEq, Message)]
pub struct ShardingSpecProto {
    /// This field MUST be present for this version of the IR. Identifies the input or output of the node that is being sharded.
    #[prost(string, tag = "1")]
    pub tensor_name: String,
    /// The following is the list of devices across which the logical tensor is sharded or replicated.
    #[prost(int64, repeated, packed = "false", tag = "2")]
    pub device: Vec<i64>,
    /// Each element v in above field devices may represent either a device or a set of devices (when we want the same shard/tensor to be replicated across a subset of devices), as indicated by the following optional map.
    #[prost(message, repeated, tag = "3")]
    pub index_to_device_group_map: Vec<IntIntListEntryProto>,
    /// The following is the sharded-shape of the tensor, consisting of the sharding-spec for each axis of the tensor.
    #[prost(message, repeated, tag = "4")]
    pub sharded_dim: Vec<ShardedDimProto>,
}

/// ShardedDimProto: This describes the sharding spec for a single axis of a sharded tensor.
#[derive(Clone, PartialEq, Message)]
pub struct ShardedDimProto {
    /// This field MUST be present for this version of the IR. The axis this sharding corresponds to.
    #[prost(int64, tag = "1")]
    pub axis: i64,
    /// Describes how the tensor on the provided axis is sharded.
    #[prost(message, repeated, tag = "2")]
    pub simple_sharding: Vec<SimpleShardedDimProto>,
}

/// SimpleShardedDimProto: Indicates that N blocks are divided into M shards.
#[derive(Clone, PartialEq, Message)]
pub struct SimpleShardedDimProto {
    /// Dimension value to be sharded.
    #[prost(oneof = "simple_sharded_dim::Dim", tags = "1, 2")]
    pub dim: Option<simple_sharded_dim::Dim>,
    /// This field MUST be present for this version of the IR. Number of shards to split dim into.
    #[prost(int64, tag = "3")]
    pub num_shards: i64,
}

/// Training information TrainingInfoProto stores information for training a model.
#[derive(Clone, PartialEq, Message)]
pub struct TrainingInfoProto {
    /// This field describes a graph to compute the initial tensors upon starting the training process.
    #[prost(message, optional, tag = "1")]
    pub initialization: Option<GraphProto>,
    /// This field represents a training algorithm step.
    #[prost(message, optional, tag = "2")]
    pub algorithm: Option<GraphProto>,
    /// This field specifies the bindings from the outputs of "initialization" to some initializers in "ModelProto.graph.initializer" and the "algorithm.initializer" in the same TrainingInfoProto.
    #[prost(message, repeated, tag = "3")]
    pub initialization_binding: Vec<StringStringEntryProto>,
    /// Gradient-based training is usually an iterative procedure.
    #[prost(message, repeated, tag = "4")]
    pub update_binding: Vec<StringStringEntryProto>,
}

/// Models ModelProto is a top-level file/container format for bundling a ML model and associating its computation graph with metadata.
#[derive(Clone, PartialEq, Message)]
pub struct ModelProto {
    /// The version of the IR this model targets.
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    /// The OperatorSets this model relies on.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// The name of the framework or tool used to generate this model.
    #[prost(string, tag = "2")]
    pub producer_name: String,
    /// The version of the framework or tool used to generate this model.
    #[prost(string, tag = "3")]
    pub producer_version: String,
    /// Domain name of the model.
    #[prost(string, tag = "4")]
    pub domain: String,
    /// The version of the graph encoded.
    #[prost(int64, tag = "5")]
    pub model_version: i64,
    /// A human-readable documentation for this model.
    #[prost(string, tag = "6")]
    pub doc_string: String,
    /// The parameterized graph that is evaluated to execute the model.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    /// Named metadata values; keys should be distinct.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<StringStringEntryProto>,
    /// Training-specific information.
    #[prost(message, repeated, tag = "20")]
    pub training_info: Vec<TrainingInfoProto>,
    /// A list of function protos local to the model.
    #[prost(message, repeated, tag = "25")]
    pub functions: Vec<FunctionProto>,
    /// Describes different target configurations for a multi-device use case.
    #[prost(message, repeated, tag = "26")]
    pub configuration: Vec<DeviceConfigurationProto>,
}

/// DeviceConfigurationProto describes a multi-device configuration for a model.
#[derive(Clone, PartialEq, Message)]
pub struct DeviceConfigurationProto {
    /// This field MUST be present for this version of the IR. Name of the configuration.
    #[prost(string, tag = "1")]
    pub name: String,
    /// This field MUST be present for this version of the IR. Number of devices inside this configuration.
    #[prost(int32, tag = "2")]
    pub num_devices: i32,
    /// Optional names of the devices.
    #[prost(string, repeated, tag = "3")]
    pub device: Vec<String>,
}

/// StringStringEntryProto follows the pattern for cross-proto-version maps.
#[derive(Clone, PartialEq, Message)]
pub struct StringStringEntryProto {
    /// The field `key`.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The field `value`.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// The message `TensorAnnotation`.
#[derive(Clone, PartialEq, Message)]
pub struct TensorAnnotation {
    /// The field `tensor_name`.
    #[prost(string, tag = "1")]
    pub tensor_name: String,
    /// Key, value pairs to annotate tensor specified by tensor_name above.
    #[prost(message, repeated, tag = "2")]
    pub quant_parameter_tensor_names: Vec<StringStringEntryProto>,
}

/// Graphs A graph defines the computational logic of a model and is comprised of a parameterized list of nodes that form a directed acyclic graph based on their inputs and outputs.
#[derive(Clone, PartialEq, Message)]
pub struct GraphProto {
    /// The nodes in the graph, sorted topologically.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    /// The name of the graph.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Namespace Graph A list of named tensor values, used to specify constant inputs of the graph.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    /// Initializers (see above) stored in sparse format.
    #[prost(message, repeated, tag = "15")]
    pub sparse_initializer: Vec<SparseTensorProto>,
    /// A human-readable documentation for this graph.
    #[prost(string, tag = "10")]
    pub doc_string: String,
    /// The inputs and outputs of the graph.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    /// The field `output`.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
    /// Information for the values in the graph.
    #[prost(message, repeated, tag = "13")]
    pub value_info: Vec<ValueInfoProto>,
    /// This field carries information to indicate the mapping among a tensor and its quantization parameter tensors.
    #[prost(message, repeated, tag = "14")]
    pub quantization_annotation: Vec<TensorAnnotation>,
    /// Named metadata values; keys should be distinct.
    #[prost(message, repeated, tag = "16")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// For very large tensors, we may want to store them in chunks, in which case the following fields will specify the segment that is stored in the current TensorProto.
#[derive(Clone, PartialEq, Message)]
pub struct Segment {
    /// The field `begin`.
    #[prost(int64, tag = "1")]
    pub begin: i64,
    /// The field `end`.
    #[prost(int64, tag = "2")]
    pub end: i64,
}

/// Tensors A serialized tensor value.
#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    /// The shape of the tensor.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// The data type of the tensor.
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    /// The field `segment`.
    #[prost(message, optional, tag = "3")]
    pub segment: Option<Segment>,
    /// Tensor content must be organized in row-major order.
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    /// For int32, uint8, int8, uint16, int16, uint4, int4, uint2, int2, bool, (b)float16, float8, and float4: - (b)float16 and float8 values MUST be converted bit-wise into an unsigned integer representation before being written to the buffer.
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    /// For strings.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub string_data: Vec<Bytes>,
    /// For int64. When this field is present, the data_type field MUST be INT64.
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    /// Optionally, a name for the tensor.
    #[prost(string, tag = "8")]
    pub name: String,
    /// Namespace Value A human-readable documentation for this tensor.
    #[prost(string, tag = "12")]
    pub doc_string: String,
    /// Serializations can either use one of the fields above, or use this raw bytes field.
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub raw_data: Option<Bytes>,
    /// Data can be stored inside the protobuf file using type-specific fields or raw_data.
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntryProto>,
    /// If value not set, data is stored in raw_data (if set) otherwise in type-specified field.
    #[prost(int32, tag = "14")]
    pub data_location: i32,
    /// For double Complex128 tensors are encoded as a single array of doubles, with the real components appearing in odd numbered positions, and the corresponding imaginary component appearing in the subsequent even numbered position.
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    /// For uint64 and uint32 values When this field is present, the data_type field MUST be UINT32 or UINT64.
    #[prost(uint64, repeated, tag = "11")]
    pub uint64_data: Vec<u64>,
    /// Named metadata values; keys should be distinct.
    #[prost(message, repeated, tag = "16")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// A serialized sparse-tensor value.
#[derive(Clone, PartialEq, Message)]
pub struct SparseTensorProto {
    /// The sequence of non-default values are encoded as a tensor of shape NNZ. The default-value is zero for numeric tensors, and empty-string for string tensors.
    #[prost(message, optional, tag = "1")]
    pub values: Option<TensorProto>,
    /// The indices of the non-default values, which may be stored in one of two formats.
    #[prost(message, optional, tag = "2")]
    pub indices: Option<TensorProto>,
    /// The shape of the underlying dense-tensor: dim_1, dim_2, ... dim_rank.
    #[prost(int64, repeated, packed = "false", tag = "3")]
    pub dims: Vec<i64>,
}

/// The message `Dimension`.
#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    /// The field `value`.
    #[prost(oneof = "dimension::Value", tags = "1, 2")]
    pub value: Option<dimension::Value>,
    /// Standard denotation can optionally be used to denote tensor dimensions with standard semantic descriptions to ensure that operations are applied to the correct axis of a tensor.
    #[prost(string, tag = "3")]
    pub denotation: String,
}

/// Defines a tensor shape.
#[derive(Clone, PartialEq, Message)]
pub struct TensorShapeProto {
    /// The field `dim`.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

/// The message `TensorType`.
#[derive(Clone, PartialEq, Message)]
pub struct TensorType {
    /// This field MUST NOT have the value of UNDEFINED This field MUST have a valid TensorProto.DataType value This field MUST be present for this version of the IR.
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    /// The field `shape`.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

/// Repeated T.
#[derive(Clone, PartialEq, Message)]
pub struct SequenceType {
    /// The type and optional shape of each element of the sequence.
    #[prost(message, optional, boxed, tag = "1")]
    pub elem_type: Option<Box<TypeProto>>,
}

/// MapK,V.
#[derive(Clone, PartialEq, Message)]
pub struct MapType {
    /// This field MUST have a valid TensorProto.DataType value This field MUST be present for this version of the IR. This field MUST refer to an integral type (UINT{8|16|32|64}) or STRING.
    #[prost(int32, tag = "1")]
    pub key_type: i32,
    /// This field MUST be present for this version of the IR.
    #[prost(message, optional, boxed, tag = "2")]
    pub value_type: Option<Box<TypeProto>>,
}

/// Wrapper for Tensor, Sequence, or Map.
#[derive(Clone, PartialEq, Message)]
pub struct OptionalType {
    /// The type and optional shape of the element wrapped.
    #[prost(message, optional, boxed, tag = "1")]
    pub elem_type: Option<Box<TypeProto>>,
}

/// The message `SparseTensorType`.
#[derive(Clone, PartialEq, Message)]
pub struct SparseTensorType {
    /// This field MUST NOT have the value of UNDEFINED This field MUST have a valid TensorProto.DataType value This field MUST be present for this version of the IR.
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    /// The field `shape`.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

/// The message `OpaqueType`.
#[derive(Clone, PartialEq, Message)]
pub struct OpaqueType {
    /// When missing, the domain is the same as the model's.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// The name is optional but significant when provided.
    #[prost(string, tag = "2")]
    pub name: String,
}

/// Types The standard ONNX data types.
#[derive(Clone, PartialEq, Message)]
pub struct TypeProto {
    /// The field `value`.
    #[prost(oneof = "type_proto::Value", tags = "1, 4, 5, 9, 8, 7")]
    pub value: Option<type_proto::Value>,
    /// An optional denotation can be used to denote the whole type with a standard semantic description as to what is stored inside.
    #[prost(string, tag = "6")]
    pub denotation: String,
}

/// Operator Sets OperatorSets are uniquely identified by a (domain, opset_version) pair.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSetIdProto {
    /// The domain of the operator set being identified.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// The version of the operator set being identified.
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// The message `FunctionProto`.
#[derive(Clone, PartialEq, Message)]
pub struct FunctionProto {
    /// The name of the function, similar to op_type in NodeProto.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The inputs and outputs of the function.
    #[prost(string, repeated, tag = "4")]
    pub input: Vec<String>,
    /// The field `output`.
    #[prost(string, repeated, tag = "5")]
    pub output: Vec<String>,
    /// The attribute parameters of the function.
    #[prost(string, repeated, tag = "6")]
    pub attribute: Vec<String>,
    /// The attribute protos of the function.
    #[prost(message, repeated, tag = "11")]
    pub attribute_proto: Vec<AttributeProto>,
    /// The nodes in the function.
    #[prost(message, repeated, tag = "7")]
    pub node: Vec<NodeProto>,
    /// A human-readable documentation for this function.
    #[prost(string, tag = "8")]
    pub doc_string: String,
    /// The OperatorSets this function body (graph) relies on.
    #[prost(message, repeated, tag = "9")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// The domain which this function belongs to.
    #[prost(string, tag = "10")]
    pub domain: String,
    /// The overload identifier of the function.
    #[prost(string, tag = "13")]
    pub overload: String,
    /// Information for the values in the function.
    #[prost(message, repeated, tag = "12")]
    pub value_info: Vec<ValueInfoProto>,
    /// Named metadata values; keys should be distinct.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// This file contains the proto definitions for MapProto and SequenceProto.
#[derive(Clone, PartialEq, Message)]
pub struct SequenceProto {
    /// The field `name`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The data type of the element.
    #[prost(int32, tag = "2")]
    pub elem_type: i32,
    /// For TensorProto values.
    #[prost(message, repeated, tag = "3")]
    pub tensor_values: Vec<TensorProto>,
    /// For SparseTensorProto values.
    #[prost(message, repeated, tag = "4")]
    pub sparse_tensor_values: Vec<SparseTensorProto>,
    /// For SequenceProto values, allowing sequences to be of themselves.
    #[prost(message, repeated, tag = "5")]
    pub sequence_values: Vec<SequenceProto>,
    /// For MapProto values.
    #[prost(message, repeated, tag = "6")]
    pub map_values: Vec<MapProto>,
    /// For OptionalProto values.
    #[prost(message, repeated, tag = "7")]
    pub optional_values: Vec<OptionalProto>,
}

/// Maps Specifies an associative table, defined by keys and values.
#[derive(Clone, PartialEq, Message)]
pub struct MapProto {
    /// The field `name`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// All MapProto data types must have the same length of keys and values.
    #[prost(int32, tag = "2")]
    pub key_type: i32,
    /// Every element of keys has to be one of the following data types INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, or STRING. The integer cases are represented by the repeated int64 field keys below.
    #[prost(int64, repeated, packed = "false", tag = "3")]
    pub keys: Vec<i64>,
    /// If keys are strings, they are represented by the repeated bytes field string_keys below.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub string_keys: Vec<Bytes>,
    /// MapProto values are represented in a SequenceProto of the same length as the repeated keys field and have to be one of the following data types TENSOR, SPARSE_TENSOR, MAP, SEQUENCE.
    #[prost(message, optional, tag = "5")]
    pub values: Option<SequenceProto>,
}

/// Optional.
#[derive(Clone, PartialEq, Message)]
pub struct OptionalProto {
    /// The field `name`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The data type of the element, identifies if the OptionalProto value is Tensor, Sparse Tensor, Sequence, Map, or Optional.
    #[prost(int32, tag = "2")]
    pub elem_type: i32,
    /// For TensorProto value.
    #[prost(message, optional, tag = "3")]
    pub tensor_value: Option<TensorProto>,
    /// For SparseTensorProto value.
    #[prost(message, optional, tag = "4")]
    pub sparse_tensor_value: Option<SparseTensorProto>,
    /// For SequenceProto value.
    #[prost(message, optional, tag = "5")]
    pub sequence_value: Option<SequenceProto>,
    /// For MapProto value.
    #[prost(message, optional, tag = "6")]
    pub map_value: Option<MapProto>,
    /// For OptionalProto value, allowing optional to be of itself (completeness) When this field is present, the elem_type field MUST be OPTIONAL.
    #[prost(message, optional, boxed, tag = "7")]
    pub optional_value: Option<Box<OptionalProto>>,
}

/// One of several kinds of `SimpleShardedDimProto`.
pub mod simple_sharded_dim {
    use super::*;

    /// Dim.
    #[derive(Clone, PartialEq, Oneof)]
    pub enum Dim {
        /// The field `dim_value`.
        #[prost(int64, tag = "1")]
        DimValue(i64),
        /// The field `dim_param`.
        #[prost(string, tag = "2")]
        DimParam(String),
    }
}

/// One of several kinds of `Dimension`.
pub mod dimension {
    use super::*;

    /// Value.
    #[derive(Clone, PartialEq, Oneof)]
    pub enum Value {
        /// The field `dim_value`.
        #[prost(int64, tag = "1")]
        DimValue(i64),
        /// The field `dim_param`.
        #[prost(string, tag = "2")]
        DimParam(String),
    }
}

/// One of several kinds of `TypeProto`.
pub mod type_proto {
    use super::*;

    /// Value.
    #[derive(Clone, PartialEq, Oneof)]
    pub enum Value {
        /// The type of a tensor.
        #[prost(message, tag = "1")]
        TensorType(TensorType),
        /// NOTE: DNN-only implementations of ONNX MAY elect to not support non-tensor values as input and output to graphs and nodes.
        #[prost(message, tag = "4")]
        SequenceType(SequenceType),
        /// The type of a map.
        #[prost(message, tag = "5")]
        MapType(MapType),
        /// The type of an optional.
        #[prost(message, boxed, tag = "9")]
        OptionalType(Box<OptionalType>),
        /// Type of the sparse tensor.
        #[prost(message, tag = "8")]
        SparseTensorType(SparseTensorType),
        /// The field `opaque_type`.
        #[prost(message, tag = "7")]
        OpaqueType(OpaqueType),
    }
}

/// Numbers of `Version`.
pub mod version {
    /// Proto3 requires the first enum value to be zero.
    pub const _START_VERSION: i32 = 0;
    /// The version field is always serialized and we will use it to store the version that the graph is generated from.
    pub const IR_VERSION_2017_10_10: i32 = 0x0000000000000001;
    /// IR_VERSION 2 published on Oct 30, 2017 - Added type discriminator to AttributeProto to support proto3 users.
    pub const IR_VERSION_2017_10_30: i32 = 0x0000000000000002;
    /// IR VERSION 3 published on Nov 3, 2017 - For operator versioning: - Added new message OperatorSetIdProto - Added opset_import in ModelProto - For vendor extensions, added domain in NodeProto.
    pub const IR_VERSION_2017_11_3: i32 = 0x0000000000000003;
    /// IR VERSION 4 published on Jan 22, 2019 - Relax constraint that initializers should be a subset of graph inputs - Add type BFLOAT16.
    pub const IR_VERSION_2019_1_22: i32 = 0x0000000000000004;
    /// IR VERSION 5 published on March 18, 2019 - Add message TensorAnnotation.
    pub const IR_VERSION_2019_3_18: i32 = 0x0000000000000005;
    /// IR VERSION 6 published on Sep 19, 2019 - Add support for sparse tensor constants stored in model.
    pub const IR_VERSION_2019_9_19: i32 = 0x0000000000000006;
    /// IR VERSION 7 published on May 8, 2020 - Add support to allow function body graph to rely on multiple external operator sets.
    pub const IR_VERSION_2020_5_8: i32 = 0x0000000000000007;
    /// IR VERSION 8 published on July 30, 2021 Introduce TypeProto.SparseTensor Introduce TypeProto.Optional Added a list of FunctionProtos local to the model Deprecated since_version and operator status from FunctionProto.
    pub const IR_VERSION_2021_7_30: i32 = 0x0000000000000008;
    /// IR VERSION 9 published on May 5, 2023 Added AttributeProto to FunctionProto so that default attribute values can be set.
    pub const IR_VERSION_2023_5_5: i32 = 0x0000000000000009;
    /// IR VERSION 10 published on March 25, 2024 Added UINT4, INT4, overload field for functions and metadata_props on multiple proto definitions.
    pub const IR_VERSION_2024_3_25: i32 = 0x000000000000000A;
    /// IR VERSION 11 published on May 12, 2025 Added FLOAT4E2M1, multi-device protobuf classes.
    pub const IR_VERSION_2025_05_12: i32 = 0x000000000000000B;
    /// IR VERSION 12 published on August 26, 2025 Added FLOAT8E8M0.
    pub const IR_VERSION_2025_08_26: i32 = 0x000000000000000C;
    /// IR VERSION 13 published on November 6, 2025 Added UINT2, INT2.
    pub const IR_VERSION_2025_11_06: i32 = 0x000000000000000D;
    /// IR VERSION 14 published on TBD Added FLOAT6E2M3, FLOAT6E3M2 and made TypeProto.Opaque available in non-ONNX-ML builds.
    pub const IR_VERSION: i32 = 0x000000000000000E;
}

/// Numbers of `AttributeProto.AttributeType`.
pub mod attribute {
    /// `UNDEFINED`.
    pub const UNDEFINED: i32 = 0;
    /// `FLOAT`.
    pub const FLOAT: i32 = 1;
    /// `INT`.
    pub const INT: i32 = 2;
    /// `STRING`.
    pub const STRING: i32 = 3;
    /// `TENSOR`.
    pub const TENSOR: i32 = 4;
    /// `GRAPH`.
    pub const GRAPH: i32 = 5;
    /// `SPARSE_TENSOR`.
    pub const SPARSE_TENSOR: i32 = 11;
    /// `TYPE_PROTO`.
    pub const TYPE_PROTO: i32 = 13;
    /// `FLOATS`.
    pub const FLOATS: i32 = 6;
    /// `INTS`.
    pub const INTS: i32 = 7;
    /// `STRINGS`.
    pub const STRINGS: i32 = 8;
    /// `TENSORS`.
    pub const TENSORS: i32 = 9;
    /// `GRAPHS`.
    pub const GRAPHS: i32 = 10;
    /// `SPARSE_TENSORS`.
    pub const SPARSE_TENSORS: i32 = 12;
    /// `TYPE_PROTOS`.
    pub const TYPE_PROTOS: i32 = 14;
}

/// Numbers of `TensorProto.DataType`.
pub mod data_type {
    /// `UNDEFINED`.
    pub const UNDEFINED: i32 = 0;
    /// Basic types.
    pub const FLOAT: i32 = 1;
    /// Float.
    pub const UINT8: i32 = 2;
    /// Uint8_t.
    pub const INT8: i32 = 3;
    /// Int8_t.
    pub const UINT16: i32 = 4;
    /// Uint16_t.
    pub const INT16: i32 = 5;
    /// Int16_t.
    pub const INT32: i32 = 6;
    /// Int32_t.
    pub const INT64: i32 = 7;
    /// Int64_t.
    pub const STRING: i32 = 8;
    /// String.
    pub const BOOL: i32 = 9;
    /// Bool IEEE754 half-precision floating-point format (16 bits wide).
    pub const FLOAT16: i32 = 10;
    /// `DOUBLE`.
    pub const DOUBLE: i32 = 11;
    /// `UINT32`.
    pub const UINT32: i32 = 12;
    /// `UINT64`.
    pub const UINT64: i32 = 13;
    /// `COMPLEX64`.
    pub const COMPLEX64: i32 = 14;
    /// Complex with float32 real and imaginary components.
    pub const COMPLEX128: i32 = 15;
    /// Complex with float64 real and imaginary components Non-IEEE floating-point format based on IEEE754 single-precision floating-point number truncated to 16 bits.
    pub const BFLOAT16: i32 = 16;
    /// Non-IEEE floating-point format based on papers FP8 Formats for Deep Learning, https://arxiv.org/abs/2209.05433, 8-bit Numerical Formats For Deep Neural Networks, https://arxiv.org/pdf/2206.02915.pdf.
    pub const FLOAT8E4M3FN: i32 = 17;
    /// Float 8, mostly used for coefficients, supports nan, not inf.
    pub const FLOAT8E4M3FNUZ: i32 = 18;
    /// Float 8, mostly used for coefficients, supports nan, not inf, no negative zero.
    pub const FLOAT8E5M2: i32 = 19;
    /// Follows IEEE 754, supports nan, inf, mostly used for gradients.
    pub const FLOAT8E5M2FNUZ: i32 = 20;
    /// Follows IEEE 754, supports nan, not inf, mostly used for gradients, no negative zero 4-bit integer data types.
    pub const UINT4: i32 = 21;
    /// Unsigned integer in range 0, 15.
    pub const INT4: i32 = 22;
    /// Signed integer in range -8, 7, using two's-complement representation 4-bit floating point data types.
    pub const FLOAT4E2M1: i32 = 23;
    /// E8M0 type used as the scale for microscaling (MX) formats: https://www.opencompute.org/documents/ocp-microscaling-formats-mx-v1-0-spec-final-pdf.
    pub const FLOAT8E8M0: i32 = 24;
    /// 2-bit integer data type.
    pub const UINT2: i32 = 25;
    /// Unsigned integer in range 0, 3.
    pub const INT2: i32 = 26;
    /// Signed integer in range -2, 1, using two's complement representation 6-bit floating point data types based on OCP MX spec FLOAT6E2M3: 1 sign, 2 exp, 3 mant FLOAT6E3M2: 1 sign, 3 exp, 2 mant.
    pub const FLOAT6E2M3: i32 = 27;
    /// `FLOAT6E3M2`.
    pub const FLOAT6E3M2: i32 = 28;
}

/// Numbers of `TensorProto.DataLocation`.
pub mod data_location {
    /// `DEFAULT`.
    pub const DEFAULT: i32 = 0;
    /// `EXTERNAL`.
    pub const EXTERNAL: i32 = 1;
}

/// Numbers of `OperatorStatus`.
pub mod operator_status {
    /// `EXPERIMENTAL`.
    pub const EXPERIMENTAL: i32 = 0;
    /// `STABLE`.
    pub const STABLE: i32 = 1;
}

/// Numbers of `SequenceProto.DataType`.
pub mod sequence_type {
    /// `UNDEFINED`.
    pub const UNDEFINED: i32 = 0;
    /// `TENSOR`.
    pub const TENSOR: i32 = 1;
    /// `SPARSE_TENSOR`.
    pub const SPARSE_TENSOR: i32 = 2;
    /// `SEQUENCE`.
    pub const SEQUENCE: i32 = 3;
    /// `MAP`.
    pub const MAP: i32 = 4;
    /// `OPTIONAL`.
    pub const OPTIONAL: i32 = 5;
}

/// Numbers of `OptionalProto.DataType`.
pub mod optional_type {
    /// `UNDEFINED`.
    pub const UNDEFINED: i32 = 0;
    /// `TENSOR`.
    pub const TENSOR: i32 = 1;
    /// `SPARSE_TENSOR`.
    pub const SPARSE_TENSOR: i32 = 2;
    /// `SEQUENCE`.
    pub const SEQUENCE: i32 = 3;
    /// `MAP`.
    pub const MAP: i32 = 4;
    /// `OPTIONAL`.
    pub const OPTIONAL: i32 = 5;
}
