//! Companions of attention: rotary positions, linear attention, and the causal convolution that goes before it.

use super::activation::sigmoid;
use super::attention::{join_heads, split_heads};
use super::real::{Real, read, round, with_real, write, zeros};
use super::{concat, one};
use crate::array::Data;
use crate::operator::{Entry, Parsed, RawNode, Schema, eval};
use crate::{Array, Error, Result};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(
        Schema::new("RotaryEmbedding", &[23], (3, 4)).attributes(&["interleaved", "num_heads", "rotary_embedding_dim"]),
        rotary,
    ),
    Entry::new(
        Schema::new("LinearAttention", &[27], (3, 6)).attributes(&[
            "chunk_size",
            "!kv_num_heads",
            "!q_num_heads",
            "scale",
            "update_rule",
        ]),
        linear,
    ),
    Entry::new(Schema::new("CausalConvWithState", &[27], (2, 4)).attributes(&["activation"]), causal_conv),
];

/// Turns pairs of places by angles that depend on the position. Inputs: values, cosines, sines, positions.
fn rotary(node: &RawNode) -> Parsed {
    let num_heads = node.attributes.int("num_heads")?;
    let rotary_embedding_dim = node.attributes.int_or("rotary_embedding_dim", 0)?;
    let interleaved = node.attributes.flag("interleaved", false)?;
    eval(move |inputs| {
        let x = inputs.array(0)?;
        let flat = x.rank() == 3;
        let split = split_heads(x, num_heads)?;
        let &[batch, _, positions, width] = split.shape() else {
            return Err(Error::invalid(format!("an input of shape {:?} has neither 3 nor 4 axes", x.shape())));
        };
        let turned = match rotary_embedding_dim {
            0 => width,
            size => usize::try_from(size).ok().filter(|&size| size <= width).ok_or_else(|| {
                Error::invalid(format!("attribute 'rotary_embedding_dim' is {size}, and a head has {width} places"))
            })?,
        };
        let half = turned / 2;
        let (cos, sin) = (inputs.array(1)?, inputs.array(2)?);
        let rows = angles(cos, sin, inputs.optional(3)?, [batch, positions, half])?;
        let result = rotated(&split, [cos, sin], &rows, half, interleaved)?;
        one(if flat { join_heads(&result)? } else { result })
    })
}

/// Values with the axes batch, head, position, place, turned by the angles in a row of the tables for each position of each sample.
pub(super) fn rotated(
    x: &Array,
    [cos, sin]: [&Array; 2],
    rows: &[usize],
    half: usize,
    interleaved: bool,
) -> Result<Array> {
    let &[_, heads, positions, width] = x.shape() else {
        return Err(Error::invalid(format!("values of shape {:?} do not have 4 axes", x.shape())));
    };
    with_real!(x.dtype(), T => {
        let (cos, sin) = (read::<T>(cos)?, read::<T>(sin)?);
        let mut values = read::<T>(x)?.into_owned();
        for (i, place) in values.chunks_mut(width.max(1)).enumerate() {
            let (sample, position) = (i / positions / heads, i % positions);
            let row = rows[sample * positions + position] * half;
            for j in 0..half {
                let (a, b) = if interleaved { (2 * j, 2 * j + 1) } else { (j, half + j) };
                let (c, s) = (cos[row + j], sin[row + j]);
                (place[a], place[b]) = (c * place[a] - s * place[b], s * place[a] + c * place[b]);
            }
        }
        write(x.dtype(), x.shape().to_vec(), values)
    })
}

/// For each position of each sample, the row of the tables of cosines and sines.
pub(super) fn angles(
    cos: &Array,
    sin: &Array,
    given: Option<&Array>,
    [batch, positions, half]: [usize; 3],
) -> Result<Vec<usize>> {
    let unfit = || {
        let shapes = format!("cosines {:?} and sines {:?}", cos.shape(), sin.shape());
        Error::invalid(format!("{shapes} do not fit {batch} samples of {positions} positions with {half} pairs"))
    };
    if cos.shape() != sin.shape() || cos.shape().last() != Some(&half) {
        return Err(unfit());
    }
    let Some(given) = given else {
        return if cos.shape() == [batch, positions, half] {
            Ok((0..batch * positions).collect())
        } else {
            Err(unfit())
        };
    };
    let &[known, _] = cos.shape() else { return Err(unfit()) };
    if given.shape() != [batch, positions] {
        return Err(Error::invalid(format!("positions of shape {:?} are not [{batch}, {positions}]", given.shape())));
    }
    let row = |position: i64| usize::try_from(position).ok().filter(|&position| position < known);
    let row = |position| row(position).ok_or_else(|| Error::invalid(format!("position {position} is none of {known}")));
    given.int64s()?.into_iter().map(row).collect()
}

/// One state for each head, which every position decays, corrects and adds to.
fn linear(node: &RawNode) -> Parsed {
    let rule = node.attributes.text_or("update_rule", "gated_delta")?;
    let number =
        |name: &str| node.attributes.int(name)?.ok_or_else(|| Error::invalid(format!("it has no attribute '{name}'")));
    let scale_given = node.attributes.float_or("scale", 0.0)?;
    let (query_heads, heads) = (number("q_num_heads")?, number("kv_num_heads")?);
    let rule = rule.to_string();
    let (gated, delta) = match rule.as_str() {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => {
            return Err(Error::invalid(format!(
                "attribute 'update_rule' is '{other}', not 'linear', 'gated', 'delta' or 'gated_delta'"
            )));
        }
    };
    eval(move |inputs| {
        let query = inputs.array(0)?;
        if query.rank() != 3 {
            return Err(Error::invalid(format!("queries of shape {:?} do not have 3 axes", query.shape())));
        }
        let q = split_heads(query, Some(query_heads))?;
        let (k, v) = (split_heads(inputs.array(1)?, Some(heads))?, split_heads(inputs.array(2)?, Some(heads))?);
        let sizes = super::attention::Heads::new(&q, &k, &v)?;
        if sizes.rows != sizes.columns {
            return Err(Error::invalid("there are not as many keys as queries"));
        }
        let (batch, kept) = (sizes.batch, k.shape()[1]);
        let gate = |position: usize, used: bool, name: &str| -> Result<Option<&Array>> {
            match (inputs.optional(position)?, used) {
                (Some(array), true) if array.rank() == 3 && array.shape()[..2] == [batch, sizes.rows] => {
                    Ok(Some(array))
                }
                (Some(array), true) => {
                    Err(Error::invalid(format!("a {name} of shape {:?} does not fit the queries", array.shape())))
                }
                (None, false) => Ok(None),
                (None, true) => Err(Error::invalid(format!("the rule '{rule}' needs a {name}"))),
                (Some(_), false) => Err(Error::invalid(format!("the rule '{rule}' takes no {name}"))),
            }
        };
        let (decay, beta) = (gate(4, gated, "decay")?, gate(5, delta, "beta")?);
        let (decays, betas) = (decay.map_or(1, |decay| decay.shape()[2]), beta.map_or(1, |beta| beta.shape()[2]));
        if (decay.is_some() && decays != kept && decays != kept * sizes.depth)
            || (beta.is_some() && betas != kept && betas != 1)
        {
            return Err(Error::invalid(format!("{decays} decays and {betas} betas do not fit {kept} heads")));
        }
        let state_shape = [batch, kept, sizes.depth, sizes.width];
        let past = inputs.optional(3)?;
        if past.is_some_and(|past| past.shape() != state_shape) {
            return Err(Error::invalid(format!("the past state is not of shape {state_shape:?}")));
        }
        let scale = match scale_given {
            0.0 => 1.0 / (sizes.depth as f64).sqrt(),
            scale => f64::from(scale),
        };
        with_real!(query.dtype(), T => {
            let gates = Gates {
                decay: decay.map(read::<T>).transpose()?.map(|values| values.into_owned()),
                decays,
                beta: beta.map(read::<T>).transpose()?.map(|values| values.into_owned()),
                betas,
            };
            let mut state = match past {
                Some(past) => read::<T>(past)?.into_owned(),
                None => zeros::<T>(&state_shape)?,
            };
            let mut output = zeros::<T>(&[batch, sizes.queries, sizes.rows, sizes.width])?;
            let (q, k, v) = (read::<T>(&q)?, read::<T>(&k)?, read::<T>(&v)?);
            let each = (sizes.depth * sizes.width).max(1);
            for (i, state) in state.chunks_mut(each).enumerate() {
                let (sample, head) = (i / kept, i % kept);
                for position in 0..sizes.rows {
                    let at = i * sizes.rows + position;
                    let (key, value) = (&k[at * sizes.depth..][..sizes.depth], &v[at * sizes.width..][..sizes.width]);
                    gates.update(state, key, value, (sample * sizes.rows + position, head), kept);
                    for shared in 0..sizes.group {
                        let at = (sample * sizes.queries + head * sizes.group + shared) * sizes.rows + position;
                        let out = &mut output[at * sizes.width..][..sizes.width];
                        for (&q, row) in q[at * sizes.depth..][..sizes.depth].iter().zip(state.chunks(sizes.width.max(1))) {
                            out.iter_mut().zip(row).for_each(|(out, &s)| *out += q * s);
                        }
                        out.iter_mut().for_each(|out| *out *= T::of(scale));
                    }
                }
            }
            let output = write(query.dtype(), vec![batch, sizes.queries, sizes.rows, sizes.width], output)?;
            let state = write(past.map_or(query.dtype(), Array::dtype), state_shape.to_vec(), state)?;
            Ok(vec![join_heads(&output)?.into(), state.into()])
        })
    })
}

/// What decides how much of a state stays and how much is corrected.
struct Gates<T> {
    /// Logarithms, for each head or for each place of a key.
    decay: Option<Vec<T>>,
    decays: usize,
    beta: Option<Vec<T>>,
    betas: usize,
}

impl<T: Real> Gates<T> {
    /// Takes in one position of one head.
    fn update(&self, state: &mut [T], key: &[T], value: &[T], (position, head): (usize, usize), heads: usize) {
        let width = value.len().max(1);
        if let Some(decay) = &self.decay {
            for (d, row) in state.chunks_mut(width).enumerate() {
                let at = if self.decays == heads { head } else { head * key.len() + d };
                let factor = decay[position * self.decays + at].exp();
                row.iter_mut().for_each(|s| *s *= factor);
            }
        }
        let mut value = value.to_vec();
        if let Some(beta) = &self.beta {
            let beta = beta[position * self.betas + if self.betas == 1 { 0 } else { head }];
            for (&k, row) in key.iter().zip(state.chunks(width)) {
                value.iter_mut().zip(row).for_each(|(v, &s)| *v -= k * s);
            }
            value.iter_mut().for_each(|v| *v *= beta);
        }
        for (&k, row) in key.iter().zip(state.chunks_mut(width)) {
            row.iter_mut().zip(&value).for_each(|(s, &v)| *s += k * v);
        }
    }
}

/// Each channel with a kernel of its own that sees only the past; the last values are the state of the next call.
fn causal_conv(node: &RawNode) -> Parsed {
    let smooth = match node.attributes.text_or("activation", "none")? {
        "none" => false,
        "silu" | "swish" => true,
        other => {
            return Err(Error::invalid(format!("attribute 'activation' is '{other}', not 'none', 'silu' or 'swish'")));
        }
    };
    eval(move |inputs| {
        let (x, weight, bias) = (inputs.array(0)?, inputs.array(1)?, inputs.optional(2)?);
        let (&[batch, channels, length], &[kernels, 1, size]) = (x.shape(), weight.shape()) else {
            return Err(Error::invalid(format!(
                "an input {:?} and a weight {:?} do not fit together",
                x.shape(),
                weight.shape()
            )));
        };
        let bias_fits = bias.is_none_or(|bias| bias.shape() == [channels]);
        if kernels != channels || size == 0 || !bias_fits || weight.dtype() != x.dtype() {
            return Err(Error::invalid(format!("weight {:?} and bias do not fit {channels} channels", weight.shape())));
        }
        let past_shape = vec![batch, channels, size - 1];
        let past = match inputs.optional(3)? {
            Some(past) if past.shape() == past_shape => past.clone(),
            Some(past) => {
                return Err(Error::invalid(format!("a past state of shape {:?} is not {past_shape:?}", past.shape())));
            }
            None => Array::from_data(past_shape.clone(), Data::zeros(x.dtype(), crate::array::count(&past_shape)?))?,
        };
        let padded = concat(&[&past, x], 2)?;
        let total = length + size - 1;
        let state: Vec<usize> =
            (0..batch * channels).flat_map(|row| (row * total + length)..((row + 1) * total)).collect();
        let state = padded.take(past_shape, &state)?;
        with_real!(x.dtype(), T => {
            let (values, kernels) = (read::<T>(&padded)?, read::<T>(weight)?);
            let bias = bias.map(read::<T>).transpose()?;
            let mut output = zeros::<T>(x.shape())?;
            for (i, out) in output.chunks_mut(length.max(1)).enumerate() {
                let channel = i % channels;
                let start = bias.as_ref().map_or(T::default(), |bias| bias[channel]);
                out.fill(start);
                for (tap, &weight) in kernels[channel * size..][..size].iter().enumerate() {
                    let row = &values[i * total + tap..][..length];
                    out.iter_mut().zip(row).for_each(|(out, &v)| *out += weight * v);
                }
            }
            round(x.dtype(), &mut output);
            if smooth {
                output.iter_mut().for_each(|v| *v = T::of(v.f64() * sigmoid(v.f64())));
            }
            Ok(vec![write(x.dtype(), x.shape().to_vec(), output)?.into(), state.into()])
        })
    })
}
