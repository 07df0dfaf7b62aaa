//! What goes into a graph and comes out of it.

use rekindle_state::onnx::proto::type_proto::Value as Type;
use rekindle_state::onnx::proto::{Dimension, ValueInfoProto, dimension};

use crate::DType;
use crate::axis::Axis;

/// The number of a value in its graph.
pub type ValueId = usize;

/// An input or output of a graph.
#[derive(Debug, Clone)]
pub struct Port {
    /// Its number.
    pub id: ValueId,
    /// Its name.
    pub name: String,
    /// What kind of value it is, if the file says.
    pub kind: Kind,
    /// Whether it may be left out: an initializer of the same name is its default.
    pub optional: bool,
}

/// What kind of value flows through a port.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A tensor, with its axes if the file says them.
    Array(Option<DType>, Option<Vec<Axis>>),
    /// A sequence, an optional value or a map.
    Other(&'static str),
    /// The file does not say.
    Unknown,
}

impl Port {
    /// Reads what the file says of a value.
    pub(super) fn read(info: &ValueInfoProto, id: ValueId, optional: bool) -> Self {
        Self { id, name: info.name.clone(), kind: kind(info), optional }
    }
}

fn kind(info: &ValueInfoProto) -> Kind {
    match info.r#type.as_ref().and_then(|kind| kind.value.as_ref()) {
        Some(Type::TensorType(tensor)) => {
            let axes = tensor.shape.as_ref().map(|shape| shape.dim.iter().map(axis).collect());
            Kind::Array(DType::from_number(tensor.elem_type), axes)
        }
        Some(Type::SequenceType(_)) => Kind::Other("a sequence"),
        Some(Type::MapType(_)) => Kind::Other("a map"),
        Some(Type::OptionalType(_)) => Kind::Other("an optional value"),
        Some(Type::SparseTensorType(_)) => Kind::Other("a sparse tensor"),
        Some(Type::OpaqueType(_)) => Kind::Other("an opaque value"),
        None => Kind::Unknown,
    }
}

fn axis(axis: &Dimension) -> Axis {
    match &axis.value {
        Some(dimension::Value::DimValue(size)) => usize::try_from(*size).map_or(Axis::Any, Axis::Size),
        // `?` is what some exporters write for every open axis: each is open by itself.
        Some(dimension::Value::DimParam(name)) if !name.is_empty() && name != "?" => Axis::Named(name.clone()),
        _ => Axis::Any,
    }
}
