//! Known constructors: calls that stand for data become values, all others stay opaque objects. Nothing is called.

use crate::torch::made::Made;
use crate::torch::{Globals, dtensor, keys, numpy, tensors};
use crate::{DictKind, Global, Key, Result, StateDict, Value};

/// The value that a call stands for. Globals of files inside the file are added to `globals`.
pub(crate) fn call(mut made: Made, globals: &mut Globals) -> Result<Value> {
    let (module, name) = (made.class.module.clone(), made.class.name.clone());
    match (module.as_str(), name.as_str()) {
        ("collections", "OrderedDict" | "defaultdict" | "Counter") => dictionary(made),
        ("builtins" | "__builtin__", _) => builtin(made),
        ("_codecs", "encode") => encoded(made),
        ("copyreg" | "copy_reg", "__newobj__" | "__newobj_ex__" | "_reconstructor") => reconstructed(made, globals),
        ("torch", "Size") => match made.take(0) {
            Value::Tuple(sizes) | Value::List(sizes) => Ok(Value::Tuple(sizes)),
            Value::None => Ok(Value::Tuple(Vec::new())),
            _ => Err(made.wrong("a tuple of sizes")),
        },
        ("torch", "device") => device(made),
        ("torch.serialization", "_get_layout") => match made.arg(0)? {
            Value::Str(layout) => {
                let name = layout.strip_prefix("torch.").unwrap_or(layout).to_string();
                Ok(Value::Global(Global { module: "torch".to_string(), name }))
            }
            _ => Err(made.wrong("the name of a layout")),
        },
        ("torch.storage", "_load_from_bytes") => match made.arg(0)? {
            Value::Bytes(bytes) | Value::ByteArray(bytes) => super::inner_bytes(bytes, globals),
            Value::Str(text) => super::inner_bytes(text.as_bytes(), globals),
            _ => Err(made.wrong("the bytes of a torch file")),
        },
        (
            "torch.jit._pickle",
            "build_intlist" | "build_tensorlist" | "build_boollist" | "build_doublelist" | "restore_type_tag",
        ) => Ok(made.take(0)),
        ("torch._tensor" | "torch.tensor" | "torch._utils", "_rebuild_from_type_v2" | "_rebuild_from_type") => {
            from_type(made, globals)
        }
        (module, name) if tensors::knows(module, name) => tensors::rebuild(made),
        (module, name) if numpy::knows(module, name) => numpy::rebuild(made),
        _ => Ok(made.object()),
    }
}

fn dictionary(mut made: Made) -> Result<Value> {
    let mut dict = StateDict::new();
    // A defaultdict's first argument makes missing values and is of no use here; it may be any callable.
    let source = if made.class.name == "defaultdict" { 1 } else { 0 };
    match made.take(source) {
        Value::None => {}
        Value::Dict(entries) => dict = entries,
        Value::List(pairs) | Value::Tuple(pairs) => {
            for pair in pairs {
                let (Value::Tuple(pair) | Value::List(pair)) = pair else {
                    return Err(made.wrong("pairs of keys and values"));
                };
                let Ok([key, value]) = <[Value; 2]>::try_from(pair) else {
                    return Err(made.wrong("pairs of keys and values"));
                };
                dict.insert(keys::key(key, dict.len())?, value);
            }
        }
        other => {
            made.args = vec![other];
            return Ok(made.object());
        }
    }
    for (key, value) in made.entries {
        dict.insert(key, value);
    }
    dict.set_kind(if made.class.name == "OrderedDict" { DictKind::Ordered } else { DictKind::Other(made.class) });
    if let Some(Value::Dict(mut state)) = made.state {
        dict.set_metadata(state.remove("_metadata"));
    }
    Ok(Value::Dict(dict))
}

fn builtin(mut made: Made) -> Result<Value> {
    match (made.class.name.as_str(), made.args.as_slice()) {
        (
            name @ ("set" | "frozenset"),
            [] | [Value::List(_) | Value::Tuple(_) | Value::Set(_) | Value::FrozenSet(_)],
        ) => {
            let kind = if name == "set" { Value::Set } else { Value::FrozenSet };
            let mut items = match made.take(0) {
                Value::List(items) | Value::Tuple(items) | Value::Set(items) | Value::FrozenSet(items) => items,
                _ => Vec::new(),
            };
            items.append(&mut made.items);
            Ok(kind(items))
        }
        ("list", [] | [Value::List(_) | Value::Tuple(_)]) => match made.take(0) {
            Value::List(mut items) | Value::Tuple(mut items) => {
                items.append(&mut made.items);
                Ok(Value::List(items))
            }
            _ => Ok(Value::List(made.items)),
        },
        ("tuple", [] | [Value::List(_) | Value::Tuple(_)]) => match made.take(0) {
            Value::List(items) | Value::Tuple(items) => Ok(Value::Tuple(items)),
            _ => Ok(Value::Tuple(Vec::new())),
        },
        ("dict", [] | [Value::Dict(_)]) => {
            let mut dict = match made.take(0) {
                Value::Dict(dict) => dict,
                _ => StateDict::new(),
            };
            for (key, value) in made.entries {
                dict.insert(key, value);
            }
            Ok(Value::Dict(dict))
        }
        ("bytes", []) => Ok(Value::Bytes(Vec::new())),
        ("bytes", [Value::Bytes(bytes) | Value::ByteArray(bytes)]) => Ok(Value::Bytes(bytes.clone())),
        ("bytearray", []) => Ok(Value::ByteArray(Vec::new())),
        ("bytearray", [Value::Bytes(bytes) | Value::ByteArray(bytes)]) => Ok(Value::ByteArray(bytes.clone())),
        ("bytearray", [Value::Str(text), Value::Str(encoding)]) => {
            latin1(text, encoding).map(Value::ByteArray).ok_or_else(|| made.wrong("text in Latin-1"))
        }
        ("complex", [re, im]) => match (re.as_float(), im.as_float()) {
            (Some(re), Some(im)) => Ok(Value::Complex(re, im)),
            _ => Err(made.wrong("two numbers")),
        },
        _ => Ok(made.object()),
    }
}

/// Bytes as protocol 2 of Python 3 writes them: text in Latin-1, to be encoded.
fn encoded(made: Made) -> Result<Value> {
    let bytes = match made.args.as_slice() {
        [Value::Str(text), Value::Str(encoding)] => latin1(text, encoding),
        [Value::Str(text)] => Some(text.as_bytes().to_vec()),
        _ => None,
    };
    bytes.map(Value::Bytes).ok_or_else(|| made.wrong("text and an encoding"))
}

fn latin1(text: &str, encoding: &str) -> Option<Vec<u8>> {
    match encoding {
        "latin1" | "latin-1" | "iso-8859-1" => text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect(),
        "utf-8" | "utf8" => Some(text.as_bytes().to_vec()),
        _ => None,
    }
}

/// Protocols 0 and 1 make instances through functions of `copyreg`: the class is the first argument.
fn reconstructed(mut made: Made, globals: &mut Globals) -> Result<Value> {
    let Value::Global(class) = made.take(0) else { return Ok(made.object()) };
    let args = match made.class.name.as_str() {
        "__newobj__" => made.args.split_off(1),
        "__newobj_ex__" => match made.take(1) {
            Value::Tuple(args) => args,
            _ => return Err(made.wrong("a class, a tuple and a dictionary")),
        },
        // _reconstructor(class, base, the base's own value): what later protocols say of such an instance.
        _ => match made.take(2) {
            Value::None => Vec::new(),
            Value::Tuple(items) => items,
            Value::List(mut items) => {
                items.append(&mut made.items);
                made.items = items;
                Vec::new()
            }
            Value::Dict(entries) => {
                for (key, value) in std::mem::replace(&mut made.entries, entries) {
                    made.entries.insert(key, value);
                }
                Vec::new()
            }
            base => vec![base],
        },
    };
    call(Made { class, args, state: made.state, items: made.items, entries: made.entries }, globals)
}

fn device(made: Made) -> Result<Value> {
    match made.args.as_slice() {
        [Value::Str(kind)] => Ok(Value::Device(kind.clone())),
        [Value::Str(kind), Value::None] => Ok(Value::Device(kind.clone())),
        [Value::Str(kind), Value::Int(index)] => Ok(Value::Device(format!("{kind}:{index}"))),
        _ => Err(made.wrong("a kind and an index")),
    }
}

/// A tensor subclass or a tensor with attributes: (function, class, its arguments, attributes).
fn from_type(mut made: Made, globals: &mut Globals) -> Result<Value> {
    let (Value::Global(function), Value::Tuple(args)) = (made.take(0), made.take(2)) else {
        return Err(made.wrong("a function, a class, a tuple and attributes"));
    };
    let class = made.take(1);
    let state = made.take(3);
    if function.name == "_rebuild_wrapper_subclass"
        && let Value::Global(class) = &class
        && let Some(tensor) = dtensor::whole(class, &args, &state)
    {
        return Ok(Value::Tensor(tensor));
    }
    let value =
        call(Made { class: function, args, state: None, items: Vec::new(), entries: StateDict::new() }, globals)?;
    match (value, class) {
        (Value::Tensor(mut tensor), Value::Global(class)) => {
            tensor.parameter |= class.name == "Parameter";
            Ok(Value::Tensor(tensor))
        }
        (value, Value::Global(class)) => {
            Ok(Made { class, args: vec![value], state: Some(state), items: Vec::new(), entries: StateDict::new() }
                .object())
        }
        (value, _) => Ok(value),
    }
}

/// A dictionary of attributes from a state that `BUILD` set: plain, or with slots beside it.
pub(crate) fn attributes(state: &Value) -> Vec<(&Key, &Value)> {
    match state {
        Value::Dict(dict) => dict.iter().collect(),
        Value::Tuple(parts)
            if parts.len() == 2 && parts.iter().all(|part| matches!(part, Value::Dict(_) | Value::None)) =>
        {
            parts.iter().filter_map(Value::as_dict).flat_map(StateDict::iter).collect()
        }
        _ => Vec::new(),
    }
}
