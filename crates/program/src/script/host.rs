//! What TorchScript does to numbers, lists, text and attributes of tensors: all of it is known while the program is
//! lowered.

use std::rc::Rc;

use rekindle_onnx::DType;

use super::eval::{Eval, MAX_LIST, plain_number, sliced};
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
            "bool" => self.truth(&plain_number(first)).map(Item::bool),
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
    fn read(&mut self, tensor: usize, int: bool) -> Result<Item> {
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

    /// The number that a constant tensor without axes holds.
    pub(super) fn constant_number(&mut self, tensor: usize) -> Option<Num> {
        if self.l.rank(tensor) != 0 || self.l.state(tensor).version > 0 {
            return None;
        }
        let dtype = self.l.dtype(tensor);
        let value = self.l.value(tensor).ok()?;
        let fact = self.l.fact(&value)?;
        let mut numbers = Vec::new();
        for probe in &fact.probes {
            numbers.push(probe.data.clone()?);
        }
        let first = numbers.first()?;
        if !numbers.iter().all(|number| number == first) {
            return None;
        }
        if dtype.is_int() {
            return first.int().ok().map(|int| Num::Int(Int::Known(int)));
        }
        if dtype.is_float() { first.float().ok().map(|float| Num::Float(Float::Known(float))) } else { None }
    }

    fn shown(&self, value: &Item) -> String {
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
                return Err(Error::invalid(format!("the program refuses its input: {}", self.shown(&first))));
            }
            "dtype" => Item::int(script_number(self.dtype_of(&first)?)?),
            "device" | "type" => Item::Plain(Value::Other),
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

    fn dtype_of(&mut self, value: &Item) -> Result<DType> {
        match value {
            Item::Plain(Value::Tensor(tensor)) => Ok(self.l.dtype(*tensor)),
            Item::Number(Num::Int(_)) => Ok(DType::I64),
            Item::Number(Num::Float(_)) => Ok(DType::F32),
            other => Err(Error::invalid(format!("the element type of {}", other.kind()))),
        }
    }

    /// An operation on two numbers, in or out of the form of a tensor.
    pub(super) fn number_op(&mut self, name: &str, a: &Item, b: &Item) -> Result<Item> {
        let number = |item: &Item| match plain_number(item.clone()) {
            Item::Plain(value) => Ok(value),
            other => Err(Error::invalid(format!("{} is no number", other.kind()))),
        };
        let (x, y) = (number(a)?, number(b)?);
        let result = sizes::python(&mut self.l, name, &[x, y])?;
        Ok(match result {
            Value::Int(int) if matches!(a, Item::Number(_)) || matches!(b, Item::Number(_)) => {
                Item::Number(Num::Int(int))
            }
            Value::Float(float) if matches!(a, Item::Number(_)) || matches!(b, Item::Number(_)) => {
                Item::Number(Num::Float(float))
            }
            other => Item::Plain(other),
        })
    }

    /// Operators on what is no tensor, or on the sizes of one; `None` for those that are the graph's.
    pub(super) fn host(&mut self, name: &str, arguments: &[Item], named: &[(String, Item)]) -> Result<Option<Item>> {
        let first = arguments.first().cloned().unwrap_or_else(Item::none);
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
            "__not__" => Item::bool(!self.truth(&first)?),
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

    fn formatted(&self, arguments: &[Item]) -> String {
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

    /// Methods of lists and dictionaries.
    fn container(&mut self, name: &str, arguments: &[Item]) -> Result<Item> {
        let (first, rest) = arguments.split_first().ok_or_else(|| Error::invalid(format!("{name} of nothing")))?;
        let full = || Error::invalid(format!("a list of more than {MAX_LIST} elements"));
        match (name, first, rest) {
            ("append", Item::List(values), [value]) => {
                if values.borrow().len() >= MAX_LIST {
                    return Err(full());
                }
                values.borrow_mut().push(value.clone());
                Ok(first.clone())
            }
            ("extend", Item::List(values), [more]) => {
                let more = more.elements()?;
                if values.borrow().len() + more.len() > MAX_LIST {
                    return Err(full());
                }
                values.borrow_mut().extend(more);
                Ok(Item::none())
            }
            ("insert", Item::List(values), [at, value]) => {
                let mut values = values.borrow_mut();
                let len = values.len() as i64;
                let at = at.known()?;
                let at = (if at < 0 { at + len } else { at }).clamp(0, len) as usize;
                values.insert(at, value.clone());
                Ok(Item::none())
            }
            ("pop", Item::List(values), at) => {
                let mut values = values.borrow_mut();
                let at = at.first().map_or(Ok(-1), Item::known)?;
                let at = super::eval::place_of(at, values.len())?;
                Ok(values.remove(at))
            }
            ("clear", Item::List(values), _) => {
                values.borrow_mut().clear();
                Ok(Item::none())
            }
            ("reverse", Item::List(values), _) => {
                values.borrow_mut().reverse();
                Ok(Item::none())
            }
            ("list" | "copy", Item::List(_) | Item::Tuple(..), _) => Ok(Item::list(first.elements()?)),
            ("list", Item::Plain(Value::Str(text)), _) => {
                Ok(Item::list(text.chars().map(|letter| Item::text(letter.to_string())).collect()))
            }
            ("copy", Item::Dict(entries), _) => {
                Ok(Item::Dict(Rc::new(std::cell::RefCell::new(entries.borrow().clone()))))
            }
            ("keys", Item::Dict(entries), _) => {
                Ok(Item::list(entries.borrow().iter().map(|(key, _)| key.clone()).collect()))
            }
            ("values", Item::Dict(entries), _) => {
                Ok(Item::list(entries.borrow().iter().map(|(_, value)| value.clone()).collect()))
            }
            ("items", Item::Dict(entries), _) => {
                let pairs = entries.borrow();
                Ok(Item::list(pairs.iter().map(|(key, value)| Item::tuple(vec![key.clone(), value.clone()])).collect()))
            }
            ("get", Item::Dict(entries), [key, other @ ..]) => {
                let found =
                    entries.borrow().iter().find(|(own, _)| own.equals(key) == Some(true)).map(|(_, v)| v.clone());
                Ok(found.or_else(|| other.first().cloned()).unwrap_or_else(Item::none))
            }
            ("update", Item::Dict(_), [Item::Dict(more)]) => {
                let more = more.borrow().clone();
                for (key, value) in more {
                    self.put(first, &key, value)?;
                }
                Ok(Item::none())
            }
            ("_set_item", _, [key, value]) => {
                self.put(first, key, value.clone())?;
                Ok(first.clone())
            }
            ("__getitem__", Item::List(values), [at]) => {
                let values = values.borrow();
                Ok(values[super::eval::place_of(at.known()?, values.len())?].clone())
            }
            _ => Err(Error::beyond(format!("{name} of {}", first.kind()))),
        }
    }

    /// Arithmetic and comparisons of numbers, text and lists.
    fn arithmetic(&mut self, name: &str, arguments: &[Item], named: &[(String, Item)]) -> Result<Option<Item>> {
        let number = |item: &Item| {
            matches!(item, Item::Plain(Value::Int(_) | Value::Float(_) | Value::Bool(_)) | Item::Number(_))
        };
        let [a, rest @ ..] = arguments else { return Ok(None) };
        if rest.is_empty() || !number(&rest[0]) && number(a) && !self.is_constant(&rest[0]) {
            return self.single(name, a, rest);
        }
        let b = &rest[0];
        let in_trace = matches!(a, Item::Number(_)) || matches!(b, Item::Number(_));
        let (mut a, mut b) = (a.clone(), b.clone());
        // Next to a number of a trace, a constant without axes is a number too.
        if in_trace {
            for side in [&mut a, &mut b] {
                if let Item::Plain(Value::Tensor(tensor)) = side
                    && let Some(number) = self.constant_number(*tensor)
                {
                    *side = Item::Number(number);
                }
            }
        }
        let operator = match name {
            "add" | "sub" | "mul" | "pow" => name,
            "rsub" => {
                std::mem::swap(&mut a, &mut b);
                "sub"
            }
            "floordiv" | "floor_divide" => "floordiv",
            "remainder" | "fmod" => "mod",
            "div" | "truediv" => {
                let mode = named.iter().find(|(name, _)| name == "rounding_mode").map(|(_, mode)| mode);
                match mode {
                    Some(Item::Plain(Value::Str(_))) if in_trace => "floordiv",
                    _ => "truediv",
                }
            }
            "eq" | "ne" | "lt" | "le" | "gt" | "ge" => return self.compared(name, &a, &b),
            _ => return Ok(None),
        };
        if number(&a) && number(&b) {
            if operator == "mul" || operator == "add" || operator == "sub" {
                // alpha of a traced sum of numbers is one.
                if named.iter().any(|(name, value)| name == "alpha" && value.equals(&Item::int(1)) != Some(true)) {
                    return Ok(None);
                }
            }
            return self.number_op(operator, &a, &b).map(Some);
        }
        match (operator, &a, &b) {
            ("add", Item::List(x), Item::List(y)) => {
                let mut all = x.borrow().clone();
                all.extend(y.borrow().iter().cloned());
                if all.len() > MAX_LIST {
                    return Err(Error::invalid(format!("a list of more than {MAX_LIST} elements")));
                }
                Ok(Some(Item::list(all)))
            }
            ("add", Item::Plain(Value::Str(x)), Item::Plain(Value::Str(y))) => Ok(Some(Item::text(format!("{x}{y}")))),
            ("mul", Item::List(values), times) | ("mul", times, Item::List(values)) => {
                let times = times.known()?.max(0) as usize;
                let values = values.borrow();
                if values.len().saturating_mul(times) > MAX_LIST {
                    return Err(Error::invalid(format!("a list of more than {MAX_LIST} elements")));
                }
                let all = (0..times).flat_map(|_| values.iter().cloned()).collect();
                Ok(Some(Item::list(all)))
            }
            _ => Ok(None),
        }
    }

    fn is_constant(&mut self, item: &Item) -> bool {
        matches!(item, Item::Plain(Value::Tensor(tensor)) if self.constant_number(*tensor).is_some())
    }

    /// Functions of one number.
    fn single(&mut self, name: &str, a: &Item, rest: &[Item]) -> Result<Option<Item>> {
        if !rest.is_empty() {
            return Ok(None);
        }
        let python = match name {
            "floor" | "ceil" | "neg" => name,
            "sqrt" => "pow",
            _ => return Ok(None),
        };
        match a {
            Item::Plain(value @ (Value::Int(_) | Value::Float(_))) => {
                let value = value.clone();
                let arguments = if name == "sqrt" {
                    vec![sizes::python(&mut self.l, "sym_float", &[value])?, Value::Float(Float::Known(0.5))]
                } else {
                    vec![value]
                };
                sizes::python(&mut self.l, python, &arguments).map(|value| Some(Item::Plain(value)))
            }
            Item::Number(_) => {
                let result = self.single(name, &plain_number(a.clone()), rest)?;
                Ok(result.map(|item| match item {
                    Item::Plain(Value::Int(int)) => Item::Number(Num::Int(int)),
                    Item::Plain(Value::Float(float)) => Item::Number(Num::Float(float)),
                    other => other,
                }))
            }
            _ => Ok(None),
        }
    }

    fn compared(&mut self, name: &str, a: &Item, b: &Item) -> Result<Option<Item>> {
        if matches!(a, Item::Plain(Value::Tensor(_))) || matches!(b, Item::Plain(Value::Tensor(_))) {
            return Ok(None);
        }
        let (a, b) = (plain_number(a.clone()), plain_number(b.clone()));
        if let (Some(x), Some(y)) = (self.number_hints(&a), self.number_hints(&b)) {
            let mut answers = x.iter().zip(&y).map(|(x, y)| match name {
                "eq" => x == y,
                "ne" => x != y,
                "lt" => x < y,
                "le" => x <= y,
                "gt" => x > y,
                _ => x >= y,
            });
            let first = answers.next().unwrap_or(false);
            if !answers.all(|answer| answer == first) {
                return Err(Error::beyond("a branch on an open size"));
            }
            return Ok(Some(Item::bool(first)));
        }
        if matches!(name, "eq" | "ne") && !matches!(a, Item::Plain(Value::OpenBool | Value::Int(_) | Value::Float(_))) {
            let equal = match (&a, &b) {
                // Lists of sizes: compared number by number.
                (Item::List(x), Item::List(y)) => {
                    let (x, y) = (x.borrow().clone(), y.borrow().clone());
                    let mut equal = x.len() == y.len();
                    for (x, y) in x.iter().zip(&y) {
                        equal = equal && matches!(self.compared("eq", x, y)?, Some(Item::Plain(Value::Bool(true))));
                    }
                    Some(equal)
                }
                (a, b) => a.equals(b),
            };
            let equal = equal.ok_or_else(|| Error::beyond("a comparison that is not known"))?;
            return Ok(Some(Item::bool(equal == (name == "eq"))));
        }
        if let (Item::Plain(Value::Str(x)), Item::Plain(Value::Str(y))) = (&a, &b) {
            return Ok(Some(Item::bool(match name {
                "lt" => x < y,
                "le" => x <= y,
                "gt" => x > y,
                _ => x >= y,
            })));
        }
        // A number that was read from data: whatever it decides is refused there.
        Ok(Some(Item::Plain(Value::OpenBool)))
    }

    /// What a number is in each example.
    fn number_hints(&mut self, item: &Item) -> Option<Vec<f64>> {
        match item {
            Item::Plain(Value::Int(int)) => {
                if let Int::Open(_) = int {
                    self.guarded = true;
                }
                Some(self.l.hints(int)?.into_iter().map(|int| int as f64).collect())
            }
            Item::Plain(Value::Float(Float::Known(float))) => Some(vec![*float; self.l.probes()]),
            Item::Plain(Value::Float(Float::Open(value))) => {
                let fact = self.l.fact(value)?;
                fact.probes.iter().map(|probe| probe.data.as_ref()?.float().ok()).collect()
            }
            Item::Plain(Value::Bool(bool)) => Some(vec![f64::from(u8::from(*bool)); self.l.probes()]),
            _ => None,
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
