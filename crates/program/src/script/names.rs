//! Attributes and calls by name.

use std::rc::Rc;

use super::code::Definition;
use super::eval::{Eval, Variables, plain_number};
use super::syntax::Expr;
use super::value::Item;
use crate::lower::Value;
use crate::{Error, Result};

/// Whether a value is of a type; nothing for types that are not told apart here.
fn is_a(value: &Item, kind: &Expr) -> Option<bool> {
    let name = match kind {
        Expr::Tuple(kinds) | Expr::List(kinds) => {
            let all: Option<Vec<bool>> = kinds.iter().map(|kind| is_a(value, kind)).collect();
            return Some(all?.contains(&true));
        }
        Expr::None => "NoneType",
        Expr::Index(base, _) => {
            let Expr::Name(name) = &**base else { return None };
            name.as_str()
        }
        Expr::Name(name) => name.as_str(),
        _ => return None,
    };
    Some(match name {
        "Tensor" => matches!(value, Item::Plain(Value::Tensor(_) | Value::Complex(..)) | Item::Number(_)),
        "int" => matches!(value, Item::Plain(Value::Int(_))),
        "float" => matches!(value, Item::Plain(Value::Float(_))),
        "bool" => matches!(value, Item::Plain(Value::Bool(_) | Value::OpenBool(_))),
        "str" => matches!(value, Item::Plain(Value::Str(_))),
        "NoneType" => value.is_none(),
        "List" => matches!(value, Item::List(_)),
        "Tuple" => matches!(value, Item::Tuple(..)),
        "Dict" => matches!(value, Item::Dict(_)),
        _ => return None,
    })
}

impl<'c> Eval<'c> {
    /// `object.name`
    pub fn attribute(&mut self, object: &Item, name: &str) -> Result<Item> {
        match object {
            Item::Global(global) if &**global == "CONSTANTS" => {
                let at = name.strip_prefix('c').and_then(|number| number.parse::<usize>().ok());
                let found = at.and_then(|at| self.constants.get(at)).cloned();
                found.ok_or_else(|| Error::invalid(format!("there is no constant '{name}'")))
            }
            Item::Global(global) => Ok(Item::Global(format!("{global}.{name}").into())),
            Item::Object(object) => {
                if let Some(value) = object.attributes.borrow().get(name) {
                    return Ok(value.clone());
                }
                let class = self.code.class(&object.class)?;
                let constant = class.fields.iter().find(|(own, _)| own == name).and_then(|(_, value)| value.clone());
                match constant {
                    Some(constant) => self.expression(&constant, &mut Variables::new()),
                    None => Err(Error::invalid(format!("{} has no attribute '{name}'", object.class))),
                }
            }
            Item::Tuple(values, names) => {
                let at = names.iter().position(|own| own == name);
                let found = at.and_then(|at| values.get(at)).cloned();
                found.ok_or_else(|| Error::invalid(format!("a tuple without '{name}'")))
            }
            other => Err(Error::invalid(format!("{} has no attribute '{name}'", other.kind()))),
        }
    }

    pub(super) fn call(
        &mut self,
        function: &Expr,
        positional: &[Expr],
        named: &[(String, Expr)],
        variables: &mut Variables,
    ) -> Result<Item> {
        // Types stand in the place of values here: they are not evaluated.
        if let Expr::Name(name) = function
            && !variables.contains_key(name)
        {
            match (name.as_str(), positional) {
                ("annotate" | "unchecked_cast", [kind, value]) => {
                    let value = self.expression(value, variables)?;
                    let plain = matches!(kind, Expr::Name(kind) if matches!(kind.as_str(), "number" | "int" | "float"));
                    // A tensor where a number is asked for is read.
                    return match (kind, &value) {
                        (Expr::Name(kind), Item::Plain(Value::Tensor(tensor))) if plain && kind != "number" => {
                            self.read(*tensor, kind == "int")
                        }
                        _ => Ok(if plain { plain_number(value) } else { value }),
                    };
                }
                ("uninitialized", [_]) => return Ok(Item::none()),
                ("isinstance", [value, kind]) => {
                    let value = self.expression(value, variables)?;
                    let is = is_a(&value, kind).ok_or_else(|| Error::beyond("isinstance of such a type"))?;
                    return Ok(Item::bool(is));
                }
                ("fork" | "wait", _) => return Err(Error::beyond("a task of its own (fork)")),
                _ => {}
            }
        }
        if let Expr::Attribute(object, method) = function {
            let object = self.expression(object, variables)?;
            if let Item::Object(object) = &object {
                let arguments = self.all(positional, variables)?;
                let mut by_name = Vec::new();
                for (name, value) in named {
                    by_name.push((name.clone(), self.expression(value, variables)?));
                }
                if !by_name.is_empty() {
                    return Err(Error::beyond("a method called with names"));
                }
                return self.method(object, method, arguments);
            }
            let function = self.attribute(&object, method)?;
            return self.called(&function, positional, named, variables);
        }
        let function = self.expression(function, variables)?;
        self.called(&function, positional, named, variables)
    }

    fn called(
        &mut self,
        function: &Item,
        positional: &[Expr],
        named: &[(String, Expr)],
        variables: &mut Variables,
    ) -> Result<Item> {
        let Item::Global(name) = function else {
            return Err(Error::beyond(format!("a call of {}", function.kind())));
        };
        let name = name.clone();
        let arguments = self.all(positional, variables)?;
        let mut by_name = Vec::new();
        for (name, value) in named {
            by_name.push((name.clone(), self.expression(value, variables)?));
        }
        if let Some(operator) = name.strip_prefix("torch.") {
            let place = self.l.place.clone();
            return self
                .aten(operator, arguments, by_name)
                .map_err(|error| error.at_operator(&format!("aten.{operator}"), &place));
        }
        if let Some(operator) = name.strip_prefix("ops.prim.") {
            return self.prim(operator, arguments);
        }
        if let Some(operator) = name.strip_prefix("ops.torchvision.") {
            let place = self.l.place.clone();
            return self
                .aten(&format!("torchvision::{operator}"), arguments, by_name)
                .map_err(|error| error.at_operator(&format!("torchvision.{operator}"), &place));
        }
        if let Some(operator) = name.strip_prefix("ops.quantized.") {
            return self.quantized(operator, arguments, &by_name);
        }
        if let Some(operator) = name.strip_prefix("ops.aten.") {
            return self.aten(operator, arguments, by_name);
        }
        if let Some(operator) = name.strip_prefix("ops.") {
            return Err(Error::beyond(format!("the operator {operator}")));
        }
        if !name.contains('.') {
            return self.builtin(&name, arguments);
        }
        match self.code.find(&name)? {
            Definition::Function(function) => {
                let module = name.rsplit_once('.').map_or("", |(module, _)| module).to_string();
                self.function(&function, arguments, by_name, &module)
            }
            Definition::Class(class) if class.base == "NamedTuple" => {
                let names = class.fields.iter().map(|(name, _)| name.clone()).collect();
                Ok(Item::Tuple(Rc::new(arguments), Rc::new(names)))
            }
            Definition::Class(class) => {
                Err(Error::beyond(format!("an object of class {} made in the program", class.name)))
            }
        }
    }
}
