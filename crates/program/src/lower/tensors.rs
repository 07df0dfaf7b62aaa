//! Tensors of the program while it is lowered.

use rekindle_onnx::builder::{Attr, ValueName};
use rekindle_onnx::{Array, Axis, DType};
use rekindle_state::Tensor;

use super::alias::View;
use super::{Dim, Fact, Int, Layout, Lower, Probe, State, TensorId, Value, array_of, axis_of};
use crate::{Error, Result};

impl Lower {
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
        let (bond, version, seen, lost, layout, number) = (None, 0, 0, None, None, false);
        self.tensors.push(State { value, dtype, shape, bond, version, seen, lost, layout, number });
        self.tensors.len() - 1
    }

    /// Says that a tensor without axes counts as a number of Python where types are promoted.
    pub fn count_as_number(&mut self, tensor: TensorId) {
        self.tensors[tensor].number = true;
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

    /// Takes what two branches give as what is known of the result of either, where their sizes are the same.
    pub fn learn_either(&mut self, result: &ValueName, values: [&ValueName; 2]) {
        let [Some(first), Some(second)] = values.map(|value| self.facts.get(value)) else { return };
        if first.dtype == second.dtype && first.shapes_equal(second) {
            let probes = first.probes.iter().map(|probe| Probe { shape: probe.shape.clone(), data: None }).collect();
            let fact = Fact { dtype: first.dtype, probes };
            self.facts.insert(result.clone(), fact);
        }
    }

    /// Says how a tensor is stored.
    pub fn set_layout(&mut self, tensor: TensorId, layout: Layout) {
        self.tensors[tensor].layout = Some(layout);
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

    /// Says type and sizes of a value that the graph was given.
    pub fn describe(&mut self, value: &ValueName, dtype: DType, shape: &[usize]) {
        let fact = Fact::same(dtype, Probe { shape: shape.to_vec(), data: None }, self.probes);
        self.facts.insert(value.clone(), fact);
    }

    /// Follows the elements of a weight that is no parameter.
    pub fn follow(&mut self, id: TensorId, tensor: &Tensor) {
        let state = &self.tensors[id];
        let shape: Vec<usize> = tensor.shape().iter().map(|&axis| axis as usize).collect();
        if let Some(array) = array_of(state.dtype, &shape, tensor) {
            self.facts.insert(state.value.clone(), Fact::same(state.dtype, Probe::of(&array), self.probes));
        }
    }

    /// A complex weight: real numbers with the two parts along a last axis.
    pub fn complex_weight(&mut self, name: &str, tensor: &Tensor) -> Result<Value> {
        use rekindle_state::DType as Stored;
        let part = match tensor.dtype() {
            Stored::Complex64 => Stored::F32,
            Stored::Complex128 => Stored::F64,
            other => return Err(Error::beyond(format!("the element type {other} of '{name}'"))),
        };
        let plain = tensor.view().filter(|view| !view.conjugate && !view.negative);
        let view = plain.ok_or_else(|| Error::beyond(format!("'{name}', a complex tensor that is no plain one,")))?;
        let mut real = view.clone();
        real.offset = view.offset.saturating_mul(2);
        real.strides = view.strides.iter().map(|stride| stride.saturating_mul(2)).chain([1]).collect();
        let mut shape = tensor.shape().to_vec();
        shape.push(2);
        let real = Tensor::strided(part, &shape, real)?;
        let id = self.weight(name, &real)?;
        self.apply_one("view_as_complex", "", &[("self", Value::Tensor(id))])
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
        let view = View::Select { axis: 0, index: Int::Known(at) };
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
        tensors.iter().map(|&tensor| self.view(tensor, View::Expand(shape.clone()))).collect()
    }

    /// That the type and sizes of a result are known, without a program that says them.
    pub fn check_known(&self, tensor: TensorId) -> Result<()> {
        if self.tensors[tensor].dtype == DType::Str {
            return Err(Error::beyond("a tensor whose sizes follow from data here"));
        }
        Ok(())
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
