//! Matrix products: `MatMul` and its kin with scales and zero points, and `Gemm`.

use super::product::{Ring, Size, add_product, transposed};
use super::real::{Real, read, round, with_real, write, zeros};
use super::{Inputs, one};
use crate::array::{Broadcast, broadcast_shape};
use crate::infer::{Fact, Rule, broadcast, elements, fits};
use crate::operator::{Entry, Operator, RawNode, Schema, parsed};
use crate::{Array, DType, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::plain(Schema::new("MatMul", &[1, 9, 13], (2, 2)).rule(Rule::MatMul).weights(), |inputs| {
        one(matmul(inputs.array(0)?, inputs.array(1)?)?)
    }),
    Entry::plain(Schema::new("MatMulInteger", &[10], (2, 4)), matmul_integer),
    Entry::plain(Schema::new("QLinearMatMul", &[10, 21], (8, 8)), qlinear_matmul),
    Entry::new(
        Schema::new("Gemm", &[1, 6, 7, 9, 11, 13], (2, 3))
            .attributes(&["alpha", "beta", "broadcast<7", "transA", "transB"])
            .weights(),
        |node| parsed(Gemm::parse(node)?),
    ),
];

/// How two stacks of matrices are multiplied.
struct Stacks {
    /// The shape of the result.
    shape: Vec<usize>,
    size: Size,
    /// For each matrix of the result: which of each input.
    batch: Broadcast,
}

impl Stacks {
    /// As NumPy does: a vector is a row on the left and a column on the right, and that axis is left out of the result.
    fn new(a: &[usize], b: &[usize]) -> Result<Self> {
        let unfit = || Error::invalid(format!("shapes {a:?} and {b:?} cannot be multiplied as matrices"));
        let (&[.., k], &[.., last]) = (a, b) else { return Err(unfit()) };
        let (rows, lead_a) = if let [lead @ .., m, _] = a { (Some(*m), lead) } else { (None, &[] as &[usize]) };
        let (columns, depth, lead_b) =
            if let [lead @ .., depth, n] = b { (Some(*n), *depth, lead) } else { (None, last, &[] as &[usize]) };
        if k != depth {
            return Err(unfit());
        }
        let batch = Broadcast::new(&[lead_a, lead_b]).map_err(|_| unfit())?;
        let shape = batch.shape.iter().copied().chain(rows).chain(columns).collect();
        Ok(Self { shape, size: Size { m: rows.unwrap_or(1), k, n: columns.unwrap_or(1) }, batch })
    }

    fn multiply<T: Ring>(&self, a: &[T], b: &[T]) -> Result<Vec<T>> {
        let Size { m, k, n } = self.size;
        let mut result = zeros(&self.shape)?;
        if result.is_empty() {
            return Ok(result);
        }
        for (i, c) in result.chunks_mut(m * n).enumerate() {
            let (a, b) = (&a[self.batch.at(0, i) * m * k..], &b[self.batch.at(1, i) * k * n..]);
            add_product(&a[..m * k], &b[..k * n], c, self.size);
        }
        Ok(result)
    }
}

/// The product of two stacks of matrices of one type.
///
/// # Errors
/// When types differ or shapes do not fit.
pub(super) fn matmul(a: &Array, b: &Array) -> Result<Array> {
    if a.dtype() != b.dtype() {
        return Err(Error::invalid(format!("its inputs are of different types, {} and {}", a.dtype(), b.dtype())));
    }
    let stacks = Stacks::new(a.shape(), b.shape())?;
    if a.dtype().is_int() {
        return of_int64s(a.dtype(), stacks.shape.clone(), stacks.multiply(&a.int64s()?, &b.int64s()?)?);
    }
    with_real!(a.dtype(), T => write(a.dtype(), stacks.shape.clone(), stacks.multiply(&read::<T>(a)?, &read::<T>(b)?)?))
}

fn of_int64s(dtype: DType, shape: Vec<usize>, values: Vec<i64>) -> Result<Array> {
    Array::of_ints(dtype, shape, values.into_iter().map(i128::from).collect())
}

/// An integer matrix less its zero points: one, one for each row (`rows`: of the left matrix) or column, or an array that broadcasts.
fn centred(array: &Array, zero: Option<&Array>, rows: bool) -> Result<Vec<i64>> {
    let mut values = array.int64s()?;
    if !array.dtype().is_int() {
        return Err(Error::invalid(format!("expected integers, found {}", array.dtype())));
    }
    let Some(zero) = zero else { return Ok(values) };
    let aligned = beside(zero, array, rows)?;
    let zeros = zero.int64s()?;
    values.iter_mut().enumerate().for_each(|(i, value)| *value -= zeros[aligned.at(1, i)]);
    Ok(values)
}

/// Lines up scales or zero points with the matrix that they belong to.
fn beside(part: &Array, matrix: &Array, rows: bool) -> Result<Broadcast> {
    let shape = match (part.shape(), matrix.rank()) {
        ([1], _) => Vec::new(),
        ([n], rank) if rows && rank > 1 => vec![*n, 1],
        (shape, _) => shape.to_vec(),
    };
    let both = Broadcast::new(&[matrix.shape(), &shape])?;
    if both.shape != matrix.shape() {
        return Err(Error::invalid(format!(
            "a zero point of shape {shape:?} does not fit a matrix of shape {:?}",
            matrix.shape()
        )));
    }
    Ok(both)
}

fn matmul_integer(inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let (a, b) = (inputs.array(0)?, inputs.array(1)?);
    let stacks = Stacks::new(a.shape(), b.shape())?;
    let values = stacks.multiply(&centred(a, inputs.optional(2)?, true)?, &centred(b, inputs.optional(3)?, false)?)?;
    one(of_int64s(DType::I32, stacks.shape, values)?)
}

fn qlinear_matmul(inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let (a, b) = (inputs.array(0)?, inputs.array(3)?);
    let stacks = Stacks::new(a.shape(), b.shape())?;
    let products =
        stacks.multiply(&centred(a, inputs.optional(2)?, true)?, &centred(b, inputs.optional(5)?, false)?)?;
    let zero = inputs.array(7)?;
    let Some((least, greatest)) = zero.dtype().int_range() else {
        return Err(Error::beyond(format!("a result of type {}", zero.dtype())));
    };
    let scale = inputs.array(6)?;
    let row = |scale: &Array| {
        if scale.len() > 1 && scale.rank() == 1 { vec![scale.len(), 1] } else { scale.shape().to_vec() }
    };
    let column = |scale: &Array| if scale.len() == 1 { Vec::new() } else { scale.shape().to_vec() };
    let (a_scale, b_scale) = (inputs.array(1)?, inputs.array(4)?);
    // A vector for the result counts rows, as for the left matrix.
    let shapes = [stacks.shape.clone(), row(a_scale), column(b_scale), row(scale), row(zero)];
    let all = Broadcast::new(
        &shapes
            .iter()
            .map(|shape| if shape.iter().product::<usize>() == 1 { &[] } else { shape.as_slice() })
            .collect::<Vec<_>>(),
    )?;
    if all.shape != stacks.shape {
        return Err(Error::invalid("its scales do not fit its matrices"));
    }
    let dtype = a_scale.dtype();
    let (a_scales, b_scales, scales, zeros) = (a_scale.floats()?, b_scale.floats()?, scale.floats()?, zero.floats()?);
    let rounded = |value: f64| {
        let mut value = [value];
        round(dtype, &mut value);
        value[0]
    };
    let value = |(i, product): (usize, i64)| {
        // The scales are multiplied in their own type.
        let factor = rounded(rounded(a_scales[all.at(1, i)] * b_scales[all.at(2, i)]) / scales[all.at(3, i)]);
        let value = (product as f64 * factor + zeros[all.at(4, i)]).round_ties_even();
        (value as i128).clamp(least, greatest)
    };
    one(Array::of_ints(zero.dtype(), stacks.shape, products.into_iter().enumerate().map(value).collect())?)
}

/// `Gemm`: `alpha · A · B + beta · C`, each of A and B transposed or not.
#[derive(Debug, Clone)]
pub struct Gemm {
    /// The factor of the product.
    pub alpha: f32,
    /// The factor of what is added.
    pub beta: f32,
    /// Whether A is transposed.
    pub transpose_a: bool,
    /// Whether B is transposed.
    pub transpose_b: bool,
}

impl Gemm {
    /// Reads the attributes.
    ///
    /// # Errors
    /// When one is wrong.
    pub fn parse(node: &RawNode) -> Result<Self> {
        let attributes = &node.attributes;
        Ok(Self {
            alpha: attributes.float_or("alpha", 1.0)?,
            beta: attributes.float_or("beta", 1.0)?,
            transpose_a: attributes.flag("transA", false)?,
            transpose_b: attributes.flag("transB", false)?,
        })
    }
}

impl Operator for Gemm {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        gemm(self, inputs)
    }

    fn infer(&self, inputs: &[Fact]) -> Result<Vec<Fact>> {
        let [a, b, ..] = inputs else { return Ok(Vec::new()) };
        let (Some(left), Some(right)) = (&a.shape, &b.shape) else {
            return Ok(vec![Fact { dtype: a.dtype, ..Fact::default() }]);
        };
        let ([a0, a1], [b0, b1]) = (left.as_slice(), right.as_slice()) else {
            return Err(Error::invalid("it multiplies something else than matrices"));
        };
        let (rows, inner) = if self.transpose_a { (a1, a0) } else { (a0, a1) };
        let (depth, columns) = if self.transpose_b { (b1, b0) } else { (b0, b1) };
        if !fits(inner, depth) {
            return Err(Error::invalid("its matrices do not fit each other"));
        }
        let shape = vec![rows.clone(), columns.clone()];
        if let Some(c) = inputs.get(2).and_then(|c| c.shape.as_ref())
            && !broadcast(&shape, c).is_ok_and(|sum| sum.len() == 2 && sum.iter().zip(&shape).all(|(a, b)| fits(a, b)))
        {
            return Err(Error::invalid("what it adds does not fit its product"));
        }
        Ok(vec![Fact::new(a.dtype, shape)])
    }

    fn work(&self, inputs: &[Fact], outputs: &[Fact]) -> u64 {
        let inner = inputs.first().and_then(Fact::sizes).and_then(|a| a.get(usize::from(!self.transpose_a)).copied());
        let products = outputs.first().and_then(Fact::sizes).map_or(0, |y| elements(Some(&y)));
        products.saturating_mul(inner.unwrap_or(0) as u64)
    }
}

fn gemm(gemm: &Gemm, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let (a, b, c) = (inputs.array(0)?, inputs.array(1)?, inputs.optional(2)?);
    if a.dtype() != b.dtype() || c.is_some_and(|c| c.dtype() != a.dtype()) {
        return Err(Error::invalid("its inputs are of different types"));
    }
    let (alpha, beta) = (gemm.alpha, gemm.beta);
    let flip = [gemm.transpose_a, gemm.transpose_b];
    let (&[a0, a1], &[b0, b1]) = (a.shape(), b.shape()) else {
        return Err(Error::invalid(format!(
            "shapes {:?} and {:?} are not those of two matrices",
            a.shape(),
            b.shape()
        )));
    };
    let (m, k) = if flip[0] { (a1, a0) } else { (a0, a1) };
    let (depth, n) = if flip[1] { (b1, b0) } else { (b0, b1) };
    let stacks = Stacks::new(&[m, k], &[depth, n])?;
    let c = c.filter(|_| beta != 0.0);
    if let Some(c) = c
        && broadcast_shape(&[&stacks.shape, c.shape()])? != stacks.shape
    {
        return Err(Error::invalid(format!(
            "C of shape {:?} does not fit a product of shape {:?}",
            c.shape(),
            stacks.shape
        )));
    }
    let (alpha, beta) = (f64::from(alpha), f64::from(beta));
    if a.dtype().is_int() {
        let product =
            stacks.multiply(&turned(&a.int64s()?, flip[0], a0, a1), &turned(&b.int64s()?, flip[1], b0, b1))?;
        if (alpha, beta) == (1.0, 1.0) {
            let c = c.map(|c| Ok::<_, Error>((c, c.int64s()?))).transpose()?;
            return one(of_int64s(
                a.dtype(),
                stacks.shape.clone(),
                with_bias(product, &stacks.shape, c, |v, c| v.wrapping_add(c))?,
            )?);
        }
        let product = product.into_iter().map(|v| alpha * v as f64).collect();
        let c = c.map(|c| Ok::<_, Error>((c, c.floats()?))).transpose()?;
        return one(Array::of_floats(
            a.dtype(),
            stacks.shape.clone(),
            with_bias(product, &stacks.shape, c, |v, c| v + beta * c)?,
        )?);
    }
    with_real!(a.dtype(), T => {
        let mut product = stacks.multiply(&turned(&read::<T>(a)?, flip[0], a0, a1), &turned(&read::<T>(b)?, flip[1], b0, b1))?;
        if alpha != 1.0 {
            product.iter_mut().for_each(|v| *v *= T::of(alpha));
        }
        let c = c.map(|c| Ok::<_, Error>((c, read::<T>(c)?.into_owned()))).transpose()?;
        one(write(a.dtype(), stacks.shape.clone(), with_bias(product, &stacks.shape, c, |v, c| v + T::of(beta) * c)?)?)
    })
}

/// The matrix, transposed if asked to.
fn turned<T: Copy>(matrix: &[T], flip: bool, rows: usize, columns: usize) -> std::borrow::Cow<'_, [T]> {
    if flip { transposed(matrix, rows, columns).into() } else { matrix.into() }
}

fn with_bias<T: Copy>(
    mut values: Vec<T>,
    shape: &[usize],
    bias: Option<(&Array, Vec<T>)>,
    add: impl Fn(T, T) -> T,
) -> Result<Vec<T>> {
    if let Some((array, bias)) = bias {
        let both = Broadcast::new(&[shape, array.shape()])?;
        values.iter_mut().enumerate().for_each(|(i, value)| *value = add(*value, bias[both.at(1, i)]));
    }
    Ok(values)
}
