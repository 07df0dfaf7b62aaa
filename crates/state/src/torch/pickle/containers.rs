//! Opcodes that make or fill a list, a tuple, a dictionary or a set.

use super::graph::{Item, Node};
use super::stack::Machine;
use crate::{Error, Result};

impl<'a> Machine<'a> {
    /// Opcodes that make or fill a list, a tuple, a dictionary or a set.
    pub fn step_container(&mut self, opcode: u8) -> Result<bool> {
        match opcode {
            b')' => self.add(Node::Tuple(Vec::new())),
            b']' => self.add(Node::List(Vec::new())),
            b'}' => self.add(Node::Dict(Vec::new())),
            0x8f => self.add(Node::Set(Vec::new())),
            b't' => {
                let items = self.since_mark()?;
                self.add(Node::Tuple(items))
            }
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let mut items = Vec::with_capacity(count);
                for _ in 0..count {
                    items.push(self.pop()?);
                }
                items.reverse();
                self.add(Node::Tuple(items))
            }
            b'l' => {
                let items = self.since_mark()?;
                self.add(Node::List(items))
            }
            0x91 => {
                let items = self.since_mark()?;
                self.add(Node::FrozenSet(items))
            }
            b'd' => {
                let items = self.since_mark()?;
                self.add(Node::Dict(Vec::new()))?;
                self.set(&items)
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])
            }
            b'e' => {
                let items = self.since_mark()?;
                self.append(items)
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(&[key, value])
            }
            b'u' => {
                let items = self.since_mark()?;
                self.set(&items)
            }
            _ => {
                let items = self.since_mark()?;
                self.graph.count(items.len())?;
                match self.target("elements are added to")? {
                    Node::Set(set) => set.extend(items),
                    Node::Call(call) => call.items.extend(items),
                    _ => return Err(Error::damaged("elements are added to something that is no set")),
                }
                Ok(true)
            }
        }
    }

    fn append(&mut self, items: Vec<Item<'a>>) -> Result<bool> {
        self.graph.count(items.len())?;
        match self.target("values are appended to")? {
            Node::List(list) if list.is_empty() => *list = items,
            Node::List(list) => list.extend(items),
            Node::Call(call) => call.items.extend(items),
            _ => return Err(Error::damaged("values are appended to something that is no list")),
        }
        Ok(true)
    }

    fn set(&mut self, items: &[Item<'a>]) -> Result<bool> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(Error::damaged("a key without a value"));
        }
        self.graph.count(pairs.len())?;
        let pairs = pairs.iter().map(|&[key, value]| (key, value));
        match self.target("entries are set on")? {
            Node::Dict(entries) => entries.extend(pairs),
            Node::Call(call) => call.entries.extend(pairs),
            _ => return Err(Error::damaged("entries are set on something that is no dictionary")),
        }
        Ok(true)
    }
}
