//! Operators, a module for each family. Each family has a table `OPERATORS` with a row for each of its operators: the schema
//! and the function that parses a node of it. To add an operator, add a row (and a line of [`FAMILIES`] for a new file).
//!
//! What is parsed evaluates by the plain definition: outputs that nobody wants may be given all the same. Values come from
//! files of strangers: shapes are checked before anything is indexed.

mod activation;
mod attention;
mod binary;
mod casting;
mod conv;
mod conv_deform;
mod conv_quantized;
mod cumulative;
mod detection;
mod einsum;
mod erf;
mod flex_attention;
mod fourier;
mod fused;
mod fused_activation;
mod gather;
mod grid_sample;
mod group_query;
mod image_decoder;
mod inputs;
mod layer_norm;
mod loss;
mod matmul;
mod mersenne;
mod microsoft;
mod microsoft_attention;
mod microsoft_quantized;
mod ml;
mod movement;
mod ngrams;
mod normalize;
mod order;
mod padding;
mod pool;
mod pool_regions;
mod product;
mod quantize;
mod random;
mod real;
mod recurrent;
mod recurrent_activation;
mod recurrent_attention;
mod reduce;
mod resize;
mod resize_axis;
mod scatter;
mod sequence;
mod shape;
mod shared;
mod signal;
mod softmax;
mod text;
mod training;
mod unary;
mod vector_math;
mod window;

pub use activation::{Activation, Clip, Dropout};
pub use attention::Attention;
pub use casting::Cast;
pub use conv::{Conv, ConvTranspose};
pub use einsum::{Einsum, Label};
pub(crate) use flex_attention::flex_attention;
pub(crate) use fused::OPERATORS as FUSED_OPERATORS;
pub use fused::{BiasedMatMul, Fused, merged};
pub use fused_activation::FusedActivation;
pub use gather::{Gather, GatherElements, GatherNd};
pub use inputs::Inputs;
pub use layer_norm::{LayerNormalization, RmsNormalization};
pub use matmul::Gemm;
pub use movement::{Blocks, Concat, Cut, Moves, Slice, Split, Transpose};
pub use normalize::{BatchNormalization, GroupNormalization, InstanceNormalization};
pub use padding::Pad;
pub use pool::{AveragePool, MaxPool};
pub use recurrent::{Cell, Recurrent};
pub use reduce::Reduce;
pub use resize::{Policy, Resize, Upsample};
pub use resize_axis::{Coordinates, Kernel, Nearest};
pub use scatter::{Reduction, Scatter};
pub use shape::{Flatten, Reshape, Shape, SingleAxes};
pub(crate) use shared::{around, concat};
use shared::{dtype_attribute, one, sizes};
pub use softmax::{Kind as SoftmaxKind, Softmax};
pub use window::{Padding, Segment, Window, Windows};

use std::collections::HashMap;
use std::path::Path;
use std::sync::LazyLock;

use rekindle_state::onnx::External;
use rekindle_state::onnx::proto::NodeProto;

use crate::infer::Fact;
use crate::operator::{ANY, Entry, RawNode, Schema};
use crate::{Attribute, Attributes, Result};

/// All operators that compute values: a row for each, a table for each family.
pub const FAMILIES: &[&[Entry]] = &[
    activation::OPERATORS,
    attention::OPERATORS,
    binary::OPERATORS,
    casting::OPERATORS,
    conv::OPERATORS,
    conv_deform::OPERATORS,
    conv_quantized::OPERATORS,
    cumulative::OPERATORS,
    detection::OPERATORS,
    einsum::OPERATORS,
    gather::OPERATORS,
    grid_sample::OPERATORS,
    group_query::OPERATORS,
    image_decoder::OPERATORS,
    layer_norm::OPERATORS,
    loss::OPERATORS,
    matmul::OPERATORS,
    microsoft::OPERATORS,
    microsoft_attention::OPERATORS,
    microsoft_quantized::OPERATORS,
    ml::encode::OPERATORS,
    ml::features::OPERATORS,
    ml::linear::OPERATORS,
    ml::maps::OPERATORS,
    ml::svm::OPERATORS,
    ml::trees::OPERATORS,
    movement::OPERATORS,
    ngrams::OPERATORS,
    normalize::OPERATORS,
    order::OPERATORS,
    padding::OPERATORS,
    pool::OPERATORS,
    pool_regions::OPERATORS,
    quantize::OPERATORS,
    random::OPERATORS,
    recurrent::OPERATORS,
    recurrent_attention::OPERATORS,
    reduce::OPERATORS,
    resize::OPERATORS,
    scatter::OPERATORS,
    sequence::OPERATORS,
    shape::OPERATORS,
    signal::OPERATORS,
    softmax::OPERATORS,
    text::OPERATORS,
    training::OPERATORS,
    unary::OPERATORS,
];

/// Operators that run nested graphs or are constants: the interpreter itself knows them.
pub const CONTROL: &[Schema] = &[
    Schema::new("Constant", &[1, 9, 11, 12, 13, 19, 21, 23, 24, 25], (0, 0)),
    Schema::new("If", &[1, 11, 13, 16, 19, 21, 23, 24, 25], (1, 1)),
    Schema::new("Loop", &[1, 11, 13, 16, 19, 21, 23, 24, 25], (2, ANY)),
    Schema::new("Scan", &[8, 9, 11, 16, 19, 21, 23, 24, 25], (1, ANY)),
    Schema::new("SequenceMap", &[17], (1, ANY)),
    Schema::of("ai.onnx.preview", "FlexAttention", &[1], (3, 3)),
];

static BY_NAME: LazyLock<HashMap<(&str, &str), &Entry>> = LazyLock::new(|| {
    let entries = FAMILIES.iter().flat_map(|family| family.iter());
    entries.map(|entry| ((entry.schema.domain, entry.schema.name), entry)).collect()
});

/// The operator of a domain (empty for the standard one) and name.
pub fn find(domain: &str, operator: &str) -> Option<&'static Entry> {
    BY_NAME.get(&(domain, operator)).copied()
}

/// The schema of an operator, those that run nested graphs included.
pub fn schema(domain: &str, operator: &str) -> Option<&'static Schema> {
    let control = CONTROL.iter().find(|schema| schema.domain == domain && schema.name == operator);
    control.or_else(|| find(domain, operator).map(|entry| &entry.schema))
}

/// Types and shapes of the outputs of a node of a file, as far as those of its inputs tell. `version` is that of the operator
/// set. Tensors of attributes are taken from the file itself, not from files beside it.
///
/// # Errors
/// When an attribute is wrong, or the inputs can't be right.
pub fn infer(node: &NodeProto, version: i64, inputs: &[Fact]) -> Result<Vec<Fact>> {
    let Some(entry) = find(&node.domain, &node.op_type) else { return Ok(Vec::new()) };
    let mut attributes = Attributes::default();
    for attribute in &node.attribute {
        if let Some(value) = Attribute::read(attribute, &mut External::new(Path::new("")))? {
            attributes.insert(attribute.name.clone(), value);
        }
    }
    let outputs = node.output.iter().map(|name| !name.is_empty()).collect();
    let raw = RawNode { operator: node.op_type.clone(), version, attributes, inputs: node.input.len(), outputs };
    entry.parse(&raw)?.infer(inputs)
}
