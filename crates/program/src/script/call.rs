//! Calls of ATen's operators: which overload is meant follows from what its arguments are.

use rekindle_onnx::DType;

use super::eval::Eval;
use super::host::script_dtype;
use super::value::{Item, Num};
use crate::lower::{Args, Int, Value, tensor_of};
use crate::schema::{self, Argument, Kind, Schema};
use crate::{Error, Result, sizes};

impl Eval<'_> {
    /// `torch.name(…)`
    pub(super) fn aten(&mut self, name: &str, positional: Vec<Item>, named: Vec<(String, Item)>) -> Result<Item> {
        if let Some(result) = self.host(name, &positional, &named)? {
            return Ok(result);
        }
        match name {
            "to" => return self.converted(&positional, &named),
            "tensor" | "as_tensor" | "scalar_tensor" => return self.made(&positional, &named),
            "Int" | "Float" | "Bool" => return self.builtin(&name.to_lowercase(), positional),
            "broadcast_tensors" => return self.broadcast(&positional),
            _ => {}
        }
        let mut values = Vec::new();
        for item in positional {
            values.push(self.lowered(item)?);
        }
        let mut by_name = Vec::new();
        for (name, item) in named {
            by_name.push((name, self.lowered(item)?));
        }
        // A trace names the parameters of the backend that no answer depends on.
        if name == "_convolution" {
            values.truncate(9);
            return self.operator("convolution", values, by_name);
        }
        self.operator(name, values, by_name)
    }

    fn operator(&mut self, name: &str, values: Vec<Value>, named: Vec<(String, Value)>) -> Result<Item> {
        let found = schema::overloads(name).iter().find_map(|schema| bind(schema, &values, &named));
        let Some((schema, arguments)) = found else {
            let kinds: Vec<_> = values.iter().map(Value::kind).collect();
            if !crate::lower::is_known(name) {
                return Err(Error::beyond(format!("the operator aten.{name}")));
            }
            return Err(Error::beyond(format!("aten.{name} of {}", kinds.join(", "))));
        };
        let args = Args { operator: name.to_string(), overload: schema.overload.to_string(), values: arguments };
        let mut results = self.l.call(&args)?;
        for result in &results {
            if let Value::Tensor(tensor) = result {
                self.l.check_known(*tensor)?;
            }
        }
        Ok(match schema.returns {
            schema::Returns::List => match results.as_slice() {
                [Value::List(_)] => item(results.swap_remove(0)),
                _ => Item::list(results.into_iter().map(item).collect()),
            },
            schema::Returns::Tuple => Item::tuple(results.into_iter().map(item).collect()),
            schema::Returns::One if results.is_empty() => Item::none(),
            schema::Returns::One => item(results.swap_remove(0)),
        })
    }

    /// A value as an operator of the graph takes it.
    pub(super) fn lowered(&mut self, item: Item) -> Result<Value> {
        Ok(match item {
            Item::Plain(value) => value,
            Item::Number(Num::Int(int)) => {
                let value = self.l.int_value(&int)?;
                Value::Tensor(self.l.tensor(value)?)
            }
            Item::Number(Num::Float(float)) => {
                let value = self.l.scalar(&Value::Float(float), DType::F32)?;
                Value::Tensor(self.l.tensor(value)?)
            }
            Item::List(values) => {
                let values = values.borrow().clone();
                Value::List(values.into_iter().map(|value| self.lowered(value)).collect::<Result<_>>()?)
            }
            Item::Tuple(values, _) => {
                Value::List(values.iter().map(|value| self.lowered(value.clone())).collect::<Result<_>>()?)
            }
            other => return Err(Error::beyond(format!("{} as an argument of an operator", other.kind()))),
        })
    }

    /// `torch.to` in its many forms: the type that is asked for decides.
    fn converted(&mut self, positional: &[Item], named: &[(String, Item)]) -> Result<Item> {
        let (first, rest) = positional.split_first().ok_or_else(|| Error::invalid("to of nothing"))?;
        let Value::Tensor(tensor) = self.lowered(first.clone())? else {
            return Err(Error::invalid(format!("to of {}", first.kind())));
        };
        let mut dtype = None;
        let mut flags = Vec::new();
        let by_name = named.iter().filter(|(name, _)| name == "dtype" || name == "other").map(|(_, value)| value);
        for value in rest.iter().chain(by_name) {
            match value {
                Item::Plain(Value::Int(Int::Known(number))) if dtype.is_none() => dtype = Some(script_dtype(*number)?),
                Item::Plain(Value::Tensor(other)) => dtype = Some(self.l.dtype(*other)),
                Item::Plain(Value::Bool(flag)) => flags.push(*flag),
                _ => {}
            }
        }
        let copy = named
            .iter()
            .find(|(name, _)| name == "copy")
            .map(|(_, value)| value.equals(&Item::bool(true)) == Some(true));
        let copy = copy.unwrap_or(flags.get(1) == Some(&true));
        let values = vec![
            ("self".to_string(), Value::Tensor(tensor)),
            ("dtype".to_string(), dtype.map_or(Value::None, Value::DType)),
            ("copy".to_string(), Value::Bool(copy)),
        ];
        let args = Args { operator: "to".to_string(), overload: "dtype".to_string(), values };
        Ok(item(self.l.call(&args)?.swap_remove(0)))
    }

    /// `torch.tensor(data, dtype=…)`
    fn made(&mut self, positional: &[Item], named: &[(String, Item)]) -> Result<Item> {
        let data = positional.first().cloned().ok_or_else(|| Error::invalid("a tensor of nothing"))?;
        let data = self.lowered(data)?;
        let dtype = named.iter().find(|(name, _)| name == "dtype").map(|(_, value)| value.clone());
        let dtype = match dtype {
            Some(Item::Plain(Value::Int(Int::Known(number)))) => Some(script_dtype(number)?),
            _ => None,
        };
        tensor_of(&mut self.l, &data, dtype).map(Item::Plain)
    }

    fn broadcast(&mut self, positional: &[Item]) -> Result<Item> {
        let first = positional.first().ok_or_else(|| Error::invalid("nothing to broadcast"))?;
        let Value::List(values) = self.lowered(first.clone())? else {
            return Err(Error::invalid("broadcast_tensors takes a list"));
        };
        let tensors: Vec<usize> = values.iter().map(Value::tensor).collect::<Result<_>>()?;
        self.l
            .broadcast(&tensors)
            .map(|all| Item::list(all.into_iter().map(|t| Item::Plain(Value::Tensor(t))).collect()))
    }
}

fn item(value: Value) -> Item {
    match value {
        Value::List(values) => Item::list(values.into_iter().map(item).collect()),
        other => Item::Plain(other),
    }
}

/// The arguments of an overload, if they fit it.
fn bind(
    schema: &'static Schema,
    values: &[Value],
    named: &[(String, Value)],
) -> Option<(&'static Schema, Vec<(String, Value)>)> {
    let by_place = schema.arguments.iter().filter(|argument| !argument.keyword).count();
    if values.len() > by_place || named.iter().any(|(name, _)| !schema.arguments.iter().any(|own| own.name == name)) {
        return None;
    }
    let mut places = values.iter();
    let mut bound = Vec::with_capacity(schema.arguments.len());
    for argument in &schema.arguments {
        let place = if argument.keyword { None } else { places.next() };
        let given = place.or_else(|| named.iter().find(|(name, _)| name == argument.name).map(|(_, value)| value));
        let value = match given {
            Some(given) => fit(argument, given)?,
            None => sizes::default_value(argument)?,
        };
        bound.push((argument.name.to_string(), sizes::shaped(argument, value)));
    }
    Some((schema, bound))
}

/// A value as an argument takes it; `None` where it does not fit.
fn fit(argument: &Argument, value: &Value) -> Option<Value> {
    if value.is_none() {
        // Numbers that are None stand for the end of a slice in older texts.
        return argument.optional.then_some(Value::None);
    }
    if argument.list {
        return match value {
            Value::List(values) => {
                let all: Option<Vec<Value>> = values
                    .iter()
                    .map(|value| {
                        if value.is_none() && argument.kind == Kind::Tensor {
                            Some(Value::None)
                        } else {
                            one(argument, value)
                        }
                    })
                    .collect();
                all.map(Value::List)
            }
            Value::Int(_) if argument.kind == Kind::Int => Some(value.clone()),
            _ => None,
        };
    }
    one(argument, value)
}

fn one(argument: &Argument, value: &Value) -> Option<Value> {
    let fits = match (argument.kind, value) {
        (Kind::Tensor, Value::Tensor(_) | Value::Complex(..)) => true,
        (Kind::Scalar, Value::Int(_) | Value::Float(_) | Value::Bool(_)) => true,
        (Kind::Int, Value::Int(_)) => true,
        (Kind::Float, Value::Float(_) | Value::Int(_)) => true,
        (Kind::Bool, Value::Bool(_)) => true,
        (Kind::Str, Value::Str(_)) => true,
        (Kind::DType, Value::DType(_)) => true,
        // Quantized types, which tensors have as their grids.
        (Kind::DType, Value::Int(Int::Known(12))) => return Some(Value::DType(DType::I8)),
        (Kind::DType, Value::Int(Int::Known(13))) => return Some(Value::DType(DType::U8)),
        (Kind::DType, Value::Int(Int::Known(9))) => return Some(Value::ComplexType(DType::F32)),
        (Kind::DType, Value::Int(Int::Known(10))) => return Some(Value::ComplexType(DType::F64)),
        (Kind::DType, Value::Int(Int::Known(number))) => return script_dtype(*number).ok().map(Value::DType),
        (Kind::Other, Value::Other) => true,
        (Kind::Other, Value::Str(_)) => true,
        // Layouts and memory formats are numbers; a contiguous one is the default.
        (Kind::Other, Value::Int(Int::Known(number))) if matches!(argument.name, "layout" | "memory_format") => {
            return Some(if argument.name == "memory_format" && *number != 0 { Value::Other } else { Value::None });
        }
        _ => false,
    };
    fits.then(|| value.clone())
}
