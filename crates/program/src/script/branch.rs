//! Branches that the values of tensors decide: both are lowered, as the two graphs of an If.

use rekindle_onnx::DType;
use rekindle_onnx::builder::{Attr, GraphBuilder, ValueName};

use super::eval::{Eval, Flow, Variables, plain_number};
use super::syntax::Statement;
use super::value::{Item, Num};
use crate::lower::{Float, Int, Value};
use crate::{Error, Result};

/// How deep branches on data may be nested; a loop on data takes one for each turn.
const MAX_BRANCHES: usize = 32;

/// What a variable is after both branches.
enum After {
    /// The same in both.
    Same(Item),
    /// What the If gives at a place.
    Output(usize, Item),
    List(Vec<After>),
    Tuple(Vec<After>, Item),
}

impl Eval<'_> {
    /// A condition that only data decides, as a scalar of the graph.
    pub(super) fn on_data(&mut self, condition: &Item) -> Result<Option<ValueName>> {
        match condition {
            Item::Plain(Value::OpenBool(value)) => Ok(Some(value.clone())),
            Item::Plain(Value::Tensor(tensor)) => {
                if self.constant_number(*tensor).is_some() {
                    return Ok(None);
                }
                let (value, flat) = (self.l.value_as(*tensor, DType::Bool)?, self.l.ints(&[])?);
                self.l.reshape(&value, &flat).map(Some)
            }
            Item::Plain(number @ Value::Float(Float::Open(_))) => self.l.scalar(number, DType::Bool).map(Some),
            Item::Plain(Value::Int(int @ Int::Open(_))) | Item::Number(Num::Int(int @ Int::Open(_)))
                if self.l.hints(int).is_none() =>
            {
                let number = Value::Int(int.clone());
                self.l.scalar(&number, DType::Bool).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Remembers a list that a branch made.
    pub(super) fn made_here(&mut self, item: &Item) {
        if self.branches > 0 {
            self.own.push(item.clone());
        }
    }

    /// That a list or dictionary may be changed here.
    pub(super) fn changes(&self, item: &Item) -> Result<()> {
        let same = |own: &Item| match (own, item) {
            (Item::List(a), Item::List(b)) => std::rc::Rc::ptr_eq(a, b),
            (Item::Dict(a), Item::Dict(b)) => std::rc::Rc::ptr_eq(a, b),
            _ => false,
        };
        if self.branches == 0 || self.own.iter().any(same) {
            return Ok(());
        }
        Err(Error::beyond("a list changed inside a branch on data"))
    }

    /// Runs a branch in a graph of its own; nothing if the program refuses its input there.
    fn branch(&mut self, body: &[Statement], variables: &Variables) -> Result<(GraphBuilder, Option<Variables>)> {
        let (mut inner, outer) = (variables.clone(), self.l.enter("branch"));
        self.branches += 1;
        let outcome = self.block(body, &mut inner);
        self.branches -= 1;
        let nested = self.l.leave(outer);
        match outcome {
            Ok(Flow::On) => Ok((nested, Some(inner))),
            Ok(Flow::Return(_)) => Err(Error::beyond("a return inside a branch on data")),
            Err(_) if std::mem::take(&mut self.raised) => Ok((nested, None)),
            Err(error) => Err(error),
        }
    }

    /// `if condition: … else: …` on data.
    pub(super) fn either(
        &mut self,
        condition: &str,
        yes: &[Statement],
        no: &[Statement],
        variables: &mut Variables,
    ) -> Result<()> {
        if self.branches == MAX_BRANCHES {
            return Err(Error::beyond(format!("branches on data nested more than {MAX_BRANCHES} deep")));
        }
        let (first, after_yes) = self.branch(yes, variables)?;
        let (second, after_no) = self.branch(no, variables)?;
        let (ours, theirs) = match (after_yes, after_no) {
            (Some(ours), Some(theirs)) => (ours, theirs),
            // A branch that refuses its input is an assertion: the other one is what the program does.
            (None, Some(_)) => return self.block(no, variables).map(|_| ()),
            (Some(_), None) => return self.block(yes, variables).map(|_| ()),
            (None, None) => return Err(Error::invalid("the program refuses its input either way")),
        };
        let mut outputs = Vec::new();
        let mut after = Vec::new();
        let mut names: Vec<&String> = ours.keys().filter(|name| theirs.contains_key(*name)).collect();
        names.sort();
        for name in names {
            // A variable that is no value of a graph, and another in each branch, is none after them.
            if let Some(item) = self.merged(&ours[name], &theirs[name], &mut outputs) {
                after.push((name.clone(), item));
            }
        }
        variables.clear();
        let mut given = Vec::new();
        let mut graphs = Vec::new();
        for (mut nested, which) in [(first, 0), (second, 1)] {
            // Names of the other branch are not to be given again: what is known of a value is found by its name.
            nested.skip_names_of(&self.l.builder);
            let outer = std::mem::replace(&mut self.l.builder, nested);
            let found = self.given(&outputs, which);
            let nested = std::mem::replace(&mut self.l.builder, outer);
            given.push(found?);
            self.l.builder.skip_names_of(&nested);
            graphs.push(nested);
        }
        let graphs: Vec<Attr> = graphs.into_iter().map(|nested| self.l.builder.close(nested)).collect();
        let mut results = Vec::new();
        if let (false, Ok([yes, no])) = (outputs.is_empty(), <[Attr; 2]>::try_from(graphs)) {
            let attributes = [("then_branch", yes), ("else_branch", no)];
            results = self.l.nodes("If", &[condition], outputs.len(), &attributes)?;
        }
        for (at, result) in results.iter().enumerate() {
            self.l.learn_either(result, [&given[0][at], &given[1][at]]);
        }
        for (name, item) in after {
            let item = self.item_after(item, &results)?;
            variables.insert(name, item);
        }
        Ok(())
    }

    fn merged(&mut self, a: &Item, b: &Item, outputs: &mut Vec<[Item; 2]>) -> Option<After> {
        if let (Item::Plain(Value::Tensor(x)), Item::Plain(Value::Tensor(y))) = (a, b) {
            if x == y {
                return Some(After::Same(a.clone()));
            }
            if self.l.dtype(*x) != self.l.dtype(*y) || self.l.rank(*x) != self.l.rank(*y) {
                return None;
            }
            outputs.push([a.clone(), b.clone()]);
            return Some(After::Output(outputs.len() - 1, a.clone()));
        }
        if a.equals(b) == Some(true) {
            return Some(After::Same(a.clone()));
        }
        match (a, b) {
            (Item::List(x), Item::List(y)) if std::rc::Rc::ptr_eq(x, y) => Some(After::Same(a.clone())),
            (Item::Dict(x), Item::Dict(y)) if std::rc::Rc::ptr_eq(x, y) => Some(After::Same(a.clone())),
            (Item::Global(x), Item::Global(y)) if x == y => Some(After::Same(a.clone())),
            (Item::List(_), Item::List(_)) | (Item::Tuple(..), Item::Tuple(..)) => {
                let (x, y) = (a.elements().ok()?, b.elements().ok()?);
                if x.len() != y.len() {
                    return None;
                }
                let all: Option<Vec<After>> = x.iter().zip(&y).map(|(x, y)| self.merged(x, y, outputs)).collect();
                let all = all?;
                Some(if matches!(a, Item::List(_)) { After::List(all) } else { After::Tuple(all, a.clone()) })
            }
            _ => {
                let (x, y) = (plain_number(a.clone()), plain_number(b.clone()));
                let kind = |item: &Item| match item {
                    Item::Plain(Value::Int(_)) => 1,
                    Item::Plain(Value::Float(_)) => 2,
                    Item::Plain(Value::Bool(_) | Value::OpenBool(_)) => 3,
                    _ => 0,
                };
                if kind(&x) == 0 || kind(&x) != kind(&y) {
                    return None;
                }
                outputs.push([x.clone(), y]);
                Some(After::Output(outputs.len() - 1, x))
            }
        }
    }

    /// The outputs of a branch, made in its graph.
    fn given(&mut self, outputs: &[[Item; 2]], which: usize) -> Result<Vec<ValueName>> {
        let mut names = Vec::new();
        self.l.nested.push(usize::MAX);
        let made: Result<()> = outputs.iter().try_for_each(|pair| {
            let (value, dtype) = match &pair[which] {
                Item::Plain(Value::Tensor(tensor)) => (self.l.value(*tensor)?, self.l.dtype(*tensor)),
                Item::Plain(number @ Value::Int(_)) => (self.l.scalar(number, DType::I64)?, DType::I64),
                Item::Plain(number @ Value::Float(_)) => (self.l.scalar(number, DType::F64)?, DType::F64),
                Item::Plain(number) => (self.l.scalar(number, DType::Bool)?, DType::Bool),
                other => return Err(Error::beyond(format!("{} as the result of a branch", other.kind()))),
            };
            let own = self.l.node("Identity", &[&value], &[])?;
            self.l.builder.output(&own, Some(dtype), None)?;
            names.push(own);
            Ok(())
        });
        self.l.nested.pop();
        made.map(|()| names)
    }

    fn item_after(&mut self, after: After, results: &[ValueName]) -> Result<Item> {
        Ok(match after {
            After::Same(item) => item,
            After::Output(at, model) => {
                let value = results.get(at).cloned().ok_or_else(|| Error::invalid("a branch without its result"))?;
                Item::Plain(match model {
                    Item::Plain(Value::Tensor(tensor)) => {
                        let (dtype, rank) = (self.l.dtype(tensor), self.l.rank(tensor));
                        let own = self.l.tensor_or_unknown(value);
                        self.l.assume(own, dtype, rank);
                        Value::Tensor(own)
                    }
                    Item::Plain(Value::Int(_)) => Value::Int(Int::Open(value)),
                    Item::Plain(Value::Float(_)) => Value::Float(Float::Open(value)),
                    _ => Value::OpenBool(value),
                })
            }
            After::List(all) => {
                let all = all.into_iter().map(|item| self.item_after(item, results)).collect::<Result<_>>()?;
                let list = Item::list(all);
                self.made_here(&list);
                list
            }
            After::Tuple(all, model) => {
                let all = all.into_iter().map(|item| self.item_after(item, results)).collect::<Result<_>>()?;
                match model {
                    Item::Tuple(_, names) => Item::Tuple(std::rc::Rc::new(all), names),
                    _ => Item::tuple(all),
                }
            }
        })
    }
}
