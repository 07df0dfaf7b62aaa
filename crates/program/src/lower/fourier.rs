//! Fourier transforms along axes.

use rekindle_onnx::builder::ValueName;
use rekindle_onnx::{Array, DType};

use super::{Args, Dim, Float, Int, Lower, Row, TensorId, Value, array_from, int};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("fft_fft", |l, a| one_axis(l, a, Kind::Complex { inverse: false })),
    ("fft_ifft", |l, a| one_axis(l, a, Kind::Complex { inverse: true })),
    ("fft_rfft", |l, a| one_axis(l, a, Kind::ToHalf)),
    ("fft_irfft", |l, a| one_axis(l, a, Kind::FromHalf)),
    ("fft_fft2", |l, a| axes(l, a, Kind::Complex { inverse: false })),
    ("fft_ifft2", |l, a| axes(l, a, Kind::Complex { inverse: true })),
    ("fft_rfft2", |l, a| axes(l, a, Kind::ToHalf)),
    ("fft_irfft2", |l, a| axes(l, a, Kind::FromHalf)),
    ("fft_fftn", |l, a| axes(l, a, Kind::Complex { inverse: false })),
    ("fft_ifftn", |l, a| axes(l, a, Kind::Complex { inverse: true })),
    ("fft_rfftn", |l, a| axes(l, a, Kind::ToHalf)),
    ("fft_irfftn", |l, a| axes(l, a, Kind::FromHalf)),
    ("_fft_r2c", core_real),
    ("_fft_c2c", core_complex),
    ("_fft_c2r", core_half),
    ("fft_fftshift", |l, a| shift(l, a, false)),
    ("fft_ifftshift", |l, a| shift(l, a, true)),
    ("fft_fftfreq", |l, a| frequencies(l, a, false)),
    ("fft_rfftfreq", |l, a| frequencies(l, a, true)),
];

/// Operators here that take complex tensors.
pub(super) const COMPLEX: &[&str] = &[
    "fft_fft",
    "fft_ifft",
    "fft_irfft",
    "fft_fft2",
    "fft_ifft2",
    "fft_irfft2",
    "fft_fftn",
    "fft_ifftn",
    "fft_irfftn",
    "_fft_c2c",
    "_fft_c2r",
];

/// What a transform takes and gives.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Complex to complex.
    Complex { inverse: bool },
    /// Real to the first half of the frequencies.
    ToHalf,
    /// The first half of the frequencies to real.
    FromHalf,
}

/// How a sum over `n` is scaled: `n` to this power.
fn power(norm: Option<&str>, inverse: bool) -> Result<f64> {
    Ok(match (norm.unwrap_or("backward"), inverse) {
        ("backward", false) | ("forward", true) => 0.0,
        ("backward", true) | ("forward", false) => -1.0,
        ("ortho", _) => -0.5,
        (other, _) => return Err(Error::invalid(format!("normalisation '{other}'"))),
    })
}

/// The same from the numbers of the core operators: none, by the root, by n.
fn power_of(normalization: i64) -> Result<f64> {
    [0.0, -0.5, -1.0]
        .get(usize::try_from(normalization).unwrap_or(3))
        .copied()
        .ok_or_else(|| Error::invalid(format!("normalisation {normalization}")))
}

/// A signal: a real part, and an imaginary one if it is complex.
#[derive(Clone)]
struct Signal {
    re: ValueName,
    im: Option<ValueName>,
    dtype: DType,
    /// Sizes that are known.
    shape: Vec<Dim>,
}

impl Signal {
    fn of(l: &mut Lower, value: &Value) -> Result<Self> {
        let (re, im) = match value {
            Value::Complex(re, im) => (*re, Some(*im)),
            other => (other.tensor()?, None),
        };
        let (shape, dtype) = (l.state(re).shape.clone(), super::types::floating(l.dtype(re)));
        if shape.is_empty() {
            return Err(Error::invalid("a transform of a scalar"));
        }
        Ok(Self { re: l.value_as(re, dtype)?, im: im.map(|im| l.value_as(im, dtype)).transpose()?, dtype, shape })
    }

    /// The parts, each changed.
    fn map(self, l: &mut Lower, change: &dyn Fn(&mut Lower, &str) -> Result<ValueName>) -> Result<Self> {
        let re = change(l, &self.re)?;
        let im = self.im.as_ref().map(|im| change(l, im)).transpose()?;
        Ok(Self { re, im, ..self })
    }

    fn size(&self, l: &mut Lower, axis: usize) -> Result<Int> {
        let known = self.shape.get(axis).and_then(|dim| dim.size());
        known.map_or_else(|| l.size_value(&self.re, axis), |size| Ok(Int::Known(size as i64)))
    }

    /// Cut or filled up with zeros to a size.
    fn resized(mut self, l: &mut Lower, axis: usize, size: &Int) -> Result<Self> {
        let own = self.size(l, axis)?;
        if own == *size {
            return Ok(self);
        }
        let least = l.int_op("min", &own, size)?;
        let more = l.int_op("sub", size, &least)?;
        let (dtype, rank) = (self.dtype, self.shape.len());
        self.shape[axis] = known(size);
        let (size, axes, start) = (l.vector(std::slice::from_ref(size))?, l.ints(&[axis as i64])?, l.ints(&[0])?);
        let mut pads = vec![Int::Known(0); 2 * rank];
        pads[rank + axis] = more;
        let (pads, zero) = (l.vector(&pads)?, l.number(0.0, dtype)?);
        self.map(l, &|l, part| {
            let part = l.node("Slice", &[part, &start, &size, &axes], &[])?;
            l.node("Pad", &[&part, &pads, &zero], &[])
        })
    }

    /// Real and imaginary part along a last axis, as ONNX has complex numbers.
    fn together(&self, l: &mut Lower) -> Result<ValueName> {
        let last = l.ints(&[-1])?;
        let re = l.node("Unsqueeze", &[&self.re, &last], &[])?;
        let Some(im) = &self.im else { return Ok(re) };
        let im = l.node("Unsqueeze", &[im, &last], &[])?;
        l.node("Concat", &[&re, &im], &[("axis", int(-1))])
    }

    /// A transform along an axis; an inverse one is divided by the size.
    fn transformed(self, l: &mut Lower, axis: usize, inverse: bool, half: bool) -> Result<Self> {
        let (value, at) = (self.together(l)?, l.constant(&Array::scalar(axis as i64))?);
        let attributes = [("inverse", int(i64::from(inverse))), ("onesided", int(i64::from(half)))];
        let value = l.node("DFT", &[&value, "", &at], &attributes)?;
        let mut parts = Vec::new();
        for part in 0..2 {
            let part = l.constant(&Array::scalar(part as i64))?;
            parts.push(l.node("Gather", &[&value, &part], &[("axis", int(-1))])?);
        }
        let (im, re) = (parts.pop(), parts.pop());
        let mut shape = self.shape;
        if half {
            shape[axis] = shape[axis].size().map_or(Dim::Open, |size| Dim::Size(size / 2 + 1));
        }
        Ok(Self { re: re.unwrap_or_default(), im, dtype: self.dtype, shape })
    }

    /// Times `n` to a power.
    fn scaled(self, l: &mut Lower, n: &Int, power: f64) -> Result<Self> {
        if power == 0.0 || *n == Int::Known(1) {
            return Ok(self);
        }
        let factor = match n {
            Int::Known(n) => l.number((*n as f64).powf(power), self.dtype)?,
            Int::Open(n) => {
                let (n, power) = (l.cast(n, DType::I64, DType::F64)?, l.number(power, DType::F64)?);
                let factor = l.node("Pow", &[&n, &power], &[])?;
                l.cast(&factor, DType::F64, self.dtype)?
            }
        };
        self.map(l, &|l, part| l.node("Mul", &[part, &factor], &[]))
    }

    /// All frequencies of a real signal of a size, from the first half of them: the others are their conjugates.
    fn completed(self, l: &mut Lower, axis: usize, size: &Int) -> Result<Self> {
        let half = l.int_op("floordiv", size, &Int::Known(2))?;
        let given = l.int_op("add", &half, &Int::Known(1))?;
        let mut own = self.resized(l, axis, &given)?;
        let more = l.int_op("sub", size, &given)?;
        let (first, end) = (l.vector(&[more])?, l.ints(&[0])?);
        let (axes, back) = (l.ints(&[axis as i64])?, l.ints(&[-1])?);
        let along = [("axis", int(axis as i64))];
        let mirrored = own.clone().map(l, &|l, part| l.node("Slice", &[part, &first, &end, &axes, &back], &[]))?;
        let re = l.node("Concat", &[&own.re, &mirrored.re], &along)?;
        let (Some(im), Some(other)) = (&own.im, &mirrored.im) else { return Err(Error::invalid("a real spectrum")) };
        let other = l.node("Neg", &[other], &[])?;
        let im = l.node("Concat", &[im, &other], &along)?;
        own.shape[axis] = known(size);
        Ok(Self { re, im: Some(im), ..own })
    }

    fn answer(self, l: &mut Lower) -> Result<Vec<Value>> {
        let re = l.tensor(self.re)?;
        Ok(vec![match self.im {
            Some(im) => Value::Complex(re, l.tensor(im)?),
            None => Value::Tensor(re),
        }])
    }
}

fn known(size: &Int) -> Dim {
    if let Int::Known(size) = size { Dim::Size(*size as usize) } else { Dim::Open }
}

/// Transforms along axes, each first brought to its size if one is asked for. `power` is of the product of all sizes.
fn transform(
    l: &mut Lower,
    x: &Value,
    axes: &[usize],
    sizes: &[Option<Int>],
    kind: Kind,
    power: f64,
) -> Result<Vec<Value>> {
    let mut signal = Signal::of(l, x)?;
    let (&last, rest) = axes.split_last().ok_or_else(|| Error::invalid("a transform of no axis"))?;
    let inverse = matches!(kind, Kind::FromHalf | Kind::Complex { inverse: true });
    let mut total = Int::Known(1);
    for (&axis, size) in axes.iter().zip(sizes) {
        // The size of a signal of which half the frequencies are given is even, if none is said.
        let wanted = match size {
            Some(size) => size.clone(),
            None if kind == Kind::FromHalf && axis == last => {
                let given = signal.size(l, axis)?;
                let pairs = l.int_op("sub", &given, &Int::Known(1))?;
                l.int_op("mul", &pairs, &Int::Known(2))?
            }
            None => signal.size(l, axis)?,
        };
        if kind != Kind::FromHalf || axis != last {
            signal = signal.resized(l, axis, &wanted)?;
        }
        total = l.int_op("mul", &total, &wanted)?;
        if axis == last && kind == Kind::FromHalf {
            if signal.im.is_none() {
                let zero = l.number(0.0, signal.dtype)?;
                signal.im = Some(l.node("Mul", &[&signal.re, &zero], &[])?);
            }
            for &axis in rest {
                signal = signal.transformed(l, axis, true, false)?;
            }
            signal = signal.completed(l, axis, &wanted)?.transformed(l, axis, true, false)?;
            signal.im = None;
        }
    }
    match kind {
        Kind::ToHalf => {
            if signal.im.is_some() {
                return Err(Error::invalid("a real transform of complex numbers"));
            }
            signal = signal.transformed(l, last, false, true)?;
            for &axis in rest {
                signal = signal.transformed(l, axis, false, false)?;
            }
        }
        Kind::Complex { inverse } => {
            for &axis in axes {
                signal = signal.transformed(l, axis, inverse, false)?;
            }
        }
        Kind::FromHalf => {}
    }
    // ONNX divides an inverse transform by its size.
    signal.scaled(l, &total, if inverse { power + 1.0 } else { power })?.answer(l)
}

fn first(x: &Value) -> Result<TensorId> {
    match x {
        Value::Complex(re, _) => Ok(*re),
        other => other.tensor(),
    }
}

fn one_axis(l: &mut Lower, args: &Args, kind: Kind) -> Result<Vec<Value>> {
    let x = args.get("self").clone();
    let axis = l.axis(first(&x)?, args.int("dim")?)?;
    let size = if args.get("n").is_none() { None } else { Some(args.sym("n")?) };
    let inverse = matches!(kind, Kind::FromHalf | Kind::Complex { inverse: true });
    let power = power(args.text("norm")?, inverse)?;
    transform(l, &x, &[axis], &[size], kind, power)
}

fn axes(l: &mut Lower, args: &Args, kind: Kind) -> Result<Vec<Value>> {
    let x = args.get("self").clone();
    let id = first(&x)?;
    let sizes = args.syms("s")?;
    let dims = if args.get("dim").is_none() {
        let rank = l.rank(id);
        let count = if sizes.is_empty() { rank } else { sizes.len() };
        (rank.saturating_sub(count)..rank).collect()
    } else {
        args.ints("dim")?.into_iter().map(|dim| l.axis(id, dim)).collect::<Result<Vec<_>>>()?
    };
    if !sizes.is_empty() && sizes.len() != dims.len() {
        return Err(Error::invalid(format!("{} sizes for {} axes", sizes.len(), dims.len())));
    }
    let sizes: Vec<Option<Int>> =
        (0..dims.len()).map(|at| sizes.get(at).filter(|size| **size != Int::Known(-1)).cloned()).collect();
    let inverse = matches!(kind, Kind::FromHalf | Kind::Complex { inverse: true });
    let power = power(args.text("norm")?, inverse)?;
    transform(l, &x, &dims, &sizes, kind, power)
}

fn dims(l: &Lower, args: &Args) -> Result<Vec<usize>> {
    let id = first(args.get("self"))?;
    args.ints("dim")?.into_iter().map(|dim| l.axis(id, dim)).collect()
}

fn core_real(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, dims) = (args.get("self").clone(), dims(l, args)?);
    let power = power_of(args.int("normalization")?)?;
    let kind = if args.bool("onesided")? { Kind::ToHalf } else { Kind::Complex { inverse: false } };
    transform(l, &x, &dims, &vec![None; dims.len()], kind, power)
}

fn core_complex(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, dims) = (args.get("self").clone(), dims(l, args)?);
    let power = power_of(args.int("normalization")?)?;
    transform(l, &x, &dims, &vec![None; dims.len()], Kind::Complex { inverse: !args.bool("forward")? }, power)
}

fn core_half(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, dims) = (args.get("self").clone(), dims(l, args)?);
    let power = power_of(args.int("normalization")?)?;
    let mut sizes = vec![None; dims.len()];
    if let Some(last) = sizes.last_mut() {
        *last = Some(args.sym("last_dim_size")?);
    }
    transform(l, &x, &dims, &sizes, Kind::FromHalf, power)
}

/// Frequency 0 to the middle, or back to the front.
fn shift(l: &mut Lower, args: &Args, back: bool) -> Result<Vec<Value>> {
    let x = args.get("self").clone();
    let id = first(&x)?;
    let dims = if args.get("dim").is_none() { (0..l.rank(id)).collect() } else { dims(l, args)? };
    let mut by = Vec::new();
    for &axis in &dims {
        let size = l.size(id, axis)? as i64;
        by.push(if back { (size + 1) / 2 } else { size / 2 });
    }
    let dims: Vec<i64> = dims.into_iter().map(|axis| axis as i64).collect();
    l.apply("roll", "", &[("self", x), ("shifts", Value::ints(&by)), ("dims", Value::ints(&dims))])
}

fn frequencies(l: &mut Lower, args: &Args, half: bool) -> Result<Vec<Value>> {
    let (n, d) = (args.int("n")?, args.float("d")?);
    if !(1..=super::diagonal::MAX_POSITIONS).contains(&n) {
        return Err(Error::beyond(format!("the frequencies of {n} samples")));
    }
    let count = if half { n / 2 + 1 } else { n };
    let of = |at: i64| (if half || at < (n + 1) / 2 { at } else { at - n }) as f64 / (n as f64 * d);
    let dtype = args.dtype("dtype")?.unwrap_or(DType::F32);
    let values: Vec<f64> = (0..count).map(of).collect();
    let value = l.constant(&array_from(dtype, vec![count as usize], &values)?)?;
    let value = l.node("Identity", &[&value], &[])?;
    l.answer(value)
}

/// A number that follows from a size.
pub(super) fn float_or(args: &Args, name: &str, other: f64) -> Result<f64> {
    match args.get(name) {
        Value::Float(Float::Known(value)) => Ok(*value),
        Value::None => Ok(other),
        _ => args.float(name),
    }
}
