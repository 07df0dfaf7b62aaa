//! What TorchScript does to numbers, lists, text and attributes of tensors: all of it is known while the program is
//! lowered.

use rekindle_onnx::DType;

use super::eval::{Eval, plain_number, sliced};
use super::value::Item;
use crate::lower::{Int, Value};
use crate::{Error, Result, sizes};

impl Eval<'_> {
    /// Operators on what is no tensor, or on the sizes of one; `None` for those that are the graph's.
    pub(super) fn host(&mut self, name: &str, arguments: &[Item], named: &[(String, Item)]) -> Result<Option<Item>> {
        let first = arguments.first().cloned().unwrap_or_else(Item::none);
        if let Item::Plain(Value::Complex(re, _)) = first {
            let mut own = arguments.to_vec();
            own[0] = Item::Plain(Value::Tensor(re));
            return match name {
                "is_complex" => Ok(Some(Item::bool(true))),
                "is_floating_point" => Ok(Some(Item::bool(false))),
                "size" | "dim" | "numel" | "len" | "device" => self.host(name, &own, named),
                _ => Ok(None),
            };
        }
        let is_tensor = matches!(first, Item::Plain(Value::Tensor(_)));
        let second = arguments.get(1);
        Ok(Some(match name {
            "size" => self.size(&first, second)?,
            "dim" => match first {
                Item::Plain(Value::Tensor(tensor)) => Item::int(self.l.rank(tensor) as i64),
                _ => Item::int(0),
            },
            "numel" => match first {
                Item::Plain(Value::Tensor(tensor)) => {
                    let mut total = Int::Known(1);
                    for axis in 0..self.l.rank(tensor) {
                        let size = self.l.size_int(tensor, axis)?;
                        total = self.l.int_op("mul", &total, &size)?;
                    }
                    Item::Plain(Value::Int(total))
                }
                _ => Item::int(1),
            },
            "len" => match &first {
                Item::Plain(Value::Tensor(tensor)) => Item::Plain(Value::Int(self.l.size_int(*tensor, 0)?)),
                Item::Plain(Value::Str(text)) => Item::int(text.chars().count() as i64),
                Item::Dict(entries) => Item::int(entries.borrow().len() as i64),
                other => Item::int(other.elements()?.len() as i64),
            },
            "append" | "extend" | "insert" | "pop" | "clear" | "reverse" | "list" | "copy" | "keys" | "values"
            | "items" | "_set_item" | "__getitem__" | "get" | "update" | "Delete" | "remove"
                if !is_tensor =>
            {
                return self.container(name, arguments).map(Some);
            }
            "list" => return Ok(None),
            "__is__" | "__isnot__" => {
                let same = match (&first, second) {
                    (a, Some(b)) if a.is_none() || b.is_none() => a.is_none() && b.is_none(),
                    (Item::Plain(Value::Tensor(a)), Some(Item::Plain(Value::Tensor(b)))) => a == b,
                    (a, Some(b)) => a.equals(b).ok_or_else(|| Error::beyond("an identity that is not known"))?,
                    _ => return Err(Error::invalid("is takes two values")),
                };
                Item::bool(same == (name == "__is__"))
            }
            "__contains__" => {
                let key = second.ok_or_else(|| Error::invalid("in takes two values"))?;
                match &first {
                    Item::Dict(entries) => {
                        Item::bool(entries.borrow().iter().any(|(own, _)| own.equals(key) == Some(true)))
                    }
                    Item::Plain(Value::Str(text)) => {
                        let Item::Plain(Value::Str(part)) = key else { return Err(Error::invalid("in of no text")) };
                        Item::bool(text.contains(part.as_str()))
                    }
                    other => Item::bool(other.elements()?.iter().any(|own| own.equals(key) == Some(true))),
                }
            }
            "__not__" => match self.on_data(&first)? {
                Some(value) => Item::Plain(sizes::python(&mut self.l, "not_", &[Value::OpenBool(value)])?),
                None => Item::bool(!self.truth(&first)?),
            },
            "__and__" | "__or__" | "__xor__" if !is_tensor => {
                let second = second.ok_or_else(|| Error::invalid("two values are expected"))?;
                if let (Item::Plain(Value::Int(Int::Known(a))), Item::Plain(Value::Int(Int::Known(b)))) =
                    (&first, second)
                {
                    return Ok(Some(Item::int(match name {
                        "__and__" => a & b,
                        "__or__" => a | b,
                        _ => a ^ b,
                    })));
                }
                let on_data = self.on_data(&first)?.is_some() || self.on_data(second)?.is_some();
                if let (true, Item::Plain(a), Item::Plain(b)) = (on_data && name != "__xor__", &first, second) {
                    let operator = if name == "__and__" { "and_" } else { "or_" };
                    let result = sizes::python(&mut self.l, operator, &[a.clone(), b.clone()])?;
                    return Ok(Some(Item::Plain(result)));
                }
                let (a, b) = (self.truth(&first)?, self.truth(second)?);
                Item::bool(match name {
                    "__and__" => a && b,
                    "__or__" => a || b,
                    _ => a != b,
                })
            }
            "format" => Item::text(self.formatted(arguments)),
            "join" => match (&first, second) {
                (Item::Plain(Value::Str(between)), Some(all)) => {
                    let shown: Vec<_> = all.elements()?.iter().map(|value| self.shown(value)).collect();
                    Item::text(shown.join(between))
                }
                _ => return Err(Error::invalid("join takes text and a list")),
            },
            "warn"
            | "_assert"
            | "set_grad_enabled"
            | "manual_seed"
            | "_assert_async"
            | "autocast_increment_nesting"
            | "save" => Item::none(),
            // With gradients no fused path of inference is taken: the plain one comes.
            "is_grad_enabled" | "is_scripting" => Item::bool(true),
            "is_autocast_enabled"
            | "is_autocast_cpu_enabled"
            | "is_inference_mode_enabled"
            | "is_tracing"
            | "is_complex"
            | "is_inference"
            | "is_pinned"
            | "is_neg"
            | "is_conj"
            | "is_same_size_none" => Item::bool(false),
            "is_floating_point" => Item::bool(self.dtype_of(&first)?.is_float()),
            "is_contiguous" => return Err(Error::beyond("a branch on how a tensor is stored")),
            "device" | "get_device" => Item::Plain(Value::Other),
            "IntImplicit" | "FloatImplicit" | "ScalarImplicit" => {
                let int = name != "FloatImplicit";
                match plain_number(first) {
                    Item::Plain(Value::Tensor(tensor)) => self.read(tensor, int)?,
                    other => other,
                }
            }
            "item" => match first {
                Item::Number(_) => plain_number(first),
                Item::Plain(Value::Tensor(tensor)) => match self.constant_number(tensor) {
                    Some(number) => plain_number(Item::Number(number)),
                    None => return Ok(None),
                },
                other => other,
            },
            "__range_length" => {
                let [low, high, step] = self.three(arguments)?;
                let length = if step > 0 && low < high {
                    (high - low - 1) / step + 1
                } else if step < 0 && low > high {
                    (low - high - 1) / -step + 1
                } else {
                    0
                };
                Item::int(length)
            }
            "__derive_index" => {
                let [at, start, step] = self.three(arguments)?;
                Item::int(start.saturating_add(at.saturating_mul(step)))
            }
            "sum" if matches!(first, Item::List(_)) => {
                let mut total = Item::int(0);
                for value in first.elements()? {
                    total = self.number_op("add", &total, &value)?;
                }
                total
            }
            "any" | "all" if matches!(first, Item::List(_)) => {
                let mut found = name == "all";
                for value in first.elements()? {
                    let value = self.truth(&value)?;
                    found = if name == "all" { found && value } else { found || value };
                }
                Item::bool(found)
            }
            "slice" if matches!(first, Item::List(_) | Item::Plain(Value::Str(_))) => {
                let at = |at: usize| match arguments.get(at) {
                    Some(item) if !item.is_none() => item.known().map(Some),
                    _ => Ok(None),
                };
                match &first {
                    Item::Plain(Value::Str(text)) => {
                        let letters: Vec<Item> = text.chars().map(|letter| Item::text(letter.to_string())).collect();
                        let part = sliced(&letters, at(1)?, at(2)?, at(3)?.unwrap_or(1))?;
                        Item::text(part.iter().map(|letter| self.shown(letter)).collect::<String>())
                    }
                    list => Item::list(sliced(&list.elements()?, at(1)?, at(2)?, at(3)?.unwrap_or(1))?),
                }
            }
            _ => return self.arithmetic(name, arguments, named),
        }))
    }

    fn three(&mut self, arguments: &[Item]) -> Result<[i64; 3]> {
        let mut numbers = [0; 3];
        for (number, argument) in numbers.iter_mut().zip(arguments) {
            let int = argument.as_int().ok_or_else(|| Error::invalid("an integer is expected"))?;
            *number = self.agreed(&int).ok_or_else(|| Error::beyond("a loop over an open size"))?;
        }
        Ok(numbers)
    }

    fn size(&mut self, value: &Item, axis: Option<&Item>) -> Result<Item> {
        let Item::Plain(Value::Tensor(tensor)) = value else {
            return match (value, axis) {
                (Item::Number(_), None) => Ok(Item::list(Vec::new())),
                _ => Err(Error::invalid(format!("the size of {}", value.kind()))),
            };
        };
        let tensor = *tensor;
        match axis {
            Some(axis) => {
                let axis = crate::lower::axis_of(axis.known()?, self.l.rank(tensor))?;
                Ok(Item::Plain(Value::Int(self.l.size_int(tensor, axis)?)))
            }
            None => {
                let mut sizes = Vec::new();
                for axis in 0..self.l.rank(tensor) {
                    sizes.push(Item::Plain(Value::Int(self.l.size_int(tensor, axis)?)));
                }
                Ok(Item::list(sizes))
            }
        }
    }
}

/// TorchScript's number of an element type.
pub(super) fn script_number(dtype: DType) -> Result<i64> {
    Ok(match dtype {
        DType::U8 => 0,
        DType::I8 => 1,
        DType::I16 => 2,
        DType::I32 => 3,
        DType::I64 => 4,
        DType::F16 => 5,
        DType::F32 => 6,
        DType::F64 => 7,
        DType::Bool => 11,
        DType::BF16 => 15,
        other => return Err(Error::beyond(format!("the element type {other}"))),
    })
}

/// The element type of TorchScript's number.
pub(super) fn script_dtype(number: i64) -> Result<DType> {
    Ok(match number {
        0 => DType::U8,
        1 => DType::I8,
        2 => DType::I16,
        3 => DType::I32,
        4 => DType::I64,
        5 => DType::F16,
        6 => DType::F32,
        7 => DType::F64,
        11 => DType::Bool,
        15 => DType::BF16,
        other => return Err(Error::beyond(format!("element type number {other}"))),
    })
}
