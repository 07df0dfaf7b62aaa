//! What an exported program takes and gives.

use std::collections::HashMap;

use rekindle_onnx::Axis;
use serde_json::Value as Json;

use super::Exported;
use super::json::{self, Graph, Size, case};
use super::lower::{Run, axes, dims, layout, meta, name_of, sizes};
use crate::lower::{Float, Int, Probe, TensorId, Value};
use crate::program::{Buffer, Given, Input, Output, Parameter};
use crate::{Error, Result};

impl Run {
    pub(super) fn inputs(&mut self, exported: &Exported) -> Result<()> {
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
                    if tensor.dtype().is_complex() {
                        let value = self.l.complex_weight(own, tensor)?;
                        if kind == "parameter" {
                            let (stored, tensor) = (own.to_string(), tensor.clone());
                            self.parameters.push(Parameter { name: own.to_string(), stored, tensor });
                        }
                        self.values.insert(name.to_string(), value);
                        continue;
                    }
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
        if let Some(layout) = layout(meta) {
            self.l.set_layout(id, layout);
        }
        Ok(())
    }

    /// Checks a tensor against what the program says of it, and takes over which of its sizes are open.
    pub(super) fn described(&mut self, graph: &Graph, name: &str, id: TensorId) -> Result<()> {
        let Some(meta) = graph.tensor_values.get(name) else { return Ok(()) };
        let dtype = json::dtype(meta.dtype)?;
        let sizes = sizes(meta)?;
        self.l.declare(id, dtype, dims(&sizes)?)?;
        if let Some(layout) = layout(meta) {
            self.l.set_layout(id, layout);
        }
        Ok(())
    }

    /// As [`Run::described`], of one part of a complex tensor, whose type is that of its parts.
    pub(super) fn described_part(&mut self, graph: &Graph, name: &str, id: TensorId) -> Result<()> {
        let Some(meta) = graph.tensor_values.get(name) else { return Ok(()) };
        let dtype = json::complex_part(meta.dtype)
            .ok_or_else(|| Error::invalid(format!("'{name}' becomes complex, the program says it is real")))?;
        let sizes = sizes(meta)?;
        self.l.declare(id, dtype, dims(&sizes)?)?;
        if let Some(layout) = layout(meta) {
            self.l.set_layout(id, layout);
        }
        Ok(())
    }

    pub(super) fn outputs(&mut self, exported: &Exported) -> Result<Vec<Output>> {
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
                // What the caller gave is changed in PyTorch; here inputs are values.
                "user_input_mutation" => continue,
                "parameter_mutation" => return Err(Error::beyond("a program that changes its parameters")),
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
    pub(super) fn mutations(&mut self, exported: &Exported) -> Result<HashMap<String, TensorId>> {
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
