//! Fourier transforms and what goes with them.

use super::fourier::{Complex, Plan};
use super::real::zeros;
use super::{Inputs, around, one};
use crate::array::{axis, count};
use crate::operator::{Entry, Parsed, RawNode, Schema, eval};
use crate::{Array, DType, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(Schema::new("DFT", &[17, 20], (1, 3)).attributes(&["axis<20", "inverse", "onesided"]), dft),
    Entry::new(Schema::new("STFT", &[17], (2, 4)).attributes(&["onesided"]), stft),
    Entry::new(Schema::new("HannWindow", &[17], (1, 1)).attributes(&["output_datatype", "periodic"]), |node| {
        window(node, [0.5, 0.5, 0.0])
    }),
    Entry::new(Schema::new("HammingWindow", &[17], (1, 1)).attributes(&["output_datatype", "periodic"]), |node| {
        window(node, [25.0 / 46.0, 21.0 / 46.0, 0.0])
    }),
    Entry::new(Schema::new("BlackmanWindow", &[17], (1, 1)).attributes(&["output_datatype", "periodic"]), |node| {
        window(node, [0.42, 0.5, 0.08])
    }),
    Entry::new(Schema::new("MelWeightMatrix", &[17], (5, 5)).attributes(&["output_datatype"]), |node| {
        let dtype = output_type(node)?;
        eval(move |inputs| mel_weight_matrix(inputs, dtype))
    }),
];

/// Numbers as complex ones: their last axis holds the real part alone, or both.
fn complex(x: &Array) -> Result<Vec<Complex>> {
    let values = x.floats()?;
    match x.shape().last() {
        Some(1) => Ok(values.into_iter().map(|re| (re, 0.0)).collect()),
        Some(2) => Ok(values.as_chunks::<2>().0.iter().map(|&[re, im]| (re, im)).collect()),
        _ => Err(Error::invalid(format!("expected a last axis of 1 or 2 numbers, found shape {:?}", x.shape()))),
    }
}

/// A length that an input gives.
fn length(inputs: &Inputs<'_>, position: usize) -> Result<Option<usize>> {
    let Some(length) = inputs.optional(position)? else { return Ok(None) };
    let length = length.int()?;
    let valid = usize::try_from(length).ok().filter(|length| (1..1 << 31).contains(length));
    valid.map(Some).ok_or_else(|| Error::invalid(format!("the length {length}: expected 1 or more")))
}

fn dft(node: &RawNode) -> Parsed {
    let version = node.version;
    let (inverse, onesided) = (node.attributes.flag("inverse", false)?, node.attributes.flag("onesided", false)?);
    let axis_given = node.attributes.int_or("axis", 1)?;
    eval(move |inputs| {
        let x = inputs.array(0)?;
        let along = if version < 20 { axis_given } else { inputs.optional(2)?.map_or(Ok(-2), Array::int)? };
        let along = axis(along, x.rank())?;
        if along + 1 == x.rank() {
            return Err(Error::invalid("its axis is that of the real and imaginary parts"));
        }
        let values = complex(x)?;
        let (outer, from, inner) = around(&x.shape()[..x.rank() - 1], along);
        // Half of the spectrum of real numbers tells the other half.
        let halved = inverse && onesided;
        let n = length(inputs, 1)?.unwrap_or(if halved { 2 * from.saturating_sub(1) } else { from });
        if n == 0 {
            return Err(Error::invalid("its signal has no values"));
        }
        let bins = if onesided && !inverse { n / 2 + 1 } else { n };
        let parts = if halved { 1 } else { 2 };
        let mut shape = x.shape().to_vec();
        (shape[along], shape[x.rank() - 1]) = (bins, parts);
        let mut y: Vec<f64> = zeros(&shape)?;
        let plan = Plan::new(n)?;
        let mut signal = vec![(0.0, 0.0); n];
        for o in 0..outer {
            for i in 0..inner {
                signal.fill((0.0, 0.0));
                let taken = if halved { from.min(n / 2 + 1) } else { from.min(n) };
                for (j, slot) in signal.iter_mut().enumerate().take(taken) {
                    *slot = values[(o * from + j) * inner + i];
                }
                if halved {
                    for j in n / 2 + 1..n {
                        let (re, im) = signal[n - j];
                        signal[j] = (re, -im);
                    }
                }
                let spectrum = plan.transform(&signal, inverse);
                for (j, &(re, im)) in spectrum.iter().take(bins).enumerate() {
                    let at = ((o * bins + j) * inner + i) * parts;
                    y[at] = re;
                    if parts == 2 {
                        y[at + 1] = im;
                    }
                }
            }
        }
        one(Array::of_floats(x.dtype(), shape, y)?)
    })
}

fn stft(node: &RawNode) -> Parsed {
    let onesided = node.attributes.flag("onesided", true)?;
    eval(move |inputs| {
        let x = inputs.array(0)?;
        // Some files leave out the axis of the parts.
        let signal = if x.rank() == 2 { x.reshaped([x.shape(), &[1]].concat())? } else { x.clone() };
        let &[batch, samples, _] = signal.shape() else {
            return Err(Error::invalid(format!("expected a signal of 3 axes, found shape {:?}", x.shape())));
        };
        let step = length(inputs, 1)?.ok_or_else(|| Error::invalid("input 1 is missing"))?;
        let window = inputs.optional(2)?.map(Array::floats).transpose()?;
        let n = length(inputs, 3)?.or(window.as_ref().map(Vec::len)).unwrap_or(samples);
        if n == 0 || n > samples || window.as_ref().is_some_and(|window| window.len() > n) {
            return Err(Error::invalid(format!(
                "frames of {n} values, with their window, do not fit a signal of {samples}"
            )));
        }
        let values = complex(&signal)?;
        let frames = (samples - n) / step + 1;
        let bins = if onesided { n / 2 + 1 } else { n };
        let shape = vec![batch, frames, bins, 2];
        let mut y: Vec<f64> = zeros(&shape)?;
        let plan = Plan::new(n)?;
        let mut frame = vec![(0.0, 0.0); n];
        for (position, y) in y.chunks_exact_mut(2 * bins).enumerate() {
            let start = position / frames * samples + position % frames * step;
            for (i, slot) in frame.iter_mut().enumerate() {
                let weight = window.as_ref().map_or(1.0, |window| window.get(i).copied().unwrap_or(0.0));
                let (re, im) = values[start + i];
                *slot = (re * weight, im * weight);
            }
            for (slot, (re, im)) in y.chunks_exact_mut(2).zip(plan.transform(&frame, false)) {
                slot.copy_from_slice(&[re, im]);
            }
        }
        one(Array::of_floats(x.dtype(), shape, y)?)
    })
}

/// The type that an attribute names.
fn output_type(node: &RawNode) -> Result<DType> {
    let number = node.attributes.int_or("output_datatype", 1)?;
    let dtype = i32::try_from(number).ok().and_then(DType::from_number);
    dtype.ok_or_else(|| Error::invalid(format!("its output_datatype is {number}")))
}

/// A sum of cosines.
fn window(node: &RawNode, [constant, first, second]: [f64; 3]) -> Parsed {
    let (dtype, periodic) = (output_type(node)?, node.attributes.flag("periodic", true)?);
    eval(move |inputs| {
        let size = inputs.array(0)?.int()?;
        let size = usize::try_from(size).map_err(|_| Error::invalid(format!("a window of {size} values")))?;
        let period = if periodic { size as f64 } else { size as f64 - 1.0 };
        let mut values: Vec<f64> = zeros(&[size])?;
        for (i, slot) in values.iter_mut().enumerate() {
            let angle = 2.0 * std::f64::consts::PI * i as f64 / period;
            *slot = constant - first * angle.cos() + second * (2.0 * angle).cos();
        }
        one(Array::of_floats(dtype, vec![size], values)?)
    })
}

/// Weights that turn a spectrum into bins of the mel scale: triangles between three neighbouring edges.
fn mel_weight_matrix(inputs: &Inputs<'_>, dtype: DType) -> Result<Vec<Value>> {
    let number = |position: usize| {
        length(inputs, position)?.ok_or_else(|| Error::invalid(format!("input {position} is missing")))
    };
    let (bins, n, rate) = (number(0)?, number(1)?, number(2)?);
    let (low, high) = (inputs.array(3)?.float()?, inputs.array(4)?.float()?);
    let lines = n / 2 + 1;
    let shape = vec![lines, bins];
    let mut weights: Vec<f64> = zeros(&shape)?;
    let mel = |hertz: f64| 2595.0 * (hertz / 700.0).ln_1p() / std::f64::consts::LN_10;
    let step = (mel(high) - mel(low)) / (bins + 2) as f64;
    let edge = |i: usize| {
        let hertz = 700.0 * ((i as f64 * step + mel(low)) / 2595.0 * std::f64::consts::LN_10).exp_m1();
        ((n + 1) as f64 * hertz / rate as f64).floor()
    };
    let edges: Vec<f64> = (0..bins + 2).map(edge).collect();
    if edges.iter().any(|edge| !(0.0..lines as f64).contains(edge)) {
        return Err(Error::invalid(format!("frequencies from {low} to {high} are outside the spectrum")));
    }
    let edges: Vec<usize> = edges.into_iter().map(|edge| edge as usize).collect();
    for bin in 0..bins {
        let (low, centre, high) = (edges[bin], edges[bin + 1], edges[bin + 2]);
        let mut set = |line: usize, weight: f64| weights[line * bins + bin] = weight;
        if low == centre {
            set(centre, 1.0);
        }
        for line in low..centre + usize::from(low < centre) {
            set(line, (line - low) as f64 / (centre - low) as f64);
        }
        for line in centre..high {
            set(line, (high - line) as f64 / (high - centre) as f64);
        }
    }
    count(&shape)?;
    one(Array::of_floats(dtype, shape, weights)?)
}
