//! Short-time Fourier transforms, as convolutions with the waves of each frequency, and the windows that go with them.

use rekindle_onnx::builder::{Attr, ValueName};
use rekindle_onnx::{Array, DType};

use super::fourier::float_or;
use super::{Args, Int, Lower, MAX_CONSTANT, Row, TensorId, Value, array_from, int, list};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("stft", stft),
    ("istft", istft),
    ("hann_window", |l, a| window(l, a, |_, x| 0.5 - 0.5 * x.cos())),
    ("hamming_window", |l, a| window(l, a, |a, x| a.0 - a.1 * x.cos())),
    ("blackman_window", |l, a| window(l, a, |_, x| 0.42 - 0.5 * x.cos() + 0.08 * (2.0 * x).cos())),
    ("bartlett_window", |l, a| window(l, a, |_, x| 1.0 - (x / std::f64::consts::PI - 1.0).abs())),
    ("kaiser_window", |l, a| window(l, a, |a, x| kaiser(a.2, x))),
];

/// `I0(β √(1 − r²)) / I0(β)`, where r goes from −1 to 1.
fn kaiser(beta: f64, x: f64) -> f64 {
    let ratio = x / std::f64::consts::PI - 1.0;
    bessel(beta * (1.0 - ratio * ratio).max(0.0).sqrt()) / bessel(beta)
}

/// The modified Bessel function of order 0, by its series.
fn bessel(x: f64) -> f64 {
    let (mut term, mut sum) = (1.0, 1.0);
    for k in 1..200 {
        term *= (x / 2.0 / f64::from(k)).powi(2);
        sum += term;
        if term < sum * 1e-17 {
            break;
        }
    }
    sum
}

/// A window of a known length: a function of the angle, which goes once around, and of α, β of Hamming and β of Kaiser.
fn window(l: &mut Lower, args: &Args, shape: fn((f64, f64, f64), f64) -> f64) -> Result<Vec<Value>> {
    let length = args.int("window_length")?;
    let periodic = if args.get("periodic").is_none() { true } else { args.bool("periodic")? };
    let dtype = args.dtype("dtype")?.unwrap_or(DType::F32);
    if length < 0 || length as usize > MAX_CONSTANT || !dtype.is_float() {
        return Err(Error::beyond(format!("a window of {length} elements of {dtype}")));
    }
    let settings = (float_or(args, "alpha", 0.54)?, float_or(args, "beta", 0.46)?, float_or(args, "beta", 12.0)?);
    let around = if periodic { length } else { length - 1 } as f64;
    let at = |at: i64| shape(settings, 2.0 * std::f64::consts::PI * at as f64 / around);
    let values: Vec<f64> = if length == 1 { vec![1.0] } else { (0..length).map(at).collect() };
    let value = l.constant(&array_from(dtype, vec![length as usize], &values)?)?;
    let value = l.node("Identity", &[&value], &[])?;
    l.answer(value)
}

/// Sizes of a short-time transform.
struct Frames {
    size: i64,
    hop: i64,
    bins: i64,
    /// The window, filled up to the size of a frame.
    window: ValueName,
    dtype: DType,
    /// What the transform is divided by.
    norm: f64,
}

fn frames(l: &mut Lower, args: &Args, dtype: DType) -> Result<Frames> {
    let size = args.int("n_fft")?;
    let hop = if args.get("hop_length").is_none() { size / 4 } else { args.int("hop_length")? };
    let length = if args.get("win_length").is_none() { size } else { args.int("win_length")? };
    let bins = if args.get("onesided").is_none() || args.bool("onesided")? { size / 2 + 1 } else { size };
    if size < 1 || hop < 1 || !(1..=size).contains(&length) || size.saturating_mul(2 * bins) > MAX_CONSTANT as i64 {
        return Err(Error::beyond(format!("frames of {size} at a step of {hop} with a window of {length}")));
    }
    let window = match args.optional("window")? {
        Some(window) => l.value_as(window, dtype)?,
        None => l.constant(&Array::filled(dtype, &[length as usize], 1.0)?)?,
    };
    let before = (size - length) / 2;
    let (pads, zero) = (l.ints(&[before, size - length - before])?, l.number(0.0, dtype)?);
    let window = if size == length { window } else { l.node("Pad", &[&window, &pads, &zero], &[])? };
    let norm = if args.bool("normalized")? { (size as f64).sqrt() } else { 1.0 };
    Ok(Frames { size, hop, bins, window, dtype, norm })
}

impl Frames {
    /// Waves of each frequency, times the window: `[2 × bins, 1, size]`, cosines and then sines.
    fn waves(&self, l: &mut Lower, cosine: f64, sine: f64, weight: impl Fn(i64) -> f64) -> Result<ValueName> {
        let turn = 2.0 * std::f64::consts::PI / self.size as f64;
        let mut values = Vec::with_capacity((2 * self.bins * self.size) as usize);
        for kind in 0..2 {
            for bin in 0..self.bins {
                for at in 0..self.size {
                    // Whole turns are taken off while they are integers.
                    let angle = turn * ((bin * at) % self.size) as f64;
                    let wave = if kind == 0 { cosine * angle.cos() } else { sine * angle.sin() };
                    values.push(weight(bin) * wave);
                }
            }
        }
        let shape = vec![2 * self.bins as usize, 1, self.size as usize];
        let waves = l.constant(&Array::of_floats(self.dtype, shape, values)?)?;
        l.node("Mul", &[&waves, &self.window], &[])
    }
}

/// One of the two halves of the channels.
fn half(l: &mut Lower, value: &str, start: i64, end: i64) -> Result<ValueName> {
    let (start, end, axis) = (l.ints(&[start])?, l.ints(&[end])?, l.ints(&[1])?);
    l.node("Slice", &[value, &start, &end, &axis], &[])
}

fn stft(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let mut x = args.tensor("self")?;
    let rank = l.rank(x);
    if !matches!(rank, 1 | 2) || !l.dtype(x).is_float() || args.bool("align_to_window")? {
        return Err(Error::beyond(format!("stft of {rank} axes of {}", l.dtype(x))));
    }
    let dtype = l.dtype(x);
    let frames = frames(l, args, dtype)?;
    if args.values.iter().any(|(name, _)| name == "center") && args.bool("center")? {
        x = centred(l, args, x, frames.size)?;
    }
    let mut value = l.value(x)?;
    let shape = if rank == 1 { l.ints(&[1, 1, -1])? } else { l.ints(&[1])? };
    value = if rank == 1 { l.reshape(&value, &shape)? } else { l.node("Unsqueeze", &[&value, &shape], &[])? };
    let waves = frames.waves(l, 1.0 / frames.norm, -1.0 / frames.norm, |_| 1.0)?;
    let spectrum = l.node("Conv", &[&value, &waves], &[("strides", list([frames.hop]))])?;
    let mut parts = Vec::new();
    for (start, end) in [(0, frames.bins), (frames.bins, 2 * frames.bins)] {
        let mut part = half(l, &spectrum, start, end)?;
        if rank == 1 {
            let first = l.ints(&[0])?;
            part = l.node("Squeeze", &[&part, &first], &[])?;
        }
        parts.push(l.tensor(part)?);
    }
    let result = Value::Complex(parts[0], parts[1]);
    // Old programs ask for real and imaginary part along a last axis.
    if args.get("return_complex").is_none() || args.bool("return_complex")? {
        return Ok(vec![result]);
    }
    l.apply("view_as_real", "", &[("self", result)])
}

/// A signal with half a frame before and after it.
fn centred(l: &mut Lower, args: &Args, x: TensorId, size: i64) -> Result<TensorId> {
    let mode = args.text("pad_mode")?.unwrap_or("reflect").to_string();
    let value = l.value(x)?;
    let flat = l.rank(x) == 1;
    let pads = if flat { vec![size / 2; 2] } else { vec![0, size / 2, 0, size / 2] };
    let (pads, zero) = (l.ints(&pads)?, l.number(0.0, l.dtype(x))?);
    let mode = match mode.as_str() {
        "reflect" => "reflect",
        "constant" => "constant",
        "replicate" => "edge",
        "circular" => "wrap",
        other => return Err(Error::invalid(format!("padding mode '{other}'"))),
    };
    let value = l.node("Pad", &[&value, &pads, &zero], &[("mode", Attr::Text(mode))])?;
    l.tensor(value)
}

fn istft(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (re, im) = super::complex::parts(args.get("self"))?;
    let rank = l.rank(re);
    if !matches!(rank, 2 | 3) || args.bool("return_complex")? {
        return Err(Error::beyond(format!("istft of {rank} axes")));
    }
    let dtype = l.dtype(re);
    let frames = frames(l, args, dtype)?;
    if frames.bins == frames.size && frames.size > 1 {
        return Err(Error::beyond("istft of all frequencies"));
    }
    let (re, im) = (l.value(re)?, l.value(im)?);
    let mut both = l.node("Concat", &[&re, &im], &[("axis", int(rank as i64 - 2))])?;
    let first = l.ints(&[0])?;
    if rank == 2 {
        both = l.node("Unsqueeze", &[&both, &first], &[])?;
    }
    // Frequencies between the first and the last stand for their conjugates too.
    let scale = frames.norm / frames.size as f64;
    let weight = |bin: i64| if bin == 0 || 2 * bin == frames.size { 1.0 } else { 2.0 };
    let waves = frames.waves(l, scale, -scale, weight)?;
    let strides = [("strides", list([frames.hop]))];
    let signal = l.node("ConvTranspose", &[&both, &waves], &strides)?;
    // How much of the window each sample has got.
    let (start, end, axis) = (l.ints(&[0])?, l.ints(&[1])?, l.ints(&[1])?);
    let (row, zero, one) = (
        l.node("Slice", &[&both, &start, &end, &axis], &[])?,
        l.number(0.0, frames.dtype)?,
        l.number(1.0, frames.dtype)?,
    );
    let row = l.node("Mul", &[&row, &zero], &[])?;
    let ones = l.node("Add", &[&row, &one], &[])?;
    let square = l.node("Mul", &[&frames.window, &frames.window], &[])?;
    let shape = l.ints(&[1, 1, frames.size])?;
    let square = l.reshape(&square, &shape)?;
    let got = l.node("ConvTranspose", &[&ones, &square], &strides)?;
    let cut = if args.bool("center")? { frames.size / 2 } else { 0 };
    let end = match args.get("length") {
        Value::Int(Int::Known(length)) => cut + length,
        Value::None if cut > 0 => -cut,
        Value::None => i64::MAX,
        _ => return Err(Error::beyond("istft to an open length")),
    };
    let (start, end, axis) = (l.ints(&[cut])?, l.ints(&[end])?, l.ints(&[2])?);
    let signal = l.node("Slice", &[&signal, &start, &end, &axis], &[])?;
    let got = l.node("Slice", &[&got, &start, &end, &axis], &[])?;
    let value = l.node("Div", &[&signal, &got], &[])?;
    let axes = if rank == 2 { l.ints(&[0, 1])? } else { l.ints(&[1])? };
    let value = l.node("Squeeze", &[&value, &axes], &[])?;
    l.answer(value)
}
