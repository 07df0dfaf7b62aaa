//! Optimizer steps. Inputs: the learning rate, the step number, then the parameters, their gradients and their states, so many of each.

use super::Inputs;
use crate::operator::{ANY, Entry, Parsed, RawNode, Schema, eval};
use crate::{Array, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(
        Schema::of("ai.onnx.preview.training", "Adagrad", &[1], (3, ANY)).attributes(&[
            "decay_factor",
            "epsilon",
            "norm_coefficient",
        ]),
        adagrad,
    ),
    Entry::new(
        Schema::of("ai.onnx.preview.training", "Adam", &[1], (3, ANY)).attributes(&[
            "alpha",
            "beta",
            "epsilon",
            "norm_coefficient",
            "norm_coefficient_post",
        ]),
        adam,
    ),
    Entry::new(
        Schema::of("ai.onnx.preview.training", "Momentum", &[1], (3, ANY)).attributes(&[
            "!alpha",
            "!beta",
            "!mode",
            "!norm_coefficient",
        ]),
        momentum,
    ),
];

/// One element: the parameter, its gradient with the regularization added, and its states.
type Element<const N: usize> = [f64; N];

/// Applies a step to every element of every parameter. `N` arrays belong to each parameter, the gradient among them (position 1);
/// all others are outputs: first all parameters, then all first states, and so on.
fn step<const N: usize>(norm: f64, inputs: &Inputs<'_>, update: impl Fn(&mut Element<N>)) -> Result<Vec<Value>> {
    let given = inputs.len().saturating_sub(2);
    if given == 0 || !given.is_multiple_of(N) {
        return Err(Error::invalid(format!("{given} tensors are not {N} for each parameter")));
    }
    let count = given / N;
    let mut outputs: Vec<Vec<Value>> = vec![Vec::new(); N];
    for i in 0..count {
        let arrays: Vec<&Array> = (0..N).map(|part| inputs.array(2 + part * count + i)).collect::<Result<_>>()?;
        if let Some(other) = arrays.iter().find(|array| array.shape() != arrays[0].shape()) {
            let message = format!(
                "a parameter of shape {:?} has a gradient or state of shape {:?}",
                arrays[0].shape(),
                other.shape()
            );
            return Err(Error::invalid(message));
        }
        let mut parts = arrays.iter().map(|array| array.floats()).collect::<Result<Vec<_>>>()?;
        for at in 0..arrays[0].len() {
            let mut element = std::array::from_fn(|part| parts[part][at]);
            element[1] += norm * element[0];
            update(&mut element);
            element.iter().zip(&mut parts).for_each(|(value, part)| part[at] = *value);
        }
        for (part, (array, values)) in arrays.iter().zip(parts).enumerate().filter(|(part, _)| *part != 1) {
            outputs[part].push(Array::of_floats(array.dtype(), array.shape().to_vec(), values)?.into());
        }
    }
    Ok(outputs.concat())
}

fn number(node: &RawNode, name: &str, default: f32) -> Result<f64> {
    Ok(f64::from(node.attributes.float_or(name, default)?))
}

/// The learning rate and the step number.
fn progress(inputs: &Inputs<'_>) -> Result<(f64, f64)> {
    Ok((inputs.array(0)?.float()?, inputs.array(1)?.float()?))
}

/// How much of a parameter is added to its gradient.
fn regularization(node: &RawNode) -> Result<f64> {
    number(node, "norm_coefficient", 0.0)
}

fn adagrad(node: &RawNode) -> Parsed {
    let (epsilon, decay) = (number(node, "epsilon", 1e-6)?, number(node, "decay_factor", 0.0)?);
    let norm = regularization(node)?;
    eval(move |inputs| {
        let (rate, time) = progress(inputs)?;
        let rate = rate / (1.0 + time * decay);
        step(norm, inputs, |[x, g, h]| {
            *h += *g * *g;
            *x -= rate * *g / (h.sqrt() + epsilon);
        })
    })
}

fn adam(node: &RawNode) -> Parsed {
    let (alpha, beta) = (number(node, "alpha", 0.9)?, number(node, "beta", 0.999)?);
    let (epsilon, after) = (number(node, "epsilon", 1e-6)?, number(node, "norm_coefficient_post", 0.0)?);
    let norm = regularization(node)?;
    eval(move |inputs| {
        let (rate, time) = progress(inputs)?;
        let rate = if time > 0.0 { rate * (1.0 - beta.powf(time)).sqrt() / (1.0 - alpha.powf(time)) } else { rate };
        step(norm, inputs, |[x, g, v, h]| {
            *v = alpha * *v + (1.0 - alpha) * *g;
            *h = beta * *h + (1.0 - beta) * *g * *g;
            *x = (1.0 - after) * (*x - rate * *v / (h.sqrt() + epsilon));
        })
    })
}

fn momentum(node: &RawNode) -> Parsed {
    let (alpha, later) = (number(node, "alpha", 0.0)?, number(node, "beta", 0.0)?);
    let norm = regularization(node)?;
    let nesterov = match node.attributes.text_or("mode", "standard")? {
        "standard" => false,
        "nesterov" => true,
        other => return Err(Error::invalid(format!("attribute 'mode' is '{other}', not 'standard' or 'nesterov'"))),
    };
    eval(move |inputs| {
        let (rate, time) = progress(inputs)?;
        // The first gradient counts in full.
        let beta = if time > 0.0 { later } else { 1.0 };
        step(norm, inputs, |[x, g, v]| {
            *v = alpha * *v + beta * *g;
            *x -= rate * if nesterov { *g + alpha * *v } else { *v };
        })
    })
}
