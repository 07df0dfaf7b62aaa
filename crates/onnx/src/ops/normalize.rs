//! Normalization by channels: over the batch, each instance, groups, or neighbouring channels.

use super::layer_norm::standardize;
use super::real::{Real, permuted, read, round, sum, with_real, write};
use super::reduce::sum_square;
use super::softmax::rows;
use super::{Inputs, one};
use crate::array::axis;
use crate::axis::Axis;
use crate::infer::{Fact, Rule, fits};
use crate::operator::{Entry, Operator, Parsed, RawNode, Schema, eval, parsed};
use crate::{Array, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(
        Schema::new("BatchNormalization", &[1, 6, 7, 9, 14, 15], (5, 5))
            .attributes(&["consumed_inputs<6", "epsilon", "is_test<7", "momentum", "spatial<9", "training_mode@14"])
            .weights()
            .statistics(3),
        |node| parsed(BatchNormalization::parse(node)?),
    ),
    Entry::new(
        Schema::new("InstanceNormalization", &[1, 6, 22], (3, 3))
            .attributes(&["consumed_inputs<6", "epsilon"])
            .rule(Rule::Same)
            .weights(),
        |node| parsed(InstanceNormalization { epsilon: epsilon(node)? }),
    ),
    Entry::new(
        Schema::new("GroupNormalization", &[18, 21], (3, 3))
            .attributes(&["epsilon", "!num_groups", "stash_type@21"])
            .rule(Rule::Same)
            .weights(),
        |node| parsed(GroupNormalization::parse(node)?),
    ),
    Entry::new(Schema::new("LpNormalization", &[1, 22], (1, 1)).attributes(&["axis", "p"]).rule(Rule::Same), lp),
    Entry::new(
        Schema::new("MeanVarianceNormalization", &[9, 13], (1, 1)).attributes(&["axes"]).rule(Rule::Same),
        mean_variance,
    ),
    Entry::new(
        Schema::new("LRN", &[1, 13], (1, 1)).attributes(&["alpha", "beta", "bias", "!size"]).rule(Rule::Same),
        local_response,
    ),
];

fn epsilon(node: &RawNode) -> Result<f64> {
    Ok(f64::from(node.attributes.float_or("epsilon", 1e-5)?))
}

/// How values belong to channels: blocks before the channel axis, channels, values of one channel in a block.
#[derive(Clone, Copy)]
struct Channels {
    count: usize,
    inner: usize,
}

impl Channels {
    /// The channels of axis 1; a vector has one.
    fn of(x: &Array) -> Self {
        match x.shape() {
            [] | [_] => Self { count: 1, inner: 1 },
            [_, count, rest @ ..] => Self { count: *count, inner: rest.iter().product() },
        }
    }

    /// Calls a function for each run of values of one channel.
    fn each<T>(self, values: &mut [T], mut visit: impl FnMut(usize, &mut [T])) {
        if self.inner > 0 {
            values.chunks_mut(self.inner).enumerate().for_each(|(i, run)| visit(i % self.count, run));
        }
    }

    /// One value for each channel, as an input gives them.
    fn read<T: Real>(self, part: &Array, what: &str) -> Result<Vec<T>> {
        if part.len() != self.count {
            return Err(Error::invalid(format!("{} values of {what} do not fit {} channels", part.len(), self.count)));
        }
        Ok(read::<T>(part)?.into_owned())
    }
}

/// `BatchNormalization`.
#[derive(Debug, Clone)]
pub struct BatchNormalization {
    /// Added to each variance.
    pub epsilon: f64,
    /// How much of the running statistics is kept in training.
    pub momentum: f64,
    /// Whether it normalizes by the batch's own statistics and gives the running ones: it says so from version 14 on, before
    /// that it does when it gives more than one output.
    pub training: bool,
    /// Whether each place of a feature map is a channel of its own (before version 9).
    pub each_place: bool,
    /// The version of the operator set, which says what outputs it has in training.
    pub version: i64,
}

impl BatchNormalization {
    fn parse(node: &RawNode) -> Result<Self> {
        let training = match node.version {
            14.. => node.attributes.flag("training_mode", false)?,
            7.. => node.outputs.len() > 1,
            _ => node.outputs.len() > 1 && !node.attributes.flag("is_test", false)?,
        };
        Ok(Self {
            epsilon: epsilon(node)?,
            momentum: f64::from(node.attributes.float_or("momentum", 0.9)?),
            training,
            each_place: node.version < 9 && !node.attributes.flag("spatial", true)?,
            version: node.version,
        })
    }
}

impl Operator for BatchNormalization {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let x = inputs.array(0)?;
        let [scale, bias, mean, variance] = [inputs.array(1)?, inputs.array(2)?, inputs.array(3)?, inputs.array(4)?];
        // MXNet wrote `spatial = 0` also where there is one scale for each channel.
        let channels = if self.each_place && x.rank() > 1 && scale.len() != x.shape()[1] {
            Channels { count: x.shape()[1..].iter().product(), inner: 1 }
        } else {
            Channels::of(x)
        };
        with_real!(x.dtype(), T => {
            let (scales, biases) = (channels.read::<T>(scale, "scale")?, channels.read::<T>(bias, "bias")?);
            let (mut means, mut variances) = (channels.read::<T>(mean, "mean")?, channels.read::<T>(variance, "variance")?);
            let mut values = read::<T>(x)?.into_owned();
            let mut more = Vec::new();
            if self.training {
                let running = [means, variances];
                (means, variances) = statistics(&mut values, channels);
                let mixed = |old: &[T], new: &[T]| -> Vec<T> {
                    old.iter().zip(new).map(|(old, new)| T::of(old.f64() * self.momentum + new.f64() * (1.0 - self.momentum))).collect()
                };
                more = vec![
                    write(mean.dtype(), mean.shape().to_vec(), mixed(&running[0], &means))?.into(),
                    write(variance.dtype(), variance.shape().to_vec(), mixed(&running[1], &variances))?.into(),
                ];
                if self.version < 14 {
                    more.push(write(mean.dtype(), mean.shape().to_vec(), means.clone())?.into());
                    more.push(write(variance.dtype(), variance.shape().to_vec(), variances.clone())?.into());
                }
            }
            let factors: Vec<T> = scales.iter().zip(&variances).map(|(&s, &v)| s / (v + T::of(self.epsilon)).sqrt()).collect();
            channels.each(&mut values, |c, run| run.iter_mut().for_each(|v| *v = (*v - means[c]) * factors[c] + biases[c]));
            let mut outputs = one(write(x.dtype(), x.shape().to_vec(), values)?)?;
            outputs.append(&mut more);
            Ok(outputs)
        })
    }

    fn infer(&self, inputs: &[Fact]) -> Result<Vec<Fact>> {
        let [x, parameters @ ..] = inputs else { return Ok(Vec::new()) };
        let channels = x.shape.as_ref().and_then(|shape| shape.get(1)).unwrap_or(&Axis::Any);
        for (place, parameter) in parameters.iter().enumerate() {
            let fits = parameter.shape.as_ref().is_none_or(|shape| shape.len() == 1 && fits(&shape[0], channels));
            if !fits && !self.each_place {
                return Err(Error::invalid(format!("its input {} has not one value for each channel", place + 1)));
            }
        }
        Ok(vec![Fact { ints: None, ..x.clone() }])
    }
}

/// Mean and variance of each channel.
fn statistics<T: Real>(values: &mut [T], channels: Channels) -> (Vec<T>, Vec<T>) {
    let each = values.len() as f64 / channels.count.max(1) as f64;
    let mut means = vec![0.0; channels.count];
    channels.each(values, |c, run| means[c] += sum(run).f64() / each);
    let mut variances = vec![0.0; channels.count];
    channels.each(values, |c, run| {
        variances[c] += run.iter().map(|v| (v.f64() - means[c]).powi(2)).sum::<f64>() / each;
    });
    (means.into_iter().map(T::of).collect(), variances.into_iter().map(T::of).collect())
}

/// `InstanceNormalization`.
#[derive(Debug, Clone, Copy)]
pub struct InstanceNormalization {
    /// Added to each variance.
    pub epsilon: f64,
}

impl Operator for InstanceNormalization {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let x = inputs.array(0)?;
        let channels = Channels::of(x);
        with_real!(x.dtype(), T => {
            let (scales, biases) = (channels.read::<T>(inputs.array(1)?, "scale")?, channels.read::<T>(inputs.array(2)?, "bias")?);
            let mut values = read::<T>(x)?.into_owned();
            channels.each(&mut values, |c, run| {
                standardize(run, T::of(self.epsilon));
                run.iter_mut().for_each(|v| *v = *v * scales[c] + biases[c]);
            });
            one(write(x.dtype(), x.shape().to_vec(), values)?)
        })
    }
}

/// `GroupNormalization`.
#[derive(Debug, Clone, Copy)]
pub struct GroupNormalization {
    /// Added to each variance.
    pub epsilon: f64,
    /// Groups of channels; 0 is wrong.
    pub groups: usize,
    /// Whether scale and bias are of groups (version 18), not of channels (from 21 on).
    pub of_groups: bool,
}

impl GroupNormalization {
    fn parse(node: &RawNode) -> Result<Self> {
        let groups = node.attributes.int("num_groups")?.and_then(|groups| usize::try_from(groups).ok());
        Ok(Self { epsilon: epsilon(node)?, groups: groups.unwrap_or(0), of_groups: node.version < 21 })
    }
}

impl Operator for GroupNormalization {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let Self { groups, of_groups, .. } = *self;
        let (x, scale, bias) = (inputs.array(0)?, inputs.array(1)?, inputs.array(2)?);
        let channels = Channels::of(x);
        if groups == 0 || !channels.count.is_multiple_of(groups) {
            return Err(Error::invalid(format!("attribute 'num_groups' does not divide {} channels", channels.count)));
        }
        let each = channels.count / groups;
        let named = if of_groups { Channels { count: groups, inner: 1 } } else { channels };
        with_real!(x.dtype(), T => {
            let (scales, biases) = (named.read::<T>(scale, "scale")?, named.read::<T>(bias, "bias")?);
            let mut values = read::<T>(x)?.into_owned();
            values.chunks_mut((each * channels.inner).max(1)).for_each(|row| {
                standardize(row, T::of(self.epsilon));
            });
            round(x.dtype(), &mut values);
            channels.each(&mut values, |c, run| {
                let c = if of_groups { c / each } else { c };
                run.iter_mut().for_each(|v| *v = *v * scales[c] + biases[c]);
            });
            one(write(x.dtype(), x.shape().to_vec(), values)?)
        })
    }
}

/// A row whose norm is 0 stays 0.
fn lp(node: &RawNode) -> Parsed {
    let order = node.attributes.int_or("p", 2)?;
    if !(1..=2).contains(&order) {
        return Err(Error::invalid(format!("attribute 'p' is {order}, not 1 or 2")));
    }
    let axis_given = node.attributes.int_or("axis", -1)?;
    eval(move |inputs| {
        let x = inputs.array(0)?;
        let at = axis(axis_given, x.rank())?;
        let (_, size, inner) = super::around(x.shape(), at);
        with_real!(x.dtype(), T => {
            let divide = |row: &mut [T]| {
                let norm = if order == 1 { row.iter().fold(T::default(), |total, v| total + v.abs()) } else { sum_square(row).sqrt() };
                if norm != T::default() {
                    row.iter_mut().for_each(|v| *v /= norm);
                }
            };
            one(write(x.dtype(), x.shape().to_vec(), rows(read::<T>(x)?.into_owned(), size, inner, divide))?)
        })
    })
}

/// Over the axes given; in version 1, over the batch and the feature maps, with or without channels.
fn mean_variance(node: &RawNode) -> Parsed {
    let across = node.version < 9 && node.attributes.flag("across_channels", false)?;
    let given = match node.attributes.ints("axes")? {
        Some(axes) => axes.to_vec(),
        None if across => vec![0, 1, 2, 3],
        None => vec![0, 2, 3],
    };
    let scale = node.version >= 9 || node.attributes.flag("normalize_variance", true)?;
    eval(move |inputs| {
        let x = inputs.array(0)?;
        let mut axes = given.iter().map(|&at| axis(at, x.rank())).collect::<Result<Vec<_>>>()?;
        axes.sort_unstable();
        axes.dedup();
        let order: Vec<usize> = (0..x.rank()).filter(|at| !axes.contains(at)).chain(axes.iter().copied()).collect();
        let mut back = vec![0; order.len()];
        order.iter().enumerate().for_each(|(to, &from)| back[from] = to);
        let size: usize = axes.iter().map(|&at| x.shape()[at]).product();
        let turned = permuted(x, &order)?;
        with_real!(x.dtype(), T => {
            let mut values = read::<T>(&turned)?.into_owned();
            for row in values.chunks_mut(size.max(1)) {
                let count = T::of(row.len() as f64);
                let mean = sum(row) / count;
                row.iter_mut().for_each(|v| *v -= mean);
                if scale {
                    let deviation = (sum_square(row) / count).sqrt() + T::of(1e-9);
                    row.iter_mut().for_each(|v| *v /= deviation);
                }
            }
            one(permuted(&write(x.dtype(), turned.shape().to_vec(), values)?, &back)?)
        })
    })
}

/// Divides by a power of the sum of squares over neighbouring channels.
fn local_response(node: &RawNode) -> Parsed {
    let size = node.attributes.int("size")?.and_then(|size| usize::try_from(size).ok()).filter(|&size| size > 0);
    let size = size.ok_or_else(|| Error::invalid("attribute 'size' is not a positive number"))?;
    let number = |name: &str, default: f32| Ok::<_, Error>(f64::from(node.attributes.float_or(name, default)?));
    let (alpha, beta, bias) = (number("alpha", 0.0001)?, number("beta", 0.75)?, number("bias", 1.0)?);
    eval(move |inputs| {
        let x = inputs.array(0)?;
        if x.rank() < 2 {
            return Err(Error::invalid(format!("an input of shape {:?} has no channels", x.shape())));
        }
        let Channels { count, inner } = Channels::of(x);
        let (before, after) = ((size - 1) / 2, size / 2);
        with_real!(x.dtype(), T => {
            let values = read::<T>(x)?;
            let mut result = values.to_vec();
            if !x.is_empty() {
                let mut squares = vec![T::default(); inner];
                for (block, out) in values.chunks(count * inner).zip(result.chunks_mut(count * inner)) {
                    for (c, out) in out.chunks_mut(inner).enumerate() {
                        crate::limit::time()?;
                        squares.fill(T::default());
                        let last = c.saturating_add(after).min(count - 1);
                        for near in block[c.saturating_sub(before) * inner..(last + 1) * inner].chunks(inner) {
                            squares.iter_mut().zip(near).for_each(|(total, &v)| *total += v * v);
                        }
                        for (v, square) in out.iter_mut().zip(&squares) {
                            *v /= T::of((bias + alpha / size as f64 * square.f64()).powf(beta));
                        }
                    }
                }
            }
            one(write(x.dtype(), x.shape().to_vec(), result)?)
        })
    })
}
