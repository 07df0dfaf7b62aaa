//! The stack, the marks and the memo of the pickle machine, and the bytes that it runs over.

use std::collections::HashMap;

use super::graph::{Graph, Item, Node};
use super::text::{self, Number};
use crate::{Error, Result};

/// How many slots the memo may have.
pub const MEMO_LIMIT: usize = 1 << 22;

/// The state of the machine, and what every opcode does with it.
pub struct Machine<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
    pub stack: Vec<Item<'a>>,
    /// Heights of the stack where MARK was met.
    pub marks: Vec<usize>,
    pub memo: HashMap<u64, Item<'a>>,
    pub graph: Graph<'a>,
}

impl<'a> Machine<'a> {
    /// A machine before the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), graph: Graph::new() }
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let left = self.bytes.len() - self.at;
        if count > left {
            return Err(Error::damaged(format!("{count} bytes are declared, {left} follow")));
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| Error::damaged("the pickle ends early"))
    }

    pub fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// A length of four or eight bytes.
    pub fn length4(&mut self) -> Result<usize> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    pub fn length8(&mut self) -> Result<usize> {
        Ok(usize::try_from(u64::from_le_bytes(self.array()?)).unwrap_or(usize::MAX))
    }

    pub fn line(&mut self) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let Some(len) = rest.iter().position(|&byte| byte == b'\n') else {
            return Err(Error::damaged("a line without an end"));
        };
        self.at += len + 1;
        Ok(&rest[..len])
    }

    pub fn push(&mut self, item: Item<'a>) -> Result<bool> {
        self.stack.push(item);
        Ok(true)
    }

    pub fn add(&mut self, node: Node<'a>) -> Result<bool> {
        let item = self.graph.add(node)?;
        self.push(item)
    }

    pub fn pop(&mut self) -> Result<Item<'a>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() > floor
            && let Some(item) = self.stack.pop()
        {
            return Ok(item);
        }
        Err(Error::damaged("a value is taken from an empty stack"))
    }

    pub fn top(&self) -> Result<Item<'a>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack
            .get(floor..)
            .and_then(|open| open.last())
            .copied()
            .ok_or_else(|| Error::damaged("a value is needed from an empty stack"))
    }

    /// Everything since the last MARK.
    pub fn since_mark(&mut self) -> Result<Vec<Item<'a>>> {
        let Some(mark) = self.marks.pop() else {
            return Err(Error::damaged("values since a mark are taken, but there is no mark"));
        };
        Ok(self.stack.split_off(mark))
    }

    pub fn remember(&mut self, slot: u64) -> Result<bool> {
        let item = self.top()?;
        if self.memo.len() >= MEMO_LIMIT {
            return Err(Error::unsupported(format!("the pickle remembers more than {MEMO_LIMIT} values")));
        }
        self.memo.insert(slot, item);
        Ok(true)
    }

    pub fn recall(&mut self, slot: u64) -> Result<bool> {
        match self.memo.get(&slot) {
            Some(&item) => self.push(item),
            None => Err(Error::damaged(format!("slot {slot} of the memo is read, but was never written"))),
        }
    }

    pub fn slot(&mut self) -> Result<u64> {
        match text::integer(self.line()?).map_err(Error::damaged)? {
            Number::Int(slot) if slot >= 0 => Ok(slot as u64),
            _ => Err(Error::damaged("the number of a memo slot is out of range")),
        }
    }

    /// The node that an opcode changes in place.
    pub fn target(&mut self, what: &str) -> Result<&mut Node<'a>> {
        let item = self.top()?;
        match item {
            Item::Node(id) if (id as usize) < self.graph.nodes.len() => Ok(&mut self.graph.nodes[id as usize]),
            _ => Err(Error::damaged(format!("{what} {}", self.graph.type_name(item)))),
        }
    }
}
