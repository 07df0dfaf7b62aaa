//! Borders added and cut, and patches put back together.

use super::{Inputs, one, sizes};
use crate::array::{Data, Positions, axis, count, strides};
use crate::operator::{Entry, Operator, Parsed, RawNode, Schema, eval, parsed};
use crate::{Array, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(
        Schema::new("Pad", &[1, 2, 11, 13, 18, 19, 21, 23, 24, 25], (1, 4)).attributes(&[
            "mode",
            "paddings<2",
            "pads@2<11",
            "value<11",
        ]),
        |node| parsed(Pad::parse(node)?),
    ),
    Entry::new(Schema::new("CenterCropPad", &[18], (2, 2)).attributes(&["axes"]), center_crop_pad),
    Entry::new(Schema::new("Col2Im", &[18], (3, 3)).attributes(&["dilations", "pads", "strides"]), |node| {
        parsed(ColToImage::parse(node)?)
    }),
];

/// What a border is made of.
#[derive(Debug, Clone, Copy)]
enum Mode {
    Constant,
    Reflect,
    Edge,
    Wrap,
}

impl Mode {
    /// The position in `0..size` that stands at a position outside it.
    fn at(self, position: i64, size: i64) -> Option<i64> {
        if (0..size).contains(&position) {
            return Some(position);
        }
        match self {
            Self::Constant => None,
            Self::Edge => Some(position.clamp(0, size - 1)),
            Self::Wrap => Some(position.rem_euclid(size)),
            Self::Reflect if size == 1 => Some(0),
            Self::Reflect => {
                let turned = position.rem_euclid(2 * (size - 1));
                Some(turned.min(2 * (size - 1) - turned))
            }
        }
    }
}

/// `Pad`.
#[derive(Debug, Clone)]
pub struct Pad {
    mode: Mode,
    /// What is added before and after each axis, where it is an attribute.
    pads: Vec<i64>,
    /// Whether an input says it, since version 11.
    by_input: bool,
    /// What constant borders are made of, unless an input says so.
    pub value: f32,
}

impl Pad {
    fn parse(node: &RawNode) -> Result<Self> {
        let attributes = &node.attributes;
        let mode = match attributes.text_or("mode", "constant")? {
            "constant" => Mode::Constant,
            "reflect" => Mode::Reflect,
            "edge" => Mode::Edge,
            "wrap" => Mode::Wrap,
            other => return Err(Error::invalid(format!("mode is '{other}', not constant, reflect, edge or wrap"))),
        };
        let pads = attributes.ints(if node.version < 2 { "paddings" } else { "pads" })?;
        let pads = pads.unwrap_or_default().to_vec();
        Ok(Self { mode, pads, by_input: node.version >= 11, value: attributes.float_or("value", 0.0)? })
    }

    /// Whether the borders are all of one value.
    pub fn constant(&self) -> bool {
        matches!(self.mode, Mode::Constant)
    }

    /// What is added before and after each axis of so many, by the inputs that say so.
    ///
    /// # Errors
    /// When they do not fit.
    pub fn borders(&self, pads: Option<Vec<i64>>, axes: Option<Vec<i64>>, rank: usize) -> Result<Vec<(i64, i64)>> {
        let pads = pads.filter(|_| self.by_input).unwrap_or_else(|| self.pads.clone());
        let axes = match axes {
            Some(axes) => axes.into_iter().map(|given| axis(given, rank)).collect::<Result<_>>()?,
            None => (0..rank).collect::<Vec<_>>(),
        };
        if pads.len() != 2 * axes.len() {
            return Err(Error::invalid(format!(
                "{} pads for {} axes: each has one before and one after",
                pads.len(),
                axes.len()
            )));
        }
        let mut borders = vec![(0, 0); rank];
        for (i, &axis) in axes.iter().enumerate() {
            borders[axis] = (pads[i], pads[axes.len() + i]);
        }
        Ok(borders)
    }
}

impl Operator for Pad {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let x = inputs.array(0)?;
        let fill = match inputs.optional(2)? {
            Some(fill) if !fill.is_empty() => fill.clone(),
            _ if x.dtype() == crate::DType::Str => Array::scalar(String::new()),
            _ => Array::filled(x.dtype(), &[], f64::from(self.value))?,
        };
        let borders = self.borders(inputs.ints(1)?, inputs.ints(3)?, x.rank())?;
        one(padded(x, &borders, self.mode, &fill)?)
    }
}

/// Adds to each axis so many elements before and after it; negative ones are cut off first.
fn padded(x: &Array, borders: &[(i64, i64)], mode: Mode, fill: &Array) -> Result<Array> {
    let mut lengths = Vec::new();
    for (&size, &(before, after)) in x.shape().iter().zip(borders) {
        let kept = i128::from(size as i64) + i128::from(before.min(0)) + i128::from(after.min(0));
        let length = kept + i128::from(before.max(0)) + i128::from(after.max(0));
        let nothing = kept <= 0 && length > 0 && !matches!(mode, Mode::Constant);
        if kept < 0 || nothing {
            return Err(Error::invalid(format!("pads of {before} and {after} do not fit an axis of size {size}")));
        }
        lengths.push(usize::try_from(length).unwrap_or(usize::MAX));
    }
    if count(&lengths)? == 0 {
        return Array::from_data(lengths, Data::zeros(x.dtype(), 0));
    }
    let list = |((&size, &(before, after)), &length): ((&usize, &(i64, i64)), &usize)| -> Positions {
        let first = -before.min(0);
        let kept = size as i64 - first + after.min(0);
        (0..length as i64)
            .map(|i| mode.at(i - before.max(0), kept).map(|position| (position + first) as usize))
            .collect()
    };
    let axes: Vec<_> = x.shape().iter().zip(borders).zip(&lengths).map(list).collect();
    x.select_or(&axes, fill)
}

fn center_crop_pad(node: &RawNode) -> Parsed {
    let named = node.attributes.ints("axes")?.map(<[i64]>::to_vec);
    eval(move |inputs| {
        let x = inputs.array(0)?;
        let wanted = sizes(&inputs.array(1)?.int64s()?)?;
        let axes = match &named {
            Some(axes) => axes.iter().map(|&given| axis(given, x.rank())).collect::<Result<_>>()?,
            None => (0..x.rank()).collect::<Vec<_>>(),
        };
        if wanted.len() != axes.len() {
            return Err(Error::invalid(format!("{} sizes for {} axes", wanted.len(), axes.len())));
        }
        let mut borders = vec![(0, 0); x.rank()];
        for (&axis, &wanted) in axes.iter().zip(&wanted) {
            let more = wanted as i64 - x.shape()[axis] as i64;
            // Rounded towards zero: the odd one is at the end.
            borders[axis] = (more / 2, more - more / 2);
        }
        let fill = Array::from_data(Vec::new(), Data::zeros(x.dtype(), 1))?;
        one(padded(x, &borders, Mode::Constant, &fill)?)
    })
}

/// `Col2Im`: adds up the patches of each image where they overlap.
struct ColToImage {
    dilations: Option<Vec<usize>>,
    strides: Option<Vec<usize>>,
    pads: Option<Vec<usize>>,
}

impl ColToImage {
    fn parse(node: &RawNode) -> Result<Self> {
        let list = |name: &str| node.attributes.ints(name)?.map(sizes).transpose();
        Ok(Self { dilations: list("dilations")?, strides: list("strides")?, pads: list("pads")? })
    }
}

impl Operator for ColToImage {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        col_to_image(self, inputs)
    }
}

fn col_to_image(op: &ColToImage, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let (image, block) = (sizes(&inputs.array(1)?.int64s()?)?, sizes(&inputs.array(2)?.int64s()?)?);
    let axes = image.len();
    let list = |name: &str, given: &Option<Vec<usize>>, default: usize, length: usize| -> Result<Vec<usize>> {
        let given = given.clone().unwrap_or_else(|| vec![default; length]);
        // Far less than what overflows, far more than any image.
        if given.len() != length || given.iter().any(|&given| given > 1 << 32) {
            return Err(Error::invalid(format!("attribute '{name}' does not fit {axes} axes")));
        }
        Ok(given)
    };
    let (dilations, stride) = (list("dilations", &op.dilations, 1, axes)?, list("strides", &op.strides, 1, axes)?);
    let pads = list("pads", &op.pads, 0, 2 * axes)?;
    let (&[batch, rows, columns], patch, pixels) = (x.shape(), count(&block)?, count(&image)?) else {
        return Err(Error::invalid(format!("expected patches as [N, C × block, L], found shape {:?}", x.shape())));
    };
    if block.len() != axes {
        return Err(Error::invalid(format!("blocks {block:?} do not fit images {image:?}")));
    }
    let mut steps = Vec::new();
    for axis in 0..axes {
        let span = image[axis].saturating_add(pads[axis] + pads[axes + axis]);
        let reach = block[axis].saturating_sub(1).saturating_mul(dilations[axis]).saturating_add(1);
        let free = span.checked_sub(reach).filter(|_| stride[axis] > 0);
        steps.push(free.ok_or_else(|| Error::invalid("a patch is larger than the image"))? / stride[axis] + 1);
    }
    if patch == 0 || rows % patch != 0 || count(&steps)? != columns {
        return Err(Error::invalid(format!(
            "shape {:?} does not hold patches of {block:?} at {steps:?} places",
            x.shape()
        )));
    }
    let channels = rows / patch;
    let total = count(&[batch, channels, pixels])?;
    let (values, image_steps) = (x.floats()?, strides(&image));
    let mut sums = vec![0.0; total];
    for (i, value) in values.into_iter().enumerate() {
        let (row, column) = (i / columns, i % columns);
        let (within, at) = (crate::array::index_of(row % patch, &block), crate::array::index_of(column, &steps));
        let place = (0..axes).try_fold(0, |offset, axis| {
            let position = (at[axis] * stride[axis] + within[axis] * dilations[axis]).checked_sub(pads[axis])?;
            (position < image[axis]).then_some(offset + position * image_steps[axis])
        });
        if let Some(place) = place {
            sums[row / patch * pixels + place] += value;
        }
    }
    let shape = [batch, channels].into_iter().chain(image).collect();
    one(Array::of_floats(x.dtype(), shape, sums)?)
}
