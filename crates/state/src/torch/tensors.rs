//! Constructors of tensors, parameters and storages, of every release.

use crate::torch::dtypes;
use crate::torch::made::{Made, index, sizes};
use crate::{
    DType, Data, Error, Global, Object, Quantization, Result, StateDict, Storage, Tensor, Value, View, show_shape,
};

/// Whether a global makes a tensor.
pub(crate) fn knows(module: &str, name: &str) -> bool {
    match module {
        "torch._utils" => matches!(
            name,
            "_rebuild_tensor"
                | "_rebuild_tensor_v2"
                | "_rebuild_tensor_v3"
                | "_rebuild_parameter"
                | "_rebuild_parameter_with_state"
                | "_rebuild_sparse_tensor"
                | "_rebuild_sparse_csr_tensor"
                | "_rebuild_qtensor"
                | "_rebuild_meta_tensor_no_storage"
                | "_rebuild_device_tensor_from_numpy"
                | "_rebuild_device_tensor_from_cpu_tensor"
                | "_rebuild_xla_tensor"
        ),
        "torch.nn.parameter" => matches!(name, "Parameter" | "Buffer"),
        "torch.autograd.variable" => name == "Variable",
        "torch" => matches!(name, "Tensor"),
        _ => false,
    }
}

/// A storage as a value: its class, and its elements as a tensor of one axis.
pub(crate) fn storage_value(class: Global, dtype: DType, storage: Storage, offset: u64, numel: u64) -> Result<Value> {
    let view = View { storage, offset, strides: vec![1], conjugate: false, negative: false };
    let tensor = Tensor::strided(dtype, &[numel], view)?;
    let args = vec![Value::Tensor(tensor)];
    Ok(Value::Object(Box::new(Object {
        class,
        args,
        state: Value::None,
        items: Vec::new(),
        entries: StateDict::new(),
    })))
}

/// The elements of a storage that [`storage_value`] made.
pub(crate) fn as_storage(value: &Value) -> Option<&Tensor> {
    match value {
        Value::Object(object) if dtypes::of_storage(&object.class).is_some() => match object.args.as_slice() {
            [Value::Tensor(tensor)] => Some(tensor),
            // torch.storage.TypedStorage wraps an untyped one in some releases.
            [inner @ Value::Object(_)] => as_storage(inner),
            _ => None,
        },
        _ => None,
    }
}

/// The tensor that a call stands for.
pub(crate) fn rebuild(mut made: Made) -> Result<Value> {
    if !made.items.is_empty() || !made.entries.is_empty() {
        return Err(Error::damaged(format!("entries are set on the tensor that {} makes", made.class)));
    }
    match made.class.name.as_str() {
        "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3" => strided(&made).map(Value::Tensor),
        "_rebuild_parameter" | "_rebuild_parameter_with_state" => {
            let requires_grad = made.arg(1)?.as_bool().unwrap_or(false);
            match made.take(0) {
                Value::Tensor(mut tensor) => {
                    tensor.parameter = true;
                    tensor.requires_grad = requires_grad;
                    Ok(Value::Tensor(tensor))
                }
                // The parameter of a tensor subclass, which is opaque.
                value @ Value::Object(_) => Ok(value),
                _ => Err(made.wrong("a tensor")),
            }
        }
        "_rebuild_sparse_tensor" | "_rebuild_sparse_csr_tensor" => sparse(made),
        "_rebuild_qtensor" => quantized(&made).map(Value::Tensor),
        "_rebuild_meta_tensor_no_storage" => {
            let (dtype, shape) = (dtype(made.arg(0)?)?, sizes(made.arg(1)?, "sizes")?);
            let mut tensor = Tensor::with_data(dtype, &shape, Data::Meta);
            tensor.requires_grad = made.args.get(3).and_then(Value::as_bool).unwrap_or(false);
            Ok(Value::Tensor(tensor))
        }
        "_rebuild_device_tensor_from_numpy" | "_rebuild_xla_tensor" | "_rebuild_device_tensor_from_cpu_tensor" => {
            let requires_grad = made.args.get(3).and_then(Value::as_bool).unwrap_or(false);
            let tensor = match made.take(0) {
                Value::Array(array) => array.tensor,
                Value::Tensor(tensor) => Some(tensor),
                _ => None,
            };
            // numpy has no bfloat16: such a tensor travels as float32.
            let mut tensor = tensor.ok_or_else(|| made.wrong("an array"))?.cast(dtype(made.arg(1)?)?)?;
            tensor.requires_grad = requires_grad;
            Ok(Value::Tensor(tensor))
        }
        _ => variable(made),
    }
}

/// `_rebuild_tensor(storage, offset, size, stride)`, v2 with `requires_grad`, hooks and metadata, v3 with the type before those.
fn strided(made: &Made) -> Result<Tensor> {
    let Some(elements) = as_storage(made.arg(0)?) else {
        return Err(made.wrong("a storage, an offset, sizes and strides"));
    };
    let Some(base) = elements.view() else { return Err(made.wrong("a storage, an offset, sizes and strides")) };
    let newest = made.class.name == "_rebuild_tensor_v3";
    let dtype = if newest { dtype(made.arg(6)?)? } else { elements.dtype() };
    let (shape, strides) = (sizes(made.arg(2)?, "sizes")?, sizes(made.arg(3)?, "strides")?);
    let scale = (dtype.size() / elements.dtype().size()).max(1) as u64;
    let offset = index(made.arg(1)?, "the offset")?.checked_add(base.offset / scale);
    let offset = offset.ok_or_else(|| Error::damaged("the offset of a tensor is out of range"))?;
    let flags = made.args.get(if newest { 7 } else { 6 }).and_then(Value::as_dict);
    let flag = |name| flags.and_then(|flags| flags.get(name)).and_then(Value::as_bool).unwrap_or(false);
    let view = View { storage: base.storage.clone(), offset, strides, conjugate: flag("conj"), negative: flag("neg") };
    let end = base.offset / scale + elements.numel() / scale;
    within(dtype, &shape, &view, end)?;
    let mut tensor = Tensor::strided(dtype, &shape, view)?;
    tensor.requires_grad = made.args.get(4).and_then(Value::as_bool).unwrap_or(false);
    Ok(tensor)
}

/// That a tensor lies within the elements that the pickle says its storage has, which may be fewer than the file holds.
fn within(dtype: DType, shape: &[u64], view: &View, end: u64) -> Result<()> {
    if shape.contains(&0) || shape.len() != view.strides.len() {
        return Ok(());
    }
    let mut last = u128::from(view.offset);
    for (&axis, &stride) in shape.iter().zip(&view.strides) {
        last = last.saturating_add(u128::from(axis - 1) * u128::from(stride));
    }
    if last < u128::from(end) {
        return Ok(());
    }
    Err(Error::damaged(format!(
        "a {dtype} tensor of shape {} at offset {} needs more than its storage of {end} elements",
        show_shape(shape),
        view.offset
    )))
}

/// Old variables and parameters: the data as an argument or first in the state, then gradient and flags.
fn variable(mut made: Made) -> Result<Value> {
    let parameter = made.class.name == "Parameter";
    let (mut data, requires_grad) = match (made.take(0), made.state.take()) {
        (Value::Tensor(tensor), Some(Value::Tuple(state))) => (tensor, state.first().and_then(Value::as_bool)),
        (Value::Tensor(tensor), _) => {
            let requires_grad = made.args.get(1).and_then(Value::as_bool);
            (tensor, requires_grad)
        }
        // Releases before 0.1.10: (data, gradient, creator or hooks, requires_grad, volatile).
        (_, Some(Value::Tuple(mut state))) if matches!(state.first(), Some(Value::Tensor(_))) => {
            let requires_grad = state.get(3).and_then(Value::as_bool);
            match state.swap_remove(0) {
                Value::Tensor(tensor) => (tensor, requires_grad),
                other => return Ok(other),
            }
        }
        (first, state) => {
            if !made.args.is_empty() {
                made.args[0] = first;
            }
            made.state = state;
            return Ok(made.object());
        }
    };
    data.parameter |= parameter;
    data.requires_grad = requires_grad.unwrap_or(parameter);
    Ok(Value::Tensor(data))
}

fn sparse(mut made: Made) -> Result<Value> {
    let layout = match made.take(0) {
        Value::Str(name) => name,
        Value::Global(global) => format!("torch.{}", global.name),
        _ => return Err(made.wrong("a layout and its parts")),
    };
    let Value::Tuple(mut parts) = made.take(1) else { return Err(made.wrong("a layout and its parts")) };
    let tensor = |value: Option<&mut Value>| match value.map(|value| std::mem::replace(value, Value::None)) {
        Some(Value::Tensor(tensor)) => Ok(Box::new(tensor)),
        _ => Err(Error::damaged("a part of a sparse tensor is no tensor")),
    };
    let compressed = match layout.as_str() {
        "torch.sparse_coo" => {
            let indices = tensor(parts.get_mut(0))?;
            let values = tensor(parts.get_mut(1))?;
            let shape = parts
                .get(2)
                .map(|size| sizes(size, "sizes"))
                .transpose()?
                .ok_or_else(|| made.wrong("indices, values and sizes"))?;
            let coalesced = parts.get(3).and_then(Value::as_bool);
            let count = indices.shape().get(1).copied();
            if indices.shape().len() != 2
                || count != values.shape().first().copied()
                || indices.shape()[0] > shape.len() as u64
            {
                return Err(Error::damaged(format!(
                    "a sparse tensor of shape {} has indices of shape {} and values of shape {}",
                    show_shape(&shape),
                    show_shape(indices.shape()),
                    show_shape(values.shape())
                )));
            }
            let dtype = values.dtype();
            return Ok(Value::Tensor(Tensor::with_data(dtype, &shape, Data::SparseCoo { indices, values, coalesced })));
        }
        "torch.sparse_csr" => "sparse_csr",
        "torch.sparse_csc" => "sparse_csc",
        "torch.sparse_bsr" => "sparse_bsr",
        "torch.sparse_bsc" => "sparse_bsc",
        _ => return Err(Error::unsupported(format!("a sparse tensor of the unknown layout '{layout}'"))),
    };
    let (offsets, plain, values) = (tensor(parts.get_mut(0))?, tensor(parts.get_mut(1))?, tensor(parts.get_mut(2))?);
    let shape = parts
        .get(3)
        .map(|size| sizes(size, "sizes"))
        .transpose()?
        .ok_or_else(|| made.wrong("offsets, indices, values and sizes"))?;
    let dtype = values.dtype();
    let data = Data::SparseCompressed { layout: compressed, compressed: offsets, plain, values };
    Ok(Value::Tensor(Tensor::with_data(dtype, &shape, data)))
}

/// `_rebuild_qtensor(storage, offset, size, stride, (scheme, …), requires_grad, hooks)`.
fn quantized(made: &Made) -> Result<Tensor> {
    let plain = strided(made)?;
    let Data::Strided(view) = plain.data() else { return Err(made.wrong("a storage")) };
    let wrong = || made.wrong("a scheme with its scales and zero points");
    let Value::Tuple(scheme) = made.arg(4)? else { return Err(wrong()) };
    let Some(Value::Global(kind)) = scheme.first() else { return Err(wrong()) };
    let scheme = match (kind.name.as_str(), &scheme[1..]) {
        ("per_tensor_affine", [scale, zero_point]) => Quantization::PerTensor {
            scale: scale.as_float().ok_or_else(wrong)?,
            zero_point: zero_point.as_int().ok_or_else(wrong)?,
        },
        (
            "per_channel_affine" | "per_channel_affine_float_qparams",
            [Value::Tensor(scales), Value::Tensor(zero_points), axis],
        ) => {
            Quantization::PerChannel {
                scales: Box::new(scales.clone()),
                zero_points: Box::new(zero_points.clone()),
                axis: axis.as_int().ok_or_else(wrong)?,
                // PyTorch writes one name for both, and goes by the type on reading.
                float_params: zero_points.dtype().is_float(),
            }
        }
        _ => return Err(wrong()),
    };
    let mut tensor = Tensor::with_data(plain.dtype(), plain.shape(), Data::Quantized { view: view.clone(), scheme });
    tensor.requires_grad = made.args.get(5).and_then(Value::as_bool).unwrap_or(false);
    Ok(tensor)
}

fn dtype(value: &Value) -> Result<DType> {
    match value {
        Value::DType(name) => name.parse().map_err(Error::unsupported),
        Value::Global(global) => Err(Error::unsupported(format!("the element type {global} is not known"))),
        other => Err(Error::damaged(format!("the element type of a tensor is of type {}", other.type_name()))),
    }
}
