//! numpy arrays and scalars in pickles.

use crate::torch::made::{Made, sizes};
use crate::{Array, DType, Error, Object, Result, Storage, Tensor, Value, View};

/// The most axes that numpy's arrays have.
const AXES: usize = 64;

/// Whether a global makes an array, a scalar or an element type of numpy.
pub(crate) fn knows(module: &str, name: &str) -> bool {
    match module {
        "numpy.core.multiarray" | "numpy._core.multiarray" => matches!(name, "_reconstruct" | "scalar"),
        "numpy.core.numeric" | "numpy._core.numeric" => name == "_frombuffer",
        "numpy.ma.core" | "numpy.ma" => name == "_mareconstruct",
        _ => false,
    }
}

/// The array or scalar that a call stands for.
pub(crate) fn rebuild(made: Made) -> Result<Value> {
    match made.class.name.as_str() {
        "scalar" => scalar(made),
        "_frombuffer" => from_buffer(made),
        "_mareconstruct" => masked(made),
        _ => array(made),
    }
}

/// `_reconstruct(ndarray, (0,), b'b')` with the state (version, shape, type, Fortran order, bytes or list of objects).
fn array(mut made: Made) -> Result<Value> {
    let Some(Value::Tuple(state)) = made.state.take() else { return Ok(made.object()) };
    // Old pickles have no version in front; subclasses such as masked arrays have states of their own.
    let parts = if state.len() == 4 { &state[..] } else { state.get(1..).unwrap_or(&[]) };
    let [shape, dtype, Value::Bool(fortran), data] = parts else {
        made.state = Some(Value::Tuple(state));
        return Ok(made.object());
    };
    let (shape, Some(descr)) = (sizes(shape, "sizes")?, descr(dtype)) else {
        made.state = Some(Value::Tuple(state));
        return Ok(made.object());
    };
    let bytes = match data {
        Value::Bytes(bytes) | Value::ByteArray(bytes) => bytes.as_slice(),
        Value::Str(text) => text.as_bytes(),
        Value::List(objects) => {
            let objects = objects.clone();
            return Ok(Value::Array(Array { descr, scalar: false, tensor: None, raw: Vec::new(), shape, objects }));
        }
        other => {
            return Err(Error::damaged(format!("the elements of a numpy array are of type {}", other.type_name())));
        }
    };
    from_bytes(descr, shape, bytes.to_vec(), *fortran, false).map(Value::Array)
}

/// `_mareconstruct(…)` with the state (version, shape, type, Fortran order, bytes, mask, fill value): the values without their mask.
fn masked(mut made: Made) -> Result<Value> {
    match made.state.take() {
        Some(Value::Tuple(mut state)) if state.len() == 7 => {
            let rest = state.split_off(5);
            made.state = Some(Value::Tuple(state));
            let class = made.class.clone();
            // An object around the array, so that mask and fill value stay with it.
            let values = array(made)?;
            let state = Value::Tuple(rest);
            let entries = crate::StateDict::new();
            Ok(Value::Object(Box::new(Object { class, args: vec![values], state, items: Vec::new(), entries })))
        }
        state => {
            made.state = state;
            Ok(made.object())
        }
    }
}

/// `scalar(type, bytes)`.
fn scalar(made: Made) -> Result<Value> {
    let Some(descr) = descr(made.arg(0)?) else { return Ok(made.object()) };
    let bytes = match made.arg(1)? {
        Value::Bytes(bytes) | Value::ByteArray(bytes) => bytes.clone(),
        Value::Str(text) => text.clone().into_bytes(),
        _ => return Ok(made.object()),
    };
    from_bytes(descr, Vec::new(), bytes, false, true).map(Value::Array)
}

/// `_frombuffer(bytes, type, shape, order)` of protocol 5.
fn from_buffer(made: Made) -> Result<Value> {
    let (Value::Bytes(bytes) | Value::ByteArray(bytes)) = made.arg(0)? else {
        return Err(made.wrong("bytes, a type, a shape and an order"));
    };
    let (Some(descr), shape) = (descr(made.arg(1)?), sizes(made.arg(2)?, "sizes")?) else { return Ok(made.object()) };
    let fortran = made.arg(3)?.as_str() == Some("F");
    from_bytes(descr, shape, bytes.clone(), fortran, false).map(Value::Array)
}

/// numpy's description of an element type (`<f8`) from the call that makes it; `None` for types of later releases.
fn descr(value: &Value) -> Option<String> {
    let Value::Object(object) = value else { return None };
    let Object { class, args, state, .. } = &**object;
    if !matches!(class.module.as_str(), "numpy" | "numpy.dtypes") {
        return None;
    }
    let name = match args.first() {
        Some(Value::Str(name)) => name.as_str(),
        // A record with a class for its elements.
        Some(Value::Global(_)) => "V",
        _ => return None,
    };
    let order = match state {
        Value::Tuple(state) => state.get(1).and_then(Value::as_str).unwrap_or("|"),
        _ => "|",
    };
    let name = name.strip_prefix(['<', '>', '|', '=']).unwrap_or(name);
    // Records carry their fields in the state; the size alone is kept, the elements stay raw.
    let order = match order {
        "<" | "=" => '<',
        ">" => '>',
        _ => '|',
    };
    // Dates and spans carry their unit at the end of the state: `({}, (b'ns', 1, 1, 1))`.
    let unit = match (name, state) {
        ("M8" | "m8", Value::Tuple(state)) => state.last().and_then(Value::as_slice).and_then(unit).unwrap_or_default(),
        _ => String::new(),
    };
    let size = match (name, state) {
        ("V", Value::Tuple(state)) => {
            state.get(5).and_then(Value::as_int).map(|size| size.to_string()).unwrap_or_default()
        }
        _ => String::new(),
    };
    Some(format!("{order}{name}{size}{unit}"))
}

/// The unit of a date type in brackets.
fn unit(state: &[Value]) -> Option<String> {
    let [.., Value::Tuple(unit)] = state else { return None };
    let [name, count, ..] = unit.as_slice() else { return None };
    let name = match name {
        Value::Str(name) => name.clone(),
        Value::Bytes(name) => String::from_utf8_lossy(name).into_owned(),
        _ => return None,
    };
    match count.as_int()? {
        _ if name == "generic" => None,
        1 => Some(format!("[{name}]")),
        count => Some(format!("[{count}{name}]")),
    }
}

/// An array over its bytes: a tensor where PyTorch has the type, raw elements in row-major order otherwise.
pub(crate) fn from_bytes(descr: String, shape: Vec<u64>, bytes: Vec<u8>, fortran: bool, scalar: bool) -> Result<Array> {
    if shape.len() > AXES {
        return Err(Error::damaged(format!("a numpy array of {} axes; numpy has at most {AXES}", shape.len())));
    }
    let count = shape.iter().try_fold(1_u64, |n, &axis| n.checked_mul(axis));
    let count = count.ok_or_else(|| Error::damaged("the shape of a numpy array overflows"))?;
    let kind = &descr[1..];
    let Some(dtype) = dtype(kind) else {
        let size = (bytes.len() as u64).checked_div(count).unwrap_or(0);
        if size.checked_mul(count) != Some(bytes.len() as u64) {
            return Err(Error::damaged(format!("a numpy array of {count} elements has {} bytes", bytes.len())));
        }
        let raw = if fortran { row_major(&bytes, &shape, size as usize) } else { bytes };
        return Ok(Array { descr, scalar, tensor: None, raw, shape, objects: Vec::new() });
    };
    if count.checked_mul(dtype.size() as u64) != Some(bytes.len() as u64) {
        return Err(Error::damaged(format!("a numpy array of {count} {dtype} elements has {} bytes", bytes.len())));
    }
    let storage = Storage::new(bytes, "");
    let storage = if descr.starts_with('>') { storage.big_endian() } else { storage };
    let tensor = if fortran {
        let mut step = 1_u64;
        let mut strides = Vec::with_capacity(shape.len());
        for &axis in &shape {
            strides.push(step);
            step = step.saturating_mul(axis.max(1));
        }
        Tensor::strided(dtype, &shape, View { storage, offset: 0, strides, conjugate: false, negative: false })?
    } else {
        Tensor::contiguous(dtype, &shape, storage, 0)?
    };
    Ok(Array { descr, scalar, tensor: Some(tensor), raw: Vec::new(), shape, objects: Vec::new() })
}

/// PyTorch's type for numpy's kind and size: `f8`, `i4`, `b1`, …
fn dtype(kind: &str) -> Option<DType> {
    Some(match kind {
        "f8" => DType::F64,
        "f4" => DType::F32,
        "f2" => DType::F16,
        "i8" => DType::I64,
        "i4" => DType::I32,
        "i2" => DType::I16,
        "i1" => DType::I8,
        "u8" => DType::U64,
        "u4" => DType::U32,
        "u2" => DType::U16,
        "u1" => DType::U8,
        "b1" => DType::Bool,
        "c8" => DType::Complex64,
        "c16" => DType::Complex128,
        _ => return None,
    })
}

/// Elements of any size from Fortran to row-major order.
fn row_major(bytes: &[u8], shape: &[u64], size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = vec![0_u64; shape.len()];
    while out.len() < bytes.len() {
        let (mut at, mut step) = (0, 1);
        for (&i, &axis) in index.iter().zip(shape) {
            at += i as usize * step;
            step *= axis as usize;
        }
        out.extend_from_slice(&bytes[at * size..(at + 1) * size]);
        for (i, &axis) in index.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < axis {
                break;
            }
            *i = 0;
        }
        if size == 0 {
            break;
        }
    }
    out
}
