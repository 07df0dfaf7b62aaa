//! Types and shapes of values that are not computed: what follows from the inputs of a node.

use std::fmt;

use crate::axis::Axis;
use crate::{DType, Error, Result};

/// What is known of a value before it is computed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fact {
    /// Its element type, if known.
    pub dtype: Option<DType>,
    /// Its axes, if known.
    pub shape: Option<Vec<Axis>>,
    /// Its values, of short constant lists of integers: shapes, axes, bounds.
    pub ints: Option<Vec<i64>>,
}

impl Axis {
    /// The size, if it is a number.
    pub fn size(&self) -> Option<usize> {
        if let Self::Size(size) = self { Some(*size) } else { None }
    }

    /// Whether both can be the same size.
    pub fn agrees(&self, other: &Self) -> bool {
        *self == Self::Any || *other == Self::Any || self == other
    }
}

impl Fact {
    /// A tensor of a type and shape.
    pub fn new(dtype: Option<DType>, shape: Vec<Axis>) -> Self {
        Self { dtype, shape: Some(shape), ints: None }
    }

    /// A tensor of a type and known sizes.
    pub fn sized(dtype: DType, shape: &[usize]) -> Self {
        Self::new(Some(dtype), shape.iter().map(|&size| Axis::Size(size)).collect())
    }

    /// Whether both can be true of one value.
    pub fn agrees(&self, other: &Self) -> bool {
        let types = self.dtype.is_none() || other.dtype.is_none() || self.dtype == other.dtype;
        let shapes = match (&self.shape, &other.shape) {
            (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.agrees(b)),
            _ => true,
        };
        types && shapes
    }

    /// The sizes, if all are numbers.
    pub fn sizes(&self) -> Option<Vec<usize>> {
        self.shape.as_ref()?.iter().map(Axis::size).collect()
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dtype {
            Some(dtype) => write!(f, "of type {dtype}")?,
            None => f.write_str("of any type")?,
        }
        let Some(shape) = &self.shape else { return f.write_str(" and any shape") };
        write!(f, " and shape [{}]", shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    }
}

/// How types and shapes of outputs follow from those of inputs, for operators that have it in common with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// As the operator's own `infer` says.
    Operator,
    /// The first output is as the first input.
    Same,
    /// Truth values in the shape of the first input.
    Test,
    /// All inputs broadcast to each other, of the first one's type.
    Broadcast,
    /// All inputs broadcast to each other, as truth values.
    Comparison,
    /// The product of matrices, stacked ones broadcast.
    MatMul,
    /// Every axis after the first two has size 1.
    GlobalPool,
}

impl Rule {
    /// Types and shapes of the outputs.
    ///
    /// # Errors
    /// When the inputs don't fit each other.
    pub(crate) fn apply(self, inputs: &[Fact]) -> Result<Vec<Fact>> {
        let Some(first) = inputs.first() else { return Ok(Vec::new()) };
        let dtype = if matches!(self, Self::Test | Self::Comparison) { Some(DType::Bool) } else { first.dtype };
        let shape = match self {
            Self::Operator => return Ok(Vec::new()),
            Self::Same | Self::Test => first.shape.clone(),
            Self::Broadcast | Self::Comparison => {
                let mut shape = first.shape.clone();
                for other in &inputs[1..] {
                    shape = match (shape, &other.shape) {
                        (Some(shape), Some(other)) => Some(broadcast(&shape, other)?),
                        _ => None,
                    };
                }
                shape
            }
            Self::GlobalPool => first.shape.clone().map(|mut shape| {
                shape.iter_mut().skip(2).for_each(|axis| *axis = Axis::Size(1));
                shape
            }),
            Self::MatMul => match (&first.shape, inputs.get(1).and_then(|other| other.shape.as_ref())) {
                (Some(a), Some(b)) => Some(matmul(a, b)?),
                _ => None,
            },
        };
        Ok(vec![Fact { dtype, shape, ints: None }])
    }
}

/// The shape that two shapes broadcast to.
///
/// # Errors
/// When they don't.
pub(crate) fn broadcast(a: &[Axis], b: &[Axis]) -> Result<Vec<Axis>> {
    let rank = a.len().max(b.len());
    let axis = |shape: &[Axis], place: usize| {
        (place + shape.len()).checked_sub(rank).map_or(Axis::Size(1), |place| shape[place].clone())
    };
    let both = |place: usize| match (axis(a, place), axis(b, place)) {
        (Axis::Size(1), other) | (other, Axis::Size(1)) => Ok(other),
        (a, b) if a == b => Ok(a),
        // A size other than 1 is what an open axis must broadcast to.
        (Axis::Size(size), _) | (_, Axis::Size(size))
            if axis(a, place).size().is_none() || axis(b, place).size().is_none() =>
        {
            Ok(Axis::Size(size))
        }
        (Axis::Size(_), Axis::Size(_)) => Err(Error::invalid("its inputs cannot be broadcast to each other")),
        _ => Ok(Axis::Any),
    };
    (0..rank).map(both).collect()
}

fn matmul(a: &[Axis], b: &[Axis]) -> Result<Vec<Axis>> {
    let row = |shape: &[Axis]| shape.len() == 1;
    let (left, right) = match (a, b) {
        ([], _) | (_, []) => return Err(Error::invalid("it multiplies a tensor without axes")),
        (a, b) => (
            if row(a) { [vec![Axis::Size(1)], a.to_vec()].concat() } else { a.to_vec() },
            if row(b) { [b.to_vec(), vec![Axis::Size(1)]].concat() } else { b.to_vec() },
        ),
    };
    let (before, last) = left.split_at(left.len() - 2);
    let (ahead, end) = right.split_at(right.len() - 2);
    if !fits(&last[1], &end[0]) {
        return Err(Error::invalid(format!(
            "its matrices do not fit each other: {} columns and {} rows",
            last[1], end[0]
        )));
    }
    let mut shape = broadcast(before, ahead)?;
    if !row(a) {
        shape.push(last[0].clone());
    }
    if !row(b) {
        shape.push(end[1].clone());
    }
    Ok(shape)
}

/// Whether two axes may have one size: a name may stand for any.
pub(crate) fn fits(a: &Axis, b: &Axis) -> bool {
    match (a.size(), b.size()) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    }
}

/// The number of elements of axes; 0 for none.
pub(crate) fn elements(axes: Option<&[usize]>) -> u64 {
    axes.map_or(0, |axes| axes.iter().fold(1, |all: u64, &size| all.saturating_mul(size as u64)))
}

/// The number of elements of axes, as an axis.
pub(crate) fn product(axes: &[Axis]) -> Axis {
    match axes {
        [only] => only.clone(),
        axes => {
            let product = axes.iter().map(Axis::size).try_fold(1_usize, |all, size| all.checked_mul(size?));
            product.map_or(Axis::Any, Axis::Size)
        }
    }
}

/// The shape of a `Reshape`: 0 keeps an axis (unless `zero` says that it is empty), -1 stands for the rest.
///
/// # Errors
/// When it doesn't fit.
pub(crate) fn reshape(from: &[Axis], target: &[i64], zero: bool) -> Result<Vec<Axis>> {
    let mut shape = Vec::new();
    for (place, &size) in target.iter().enumerate() {
        shape.push(match size {
            0 if !zero => {
                from.get(place).cloned().ok_or_else(|| Error::invalid("it keeps an axis that its input has not"))?
            }
            -1 => Axis::Any,
            size => {
                Axis::Size(usize::try_from(size).map_err(|_| Error::invalid(format!("its shape has the axis {size}")))?)
            }
        });
    }
    if target.iter().filter(|&&size| size == -1).count() > 1 {
        return Err(Error::invalid("its shape leaves two axes open"));
    }
    // Axes that are kept stand on both sides and need no number.
    let kept = |place: usize| !zero && target.get(place) == Some(&0);
    let count = |axes: &[Axis], leave: Option<usize>| {
        let counted = axes.iter().enumerate().filter(|(place, _)| !kept(*place) && Some(*place) != leave);
        counted.map(|(_, axis)| axis.size()).try_fold(1_usize, |all, size| all.checked_mul(size?))
    };
    let open = target.iter().position(|&size| size == -1);
    if let (Some(all), Some(others)) = (count(from, None), count(&shape, open)) {
        match open {
            Some(open) => {
                if others == 0 || all % others != 0 {
                    return Err(Error::invalid("its shape does not divide its input"));
                }
                shape[open] = Axis::Size(all / others);
            }
            None if all != others => {
                return Err(Error::invalid(format!("its shape has {others} values where its input has {all}")));
            }
            None => {}
        }
    }
    Ok(shape)
}
