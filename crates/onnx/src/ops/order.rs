//! What depends on the order of values: greatest and smallest, distinct, non-zero.

use crate::operator::{Entry, Parsed, RawNode, Schema, eval};
use std::cmp::Ordering;

use super::{Inputs, around, one};
use crate::array::{axis, count, index_of};
use crate::{Array, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(
        Schema::new("ArgMax", &[1, 11, 12, 13], (1, 1))
            .attributes(&["axis", "keepdims", "select_last_index@12"])
            .without_gradient(),
        |node| arg(node, Ordering::Greater),
    ),
    Entry::new(
        Schema::new("ArgMin", &[1, 11, 12, 13], (1, 1))
            .attributes(&["axis", "keepdims", "select_last_index@12"])
            .without_gradient(),
        |node| arg(node, Ordering::Less),
    ),
    Entry::new(
        Schema::new("TopK", &[1, 10, 11, 24], (1, 2)).attributes(&["axis", "k<10", "largest@11", "sorted@11"]),
        top_k,
    ),
    Entry::new(Schema::new("Unique", &[11, 28], (1, 1)).attributes(&["axis", "sorted"]), unique),
    Entry::plain(Schema::new("NonZero", &[9, 13], (1, 1)).without_gradient(), non_zero),
];

/// The values of an array, to be compared by position.
enum Keys<'a> {
    Singles(&'a [f32]),
    Floats(Vec<f64>),
    Ints(Vec<i128>),
    Texts(&'a [String]),
}

impl<'a> Keys<'a> {
    fn new(x: &'a Array) -> Result<Self> {
        Ok(match (x.values::<f32>(), x.values::<String>()) {
            (Some(values), _) => Self::Singles(values),
            (_, Some(texts)) => Self::Texts(texts),
            _ if x.dtype().is_float() => Self::Floats(x.floats()?),
            _ => Self::Ints(x.ints()?),
        })
    }

    /// NaN is greater than all numbers, and equal to NaN; the two zeros are equal.
    fn compare(&self, a: usize, b: usize) -> Ordering {
        fn floats<T: PartialOrd>(a: T, b: T, nan: impl Fn(&T) -> bool) -> Ordering {
            a.partial_cmp(&b).unwrap_or_else(|| nan(&a).cmp(&nan(&b)))
        }
        match self {
            Self::Singles(values) => floats(values[a], values[b], |v| v.is_nan()),
            Self::Floats(values) => floats(values[a], values[b], |v| v.is_nan()),
            Self::Ints(values) => values[a].cmp(&values[b]),
            Self::Texts(texts) => texts[a].cmp(&texts[b]),
        }
    }
}

fn arg(node: &RawNode, wanted: Ordering) -> Parsed {
    let along = node.attributes.int_or("axis", 0)?;
    let last = node.attributes.flag("select_last_index", false)?;
    let kept = node.attributes.flag("keepdims", true)?;
    eval(move |inputs| one(best(inputs.array(0)?, along, wanted, last, kept)?))
}

/// Where the greatest or smallest value along an axis is, the first or the last of equal ones.
fn best(x: &Array, along: i64, wanted: Ordering, last: bool, kept: bool) -> Result<Array> {
    let axis = axis(along, x.rank())?;
    let (outer, size, inner) = around(x.shape(), axis);
    if size == 0 && outer * inner > 0 {
        return Err(Error::invalid(format!("axis {axis} of shape {:?} has no elements", x.shape())));
    }
    let keys = Keys::new(x)?;
    let mut found = Vec::with_capacity(outer * inner);
    for start in (0..outer).flat_map(|o| (0..inner).map(move |i| o * size * inner + i)) {
        let mut best = 0;
        for at in 1..size {
            let order = keys.compare(start + at * inner, start + best * inner);
            if order == wanted || last && order == Ordering::Equal {
                best = at;
            }
        }
        found.push(best as i64);
    }
    let mut shape = x.shape().to_vec();
    if kept {
        shape[axis] = 1;
    } else {
        shape.remove(axis);
    }
    Array::new(shape, found)
}

/// `k` is an attribute in version 1. Of equal values the first comes first.
fn top_k(node: &RawNode) -> Parsed {
    let largest = node.attributes.flag("largest", true)?;
    let axis_given = node.attributes.int_or("axis", -1)?;
    let k_given = node.attributes.int("k")?;
    eval(move |inputs| {
        let x = inputs.array(0)?;
        let axis = axis(axis_given, x.rank())?;
        let (outer, size, inner) = around(x.shape(), axis);
        let k = match inputs.optional(1)? {
            Some(k) => k.int()?,
            None => k_given.ok_or_else(|| Error::invalid("input 1, the number of values, is missing"))?,
        };
        let k = usize::try_from(k)
            .ok()
            .filter(|&k| k <= size)
            .ok_or_else(|| Error::invalid(format!("{k} values of an axis of size {size}")))?;
        let keys = Keys::new(x)?;
        let mut shape = x.shape().to_vec();
        shape[axis] = k;
        let total = count(&shape)?;
        let (mut places, mut from) = (vec![0_i64; total], vec![0; total]);
        let mut candidates: Vec<usize> = Vec::with_capacity(size);
        for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
            if size > 256 {
                crate::limit::time()?;
            }
            let at = |position: usize| (o * size + position) * inner + i;
            let order = |a: &usize, b: &usize| {
                let order = keys.compare(at(*a), at(*b));
                (if largest { order.reverse() } else { order }).then(a.cmp(b))
            };
            candidates.clear();
            candidates.extend(0..size);
            if 0 < k && k < size {
                candidates.select_nth_unstable_by(k - 1, order);
            }
            candidates[..k].sort_unstable_by(order);
            for (rank, &position) in candidates[..k].iter().enumerate() {
                let to = (o * k + rank) * inner + i;
                places[to] = position as i64;
                from[to] = at(position);
            }
        }
        Ok(vec![x.take(shape.clone(), &from)?.into(), Array::new(shape, places)?.into()])
    })
}

/// The distinct elements, or the distinct parts along an axis; where each stands first, which each is, how often each is there.
fn unique(node: &RawNode) -> Parsed {
    let axis_given = node.attributes.int("axis")?;
    let sorted = node.attributes.flag("sorted", true)?;
    eval(move |inputs| {
        let x = inputs.array(0)?;
        let (x, axis) = match axis_given {
            Some(given) => (x.clone(), axis(given, x.rank())?),
            None => (x.reshaped(vec![x.len()])?, 0),
        };
        let (outer, size, inner) = around(x.shape(), axis);
        let keys = Keys::new(&x)?;
        let compare = |a: usize, b: usize| {
            let mut elements = (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i)));
            let at = |part: usize, (o, i): (usize, usize)| (o * size + part) * inner + i;
            elements
                .find_map(|place| Some(keys.compare(at(a, place), at(b, place))).filter(|order| order.is_ne()))
                .unwrap_or(Ordering::Equal)
        };
        let mut order: Vec<usize> = (0..size).collect();
        order.sort_by(|&a, &b| compare(a, b));
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for part in order {
            match groups.last_mut() {
                Some(group) if compare(group[0], part).is_eq() => group.push(part),
                _ => groups.push(vec![part]),
            }
        }
        if !sorted {
            groups.sort_by_key(|group| group[0]);
        }
        let mut which = vec![0; size];
        for (number, group) in groups.iter().enumerate() {
            group.iter().for_each(|&part| which[part] = number as i64);
        }
        let mut axes = vec![None; x.rank()];
        axes[axis] = Some(groups.iter().map(|group| group[0]).collect());
        let firsts = groups.iter().map(|group| group[0] as i64).collect();
        let counts = groups.iter().map(|group| group.len() as i64).collect();
        let rest = [firsts, which, counts].map(|list| Array::vector(list).into());
        Ok([Value::from(x.select(&axes)?)].into_iter().chain(rest).collect())
    })
}

/// Coordinates, a row for each axis.
fn non_zero(inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let is_set: Vec<bool> = match x.values::<String>() {
        Some(texts) => texts.iter().map(|text| !text.is_empty()).collect(),
        None if x.dtype().is_float() => x.floats()?.into_iter().map(|v| v != 0.0).collect(),
        None => x.ints()?.into_iter().map(|v| v != 0).collect(),
    };
    let found: Vec<usize> = (0..x.len()).filter(|&i| is_set[i]).collect();
    let mut coordinates = vec![0; count(&[x.rank(), found.len()])?];
    for (column, &position) in found.iter().enumerate() {
        for (row, at) in index_of(position, x.shape()).into_iter().enumerate() {
            coordinates[row * found.len() + column] = at as i64;
        }
    }
    one(Array::new(vec![x.rank(), found.len()], coordinates)?)
}
