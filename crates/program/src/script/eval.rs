//! Evaluates TorchScript's text: tensors become values of a graph, everything else is known. Nothing outside is
//! reached.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::code::Code;
use super::syntax::{Expr, Function, Kind, Statement};
use super::value::{Item, Num, Object};
use crate::error::Place;
use crate::lower::{Float, Int, Lower, Value};
use crate::{Error, Result};

/// Statements and expressions of one evaluation.
const MAX_STEPS: u64 = 20_000_000;
/// Calls inside calls.
const MAX_CALLS: usize = 64;
/// Elements of a list.
pub(super) const MAX_LIST: usize = 1_000_000;

/// What a statement does to those after it.
pub(super) enum Flow {
    On,
    Return(Item),
}

pub(super) type Variables = HashMap<String, Item>;

/// An evaluation.
pub(crate) struct Eval<'c> {
    pub l: Lower,
    pub(super) code: &'c Code,
    /// `CONSTANTS.c0` …
    pub(super) constants: Vec<Item>,
    pub(super) steps: u64,
    pub(super) calls: usize,
    /// Whether a size that is open decided a branch.
    pub guarded: bool,
    /// Branches on data that are open now.
    pub(super) branches: usize,
    /// Whether the program refused its input.
    pub(super) raised: bool,
    /// Lists and dictionaries that were made inside a branch, which alone may be changed there.
    pub(super) own: Vec<Item>,
}

impl<'c> Eval<'c> {
    pub fn new(l: Lower, code: &'c Code, constants: Vec<Item>) -> Self {
        Self { l, code, constants, steps: 0, calls: 0, guarded: false, branches: 0, raised: false, own: Vec::new() }
    }

    pub(super) fn step(&mut self) -> Result<()> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err(Error::invalid(format!("the program takes more than {MAX_STEPS} steps")));
        }
        Ok(())
    }

    /// Calls a method of an object.
    pub fn method(&mut self, object: &Rc<Object>, name: &str, arguments: Vec<Item>) -> Result<Item> {
        let class = self.code.class(&object.class)?;
        let method = class.methods.iter().find(|method| method.name == name).cloned();
        let method = method.ok_or_else(|| Error::invalid(format!("{} has no method '{name}'", object.class)))?;
        let outer = std::mem::replace(&mut self.l.place, Place { module: object.path.clone(), source: String::new() });
        let mut all = vec![Item::Object(object.clone())];
        all.extend(arguments);
        let result = self.function(&method, all, Vec::new(), &object.class);
        self.l.place = outer;
        result
    }

    pub(super) fn function(
        &mut self,
        function: &Arc<Function>,
        positional: Vec<Item>,
        named: Vec<(String, Item)>,
        of: &str,
    ) -> Result<Item> {
        if self.calls == MAX_CALLS {
            return Err(Error::invalid(format!("calls are nested more than {MAX_CALLS} deep")));
        }
        if positional.len() > function.parameters.len() {
            return Err(Error::invalid(format!("{of}.{} gets {} arguments", function.name, positional.len())));
        }
        self.calls += 1;
        let mut variables = Variables::new();
        let mut given = positional.into_iter();
        for (name, default) in &function.parameters {
            let value = match (given.next(), named.iter().find(|(own, _)| own == name), default) {
                (Some(value), _, _) => value,
                (None, Some((_, value)), _) => value.clone(),
                (None, None, Some(default)) => self.expression(default, &mut Variables::new())?,
                (None, None, None) => {
                    return Err(Error::invalid(format!("{of}.{} gets no '{name}'", function.name)));
                }
            };
            variables.insert(name.clone(), value);
        }
        let flow = self.block(&function.body, &mut variables);
        self.calls -= 1;
        match flow? {
            Flow::Return(value) => Ok(value),
            Flow::On => Ok(Item::none()),
        }
    }

    // Statements.

    pub(super) fn block(&mut self, statements: &[Statement], variables: &mut Variables) -> Result<Flow> {
        for statement in statements {
            if let Flow::Return(value) = self.statement(statement, variables)? {
                return Ok(Flow::Return(value));
            }
        }
        Ok(Flow::On)
    }

    fn statement(&mut self, statement: &Statement, variables: &mut Variables) -> Result<Flow> {
        self.step()?;
        match &statement.kind {
            Kind::Assign(target, value) => {
                let value = self.expression(value, variables)?;
                self.assign(target, value, variables)?;
            }
            Kind::Declare(target, Some(value)) => {
                let value = self.expression(value, variables)?;
                self.assign(target, value, variables)?;
            }
            Kind::Declare(_, None) | Kind::Pass => {}
            Kind::Return(None) => return Ok(Flow::Return(Item::none())),
            Kind::Return(Some(value)) => return self.expression(value, variables).map(Flow::Return),
            Kind::Expr(value) => {
                self.expression(value, variables)?;
            }
            Kind::If(condition, yes, no) => {
                let condition = self.expression(condition, variables)?;
                if let Some(condition) = self.on_data(&condition)? {
                    self.either(&condition, yes, no, variables)?;
                    return Ok(Flow::On);
                }
                let taken = if self.truth(&condition)? { yes } else { no };
                return self.block(taken, variables);
            }
            Kind::While(condition, body) => loop {
                self.step()?;
                let value = self.expression(condition, variables)?;
                if let Some(value) = self.on_data(&value)? {
                    // One turn, and the loop again, inside a branch: until its condition is known.
                    let again = [body.as_slice(), std::slice::from_ref(statement)].concat();
                    self.either(&value, &again, &[], variables)?;
                    break;
                }
                if !self.truth(&value)? {
                    break;
                }
                if let Flow::Return(value) = self.block(body, variables)? {
                    return Ok(Flow::Return(value));
                }
            },
            Kind::For(target, all, body) => {
                let all = self.expression(all, variables)?;
                for value in self.iterated(&all)? {
                    self.step()?;
                    self.assign(target, value, variables)?;
                    if let Flow::Return(value) = self.block(body, variables)? {
                        return Ok(Flow::Return(value));
                    }
                }
            }
            // `with torch.no_grad()` changes nothing of the values.
            Kind::With(body) => return self.block(body, variables),
            Kind::Def(function) => {
                return Err(Error::beyond(format!("the function '{}' inside another", function.name)));
            }
            Kind::Class(class) => return Err(Error::beyond(format!("the class '{}' inside a function", class.name))),
        }
        Ok(Flow::On)
    }

    fn iterated(&mut self, all: &Item) -> Result<Vec<Item>> {
        match all {
            Item::Plain(Value::Tensor(tensor)) => {
                let tensor = *tensor;
                (0..self.l.size(tensor, 0)?).map(|at| self.l.element(tensor, at as i64)).collect()
            }
            Item::Dict(entries) => Ok(entries.borrow().iter().map(|(key, _)| key.clone()).collect()),
            other => other.elements(),
        }
    }

    fn assign(&mut self, target: &Expr, value: Item, variables: &mut Variables) -> Result<()> {
        match target {
            Expr::Name(name) => {
                variables.insert(name.clone(), value);
            }
            Expr::Tuple(targets) | Expr::List(targets) => {
                let values = value.elements()?;
                if values.len() != targets.len() {
                    return Err(Error::invalid(format!("{} values for {} names", values.len(), targets.len())));
                }
                for (target, value) in targets.iter().zip(values) {
                    self.assign(target, value, variables)?;
                }
            }
            Expr::Attribute(object, name) => match self.expression(object, variables)? {
                Item::Object(_) if self.branches > 0 => {
                    return Err(Error::beyond("an attribute changed inside a branch on data"));
                }
                Item::Object(object) => {
                    // A tensor that takes the place of a buffer is its next value.
                    object.attributes.borrow_mut().insert(name.clone(), value);
                }
                other => return Err(Error::invalid(format!("{} has no attributes", other.kind()))),
            },
            Expr::Index(container, key) => {
                let container = self.expression(container, variables)?;
                let key = self.expression(key, variables)?;
                self.put(&container, &key, value)?;
            }
            _ => return Err(Error::beyond("this target of an assignment")),
        }
        Ok(())
    }

    /// `container[key] = value`
    pub fn put(&mut self, container: &Item, key: &Item, value: Item) -> Result<()> {
        self.changes(container)?;
        match container {
            Item::List(values) => {
                let mut values = values.borrow_mut();
                let at = place_of(key.known()?, values.len())?;
                values[at] = value;
            }
            Item::Dict(entries) => {
                let mut entries = entries.borrow_mut();
                match entries.iter_mut().find(|(own, _)| own.equals(key) == Some(true)) {
                    Some((_, old)) => *old = value,
                    None => entries.push((key.clone(), value)),
                }
            }
            other => return Err(Error::invalid(format!("{} cannot be changed", other.kind()))),
        }
        Ok(())
    }

    /// Whether a condition holds. One that follows from data is refused; one of open sizes must hold, or not, in every
    /// example.
    pub fn truth(&mut self, value: &Item) -> Result<bool> {
        match value {
            Item::Plain(Value::Bool(bool)) => Ok(*bool),
            Item::Plain(Value::None) => Ok(false),
            Item::Plain(Value::Int(int)) => match self.agreed(int) {
                Some(int) => Ok(int != 0),
                None => Err(Error::beyond("a branch on an open size")),
            },
            Item::Plain(Value::Float(Float::Known(float))) => Ok(*float != 0.0),
            Item::Number(Num::Int(int)) => match self.agreed(int) {
                Some(int) => Ok(int != 0),
                None => Err(Error::beyond("a branch on an open size")),
            },
            Item::Plain(Value::Tensor(_) | Value::OpenBool(_) | Value::Float(_)) | Item::Number(_) => {
                Err(Error::beyond("a branch on the values of a tensor"))
            }
            Item::Plain(Value::Str(text)) => Ok(!text.is_empty()),
            Item::List(values) => Ok(!values.borrow().is_empty()),
            Item::Dict(entries) => Ok(!entries.borrow().is_empty()),
            other => Err(Error::invalid(format!("{} is no condition", other.kind()))),
        }
    }

    /// What an integer is, if it is the same in every example.
    pub fn agreed(&mut self, int: &Int) -> Option<i64> {
        match int {
            Int::Known(int) => Some(*int),
            Int::Open(_) => {
                let hints = self.l.hints(int)?;
                let (first, rest) = hints.split_first()?;
                self.guarded = true;
                rest.iter().all(|hint| hint == first).then_some(*first)
            }
        }
    }

    // Expressions.

    pub(super) fn expression(&mut self, expr: &Expr, variables: &mut Variables) -> Result<Item> {
        self.step()?;
        Ok(match expr {
            Expr::None => Item::none(),
            Expr::Bool(bool) => Item::bool(*bool),
            Expr::Int(int) => Item::int(*int),
            Expr::Float(float) => Item::Plain(Value::Float(Float::Known(*float))),
            Expr::Str(text) => Item::text(text.clone()),
            Expr::Name(name) => match variables.get(name) {
                Some(value) => value.clone(),
                None => Item::Global(name.as_str().into()),
            },
            Expr::Attribute(object, name) => {
                let object = self.expression(object, variables)?;
                self.attribute(&object, name)?
            }
            Expr::List(all) => {
                let list = Item::list(self.all(all, variables)?);
                self.made_here(&list);
                list
            }
            Expr::Tuple(all) => Item::tuple(self.all(all, variables)?),
            Expr::Dict(entries) => {
                let mut all = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    all.push((self.expression(key, variables)?, self.expression(value, variables)?));
                }
                let entries = Item::Dict(Rc::new(RefCell::new(all)));
                self.made_here(&entries);
                entries
            }
            Expr::Minus(value) => {
                let value = self.expression(value, variables)?;
                self.aten("neg", vec![value], Vec::new())?
            }
            Expr::Index(container, key) => {
                let container = self.expression(container, variables)?;
                let key = self.expression(key, variables)?;
                self.get(&container, &key)?
            }
            Expr::Slice(container, first, last) => {
                let container = self.expression(container, variables)?;
                let mut bound = |bound: &Option<Box<Expr>>| match bound {
                    Some(bound) => self.expression(bound, variables)?.known().map(Some),
                    None => Ok(None),
                };
                let (first, last) = (bound(first)?, bound(last)?);
                let values = container.elements()?;
                let part = sliced(&values, first, last, 1)?;
                if matches!(container, Item::List(_)) { Item::list(part) } else { Item::tuple(part) }
            }
            Expr::Call { function, positional, named } => self.call(function, positional, named, variables)?,
        })
    }

    pub(super) fn all(&mut self, all: &[Expr], variables: &mut Variables) -> Result<Vec<Item>> {
        all.iter().map(|expr| self.expression(expr, variables)).collect()
    }

    /// `container[key]`
    pub(super) fn get(&mut self, container: &Item, key: &Item) -> Result<Item> {
        match container {
            Item::Dict(entries) => {
                let found =
                    entries.borrow().iter().find(|(own, _)| own.equals(key) == Some(true)).map(|(_, v)| v.clone());
                found.ok_or_else(|| Error::invalid("a key that the dictionary has not"))
            }
            Item::Plain(Value::Str(text)) => {
                let letters: Vec<char> = text.chars().collect();
                let at = place_of(key.known()?, letters.len())?;
                Ok(Item::text(letters[at].to_string()))
            }
            Item::Global(name) if &**name == "CONSTANTS" => Err(Error::invalid("constants have names")),
            other => {
                let int = key.as_int().ok_or_else(|| Error::invalid(format!("{} is no index", key.kind())))?;
                let at = self.agreed(&int).ok_or_else(|| Error::beyond("an open size as an index"))?;
                let values = other.elements()?;
                Ok(values[place_of(at, values.len())?].clone())
            }
        }
    }
}

/// A number that a trace keeps as a tensor, as a number.
pub(super) fn plain_number(value: Item) -> Item {
    match value {
        Item::Number(Num::Int(int)) => Item::Plain(Value::Int(int)),
        Item::Number(Num::Float(float)) => Item::Plain(Value::Float(float)),
        other => other,
    }
}

/// The place of a possibly negative index.
pub(super) fn place_of(index: i64, len: usize) -> Result<usize> {
    let at = if index < 0 { index.saturating_add(len as i64) } else { index };
    usize::try_from(at)
        .ok()
        .filter(|&at| at < len)
        .ok_or_else(|| Error::invalid(format!("index {index} of {len} elements")))
}

/// A part of a list, as Python cuts it.
pub(super) fn sliced(values: &[Item], first: Option<i64>, last: Option<i64>, step: i64) -> Result<Vec<Item>> {
    let len = values.len() as i64;
    let bound = |at: i64| (if at < 0 { at.saturating_add(len) } else { at }).clamp(0, len) as usize;
    let step = usize::try_from(step).ok().filter(|&step| step > 0);
    let step = step.ok_or_else(|| Error::beyond("a slice of a list that goes back"))?;
    let (first, last) = (bound(first.unwrap_or(0)), bound(last.unwrap_or(len)));
    Ok(values.get(first..last.max(first)).unwrap_or(&[]).iter().step_by(step).cloned().collect())
}
