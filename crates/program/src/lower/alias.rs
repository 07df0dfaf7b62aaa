//! Tensors that share memory: a write to one is seen by all.
//!
//! A view knows its base and how it is made from it. A write to a view is carried to its base by the inverse; a view
//! that is
//! read after a write to its base is made again. Where PyTorch shares memory or copies depending on strides, which a
//! program does
//! not always tell, the bond is a doubtful one: a write on either side makes the other unreadable, so that a write is
//! never missed.

use rekindle_onnx::builder::{Attr, GraphBuilder, ValueName};

use super::{END, Int, Lower, TensorId};
use crate::{Error, Result};

/// How a view is made from its base.
#[derive(Debug, Clone)]
pub(crate) enum View {
    /// All of it, as it is.
    Whole,
    /// The same elements in the same order under another shape, a vector of int64.
    Reshape(ValueName),
    /// Axes in another order.
    Permute(Vec<usize>),
    /// Axes of size 1 more.
    Unsqueeze(Vec<i64>),
    /// Axes of size 1 fewer.
    Squeeze(Vec<i64>),
    /// Elements of an axis from start to end (both scalars of int64) at a step.
    Slice { axis: usize, start: Int, end: Int, step: i64 },
    /// One element of an axis.
    Select { axis: usize, index: Int },
    /// Elements at positions of the first two axes after these are in another order; they are the last axis.
    Picked { positions: ValueName, order: Vec<usize> },
    /// Repeated along axes, to a shape.
    Expand(ValueName),
}

/// How a tensor is stored, in the example that a program was exported for.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub sizes: Vec<i64>,
    pub strides: Vec<i64>,
}

impl Layout {
    /// Whether strides are those of row-major order.
    pub fn is_plain(&self) -> bool {
        let mut expected = 1_i64;
        self.sizes.contains(&0)
            || self.sizes.iter().zip(&self.strides).rev().all(|(&size, &stride)| {
                let fits = size == 1 || stride == expected;
                expected = expected.saturating_mul(size);
                fits
            })
    }

    /// Whether other sizes can be a view of it: each run of axes that are one block in memory must be cut in itself. The rule of PyTorch's
    /// `computeStride`.
    fn has_view(&self, sizes: &[i64]) -> bool {
        if self.sizes.contains(&0) {
            return true;
        }
        let mut left = sizes.len();
        let Some(mut step) = self.strides.last().copied() else { return true };
        let (mut block, mut taken) = (1_i64, 1_i64);
        for axis in (0..self.sizes.len()).rev() {
            block = block.saturating_mul(self.sizes[axis]);
            let ends = axis == 0 || self.sizes[axis - 1] != 1 && self.strides[axis - 1] != block.saturating_mul(step);
            if !ends {
                continue;
            }
            while left > 0 && (taken < block || sizes[left - 1] == 1) {
                taken = taken.saturating_mul(sizes[left - 1]);
                left -= 1;
            }
            if taken != block {
                return false;
            }
            if axis > 0 {
                step = self.strides[axis - 1];
                (block, taken) = (1, 1);
            }
        }
        left == 0
    }
}

/// A tie to another tensor.
#[derive(Debug, Clone)]
pub(crate) struct Bond {
    base: TensorId,
    view: View,
    /// Whether PyTorch is certain to share the memory.
    certain: bool,
}

impl Lower {
    /// Whether nodes are those of a nested graph, whose values nothing outside sees.
    pub fn is_nested(&self) -> bool {
        !self.nested.is_empty()
    }

    /// Begins a graph inside this one.
    pub fn enter(&mut self, name: &str) -> GraphBuilder {
        self.nested.push(self.tensors.len());
        let nested = self.builder.nested(name);
        std::mem::replace(&mut self.builder, nested)
    }

    /// Ends a graph inside `outer`, which is what [`Lower::enter`] gave.
    pub fn leave(&mut self, outer: GraphBuilder) -> GraphBuilder {
        self.nested.pop();
        let nested = std::mem::replace(&mut self.builder, outer);
        self.builder.skip_names_of(&nested);
        nested
    }

    /// The value that holds a tensor now.
    ///
    /// # Errors
    /// When it is not known whether a write has changed it.
    pub fn value(&mut self, tensor: TensorId) -> Result<ValueName> {
        self.refresh(tensor, 0)
    }

    fn refresh(&mut self, tensor: TensorId, depth: usize) -> Result<ValueName> {
        if depth > 10_000 {
            return Err(Error::invalid("views of views are nested too deep"));
        }
        if let Some(why) = &self.tensors[tensor].lost {
            return Err(Error::beyond(why.clone()));
        }
        let Some(bond) = self.tensors[tensor].bond.clone() else { return Ok(self.tensors[tensor].value.clone()) };
        // A base that is a view itself gets its next version only here, when it is made again.
        let base = self.refresh(bond.base, depth + 1)?;
        let version = self.tensors[bond.base].version;
        if version == self.tensors[tensor].seen {
            return Ok(self.tensors[tensor].value.clone());
        }
        if !bond.certain {
            return Err(Error::beyond("reading a tensor that may share the memory of one that was written"));
        }
        let value = self.make(&bond.view, &base)?;
        // What a nested graph makes anew of a tensor outside is not there after it.
        if self.nested.last().is_none_or(|&outside| tensor >= outside) {
            let state = &mut self.tensors[tensor];
            (state.value, state.seen) = (value.clone(), version);
            state.version += 1;
        }
        Ok(value)
    }

    /// A view of a tensor.
    pub fn view(&mut self, base: TensorId, view: View) -> Result<TensorId> {
        self.bound(base, view, true)
    }

    /// A view of a tensor, or a copy: that depends on how it lies in memory.
    pub fn perhaps_view(&mut self, base: TensorId, view: View) -> Result<TensorId> {
        self.bound(base, view, false)
    }

    /// Ties a tensor to one whose memory it shares in a way that is not followed: a write to either makes the other
    /// unreadable.
    pub fn tie(&mut self, tensor: TensorId, base: TensorId) {
        let seen = self.tensors[base].version;
        let state = &mut self.tensors[tensor];
        (state.bond, state.seen) = (Some(Bond { base, view: View::Whole, certain: false }), seen);
    }

    /// What a tensor is a view of, and how.
    pub fn seen_through(&self, tensor: TensorId) -> Option<(TensorId, View)> {
        self.tensors[tensor].bond.as_ref().map(|bond| (bond.base, bond.view.clone()))
    }

    /// Whether a tensor is in row-major order, where that is known.
    pub fn plain(&self, tensor: TensorId) -> Option<bool> {
        self.tensors[tensor].layout.as_ref().map(Layout::is_plain)
    }

    /// Whether PyTorch gives a view of a tensor under the shape of a value, and not a copy, where that is known.
    pub fn views(&self, tensor: TensorId, value: &str) -> Option<bool> {
        let layout = self.tensors[tensor].layout.as_ref()?;
        let shape = &self.fact(value)?.probes.first()?.shape;
        Some(layout.has_view(&shape.iter().map(|&size| size as i64).collect::<Vec<_>>()))
    }

    /// Says that a view that was perhaps a copy is none.
    pub fn make_certain(&mut self, tensor: TensorId) {
        if let Some(bond) = &mut self.tensors[tensor].bond {
            bond.certain = true;
        }
    }

    fn bound(&mut self, base: TensorId, view: View, certain: bool) -> Result<TensorId> {
        let value = self.value(base)?;
        let value = self.make(&view, &value)?;
        let tensor = self.tensor_or_unknown(value);
        let seen = self.tensors[base].version;
        let state = &mut self.tensors[tensor];
        (state.bond, state.seen) = (Some(Bond { base, view, certain }), seen);
        Ok(tensor)
    }

    /// Gives a tensor the shape of a view of itself; what was a view of it stays one of what it was.
    pub fn turn(&mut self, target: TensorId, view: TensorId) {
        let was = self.tensors.len();
        let old = self.tensors[target].clone();
        self.tensors.push(old);
        for state in &mut self.tensors[..was] {
            if let Some(bond) = state.bond.as_mut().filter(|bond| bond.base == target) {
                bond.base = was;
            }
        }
        self.tensors[target] = self.tensors[view].clone();
        self.weights.values_mut().filter(|id| **id == target).for_each(|id| *id = was);
    }

    /// Puts another value in the place of a tensor's, and of all that share its memory.
    ///
    /// # Errors
    /// When the write goes through a view whose inverse is not known.
    pub fn write(&mut self, tensor: TensorId, value: ValueName) -> Result<()> {
        if self.nested.last().is_some_and(|&outside| tensor < outside) {
            return Err(Error::beyond("a write in place to a tensor outside the branch"));
        }
        let old = self.value(tensor)?;
        let value = self.broadcast_to(value, &old)?;
        let state = &mut self.tensors[tensor];
        state.value = value.clone();
        state.version += 1;
        let Some(bond) = state.bond.clone() else { return Ok(()) };
        if !bond.certain {
            self.lose(bond.base);
            let version = self.tensors[bond.base].version;
            self.tensors[tensor].seen = version;
            // What was written is known, what it was a view of is not: from here on it stands alone.
            self.tensors[tensor].bond = None;
            return Ok(());
        }
        let base = self.refresh(bond.base, 0)?;
        let whole = self.inverse(&bond.view, &base, &value)?;
        self.write(bond.base, whole)?;
        let version = self.tensors[bond.base].version;
        self.tensors[tensor].seen = version;
        Ok(())
    }

    /// Marks a tensor, and all that it is a view of, as perhaps changed.
    fn lose(&mut self, tensor: TensorId) {
        let mut next = Some(tensor);
        while let Some(tensor) = next {
            let state = &mut self.tensors[tensor];
            state.lost = Some("reading a tensor that may share the memory of one that was written".to_string());
            state.version += 1;
            next = state.bond.as_ref().map(|bond| bond.base);
        }
    }

    /// A value that is written fills what it is written to.
    fn broadcast_to(&mut self, value: ValueName, old: &str) -> Result<ValueName> {
        let same = match (self.fact(&value), self.fact(old)) {
            (Some(new), Some(old)) => new.shapes_equal(old),
            _ => false,
        };
        if same {
            return Ok(value);
        }
        let shape = self.shape_of(old)?;
        self.node("Expand", &[&value, &shape], &[])
    }

    /// `base` with the elements at positions of two axes replaced.
    pub fn put_picked(&mut self, base: &str, value: &str, positions: &str, order: &[usize]) -> Result<ValueName> {
        let outer = order.len() - 2;
        let front: Vec<usize> = [outer].into_iter().chain(0..outer).collect();
        let (turned, rows) = (self.transpose(base, order)?, self.transpose(value, &front)?);
        let all = self.node("ScatterND", &[&turned, positions, &rows], &[])?;
        let mut back = vec![0; order.len()];
        order.iter().enumerate().for_each(|(to, &from)| back[from] = to);
        self.transpose(&all, &back)
    }

    pub(super) fn make(&mut self, view: &View, base: &str) -> Result<ValueName> {
        match view {
            View::Whole => Ok(base.into()),
            View::Reshape(shape) => self.reshape(base, shape),
            View::Permute(order) => self.transpose(base, order),
            View::Unsqueeze(axes) => {
                let axes = self.ints(axes)?;
                self.node("Unsqueeze", &[base, &axes], &[])
            }
            View::Squeeze(axes) => {
                let axes = self.ints(axes)?;
                self.node("Squeeze", &[base, &axes], &[])
            }
            View::Slice { axis, start, end, step } => {
                if (start, end, *step) == (&Int::Known(0), &Int::Known(END), 1) {
                    return Ok(base.into());
                }
                let (start, end) = (self.vector(std::slice::from_ref(start))?, self.vector(std::slice::from_ref(end))?);
                let (axis, step) = (self.ints(&[*axis as i64])?, self.ints(&[*step])?);
                self.node("Slice", &[base, &start, &end, &axis, &step], &[])
            }
            View::Select { axis, index } => {
                let index = self.int_value(index)?;
                self.node("Gather", &[base, &index], &[("axis", Attr::Int(*axis as i64))])
            }
            View::Picked { positions, order } => {
                let turned = self.transpose(base, order)?;
                let picked = self.node("GatherND", &[&turned, positions], &[])?;
                let back: Vec<usize> = (1..=order.len() - 2).chain([0]).collect();
                self.transpose(&picked, &back)
            }
            View::Expand(shape) => self.node("Expand", &[base, shape], &[]),
        }
    }

    /// The base after a write of `value` to the view.
    fn inverse(&mut self, view: &View, base: &str, value: &str) -> Result<ValueName> {
        match view {
            View::Whole => Ok(value.into()),
            View::Reshape(_) => {
                let shape = self.shape_of(base)?;
                self.reshape(value, &shape)
            }
            View::Permute(order) => {
                let mut back = vec![0; order.len()];
                order.iter().enumerate().for_each(|(to, &from)| back[from] = to);
                self.transpose(value, &back)
            }
            View::Unsqueeze(axes) => {
                let axes = self.ints(axes)?;
                self.node("Squeeze", &[value, &axes], &[])
            }
            View::Squeeze(axes) => {
                let axes = self.ints(axes)?;
                self.node("Unsqueeze", &[value, &axes], &[])
            }
            View::Slice { axis, start, end, step } => self.put_slice(base, value, *axis, start, end, *step),
            View::Select { axis, index } => {
                let axes = self.ints(&[*axis as i64])?;
                let one = self.node("Unsqueeze", &[value, &axes], &[])?;
                let end = match index {
                    Int::Known(-1) => Int::Known(END),
                    index => self.int_add(index, &Int::Known(1))?,
                };
                self.put_slice(base, &one, *axis, index, &end, 1)
            }
            View::Picked { positions, order } => self.put_picked(base, value, positions, order),
            View::Expand(_) => match (self.fact(base), self.fact(value)) {
                (Some(base), Some(value_fact)) if base.shapes_equal(value_fact) => Ok(value.into()),
                _ => Err(Error::beyond("a write through an expanded tensor")),
            },
        }
    }

    /// `base` with a part of an axis replaced. Bounds are as a slice has them: negative ones count from the end.
    pub fn put_slice(
        &mut self,
        base: &str,
        value: &str,
        axis: usize,
        start: &Int,
        end: &Int,
        step: i64,
    ) -> Result<ValueName> {
        let known_start = matches!(start, Int::Known(0));
        let to_end = matches!(end, Int::Known(END));
        if known_start && to_end && step == 1 {
            return Ok(value.into());
        }
        let size = self.size_value(base, axis)?;
        // The positions that the slice takes, found by slicing all of them: bounds beyond the axis need no care of
        // their own.
        let (zero, one) = (
            self.constant(&rekindle_onnx::Array::scalar(0_i64))?,
            self.constant(&rekindle_onnx::Array::scalar(1_i64))?,
        );
        let size = self.int_value(&size)?;
        let all = self.node("Range", &[&zero, &size, &one], &[])?;
        let (first, last) = (self.vector(std::slice::from_ref(start))?, self.vector(std::slice::from_ref(end))?);
        let (zeros, steps) = (self.ints(&[0])?, self.ints(&[step])?);
        let positions = self.node("Slice", &[&all, &first, &last, &zeros, &steps], &[])?;
        if let Some(rank) = self.fact(base).map(|fact| fact.rank()) {
            let order = |rank: usize| {
                let mut order: Vec<usize> = (0..rank).collect();
                order.swap(0, axis);
                order
            };
            let column = self.ints(&[1])?;
            let column = self.node("Unsqueeze", &[&positions, &column], &[])?;
            let (base, value) = if axis == 0 {
                (base.into(), value.into())
            } else {
                (self.transpose(base, &order(rank))?, self.transpose(value, &order(rank))?)
            };
            let all = self.node("ScatterND", &[&base, &column, &value], &[])?;
            return if axis == 0 { Ok(all) } else { self.transpose(&all, &order(rank)) };
        }
        Err(Error::beyond("a write to a part of a tensor whose sizes follow from data"))
    }

    /// A value under another shape, a vector of int64.
    pub fn reshape(&mut self, value: &str, shape: &str) -> Result<ValueName> {
        let empty = self.fact(shape).is_some_and(|fact| {
            let zero = |probe: &super::Probe| {
                probe.data.as_ref().is_some_and(|data| data.ints().is_ok_and(|ints| ints.contains(&0)))
            };
            fact.probes.iter().any(zero)
        });
        let allow = [("allowzero", Attr::Int(1))];
        self.node("Reshape", &[value, shape], if empty { &allow } else { &[] })
    }

    /// Axes of a value in another order.
    pub fn transpose(&mut self, value: &str, order: &[usize]) -> Result<ValueName> {
        if order.iter().enumerate().all(|(at, &axis)| at == axis) {
            return Ok(value.into());
        }
        self.node("Transpose", &[value], &[("perm", Attr::Ints(order.iter().map(|&axis| axis as i64).collect()))])
    }
}
