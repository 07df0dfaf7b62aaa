//! Systems of linear equations, inverses, determinants and Cholesky's factors of small matrices: the steps of the
//! elimination are written out, since ONNX has no such operator.

use rekindle_onnx::builder::ValueName;
use rekindle_onnx::{Array, DType};

use super::{Args, Lower, Row, TensorId, Value, int};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("inverse", |l, a| inverse(l, a, "self")),
    ("linalg_inv", |l, a| inverse(l, a, "A")),
    ("linalg_inv_ex", |l, a| inverse(l, a, "A")),
    ("linalg_solve", solve),
    ("linalg_solve_ex", solve),
    ("_linalg_solve_ex", solve),
    ("linalg_solve_triangular", solve_triangular),
    ("det", |l, a| determinant(l, a, "self")),
    ("linalg_det", |l, a| determinant(l, a, "A")),
    ("_linalg_det", |l, a| determinant(l, a, "A")),
    ("slogdet", |l, a| log_determinant(l, a, "self")),
    ("linalg_slogdet", |l, a| log_determinant(l, a, "A")),
    ("_linalg_slogdet", |l, a| log_determinant(l, a, "A")),
    ("logdet", logdet),
    ("cholesky", cholesky),
    ("linalg_cholesky", cholesky),
    ("linalg_cholesky_ex", cholesky),
];

/// Rows of a matrix that is eliminated: each is about fifteen nodes.
const MAX_ROWS: usize = 64;

/// A square matrix of floats: its value, rows, rank and type.
struct Square {
    value: ValueName,
    rows: usize,
    rank: usize,
    dtype: DType,
}

fn square(l: &mut Lower, x: TensorId) -> Result<Square> {
    let (rank, dtype) = (l.rank(x), l.dtype(x));
    if rank < 2 || !dtype.is_float() {
        return Err(Error::invalid(format!("expected a square matrix of floats, found {rank} axes of {dtype}")));
    }
    let (rows, columns) = (l.size(x, rank - 2)?, l.size(x, rank - 1)?);
    if rows != columns || rows == 0 || rows > MAX_ROWS {
        return Err(Error::beyond(format!("elimination of a matrix of {rows} by {columns}")));
    }
    Ok(Square { value: l.value(x)?, rows, rank, dtype })
}

/// A part of an axis.
fn cut(l: &mut Lower, value: &str, axis: usize, start: usize, end: usize) -> Result<ValueName> {
    let (start, end, axis) = (l.ints(&[start as i64])?, l.ints(&[end as i64])?, l.ints(&[axis as i64])?);
    l.node("Slice", &[value, &start, &end, &axis], &[])
}

/// What elimination finds.
struct Eliminated {
    /// The matrix with what stood beside it, the first columns those of the identity.
    value: ValueName,
    /// The pivots, each `[…, 1, 1]`.
    pivots: Vec<ValueName>,
    /// Whether rows were exchanged for a pivot, each `[…, 1, 1]` of truth values.
    exchanged: Vec<ValueName>,
}

/// Gauss and Jordan's elimination, the greatest element of a column its pivot.
fn eliminated(l: &mut Lower, matrix: &Square, beside: Option<&str>) -> Result<Eliminated> {
    let (n, rank) = (matrix.rows, matrix.rank);
    let (of_row, of_column) = (rank - 2, rank - 1);
    let mut value = match beside {
        Some(beside) => l.node("Concat", &[&matrix.value, beside], &[("axis", int(of_column as i64))])?,
        None => matrix.value.clone(),
    };
    let shape = l.shape_of(&value)?;
    let rows = l.constant(&Array::new(vec![n, 1], (0..n as i64).collect::<Vec<_>>())?)?;
    let (mut pivots, mut exchanged) = (Vec::new(), Vec::new());
    for at in 0..n {
        let here = l.constant(&Array::new(vec![1, 1], vec![at as i64])?)?;
        let column = cut(l, &value, of_column, at, at + 1)?;
        let below = cut(l, &column, of_row, at, n)?;
        let size = l.node("Abs", &[&below], &[])?;
        let best = l.node("ArgMax", &[&size], &[("axis", int(of_row as i64)), ("keepdims", int(1))])?;
        let best = l.node("Add", &[&best, &here], &[])?;
        exchanged.push({
            let same = l.node("Equal", &[&best, &here], &[])?;
            l.node("Not", &[&same], &[])?
        });
        // Row `at` and the best one change places.
        let (is_best, is_here) = (l.node("Equal", &[&rows, &best], &[])?, l.node("Equal", &[&rows, &here], &[])?);
        let from = l.node("Where", &[&is_best, &here, &rows], &[])?;
        let from = l.node("Where", &[&is_here, &best, &from], &[])?;
        let from = l.node("Expand", &[&from, &shape], &[])?;
        value = l.node("GatherElements", &[&value, &from], &[("axis", int(of_row as i64))])?;
        let own = cut(l, &value, of_row, at, at + 1)?;
        let pivot = cut(l, &own, of_column, at, at + 1)?;
        let own = l.node("Div", &[&own, &pivot], &[])?;
        pivots.push(pivot);
        let column = cut(l, &value, of_column, at, at + 1)?;
        let less = l.node("Mul", &[&column, &own], &[])?;
        let others = l.node("Sub", &[&value, &less], &[])?;
        value = l.node("Where", &[&is_here, &own, &others], &[])?;
    }
    Ok(Eliminated { value, pivots, exchanged })
}

/// The solution of `matrix × X = beside`.
fn solved(l: &mut Lower, matrix: &Square, beside: &str) -> Result<ValueName> {
    let done = eliminated(l, matrix, Some(beside))?;
    let (start, end, axis) = (l.ints(&[matrix.rows as i64])?, l.ints(&[i64::MAX])?, l.ints(&[matrix.rank as i64 - 1])?);
    l.node("Slice", &[&done.value, &start, &end, &axis], &[])
}

/// A result, and what only a gradient or a check reads beside it.
fn with_nothing(l: &mut Lower, value: ValueName) -> Result<Vec<Value>> {
    let mut results = l.answer(value)?;
    results.extend([Value::None, Value::None, Value::None]);
    Ok(results)
}

fn inverse(l: &mut Lower, args: &Args, name: &str) -> Result<Vec<Value>> {
    let matrix = square(l, args.tensor(name)?)?;
    let n = matrix.rows;
    let ones: Vec<f64> = (0..n * n).map(|at| f64::from(u8::from(at / n == at % n))).collect();
    let eye = l.constant(&Array::of_floats(matrix.dtype, vec![n, n], ones)?)?;
    let shape = l.shape_of(&matrix.value)?;
    let eye = l.node("Expand", &[&eye, &shape], &[])?;
    let value = solved(l, &matrix, &eye)?;
    with_nothing(l, value)
}

fn solve(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (a, b) = (args.tensor("A")?, args.tensor("B")?);
    if !args.bool("left")? {
        return Err(Error::beyond("a system solved from the right"));
    }
    let matrix = square(l, a)?;
    let vector = l.rank(b) == 1 || l.rank(b) + 1 == matrix.rank && l.state(b).shape == l.state(a).shape[..l.rank(b)];
    let mut beside = l.value(b)?;
    let last = l.ints(&[-1])?;
    if vector {
        beside = l.node("Unsqueeze", &[&beside, &last], &[])?;
    }
    let mut value = solved_beside(l, &matrix, &beside)?;
    if vector {
        value = l.node("Squeeze", &[&value, &last], &[])?;
    }
    with_nothing(l, value)
}

/// As [`solved`], where the axes before the matrices may have to be spread.
fn solved_beside(l: &mut Lower, matrix: &Square, beside: &str) -> Result<ValueName> {
    let heads = |l: &mut Lower, value: &str, back: usize| -> Result<ValueName> {
        let shape = l.shape_of(value)?;
        let (start, end, axis) = (l.ints(&[0])?, l.ints(&[-(back as i64)])?, l.ints(&[0])?);
        l.node("Slice", &[&shape, &start, &end, &axis], &[])
    };
    let tail = |l: &mut Lower, value: &str| -> Result<ValueName> {
        let shape = l.shape_of(value)?;
        let (start, end, axis) = (l.ints(&[-2])?, l.ints(&[i64::MAX])?, l.ints(&[0])?);
        l.node("Slice", &[&shape, &start, &end, &axis], &[])
    };
    let (of_matrix, of_beside) = (heads(l, &matrix.value, 2)?, heads(l, beside, 2)?);
    let (own, other) = (tail(l, &matrix.value)?, tail(l, beside)?);
    let wide = l.node("Concat", &[&of_beside, &own], &[("axis", int(0))])?;
    let value = l.node("Expand", &[&matrix.value, &wide], &[])?;
    let wide = l.node("Concat", &[&of_matrix, &other], &[("axis", int(0))])?;
    let beside = l.node("Expand", &[beside, &wide], &[])?;
    let rank = l.fact(&value).map_or(matrix.rank, |fact| fact.rank());
    solved(l, &Square { value, rows: matrix.rows, rank, dtype: matrix.dtype }, &beside)
}

fn solve_triangular(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (a, b) = (args.tensor("self")?, args.tensor("B")?);
    if !args.bool("left")? || args.bool("unitriangular")? {
        return Err(Error::beyond("this form of a triangular system"));
    }
    let mut matrix = square(l, a)?;
    let diagonal = l.constant(&Array::scalar(0_i64))?;
    let upper = int(i64::from(args.bool("upper")?));
    matrix.value = l.node("Trilu", &[&matrix.value, &diagonal], &[("upper", upper)])?;
    let beside = l.value(b)?;
    let value = solved_beside(l, &matrix, &beside)?;
    l.answer(value)
}

fn determinant(l: &mut Lower, args: &Args, name: &str) -> Result<Vec<Value>> {
    let matrix = square(l, args.tensor(name)?)?;
    let value = l.node("Det", &[&matrix.value], &[])?;
    with_nothing(l, value)
}

/// The sign of the determinant and the logarithm of its size, from the pivots.
fn sign_and_log(l: &mut Lower, x: TensorId) -> Result<(ValueName, ValueName)> {
    let matrix = square(l, x)?;
    let done = eliminated(l, &matrix, None)?;
    let (one, minus) = (l.number(1.0, matrix.dtype)?, l.number(-1.0, matrix.dtype)?);
    let (mut sign, mut log) = (one.clone(), l.number(0.0, matrix.dtype)?);
    for (pivot, exchanged) in done.pivots.iter().zip(&done.exchanged) {
        let (own, size) = (l.node("Sign", &[pivot], &[])?, l.node("Abs", &[pivot], &[])?);
        let turned = l.node("Where", &[exchanged, &minus, &one], &[])?;
        sign = l.node("Mul", &[&sign, &own], &[])?;
        sign = l.node("Mul", &[&sign, &turned], &[])?;
        let size = l.node("Log", &[&size], &[])?;
        log = l.node("Add", &[&log, &size], &[])?;
    }
    let axes = l.ints(&[matrix.rank as i64 - 2, matrix.rank as i64 - 1])?;
    Ok((l.node("Squeeze", &[&sign, &axes], &[])?, l.node("Squeeze", &[&log, &axes], &[])?))
}

fn log_determinant(l: &mut Lower, args: &Args, name: &str) -> Result<Vec<Value>> {
    let (sign, log) = sign_and_log(l, args.tensor(name)?)?;
    let mut results = l.answer(sign)?;
    results.extend(with_nothing(l, log)?);
    Ok(results)
}

fn logdet(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let (sign, log) = sign_and_log(l, x)?;
    let dtype = l.dtype(x);
    let (zero, none) = (l.number(0.0, dtype)?, l.number(f64::NAN, dtype)?);
    let below = l.node("Less", &[&sign, &zero], &[])?;
    let value = l.node("Where", &[&below, &none, &log], &[])?;
    l.answer(value)
}

/// A matrix as the product of a triangle and its mirror image, column by column.
fn cholesky(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let matrix = square(l, args.tensor("self")?)?;
    let (n, of_row, of_column) = (matrix.rows, matrix.rank - 2, matrix.rank - 1);
    let mut turned: Vec<usize> = (0..matrix.rank).collect();
    turned.swap(of_row, of_column);
    let mut columns: Vec<ValueName> = Vec::new();
    for at in 0..n {
        let own = cut(l, &matrix.value, of_column, at, at + 1)?;
        let mut own = cut(l, &own, of_row, at, n)?;
        if at > 0 {
            let before: Vec<&str> = columns.iter().map(AsRef::as_ref).collect();
            let before = l.node("Concat", &before, &[("axis", int(of_column as i64))])?;
            let below = cut(l, &before, of_row, at, n)?;
            let here = cut(l, &before, of_row, at, at + 1)?;
            let here = l.transpose(&here, &turned)?;
            let less = l.node("MatMul", &[&below, &here], &[])?;
            own = l.node("Sub", &[&own, &less], &[])?;
        }
        let first = cut(l, &own, of_row, 0, 1)?;
        let root = l.node("Sqrt", &[&first], &[])?;
        own = l.node("Div", &[&own, &root], &[])?;
        let mut pads = vec![0; 2 * matrix.rank];
        pads[of_row] = at as i64;
        let (pads, zero) = (l.ints(&pads)?, l.number(0.0, matrix.dtype)?);
        columns.push(l.node("Pad", &[&own, &pads, &zero], &[])?);
    }
    let columns: Vec<&str> = columns.iter().map(AsRef::as_ref).collect();
    let mut value = l.node("Concat", &columns, &[("axis", int(of_column as i64))])?;
    if args.bool("upper")? {
        value = l.transpose(&value, &turned)?;
    }
    with_nothing(l, value)
}
