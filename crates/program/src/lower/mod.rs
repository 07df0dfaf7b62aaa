//! From ATen's operators to nodes of a graph: one file for each family of operators, each with a table of rows.

mod activations;
mod alias;
mod attention;
mod bags;
mod casts;
mod cells;
mod compare;
mod complex;
mod compose;
mod convolution;
mod create;
mod detection;
mod diagonal;
mod dropout;
mod elementwise;
mod encoder;
mod facts;
mod fourier;
mod functions;
mod index;
mod layers;
mod linear_algebra;
mod losses;
mod moved;
mod normalize;
mod numbers;
mod order;
mod packed;
mod parts;
mod pool;
mod put;
mod quantized;
mod recurrent;
mod reduce;
mod repeated;
mod resize;
mod rules;
mod scan;
mod shape;
mod spectrogram;
mod tensors;
mod types;
mod unique;
pub(crate) mod value;
mod windows;

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use rekindle_onnx::builder::{Attr, GraphBuilder, ValueName};
use rekindle_onnx::{Array, DType};
use rekindle_state::Tensor;

pub(crate) use alias::{Bond, Layout};
pub(crate) use create::tensor_of;
pub(crate) use facts::{Fact, Probe};
pub(crate) use quantized::Grid;
pub(crate) use types::promote;
pub(crate) use value::{Args, Dim, Float, Int, TensorId, Value};

use crate::error::Place;
use crate::{Error, Result, schema};

/// Operators of the graph: the version at which all that is used here is there.
pub(crate) const OPSET: i64 = 20;
/// The end of an axis, as PyTorch and ONNX write it.
const END: i64 = i64::MAX;
/// Elements of a constant that a call asks for by its sizes.
const MAX_CONSTANT: usize = 1 << 24;
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
    functions::ROWS,
    compare::ROWS,
    activations::ROWS,
    layers::ROWS,
    convolution::ROWS,
    dropout::ROWS,
    normalize::ROWS,
    pool::ROWS,
    resize::ROWS,
    attention::ROWS,
    recurrent::ROWS,
    shape::ROWS,
    parts::ROWS,
    casts::ROWS,
    moved::ROWS,
    windows::ROWS,
    diagonal::ROWS,
    index::ROWS,
    put::ROWS,
    order::ROWS,
    create::ROWS,
    reduce::ROWS,
    scan::ROWS,
    losses::ROWS,
    complex::ROWS,
    compose::ROWS,
    fourier::ROWS,
    spectrogram::ROWS,
    linear_algebra::ROWS,
    cells::ROWS,
    packed::ROWS,
    bags::ROWS,
    unique::ROWS,
    detection::ROWS,
    encoder::ROWS,
    quantized::ROWS,
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
    (!operator.ends_with("__") && plain != "as_strided" && rows().contains_key(plain)).then_some(plain)
}

/// Whether an operator in place changes the shape of the tensor itself, not its elements.
fn turns(plain: &str) -> bool {
    matches!(plain, "squeeze" | "unsqueeze" | "transpose" | "t" | "swapaxes" | "swapdims")
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
    /// How it is stored, where that is known.
    pub layout: Option<Layout>,
    /// Whether it counts as a number of Python where types are promoted.
    pub number: bool,
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
    /// Values whose sizes follow from data, and what follows from them: the sizes of the examples are only supposed, and
    /// decide no branch.
    supposed: HashSet<ValueName>,
    /// What the integers of quantized tensors stand for.
    grids: HashMap<TensorId, Grid>,
    /// Examples that are followed; sizes that differ between them are open.
    probes: usize,
    nodes: usize,
    /// Tensors that are stored under a name: storage, offset, sizes, strides and type → tensor.
    weights: HashMap<StoredAs, TensorId>,
    /// How many tensors there were when each nested graph began: those are outside, and may not be written in it.
    pub nested: Vec<TensorId>,
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
            supposed: HashSet::new(),
            grids: HashMap::new(),
            probes,
            nodes: 0,
            weights: HashMap::new(),
            nested: Vec::new(),
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
        let mut supposed = inputs.iter().any(|input| self.supposed.contains(*input));
        let mut facts = match node {
            Some(node) if all => facts::infer(node, &known, self.probes, names.len())?,
            _ => None,
        };
        if let (Some(node), None, true) = (node, &facts, all && self.probes > 1) {
            facts = facts::suppose(node, &known, self.probes);
            supposed = true;
        }
        if supposed {
            self.supposed.extend(names.iter().cloned());
        }
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

    /// Whether sizes of a value, or its elements, are only supposed.
    pub fn is_supposed(&self, value: &str) -> bool {
        self.supposed.contains(value)
    }

    /// Takes sizes and elements as those of a value that follows from data.
    pub fn suppose(&mut self, value: &ValueName, fact: Fact) {
        self.supposed.insert(value.clone());
        self.facts.insert(value.clone(), fact);
    }

    /// What is known of a value.
    pub fn fact(&self, value: &str) -> Option<&Fact> {
        self.facts.get(value)
    }

    // Calls.

    /// Lowers one call of an operator of ATen.
    ///
    /// # Errors
    /// When the operator is not known, or this form of it is not supported.
    pub fn call(&mut self, args: &Args) -> Result<Vec<Value>> {
        if args.values.iter().any(|(_, value)| complex::is_complex(value)) {
            return complex::call(self, args);
        }
        if let Some(lowering) = rows().get(args.operator.as_str()) {
            let results = lowering(self, args)?;
            return if self.grids.is_empty() { Ok(results) } else { self.gridded(args, results) };
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
        let mut results = rows()[plain](self, &own)?;
        if !self.grids.is_empty() {
            results = self.gridded(&own, results)?;
        }
        let result = results.first().ok_or_else(|| Error::invalid("it gives nothing"))?.tensor()?;
        if turns(plain) {
            self.turn(target, result);
            return Ok(vec![Value::Tensor(target)]);
        }
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
    if count > MAX_CONSTANT {
        return Err(Error::beyond(format!("a constant of {count} elements")));
    }
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
