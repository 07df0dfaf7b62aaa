//! An exported program, node by node, to a graph.

use std::collections::HashMap;

use indexmap::IndexMap;
use rekindle_onnx::{Axis, DType};
use rekindle_state::{Tensor, Value as Stored};
use serde_json::Value as Json;

use super::Exported;
use super::json::{self, Graph, Node, Size, TensorMeta, case};
use crate::error::{Missing, Place};
use crate::lower::{Args, Dim, Float, Int, Lower, Mode, Probe, TensorId, Value};
use crate::program::{Buffer, Given, Input, Lowered, Output, Parameter};
use crate::{Error, Result, schema};

/// How deep branches may be nested.
const MAX_DEPTH: usize = 64;

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
    fn weight(&self, name: &str) -> Result<&Tensor> {
        match self.weights.get(name) {
            Some(Stored::Tensor(tensor)) => Ok(tensor),
            Some(other) => {
                Err(Error::beyond(format!("'{name}' of type {}, which is no plain tensor,", other.type_name())))
            }
            None => Err(Error::invalid(format!("the archive holds no tensor '{name}', which the program needs"))),
        }
    }
}

/// Operators that are not known, with how often and where first.
pub(super) fn missing(graph: &Graph) -> Vec<Missing> {
    let mut found: IndexMap<String, Missing> = IndexMap::new();
    fn walk(graph: &Graph, found: &mut IndexMap<String, Missing>, depth: usize) {
        for node in &graph.nodes {
            let (name, _) = split_target(&node.target);
            let known = match node.target.strip_prefix("torch.ops.aten.") {
                Some(_) => is_size_operator(&name) || crate::lower::is_known(&name),
                None => is_python(&node.target) || node.target.starts_with("torch.ops.higher_order."),
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
fn nested(arg: &Json) -> Option<Result<Graph>> {
    let graph = arg.get("as_graph")?.get("graph")?;
    Some(Graph::deserialize_from(graph))
}

impl Graph {
    fn deserialize_from(json: &Json) -> Result<Self> {
        serde::Deserialize::deserialize(json).map_err(|error| Error::invalid(format!("a branch is no graph: {error}")))
    }
}

fn is_higher(target: &str) -> bool {
    matches!(target, "torch.ops.higher_order.cond" | "torch.ops.higher_order.wrap_with_set_grad_enabled")
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

/// `torch.ops.aten.add.Tensor` as `("add", "Tensor")`.
fn split_target(target: &str) -> (String, String) {
    let rest = target.strip_prefix("torch.ops.aten.").unwrap_or(target);
    match rest.rsplit_once('.') {
        Some((name, overload)) => {
            (name.to_string(), if overload == "default" { String::new() } else { overload.to_string() })
        }
        None => (rest.to_string(), String::new()),
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

fn axes(shape: &[Dim]) -> Vec<Axis> {
    shape.iter().map(|dim| dim.size().map_or(Axis::Any, Axis::Size)).collect()
}

struct Run {
    l: Lower,
    /// Values of the program by name.
    values: HashMap<String, Value>,
    inputs: Vec<Input>,
    parameters: Vec<Parameter>,
    buffers: Vec<(Buffer, TensorId)>,
}

fn name_of<'j>(json: &'j Json, field: &str) -> Result<&'j str> {
    json.get(field).and_then(Json::as_str).ok_or_else(|| Error::invalid(format!("an entry without '{field}': {json}")))
}

fn meta<'g>(graph: &'g Graph, name: &str) -> Result<&'g TensorMeta> {
    graph.tensor_values.get(name).ok_or_else(|| Error::invalid(format!("the program does not describe '{name}'")))
}

fn sizes(meta: &TensorMeta) -> Result<Vec<Size>> {
    meta.sizes.iter().map(Size::read).collect()
}

fn dims(sizes: &[Size]) -> Result<Vec<Dim>> {
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

/// Whether strides are those of row-major order, in the example that was exported.
fn is_plain(meta: &TensorMeta) -> Option<bool> {
    let sizes: Vec<i64> = meta.sizes.iter().map(|size| Size::read(size).ok()?.hint()).collect::<Option<_>>()?;
    let strides: Vec<i64> = meta.strides.iter().map(|stride| Size::read(stride).ok()?.hint()).collect::<Option<_>>()?;
    let mut expected = 1_i64;
    for (size, stride) in sizes.iter().zip(&strides).rev() {
        if *size != 1 && *stride != expected {
            return Some(false);
        }
        expected = expected.saturating_mul(*size);
    }
    Some(true)
}

impl Run {
    fn inputs(&mut self, exported: &Exported) -> Result<()> {
        let graph = &exported.program.graph_module.graph;
        for spec in &exported.program.graph_module.signature.input_specs {
            let (kind, spec) = spec.iter().next().ok_or_else(|| Error::invalid("an input without a kind"))?;
            match kind.as_str() {
                "user_input" => self.user_input(graph, spec.get("arg").unwrap_or(&Json::Null))?,
                "constant_input" => {
                    let name = name_of(spec, "name")?.to_string();
                    let value = self.argument(spec.get("value").unwrap_or(&Json::Null))?;
                    let given = match &value {
                        Value::None => Given::Nothing,
                        Value::Int(Int::Known(int)) => Given::Number(*int as f64),
                        Value::Float(Float::Known(float)) => Given::Number(*float),
                        Value::Bool(bool) => Given::Number(f64::from(u8::from(*bool))),
                        _ => Given::Other,
                    };
                    self.inputs.push(Input { name: name.clone(), given });
                    self.values.insert(name, value);
                }
                "parameter" | "buffer" | "tensor_constant" => {
                    let name = name_of(spec.get("arg").unwrap_or(&Json::Null), "name")?;
                    let field = match kind.as_str() {
                        "parameter" => "parameter_name",
                        "buffer" => "buffer_name",
                        _ => "tensor_constant_name",
                    };
                    let own = name_of(spec, field)?;
                    let tensor = exported.weight(own)?;
                    let id = self.l.weight(own, tensor)?;
                    self.described(graph, name, id)?;
                    match kind.as_str() {
                        "parameter" => {
                            let stored = self.l.state(id).value_name().to_string();
                            let tensor = tensor.clone();
                            self.parameters.push(Parameter { name: own.to_string(), stored, tensor });
                        }
                        "buffer" => {
                            let persistent = spec.get("persistent").and_then(Json::as_bool).unwrap_or(true);
                            let tensor = tensor.clone();
                            self.buffers.push((Buffer { name: own.to_string(), persistent, tensor, output: None }, id));
                        }
                        _ => {}
                    }
                    self.values.insert(name.to_string(), Value::Tensor(id));
                }
                "token" => {}
                other => return Err(Error::beyond(format!("an input of kind '{other}'"))),
            }
        }
        Ok(())
    }

    fn user_input(&mut self, graph: &Graph, arg: &Json) -> Result<()> {
        let (kind, value) = case(arg)?;
        if kind != "as_tensor" {
            // A number that was fixed when the program was exported.
            let given = match kind {
                "as_none" => Given::Nothing,
                "as_int" | "as_float" => json::float(value).map_or(Given::Other, Given::Number),
                "as_bool" => Given::Number(f64::from(u8::from(value.as_bool().unwrap_or(false)))),
                "as_sym_int" => return Err(Error::beyond("an input that is an open number")),
                _ => Given::Other,
            };
            self.inputs.push(Input { name: String::new(), given });
            return Ok(());
        }
        let name = name_of(value, "name")?;
        let meta = meta(graph, name)?;
        let sizes = sizes(meta)?;
        let axis = |size: &Size| match size {
            Size::Known(size) => Axis::Size(*size as usize),
            open => open.symbol().map_or(Axis::Any, |symbol| Axis::Named(symbol.to_string())),
        };
        let axes: Vec<Axis> = sizes.iter().map(axis).collect();
        let dtype = json::dtype(meta.dtype)?;
        let hints: Option<Vec<usize>> = sizes.iter().map(|size| usize::try_from(size.hint()?).ok()).collect();
        let probes = hints.map(|shape| vec![Probe { shape, data: None }]).unwrap_or_default();
        let port = if self.l.builder.is_defined(name) { format!("{name}.input") } else { name.to_string() };
        let id = self.l.input(&port, dtype, &axes, probes)?;
        self.inputs.push(Input { name: port, given: Given::Tensor });
        self.values.insert(name.to_string(), Value::Tensor(id));
        if let Some(plain) = is_plain(meta) {
            self.l.set_plain(id, plain);
        }
        Ok(())
    }

    /// Checks a tensor against what the program says of it, and takes over which of its sizes are open.
    fn described(&mut self, graph: &Graph, name: &str, id: TensorId) -> Result<()> {
        let Some(meta) = graph.tensor_values.get(name) else { return Ok(()) };
        let dtype = json::dtype(meta.dtype)?;
        let sizes = sizes(meta)?;
        self.l.declare(id, dtype, dims(&sizes)?)?;
        if let Some(plain) = is_plain(meta) {
            self.l.set_plain(id, plain);
        }
        Ok(())
    }

    fn nodes(&mut self, graph: &Graph, depth: usize) -> Result<()> {
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

    fn node(&mut self, graph: &Graph, node: &Node, depth: usize) -> Result<()> {
        let results = match node.target.as_str() {
            "torch.ops.higher_order.cond" => self.cond(graph, node, depth)?,
            "torch.ops.higher_order.wrap_with_set_grad_enabled" => self.wrapped(node, depth)?,
            target if target.starts_with("torch.ops.aten.") => {
                let (name, overload) = split_target(target);
                if is_size_operator(&name) {
                    self.size_operator(&name, node)?
                } else {
                    self.operator(&name, &overload, node)?
                }
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
            if let Value::Tensor(id) = value {
                self.described(graph, name, id)?;
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

    /// `torch.cond(condition, true graph, false graph, operands)` as If.
    fn cond(&mut self, graph: &Graph, node: &Node, depth: usize) -> Result<Vec<Value>> {
        let [condition, yes, no, operands] = node.inputs.as_slice() else {
            return Err(Error::invalid("cond takes four arguments"));
        };
        let condition = self.argument(&condition.arg)?;
        let condition = self.l.scalar(&condition, DType::Bool)?;
        let flat = self.l.ints(&[])?;
        let condition = self.l.reshape(&condition, &flat)?;
        let operands = self.argument(&operands.arg)?;
        let operands = operands.list()?.to_vec();
        let mut branches = Vec::new();
        for branch in [yes, no] {
            let inner = nested(&branch.arg).ok_or_else(|| Error::invalid("a branch that is no graph"))??;
            let nested = self.l.builder.nested("branch");
            let outer = std::mem::replace(&mut self.l.builder, nested);
            let values = self.values.clone();
            self.l.nested += 1;
            let outcome = self.branch(&inner, &operands, depth);
            self.l.nested -= 1;
            self.values = values;
            let nested = std::mem::replace(&mut self.l.builder, outer);
            outcome?;
            branches.push(self.l.builder.close(nested));
        }
        let count = node.outputs.iter().map(|output| match case(output) {
            Ok(("as_tensors", tensors)) => tensors.as_array().map_or(0, Vec::len),
            _ => 1,
        });
        let count: usize = count.sum();
        let (no, yes) = (branches.pop(), branches.pop());
        let (Some(yes), Some(no)) = (yes, no) else { return Err(Error::invalid("cond without branches")) };
        let names = self.l.nodes("If", &[&condition], count, &[("then_branch", yes), ("else_branch", no)])?;
        let mut results = Vec::new();
        for (at, name) in names.into_iter().enumerate() {
            let id = self.l.tensor_of(name, DType::F32, Vec::new());
            let output = node.outputs.iter().flat_map(|output| match case(output) {
                Ok(("as_tensors", tensors)) => tensors.as_array().cloned().unwrap_or_default(),
                Ok((_, value)) => vec![value.clone()],
                Err(_) => Vec::new(),
            });
            if let Some(Ok(name)) =
                output.collect::<Vec<_>>().get(at).map(|json| name_of(json, "name").map(str::to_string))
            {
                self.described(graph, &name, id)?;
                self.l.learn(id);
            }
            results.push(Value::Tensor(id));
        }
        Ok(results)
    }

    fn branch(&mut self, inner: &Graph, operands: &[Value], depth: usize) -> Result<()> {
        for (input, operand) in inner.inputs.iter().zip(operands) {
            let (_, value) = case(input)?;
            if let Ok(name) = name_of(value, "name") {
                self.values.insert(name.to_string(), operand.clone());
            }
        }
        self.nodes(inner, depth + 1)?;
        for output in &inner.outputs {
            let tensor = self.argument(output)?.tensor()?;
            let value = self.l.value(tensor)?;
            // An output must be made inside the branch.
            let own = self.l.node("Identity", &[&value], &[])?;
            let axes = axes(&self.l.state(tensor).shape);
            let dtype = self.l.dtype(tensor);
            self.l.builder.output(&own, Some(dtype), Some(&axes))?;
        }
        Ok(())
    }

    /// A part of the program under `torch.no_grad`: its nodes as they are.
    fn wrapped(&mut self, node: &Node, depth: usize) -> Result<Vec<Value>> {
        let [_, graph, operands @ ..] = node.inputs.as_slice() else {
            return Err(Error::invalid("a wrapped part without a graph"));
        };
        let inner = nested(&graph.arg).ok_or_else(|| Error::invalid("a part that is no graph"))??;
        let operands: Vec<Value> = operands.iter().map(|input| self.argument(&input.arg)).collect::<Result<_>>()?;
        let values = self.values.clone();
        for (input, operand) in inner.inputs.iter().zip(&operands) {
            let (_, value) = case(input)?;
            if let Ok(name) = name_of(value, "name") {
                self.values.insert(name.to_string(), operand.clone());
            }
        }
        self.nodes(&inner, depth + 1)?;
        let results = inner.outputs.iter().map(|output| self.argument(output)).collect::<Result<_>>();
        self.values = values;
        results
    }

    fn known(&self, name: &str) -> Result<Value> {
        match self.values.get(name) {
            Some(Value::None) => Err(Error::beyond(format!(
                "reading '{name}' (positions of a pool, or statistics that are kept for the gradient)"
            ))),
            Some(value) => Ok(value.clone()),
            None => Err(Error::invalid(format!("nothing computes '{name}'"))),
        }
    }

    /// An argument of a node.
    fn argument(&mut self, json: &Json) -> Result<Value> {
        let (kind, value) = case(json)?;
        let invalid = || Error::invalid(format!("an argument of kind '{kind}' holds {value}"));
        let elements = || value.as_array().ok_or_else(invalid);
        Ok(match kind {
            "as_none" => Value::None,
            "as_tensor" => self.known(name_of(value, "name")?)?,
            "as_tensors" => {
                let tensors = elements()?.iter().map(|tensor| self.known(name_of(tensor, "name")?));
                Value::List(tensors.collect::<Result<_>>()?)
            }
            "as_optional_tensors" => {
                let tensors = elements()?.iter().map(|tensor| match tensor.get("as_tensor") {
                    Some(tensor) => self.known(name_of(tensor, "name")?),
                    None => Ok(Value::None),
                });
                Value::List(tensors.collect::<Result<_>>()?)
            }
            "as_int" => Value::int(value.as_i64().ok_or_else(invalid)?),
            "as_ints" => {
                let ints = elements()?.iter().map(|int| int.as_i64().map(Value::int).ok_or_else(invalid));
                Value::List(ints.collect::<Result<_>>()?)
            }
            "as_float" => Value::Float(Float::Known(json::float(value).ok_or_else(invalid)?)),
            "as_floats" => {
                let floats = elements()?
                    .iter()
                    .map(|float| json::float(float).map(|float| Value::Float(Float::Known(float))).ok_or_else(invalid));
                Value::List(floats.collect::<Result<_>>()?)
            }
            "as_bool" => Value::Bool(value.as_bool().ok_or_else(invalid)?),
            "as_bools" => {
                let bools = elements()?.iter().map(|bool| bool.as_bool().map(Value::Bool).ok_or_else(invalid));
                Value::List(bools.collect::<Result<_>>()?)
            }
            "as_string" => Value::Str(value.as_str().ok_or_else(invalid)?.to_string()),
            "as_strings" => {
                let texts = elements()?
                    .iter()
                    .map(|text| text.as_str().map(|text| Value::Str(text.to_string())).ok_or_else(invalid));
                Value::List(texts.collect::<Result<_>>()?)
            }
            "as_sym_int" | "as_sym_bool" | "as_sym_float" => self.symbol(value)?,
            "as_sym_ints" | "as_sym_floats" => {
                Value::List(elements()?.iter().map(|symbol| self.symbol(symbol)).collect::<Result<_>>()?)
            }
            "as_scalar_type" => Value::DType(json::dtype(value.as_i64().ok_or_else(invalid)?)?),
            "as_device" | "as_layout" | "as_memory_format" => Value::Other,
            "as_nested_tensors" => {
                let mut lists = Vec::new();
                for list in elements()? {
                    let tensors = list.as_array().ok_or_else(invalid)?;
                    let tensors = tensors.iter().map(|tensor| self.known(name_of(tensor, "name")?));
                    lists.push(Value::List(tensors.collect::<Result<_>>()?));
                }
                Value::List(lists)
            }
            other => return Err(Error::beyond(format!("an argument of kind '{other}'"))),
        })
    }

    fn symbol(&mut self, json: &Json) -> Result<Value> {
        if let Some(name) = json.get("as_name").and_then(Json::as_str) {
            return self.known(name);
        }
        let (kind, value) = case(json)?;
        let invalid = || Error::invalid(format!("a number of kind '{kind}' holds {value}"));
        Ok(match kind {
            "as_int" => Value::int(value.as_i64().ok_or_else(invalid)?),
            "as_float" => Value::Float(Float::Known(json::float(value).ok_or_else(invalid)?)),
            "as_bool" => Value::Bool(value.as_bool().ok_or_else(invalid)?),
            _ => return Err(invalid()),
        })
    }

    fn outputs(&mut self, exported: &Exported) -> Result<Vec<Output>> {
        let specs = &exported.program.graph_module.signature.output_specs;
        let tensors = |spec: &serde_json::Map<String, Json>| {
            let arg = spec.get("user_output").or_else(|| spec.get("loss_output"))?.get("arg")?;
            arg.get("as_tensor").cloned().or_else(|| arg.get("name").map(|_| arg.clone()))
        };
        let count = specs.iter().filter_map(tensors).count();
        let mut outputs = Vec::new();
        let mut at = 0;
        for spec in specs {
            let (kind, own) = spec.iter().next().ok_or_else(|| Error::invalid("an output without a kind"))?;
            match kind.as_str() {
                "user_output" | "loss_output" => {}
                "buffer_mutation" => continue,
                "user_input_mutation" | "parameter_mutation" => {
                    return Err(Error::beyond("a program that changes its inputs or parameters"));
                }
                "token" => continue,
                other => return Err(Error::beyond(format!("an output of kind '{other}'"))),
            }
            let Some(tensor) = tensors(spec) else {
                let arg = own.get("arg").unwrap_or(&Json::Null);
                let value = if arg.get("as_none").is_some() { Given::Nothing } else { Given::Other };
                outputs.push(Output { name: String::new(), given: value });
                continue;
            };
            let id = self.known(name_of(&tensor, "name")?)?.tensor()?;
            let value = self.l.value(id)?;
            let mut name = if count == 1 { "output".to_string() } else { format!("output_{at}") };
            at += 1;
            while self.l.builder.is_defined(&name) {
                name.push('_');
            }
            let named = self.l.builder.named(&value, &name)?;
            let axes = axes(&self.l.state(id).shape);
            self.l.builder.output(&named, Some(self.l.dtype(id)), Some(&axes))?;
            outputs.push(Output { name, given: Given::Tensor });
        }
        Ok(outputs)
    }

    /// Buffers that the program gives back changed, by name.
    fn mutations(&mut self, exported: &Exported) -> Result<HashMap<String, TensorId>> {
        let mut found = HashMap::new();
        for spec in &exported.program.graph_module.signature.output_specs {
            let Some(own) = spec.get("buffer_mutation") else { continue };
            let arg = own.get("arg").unwrap_or(&Json::Null);
            let id = self.known(name_of(arg, "name")?)?.tensor()?;
            found.insert(name_of(own, "buffer_name")?.to_string(), id);
        }
        Ok(found)
    }
}
