//! An exported program, node by node, to a graph.

use std::collections::HashMap;

use indexmap::IndexMap;
use rekindle_onnx::Axis;
use rekindle_state::{Tensor, Value as Stored};
use serde_json::Value as Json;

use super::Exported;
use super::json::{Graph, Node, Size, TensorMeta, case};
use crate::error::{Missing, Place};
use crate::lower::{Args, Dim, Int, Layout, Lower, Mode, TensorId, Value};
use crate::program::{Buffer, Input, Lowered, Parameter};
use crate::{Error, Result, schema};

/// How deep branches may be nested.
pub(super) const MAX_DEPTH: usize = 64;

impl Exported {
    /// Lowers the program; `state` adds an output for each buffer that it changes.
    pub fn lower(&self, mode: Mode, state: bool) -> Result<Lowered> {
        let missing = missing(&self.program.graph_module.graph);
        if !missing.is_empty() {
            return Err(Error::Missing(missing));
        }
        let stem = self.path.file_stem().map_or("program".into(), |stem| stem.to_string_lossy().into_owned());
        let mut run = Run {
            l: Lower::new(&stem, 1, mode),
            values: HashMap::new(),
            inputs: Vec::new(),
            parameters: Vec::new(),
            buffers: Vec::new(),
        };
        run.inputs(self)?;
        let graph = &self.program.graph_module.graph;
        run.nodes(graph, 0)?;
        let outputs = run.outputs(self)?;
        let mutations = run.mutations(self)?;
        let mut buffers = Vec::new();
        for (buffer, tensor) in std::mem::take(&mut run.buffers) {
            let changed = mutations.get(&buffer.name).copied().or_else(|| {
                let written = run.l.state(tensor).version > 0;
                written.then_some(tensor)
            });
            let mut buffer = buffer;
            if let (Some(tensor), true) = (changed, state) {
                let value = run.l.value(tensor)?;
                let name = format!("state:{}", buffer.name);
                let named = run.l.builder.named(&value, &name)?;
                let axes = axes(&run.l.state(tensor).shape);
                run.l.builder.output(&named, Some(run.l.dtype(tensor)), Some(&axes))?;
                buffer.output = Some(name);
            }
            buffers.push(buffer);
        }
        run.l.builder.metadata("rekindle.source", "torch.export");
        let proto = run.l.builder.finish("rekindle");
        Ok(Lowered { proto, inputs: run.inputs, outputs, parameters: run.parameters, buffers })
    }

    /// The tensor of a weight, buffer or constant.
    pub(super) fn weight(&self, name: &str) -> Result<&Tensor> {
        match self.weights.get(name) {
            Some(Stored::Tensor(tensor)) => Ok(tensor),
            Some(other) => {
                Err(Error::beyond(format!("'{name}' of type {}, which is no plain tensor,", other.type_name())))
            }
            None => Err(Error::invalid(format!("the archive holds no tensor '{name}', which the program needs"))),
        }
    }
}

/// What functional programs copy with, where strides are to stay as they were.
const COPY_STRIDED: &str = "torch.ops.prims.copy_strided.default";

/// An operator whose place among others matters, a check for example: a token comes before its arguments and its results.
const EFFECTS: &str = "torch.ops.higher_order.with_effects";

/// Operators that are not known, with how often and where first.
pub(super) fn missing(graph: &Graph) -> Vec<Missing> {
    let mut found: IndexMap<String, Missing> = IndexMap::new();
    fn walk(graph: &Graph, found: &mut IndexMap<String, Missing>, depth: usize) {
        for node in &graph.nodes {
            let (name, _) = split_target(&node.target);
            let known = match is_operator(&node.target) {
                true => is_size_operator(&name) || crate::lower::is_known(&name),
                false => {
                    node.target == COPY_STRIDED
                        || is_python(&node.target)
                        || node.target.starts_with("torch.ops.higher_order.")
                }
            };
            let known = known && (!node.target.starts_with("torch.ops.higher_order.") || is_higher(&node.target));
            if !known {
                let operator = node.target.strip_prefix("torch.ops.").unwrap_or(&node.target);
                let entry = found.entry(operator.to_string()).or_insert_with(|| Missing {
                    operator: operator.to_string(),
                    count: 0,
                    first: place(node),
                });
                entry.count += 1;
            }
            if depth < MAX_DEPTH {
                for graph in node.inputs.iter().filter_map(|input| nested(&input.arg)).flatten() {
                    walk(&graph, found, depth + 1);
                }
            }
        }
    }
    walk(graph, &mut found, 0);
    found.into_values().collect()
}

/// The graph of an argument that is one.
pub(super) fn nested(arg: &Json) -> Option<Result<Graph>> {
    let graph = arg.get("as_graph")?.get("graph")?;
    Some(Graph::deserialize_from(graph))
}

impl Graph {
    fn deserialize_from(json: &Json) -> Result<Self> {
        serde::Deserialize::deserialize(json).map_err(|error| Error::invalid(format!("a branch is no graph: {error}")))
    }
}

fn is_higher(target: &str) -> bool {
    matches!(target, "torch.ops.higher_order.cond" | "torch.ops.higher_order.wrap_with_set_grad_enabled" | EFFECTS)
}

/// Operators on sizes and checks, which are not in the tables of lowerings.
fn is_size_operator(name: &str) -> bool {
    matches!(
        name,
        "sym_size"
            | "sym_numel"
            | "sym_stride"
            | "sym_storage_offset"
            | "_assert_scalar"
            | "_assert_async"
            | "_assert_tensor_metadata"
            | "sym_constrain_range"
            | "sym_constrain_range_for_size"
            | "_linalg_check_errors"
    )
}

fn is_python(target: &str) -> bool {
    let name = target.rsplit('.').next().unwrap_or(target);
    let known = matches!(
        name,
        "add"
            | "sub"
            | "mul"
            | "floordiv"
            | "truediv"
            | "mod"
            | "pow"
            | "neg"
            | "ge"
            | "le"
            | "gt"
            | "lt"
            | "eq"
            | "ne"
            | "and_"
            | "or_"
            | "not_"
            | "sym_max"
            | "sym_min"
            | "sym_int"
            | "sym_float"
            | "sym_not"
            | "trunc"
            | "ceil"
            | "floor"
            | "sym_sum"
    );
    known && (target.starts_with("_operator.") || target.starts_with("math.") || target.starts_with("torch."))
}

/// Whether a target is one of the operators that have rows.
fn is_operator(target: &str) -> bool {
    ["aten.", "torchvision.", "quantized_decomposed."]
        .iter()
        .any(|space| target.strip_prefix("torch.ops.").is_some_and(|target| target.starts_with(space)))
}

/// `torch.ops.aten.add.Tensor` as `("add", "Tensor")`, `torch.ops.torchvision.nms.default` as `("torchvision::nms", "")`.
fn split_target(target: &str) -> (String, String) {
    let rest = target.strip_prefix("torch.ops.aten.").map(str::to_string);
    let rest = rest.or_else(|| Some(target.strip_prefix("torch.ops.")?.replacen('.', "::", 1)));
    let rest = rest.unwrap_or_else(|| target.to_string());
    match rest.rsplit_once('.') {
        Some((name, overload)) => {
            (name.to_string(), if overload == "default" { String::new() } else { overload.to_string() })
        }
        None => (rest, String::new()),
    }
}

/// The module and source line of a node.
pub(super) fn place(node: &Node) -> Place {
    let stack = node.metadata.get("nn_module_stack").map(String::as_str).unwrap_or_default();
    // Entries are `key,path,class`, the innermost last. Older paths read `L['self'].layer1`.
    let path = stack.rsplit(';').find_map(|entry| entry.split(',').nth(1)).unwrap_or_default();
    let module = path
        .replace("L['self'].", "")
        .replace("L['self']", "")
        .replace("getattr(", "")
        .replace(['\'', ' ', ')', '"'], "");
    let trace = node.metadata.get("stack_trace").map(String::as_str).unwrap_or_default();
    let line = trace.lines().rev().find_map(|line| line.trim().strip_prefix("File \"")?.split_once("\", line "));
    let source = line.map_or(String::new(), |(file, rest)| {
        let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
        format!("{}:{number}", file.rsplit('/').next().unwrap_or(file))
    });
    Place { module, source }
}

pub(super) fn axes(shape: &[Dim]) -> Vec<Axis> {
    shape.iter().map(|dim| dim.size().map_or(Axis::Any, Axis::Size)).collect()
}

pub(super) struct Run {
    pub(super) l: Lower,
    /// Values of the program by name.
    pub(super) values: HashMap<String, Value>,
    pub(super) inputs: Vec<Input>,
    pub(super) parameters: Vec<Parameter>,
    pub(super) buffers: Vec<(Buffer, TensorId)>,
}

pub(super) fn name_of<'j>(json: &'j Json, field: &str) -> Result<&'j str> {
    json.get(field).and_then(Json::as_str).ok_or_else(|| Error::invalid(format!("an entry without '{field}': {json}")))
}

pub(super) fn meta<'g>(graph: &'g Graph, name: &str) -> Result<&'g TensorMeta> {
    graph.tensor_values.get(name).ok_or_else(|| Error::invalid(format!("the program does not describe '{name}'")))
}

pub(super) fn sizes(meta: &TensorMeta) -> Result<Vec<Size>> {
    meta.sizes.iter().map(Size::read).collect()
}

pub(super) fn dims(sizes: &[Size]) -> Result<Vec<Dim>> {
    sizes
        .iter()
        .map(|size| match size {
            Size::Known(size) => {
                usize::try_from(*size).map(Dim::Size).map_err(|_| Error::invalid(format!("a size of {size}")))
            }
            Size::Open { .. } => Ok(Dim::Open),
        })
        .collect()
}

/// How a tensor is stored in the example that was exported.
pub(super) fn layout(meta: &TensorMeta) -> Option<Layout> {
    let hints = |all: &[Json]| all.iter().map(|size| Size::read(size).ok()?.hint()).collect::<Option<Vec<i64>>>();
    let (sizes, strides) = (hints(&meta.sizes)?, hints(&meta.strides)?);
    (sizes.len() == strides.len()).then_some(Layout { sizes, strides })
}

impl Run {
    pub(super) fn nodes(&mut self, graph: &Graph, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::invalid(format!("branches are nested more than {MAX_DEPTH} deep")));
        }
        for node in &graph.nodes {
            self.l.place = place(node);
            let at = self.l.place.clone();
            let operator = node.target.strip_prefix("torch.ops.").unwrap_or(&node.target).to_string();
            self.node(graph, node, depth).map_err(|error| error.at_operator(&operator, &at))?;
        }
        Ok(())
    }

    pub(super) fn node(&mut self, graph: &Graph, node: &Node, depth: usize) -> Result<()> {
        let results = match node.target.as_str() {
            "torch.ops.higher_order.cond" => self.cond(graph, node, depth)?,
            "torch.ops.higher_order.wrap_with_set_grad_enabled" => self.wrapped(node, depth)?,
            EFFECTS => {
                let operator = node.inputs.get(1).and_then(|input| input.arg.get("as_operator")?.as_str());
                let (name, _) = split_target(operator.unwrap_or_default());
                if !is_size_operator(&name) {
                    return Err(Error::beyond(format!("{name} with effects")));
                }
                Vec::new()
            }
            target if is_operator(target) => {
                let (name, overload) = split_target(target);
                if is_size_operator(&name) {
                    self.size_operator(&name, node)?
                } else {
                    self.operator(&name, &overload, node)?
                }
            }
            // The same elements, stored in another way.
            COPY_STRIDED => {
                let first = node.inputs.first().ok_or_else(|| Error::invalid("a copy of nothing"))?;
                let x = self.argument(&first.arg)?.tensor()?;
                let (value, dtype, shape) = (self.l.value(x)?, self.l.dtype(x), self.l.state(x).shape.clone());
                vec![Value::Tensor(self.l.tensor_of(value, dtype, shape))]
            }
            target => {
                let name = target.rsplit('.').next().unwrap_or(target).to_string();
                let values: Vec<Value> =
                    node.inputs.iter().map(|input| self.argument(&input.arg)).collect::<Result<_>>()?;
                vec![crate::sizes::python(&mut self.l, &name, &values)?]
            }
        };
        self.results(graph, node, results)
    }

    /// Names of the outputs of a node, in order; lists flattened.
    fn results(&mut self, graph: &Graph, node: &Node, results: Vec<Value>) -> Result<()> {
        let mut names = Vec::new();
        for output in &node.outputs {
            let (kind, value) = case(output)?;
            match kind {
                "as_tensor" => names.push(Some(name_of(value, "name")?)),
                "as_tensors" => {
                    for tensor in value.as_array().into_iter().flatten() {
                        names.push(Some(name_of(tensor, "name")?));
                    }
                }
                "as_optional_tensors" => {
                    for tensor in value.as_array().into_iter().flatten() {
                        names.push(tensor.get("as_tensor").map(|tensor| name_of(tensor, "name")).transpose()?);
                    }
                }
                "as_sym_int" | "as_sym_bool" | "as_sym_float" => {
                    names.push(value.get("as_name").and_then(Json::as_str))
                }
                "as_none" => names.push(None),
                other => return Err(Error::beyond(format!("an output of kind '{other}'"))),
            }
        }
        let mut flat = Vec::new();
        for result in results {
            match result {
                Value::List(values) => flat.extend(values),
                other => flat.push(other),
            }
        }
        for (at, name) in names.into_iter().enumerate() {
            let Some(name) = name else { continue };
            let value = flat.get(at).cloned().unwrap_or(Value::None);
            match value {
                Value::Tensor(id) => self.described(graph, name, id)?,
                Value::Complex(re, im) => {
                    self.described_part(graph, name, re)?;
                    self.described_part(graph, name, im)?;
                }
                _ => {}
            }
            self.values.insert(name.to_string(), value);
        }
        Ok(())
    }

    fn operator(&mut self, name: &str, overload: &str, node: &Node) -> Result<Vec<Value>> {
        let schema = schema::find(name, overload);
        let schema = schema.ok_or_else(|| Error::beyond(format!("the form '{overload}' of aten.{name}")))?;
        let mut values = Vec::new();
        for argument in &schema.arguments {
            let given = node.inputs.iter().find(|input| input.name == argument.name);
            let value = match given {
                Some(given) => self.argument(&given.arg)?,
                None => crate::sizes::default_value(argument)
                    .ok_or_else(|| Error::invalid(format!("the argument '{}' is left out", argument.name)))?,
            };
            values.push((argument.name.to_string(), crate::sizes::shaped(argument, value)));
        }
        if let Some(extra) =
            node.inputs.iter().find(|input| !schema.arguments.iter().any(|argument| argument.name == input.name))
        {
            return Err(Error::beyond(format!("the argument '{}' of aten.{name}", extra.name)));
        }
        self.l.call(&Args { operator: name.to_string(), overload: overload.to_string(), values })
    }

    fn size_operator(&mut self, name: &str, node: &Node) -> Result<Vec<Value>> {
        let given = |name: &str| node.inputs.iter().find(|input| input.name == name).map(|input| &input.arg);
        match name {
            "sym_size" => {
                let tensor = self.argument(given("self").unwrap_or(&Json::Null))?.tensor()?;
                let Some(dim) = given("dim") else { return Err(Error::beyond("all sizes at once")) };
                let Value::Int(Int::Known(dim)) = self.argument(dim)? else {
                    return Err(Error::invalid("a dimension that is no number"));
                };
                let axis = self.l.axis(tensor, dim)?;
                Ok(vec![Value::Int(self.l.size_int(tensor, axis)?)])
            }
            "sym_numel" => {
                let tensor = self.argument(given("self").unwrap_or(&Json::Null))?.tensor()?;
                let mut total = Int::Known(1);
                for axis in 0..self.l.rank(tensor) {
                    let size = self.l.size_int(tensor, axis)?;
                    total = self.l.int_op("mul", &total, &size)?;
                }
                Ok(vec![Value::Int(total)])
            }
            "sym_stride" | "sym_storage_offset" => Err(Error::beyond("a stride as a number")),
            _ => Ok(Vec::new()),
        }
    }
}
