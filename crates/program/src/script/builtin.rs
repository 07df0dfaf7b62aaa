//! Functions of Python and of `prim` in TorchScript.

use rekindle_onnx::DType;

use super::eval::{Eval, MAX_LIST, plain_number};
use super::host::script_number;
use super::value::{Item, Num};
use crate::lower::{Float, Int, Value};
use crate::{Error, Result, sizes};

impl Eval<'_> {
    /// Functions of Python: `int(x)`, `range(n)` ….
    pub(super) fn builtin(&mut self, name: &str, arguments: Vec<Item>) -> Result<Item> {
        let first = arguments.first().cloned().unwrap_or_else(Item::none);
        match name {
            "int" => match plain_number(first) {
                Item::Plain(Value::Tensor(tensor)) => self.read(tensor, true),
                Item::Plain(Value::Bool(bool)) => Ok(Item::int(i64::from(bool))),
                Item::Plain(value @ Value::Int(_)) => Ok(Item::Plain(value)),
                Item::Plain(value @ Value::Float(_)) => sizes::python(&mut self.l, "trunc", &[value]).map(Item::Plain),
                Item::Plain(Value::Str(text)) => {
                    text.trim().parse().map(Item::int).map_err(|_| Error::invalid(format!("int(\"{text}\")")))
                }
                other => Err(Error::invalid(format!("int of {}", other.kind()))),
            },
            "float" => match plain_number(first) {
                Item::Plain(Value::Tensor(tensor)) => self.read(tensor, false),
                Item::Plain(Value::Str(text)) => match text.trim().parse::<f64>() {
                    Ok(float) => Ok(Item::Plain(Value::Float(Float::Known(float)))),
                    Err(_) => Err(Error::invalid(format!("float(\"{text}\")"))),
                },
                Item::Plain(value) => sizes::python(&mut self.l, "sym_float", &[value]).map(Item::Plain),
                other => Err(Error::invalid(format!("float of {}", other.kind()))),
            },
            "bool" => match self.on_data(&first)? {
                Some(value) => Ok(Item::Plain(Value::OpenBool(value))),
                None => self.truth(&plain_number(first)).map(Item::bool),
            },
            "str" => Ok(Item::text(self.shown(&first))),
            "range" => {
                let mut bounds = Vec::new();
                for argument in &arguments {
                    let int = argument.as_int().ok_or_else(|| Error::invalid("range of no integer"))?;
                    bounds.push(self.agreed(&int).ok_or_else(|| Error::beyond("a loop over an open size"))?);
                }
                let (start, end, step) = match bounds[..] {
                    [end] => (0, end, 1),
                    [start, end] => (start, end, 1),
                    [start, end, step] if step != 0 => (start, end, step),
                    _ => return Err(Error::invalid("a range takes one to three numbers")),
                };
                let span = if step > 0 { end.saturating_sub(start) } else { start.saturating_sub(end) };
                if span > 0 && span as u64 / step.unsigned_abs() > MAX_LIST as u64 {
                    return Err(Error::invalid(format!("a loop of more than {MAX_LIST} turns")));
                }
                let mut values = Vec::new();
                let mut at = start;
                while step > 0 && at < end || step < 0 && at > end {
                    values.push(Item::int(at));
                    at = at.saturating_add(step);
                }
                Ok(Item::list(values))
            }
            "getattr" => match arguments.as_slice() {
                [object, Item::Plain(Value::Str(name))] => self.attribute(object, name),
                _ => Err(Error::invalid("getattr takes an object and a name")),
            },
            "print" => Ok(Item::none()),
            "len" => self.aten("len", arguments, Vec::new()),
            other => Err(Error::beyond(format!("the function '{other}'"))),
        }
    }

    /// A number out of a tensor: known for a constant, else one that follows from data.
    pub(super) fn read(&mut self, tensor: usize, int: bool) -> Result<Item> {
        if let Some(known) = self.constant_number(tensor) {
            return Ok(match (plain_number(Item::Number(known)), int) {
                (Item::Plain(value @ Value::Float(_)), true) => {
                    Item::Plain(sizes::python(&mut self.l, "trunc", &[value])?)
                }
                (Item::Plain(value), false) => Item::Plain(sizes::python(&mut self.l, "sym_float", &[value])?),
                (value, _) => value,
            });
        }
        let item = self.aten("item", vec![Item::Plain(Value::Tensor(tensor))], Vec::new())?;
        match (item, int) {
            (Item::Plain(value @ Value::Float(_)), true) => {
                sizes::python(&mut self.l, "trunc", &[value]).map(Item::Plain)
            }
            (Item::Plain(value @ Value::Int(_)), false) => {
                sizes::python(&mut self.l, "sym_float", &[value]).map(Item::Plain)
            }
            (item, _) => Ok(item),
        }
    }

    /// The number that a constant tensor of one element holds.
    pub(super) fn constant_number(&mut self, tensor: usize) -> Option<Num> {
        if self.l.state(tensor).version > 0 {
            return None;
        }
        let dtype = self.l.dtype(tensor);
        let value = self.l.value(tensor).ok()?;
        if self.l.is_supposed(&value) {
            return None;
        }
        let fact = self.l.fact(&value)?;
        let mut numbers = Vec::new();
        for probe in &fact.probes {
            numbers.push(probe.data.clone()?);
        }
        let first = numbers.first()?;
        if first.len() != 1 || !numbers.iter().all(|number| number == first) {
            return None;
        }
        if dtype.is_int() {
            let int = i64::try_from(*first.ints().ok()?.first()?).ok()?;
            return Some(Num::Int(Int::Known(int)));
        }
        let float = dtype.is_float().then(|| first.floats().ok()?.first().copied()).flatten();
        float.map(|float| Num::Float(Float::Known(float)))
    }

    pub(super) fn shown(&self, value: &Item) -> String {
        match value {
            Item::Plain(Value::Str(text)) => text.clone(),
            Item::Plain(Value::Int(Int::Known(int))) => int.to_string(),
            Item::Plain(Value::Float(Float::Known(float))) => format!("{float:?}"),
            Item::Plain(Value::Bool(bool)) => if *bool { "True" } else { "False" }.to_string(),
            Item::Plain(Value::None) => "None".to_string(),
            Item::List(_) | Item::Tuple(..) => {
                let shown: Vec<_> =
                    value.elements().unwrap_or_default().iter().map(|value| self.shown(value)).collect();
                format!("[{}]", shown.join(", "))
            }
            other => format!("<{}>", other.kind()),
        }
    }

    /// `ops.prim.…`
    pub(super) fn prim(&mut self, name: &str, arguments: Vec<Item>) -> Result<Item> {
        let first = arguments.first().cloned().unwrap_or_else(Item::none);
        Ok(match name {
            "NumToTensor" => match first {
                Item::Plain(Value::Int(int)) => Item::Number(Num::Int(int)),
                Item::Plain(Value::Float(float)) => Item::Number(Num::Float(float)),
                other => other,
            },
            "RaiseException" => {
                self.raised = true;
                return Err(Error::invalid(format!("the program refuses its input: {}", self.shown(&first))));
            }
            "dtype" => Item::int(script_number(self.dtype_of(&first)?)?),
            "device" => Item::Plain(Value::Other),
            // Of a device: everything is where the graph runs.
            "type" => Item::text("cpu"),
            "layout" => Item::int(0),
            "requires_grad" => Item::bool(true),
            "data" => first,
            "shape" => self.aten("size", vec![first], Vec::new())?,
            "is_cuda" | "is_nested" | "is_sparse" | "is_quantized" | "is_mkldnn" | "is_mps" | "is_meta" | "is_xpu"
            | "is_vulkan" | "is_ipu" | "is_xla" | "is_maia" | "is_hpu" | "is_mtia" | "is_ort" => Item::bool(false),
            "min" | "max" => {
                let all = if let [only] = arguments.as_slice() { only.elements()? } else { arguments };
                let mut all = all.into_iter();
                let mut best = all.next().ok_or_else(|| Error::invalid("the least of nothing"))?;
                for other in all {
                    best = self.number_op(name, &best, &other)?;
                }
                best
            }
            "abs" => match first {
                Item::Plain(Value::Int(Int::Known(int))) => Item::int(int.saturating_abs()),
                Item::Plain(Value::Float(Float::Known(float))) => Item::Plain(Value::Float(Float::Known(float.abs()))),
                other => self.aten("abs", vec![other], Vec::new())?,
            },
            "TupleIndex" => match arguments.as_slice() {
                [tuple, at] => {
                    let values = tuple.elements()?;
                    values[super::eval::place_of(at.known()?, values.len())?].clone()
                }
                _ => return Err(Error::invalid("an index takes a tuple and a number")),
            },
            "unchecked_unwrap_optional" => first,
            other => return Err(Error::beyond(format!("the operator prim.{other}"))),
        })
    }

    pub(super) fn dtype_of(&mut self, value: &Item) -> Result<DType> {
        match value {
            Item::Plain(Value::Tensor(tensor)) => Ok(self.l.dtype(*tensor)),
            Item::Number(Num::Int(_)) => Ok(DType::I64),
            Item::Number(Num::Float(_)) => Ok(DType::F32),
            other => Err(Error::invalid(format!("the element type of {}", other.kind()))),
        }
    }

    pub(super) fn formatted(&self, arguments: &[Item]) -> String {
        let Some((Item::Plain(Value::Str(template)), values)) = arguments.split_first() else { return String::new() };
        let mut parts = template.split("{}");
        let mut text = parts.next().unwrap_or_default().to_string();
        let mut values = values.iter();
        for part in parts {
            text.push_str(&values.next().map_or_else(|| "{}".to_string(), |value| self.shown(value)));
            text.push_str(part);
        }
        text
    }
}
