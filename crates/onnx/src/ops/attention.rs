//! Scaled dot-product attention.

use crate::operator::{Entry, Operator, RawNode, Schema, parsed};
use std::borrow::Cow;

use super::product::{Size, add_product, transposed};
use super::real::{Real, permuted, read, round, with_real, write, zeros};
use super::softmax::softmax_in;
use super::{Inputs, concat};
use crate::array::{count, strides};
use crate::{Array, DType, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[Entry::new(
    Schema::new("Attention", &[23, 24, 25], (3, 7)).attributes(&[
        "is_causal",
        "kv_num_heads",
        "left_window_size@25",
        "q_num_heads",
        "qk_matmul_output_mode",
        "right_window_size@25",
        "scale",
        "softcap",
        "softmax_precision",
    ]),
    |node| parsed(Attention::parse(node)?),
)];

/// Which score the fourth output shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Product,
    Capped,
    Biased,
    Softmax,
}

/// Sizes that queries, keys and values agree on.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    pub batch: usize,
    pub queries: usize,
    /// Query heads that share a head of keys and values.
    pub group: usize,
    /// Positions of queries, and of keys.
    pub rows: usize,
    pub columns: usize,
    /// Width of a query or key, and of a value.
    pub depth: usize,
    pub width: usize,
}

impl Heads {
    /// Of arrays with the axes batch, head, position, place.
    pub fn new(q: &Array, k: &Array, v: &Array) -> Result<Self> {
        let (&[batch, queries, rows, depth], &[kb, keys, columns, kd], &[vb, values, vl, width]) =
            (q.shape(), k.shape(), v.shape())
        else {
            return Err(unfit(q, k, v));
        };
        if [kb, kd, vb, values, vl] != [batch, depth, batch, keys, columns]
            || keys == 0
            || !queries.is_multiple_of(keys)
        {
            return Err(unfit(q, k, v));
        }
        Ok(Self { batch, queries, group: queries / keys, rows, columns, depth, width })
    }

    /// The block of keys or values that a query head of a sample uses.
    pub fn shared(&self, sample: usize, head: usize) -> usize {
        sample * (self.queries / self.group.max(1)) + head / self.group.max(1)
    }
}

fn unfit(q: &Array, k: &Array, v: &Array) -> Error {
    Error::invalid(format!(
        "queries {:?}, keys {:?} and values {:?} do not fit together",
        q.shape(),
        k.shape(),
        v.shape()
    ))
}

/// `[batch, position, head · place]` as `[batch, head, position, place]`.
pub(super) fn split_heads(array: &Array, heads: Option<i64>) -> Result<Array> {
    let &[batch, positions, hidden] = array.shape() else { return Ok(array.clone()) };
    let heads =
        heads.and_then(|heads| usize::try_from(heads).ok()).filter(|&heads| heads > 0 && hidden.is_multiple_of(heads));
    let heads = heads
        .ok_or_else(|| Error::invalid(format!("its number of heads does not divide a hidden size of {hidden}")))?;
    permuted(&array.reshaped(vec![batch, positions, heads, hidden / heads])?, &[0, 2, 1, 3])
}

/// The way back.
pub(super) fn join_heads(array: &Array) -> Result<Array> {
    let &[batch, heads, positions, width] = array.shape() else { return Ok(array.clone()) };
    permuted(array, &[0, 2, 1, 3])?.reshaped(vec![batch, positions, heads * width])
}

/// What is added to the scores.
pub(super) struct Bias {
    /// A mask as numbers: 0 and -∞ for booleans.
    pub mask: Option<Mask>,
    pub causal: bool,
    /// How many positions left and right of a query are seen.
    pub window: [Option<i64>; 2],
    /// Keys before the first query, by sample.
    pub offsets: Vec<i64>,
    /// Keys that are no padding, by sample.
    pub valid: Option<Vec<i64>>,
}

pub(super) struct Mask {
    values: Vec<f64>,
    /// Steps along samples, heads, queries, keys: 0 where it broadcasts.
    steps: [usize; 4],
    /// Keys from here on are masked.
    columns: usize,
}

impl Mask {
    /// `version` is that of the operator.
    pub fn new(mask: &Array, heads: &Heads, version: i64) -> Result<Self> {
        let full = [heads.batch, heads.queries, heads.rows, heads.columns];
        let misfit =
            || Error::invalid(format!("a mask of shape {:?} does not fit scores of shape {full:?}", mask.shape()));
        let lead = 4_usize.checked_sub(mask.rank()).ok_or_else(misfit)?;
        let mut steps = [0; 4];
        for (axis, (&size, step)) in mask.shape().iter().zip(strides(mask.shape())).enumerate() {
            let at = lead + axis;
            // From version 24 on, a mask may be too short: what is missing is masked.
            let short = at == 3 && version >= 24 && size < full[3];
            if size == full[at] || short {
                steps[at] = step;
            } else if size != 1 {
                return Err(misfit());
            }
        }
        let columns = if steps[3] == 0 { full[3] } else { mask.shape().last().copied().unwrap_or(full[3]) };
        let values = match mask.values::<bool>() {
            Some(seen) => seen.iter().map(|&seen| if seen { 0.0 } else { f64::NEG_INFINITY }).collect(),
            None => mask.floats()?,
        };
        Ok(Self { values, steps, columns })
    }
}

impl Bias {
    /// Whether a key is seen at all, apart from the mask.
    fn sees(&self, sample: usize, row: usize, column: usize) -> bool {
        let (here, column) = (row as i64 + self.offsets[sample], column as i64);
        (!self.causal || column <= here)
            && self.window[0].is_none_or(|left| column >= here.saturating_sub(left))
            && self.window[1].is_none_or(|right| column <= here.saturating_add(right))
            && self.valid.as_ref().is_none_or(|valid| column < valid[sample])
    }

    /// The bias of a query.
    fn fill(&self, sample: usize, head: usize, row: usize, out: &mut [f64]) {
        for (column, out) in out.iter_mut().enumerate() {
            let masked = self.mask.as_ref().map_or(0.0, |mask| {
                let [s, h, r, c] = mask.steps;
                if column < mask.columns {
                    mask.values[sample * s + head * h + row * r + column * c]
                } else {
                    f64::NEG_INFINITY
                }
            });
            *out = if self.sees(sample, row, column) { masked } else { f64::NEG_INFINITY };
        }
    }
}

/// The numbers of a node.
pub(super) struct Settings {
    pub scale: f64,
    pub softcap: f64,
    pub shown: Shown,
    /// The type of the softmax.
    pub precision: DType,
}

/// `Attention` of the standard.
#[derive(Debug, Clone)]
pub struct Attention {
    version: i64,
    /// Heads of the queries, and of keys and values, where they are in one axis with the places.
    pub heads: [Option<i64>; 2],
    /// Whether a query sees no key after it.
    pub causal: bool,
    /// How many positions left and right of a query are seen.
    pub window: [Option<i64>; 2],
    /// What scores are multiplied by, unless by one over the root of a head's width.
    pub scale: Option<f32>,
    /// Holds scores between two bounds; 0 for none.
    pub softcap: f32,
    shown: Shown,
    precision: Option<DType>,
    /// Whether somebody looks at the scores.
    show: bool,
}

impl Attention {
    fn parse(node: &RawNode) -> Result<Self> {
        let attributes = &node.attributes;
        let side = |name: &str| Ok::<_, Error>(attributes.int(name)?.filter(|&size| size >= 0));
        let shown = match attributes.int_or("qk_matmul_output_mode", 0)? {
            0 => Shown::Product,
            1 => Shown::Capped,
            2 => Shown::Biased,
            3 => Shown::Softmax,
            other => return Err(Error::invalid(format!("attribute 'qk_matmul_output_mode' is {other}, not 0 to 3"))),
        };
        Ok(Self {
            version: node.version,
            heads: [attributes.int("q_num_heads")?, attributes.int("kv_num_heads")?],
            causal: attributes.flag("is_causal", false)?,
            window: [side("left_window_size")?, side("right_window_size")?],
            scale: attributes.float("scale")?,
            softcap: attributes.float_or("softcap", 0.0)?,
            shown,
            precision: precision(node)?,
            show: node.wants(3),
        })
    }
}

impl Operator for Attention {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let flat = inputs.array(0)?.rank() == 3;
        let q = split_heads(inputs.array(0)?, self.heads[0])?;
        let mut k = split_heads(inputs.array(1)?, self.heads[1])?;
        let mut v = split_heads(inputs.array(2)?, self.heads[1])?;
        let past = match (inputs.optional(4)?, inputs.optional(5)?) {
            (Some(keys), Some(values)) => {
                (k, v) = (concat(&[keys, &k], 2)?, concat(&[values, &v], 2)?);
                Some(keys.shape()[2])
            }
            (None, None) => None,
            _ => return Err(Error::invalid("past keys and past values go together, and one is missing")),
        };
        if k.dtype() != q.dtype() {
            let (q, k) = (q.dtype(), k.dtype());
            return Err(Error::invalid(format!("queries of type {q} do not go with keys of type {k}")));
        }
        let heads = Heads::new(&q, &k, &v)?;
        let valid = inputs.ints(6)?;
        if valid.as_ref().is_some_and(|valid| valid.len() != heads.batch) {
            let message = format!("the numbers of valid keys are not {}, one for each sample", heads.batch);
            return Err(Error::invalid(message));
        }
        let offsets = match (&valid, past) {
            (_, Some(past)) => vec![past as i64; heads.batch],
            (Some(valid), None) => valid.iter().map(|valid| valid.saturating_sub(heads.rows as i64)).collect(),
            (None, None) => vec![0; heads.batch],
        };
        let bias = Bias {
            mask: inputs.optional(3)?.map(|mask| Mask::new(mask, &heads, self.version)).transpose()?,
            causal: self.causal,
            window: self.window,
            offsets,
            valid,
        };
        let settings = Settings {
            scale: self.scale.map_or(1.0 / (heads.depth as f64).sqrt(), f64::from),
            softcap: f64::from(self.softcap),
            shown: self.shown,
            precision: self.precision.unwrap_or(q.dtype()),
        };
        with_real!(q.dtype(), T => {
            let (output, scores) = compute::<T>(&q, &k, &v, &heads, &bias, &settings, self.show)?;
            let output = if flat { join_heads(&output)? } else { output };
            let mut outputs = vec![output.into(), k.into(), v.into()];
            outputs.extend(scores.map(Value::from));
            Ok(outputs)
        })
    }
}

/// The type that an attribute asks the softmax to run in.
pub(super) fn precision(node: &RawNode) -> Result<Option<DType>> {
    let Some(number) = node.attributes.int("softmax_precision")? else { return Ok(None) };
    let dtype = DType::from_number(number as i32).filter(|dtype| dtype.is_float() && !dtype.is_small_float());
    dtype
        .map(Some)
        .ok_or_else(|| Error::invalid(format!("attribute 'softmax_precision' is {number}, which is no float type")))
}

/// Queries or keys times the root of the scale: so that products of narrow types do not overflow.
pub(super) fn scaled<T: Real>(array: &Array, scale: f64) -> Result<Vec<T>> {
    let mut factor = [T::of(scale.sqrt())];
    round(array.dtype(), &mut factor);
    let mut values = read::<T>(array)?.into_owned();
    values.iter_mut().for_each(|v| *v *= factor[0]);
    round(array.dtype(), &mut values);
    Ok(values)
}

/// The scores of one query head of one sample, before anything is added.
pub(super) fn products<T: Real + super::product::Ring>(
    q: &[T],
    k: &[T],
    heads: &Heads,
    at: (usize, usize),
    dtype: DType,
) -> Result<Vec<T>> {
    let Heads { queries, rows, columns, depth, .. } = *heads;
    let (query, key) = (at.0 * queries + at.1, heads.shared(at.0, at.1));
    let keys = transposed(&k[key * columns * depth..][..columns * depth], columns, depth);
    let mut scores = zeros::<T>(&[rows, columns])?;
    add_product(&q[query * rows * depth..][..rows * depth], &keys, &mut scores, Size { m: rows, k: depth, n: columns });
    round(dtype, &mut scores);
    Ok(scores)
}

/// The output, and the scores that are to be shown if `show` is set.
pub(super) fn compute<T: Real + super::product::Ring>(
    q: &Array,
    k: &Array,
    v: &Array,
    heads: &Heads,
    bias: &Bias,
    settings: &Settings,
    show: bool,
) -> Result<(Array, Option<Array>)> {
    let Heads { batch, queries, rows, columns, width, .. } = *heads;
    let dtype = q.dtype();
    let (qs, ks): (Vec<T>, Vec<T>) = (scaled(q, settings.scale)?, scaled(k, settings.scale)?);
    let vs: Cow<'_, [T]> = read(v)?;
    let mut output = zeros::<T>(&[batch, queries, rows, width])?;
    count(&[batch, queries, rows, columns])?;
    let mut shown = Vec::new();
    let mut added = vec![0.0; columns];
    for (sample, head) in (0..batch).flat_map(|sample| (0..queries).map(move |head| (sample, head))) {
        let mut scores = products(&qs, &ks, heads, (sample, head), dtype)?;
        if show && settings.shown == Shown::Product {
            shown.extend_from_slice(&scores);
        }
        cap(&mut scores, settings.softcap, dtype);
        if show && settings.shown == Shown::Capped {
            shown.extend_from_slice(&scores);
        }
        for (row, scores) in scores.chunks_mut(columns.max(1)).enumerate() {
            bias.fill(sample, head, row, &mut added);
            scores.iter_mut().zip(&added).for_each(|(score, &bias)| *score += T::of(bias));
            round(dtype, scores);
            if show && settings.shown == Shown::Biased {
                shown.extend_from_slice(scores);
            }
            // A query that may see no key gives 0.
            if added.iter().all(|&bias| bias == f64::NEG_INFINITY) {
                scores.fill(T::default());
            } else {
                softmax_in(settings.precision, scores);
                round(dtype, scores);
            }
        }
        if show && settings.shown == Shown::Softmax {
            shown.extend_from_slice(&scores);
        }
        let value = heads.shared(sample, head) * columns * width;
        let out = &mut output[(sample * queries + head) * rows * width..][..rows * width];
        add_product(&scores, &vs[value..][..columns * width], out, Size { m: rows, k: columns, n: width });
    }
    let shown = show.then(|| write(dtype, vec![batch, queries, rows, columns], shown)).transpose()?;
    Ok((write(dtype, vec![batch, queries, rows, width], output)?, shown))
}

/// Holds scores between two bounds, softly.
fn cap<T: Real>(scores: &mut [T], softcap: f64, dtype: DType) {
    if softcap <= 0.0 {
        return;
    }
    let steps: [&dyn Fn(T) -> T; 3] = [&|v| v / T::of(softcap), &|v| v.tanh(), &|v| v * T::of(softcap)];
    for step in steps {
        scores.iter_mut().for_each(|v| *v = step(*v));
        round(dtype, scores);
    }
}
