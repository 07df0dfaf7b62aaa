//! Operators of the domain `com.microsoft`, which optimized and quantized models use.

use super::activation::{gelu, gelu_tanh, sigmoid};
use super::conv::Conv;
use super::fused_activation::{FusedActivation, activated};
use super::layer_norm::{combine, divide_by_rms, standardize};
use super::matmul::{Gemm, matmul};
use super::real::{Real, permuted, read, with_real, write, zeros};
use super::unary::float;
use super::{Inputs, one, quantize};
use crate::array::Broadcast;
use crate::infer::{Fact, Rule, elements, fits};
use crate::operator::{Entry, Operator, Parsed, RawNode, Schema, eval, parsed};
use crate::{Array, DType, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::plain(Schema::of("com.microsoft", "Gelu", &[1], (1, 1)).rule(Rule::Same), |inputs| float(inputs, gelu)),
    Entry::new(Schema::of("com.microsoft", "QuickGelu", &[1], (1, 1)).rule(Rule::Same), |node| {
        let alpha = f64::from(node.attributes.float_or("alpha", 1.702)?);
        eval(move |inputs| float(inputs, |v| v * sigmoid(alpha * v)))
    }),
    Entry::plain(Schema::of("com.microsoft", "BiasGelu", &[1], (2, 2)).rule(Rule::Same), |inputs| biased(inputs, gelu)),
    Entry::plain(Schema::of("com.microsoft", "FastGelu", &[1], (1, 2)).rule(Rule::Same), |inputs| {
        biased(inputs, gelu_tanh)
    }),
    Entry::new(Schema::of("com.microsoft", "FusedMatMul", &[1], (2, 2)), fused_matmul),
    Entry::new(Schema::of("com.microsoft", "TransposeMatMul", &[1], (2, 2)), fused_matmul),
    Entry::new(Schema::of("com.microsoft", "FusedConv", &[1], (2, 4)), fused_conv),
    Entry::new(Schema::of("com.microsoft", "FusedGemm", &[1], (2, 3)), fused_gemm),
    Entry::new(Schema::of("com.microsoft", "MatMulNBits", &[1], (3, 6)), matmul_n_bits),
    Entry::new(Schema::of("com.microsoft", "SkipLayerNormalization", &[1], (3, 5)), |node| skip_norm(node, Some(3), 4)),
    Entry::new(Schema::of("com.microsoft", "SkipSimplifiedLayerNormalization", &[1], (3, 4)), |node| {
        skip_norm(node, None, 3)
    }),
    Entry::new(Schema::of("com.microsoft", "EmbedLayerNormalization", &[1], (7, 9)), embed_norm),
    Entry::plain(Schema::of("com.microsoft", "QLinearAdd", &[1], (7, 8)), |inputs| {
        quantized_pair(inputs, |a, b| a + b)
    }),
    Entry::plain(Schema::of("com.microsoft", "QLinearMul", &[1], (7, 8)), |inputs| {
        quantized_pair(inputs, |a, b| a * b)
    }),
    Entry::plain(Schema::of("com.microsoft", "QLinearSigmoid", &[1], (4, 5)), |inputs| quantized(inputs, sigmoid)),
    Entry::new(Schema::of("com.microsoft", "QLinearLeakyRelu", &[1], (4, 5)), |node| {
        let alpha = f64::from(node.attributes.float_or("alpha", 0.01)?);
        eval(move |inputs| quantized(inputs, |v| if v < 0.0 { alpha * v } else { v }))
    }),
    Entry::new(Schema::of("com.microsoft", "CDist", &[1], (2, 2)).attributes(&["metric"]), |node| {
        parsed(Distances::parse(node)?)
    }),
    Entry::new(Schema::of("com.microsoft", "QuantizeLinear", &[1], (2, 3)), quantize::quantize),
    Entry::new(Schema::of("com.microsoft", "DequantizeLinear", &[1], (2, 3)), quantize::dequantize),
];

/// The values of a tensor, a bias along its last axis added to them if there is one, through a function.
fn biased(inputs: &Inputs<'_>, function: fn(f64) -> f64) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let mut values = x.floats()?;
    if let Some(bias) = inputs.optional(1)? {
        combine(&mut values, x.shape(), bias, |v, b| *v += b)?;
    }
    one(Array::of_floats(x.dtype(), x.shape().to_vec(), values.into_iter().map(function).collect())?)
}

/// A product of matrices, each transposed (or its batch axes moved behind its rows) or not, times a factor.
fn fused_matmul(node: &RawNode) -> Parsed {
    let flag = |name| node.attributes.flag(name, false);
    let turns = [(flag("transBatchA")?, flag("transA")?), (flag("transBatchB")?, flag("transB")?)];
    let alpha = f64::from(node.attributes.float_or("alpha", 1.0)?);
    eval(move |inputs| {
        let [a, b] = [0, 1].map(|position| turned(inputs.array(position)?, turns[position]));
        let product = matmul(&a?, &b?)?;
        let values = product.floats()?.into_iter().map(|v| alpha * v).collect();
        one(Array::of_floats(product.dtype(), product.shape().to_vec(), values)?)
    })
}

/// `transBatch` says that the rows are the first axis and the batch comes after it; `trans` that rows and columns change places.
fn turned(array: &Array, (batch, matrix): (bool, bool)) -> Result<Array> {
    if array.rank() < 2 {
        return Ok(array.clone());
    }
    let mut order: Vec<usize> = (0..array.rank()).collect();
    if batch {
        let rows = order.remove(0);
        order.insert(order.len() - 1, rows);
    }
    if matrix {
        order.swap(array.rank() - 1, array.rank() - 2);
    }
    permuted(array, &order)
}

fn fused_conv(node: &RawNode) -> Parsed {
    let conv = Conv::parse(node)?;
    let activation = FusedActivation::parse(node, node.attributes.floats("activation_params")?.unwrap_or_default())?;
    eval(move |inputs| {
        let mut x = conv.apply(inputs.array(0)?, inputs.array(1)?, inputs.optional(2)?)?;
        if let Some(other) = inputs.optional(3)? {
            let mut values = x.floats()?;
            combine(&mut values, x.shape(), other, |v, o| *v += o)?;
            x = Array::of_floats(x.dtype(), x.shape().to_vec(), values)?;
        }
        one(activated(activation, x)?)
    })
}

fn fused_gemm(node: &RawNode) -> Parsed {
    let gemm = Gemm::parse(node)?;
    let parameters = [node.attributes.float("activation_alpha")?, node.attributes.float("activation_beta")?];
    let activation = FusedActivation::parse(node, &parameters.into_iter().flatten().collect::<Vec<_>>())?;
    eval(move |inputs| {
        let values = Operator::eval(&gemm, inputs)?;
        one(activated(activation, values[0].array()?.clone())?)
    })
}

/// The right matrix is kept transposed, in blocks of small integers, each block with a scale and perhaps a zero point.
fn matmul_n_bits(node: &RawNode) -> Parsed {
    let size = |name: &str, default: Option<i64>| -> Result<usize> {
        let value = node
            .attributes
            .int(name)?
            .or(default)
            .and_then(|value| usize::try_from(value).ok())
            .filter(|&value| value > 0);
        value.ok_or_else(|| Error::invalid(format!("attribute '{name}' is not a positive number")))
    };
    let (k, n, bits, block) = (size("K", None)?, size("N", None)?, size("bits", Some(4))?, size("block_size", None)?);
    if ![2, 4, 8].contains(&bits) {
        return Err(Error::beyond(format!("a matrix of {bits} bits")));
    }
    eval(move |inputs| {
        if inputs.get(4).is_some() {
            return Err(Error::beyond("a matrix whose rows are in groups"));
        }
        let each = 8 / bits;
        let (a, packed, scales) = (inputs.array(0)?, inputs.array(1)?.expect::<u8>()?, inputs.array(2)?);
        let blocks = k.div_ceil(block);
        let bytes = block.div_ceil(each);
        let wanted = [n, blocks, bytes].iter().try_fold(1_usize, |total, &size| total.checked_mul(size));
        if wanted != Some(packed.len()) || scales.len() != n * blocks {
            let found = format!("{} bytes and {} scales", packed.len(), scales.len());
            return Err(Error::invalid(format!(
                "{found} are not those of {n} columns of {blocks} blocks of {block} values"
            )));
        }
        let code = |bytes: &[u8], at: usize| (bytes[at / each] >> (at % each * bits)) & (0xff >> (8 - bits));
        let per_column = blocks.div_ceil(each);
        let misfit = || Error::invalid(format!("the zero points are not those of {n} columns of {blocks} blocks"));
        let zero: Vec<f64> = match inputs.optional(3)? {
            None => vec![f64::from(1_u16 << (bits - 1)); n * blocks],
            Some(zero) => match zero.values::<u8>() {
                Some(codes) if codes.len() == n * per_column => {
                    let column = |column: usize| &codes[column * per_column..(column + 1) * per_column];
                    (0..n * blocks).map(|i| f64::from(code(column(i / blocks), i % blocks))).collect()
                }
                None if zero.len() == n * blocks => zero.floats()?,
                _ => return Err(misfit()),
            },
        };
        let product = with_real!(a.dtype(), T => {
            let scales = read::<T>(scales)?;
            let mut matrix = zeros::<T>(&[k, n])?;
            for (row, values) in matrix.chunks_mut(n).enumerate() {
                for (column, value) in values.iter_mut().enumerate() {
                    let at = column * blocks + row / block;
                    let code = f64::from(code(&packed[at * bytes..(at + 1) * bytes], row % block));
                    *value = T::of(code - zero[at]) * scales[at];
                }
            }
            matmul(a, &write(a.dtype(), vec![k, n], matrix)?)
        })?;
        let Some(bias) = inputs.optional(5)? else { return one(product) };
        let mut values = product.floats()?;
        combine(&mut values, product.shape(), bias, |v, b| *v += b)?;
        one(Array::of_floats(product.dtype(), product.shape().to_vec(), values)?)
    })
}

/// Normalizes the sum of two tensors over the last axis, by mean and variance if `beta` is the position of a shift, else by the root
/// of the mean of squares. Outputs: the result, means, inverse deviations, the sum.
fn skip_norm(node: &RawNode, beta: Option<usize>, bias: usize) -> Parsed {
    let epsilon = f64::from(node.attributes.float_or("epsilon", 1e-12)?);
    eval(move |inputs| {
        let (x, skip, gamma) = (inputs.array(0)?, inputs.array(1)?, inputs.array(2)?);
        let (beta, bias) = (beta.map(|beta| inputs.optional(beta)).transpose()?, inputs.optional(bias)?);
        let Some((&size, lead)) = x.shape().split_last() else { return Err(Error::invalid("an input without axes")) };
        let row_shape = [lead, &[1]].concat();
        with_real!(x.dtype(), T => {
            let mut values = read::<T>(x)?.into_owned();
            combine(&mut values, x.shape(), skip, |v, s| *v += s)?;
            if let Some(bias) = bias {
                combine(&mut values, x.shape(), bias, |v, b| *v += b)?;
            }
            let sum = values.clone();
            let rows = values.chunks_mut(size.max(1));
            let (mut means, mut inverses): (Vec<T>, Vec<T>) = match beta {
                Some(_) => rows.map(|row| standardize(row, T::of(epsilon))).unzip(),
                None => rows.map(|row| (T::default(), divide_by_rms(row, T::of(epsilon)))).unzip(),
            };
            combine(&mut values, x.shape(), gamma, |v, g| *v *= g)?;
            if let Some(Some(beta)) = beta {
                combine(&mut values, x.shape(), beta, |v, b| *v += b)?;
            }
            for rows in [&mut means, &mut inverses] {
                rows.resize(lead.iter().product(), T::default());
            }
            let full = |values: Vec<T>| write(x.dtype(), x.shape().to_vec(), values);
            let rows = |values: Vec<T>| write(DType::F32, row_shape.clone(), values);
            Ok(vec![full(values)?.into(), rows(means)?.into(), rows(inverses)?.into(), full(sum)?.into()])
        })
    })
}

/// Sums the rows of tables that ids name, and normalizes them. Outputs: the result, the number of unmasked words, the sum.
fn embed_norm(node: &RawNode) -> Parsed {
    let epsilon = f64::from(node.attributes.float_or("epsilon", 1e-12)?);
    eval(move |inputs| {
        let (ids, words) = (inputs.array(0)?, inputs.array(2)?);
        let (&[batch, length], &[_, size]) = (ids.shape(), words.shape()) else {
            return Err(Error::invalid(format!(
                "ids of shape {:?} and a table of shape {:?} do not have 2 axes each",
                ids.shape(),
                words.shape()
            )));
        };
        let mut sum = zeros::<f64>(&[batch, length, size])?;
        let mut add = |ids: Vec<i64>, table: &Array| -> Result<()> {
            let &[known, width] = table.shape() else { return Err(Error::invalid("a table does not have 2 axes")) };
            if width != size || !(ids.len() == batch * length || ids.len() == length) {
                return Err(Error::invalid(format!(
                    "a table of shape {:?} and {} ids do not fit the words",
                    table.shape(),
                    ids.len()
                )));
            }
            let rows = table.floats()?;
            for (i, out) in sum.chunks_mut(size.max(1)).enumerate() {
                let id = ids[i % ids.len()];
                let row = usize::try_from(id).ok().filter(|&row| row < known);
                let row = row.ok_or_else(|| Error::invalid(format!("id {id} is none of {known} rows of a table")))?;
                out.iter_mut().zip(&rows[row * size..]).for_each(|(out, v)| *out += v);
            }
            Ok(())
        };
        add(ids.int64s()?, words)?;
        add(inputs.ints(8)?.unwrap_or_else(|| (0..length as i64).collect()), inputs.array(3)?)?;
        if let (Some(segments), Some(table)) = (inputs.ints(1)?, inputs.optional(4)?) {
            add(segments, table)?;
        }
        let shape = vec![batch, length, size];
        let full = Array::of_floats(words.dtype(), shape.clone(), sum.clone())?;
        sum.chunks_mut(size.max(1)).for_each(|row| {
            standardize(row, epsilon);
        });
        combine(&mut sum, &shape, inputs.array(5)?, |v, g| *v *= g)?;
        combine(&mut sum, &shape, inputs.array(6)?, |v, b| *v += b)?;
        let counts = match inputs.ints(7)? {
            Some(mask) if mask.len() == batch * length => {
                mask.chunks(length.max(1)).map(|row| row.iter().filter(|&&m| m == 1).count() as i32).collect()
            }
            Some(mask) => {
                return Err(Error::invalid(format!(
                    "a mask of {} values does not fit {batch} × {length} words",
                    mask.len()
                )));
            }
            None => vec![0_i32; batch],
        };
        let mut counts: Vec<i32> = counts;
        counts.resize(batch, 0);
        Ok(vec![Array::of_floats(words.dtype(), shape, sum)?.into(), Array::vector(counts).into(), full.into()])
    })
}

/// `CDist`: the distance of each row of a matrix from each row of another.
struct Distances {
    /// Whether the root of the sum of squares is taken.
    rooted: bool,
}

impl Distances {
    fn parse(node: &RawNode) -> Result<Self> {
        match node.attributes.text_or("metric", "sqeuclidean")? {
            "euclidean" => Ok(Self { rooted: true }),
            "sqeuclidean" => Ok(Self { rooted: false }),
            other => Err(Error::beyond(format!("the metric '{other}'"))),
        }
    }
}

impl Operator for Distances {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let (a, b) = (inputs.array(0)?, inputs.array(1)?);
        let (&[rows, size], &[columns, width]) = (a.shape(), b.shape()) else {
            let (a, b) = (a.shape(), b.shape());
            return Err(Error::invalid(format!("shapes {a:?} and {b:?} are not those of two matrices")));
        };
        if size != width || a.dtype() != b.dtype() {
            let (a, b) = (format!("{size} values of {}", a.dtype()), format!("{width} of {}", b.dtype()));
            return Err(Error::invalid(format!("rows of {a} have no distance from rows of {b}")));
        }
        one(with_real!(a.dtype(), T => {
            let (from, to) = (read::<T>(a)?, read::<T>(b)?);
            let mut distances = zeros::<T>(&[rows, columns])?;
            for (i, out) in distances.chunks_mut(columns.max(1)).enumerate() {
                if crate::limit::is_over() {
                    break;
                }
                let row = &from[i * size..(i + 1) * size];
                for (j, out) in out.iter_mut().enumerate() {
                    for (&a, &b) in row.iter().zip(&to[j * size..(j + 1) * size]) {
                        *out += (a - b) * (a - b);
                    }
                    if self.rooted {
                        *out = out.sqrt();
                    }
                }
            }
            write(a.dtype(), vec![rows, columns], distances)
        })?)
    }

    fn infer(&self, inputs: &[Fact]) -> Result<Vec<Fact>> {
        let [a, b] = inputs else { return Ok(Vec::new()) };
        let (Some(left), Some(right)) = (&a.shape, &b.shape) else {
            return Ok(vec![Fact { dtype: a.dtype, ..Fact::default() }]);
        };
        match (left.as_slice(), right.as_slice()) {
            ([rows, size], [columns, width]) if fits(size, width) => {
                Ok(vec![Fact::new(a.dtype, vec![rows.clone(), columns.clone()])])
            }
            _ => Err(Error::invalid("it measures distances between rows of two matrices of as many columns")),
        }
    }

    fn work(&self, inputs: &[Fact], outputs: &[Fact]) -> u64 {
        let size = inputs.first().and_then(Fact::sizes).and_then(|a| a.get(1).copied());
        let distances = outputs.first().and_then(Fact::sizes).map_or(0, |y| elements(Some(&y)));
        distances.saturating_mul(size.unwrap_or(0) as u64)
    }
}

/// A tensor of small integers, its scale and zero point from the position on, as the floats that it stands for.
fn dequantized(inputs: &Inputs<'_>, position: usize) -> Result<Vec<f64>> {
    let scale = inputs.array(position + 1)?.float()?;
    let zero = inputs.optional(position + 2)?.map_or(Ok(0.0), Array::float)?;
    Ok(inputs.array(position)?.floats()?.into_iter().map(|v| (v - zero) * scale).collect())
}

/// Floats as small integers with the scale at the position and the zero point after it.
fn requantized(inputs: &Inputs<'_>, position: usize, shape: Vec<usize>, values: Vec<f64>) -> Result<Vec<Value>> {
    let dtype = inputs.array(0)?.dtype();
    let (least, greatest) =
        dtype.int_range().ok_or_else(|| Error::invalid(format!("expected integers, found {dtype}")))?;
    let scale = inputs.array(position)?.float()?;
    let zero = inputs.optional(position + 1)?.map_or(Ok(0.0), Array::float)?;
    let code = |v: f64| (((v / scale).round_ties_even() + zero) as i128).clamp(least, greatest);
    one(Array::of_ints(dtype, shape, values.into_iter().map(code).collect())?)
}

fn quantized(inputs: &Inputs<'_>, function: impl Fn(f64) -> f64) -> Result<Vec<Value>> {
    let values = dequantized(inputs, 0)?.into_iter().map(function).collect();
    requantized(inputs, 3, inputs.array(0)?.shape().to_vec(), values)
}

fn quantized_pair(inputs: &Inputs<'_>, function: impl Fn(f64, f64) -> f64) -> Result<Vec<Value>> {
    let both = Broadcast::new(&[inputs.array(0)?.shape(), inputs.array(3)?.shape()])?;
    let (a, b) = (dequantized(inputs, 0)?, dequantized(inputs, 3)?);
    let values = (0..crate::array::count(&both.shape)?).map(|i| function(a[both.at(0, i)], b[both.at(1, i)])).collect();
    requantized(inputs, 6, both.shape.clone(), values)
}
