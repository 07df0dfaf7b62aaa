//! Packed sequences: the steps of sequences of several lengths, those that go on together in a row. Recurrent layers take
//! them apart, with the length of each sequence, and pack what they give.

use rekindle_onnx::builder::ValueName;
use rekindle_onnx::{Array, DType};

use super::{Args, Fact, Int, Lower, Probe, Row, Value, int};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[("_pack_padded_sequence", pack), ("_pad_packed_sequence", pad)];

/// Which sequences have which steps: truth values `[steps, batch]`, from how many sequences have each step.
pub(super) struct Packed {
    /// Whether a sequence has a step.
    there: ValueName,
    /// Positions of those, `[count, 2]`.
    at: ValueName,
    /// The length of each sequence.
    pub lengths: ValueName,
}

/// 0 to a count.
fn counted(l: &mut Lower, count: &str) -> Result<ValueName> {
    let (zero, one, flat) = (l.constant(&Array::scalar(0_i64))?, l.constant(&Array::scalar(1_i64))?, l.ints(&[])?);
    let count = l.reshape(count, &flat)?;
    l.node("Range", &[&zero, &count, &one], &[])
}

/// One axis more at the end.
fn column(l: &mut Lower, value: &str) -> Result<ValueName> {
    let last = l.ints(&[-1])?;
    l.node("Unsqueeze", &[value, &last], &[])
}

/// Where truth values are true, a row for each.
fn places(l: &mut Lower, there: &str) -> Result<ValueName> {
    let at = l.node("NonZero", &[there], &[])?;
    l.transpose(&at, &[1, 0])
}

impl Packed {
    /// From how many sequences have each step: longer ones come first.
    pub fn of(l: &mut Lower, sizes: &str) -> Result<Self> {
        let first = l.constant(&Array::scalar(0_i64))?;
        let batch = l.node("Gather", &[sizes, &first], &[("axis", int(0))])?;
        let (row, sizes) = (counted(l, &batch)?, column(l, sizes)?);
        let there = l.node("Less", &[&row, &sizes], &[])?;
        let (ones, axis) = (l.cast(&there, DType::Bool, DType::I64)?, l.ints(&[0])?);
        let lengths = l.node("ReduceSum", &[&ones, &axis], &[("keepdims", int(0))])?;
        let at = places(l, &there)?;
        Ok(Self { there, at, lengths })
    }

    /// `[count, features]` as `[steps, batch, features]`, filled up with a number.
    pub fn apart(&self, l: &mut Lower, data: &str, fill: &str) -> Result<ValueName> {
        let (whole, own) = (l.shape_of(&self.there)?, l.shape_of(data)?);
        let (start, end, axis) = (l.ints(&[1])?, l.ints(&[i64::MAX])?, l.ints(&[0])?);
        let rest = l.node("Slice", &[&own, &start, &end, &axis], &[])?;
        let shape = l.node("Concat", &[&whole, &rest], &[("axis", int(0))])?;
        let empty = l.node("Expand", &[fill, &shape], &[])?;
        l.node("ScatterND", &[&empty, &self.at, data], &[])
    }

    /// The steps that are there.
    pub fn together(&self, l: &mut Lower, padded: &str) -> Result<ValueName> {
        l.node("GatherND", &[padded, &self.at], &[])
    }
}

impl Lower {
    /// Supposes that all sequences are as long as the longest, where sizes follow from data and no program says them.
    fn suppose_full(&mut self, padded: &str, data: &ValueName, sizes: &ValueName) -> Result<()> {
        let Some(fact) = self.fact(padded).cloned().filter(|_| self.probes() > 1) else { return Ok(()) };
        let (mut rows, mut counts) = (Vec::new(), Vec::new());
        for probe in &fact.probes {
            let [steps, batch, rest @ ..] = probe.shape.as_slice() else { return Ok(()) };
            rows.push(Probe { shape: [&[steps * batch], rest].concat(), data: None });
            counts.push(Probe::of(&Array::vector(vec![*batch as i64; *steps])));
        }
        self.suppose(data, Fact { dtype: fact.dtype, probes: rows });
        self.suppose(sizes, Fact { dtype: DType::I64, probes: counts });
        Ok(())
    }
}

/// Sequences in a batch, filled up to the longest, the longest first: their steps in a row, and how many have each step.
fn pack(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, lengths) = (args.tensor("input")?, args.tensor("lengths")?);
    let (dtype, rank) = (l.dtype(x), l.rank(x));
    if rank < 2 {
        return Err(Error::invalid("sequences have at least two axes"));
    }
    let mut value = l.value(x)?;
    if args.bool("batch_first")? {
        let order: Vec<usize> = [1, 0].into_iter().chain(2..rank).collect();
        value = l.transpose(&value, &order)?;
    }
    let lengths = l.value_as(lengths, DType::I64)?;
    let axis = l.ints(&[0])?;
    let longest = l.node("ReduceMax", &[&lengths, &axis], &[("keepdims", int(0))])?;
    let step = counted(l, &longest)?;
    let step = column(l, &step)?;
    let there = l.node("Less", &[&step, &lengths], &[])?;
    let (ones, axis) = (l.cast(&there, DType::Bool, DType::I64)?, l.ints(&[1])?);
    let sizes = l.node("ReduceSum", &[&ones, &axis], &[("keepdims", int(0))])?;
    let at = places(l, &there)?;
    let data = l.node("GatherND", &[&value, &at], &[])?;
    l.suppose_full(&value, &data, &sizes)?;
    let (data, sizes) = (l.tensor_or_unknown(data), l.tensor_or_unknown(sizes));
    l.assume(data, dtype, rank - 1);
    l.assume(sizes, DType::I64, 1);
    Ok(vec![Value::Tensor(data), Value::Tensor(sizes)])
}

fn pad(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (data, sizes) = (args.tensor("data")?, args.tensor("batch_sizes")?);
    let (dtype, rank) = (l.dtype(data), l.rank(data));
    let (value, sizes) = (l.value(data)?, l.value_as(sizes, DType::I64)?);
    let packed = Packed::of(l, &sizes)?;
    let fill = l.scalar(args.get("padding_value"), dtype)?;
    let mut padded = packed.apart(l, &value, &fill)?;
    let total = args.sym("total_length")?;
    if !matches!(total, Int::Known(total) if total <= 0) {
        let steps = l.size_value(&padded, 0)?;
        let more = l.int_op("sub", &total, &steps)?;
        let mut pads = vec![Int::Known(0); 2 * (rank + 1)];
        pads[rank + 1] = more;
        let pads = l.vector(&pads)?;
        padded = l.node("Pad", &[&padded, &pads, &fill], &[])?;
    }
    if args.bool("batch_first")? {
        let order: Vec<usize> = [1, 0].into_iter().chain(2..=rank).collect();
        padded = l.transpose(&padded, &order)?;
    }
    let (padded, lengths) = (l.tensor_or_unknown(padded), l.tensor_or_unknown(packed.lengths));
    l.assume(padded, dtype, rank + 1);
    l.assume(lengths, DType::I64, 1);
    Ok(vec![Value::Tensor(padded), Value::Tensor(lengths)])
}
