//! From the messages of a file to a graph that can run.

use rekindle_state::onnx::External;
use rekindle_state::onnx::proto::{FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto};

use super::domain::normal;
use super::functions::{self, Functions};
use super::scope::{Outer, Scope};
use super::{Attribute, Attributes, Body, Control, Graph, Model, Node, Port, Weight, order, weight};
use crate::error::Reason;
use crate::operator::{NEWEST, Schema};
use crate::{Array, Error, Result, ops};

/// Nodes of all graphs and calls of functions together: a small file may not unfold into more.
const MAX_NODES: usize = 1_000_000;
/// Graphs in graphs and functions that call functions, at most this deep: they are read and run by recursion.
const MAX_DEPTH: usize = 64;

pub(super) fn model(proto: &ModelProto, external: &mut External) -> Result<Model> {
    let graph = proto.graph.as_ref().ok_or_else(|| Error::invalid("the ONNX model has no graph"))?;
    let mut builder = Builder { functions: Functions::new(&proto.functions), external, graphs: 0, nodes: 0, depth: 0 };
    let graph = builder.graph(graph, None, &proto.opset_import)?;
    let opsets = proto.opset_import.iter().map(|set| (normal(&set.domain).to_string(), set.version)).collect();
    let metadata = proto.metadata_props.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect();
    Ok(Model { graph, ir_version: proto.ir_version, opsets, metadata, graphs: builder.graphs })
}

struct Builder<'m> {
    functions: Functions<'m>,
    external: &'m mut External,
    /// Graphs so far.
    graphs: usize,
    /// Nodes so far.
    nodes: usize,
    /// Graphs and calls of functions that the current node is in.
    depth: usize,
}

impl Builder<'_> {
    fn graph(
        &mut self,
        proto: &GraphProto,
        outer: Option<&mut dyn Outer>,
        opsets: &[OperatorSetIdProto],
    ) -> Result<Graph> {
        if self.depth == MAX_DEPTH {
            return Err(Error::invalid(format!("graphs and functions are nested more than {MAX_DEPTH} deep")));
        }
        self.depth += 1;
        let id = self.graphs;
        self.graphs += 1;
        let mut scope = Scope::new(outer);
        let mut constants = Vec::new();
        for tensor in &proto.initializer {
            constants.push((scope.define(&tensor.name)?, weight::read(tensor, self.external)?));
        }
        for sparse in &proto.sparse_initializer {
            let name = sparse.values.as_ref().map_or("", |values| values.name.as_str());
            constants.push((scope.define(name)?, weight::read_sparse(sparse, self.external)?.into()));
        }
        let mut inputs = Vec::new();
        for info in &proto.input {
            match scope.own(&info.name) {
                // Before version 4 of the format weights were inputs too; since then such an input has a default.
                Some(id) => inputs.push(Port::read(info, id, true)),
                None => inputs.push(Port::read(info, scope.define(&info.name)?, false)),
            }
        }
        let mut nodes = Vec::new();
        for position in order::order(&proto.node)? {
            self.node(&proto.node[position], &mut scope, opsets, &mut nodes, &mut constants)?;
        }
        let mut outputs = Vec::new();
        for info in &proto.output {
            let id = scope.resolve(&info.name);
            let id = id.ok_or_else(|| Error::invalid(format!("nothing computes the output '{}'", info.name)))?;
            outputs.push(Port::read(info, id, false));
        }
        let mut graph = Graph { id, inputs, outputs, nodes, constants, captures: scope.captures, names: scope.names };
        graph.note_frees();
        self.depth -= 1;
        Ok(graph)
    }

    fn node(
        &mut self,
        proto: &NodeProto,
        scope: &mut Scope<'_>,
        opsets: &[OperatorSetIdProto],
        nodes: &mut Vec<Node>,
        constants: &mut Vec<(usize, Weight)>,
    ) -> Result<()> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Error::invalid(format!("the model unfolds into more than {MAX_NODES} nodes")));
        }
        let first = proto.output.iter().find(|name| !name.is_empty()).map_or("", String::as_str);
        let name = if proto.name.is_empty() { first } else { &proto.name };
        let here = |error: Error| error.in_node(name, &proto.op_type);
        let domain = normal(&proto.domain);
        let version = opsets.iter().find(|set| normal(&set.domain) == domain).map_or(1, |set| set.version);
        let mut inputs = Vec::new();
        for input in &proto.input {
            inputs.push(if input.is_empty() {
                None
            } else {
                let id = scope.resolve(input);
                Some(id.ok_or_else(|| here(Error::invalid(format!("nothing computes its input '{input}'"))))?)
            });
        }
        let mut attributes = Attributes::default();
        for attribute in &proto.attribute {
            if let Some(value) = Attribute::read(attribute, self.external).map_err(here)? {
                attributes.insert(attribute.name.clone(), value);
            }
        }
        if domain.is_empty() && proto.op_type == "Constant" {
            let value = constant(&attributes).map_err(here)?;
            constants.push((scope.define(first)?, value.into()));
            return Ok(());
        }
        let body = self.body(proto, domain, version, scope, opsets)?;
        let define = |output: &String| if output.is_empty() { Ok(None) } else { scope.define(output).map(Some) };
        let outputs = proto.output.iter().map(define).collect::<Result<_>>()?;
        let mut node = Node {
            name: name.to_string(),
            operator: proto.op_type.clone(),
            domain: domain.to_string(),
            version,
            inputs,
            outputs,
            attributes,
            body,
            frees: Vec::new(),
        };
        if let Body::Missing(Reason::Unknown) = node.body
            && let Some(entry) = ops::find(domain, &proto.op_type)
        {
            node.body = match refused(&entry.schema, version) {
                Some(reason) => Body::Missing(reason),
                None => Body::Operator(entry.parse(&node.raw()).map_err(here)?),
            };
        }
        nodes.push(node);
        Ok(())
    }

    fn body(
        &mut self,
        proto: &NodeProto,
        domain: &str,
        version: i64,
        scope: &mut Scope<'_>,
        opsets: &[OperatorSetIdProto],
    ) -> Result<Body> {
        if let Some(function) = self.functions.called(proto) {
            return self.call(function, proto, opsets).map(|graph| Body::Function(Box::new(graph)));
        }
        let control = match (domain, proto.op_type.as_str()) {
            ("", "If") => Some(Control::If),
            ("", "Loop") => Some(Control::Loop),
            ("", "Scan") => Some(Control::Scan),
            ("", "SequenceMap") => Some(Control::SequenceMap),
            ("ai.onnx.preview", "FlexAttention") => Some(Control::FlexAttention),
            _ => None,
        };
        if let Some(control) = control {
            let mut graphs = Vec::new();
            for attribute in &proto.attribute {
                for graph in attribute.g.iter().chain(&attribute.graphs) {
                    graphs.push((attribute.name.clone(), self.graph(graph, Some(scope), opsets)?));
                }
            }
            let schema = ops::schema(domain, &proto.op_type);
            if let Some(reason) = schema.and_then(|schema| refused(schema, version)) {
                return Ok(Body::Missing(reason));
            }
            return Ok(Body::Control(control, graphs));
        }
        // What computes values is parsed when all of the node is known.
        Ok(Body::Missing(Reason::Unknown))
    }

    /// The body of a function as a graph whose inputs and outputs are those of the call, by position.
    fn call(&mut self, function: &FunctionProto, call: &NodeProto, opsets: &[OperatorSetIdProto]) -> Result<Graph> {
        let mut proto = functions::instance(function, call);
        let named =
            |name: &String| rekindle_state::onnx::proto::ValueInfoProto { name: name.clone(), ..Default::default() };
        proto.input = function.input.iter().map(named).collect();
        proto.output = function.output.iter().map(named).collect();
        self.graph(&proto, None, &functions::opsets(function, opsets))
    }
}

/// Why an operator is not run at a version of its operator set, if so.
fn refused(schema: &Schema, version: i64) -> Option<Reason> {
    let newest = NEWEST.iter().find(|(domain, _)| *domain == schema.domain).map(|(_, newest)| *newest);
    match (newest, schema.since.first()) {
        (Some(newest), _) if version > newest => Some(Reason::Newer(newest)),
        (_, Some(&since)) if version < since => Some(Reason::Later(since)),
        _ => None,
    }
}

/// The value of a `Constant` node.
fn constant(attributes: &Attributes) -> Result<Array> {
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    match attributes.iter().next() {
        Some(("value" | "sparse_value", Attribute::Array(array))) => Ok(array.clone()),
        Some(("value_float", Attribute::Float(value))) => Ok(Array::scalar(*value)),
        Some(("value_int", Attribute::Int(value))) => Ok(Array::scalar(*value)),
        Some(("value_string", Attribute::Str(value))) => Ok(Array::scalar(text(value))),
        Some(("value_floats", Attribute::Floats(values))) => Ok(Array::vector(values.clone())),
        Some(("value_ints", Attribute::Ints(values))) => Ok(Array::vector(values.clone())),
        Some(("value_strings", Attribute::Strs(values))) => Ok(Array::vector(values.iter().map(text).collect())),
        _ => Err(Error::invalid("it holds no value")),
    }
}
