//! Building a graph node by node, for programs that come from elsewhere.
//!
//! The product is the message of an ONNX file and, from it, a [`Model`]: what is built runs and is written by the code
//! that
//! runs and writes files. Names are checked when they are used, weights stay where they are mapped.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;

use prost::bytes::Bytes;
use rekindle_state::Tensor;
use rekindle_state::onnx::External;
use rekindle_state::onnx::proto::{
    AttributeProto, Dimension, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TensorType, TypeProto, ValueInfoProto, attribute, dimension, type_proto,
};

use crate::axis::Axis;
use crate::{Array, DType, Error, Model, Result};

/// The name of a value of the graph.
pub type ValueName = Rc<str>;

/// An attribute of a node, to be given to [`GraphBuilder::node`].
#[derive(Debug, Clone)]
pub enum Attr {
    /// An integer.
    Int(i64),
    /// Integers.
    Ints(Vec<i64>),
    /// A float.
    Float(f32),
    /// A text.
    Text(&'static str),
    /// A text of the program's own.
    String(String),
    /// Texts.
    Texts(Vec<&'static str>),
    /// A nested graph; see [`GraphBuilder::nested`].
    Graph(Box<GraphProto>),
}

/// Builds one graph. Nested graphs have a builder each.
#[derive(Debug)]
pub struct GraphBuilder {
    graph: GraphProto,
    opset: i64,
    /// Names that can be used as inputs: those of the graphs around this one too.
    defined: HashSet<ValueName>,
    /// Constants by type, shape and bytes.
    constants: HashMap<(DType, Vec<usize>, Vec<u8>), ValueName>,
    /// Number of the next name, shared by nested graphs.
    next: usize,
    metadata: Vec<StringStringEntryProto>,
}

/// The bytes of a tensor as an owner for [`Bytes`], so that mapped weights are not copied.
struct Mapped(Tensor);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        match self.0.bytes() {
            Ok(std::borrow::Cow::Borrowed(bytes)) => bytes,
            _ => &[],
        }
    }
}

impl GraphBuilder {
    /// An empty graph whose nodes are those of an operator set of the standard domain.
    pub fn new(name: &str, opset: i64) -> Self {
        let graph = GraphProto { name: name.to_string(), ..GraphProto::default() };
        let (defined, constants) = (HashSet::new(), HashMap::new());
        Self { graph, opset, defined, constants, next: 0, metadata: Vec::new() }
    }

    /// A graph inside this one, which sees its values. Give it back through [`GraphBuilder::close`].
    pub fn nested(&self, name: &str) -> Self {
        let graph = GraphProto { name: name.to_string(), ..GraphProto::default() };
        let (defined, constants) = (self.defined.clone(), self.constants.clone());
        Self { graph, opset: self.opset, defined, constants, next: self.next, metadata: Vec::new() }
    }

    /// Numbers of names go on after those of a nested graph that is not closed yet.
    pub fn skip_names_of(&mut self, nested: &Self) {
        self.next = self.next.max(nested.next);
    }

    /// Ends a nested graph: its message, for [`Attr::Graph`]. Numbers of names go on after it.
    pub fn close(&mut self, nested: Self) -> Attr {
        self.skip_names_of(&nested);
        Attr::Graph(Box::new(nested.graph))
    }

    /// The version of the operator set.
    pub fn opset(&self) -> i64 {
        self.opset
    }

    /// A free entry of the file.
    pub fn metadata(&mut self, key: &str, value: &str) {
        self.metadata.push(StringStringEntryProto { key: key.to_string(), value: value.to_string() });
    }

    /// Whether a name is taken.
    pub fn is_defined(&self, name: &str) -> bool {
        self.defined.contains(name)
    }

    /// A name that begins with `hint` and that nothing has yet.
    pub fn fresh(&mut self, hint: &str) -> ValueName {
        loop {
            let name: ValueName = format!("{hint}_{}", self.next).into();
            self.next += 1;
            if !self.defined.contains(&name) {
                return name;
            }
        }
    }

    fn define(&mut self, name: &str) -> Result<ValueName> {
        let name: ValueName = name.into();
        if !self.defined.insert(name.clone()) {
            return Err(Error::invalid(format!("the value '{name}' is defined twice")));
        }
        Ok(name)
    }

    /// An input of the graph.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn input(&mut self, name: &str, dtype: DType, axes: &[Axis]) -> Result<ValueName> {
        let value = self.define(name)?;
        self.graph.input.push(info(name, Some(dtype), Some(axes)));
        Ok(value)
    }

    /// Names an output of the graph. Axes that are not known are left out.
    ///
    /// # Errors
    /// When nothing has computed the value.
    pub fn output(&mut self, value: &str, dtype: Option<DType>, axes: Option<&[Axis]>) -> Result<()> {
        self.check(value)?;
        self.graph.output.push(info(value, dtype, axes));
        Ok(())
    }

    /// A weight under its own name. Its bytes stay in the mapped file where they are in row-major order there.
    ///
    /// # Errors
    /// When the name is taken, the type has no ONNX number, or the values cannot be read.
    pub fn weight(&mut self, name: &str, tensor: &Tensor) -> Result<ValueName> {
        let dtype = DType::from_name(tensor.dtype().name());
        let dtype = dtype.ok_or_else(|| Error::beyond(format!("the element type {} of '{name}'", tensor.dtype())))?;
        let bytes = match tensor.bytes().map_err(|error| error.within(format_args!("tensor '{name}'")))? {
            std::borrow::Cow::Borrowed(_) => Bytes::from_owner(Mapped(tensor.clone())),
            std::borrow::Cow::Owned(bytes) => Bytes::from(bytes),
        };
        let value = self.define(name)?;
        self.graph.initializer.push(TensorProto {
            name: name.to_string(),
            data_type: dtype.number(),
            dims: tensor.shape().iter().map(|&axis| axis as i64).collect(),
            raw_data: Some(bytes),
            ..TensorProto::default()
        });
        Ok(value)
    }

    /// A constant; equal ones are stored once.
    ///
    /// # Errors
    /// When its type has no bytes of its own, such as text.
    pub fn constant(&mut self, array: &Array) -> Result<ValueName> {
        let bytes = array.data().le_bytes().ok_or_else(|| Error::beyond(format!("a constant of {}", array.dtype())))?;
        let key = (array.dtype(), array.shape().to_vec(), bytes);
        if let Some(name) = self.constants.get(&key) {
            return Ok(name.clone());
        }
        let name = self.fresh("constant");
        self.define(&name)?;
        self.graph.initializer.push(TensorProto {
            name: name.to_string(),
            data_type: key.0.number(),
            dims: key.1.iter().map(|&axis| axis as i64).collect(),
            raw_data: Some(key.2.clone().into()),
            ..TensorProto::default()
        });
        self.constants.insert(key, name.clone());
        Ok(name)
    }

    /// A node of the standard domain with `outputs` outputs; an empty input is one left out.
    ///
    /// # Errors
    /// When an input is not defined.
    pub fn node(
        &mut self,
        operator: &str,
        label: &str,
        inputs: &[&str],
        outputs: usize,
        attributes: &[(&str, Attr)],
    ) -> Result<Vec<ValueName>> {
        for input in inputs.iter().filter(|input| !input.is_empty()) {
            self.check(input)?;
        }
        let hint = operator.to_lowercase();
        let mut names = Vec::with_capacity(outputs);
        for _ in 0..outputs {
            let name = self.fresh(&hint);
            names.push(self.define(&name)?);
        }
        let name = if label.is_empty() { String::new() } else { format!("{label}/{}", names[0]) };
        let mut used = inputs;
        while let [rest @ .., ""] = used {
            used = rest;
        }
        self.graph.node.push(NodeProto {
            input: used.iter().map(ToString::to_string).collect(),
            output: names.iter().map(ToString::to_string).collect(),
            name,
            op_type: operator.to_string(),
            attribute: attributes.iter().map(|(name, value)| message(name, value)).collect(),
            ..NodeProto::default()
        });
        Ok(names)
    }

    /// The node that was built last, for instance to try it.
    pub fn last(&self) -> Option<&NodeProto> {
        self.graph.node.last()
    }

    /// Gives a value a name of choice by a node that only passes it on.
    ///
    /// # Errors
    /// When nothing has computed the value, or the name is taken.
    pub fn named(&mut self, value: &str, name: &str) -> Result<ValueName> {
        self.check(value)?;
        let named = self.define(name)?;
        self.graph.node.push(NodeProto {
            input: vec![value.to_string()],
            output: vec![name.to_string()],
            op_type: "Identity".to_string(),
            ..NodeProto::default()
        });
        Ok(named)
    }

    fn check(&self, value: &str) -> Result<()> {
        if self.defined.contains(value) {
            return Ok(());
        }
        Err(Error::invalid(format!("nothing computes the value '{value}'")))
    }

    /// The message of a file that holds the graph. Nodes whose outputs nobody reads, and weights that no node reads,
    /// are left out.
    pub fn finish(mut self, producer: &str) -> ModelProto {
        sweep(&mut self.graph, true);
        ModelProto {
            ir_version: 10,
            producer_name: producer.to_string(),
            producer_version: env!("CARGO_PKG_VERSION").to_string(),
            graph: Some(self.graph),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: self.opset }],
            metadata_props: self.metadata,
            ..ModelProto::default()
        }
    }
}

/// The model of a message that was built in memory.
///
/// # Errors
/// As [`Model::open`].
pub fn model_of(proto: &ModelProto) -> Result<Model> {
    Model::from_proto(proto, &mut External::new(Path::new("")))
}

/// Leaves out what no output needs.
fn sweep(graph: &mut GraphProto, top: bool) {
    let mut needed: HashSet<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    for node in graph.node.iter_mut().rev() {
        for nested in node.attribute.iter_mut().filter_map(|attribute| attribute.g.as_mut()) {
            sweep(nested, false);
        }
        if node.output.iter().any(|output| needed.contains(output)) {
            needed.extend(node.input.iter().cloned());
            node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()).for_each(|nested| {
                captured(nested, &mut needed);
            });
        }
    }
    graph.node.retain(|node| node.output.iter().any(|output| needed.contains(output)));
    if top {
        graph.initializer.retain(|weight| needed.contains(&weight.name));
    }
}

fn captured(graph: &GraphProto, needed: &mut HashSet<String>) {
    needed.extend(graph.output.iter().map(|output| output.name.clone()));
    for node in &graph.node {
        needed.extend(node.input.iter().cloned());
        node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()).for_each(|nested| captured(nested, needed));
    }
}

fn info(name: &str, dtype: Option<DType>, axes: Option<&[Axis]>) -> ValueInfoProto {
    let axis = |axis: &Axis| Dimension {
        value: match axis {
            Axis::Size(size) => Some(dimension::Value::DimValue(*size as i64)),
            Axis::Named(name) => Some(dimension::Value::DimParam(name.clone())),
            Axis::Any => None,
        },
        ..Dimension::default()
    };
    let tensor = dtype.map(|dtype| TensorType {
        elem_type: dtype.number(),
        shape: axes.map(|axes| TensorShapeProto { dim: axes.iter().map(axis).collect() }),
    });
    let kind =
        tensor.map(|tensor| TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() });
    ValueInfoProto { name: name.to_string(), r#type: kind, ..ValueInfoProto::default() }
}

fn message(name: &str, value: &Attr) -> AttributeProto {
    let mut proto = AttributeProto { name: name.to_string(), ..AttributeProto::default() };
    match value {
        Attr::Int(value) => (proto.r#type, proto.i) = (attribute::INT, *value),
        Attr::Ints(values) => (proto.r#type, proto.ints) = (attribute::INTS, values.clone()),
        Attr::Float(value) => (proto.r#type, proto.f) = (attribute::FLOAT, *value),
        Attr::Text(text) => (proto.r#type, proto.s) = (attribute::STRING, Bytes::from_static(text.as_bytes())),
        Attr::String(text) => (proto.r#type, proto.s) = (attribute::STRING, text.clone().into()),
        Attr::Texts(texts) => {
            let texts = texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect();
            (proto.r#type, proto.strings) = (attribute::STRINGS, texts);
        }
        Attr::Graph(graph) => (proto.r#type, proto.g) = (attribute::GRAPH, Some((**graph).clone())),
    }
    proto
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostOnly, Session};

    #[test]
    fn what_is_built_runs_and_keeps_no_unused_node() -> Result<()> {
        let mut builder = GraphBuilder::new("g", 18);
        let x = builder.input("x", DType::F32, &[Axis::Named("n".to_string()), Axis::Size(2)])?;
        let w = builder.weight("fc.weight", &Tensor::from_f32(&[2, 1], &[2.0, 3.0])?)?;
        let y = builder.node("MatMul", "fc", &[&x, &w], 1, &[])?;
        let one = builder.constant(&Array::scalar(1.0_f32))?;
        assert_eq!(one, builder.constant(&Array::scalar(1.0_f32))?);
        builder.node("Relu", "", &[&y[0]], 1, &[])?;
        let y = builder.node("Add", "", &[&y[0], &one], 1, &[])?;
        builder.named(&y[0], "y")?;
        builder.output("y", Some(DType::F32), None)?;
        assert!(builder.node("Relu", "", &["nowhere"], 1, &[]).is_err());
        let proto = builder.finish("test");
        assert_eq!(proto.graph.as_ref().map(|graph| graph.node.len()), Some(3));
        let session = Session::new(model_of(&proto)?, HostOnly)?;
        let x = Array::new(vec![1, 2], vec![1.0_f32, 1.0])?;
        let outputs = session.run(vec![("x".to_string(), x.into())])?;
        assert_eq!(outputs[0].array()?.floats()?, [6.0]);
        Ok(())
    }
}
