//! Tensors that are spread over a mesh of processes (`torch.distributed.tensor.DTensor`).

use super::rebuild::attributes;
use crate::{Global, Key, Object, Tensor, Value, walk};

/// The whole tensor, where the part that this process saved is all of it. `args` are those of
/// `torch._utils._rebuild_wrapper_subclass`: class, element type, sizes, strides, ….
pub(super) fn whole(class: &Global, args: &[Value], state: &Value) -> Option<Tensor> {
    if !is_class(class) {
        return None;
    }
    let sizes = args.get(2)?.as_slice()?.iter().map(Value::as_int).collect::<Option<Vec<_>>>()?;
    let local = local(state)?;
    let same = sizes.len() == local.shape().len()
        && sizes.iter().zip(local.shape()).all(|(size, axis)| u64::try_from(*size) == Ok(*axis));
    // The sum over the processes is pending: the values of one are not the tensor's.
    (same && !is_partial(state)).then(|| local.clone())
}

fn is_class(class: &Global) -> bool {
    class.name == "DTensor" && class.module.starts_with("torch.distributed")
}

fn attribute<'v>(state: &'v Value, name: &str) -> Option<&'v Value> {
    attributes(state).into_iter().find(|(key, _)| **key == Key::from(name)).map(|(_, value)| value)
}

fn local(state: &Value) -> Option<&Tensor> {
    attribute(state, "_local_tensor")?.as_tensor()
}

fn is_partial(state: &Value) -> bool {
    let Some(Value::Object(spec)) = attribute(state, "_spec") else { return false };
    let placements = attribute(&spec.state, "placements").and_then(Value::as_slice).unwrap_or_default();
    placements
        .iter()
        .any(|placement| matches!(placement, Value::Object(object) if object.class.name.contains("Partial")))
}

/// A sentence for the parts of distributed tensors that a file holds.
pub(crate) fn notes(root: &Value) -> Vec<String> {
    let mut parts = Vec::new();
    walk(root, &mut |path, value| {
        if let Value::Object(object) = value
            && is_class(&object.class)
        {
            parts.push((path.to_string(), held(object)));
        }
    });
    let Some((first, held)) = parts.first() else { return Vec::new() };
    let others = match parts.len() {
        1 => String::new(),
        n => format!(" and {} other tensors are", n - 1),
    };
    let verb = if parts.len() == 1 { " is" } else { "" };
    vec![format!(
        "'{first}'{others}{verb} only the part that one process held{held}: save the tensors' full_tensor(), or the model with \
         torch.distributed.checkpoint, whose folder is read whole"
    )]
}

fn held(object: &Object) -> String {
    match local(&object.state) {
        Some(tensor) => format!(" ({} here)", crate::show_shape(tensor.shape())),
        None => String::new(),
    }
}
