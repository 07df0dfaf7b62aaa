//! Elements in other places: rolled, flipped, padded.

use rekindle_onnx::builder::{Attr, ValueName};

use super::{Args, END, Int, Lower, Row, Value, int};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("roll", roll),
    ("flip", flip),
    ("flipud", |l, a| flip_axis(l, a, 0)),
    ("fliplr", |l, a| flip_axis(l, a, 1)),
    ("pad", pad),
    ("constant_pad_nd", pad),
    ("reflection_pad1d", |l, a| pad_mode(l, a, "reflect")),
    ("reflection_pad2d", |l, a| pad_mode(l, a, "reflect")),
    ("reflection_pad3d", |l, a| pad_mode(l, a, "reflect")),
    ("replication_pad1d", |l, a| pad_mode(l, a, "edge")),
    ("replication_pad2d", |l, a| pad_mode(l, a, "edge")),
    ("replication_pad3d", |l, a| pad_mode(l, a, "edge")),
    ("rot90", rot90),
];

fn cut(l: &mut Lower, value: &str, axis: usize, start: i64, end: i64) -> Result<ValueName> {
    let (start, end, axis) = (l.ints(&[start])?, l.ints(&[end])?, l.ints(&[axis as i64])?);
    l.node("Slice", &[value, &start, &end, &axis], &[])
}

fn roll(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let (shifts, dims) = (args.ints("shifts")?, args.ints("dims")?);
    let mut value = l.value(x)?;
    if dims.is_empty() {
        // All elements in a row.
        let (shape, flat) = (l.shape_of(&value)?, l.ints(&[-1])?);
        let known = l.state(x).shape.iter().try_fold(1, |all: usize, dim| Some(all.saturating_mul(dim.size()?)));
        let [shift] = shifts[..] else { return Err(Error::invalid("one shift is expected")) };
        let size = known.ok_or_else(|| Error::beyond("a roll of open sizes"))? as i64;
        let shift = if size == 0 { 0 } else { shift.rem_euclid(size) };
        if shift != 0 {
            let row = l.reshape(&value, &flat)?;
            let (last, first) = (cut(l, &row, 0, -shift, END)?, cut(l, &row, 0, 0, -shift)?);
            let row = l.node("Concat", &[&last, &first], &[("axis", int(0))])?;
            value = l.reshape(&row, &shape)?;
        }
        let value = l.node("Identity", &[&value], &[])?;
        return l.answer(value);
    }
    if shifts.len() != dims.len() {
        return Err(Error::invalid("as many shifts as dimensions are expected"));
    }
    for (shift, dim) in shifts.into_iter().zip(dims) {
        let axis = l.axis(x, dim)?;
        let size = l.state(x).shape[axis].size();
        let shift = match size {
            Some(0) => 0,
            Some(size) => shift.rem_euclid(size as i64),
            // What is rolled further than an open axis is long comes round more than once.
            None if shift.abs() <= 1 => shift,
            None => return Err(Error::beyond("a roll of an open size")),
        };
        if shift == 0 {
            continue;
        }
        let (last, first) = (cut(l, &value, axis, -shift, END)?, cut(l, &value, axis, 0, -shift)?);
        value = l.node("Concat", &[&last, &first], &[("axis", int(axis as i64))])?;
    }
    let value = l.node("Identity", &[&value], &[])?;
    l.answer(value)
}

/// A value with axes in reverse.
pub(super) fn flipped(l: &mut Lower, value: &str, axes: &[usize]) -> Result<ValueName> {
    let count = axes.len();
    let axes: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
    let (starts, ends) = (l.ints(&vec![-1; count])?, l.ints(&vec![i64::MIN + 1; count])?);
    let (axes, steps) = (l.ints(&axes)?, l.ints(&vec![-1; count])?);
    l.node("Slice", &[value, &starts, &ends, &axes, &steps], &[])
}

fn flip(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let axes: Vec<usize> = args.ints("dims")?.into_iter().map(|axis| l.axis(x, axis)).collect::<Result<_>>()?;
    let value = l.value(x)?;
    let value = if axes.is_empty() { l.node("Identity", &[&value], &[])? } else { flipped(l, &value, &axes)? };
    l.answer(value)
}

fn rot90(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let axes: Vec<usize> = args.ints("dims")?.into_iter().map(|axis| l.axis(x, axis)).collect::<Result<_>>()?;
    let [a, b] = axes[..] else { return Err(Error::invalid("rot90 takes two dimensions")) };
    let mut order: Vec<usize> = (0..l.rank(x)).collect();
    order.swap(a, b);
    let value = l.value(x)?;
    let value = match args.int("k")?.rem_euclid(4) {
        0 => l.node("Identity", &[&value], &[])?,
        1 => {
            let flat = flipped(l, &value, &[b])?;
            l.transpose(&flat, &order)?
        }
        2 => flipped(l, &value, &[a, b])?,
        _ => {
            let turned = l.transpose(&value, &order)?;
            flipped(l, &turned, &[b])?
        }
    };
    l.answer(value)
}

fn pad(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let mode = match args.text("mode")?.unwrap_or("constant") {
        "constant" => "constant",
        "reflect" => "reflect",
        "replicate" => "edge",
        "circular" => "wrap",
        other => return Err(Error::beyond(format!("padding mode '{other}'"))),
    };
    padded(l, args, "pad", mode)
}

fn pad_mode(l: &mut Lower, args: &Args, mode: &'static str) -> Result<Vec<Value>> {
    padded(l, args, "padding", mode)
}

fn padded(l: &mut Lower, args: &Args, name: &str, mode: &'static str) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let pads = args.syms(name)?;
    let (rank, dtype) = (l.rank(x), l.dtype(x));
    if pads.len() % 2 != 0 || pads.len() / 2 > rank {
        return Err(Error::invalid(format!("{} paddings for {rank} axes", pads.len())));
    }
    // Pairs begin with the last axis.
    let (mut low, mut high) = (vec![Int::Known(0); rank], vec![Int::Known(0); rank]);
    for (at, pair) in pads.chunks(2).enumerate() {
        (low[rank - 1 - at], high[rank - 1 - at]) = (pair[0].clone(), pair[1].clone());
    }
    low.extend(high);
    let value = l.value(x)?;
    let pads = l.vector(&low)?;
    let fill = if mode != "constant" {
        "".into()
    } else if args.get("value").is_none() {
        l.number(0.0, dtype)?
    } else {
        l.scalar(args.get("value"), dtype)?
    };
    let value = l.node("Pad", &[&value, &pads, &fill], &[("mode", Attr::Text(mode))])?;
    l.answer(value)
}

fn flip_axis(l: &mut Lower, args: &Args, axis: usize) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    if axis >= l.rank(x) {
        return Err(Error::invalid(format!("{} of {} axes", args.operator, l.rank(x))));
    }
    let value = l.value(x)?;
    let value = flipped(l, &value, &[axis])?;
    l.answer(value)
}
