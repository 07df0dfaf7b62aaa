//! Shapes, and arrays that are made of a shape alone.

use super::{Inputs, dtype_attribute, one, sizes};
use crate::array::{axis, count};
use crate::axis::Axis;
use crate::infer::{self, Fact, Rule};
use crate::operator::{Entry, Operator, Parsed, RawNode, Schema, eval, parsed};
use crate::{Array, DType, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(
        Schema::new("Shape", &[1, 13, 15, 19, 21, 23, 24, 25], (1, 1))
            .attributes(&["end@15", "start@15"])
            .without_gradient(),
        |node| parsed(Shape::parse(node)?),
    ),
    Entry::plain(Schema::new("Size", &[1, 13, 19, 21, 23, 24, 25], (1, 1)).without_gradient(), |inputs| {
        one(Array::scalar(inputs.array(0)?.len() as i64))
    }),
    Entry::new(
        Schema::new("Reshape", &[1, 5, 13, 14, 19, 21, 23, 24, 25], (1, 2))
            .attributes(&["allowzero@14", "consumed_inputs<5", "shape<5"])
            .weights(),
        |node| parsed(Reshape::parse(node)?),
    ),
    Entry::new(
        Schema::new("Flatten", &[1, 9, 11, 13, 21, 23, 24, 25], (1, 1)).attributes(&["axis"]).weights(),
        |node| parsed(Flatten { axis: node.attributes.int_or("axis", 1)? }),
    ),
    Entry::new(
        Schema::new("Squeeze", &[1, 11, 13, 21, 23, 24, 25], (1, 2)).attributes(&["axes<13"]).weights(),
        |node| parsed(SingleAxes::parse(node, false)?),
    ),
    Entry::new(
        Schema::new("Unsqueeze", &[1, 11, 13, 21, 23, 24, 25], (1, 2)).attributes(&["axes<13"]).weights(),
        |node| parsed(SingleAxes::parse(node, true)?),
    ),
    Entry::plain(
        Schema::new("Identity", &[1, 13, 14, 16, 19, 21, 23, 24, 25], (1, 1)).rule(Rule::Same).weights(),
        |inputs| Ok(vec![inputs.value(0)?.clone()]),
    ),
    Entry::plain(Schema::new("Expand", &[8, 13], (2, 2)).weights(), expand),
    Entry::new(Schema::new("Tile", &[1, 6, 13], (2, 3)), tile),
    Entry::new(
        Schema::new("ConstantOfShape", &[9, 20, 21, 23, 24, 25], (1, 1)).attributes(&["value"]).without_gradient(),
        constant_of_shape,
    ),
    Entry::new(Schema::new("EyeLike", &[9, 22], (1, 1)).attributes(&["dtype", "k"]).without_gradient(), eye_like),
    Entry::plain(Schema::new("Range", &[11, 27], (3, 3)).attributes(&["stash_type@27"]), range),
];

/// `Shape`.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// The first axis whose size is wanted; counted from the end when negative.
    start: i64,
    /// The one after the last.
    end: i64,
}

impl Shape {
    fn parse(node: &RawNode) -> Result<Self> {
        Ok(Self { start: node.attributes.int_or("start", 0)?, end: node.attributes.int_or("end", i64::MAX)? })
    }

    /// The sizes that are wanted of a tensor's.
    pub fn sizes(&self, shape: &[usize]) -> Array {
        let rank = shape.len() as i64;
        let at = |position: i64| {
            (if position < 0 { position.saturating_add(rank) } else { position }).clamp(0, rank) as usize
        };
        let (start, end) = (at(self.start), at(self.end));
        Array::vector(shape[start.min(end)..end].iter().map(|&size| size as i64).collect())
    }
}

impl Operator for Shape {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        one(self.sizes(inputs.array(0)?.shape()))
    }
}

/// `Reshape`.
#[derive(Debug, Clone)]
pub struct Reshape {
    /// The shape, where it is an attribute (version 1).
    pub shape: Option<Vec<i64>>,
    /// Whether 0 is an empty axis, and not one that is kept.
    pub zero: bool,
}

impl Reshape {
    fn parse(node: &RawNode) -> Result<Self> {
        let shape = node.attributes.ints("shape")?.map(<[i64]>::to_vec);
        Ok(Self { shape, zero: node.attributes.flag("allowzero", false)? })
    }

    /// The new shape of a tensor: of what is wanted, 0 keeps an axis, -1 stands for what is left.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn target(&self, wanted: Option<Vec<i64>>, old: &[usize]) -> Result<Vec<usize>> {
        let wanted = match wanted {
            Some(wanted) => wanted,
            None => self.shape.clone().ok_or_else(|| Error::invalid("input 1, the shape, is missing"))?,
        };
        let mut shape = Vec::with_capacity(wanted.len());
        let mut open = None;
        for (i, &size) in wanted.iter().enumerate() {
            shape.push(match size {
                -1 if open.replace(i).is_none() => 1,
                0 if !self.zero => *old
                    .get(i)
                    .ok_or_else(|| Error::invalid(format!("shape {wanted:?} keeps an axis that is not there")))?,
                size => usize::try_from(size).map_err(|_| Error::invalid(format!("{wanted:?} is no shape")))?,
            });
        }
        if let Some(open) = open {
            let len: usize = old.iter().product();
            let rest = shape.iter().try_fold(1_usize, |rest, &size| rest.checked_mul(size));
            let rest = rest.filter(|&rest| rest > 0 && len.is_multiple_of(rest));
            shape[open] =
                len / rest.ok_or_else(|| Error::invalid(format!("shape {old:?} cannot become {wanted:?}")))?;
        }
        Ok(shape)
    }
}

impl Operator for Reshape {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let x = inputs.array(0)?;
        one(x.reshaped(self.target(inputs.ints(1)?, x.shape())?)?)
    }

    fn infer(&self, inputs: &[Fact]) -> Result<Vec<Fact>> {
        let Some(x) = inputs.first() else { return Ok(Vec::new()) };
        let target = inputs.get(1).and_then(|target| target.ints.as_ref()).or(self.shape.as_ref());
        let (Some(shape), Some(target)) = (&x.shape, target) else {
            return Ok(vec![Fact { dtype: x.dtype, ..Fact::default() }]);
        };
        Ok(vec![Fact::new(x.dtype, infer::reshape(shape, target, self.zero)?)])
    }
}

/// `Flatten`.
#[derive(Debug, Clone)]
pub struct Flatten {
    /// The first axis of the second axis of the result.
    pub axis: i64,
}

impl Flatten {
    /// How many axes become the first one.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn cut(&self, rank: usize) -> Result<usize> {
        if self.axis == rank as i64 { Ok(rank) } else { axis(self.axis, rank) }
    }
}

impl Operator for Flatten {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let x = inputs.array(0)?;
        let (front, back) = x.shape().split_at(self.cut(x.rank())?);
        one(x.reshaped(vec![front.iter().product(), back.iter().product()])?)
    }

    fn infer(&self, inputs: &[Fact]) -> Result<Vec<Fact>> {
        let Some(x) = inputs.first() else { return Ok(Vec::new()) };
        let Some(shape) = &x.shape else { return Ok(vec![Fact { dtype: x.dtype, ..Fact::default() }]) };
        let (front, back) = shape.split_at(self.cut(shape.len())?);
        Ok(vec![Fact::new(x.dtype, vec![infer::product(front), infer::product(back)])])
    }
}

/// `Squeeze` and `Unsqueeze`.
#[derive(Debug, Clone)]
pub struct SingleAxes {
    /// The axes, where they are an attribute; an input since version 13.
    pub axes: Option<Vec<i64>>,
    /// Whether axes of size 1 come, or else go.
    pub insert: bool,
}

impl SingleAxes {
    fn parse(node: &RawNode, insert: bool) -> Result<Self> {
        Ok(Self { axes: node.attributes.ints("axes")?.map(<[i64]>::to_vec), insert })
    }

    /// The shape with axes inserted or removed; `one` is an axis of size 1, `single` tells whether an axis can be one.
    ///
    /// # Errors
    /// When the axes do not fit it.
    pub fn apply<T: Clone>(
        &self,
        axes: Option<Vec<i64>>,
        shape: &[T],
        one: T,
        single: impl Fn(&T) -> bool,
    ) -> Result<Vec<T>> {
        let axes = axes.or_else(|| self.axes.clone());
        if self.insert {
            let given = axes.ok_or_else(|| Error::invalid("input 1, the axes, is missing"))?;
            let rank = shape.len() + given.len();
            let mut new = vec![false; rank];
            for &one in &given {
                if std::mem::replace(&mut new[axis(one, rank)?], true) {
                    return Err(Error::invalid(format!("axes {given:?} name one axis twice")));
                }
            }
            let mut old = shape.iter();
            return Ok(new.iter().map(|new| if *new { None } else { old.next() }.unwrap_or(&one).clone()).collect());
        }
        let mut gone: Vec<bool> = shape.iter().map(&single).collect();
        if let Some(axes) = axes {
            gone.fill(false);
            for given in axes {
                let axis = axis(given, shape.len())?;
                if !single(&shape[axis]) {
                    return Err(Error::invalid(format!("axis {given} is not of size 1")));
                }
                gone[axis] = true;
            }
        }
        Ok(shape.iter().zip(gone).filter(|(_, gone)| !gone).map(|(size, _)| size.clone()).collect())
    }
}

impl Operator for SingleAxes {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let x = inputs.array(0)?;
        one(x.reshaped(self.apply(inputs.ints(1)?, x.shape(), 1, |&size| size == 1)?)?)
    }

    fn infer(&self, inputs: &[Fact]) -> Result<Vec<Fact>> {
        let Some(x) = inputs.first() else { return Ok(Vec::new()) };
        let given = inputs.get(1).filter(|axes| **axes != Fact::default());
        let axes = given.and_then(|axes| axes.ints.clone());
        let unknown = given.is_some() && axes.is_none();
        // Without axes an open one may go or stay.
        let open = |shape: &Vec<Axis>| {
            !self.insert && axes.is_none() && self.axes.is_none() && shape.iter().any(|axis| axis.size().is_none())
        };
        let Some(shape) = x.shape.as_ref().filter(|shape| !unknown && !open(shape)) else {
            return Ok(vec![Fact { dtype: x.dtype, ..Fact::default() }]);
        };
        let shape = self.apply(axes, shape, Axis::Size(1), |axis| axis.size().is_none_or(|size| size == 1))?;
        Ok(vec![Fact::new(x.dtype, shape)])
    }
}

fn expand(inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let wanted = sizes(&inputs.array(1)?.int64s()?)?;
    one(x.broadcast_to(&crate::array::broadcast_shape(&[x.shape(), &wanted])?)?)
}

/// Version 1 repeats along one axis.
fn tile(node: &RawNode) -> Parsed {
    let version = node.version;
    eval(move |inputs| {
        let x = inputs.array(0)?;
        let repeats = if version < 6 {
            let mut repeats = vec![1; x.rank()];
            repeats[axis(inputs.array(2)?.int()?, x.rank())?] = inputs.array(1)?.int()?;
            sizes(&repeats)?
        } else {
            sizes(&inputs.array(1)?.int64s()?)?
        };
        if repeats.len() != x.rank() {
            return Err(Error::invalid(format!("{} repeats for {} axes", repeats.len(), x.rank())));
        }
        let pairs = |first: fn(usize, usize) -> [usize; 2]| {
            x.shape().iter().zip(&repeats).flat_map(|(&size, &repeat)| first(size, repeat)).collect()
        };
        let (apart, stretched): (Vec<_>, Vec<_>) = (pairs(|size, _| [1, size]), pairs(|size, repeat| [repeat, size]));
        let shape = x.shape().iter().zip(&repeats).map(|(&size, &repeat)| size.saturating_mul(repeat)).collect();
        one(x.reshaped(apart)?.broadcast_to(&stretched)?.reshaped(shape)?)
    })
}

fn constant_of_shape(node: &RawNode) -> Parsed {
    let value = node.attributes.array("value")?.cloned().unwrap_or_else(|| Array::scalar(0_f32));
    if value.len() != 1 {
        return Err(Error::invalid(format!("attribute 'value' holds {} values instead of one", value.len())));
    }
    let value = value.reshaped(Vec::new())?;
    eval(move |inputs| {
        let shape = sizes(&inputs.array(0)?.int64s()?)?;
        one(value.broadcast_to(&shape)?)
    })
}

fn eye_like(node: &RawNode) -> Parsed {
    let given = dtype_attribute(node, "dtype")?;
    let shift = i128::from(node.attributes.int_or("k", 0)?);
    eval(move |inputs| {
        let x = inputs.array(0)?;
        let &[rows, columns] = x.shape() else {
            return Err(Error::invalid(format!("expected a matrix, found shape {:?}", x.shape())));
        };
        let dtype = given.unwrap_or(x.dtype());
        let mut values = vec![0_i128; x.len()];
        for row in 0..rows {
            if let Some(column) = usize::try_from(row as i128 + shift).ok().filter(|&column| column < columns) {
                values[row * columns + column] = 1;
            }
        }
        one(Array::of_ints(dtype, vec![rows, columns], values)?)
    })
}

fn range(inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let (start, limit, delta) = (inputs.array(0)?, inputs.array(1)?, inputs.array(2)?);
    let dtype = start.dtype();
    if limit.dtype() != dtype || delta.dtype() != dtype {
        return Err(Error::invalid(format!(
            "its inputs are of types {dtype}, {} and {}",
            limit.dtype(),
            delta.dtype()
        )));
    }
    let no_step = || Error::invalid("the step is 0");
    if dtype.is_int() {
        let (start, limit, delta) = (wide(start)?, wide(limit)?, wide(delta)?);
        let steps = (limit - start).checked_div(delta).ok_or_else(no_step)?;
        let length =
            (steps + i128::from((limit - start) % delta != 0 && steps >= 0 && ((limit > start) == (delta > 0)))).max(0);
        let length = count(&[usize::try_from(length).unwrap_or(usize::MAX)])?;
        return one(Array::of_ints(dtype, vec![length], (0..length as i128).map(|i| start + i * delta).collect())?);
    }
    let (start, limit, delta) = (start.float()?, limit.float()?, delta.float()?);
    if delta == 0.0 || dtype == DType::Bool {
        return Err(no_step());
    }
    // A float too large for usize saturates, and NaN is 0.
    let length = count(&[((limit - start) / delta).ceil() as usize])?;
    one(Array::of_floats(dtype, vec![length], (0..length).map(|i| start + i as f64 * delta).collect())?)
}

/// The only element as it is: 64-bit unsigned integers included.
fn wide(array: &Array) -> Result<i128> {
    match array.ints()?.as_slice() {
        [value] => Ok(*value),
        values => Err(Error::invalid(format!("expected one number, found {}", values.len()))),
    }
}
