//! Pools: each window of an image becomes one value.

use super::real::{Real, read, with_real, write, zeros};
use super::window::{Window, Windows};
use super::{Inputs, one};
use crate::array::{count, strides};
use crate::infer::{Fact, Rule, elements};
use crate::operator::{Entry, Operator, Parsed, RawNode, Schema, eval, parsed};
use crate::{Array, DType, Data, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(
        Schema::new("MaxPool", &[1, 8, 10, 11, 12, 22], (1, 1)).attributes(&[
            "auto_pad",
            "ceil_mode@10",
            "dilations@10",
            "!kernel_shape",
            "pads",
            "storage_order@8",
            "strides",
        ]),
        |node| parsed(MaxPool::parse(node)?),
    ),
    Entry::new(
        Schema::new("AveragePool", &[1, 7, 10, 11, 19, 22], (1, 1)).attributes(&[
            "auto_pad",
            "ceil_mode@10",
            "count_include_pad@7",
            "dilations@19",
            "!kernel_shape",
            "pads",
            "strides",
        ]),
        |node| parsed(AveragePool::parse(node)?),
    ),
    Entry::new(
        Schema::new("LpPool", &[1, 2, 11, 18, 22], (1, 1)).attributes(&[
            "auto_pad",
            "ceil_mode@18",
            "dilations@18",
            "!kernel_shape",
            "p",
            "pads",
            "strides",
        ]),
        lp_pool,
    ),
    Entry::plain(Schema::new("GlobalMaxPool", &[1, 22], (1, 1)).rule(Rule::GlobalPool), |inputs| {
        global(inputs, |values| values.iter().copied().fold(f64::NEG_INFINITY, greater))
    }),
    Entry::plain(Schema::new("GlobalAveragePool", &[1, 22], (1, 1)).rule(Rule::GlobalPool), |inputs| {
        global(inputs, |values| values.iter().sum::<f64>() / values.len() as f64)
    }),
    Entry::new(Schema::new("GlobalLpPool", &[1, 2, 22], (1, 1)).attributes(&["p"]), |node| {
        let p = power(node)?;
        eval(move |inputs| global(inputs, |values| norm(values.iter().copied(), p)))
    }),
];

/// Windows that are laid out at once.
const BLOCK: usize = 4096;

/// The greater of two; NaN wins.
fn greater(a: f64, b: f64) -> f64 {
    if b > a || b.is_nan() { b } else { a }
}

fn norm(values: impl Iterator<Item = f64>, p: f64) -> f64 {
    if p == 2.0 {
        return values.map(|value| value * value).sum::<f64>().sqrt();
    }
    values.map(|value| value.abs().powf(p)).sum::<f64>().powf(1.0 / p)
}

/// The exponent of `LpPool`: a float in version 1, an integer since.
fn power(node: &RawNode) -> Result<f64> {
    if node.version < 2 {
        return node.attributes.float_or("p", 2.0).map(f64::from);
    }
    Ok(node.attributes.int_or("p", 2)? as f64)
}

/// All spatial axes to one value; at 64 bits, as sums are long.
fn global(inputs: &Inputs<'_>, function: impl Fn(&[f64]) -> f64) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    if x.rank() < 3 || x.shape()[2..].contains(&0) {
        return Err(Error::invalid(format!("expected an image of 3 axes or more, found shape {:?}", x.shape())));
    }
    let plane = x.shape()[2..].iter().product();
    let values = x.floats()?.chunks(plane).map(function).collect();
    let shape = x.shape()[..2].iter().copied().chain(x.shape()[2..].iter().map(|_| 1)).collect();
    one(Array::of_floats(x.dtype(), shape, values)?)
}

/// `MaxPool`.
#[derive(Debug, Clone)]
pub struct MaxPool {
    /// How its windows slide.
    pub windows: Windows,
    /// Whether somebody wants the positions of the greatest.
    pub positions: bool,
    /// Whether positions count with the first spatial axis running fastest.
    pub columns_first: bool,
}

/// `AveragePool`.
#[derive(Debug, Clone)]
pub struct AveragePool {
    /// How its windows slide.
    pub windows: Windows,
    /// Whether padding counts as values.
    pub with_padding: bool,
}

impl MaxPool {
    fn parse(node: &RawNode) -> Result<Self> {
        Ok(Self {
            windows: Windows::parse(node, true)?,
            positions: node.outputs.len() > 1,
            columns_first: node.attributes.flag("storage_order", false)?,
        })
    }
}

impl AveragePool {
    /// Reads the attributes.
    ///
    /// # Errors
    /// When one is wrong.
    pub fn parse(node: &RawNode) -> Result<Self> {
        let with_padding = node.attributes.flag("count_include_pad", false)?;
        Ok(Self { windows: Windows::parse(node, true)?, with_padding })
    }
}

impl Operator for MaxPool {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let x = inputs.array(0)?;
        let pool = Pool::new(&self.windows, x)?;
        // Integers are exact as 64-bit floats.
        if x.dtype().is_int() {
            greatest::<f64>(self, &pool)
        } else {
            with_real!(x.dtype(), T => greatest::<T>(self, &pool))
        }
    }

    fn infer(&self, inputs: &[Fact]) -> Result<Vec<Fact>> {
        let first = pooled(&self.windows, inputs)?;
        let positions = Fact { dtype: Some(DType::I64), ..first.clone() };
        Ok(vec![first, positions])
    }

    fn work(&self, inputs: &[Fact], outputs: &[Fact]) -> u64 {
        visited(&self.windows, inputs, outputs)
    }
}

impl Operator for AveragePool {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let x = inputs.array(0)?;
        one(with_real!(x.dtype(), T => average::<T>(self, &Pool::new(&self.windows, x)?))?)
    }

    fn infer(&self, inputs: &[Fact]) -> Result<Vec<Fact>> {
        Ok(vec![pooled(&self.windows, inputs)?])
    }

    fn work(&self, inputs: &[Fact], outputs: &[Fact]) -> u64 {
        visited(&self.windows, inputs, outputs)
    }
}

/// Pixels that a pool looks at: of each window those inside the image, at most.
fn visited(windows: &Windows, inputs: &[Fact], outputs: &[Fact]) -> u64 {
    let [x, y] = [inputs, outputs].map(|facts| facts.first().and_then(Fact::sizes));
    let (Some(x), Some(y)) = (x, y) else { return 0 };
    let taps = elements(windows.kernel.as_deref()).min(elements(x.get(2..)));
    elements(Some(&y)).saturating_mul(taps)
}

/// Type and shape after a pool.
fn pooled(windows: &Windows, inputs: &[Fact]) -> Result<Fact> {
    let Some(x) = inputs.first() else { return Ok(Fact::default()) };
    let shape = match x.shape.as_deref() {
        Some([batch, channels, image @ ..]) if !image.is_empty() => {
            Some([vec![batch.clone(), channels.clone()], windows.infer(image, None)?].concat())
        }
        Some(shape) => return Err(Error::invalid(format!("its input has {} axes", shape.len()))),
        None => None,
    };
    Ok(Fact { dtype: x.dtype, shape, ints: None })
}

/// The windows of a node over an image.
struct Pool<'n> {
    x: &'n Array,
    window: Window,
}

/// One window on an image.
struct View<'v> {
    /// Offsets of the pixels that it meets.
    pixels: &'v [usize],
    /// How many of its taps are inside the image or its padding.
    padded: usize,
}

impl<'n> Pool<'n> {
    fn new(windows: &Windows, x: &'n Array) -> Result<Self> {
        if x.rank() < 3 {
            return Err(Error::invalid(format!("expected an image of 3 axes or more, found shape {:?}", x.shape())));
        }
        Ok(Self { x, window: Window::new(windows, &x.shape()[2..], None)? })
    }

    fn shape(&self) -> Vec<usize> {
        [&self.x.shape()[..2], &self.window.out].concat()
    }

    /// A value for each window of each channel: `reduce` gets the channel's number, its values and the window.
    fn reduce<T: Real, R: Clone + Default>(&self, reduce: impl Fn(usize, &[T], &View<'_>) -> R) -> Result<Vec<R>> {
        let (plane, total) = (count(&self.window.out)?, count(&self.shape())?);
        let mut results = zeros::<R>(&self.shape())?;
        let image: usize = self.window.image.iter().product();
        let values = read::<T>(self.x)?;
        let axes: Vec<_> = (0..self.window.image.len()).map(|axis| self.axis(axis)).collect();
        let steps = strides(&self.window.image);
        let mut offsets = Vec::new();
        let mut start = 0;
        while start < plane && total > 0 {
            // Offsets of the pixels of some windows, the same for all channels.
            offsets.clear();
            let mut views = Vec::new();
            let mut end = start;
            while end < plane && views.len() < BLOCK && offsets.len() < 64 * BLOCK {
                let from = offsets.len();
                let padded = self.lay_out(end, &axes, &steps, &mut offsets);
                views.push((from..offsets.len(), padded));
                end += 1;
            }
            for channel in 0..total / plane {
                crate::limit::time()?;
                let values = &values[channel * image..][..image];
                let results = &mut results[channel * plane + start..channel * plane + end];
                for (slot, (range, padded)) in results.iter_mut().zip(&views) {
                    *slot = reduce(channel, values, &View { pixels: &offsets[range.clone()], padded: *padded });
                }
            }
            start = end;
        }
        Ok(results)
    }

    /// For each window along an axis: the first pixel that it meets, how many, and how many taps are in the padded image.
    fn axis(&self, axis: usize) -> Vec<(usize, usize, usize)> {
        let window = &self.window;
        let (kernel, dilation, size) =
            (window.kernel[axis] as i64, window.dilations[axis] as i64, window.image[axis] as i64);
        // Taps before a limit, counted from the first.
        let before = |start: i64, limit: i64| {
            if limit <= start { 0 } else { ((limit - start + dilation - 1) / dilation).min(kernel) }
        };
        let place = |i: usize| {
            let start = i as i64 * window.steps[axis] as i64 - window.begin[axis];
            let (outside, inside) = (before(start, 0), before(start, size));
            let padded = before(start, size + window.end[axis]);
            ((start + outside * dilation).max(0) as usize, (inside - outside) as usize, padded as usize)
        };
        (0..window.out[axis]).map(place).collect()
    }

    /// Adds the offsets of the pixels of one window in row-major order; gives the number of its taps in the padded image.
    fn lay_out(
        &self,
        position: usize,
        axes: &[Vec<(usize, usize, usize)>],
        steps: &[usize],
        offsets: &mut Vec<usize>,
    ) -> usize {
        let start = offsets.len();
        offsets.push(0);
        let mut rest = position;
        let mut padded = 1;
        // From the last axis to the first, each repeats what is there.
        for axis in (0..axes.len()).rev() {
            let size = self.window.out[axis];
            let (first, count, within) = axes[axis][rest % size];
            rest /= size;
            padded *= within;
            let inner = offsets.len() - start;
            for tap in 1..count {
                for i in 0..inner {
                    offsets.push(offsets[start + i] + tap * self.window.dilations[axis] * steps[axis]);
                }
            }
            if count == 0 {
                offsets.truncate(start);
                return padded_count(&self.window.out, axes, position);
            }
            offsets[start..].iter_mut().for_each(|offset| *offset += first * steps[axis]);
        }
        padded
    }
}

/// The taps of a window in the padded image.
fn padded_count(out: &[usize], axes: &[Vec<(usize, usize, usize)>], position: usize) -> usize {
    crate::array::index_of(position, out).iter().zip(axes).map(|(&i, axis)| axis[i].2).product()
}

/// The greatest values, and where they are in the whole input.
fn greatest<T: Real>(operator: &MaxPool, pool: &Pool<'_>) -> Result<Vec<Value>> {
    let position = |_: usize, values: &[T], view: &View<'_>| {
        let mut pixels = view.pixels.iter().copied();
        let first = pixels.next()?;
        let better = |best: usize, pixel: usize| {
            let (old, new) = (values[best], values[pixel]);
            // NaN is greater than any number.
            #[allow(clippy::eq_op)]
            if new > old || (new != new && old == old) { pixel } else { best }
        };
        Some(pixels.fold(first, better))
    };
    let image: usize = pool.window.image.iter().product();
    let (plane, shape) = (count(&pool.window.out)?, pool.shape());
    let places = pool.reduce::<T, Option<usize>>(position)?;
    // A window on padding alone has the least value of the type, which stands after all others.
    let least = pool.x.dtype().int_range().map_or_else(|| lowest(pool.x), |(least, _)| least as f64);
    let least = Array::of_floats(pool.x.dtype(), vec![1], vec![least])?;
    let indices: Vec<usize> = places
        .iter()
        .enumerate()
        .map(|(i, place)| place.map_or(pool.x.len(), |place| i / plane * image + place))
        .collect();
    let y = if places.contains(&None) {
        let with_least =
            Data::concat(&[pool.x.data(), least.data()]).ok_or_else(|| Error::invalid("it has no input"))?;
        Array::from_data(shape.clone(), with_least.take(&indices))?
    } else {
        pool.x.take(shape.clone(), &indices)?
    };
    if !operator.positions {
        return one(y);
    }
    let index = |(i, place): (usize, &Option<usize>)| {
        let Some(place) = *place else { return -1 };
        let place = if operator.columns_first { column_major(place, &pool.window.image) } else { place };
        (i / plane * image + place) as i64
    };
    let indices = places.iter().enumerate().map(index).collect();
    Ok(vec![y.into(), Array::new(shape, indices)?.into()])
}

fn lowest(x: &Array) -> f64 {
    match x.dtype() {
        DType::F64 => f64::MIN,
        DType::F16 => half::f16::MIN.to_f64(),
        DType::BF16 => half::bf16::MIN.to_f64(),
        _ => f64::from(f32::MIN),
    }
}

/// The position of a pixel when the first axis runs fastest.
fn column_major(position: usize, shape: &[usize]) -> usize {
    let index = crate::array::index_of(position, shape);
    index.iter().zip(shape).rev().fold(0, |position, (&i, &size)| position * size + i)
}

fn average<T: Real>(operator: &AveragePool, pool: &Pool<'_>) -> Result<Array> {
    let values = pool.reduce::<T, T>(|_, values, view| {
        let mut sum = T::default();
        view.pixels.iter().for_each(|&pixel| sum += values[pixel]);
        let count = if operator.with_padding { view.padded } else { view.pixels.len() };
        if count == 0 { sum } else { sum / T::of(count as f64) }
    })?;
    write(pool.x.dtype(), pool.shape(), values)
}

fn lp_pool(node: &RawNode) -> Parsed {
    let (windows, p) = (Windows::parse(node, true)?, power(node)?);
    eval(move |inputs| {
        let pool = Pool::new(&windows, inputs.array(0)?)?;
        let norm_of =
            |_: usize, values: &[f64], view: &View<'_>| norm(view.pixels.iter().map(|&pixel| values[pixel]), p);
        one(Array::of_floats(pool.x.dtype(), pool.shape(), pool.reduce::<f64, f64>(norm_of)?)?)
    })
}
