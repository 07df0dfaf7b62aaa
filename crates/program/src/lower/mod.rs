//! From ATen's operators to nodes of a graph: one file for each family of operators, each with a table of rows.

mod alias;
mod attention;
mod create;
mod elementwise;
mod facts;
mod index;
mod layers;
mod normalize;
mod numbers;
mod pool;
mod recurrent;
mod reduce;
mod resize;
mod shape;
mod types;
pub(crate) mod value;

use std::collections::HashMap;
use std::sync::OnceLock;

use rekindle_onnx::builder::{Attr, GraphBuilder, ValueName};
use rekindle_onnx::{Array, Axis, DType};
use rekindle_state::Tensor;

pub(crate) use alias::Bond;
pub(crate) use create::tensor_of;
pub(crate) use facts::{Fact, Probe};
pub(crate) use types::promote;
pub(crate) use value::{Args, Dim, Float, Int, TensorId, Value};

use crate::error::Place;
use crate::{Error, Result, schema};

/// Operators of the graph: the version at which all that is used here is there.
pub(crate) const OPSET: i64 = 20;
/// The end of an axis, as PyTorch and ONNX write it.
const END: i64 = i64::MAX;
/// Nodes that one program may become.
const MAX_NODES: usize = 1_000_000;

/// In which mode layers that behave otherwise in training are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// As the program says.
    #[default]
    AsExported,
    /// Inference: fixed statistics, no dropout.
    Eval,
    /// Training: statistics of the batch, dropout.
    Train,
    /// Training with dropout, and with the running statistics as they are.
    TrainFrozenStatistics,
}

/// Where a tensor is stored: storage, offset, sizes, strides and type.
type StoredAs = (u64, u64, Vec<u64>, Vec<u64>, String);

/// How a family finds the function that lowers an operator.
type Row = (&'static str, Lowering);
/// Lowers one call.
type Lowering = fn(&mut Lower, &Args) -> Result<Vec<Value>>;

const FAMILIES: &[&[Row]] = &[
    elementwise::ROWS,
    layers::ROWS,
    normalize::ROWS,
    pool::ROWS,
    resize::ROWS,
    attention::ROWS,
    recurrent::ROWS,
    shape::ROWS,
    index::ROWS,
    create::ROWS,
    reduce::ROWS,
];

fn rows() -> &'static HashMap<&'static str, Lowering> {
    static ROWS: OnceLock<HashMap<&'static str, Lowering>> = OnceLock::new();
    ROWS.get_or_init(|| FAMILIES.iter().flat_map(|family| family.iter().copied()).collect())
}

/// Whether an operator of ATen is lowered; in place ones by their plain form.
pub(crate) fn is_known(operator: &str) -> bool {
    rows().contains_key(operator) || plain(operator).is_some()
}

/// The plain form of an operator that works in place.
fn plain(operator: &str) -> Option<&str> {
    let plain = operator.strip_suffix('_')?;
    // These change the shape of the tensor itself, which other names of it would have to follow.
    if matches!(plain, "squeeze" | "unsqueeze" | "transpose" | "t" | "swapaxes" | "swapdims" | "as_strided") {
        return None;
    }
    (!operator.ends_with("__") && rows().contains_key(plain)).then_some(plain)
}

/// A tensor of the program.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// The value of the graph that holds it now.
    value: ValueName,
    /// Element type.
    pub dtype: DType,
    /// Sizes.
    pub shape: Vec<Dim>,
    /// What it is a view of.
    bond: Option<Bond>,
    /// Writes so far.
    pub version: usize,
    /// Writes to the base when the value was made.
    seen: usize,
    /// Why the value is no longer known, if it is not.
    lost: Option<String>,
    /// Whether it is in row-major order, where that is known.
    pub plain: Option<bool>,
}

/// Lowers a program operator by operator.
pub(crate) struct Lower {
    pub builder: GraphBuilder,
    /// Where the program is now.
    pub place: Place,
    pub mode: Mode,
    tensors: Vec<State>,
    /// What is known of each value.
    facts: HashMap<ValueName, Fact>,
    /// Examples that are followed; sizes that differ between them are open.
    probes: usize,
    nodes: usize,
    /// Tensors that are stored under a name: storage, offset, sizes, strides and type → tensor.
    weights: HashMap<StoredAs, TensorId>,
    /// Depth of nested graphs, where nothing outside may be written.
    pub nested: usize,
    /// Sizes of a value that were asked for: they are computed once.
    sizes: HashMap<(ValueName, usize), Int>,
    shapes: HashMap<ValueName, ValueName>,
}

impl State {
    /// The name of the value that holds it, whether or not a write has made it old.
    pub fn value_name(&self) -> ValueName {
        self.value.clone()
    }
}

impl Lower {
    pub fn new(name: &str, probes: usize, mode: Mode) -> Self {
        Self {
            builder: GraphBuilder::new(name, OPSET),
            place: Place::default(),
            mode,
            tensors: Vec::new(),
            facts: HashMap::new(),
            probes,
            nodes: 0,
            weights: HashMap::new(),
            nested: 0,
            sizes: HashMap::new(),
            shapes: HashMap::new(),
        }
    }

    /// How many examples are followed.
    pub fn probes(&self) -> usize {
        self.probes
    }

    // Nodes.

    /// Adds a node with one output.
    pub fn node(&mut self, operator: &str, inputs: &[&str], attributes: &[(&str, Attr)]) -> Result<ValueName> {
        let mut outputs = self.nodes(operator, inputs, 1, attributes)?;
        Ok(outputs.swap_remove(0))
    }

    /// Adds a node.
    pub fn nodes(
        &mut self,
        operator: &str,
        inputs: &[&str],
        outputs: usize,
        attributes: &[(&str, Attr)],
    ) -> Result<Vec<ValueName>> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Error::invalid(format!("the program becomes more than {MAX_NODES} nodes")));
        }
        let names = self.builder.node(operator, &self.place.module, inputs, outputs, attributes)?;
        let known: Vec<Option<&Fact>> = inputs.iter().map(|input| self.facts.get(*input)).collect();
        let all = inputs.iter().zip(&known).all(|(input, fact)| input.is_empty() || fact.is_some());
        let node = self.builder.last();
        let facts = match node {
            Some(node) if all => facts::infer(node, &known, self.probes, names.len())?,
            _ => None,
        };
        for (name, fact) in names.iter().zip(facts.into_iter().flatten()) {
            if let Some(fact) = fact {
                self.facts.insert(name.clone(), fact);
            }
        }
        Ok(names)
    }

    /// A constant.
    pub fn constant(&mut self, array: &Array) -> Result<ValueName> {
        let name = self.builder.constant(array)?;
        let probes = self.probes;
        self.facts.entry(name.clone()).or_insert_with(|| Fact::same(array.dtype(), Probe::of(array), probes));
        Ok(name)
    }

    /// Integers as a vector of int64.
    pub fn ints(&mut self, ints: &[i64]) -> Result<ValueName> {
        self.constant(&Array::vector(ints.to_vec()))
    }

    /// A number as a scalar of a type.
    pub fn number(&mut self, value: f64, dtype: DType) -> Result<ValueName> {
        self.constant(&filled(dtype, &[], value)?)
    }

    /// What is known of a value.
    pub fn fact(&self, value: &str) -> Option<&Fact> {
        self.facts.get(value)
    }

    // Tensors.

    /// What is known of a tensor.
    pub fn state(&self, tensor: TensorId) -> &State {
        &self.tensors[tensor]
    }

    pub fn rank(&self, tensor: TensorId) -> usize {
        self.tensors[tensor].shape.len()
    }

    pub fn dtype(&self, tensor: TensorId) -> DType {
        self.tensors[tensor].dtype
    }

    /// A size that is always the same.
    pub fn size(&self, tensor: TensorId, axis: usize) -> Result<usize> {
        let size = self.tensors[tensor].shape.get(axis).copied();
        size.and_then(Dim::size).ok_or_else(|| Error::beyond(format!("an open size of axis {axis} here")))
    }

    /// The axis that a possibly negative number means.
    pub fn axis(&self, tensor: TensorId, axis: i64) -> Result<usize> {
        axis_of(axis, self.rank(tensor))
    }

    /// A new tensor of a value whose type and sizes are told by what is known of it.
    ///
    /// # Errors
    /// When nothing is known of it.
    pub fn tensor(&mut self, value: ValueName) -> Result<TensorId> {
        let fact = self.facts.get(&value);
        let fact = fact.ok_or_else(|| Error::beyond("a tensor whose sizes follow from data here"))?;
        let (dtype, shape) = (fact.dtype, fact.shape());
        Ok(self.tensor_of(value, dtype, shape))
    }

    /// A new tensor of a value.
    pub fn tensor_of(&mut self, value: ValueName, dtype: DType, shape: Vec<Dim>) -> TensorId {
        self.tensors.push(State { value, dtype, shape, bond: None, version: 0, seen: 0, lost: None, plain: None });
        self.tensors.len() - 1
    }

    /// A new tensor as the answer of an operator.
    pub fn answer(&mut self, value: ValueName) -> Result<Vec<Value>> {
        Ok(vec![Value::Tensor(self.tensor_or_unknown(value))])
    }

    /// As [`Lower::tensor`]; one of which nothing is known is completed by who called the operator.
    pub fn tensor_or_unknown(&mut self, value: ValueName) -> TensorId {
        match self.tensor(value.clone()) {
            Ok(tensor) => tensor,
            Err(_) => self.tensor_of(value, DType::Str, Vec::new()),
        }
    }

    /// Says the type and rank of a tensor whose sizes follow from data.
    pub fn assume(&mut self, tensor: TensorId, dtype: DType, rank: usize) {
        let value = self.tensors[tensor].value.clone();
        if self.fact(&value).is_none() {
            let state = &mut self.tensors[tensor];
            (state.dtype, state.shape) = (dtype, vec![Dim::Open; rank]);
        }
    }

    /// Takes what the program says of a tensor as what is known of its value, where its sizes are the same in every
    /// run.
    pub fn learn(&mut self, tensor: TensorId) {
        let state = &self.tensors[tensor];
        let shape: Option<Vec<usize>> = state.shape.iter().map(|dim| dim.size()).collect();
        if let Some(shape) = shape {
            let fact = Fact::same(state.dtype, Probe { shape, data: None }, self.probes);
            self.facts.insert(state.value.clone(), fact);
        }
    }

    /// Says whether a tensor is in row-major order.
    pub fn set_plain(&mut self, tensor: TensorId, plain: bool) {
        self.tensors[tensor].plain = Some(plain);
    }

    /// Says what the program itself says of a tensor, and checks it against what is known.
    pub fn declare(&mut self, tensor: TensorId, dtype: DType, shape: Vec<Dim>) -> Result<()> {
        if let Some(fact) = self.facts.get(&self.tensors[tensor].value) {
            let fits = |probe: &Probe| {
                probe.shape.len() == shape.len()
                    && probe.shape.iter().zip(&shape).all(|(size, dim)| dim.size().is_none_or(|dim| dim == *size))
            };
            if fact.dtype != dtype || !fact.probes.iter().all(fits) {
                return Err(Error::invalid(format!(
                    "it becomes a tensor of type {} and shape {:?}, the program says {dtype} and {shape:?}",
                    fact.dtype,
                    fact.probes.first().map(|probe| &probe.shape),
                )));
            }
        }
        let state = &mut self.tensors[tensor];
        (state.dtype, state.shape) = (dtype, shape);
        Ok(())
    }

    /// An input of the graph with an example of its sizes for each probe.
    pub fn input(&mut self, name: &str, dtype: DType, axes: &[Axis], probes: Vec<Probe>) -> Result<TensorId> {
        let value = self.builder.input(name, dtype, axes)?;
        let shape = axes.iter().map(|axis| if let Axis::Size(size) = axis { Dim::Size(*size) } else { Dim::Open });
        let shape = shape.collect();
        if !probes.is_empty() {
            self.facts.insert(value.clone(), Fact { dtype, probes });
        }
        Ok(self.tensor_of(value, dtype, shape))
    }

    /// A weight of the program. One that shares all of its memory with an earlier one is that one.
    pub fn weight(&mut self, name: &str, tensor: &Tensor) -> Result<TensorId> {
        let identity = tensor.view().map(|view| {
            let dtype = tensor.dtype().name().to_string();
            (view.storage.id(), view.offset, tensor.shape().to_vec(), view.strides.clone(), dtype)
        });
        // Tensors without elements may share one empty storage and are still different.
        let identity = identity.filter(|_| tensor.numel() > 0);
        if let Some(known) = identity.as_ref().and_then(|identity| self.weights.get(identity)) {
            return Ok(*known);
        }
        let value = self.builder.weight(name, tensor)?;
        let dtype = DType::from_name(tensor.dtype().name());
        let dtype = dtype.ok_or_else(|| Error::beyond(format!("the element type {} of '{name}'", tensor.dtype())))?;
        let shape: Vec<usize> = tensor.shape().iter().map(|&axis| axis as usize).collect();
        let data = if tensor.numel() <= 16 && !dtype.is_float() { array_of(dtype, &shape, tensor) } else { None };
        let dims = shape.iter().map(|&size| Dim::Size(size)).collect();
        self.facts.insert(value.clone(), Fact::same(dtype, Probe { shape, data }, self.probes));
        let id = self.tensor_of(value, dtype, dims);
        if let Some(identity) = identity {
            self.weights.insert(identity, id);
        }
        Ok(id)
    }

    /// A constant tensor of the program without a name of its own.
    pub fn constant_tensor(&mut self, array: &Array) -> Result<TensorId> {
        let value = self.constant(array)?;
        self.tensor(value)
    }

    /// A constant tensor of the program, as a weight; a small one's elements are followed.
    pub fn constant_weight(&mut self, name: &str, tensor: &Tensor) -> Result<TensorId> {
        let shape: Vec<usize> = tensor.shape().iter().map(|&axis| axis as usize).collect();
        let dtype = DType::from_name(tensor.dtype().name());
        let dtype = dtype.ok_or_else(|| Error::beyond(format!("the element type {} of '{name}'", tensor.dtype())))?;
        match array_of(dtype, &shape, tensor).filter(|_| tensor.numel() <= 64) {
            Some(array) => self.constant_tensor(&array),
            None => self.weight(name, tensor),
        }
    }

    /// One element of the first axis, as an item of a loop.
    pub fn element(&mut self, tensor: TensorId, at: i64) -> Result<crate::script::Item> {
        let view = alias::View::Select { axis: 0, index: Int::Known(at) };
        Ok(crate::script::Item::Plain(Value::Tensor(self.view(tensor, view)?)))
    }

    /// Tensors spread to the shape of all of them.
    pub fn broadcast(&mut self, tensors: &[TensorId]) -> Result<Vec<TensorId>> {
        let mut all = self.value(*tensors.first().ok_or_else(|| Error::invalid("nothing to broadcast"))?)?;
        let dtype = self.dtype(tensors[0]);
        for &tensor in &tensors[1..] {
            let zero = self.number(0.0, dtype)?;
            let value = self.value_as(tensor, dtype)?;
            let value = self.node("Mul", &[&value, &zero], &[])?;
            all = self.node("Add", &[&all, &value], &[])?;
        }
        let shape = self.shape_of(&all)?;
        tensors.iter().map(|&tensor| self.view(tensor, alias::View::Expand(shape.clone()))).collect()
    }

    /// That the type and sizes of a result are known, without a program that says them.
    pub fn check_known(&self, tensor: TensorId) -> Result<()> {
        if self.tensors[tensor].dtype == DType::Str {
            return Err(Error::beyond("a tensor whose sizes follow from data here"));
        }
        Ok(())
    }

    // Calls.

    /// Lowers one call of an operator of ATen.
    ///
    /// # Errors
    /// When the operator is not known, or this form of it is not supported.
    pub fn call(&mut self, args: &Args) -> Result<Vec<Value>> {
        if let Some(lowering) = rows().get(args.operator.as_str()) {
            return lowering(self, args);
        }
        let Some(plain) = plain(&args.operator) else {
            return Err(Error::beyond(format!("the operator aten.{}", args.operator)));
        };
        let (_, target) = args.values.first().ok_or_else(|| Error::invalid("it has no arguments"))?;
        let target = target.tensor()?;
        if plain == "detach" {
            return Ok(vec![Value::Tensor(target)]);
        }
        let mut values = args.values.clone();
        // What is `self` to the operator in place is `input` to a few of the plain ones.
        if let Some(first) = schema::overloads(plain).first().and_then(|schema| schema.arguments.first()) {
            values[0].0 = first.name.to_string();
        }
        let own = Args { operator: plain.to_string(), overload: args.overload.clone(), values };
        let results = rows()[plain](self, &own)?;
        let result = results.first().ok_or_else(|| Error::invalid("it gives nothing"))?.tensor()?;
        if result != target {
            let (found, wanted) = (self.dtype(result), self.dtype(target));
            if !can_cast(found, wanted) {
                return Err(Error::invalid(format!("a result of type {found} cannot be stored as {wanted}")));
            }
            let value = self.value(result)?;
            let value = self.cast(&value, found, wanted)?;
            self.write(target, value)?;
        }
        Ok(vec![Value::Tensor(target)])
    }

    /// A tensor's value as another type.
    pub fn cast(&mut self, value: &str, from: DType, to: DType) -> Result<ValueName> {
        if from == to {
            return Ok(value.into());
        }
        self.node("Cast", &[value], &[("to", Attr::Int(i64::from(to.number())))])
    }

    /// The value of a tensor as another type.
    pub fn value_as(&mut self, tensor: TensorId, dtype: DType) -> Result<ValueName> {
        let (value, from) = (self.value(tensor)?, self.dtype(tensor));
        self.cast(&value, from, dtype)
    }
}

/// PyTorch's rule of what a result may be stored as in place: not from a float to an integer, not to a truth value.
fn can_cast(from: DType, to: DType) -> bool {
    !(from.is_float() && !to.is_float() || from != DType::Bool && to == DType::Bool)
}

/// The axis that a possibly negative number means among `rank`; a scalar has one for this purpose.
pub(crate) fn axis_of(axis: i64, rank: usize) -> Result<usize> {
    let count = rank.max(1) as i64;
    let found = if axis < 0 { axis + count } else { axis };
    if (0..count).contains(&found) {
        return Ok(found as usize);
    }
    Err(Error::invalid(format!("dimension {axis} is out of range for {rank} axes")))
}

/// An array with the same number everywhere; integers stay exact.
pub(crate) fn filled(dtype: DType, shape: &[usize], value: f64) -> Result<Array> {
    let count = rekindle_onnx::array::count(shape)?;
    Ok(match dtype {
        DType::Bool => Array::new(shape.to_vec(), vec![value != 0.0; count])?,
        dtype if dtype.is_int() => Array::of_ints(dtype, shape.to_vec(), vec![value as i128; count])?,
        dtype => Array::filled(dtype, shape, value)?,
    })
}

/// An array of numbers; integers stay exact up to 2^53.
pub(crate) fn array_from(dtype: DType, shape: Vec<usize>, values: &[f64]) -> Result<Array> {
    Ok(match dtype {
        DType::Bool => Array::new(shape, values.iter().map(|value| *value != 0.0).collect::<Vec<_>>())?,
        dtype if dtype.is_int() => Array::of_ints(dtype, shape, values.iter().map(|value| *value as i128).collect())?,
        dtype => Array::of_floats(dtype, shape, values.to_vec())?,
    })
}

/// The values of a small tensor of a file.
pub(crate) fn array_of(dtype: DType, shape: &[usize], tensor: &Tensor) -> Option<Array> {
    let bytes = tensor.bytes().ok()?;
    Array::from_data(shape.to_vec(), rekindle_onnx::graph::weight::values(dtype, &bytes)).ok()
}

/// Attributes, shorter.
pub(crate) fn int(value: i64) -> Attr {
    Attr::Int(value)
}

pub(crate) fn list(values: impl IntoIterator<Item = i64>) -> Attr {
    Attr::Ints(values.into_iter().collect())
}
