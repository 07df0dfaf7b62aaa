//! Two trees compared tensor by tensor, whatever files they came from.

use indexmap::IndexMap;
use serde::Serialize;

use crate::cast::{decode, is_integer};
use crate::tolerance::gap as gap_of;
use crate::{DType, Data, Error, Result, Tensor, Tolerance, Value, walk};

/// What differs between two trees.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Diff {
    /// Whether nothing differs beyond the tolerance, no name is on one side only, and shapes and values are the same.
    pub same: bool,
    /// Tensors that both have.
    pub compared: u64,
    /// Of these, how many have the same bits.
    pub bit_equal: u64,
    /// Of these, how many are within the tolerance, the bit-equal ones included.
    pub close: u64,
    /// Names that only the first has, in order.
    pub only_a: Vec<String>,
    /// Names that only the second has, in order.
    pub only_b: Vec<String>,
    /// Tensors whose shapes differ.
    pub shapes: Vec<ShapeDiff>,
    /// Tensors whose element types differ; their values are compared all the same.
    pub dtypes: Vec<DTypeDiff>,
    /// Tensors whose values differ at all, with how much.
    pub values: Vec<TensorDiff>,
    /// Plain values (epoch, lr, …) that differ.
    pub plain: Vec<PlainDiff>,
}

/// Shapes that differ.
#[derive(Debug, Clone, Serialize)]
pub struct ShapeDiff {
    /// The tensor.
    pub name: String,
    /// In the first tree.
    pub a: Vec<u64>,
    /// In the second.
    pub b: Vec<u64>,
}

/// Element types that differ.
#[derive(Debug, Clone, Serialize)]
pub struct DTypeDiff {
    /// The tensor.
    pub name: String,
    /// In the first tree.
    pub a: String,
    /// In the second.
    pub b: String,
}

/// How far the values of two tensors are apart.
#[derive(Debug, Clone, Serialize)]
pub struct TensorDiff {
    /// The tensor.
    pub name: String,
    /// Elements of each.
    pub elements: u64,
    /// Elements that are equal; NaN equals NaN.
    pub equal: u64,
    /// Elements within the tolerance.
    pub close: u64,
    /// The largest `|a - b|`; infinite where one is NaN and the other is not.
    pub max_abs: f64,
    /// The largest `|a - b| / |b|` where `b` is not zero.
    pub max_rel: f64,
    /// The element with the largest absolute difference.
    pub worst_index: Vec<u64>,
    /// Its value in the first tree.
    pub worst_a: f64,
    /// Its value in the second.
    pub worst_b: f64,
    /// Whether all elements are within the tolerance.
    pub within: bool,
}

/// Plain values that differ, as text.
#[derive(Debug, Clone, Serialize)]
pub struct PlainDiff {
    /// The value's path.
    pub name: String,
    /// In the first tree.
    pub a: String,
    /// In the second.
    pub b: String,
}

/// Compares two trees; names are paths, as `inspect` prints them. Bytes are read pair by pair.
///
/// # Errors
/// When a tensor cannot be read.
pub fn diff(a: &Value, b: &Value, tolerance: Tolerance) -> Result<Diff> {
    let (left, mut right) = (leaves(a), leaves(b));
    let mut diff = Diff::default();
    for (name, a) in left {
        let Some(b) = right.shift_remove(&name) else {
            diff.only_a.push(name);
            continue;
        };
        match (a, b) {
            (Value::Tensor(a), Value::Tensor(b)) => {
                compare(&name, &a, &b, tolerance, &mut diff)
                    .map_err(|error| error.within(format!("tensor '{name}'")))?;
            }
            (a, b) => {
                if !plain_equal(&a, &b, tolerance) {
                    diff.plain.push(PlainDiff { name, a: shown(&a), b: shown(&b) });
                }
            }
        }
    }
    diff.only_b = right.into_keys().collect();
    diff.same = diff.only_a.is_empty()
        && diff.only_b.is_empty()
        && diff.shapes.is_empty()
        && diff.plain.is_empty()
        && diff.values.iter().all(|tensor| tensor.within)
        // A tolerance is for numbers that were rounded on the way; without one, the types have to agree too.
        && (diff.dtypes.is_empty() || tolerance.rtol > 0.0 || tolerance.atol > 0.0);
    Ok(diff)
}

/// Every leaf by its path; the parts of sparse and quantized tensors, and arrays, are tensors of their own.
fn leaves(root: &Value) -> IndexMap<String, Value> {
    fn add(name: &str, value: &Value, out: &mut IndexMap<String, Value>) {
        match value {
            Value::Tensor(tensor) => match tensor.data() {
                Data::SparseCoo { indices, values, .. } => {
                    out.insert(format!("{name}/indices"), Value::Tensor((**indices).clone()));
                    out.insert(format!("{name}/values"), Value::Tensor((**values).clone()));
                }
                Data::SparseCompressed { compressed, plain, values, .. } => {
                    for (part, tensor) in [("compressed", compressed), ("plain", plain), ("values", values)] {
                        out.insert(format!("{name}/{part}"), Value::Tensor((**tensor).clone()));
                    }
                }
                _ => {
                    out.insert(name.to_string(), value.clone());
                }
            },
            Value::Array(array) => {
                let value = array.tensor.clone().map_or_else(|| value.clone(), Value::Tensor);
                out.insert(name.to_string(), value);
            }
            other => {
                out.insert(name.to_string(), other.clone());
            }
        }
    }
    let mut out = IndexMap::new();
    walk(root, &mut |name, value| add(name, value, &mut out));
    out
}

fn compare(name: &str, a: &Tensor, b: &Tensor, tolerance: Tolerance, diff: &mut Diff) -> Result<()> {
    diff.compared += 1;
    if a.shape() != b.shape() {
        diff.shapes.push(ShapeDiff { name: name.to_string(), a: a.shape().to_vec(), b: b.shape().to_vec() });
        return Ok(());
    }
    if a.dtype() != b.dtype() {
        diff.dtypes.push(DTypeDiff { name: name.to_string(), a: a.dtype().to_string(), b: b.dtype().to_string() });
    }
    if a.view().is_none() || b.view().is_none() {
        // Without values (meta) there is nothing more to compare.
        if a.layout() != b.layout() {
            let (a, b) = (a.layout().to_string(), b.layout().to_string());
            diff.plain.push(PlainDiff { name: name.to_string(), a, b });
        }
        return Ok(());
    }
    let (left, right) = (a.bytes()?, b.bytes()?);
    if a.dtype() == b.dtype() && left == right {
        diff.bit_equal += 1;
        diff.close += 1;
        return Ok(());
    }
    let measured = measure(name, (a, &left), (b, &right), tolerance)?;
    diff.close += u64::from(measured.within);
    if measured.equal < measured.elements {
        diff.values.push(measured);
    }
    Ok(())
}

/// The dtype to read the numbers of a tensor as, and how many there are in an element.
fn plain(dtype: DType) -> Result<(DType, usize)> {
    Ok(match dtype {
        DType::Complex128 => (DType::F64, 2),
        DType::Complex64 => (DType::F32, 2),
        DType::ComplexHalf => (DType::F16, 2),
        DType::QInt8 => (DType::I8, 1),
        DType::QUInt8 | DType::QUInt4x2 | DType::QUInt2x4 | DType::F4E2M1FnX2 => (DType::U8, 1),
        DType::QInt32 => (DType::I32, 1),
        other => (other, 1),
    })
}

fn measure(name: &str, a: (&Tensor, &[u8]), b: (&Tensor, &[u8]), tolerance: Tolerance) -> Result<TensorDiff> {
    const CHUNK: usize = 1 << 16;
    let ((type_a, parts_a), (type_b, parts_b)) = (plain(a.0.dtype())?, plain(b.0.dtype())?);
    if parts_a != parts_b {
        return Err(Error::unsupported(format!("{} and {} values are not compared", a.0.dtype(), b.0.dtype())));
    }
    let elements = a.0.numel();
    let (equal, close) = (0, 0);
    let (max_abs, max_rel, worst_a, worst_b) = (0.0, 0.0, 0.0, 0.0);
    let worst_index = vec![];
    let within = true;
    let mut diff = TensorDiff {
        name: name.to_string(),
        elements,
        equal,
        close,
        max_abs,
        max_rel,
        worst_index,
        worst_a,
        worst_b,
        within,
    };
    let integers = is_integer(type_a) && is_integer(type_b);
    let mut worst = 0_u64;
    let mut at = 0_u64;
    let chunks = a.1.chunks(CHUNK * type_a.size()).zip(b.1.chunks(CHUNK * type_b.size()));
    for (chunk_a, chunk_b) in chunks {
        let left = decode(type_a, chunk_a, |v| v, |v| v as f64)?;
        let right = decode(type_b, chunk_b, |v| v, |v| v as f64)?;
        // Integers beyond 2^53 are told apart as integers.
        let exact = if integers {
            let left = decode(type_a, chunk_a, |_| 0, |v| v)?;
            let right = decode(type_b, chunk_b, |_| 0, |v| v)?;
            Some(left.into_iter().zip(right).map(|(a, b)| (a - b).unsigned_abs() as f64).collect::<Vec<_>>())
        } else {
            None
        };
        for (index, (&x, &y)) in left.iter().zip(&right).enumerate() {
            let gap = match &exact {
                Some(gaps) => gaps[index],
                None => gap_of(x, y),
            };
            diff.equal += u64::from(gap == 0.0);
            diff.close += u64::from(tolerance.allows_gap(gap, y));
            if gap > diff.max_abs {
                (diff.max_abs, diff.worst_a, diff.worst_b) = (gap, x, y);
                worst = at + index as u64;
            }
            if y != 0.0 && gap > 0.0 {
                diff.max_rel = diff.max_rel.max(if gap.is_finite() { gap / y.abs() } else { gap });
            }
        }
        at += left.len() as u64;
    }
    diff.elements = at;
    diff.within = diff.close == at;
    diff.worst_index = position(worst / parts_a as u64, a.0.shape());
    Ok(diff)
}

/// The index along each axis of the n-th element in row-major order.
fn position(mut index: u64, shape: &[u64]) -> Vec<u64> {
    let mut position = vec![0; shape.len()];
    for (place, &axis) in position.iter_mut().zip(shape).rev() {
        *place = index % axis.max(1);
        index /= axis.max(1);
    }
    position
}

fn plain_equal(a: &Value, b: &Value, tolerance: Tolerance) -> bool {
    match (a, b) {
        // A number is the same number as an integer or as a float.
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => match (a.as_float(), b.as_float()) {
            (Some(x), Some(y)) => tolerance.allows(x, y),
            _ => false,
        },
        _ => shown(a) == shown(b),
    }
}

/// A plain value as text for the reader of a comparison.
fn shown(value: &Value) -> String {
    match value {
        Value::None => "None".to_string(),
        Value::Bool(value) => if *value { "True" } else { "False" }.to_string(),
        Value::Int(int) => int.to_string(),
        Value::BigInt(int) => int.to_string(),
        Value::Float(float) => format!("{float:?}"),
        Value::Complex(real, imaginary) => format!("({real:?}, {imaginary:?}j)"),
        Value::Str(text) => format!("{text:?}"),
        Value::Bytes(bytes) | Value::ByteArray(bytes) => format!("b\"{}\"", bytes.escape_ascii()),
        Value::Set(items) | Value::FrozenSet(items) => {
            let mut items: Vec<_> = items.iter().map(shown).collect();
            items.sort();
            format!("{{{}}}", items.join(", "))
        }
        Value::Tensor(tensor) => format!("{} tensor {}", tensor.dtype(), crate::show_shape(tensor.shape())),
        Value::DType(name) => format!("torch.{name}"),
        Value::Device(name) => format!("device {name}"),
        Value::Global(global) => global.to_string(),
        Value::Array(array) => {
            format!("array of {} {} ({} bytes)", array.descr, crate::show_shape(&array.shape), array.raw.len())
        }
        Value::List(_) | Value::Tuple(_) | Value::Dict(_) | Value::Object(_) => format!("{} …", value.type_name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StateDict;

    fn tree(tensor: Tensor, epoch: i64) -> Value {
        let mut dict = StateDict::new();
        dict.insert("w", tensor);
        dict.insert("epoch", epoch);
        Value::Dict(dict)
    }

    #[test]
    fn the_worst_element_is_named() {
        let a = tree(Tensor::from_f32(&[2, 2], &[1.0, 2.0, f32::NAN, 4.0]).unwrap(), 1);
        let b = tree(Tensor::from_f32(&[2, 2], &[1.0, 2.5, f32::NAN, 4.0]).unwrap(), 2);
        let found = diff(&a, &b, Tolerance::EXACT).unwrap();
        let tensor = &found.values[0];
        assert_eq!((tensor.equal, tensor.max_abs, tensor.max_rel), (3, 0.5, 0.2));
        assert_eq!((tensor.worst_index.as_slice(), tensor.worst_a, tensor.worst_b), (&[0, 1][..], 2.0, 2.5));
        assert_eq!(found.plain[0].name, "epoch");
        assert!(!found.same);
        assert!(diff(&a, &a, Tolerance::EXACT).unwrap().same);
    }

    #[test]
    fn tolerance_and_types() {
        let wide = Tensor::from_f32(&[2], &[1.0001, 3.0]).unwrap();
        let a = tree(wide.clone(), 1);
        let b = tree(wide.cast(DType::F16).unwrap(), 1);
        assert!(!diff(&a, &b, Tolerance::EXACT).unwrap().same);
        let found = diff(&a, &b, Tolerance { rtol: 1e-3, atol: 0.0 }).unwrap();
        assert!(found.same && found.dtypes.len() == 1 && found.close == 1, "{found:?}");
    }

    #[test]
    fn large_integers_are_told_apart() {
        let a = tree(Tensor::from_i64(&[1], &[(1 << 60) + 1]).unwrap(), 1);
        let b = tree(Tensor::from_i64(&[1], &[1 << 60]).unwrap(), 1);
        let found = diff(&a, &b, Tolerance::EXACT).unwrap();
        assert_eq!(found.values[0].max_abs, 1.0);
    }
}
