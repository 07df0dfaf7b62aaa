//! Methods of lists and dictionaries.

use std::rc::Rc;

use super::eval::{Eval, MAX_LIST};
use super::value::Item;
use crate::lower::Value;
use crate::{Error, Result};

impl Eval<'_> {
    /// Methods of lists and dictionaries.
    pub(super) fn container(&mut self, name: &str, arguments: &[Item]) -> Result<Item> {
        let (first, rest) = arguments.split_first().ok_or_else(|| Error::invalid(format!("{name} of nothing")))?;
        let full = || Error::invalid(format!("a list of more than {MAX_LIST} elements"));
        if matches!(
            name,
            "append" | "extend" | "insert" | "pop" | "clear" | "reverse" | "update" | "_set_item" | "remove" | "Delete"
        ) {
            self.changes(first)?;
        }
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
}
