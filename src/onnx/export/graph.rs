//! A graph under construction: nodes and constants with their names.

use std::collections::{BTreeSet, HashMap, HashSet};

use burn::backend::capture::TensorId;
use burn::backend::ir::{OperationIr, TensorIr};
use burn::tensor::DType;
use rekindle_state::onnx::proto::{AttributeProto, NodeProto, TensorProto, ValueInfoProto, attribute};

use super::capture::Trace;
use super::dims::{Dim, Shapes};
use super::messages::{integers, value_info};
use super::names::Names;

/// What is said of an operation that has no lowering at all.
pub const UNKNOWN: &str = "it has no lowering";

/// Everything that lowering an operation needs.
pub struct Graph<'a> {
    /// The forward pass.
    pub trace: &'a Trace,
    /// The shape of every tensor.
    pub shapes: &'a Shapes,
    /// The operator set.
    pub opset: i64,
    /// Names of modules and nodes.
    pub names: Names,
    /// Nodes so far.
    pub nodes: Vec<NodeProto>,
    /// Constants that are no parameters.
    pub constants: Vec<TensorProto>,
    /// Names of the parameters that are used.
    pub parameters: BTreeSet<String>,
    /// Types and shapes of values between the nodes.
    pub infos: Vec<ValueInfoProto>,
    /// The name of every value that a tensor of the trace has become.
    pub values: HashMap<TensorId, String>,
    outputs: HashMap<TensorId, String>,
    uses: HashMap<TensorId, usize>,
}

impl<'a> Graph<'a> {
    /// A graph without nodes. `outputs` are the names of the trace's outputs.
    pub fn new(
        trace: &'a Trace,
        shapes: &'a Shapes,
        opset: i64,
        names: Names,
        input: &str,
        outputs: &[String],
    ) -> Self {
        let mut uses: HashMap<TensorId, usize> = HashMap::new();
        for tensor in trace.operations.iter().flat_map(OperationIr::inputs).chain(&trace.outputs) {
            *uses.entry(tensor.id).or_default() += 1;
        }
        Self {
            trace,
            shapes,
            opset,
            names,
            nodes: Vec::new(),
            constants: Vec::new(),
            parameters: BTreeSet::new(),
            infos: Vec::new(),
            values: HashMap::from([(trace.input.id, input.to_string())]),
            outputs: trace.outputs.iter().map(|output| output.id).zip(outputs.iter().cloned()).collect(),
            uses,
        }
    }

    /// Whether nothing but one operation looks at a tensor.
    pub fn used_once(&self, tensor: &TensorIr) -> bool {
        self.uses.get(&tensor.id) == Some(&1) && !self.outputs.contains_key(&tensor.id)
    }

    /// The shape of a tensor.
    pub fn shape(&self, tensor: &TensorIr) -> Vec<Dim> {
        self.shapes.of(tensor)
    }

    /// The module that owns a parameter; the network itself for other tensors.
    pub fn owner(&mut self, tensor: &TensorIr) -> String {
        match self.trace.parameters.get(&tensor.id) {
            Some(entry) => self.names.owner(&entry.name),
            None => String::new(),
        }
    }

    /// A parameter under the name and in the layout of the state dict; whether Burn has it transposed.
    pub fn parameter(&mut self, tensor: &TensorIr) -> Option<(String, bool)> {
        let entry = self.trace.parameters.get(&tensor.id)?;
        self.parameters.insert(entry.name.clone());
        Some((entry.name.clone(), entry.transposed))
    }

    /// The name of the value that a tensor is, in Burn's layout.
    pub fn value(&mut self, tensor: &TensorIr) -> Result<String, String> {
        if let Some(name) = self.values.get(&tensor.id) {
            return Ok(name.clone());
        }
        if let Some((name, transposed)) = self.parameter(tensor) {
            if !transposed {
                return Ok(name);
            }
            let module = self.owner(tensor);
            return Ok(self.node(&module, "Transpose", vec![name], &[tensor], vec![ints("perm", &[1, 0])]).remove(0));
        }
        let Some(data) = self.trace.constants.get(&tensor.id) else {
            return Err("a tensor that nothing makes".to_string());
        };
        let name = self.names.node("", "Constant");
        let constant = TensorProto {
            name: name.clone(),
            dims: data.shape().iter().map(|&size| size as i64).collect(),
            data_type: element_type(data.dtype())?,
            raw_data: Some(data.clone().into_bytes().to_vec().into()),
            ..TensorProto::default()
        };
        self.constants.push(constant);
        self.values.insert(tensor.id, name.clone());
        Ok(name)
    }

    /// Adds a node that makes tensors of the trace; gives the names of its outputs.
    pub fn node(
        &mut self,
        module: &str,
        operator: &str,
        inputs: Vec<String>,
        outputs: &[&TensorIr],
        attributes: Vec<AttributeProto>,
    ) -> Vec<String> {
        let name = self.names.node(module, operator);
        let mut made = Vec::new();
        for (place, &tensor) in outputs.iter().enumerate() {
            let value = self.outputs.get(&tensor.id).cloned();
            let value = value.filter(|value| !self.is_made(value)).unwrap_or_else(|| {
                let value = format!("{name}_output_{place}");
                if let Ok(kind) = element_type(tensor.dtype) {
                    self.infos.push(value_info(&value, kind, &self.shapes.of(tensor)));
                }
                value
            });
            self.values.insert(tensor.id, value.clone());
            made.push(value);
        }
        self.push(name, operator, inputs, made.clone(), attributes);
        made
    }

    /// Adds a node whose output is no tensor of the trace, but has the type and a shape of its own.
    pub fn inner(
        &mut self,
        module: &str,
        operator: &str,
        inputs: Vec<String>,
        like: &TensorIr,
        shape: &[Dim],
        attributes: Vec<AttributeProto>,
    ) -> Result<String, String> {
        let name = self.names.node(module, operator);
        let value = format!("{name}_output_0");
        self.infos.push(value_info(&value, element_type(like.dtype)?, shape));
        self.push(name, operator, inputs, vec![value.clone()], attributes);
        Ok(value)
    }

    fn push(
        &mut self,
        name: String,
        operator: &str,
        input: Vec<String>,
        output: Vec<String>,
        attribute: Vec<AttributeProto>,
    ) {
        let op_type = operator.to_string();
        self.nodes.push(NodeProto { name, op_type, input, output, attribute, ..NodeProto::default() });
    }

    fn is_made(&self, value: &str) -> bool {
        self.nodes.iter().any(|node| node.output.iter().any(|output| output == value))
    }

    /// Lets a tensor be another one that is there already; an output of the graph gets a node that copies.
    pub fn alias(&mut self, from: &TensorIr, to: &TensorIr) -> Result<(), String> {
        let value = self.value(from)?;
        if self.outputs.contains_key(&to.id) {
            self.node("", "Identity", vec![value], &[to], Vec::new());
        } else {
            self.values.insert(to.id, value);
        }
        Ok(())
    }

    /// Outputs that no node has made: the input or a parameter handed through.
    pub fn finish(&mut self) -> Result<(), String> {
        for output in self.trace.outputs.clone() {
            let Some(name) = self.outputs.get(&output.id).cloned() else { continue };
            if !self.is_made(&name) {
                let value = self.value(&output)?;
                self.push(format!("/{name}/Identity"), "Identity", vec![value], vec![name], Vec::new());
            }
        }
        Ok(())
    }

    /// A constant list of integers.
    pub fn integers(&mut self, name: &str, values: &[i64]) -> String {
        let name = self.names.node("", name);
        self.constants.push(integers(&name, values));
        name
    }

    /// A list of integers, in which the batch size stands wherever an axis depends on it.
    pub fn sizes(&mut self, dims: &[Dim]) -> String {
        if let Some(fixed) = dims.iter().map(|dim| dim.fixed().map(|size| size as i64)).collect::<Option<Vec<_>>>() {
            return self.integers("Shape", &fixed);
        }
        let input = self.values.get(&self.trace.input.id).cloned().unwrap_or_default();
        let shape = self.integral("Shape", vec![input], vec![]);
        let first = self.integers("Axis", &[0]);
        let batch = self.integral("Gather", vec![shape, first], vec![int("axis", 0)]);
        let parts = dims.iter().map(|dim| match dim {
            Dim::Fixed(size) => self.integers("Size", &[*size as i64]),
            Dim::Batch(1) => batch.clone(),
            Dim::Batch(times) => {
                let times = self.integers("Times", &[*times as i64]);
                self.integral("Mul", vec![batch.clone(), times], vec![])
            }
        });
        let parts = parts.collect();
        self.integral("Concat", parts, vec![int("axis", 0)])
    }

    /// A node that makes integers.
    fn integral(&mut self, operator: &str, inputs: Vec<String>, attributes: Vec<AttributeProto>) -> String {
        let name = self.names.node("", operator);
        let value = format!("{name}_output_0");
        self.push(name, operator, inputs, vec![value.clone()], attributes);
        value
    }

    /// A constant number of the type of a tensor.
    pub fn scalar(&mut self, value: f64, like: &TensorIr) -> Result<String, String> {
        let name = self.names.node("", "Constant");
        self.constant(name, value_bytes(value, like.dtype)?, Vec::new(), like.dtype)
    }

    /// A constant matrix of 32-bit floats.
    pub fn matrix(&mut self, rows: usize, columns: usize, values: &[f32]) -> Result<String, String> {
        let name = self.names.node("", "Constant");
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, bytes, vec![rows as i64, columns as i64], DType::F32)
    }

    fn constant(&mut self, name: String, bytes: Vec<u8>, dims: Vec<i64>, dtype: DType) -> Result<String, String> {
        let raw_data = Some(bytes.into());
        self.constants.push(TensorProto {
            name: name.clone(),
            dims,
            data_type: element_type(dtype)?,
            raw_data,
            ..TensorProto::default()
        });
        Ok(name)
    }

    /// Names that are values already, to be kept from clashing with each other.
    pub fn taken(&self) -> HashSet<&str> {
        let made = self.nodes.iter().flat_map(|node| &node.output).map(String::as_str);
        made.chain(self.constants.iter().map(|constant| constant.name.as_str())).collect()
    }
}

fn value_bytes(value: f64, dtype: DType) -> Result<Vec<u8>, String> {
    Ok(match dtype {
        DType::F32 | DType::Flex32 => (value as f32).to_le_bytes().to_vec(),
        DType::F64 => value.to_le_bytes().to_vec(),
        DType::F16 => half::f16::from_f64(value).to_le_bytes().to_vec(),
        DType::I64 => (value as i64).to_le_bytes().to_vec(),
        DType::I32 => (value as i32).to_le_bytes().to_vec(),
        other => return Err(format!("a number of type {other:?}")),
    })
}

/// ONNX's number of an element type.
pub fn element_type(dtype: DType) -> Result<i32, String> {
    Ok(match dtype {
        DType::F32 | DType::Flex32 => 1,
        DType::U8 => 2,
        DType::I8 => 3,
        DType::U16 => 4,
        DType::I16 => 5,
        DType::I32 => 6,
        DType::I64 => 7,
        DType::Bool(_) => 9,
        DType::F16 => 10,
        DType::F64 => 11,
        DType::U32 => 12,
        DType::U64 => 13,
        DType::BF16 => 16,
        DType::QFloat(_) => return Err("a tensor of quantized values".to_string()),
    })
}

/// An attribute of one integer.
pub fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.to_string(), r#type: attribute::INT, i, ..AttributeProto::default() }
}

/// An attribute of integers.
pub fn ints(name: &str, values: &[usize]) -> AttributeProto {
    let ints = values.iter().map(|&value| value as i64).collect();
    AttributeProto { name: name.to_string(), r#type: attribute::INTS, ints, ..AttributeProto::default() }
}

/// An attribute of one float.
pub fn float(name: &str, value: f64) -> AttributeProto {
    AttributeProto { name: name.to_string(), r#type: attribute::FLOAT, f: value as f32, ..AttributeProto::default() }
}

/// An attribute of text.
pub fn text(name: &str, value: &str) -> AttributeProto {
    let s = value.as_bytes().to_vec().into();
    AttributeProto { name: name.to_string(), r#type: attribute::STRING, s, ..AttributeProto::default() }
}
