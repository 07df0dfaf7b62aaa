//! Arithmetic and comparisons of numbers, text and lists.

use super::eval::{Eval, MAX_LIST, plain_number};
use super::value::{Item, Num};
use crate::lower::{Float, Int, Value};
use crate::{Error, Result, sizes};

impl Eval<'_> {
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

    /// Arithmetic and comparisons of numbers, text and lists.
    pub(super) fn arithmetic(
        &mut self,
        name: &str,
        arguments: &[Item],
        named: &[(String, Item)],
    ) -> Result<Option<Item>> {
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
        if matches!(name, "eq" | "ne")
            && !matches!(a, Item::Plain(Value::OpenBool(_) | Value::Int(_) | Value::Float(_)))
        {
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
        match (a, b) {
            (Item::Plain(a), Item::Plain(b)) => {
                sizes::python(&mut self.l, name, &[a, b]).map(|value| Some(Item::Plain(value)))
            }
            (a, b) => Err(Error::invalid(format!("{} compared with {}", a.kind(), b.kind()))),
        }
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
            Item::Plain(Value::Float(Float::Open(value))) if self.l.is_supposed(value) => None,
            Item::Plain(Value::Float(Float::Open(value))) => {
                let fact = self.l.fact(value)?;
                fact.probes.iter().map(|probe| probe.data.as_ref()?.float().ok()).collect()
            }
            Item::Plain(Value::Bool(bool)) => Some(vec![f64::from(u8::from(*bool)); self.l.probes()]),
            _ => None,
        }
    }
}
