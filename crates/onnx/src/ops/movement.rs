//! Elements in other places: joined, cut, turned, chosen.

use super::{Inputs, concat as joined, one};
use crate::array::{Broadcast, Data, axis, count, index_of};
use crate::axis::Axis;
use crate::infer::{Fact, Rule, fits};
use crate::operator::{ANY, Entry, Operator, Parsed, RawNode, Schema, eval, parsed};
use crate::{Array, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(Schema::new("Concat", &[1, 4, 11, 13], (1, ANY)).attributes(&["!axis"]).weights(), |node| {
        parsed(Concat { axis: node.attributes.int_or("axis", 1)? })
    }),
    Entry::new(
        Schema::new("Split", &[1, 2, 11, 13, 18], (1, 2)).attributes(&["axis", "num_outputs@18", "split<13"]).weights(),
        |node| parsed(Split::parse(node)?),
    ),
    Entry::new(
        Schema::new("Slice", &[1, 10, 11, 13], (1, 5)).attributes(&["axes<10", "ends<10", "starts<10"]).weights(),
        |node| parsed(Slice::parse(node)?),
    ),
    Entry::new(Schema::new("Transpose", &[1, 13, 21, 23, 24, 25], (1, 1)).attributes(&["perm"]).weights(), |node| {
        parsed(Transpose { order: node.attributes.ints("perm")?.map(<[i64]>::to_vec) })
    }),
    Entry::new(Schema::new("DepthToSpace", &[1, 11, 13, 28], (1, 1)).attributes(&["!blocksize", "mode@11"]), |node| {
        parsed(Blocks::parse(node, true)?)
    }),
    Entry::new(Schema::new("SpaceToDepth", &[1, 13, 28], (1, 1)).attributes(&["!blocksize", "mode@28"]), |node| {
        parsed(Blocks::parse(node, false)?)
    }),
    Entry::new(
        Schema::new("ReverseSequence", &[10, 28], (2, 2)).attributes(&["batch_axis", "time_axis"]).rule(Rule::Same),
        reverse_sequence,
    ),
    Entry::new(Schema::new("Trilu", &[14], (1, 2)).attributes(&["upper"]).rule(Rule::Same), trilu),
    Entry::plain(Schema::new("Where", &[9, 16], (3, 3)), choose),
];

/// `Concat`.
#[derive(Debug, Clone)]
pub struct Concat {
    /// The axis along which tensors are joined.
    pub axis: i64,
}

impl Operator for Concat {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let arrays = inputs.arrays()?;
        let rank = arrays.first().map_or(0, |first| first.rank());
        one(joined(&arrays, axis(self.axis, rank)?)?)
    }

    fn infer(&self, inputs: &[Fact]) -> Result<Vec<Fact>> {
        let Some(first) = inputs.first() else { return Ok(Vec::new()) };
        let shapes: Option<Vec<&Vec<Axis>>> = inputs.iter().map(|input| input.shape.as_ref()).collect();
        let Some(shapes) = shapes else { return Ok(vec![Fact { dtype: first.dtype, ..Fact::default() }]) };
        let mut shape = shapes[0].clone();
        let along = axis(self.axis, shape.len())?;
        for other in &shapes[1..] {
            let same = other.len() == shape.len()
                && shape.iter().zip(*other).enumerate().all(|(at, (a, b))| at == along || fits(a, b));
            if !same {
                return Err(Error::invalid(format!("its inputs cannot be joined along axis {along}")));
            }
        }
        let sum = shapes.iter().map(|shape| shape[along].size()).try_fold(0_usize, |sum, size| sum.checked_add(size?));
        shape[along] = sum.map_or(Axis::Any, Axis::Size);
        Ok(vec![Fact::new(first.dtype, shape)])
    }
}

/// `Split`.
#[derive(Debug, Clone)]
pub struct Split {
    /// The axis along which it cuts.
    pub axis: i64,
    lengths: Option<Vec<i64>>,
    /// How many parts, where the node says it.
    wanted: Option<i64>,
    outputs: usize,
}

impl Split {
    fn parse(node: &RawNode) -> Result<Self> {
        Ok(Self {
            axis: node.attributes.int_or("axis", 0)?,
            lengths: node.attributes.ints("split")?.map(<[i64]>::to_vec),
            wanted: node.attributes.int("num_outputs")?,
            outputs: node.outputs.len(),
        })
    }

    /// The lengths of the parts of an axis: those of an input, of the node, or from the number of outputs.
    ///
    /// # Errors
    /// When there are more parts than outputs, or a length is negative.
    pub fn lengths(&self, size: usize, given: Option<&[i64]>) -> Result<Vec<usize>> {
        if let Some(given) = given.or(self.lengths.as_deref()) {
            return super::sizes(given);
        }
        let parts = match self.wanted {
            Some(parts) => usize::try_from(parts).ok().filter(|&parts| parts <= self.outputs),
            None => Some(self.outputs),
        };
        let parts = parts.filter(|&parts| parts > 0);
        let parts = parts.ok_or_else(|| Error::invalid("it is split into more parts than it has outputs"))?;
        // The last part may be shorter.
        let length = size.div_ceil(parts);
        Ok((0..parts).map(|part| length.min(size.saturating_sub(part * length))).collect())
    }
}

impl Operator for Split {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let x = inputs.array(0)?;
        let axis = axis(self.axis, x.rank())?;
        let lengths = self.lengths(x.shape()[axis], inputs.ints(1)?.as_deref())?;
        parts(x, axis, &lengths).map(|parts| parts.into_iter().map(Value::from).collect())
    }
}

/// Parts of an array along an axis, of lengths that make up the axis.
pub(super) fn parts(x: &Array, axis: usize, lengths: &[usize]) -> Result<Vec<Array>> {
    let size = x.shape()[axis];
    if lengths.iter().try_fold(0_usize, |sum, &length| sum.checked_add(length)) != Some(size) {
        return Err(Error::invalid(format!("parts of lengths {lengths:?} do not make up an axis of size {size}")));
    }
    let mut start = 0;
    let part = |&length: &usize| {
        let mut axes = vec![None; x.rank()];
        axes[axis] = Some((start..start + length).collect());
        start += length;
        x.select(&axes)
    };
    lengths.iter().map(part).collect()
}

/// `Slice`.
#[derive(Debug, Clone)]
pub struct Slice {
    /// Starts, ends and axes, where they are attributes (before version 10).
    attributes: Option<[Option<Vec<i64>>; 3]>,
}

impl Slice {
    fn parse(node: &RawNode) -> Result<Self> {
        if node.version >= 10 {
            return Ok(Self { attributes: None });
        }
        let list = |name| Ok::<_, Error>(node.attributes.ints(name)?.map(<[i64]>::to_vec));
        Ok(Self { attributes: Some([list("starts")?, list("ends")?, list("axes")?]) })
    }

    /// Start, end, axis and step of each axis that is cut.
    ///
    /// # Errors
    /// When they do not fit together.
    pub fn cuts(
        &self,
        input: impl Fn(usize) -> Result<Option<Vec<i64>>>,
        rank: usize,
    ) -> Result<Vec<(usize, [i64; 3])>> {
        let missing = |what| move || Error::invalid(format!("there are no {what}"));
        let [starts, ends, axes, steps] = match &self.attributes {
            Some([starts, ends, axes]) => [starts.clone(), ends.clone(), axes.clone(), None],
            None => [input(1)?, input(2)?, input(3)?, input(4)?],
        };
        let (starts, ends) = (starts.ok_or_else(missing("starts"))?, ends.ok_or_else(missing("ends"))?);
        let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            return Err(Error::invalid("starts, ends, axes and steps are of different lengths"));
        }
        let mut named = vec![false; rank];
        let cuts = starts.into_iter().zip(ends).zip(axes).zip(steps);
        cuts.map(|(((start, end), along), step)| {
            let along = axis(along, rank)?;
            if std::mem::replace(&mut named[along], true) {
                return Err(Error::invalid(format!("axis {along} is cut twice")));
            }
            Ok((along, [start, end, step]))
        })
        .collect()
    }
}

/// What a slice leaves of an axis: from a position on, in steps, so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The first position, if there is any.
    pub start: usize,
    /// The distance to the next one; backwards when negative.
    pub step: i64,
    /// How many positions.
    pub count: usize,
}

impl Cut {
    /// What start, end and step leave of an axis of some size.
    ///
    /// # Errors
    /// When the step is 0.
    pub fn new(size: usize, [start, end, step]: [i64; 3]) -> Result<Self> {
        let size = size as i64;
        let from_end = |position: i64| if position < 0 { position.saturating_add(size) } else { position };
        let (start, end) = (from_end(start), from_end(end));
        let (start, span) = match step {
            0 => return Err(Error::invalid("a step is 0")),
            1.. => (start.clamp(0, size), end.clamp(0, size) - start.clamp(0, size)),
            // Backwards `end` is the last one that is left out, so that -1 means the whole axis.
            _ => (start.clamp(-1, size - 1), start.clamp(-1, size - 1) - end.clamp(-1, size - 1)),
        };
        let count = (span.max(0) as u64).div_ceil(step.unsigned_abs()) as usize;
        Ok(Self { start: start.max(0) as usize, step, count })
    }

    /// The positions in order.
    pub fn positions(self) -> impl Iterator<Item = usize> {
        (0..self.count as i64).map(move |turn| (self.start as i64 + turn * self.step) as usize)
    }
}

impl Operator for Slice {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let x = inputs.array(0)?;
        let mut chosen = vec![None; x.rank()];
        for (along, [start, end, step]) in self.cuts(|position| inputs.ints(position), x.rank())? {
            chosen[along] = Some(Cut::new(x.shape()[along], [start, end, step])?.positions().collect());
        }
        one(x.select(&chosen)?)
    }

    fn infer(&self, inputs: &[Fact]) -> Result<Vec<Fact>> {
        let Some(x) = inputs.first() else { return Ok(Vec::new()) };
        let given = |position: usize| inputs.get(position).filter(|input| **input != Fact::default());
        let known = (1..5).all(|position| given(position).is_none_or(|input| input.ints.is_some()));
        let Some(mut shape) = x.shape.clone().filter(|_| known) else {
            let open = x.shape.as_ref().map(|shape| vec![Axis::Any; shape.len()]);
            return Ok(vec![Fact { dtype: x.dtype, shape: open, ints: None }]);
        };
        let input = |position: usize| Ok(given(position).and_then(|input| input.ints.clone()));
        for (along, [start, end, step]) in self.cuts(input, shape.len())? {
            shape[along] = match shape[along].size() {
                Some(size) => Axis::Size(Cut::new(size, [start, end, step])?.count),
                None if (start, end, step) == (0, i64::MAX, 1) => shape[along].clone(),
                None => Axis::Any,
            };
        }
        Ok(vec![Fact::new(x.dtype, shape)])
    }
}

/// `Transpose`.
#[derive(Debug, Clone)]
pub struct Transpose {
    /// For each axis of the result, the one of the input; reversed if not given.
    pub order: Option<Vec<i64>>,
}

impl Transpose {
    /// The order for a tensor of so many axes.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn order(&self, rank: usize) -> Result<Vec<usize>> {
        match &self.order {
            Some(order) => order.iter().map(|&from| axis(from, rank)).collect(),
            None => Ok((0..rank).rev().collect()),
        }
    }
}

impl Operator for Transpose {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let x = inputs.array(0)?;
        one(x.transposed(&self.order(x.rank())?)?)
    }

    fn infer(&self, inputs: &[Fact]) -> Result<Vec<Fact>> {
        let Some(x) = inputs.first() else { return Ok(Vec::new()) };
        let Some(shape) = &x.shape else { return Ok(vec![Fact { dtype: x.dtype, ..Fact::default() }]) };
        let order = self.order(shape.len())?;
        if order.len() != shape.len() {
            return Err(Error::invalid("its permutation does not fit its input"));
        }
        Ok(vec![Fact::new(x.dtype, order.into_iter().map(|from| shape[from].clone()).collect())])
    }
}

/// `DepthToSpace` and `SpaceToDepth`.
#[derive(Debug, Clone)]
pub struct Blocks {
    /// Pixels along a side of a block.
    pub block: usize,
    /// Whether the channels of a result pixel are apart (`DCR`) or together (`CRD`).
    pub depth_first: bool,
    /// Whether blocks are made of channels.
    pub to_space: bool,
}

impl Blocks {
    fn parse(node: &RawNode, to_space: bool) -> Result<Self> {
        let block = node.attributes.int("blocksize")?.and_then(|block| usize::try_from(block).ok());
        let block = block
            .filter(|&block| block > 0 && block < 1 << 20)
            .ok_or_else(|| Error::invalid("attribute 'blocksize' should be 1 or more"))?;
        let depth_first = match node.attributes.text_or("mode", "DCR")? {
            "DCR" => true,
            "CRD" => false,
            other => return Err(Error::invalid(format!("mode is '{other}', not DCR or CRD"))),
        };
        Ok(Self { block, depth_first, to_space })
    }

    /// Batch, channels, height and width of the result.
    ///
    /// # Errors
    /// When blocks do not fit.
    fn shape(&self, shape: &[usize]) -> Result<[usize; 4]> {
        let &[n, c, h, w] = shape else {
            return Err(Error::invalid(format!("expected images as [N, C, H, W], found shape {shape:?}")));
        };
        let b = self.block;
        if self.to_space {
            if c % (b * b) != 0 {
                return Err(Error::invalid(format!("{c} channels are no whole number of blocks of {b} × {b}")));
            }
            return Ok([n, c / (b * b), h.saturating_mul(b), w.saturating_mul(b)]);
        }
        if h % b != 0 || w % b != 0 {
            return Err(Error::invalid(format!("{h} × {w} is no whole number of blocks of {b} × {b}")));
        }
        Ok([n, c.saturating_mul(b * b), h / b, w / b])
    }

    /// What moves where in images of some shape.
    ///
    /// # Errors
    /// When they are no images, or blocks do not fit.
    pub fn moves(&self, shape: &[usize]) -> Result<Moves> {
        let shape = self.shape(shape)?;
        let (b, [n, c, h, w]) = (self.block, shape);
        let (view, order) = match (self.to_space, self.depth_first) {
            (true, true) => ([n, b, b, c, h / b, w / b], [0, 3, 4, 1, 5, 2]),
            (true, false) => ([n, c, b, b, h / b, w / b], [0, 1, 4, 2, 5, 3]),
            (false, true) => ([n, c / (b * b), h, b, w, b], [0, 3, 5, 1, 2, 4]),
            (false, false) => ([n, c / (b * b), h, b, w, b], [0, 1, 3, 5, 2, 4]),
        };
        Ok(Moves { view, order, shape })
    }
}

/// Elements seen under a shape, its axes in another order, and the shape that comes out.
#[derive(Debug, Clone, Copy)]
pub struct Moves {
    /// The shape of what goes in.
    pub view: [usize; 6],
    /// For each axis after, the one before.
    pub order: [usize; 6],
    /// The shape of what comes out.
    pub shape: [usize; 4],
}

impl Operator for Blocks {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let x = inputs.array(0)?;
        let Moves { view, order, shape } = self.moves(x.shape())?;
        one(x.reshaped(view.to_vec())?.transposed(&order)?.reshaped(shape.to_vec())?)
    }

    fn infer(&self, inputs: &[Fact]) -> Result<Vec<Fact>> {
        let Some(x) = inputs.first() else { return Ok(Vec::new()) };
        let Some(shape) = &x.shape else { return Ok(vec![Fact { dtype: x.dtype, ..Fact::default() }]) };
        // An axis that is not known is taken for one that fits, and is not known afterwards.
        let any = self.block * self.block;
        let sizes: Vec<usize> = shape.iter().map(|axis| axis.size().unwrap_or(any)).collect();
        let known = self.shape(&sizes)?.into_iter().zip(shape);
        let axis = |(at, (size, from)): (usize, (usize, &Axis))| match from.size() {
            Some(_) => Axis::Size(size),
            None if at == 0 => from.clone(),
            None => Axis::Any,
        };
        Ok(vec![Fact::new(x.dtype, known.enumerate().map(axis).collect())])
    }
}

fn reverse_sequence(node: &RawNode) -> Parsed {
    let time_axis = node.attributes.int_or("time_axis", 0)?;
    let batch_axis = node.attributes.int_or("batch_axis", 1)?;
    eval(move |inputs| {
        let (x, lengths) = (inputs.array(0)?, super::sizes(&inputs.array(1)?.int64s()?)?);
        let time = axis(time_axis, x.rank())?;
        let batch = axis(batch_axis, x.rank())?;
        if time == batch || lengths.len() != x.shape()[batch] || lengths.iter().any(|&length| length > x.shape()[time])
        {
            return Err(Error::invalid(format!("lengths {lengths:?} do not fit shape {:?}", x.shape())));
        }
        let steps = crate::array::strides(x.shape());
        let from = |position: usize| {
            let index = index_of(position, x.shape());
            let (at, length) = (index[time], lengths[index[batch]]);
            if at < length { position - at * steps[time] + (length - 1 - at) * steps[time] } else { position }
        };
        one(x.take(x.shape().to_vec(), &(0..x.len()).map(from).collect::<Vec<_>>())?)
    })
}

/// The part of each matrix above or below a diagonal; zeros elsewhere.
fn trilu(node: &RawNode) -> Parsed {
    let upper = node.attributes.flag("upper", true)?;
    eval(move |inputs| {
        let x = inputs.array(0)?;
        let &[.., rows, columns] = x.shape() else {
            return Err(Error::invalid("expected matrices, found a tensor of fewer than 2 axes"));
        };
        let diagonal = inputs.optional(1)?.map_or(Ok(0), Array::int)?;
        let zero = Data::zeros(x.dtype(), 1);
        let pool = Data::concat(&[&zero, x.data()]).ok_or_else(|| Error::invalid("there is nothing to cut"))?;
        let from = |i: usize| {
            let above = (i % columns) as i128 - (i / columns % rows) as i128 - i128::from(diagonal);
            if if upper { above >= 0 } else { above <= 0 } { i + 1 } else { 0 }
        };
        one(Array::from_data(x.shape().to_vec(), pool.take(&(0..x.len()).map(from).collect::<Vec<_>>()))?)
    })
}

fn choose(inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let (condition, x, y) = (inputs.array(0)?, inputs.array(1)?, inputs.array(2)?);
    if x.dtype() != y.dtype() {
        return Err(Error::invalid(format!("its inputs are of different types, {} and {}", x.dtype(), y.dtype())));
    }
    let all = Broadcast::new(&[condition.shape(), x.shape(), y.shape()])?;
    let choose = condition.expect::<bool>()?;
    let pool = Data::concat(&[x.data(), y.data()]).ok_or_else(|| Error::invalid("there is nothing to choose from"))?;
    let from = |i: usize| if choose[all.at(0, i)] { all.at(1, i) } else { x.len() + all.at(2, i) };
    let from: Vec<_> = (0..count(&all.shape)?).map(from).collect();
    one(Array::from_data(all.shape, pool.take(&from))?)
}
