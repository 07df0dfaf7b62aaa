//! Windows, which may overlap.

use rekindle_onnx::Array;
use rekindle_onnx::builder::Attr;

use super::convolution::batched;
use super::diagonal::MAX_POSITIONS;
use super::{Args, Lower, Row, Value, int, list};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[("unfold", unfold), ("im2col", im2col), ("col2im", col2im)];

/// Windows along an axis, which may overlap.
fn unfold(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let axis = l.axis(x, args.int("dimension")?)?;
    let (size, step) = (args.int("size")?, args.int("step")?);
    let length = l.size(x, axis)? as i64;
    if size > length || size < 0 || step < 1 {
        return Err(Error::invalid(format!("windows of {size} at a step of {step} along {length}")));
    }
    let count = (length - size) / step + 1;
    if count.saturating_mul(size) > MAX_POSITIONS {
        return Err(Error::beyond(format!("{count} windows of {size}")));
    }
    let positions: Vec<i64> = (0..count).flat_map(|at| (0..size).map(move |i| at * step + i)).collect();
    let positions = l.constant(&Array::new(vec![count as usize, size as usize], positions)?)?;
    let value = l.value(x)?;
    let gathered = l.node("Gather", &[&value, &positions], &[("axis", int(axis as i64))])?;
    let rank = l.rank(x);
    let order: Vec<usize> = (0..=axis).chain(axis + 2..=rank).chain([axis + 1]).collect();
    let value = l.transpose(&gathered, &order)?;
    let tensor = l.tensor(value)?;
    l.tie(tensor, x);
    Ok(vec![Value::Tensor(tensor)])
}

/// Blocks of an image as columns.
fn im2col(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let (kernel, dilation) = (args.each("kernel_size", 2)?, args.each("dilation", 2)?);
    let (padding, stride) = (args.each("padding", 2)?, args.each("stride", 2)?);
    if l.rank(x) != 4 {
        return Err(Error::beyond("im2col without a batch"));
    }
    let channels = l.size(x, 1)? as i64;
    let (high, wide) = (l.size(x, 2)? as i64, l.size(x, 3)? as i64);
    let mut value = l.value(x)?;
    let dtype = l.dtype(x);
    let pads = l.ints(&[0, 0, padding[0], padding[1], 0, 0, padding[0], padding[1]])?;
    let zero = l.number(0.0, dtype)?;
    value = l.node("Pad", &[&value, &pads, &zero], &[("mode", Attr::Text("constant"))])?;
    let mut counts = Vec::new();
    // Rows of windows, then columns: [n, c, kh, oh, w], then [n, c, kh, oh, kw, ow].
    for (axis, (at, length)) in [(2, (0, high)), (4, (1, wide))] {
        let length = length + 2 * padding[at];
        let count = (length - dilation[at] * (kernel[at] - 1) - 1) / stride[at] + 1;
        if count < 1 {
            return Err(Error::invalid("the window is larger than the image"));
        }
        let positions = (0..kernel[at]).flat_map(|k| (0..count).map(move |o| (k, o)));
        let positions: Vec<i64> = positions.map(|(k, o)| k * dilation[at] + o * stride[at]).collect();
        let positions = l.constant(&Array::new(vec![kernel[at] as usize, count as usize], positions)?)?;
        value = l.node("Gather", &[&value, &positions], &[("axis", int(axis))])?;
        counts.push(count);
    }
    let turned = l.transpose(&value, &[0, 1, 2, 4, 3, 5])?;
    let shape = l.ints(&[0, channels * kernel[0] * kernel[1], counts[0] * counts[1]])?;
    // 0 keeps the size of the batch.
    let value = l.node("Reshape", &[&turned, &shape], &[])?;
    l.answer(value)
}

/// Columns added up as blocks of an image.
fn col2im(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let (size, kernel) = (args.ints("output_size")?, args.each("kernel_size", 2)?);
    let padding = args.each("padding", 2)?;
    let attributes = [
        ("dilations", list(args.each("dilation", 2)?)),
        ("strides", list(args.each("stride", 2)?)),
        ("pads", list([padding.clone(), padding].concat())),
    ];
    let (size, block) = (l.ints(&size)?, l.ints(&kernel)?);
    batched(l, x, 3, |l, value| l.node("Col2Im", &[value, &size, &block], &attributes))
}
