//! The stack machine of pickle, protocols 0 to 5, every opcode.

use std::collections::HashMap;

use num_bigint::BigInt;

use super::graph::{Call, Graph, Item, Node};
use super::text::{self, Number};
use crate::{Error, Result};

/// How many slots the memo may have.
const MEMO_LIMIT: usize = 1 << 22;
/// The longest binary integer, in bytes.
const LONG_LIMIT: usize = 1 << 16;

/// Runs the pickle at the beginning of `bytes`; what follows its STOP is not looked at.
pub(crate) fn read(bytes: &[u8]) -> Result<Graph<'_>> {
    let mut machine =
        Machine { bytes, at: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), graph: Graph::new() };
    loop {
        let start = machine.at;
        match machine.step() {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => return Err(error.within(format_args!("the pickle is broken at byte {start}"))),
        }
    }
    Ok(machine.graph)
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Item<'a>>,
    /// Heights of the stack where MARK was met.
    marks: Vec<usize>,
    memo: HashMap<u64, Item<'a>>,
    graph: Graph<'a>,
}

impl<'a> Machine<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let left = self.bytes.len() - self.at;
        if count > left {
            return Err(Error::damaged(format!("{count} bytes are declared, {left} follow")));
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| Error::damaged("the pickle ends early"))
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// A length of four or eight bytes.
    fn length4(&mut self) -> Result<usize> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    fn length8(&mut self) -> Result<usize> {
        Ok(usize::try_from(u64::from_le_bytes(self.array()?)).unwrap_or(usize::MAX))
    }

    fn line(&mut self) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let Some(len) = rest.iter().position(|&byte| byte == b'\n') else {
            return Err(Error::damaged("a line without an end"));
        };
        self.at += len + 1;
        Ok(&rest[..len])
    }

    fn push(&mut self, item: Item<'a>) -> Result<bool> {
        self.stack.push(item);
        Ok(true)
    }

    fn add(&mut self, node: Node<'a>) -> Result<bool> {
        let item = self.graph.add(node)?;
        self.push(item)
    }

    fn pop(&mut self) -> Result<Item<'a>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() > floor
            && let Some(item) = self.stack.pop()
        {
            return Ok(item);
        }
        Err(Error::damaged("a value is taken from an empty stack"))
    }

    fn top(&self) -> Result<Item<'a>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack
            .get(floor..)
            .and_then(|open| open.last())
            .copied()
            .ok_or_else(|| Error::damaged("a value is needed from an empty stack"))
    }

    /// Everything since the last MARK.
    fn since_mark(&mut self) -> Result<Vec<Item<'a>>> {
        let Some(mark) = self.marks.pop() else {
            return Err(Error::damaged("values since a mark are taken, but there is no mark"));
        };
        Ok(self.stack.split_off(mark))
    }

    fn text(&mut self, count: usize) -> Result<bool> {
        let bytes = self.take(count)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => self.push(Item::Str(text)),
            // Python writes lone surrogates as three bytes each; they are replaced. Anything else is no text.
            Err(_) => match surrogates_replaced(bytes) {
                Some(text) => self.add(Node::Text(text)),
                None => Err(Error::damaged("a text that is not UTF-8")),
            },
        }
    }

    /// Python 2's byte strings: text where they are valid UTF-8, as `torch.load` reads them.
    fn byte_string(&mut self, count: usize) -> Result<bool> {
        let bytes = self.take(count)?;
        self.push(std::str::from_utf8(bytes).map_or(Item::Bytes(bytes), Item::Str))
    }

    fn long(&mut self, count: usize) -> Result<bool> {
        if count > LONG_LIMIT {
            return Err(Error::damaged(format!("an integer of {count} bytes (at most {LONG_LIMIT} are read)")));
        }
        let bytes = self.take(count)?;
        if let Ok(int) = i64::try_from(BigInt::from_signed_bytes_le(bytes)) {
            return self.push(Item::Int(int));
        }
        self.add(Node::Big(BigInt::from_signed_bytes_le(bytes)))
    }

    fn integer(&mut self, line: &[u8]) -> Result<bool> {
        match text::integer(line).map_err(Error::damaged)? {
            Number::Int(int) => self.push(Item::Int(int)),
            Number::Big(int) => self.add(Node::Big(int)),
        }
    }

    fn remember(&mut self, slot: u64) -> Result<bool> {
        let item = self.top()?;
        if self.memo.len() >= MEMO_LIMIT {
            return Err(Error::unsupported(format!("the pickle remembers more than {MEMO_LIMIT} values")));
        }
        self.memo.insert(slot, item);
        Ok(true)
    }

    fn recall(&mut self, slot: u64) -> Result<bool> {
        match self.memo.get(&slot) {
            Some(&item) => self.push(item),
            None => Err(Error::damaged(format!("slot {slot} of the memo is read, but was never written"))),
        }
    }

    fn slot(&mut self) -> Result<u64> {
        match text::integer(self.line()?).map_err(Error::damaged)? {
            Number::Int(slot) if slot >= 0 => Ok(slot as u64),
            _ => Err(Error::damaged("the number of a memo slot is out of range")),
        }
    }

    fn global(&mut self, module: &[u8], name: &[u8]) -> Result<Item<'a>> {
        match (std::str::from_utf8(module), std::str::from_utf8(name)) {
            (Ok(module), Ok(name)) => Ok(self.graph.global(module, name)),
            _ => Err(Error::damaged("the name of a class is not UTF-8")),
        }
    }

    fn call(&mut self, callee: Item<'a>, args: Item<'a>, kwargs: Option<Item<'a>>) -> Result<bool> {
        let callable = match callee {
            Item::Global(_) => true,
            Item::Node(_) => matches!(self.graph.node(callee), Some(Node::Call(_) | Node::Persistent(_))),
            _ => false,
        };
        if !callable {
            return Err(Error::damaged(format!("a call of {}, which is no function", self.graph.type_name(callee))));
        }
        if self.graph.elements(args).is_none() {
            return Err(Error::damaged(format!(
                "the arguments of a call are {}, not a tuple",
                self.graph.type_name(args)
            )));
        }
        self.add(Node::Call(Box::new(Call {
            callee,
            args,
            kwargs,
            states: Vec::new(),
            items: Vec::new(),
            entries: Vec::new(),
        })))
    }

    /// The node that an opcode changes in place.
    fn target(&mut self, what: &str) -> Result<&mut Node<'a>> {
        let item = self.top()?;
        match item {
            Item::Node(id) if (id as usize) < self.graph.nodes.len() => Ok(&mut self.graph.nodes[id as usize]),
            _ => Err(Error::damaged(format!("{what} {}", self.graph.type_name(item)))),
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

    /// One opcode; false at STOP.
    fn step(&mut self) -> Result<bool> {
        match self.byte().map_err(|_| Error::damaged("it ends without STOP: the file is cut short"))? {
            b'.' => {
                self.graph.root = self.pop()?;
                self.graph.len = self.at;
                Ok(false)
            }
            0x80 => {
                let protocol = self.byte()?;
                if protocol > 5 {
                    return Err(Error::unsupported(format!("pickle protocol {protocol}; 0 to 5 are known")));
                }
                Ok(true)
            }
            0x95 => {
                let len = self.length8()?;
                let left = self.bytes.len() - self.at;
                if len > left {
                    return Err(Error::damaged(format!("a frame of {len} bytes, {left} follow")));
                }
                Ok(true)
            }
            // The stack.
            b'(' => {
                self.marks.push(self.stack.len());
                if self.marks.len() > MEMO_LIMIT {
                    return Err(Error::unsupported("too many open marks"));
                }
                Ok(true)
            }
            b'0' => {
                // POP of a bare mark takes the mark.
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                    return Ok(true);
                }
                self.pop().map(|_| true)
            }
            b'1' => self.since_mark().map(|_| true),
            b'2' => {
                let item = self.top()?;
                self.push(item)
            }
            // The memo.
            b'p' => {
                let slot = self.slot()?;
                self.remember(slot)
            }
            b'q' => {
                let slot = self.byte()?;
                self.remember(u64::from(slot))
            }
            b'r' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.remember(u64::from(slot))
            }
            0x94 => self.remember(self.memo.len() as u64),
            b'g' => {
                let slot = self.slot()?;
                self.recall(slot)
            }
            b'h' => {
                let slot = self.byte()?;
                self.recall(u64::from(slot))
            }
            b'j' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.recall(u64::from(slot))
            }
            opcode @ (b'c' | b'i' | 0x93 | b'P' | b'Q' | b'R' | b'o' | 0x81 | 0x92 | b'b' | 0x82..=0x84) => {
                self.step_object(opcode)
            }
            opcode @ (b'l'
            | b'd'
            | b't'
            | b']'
            | b'}'
            | b')'
            | b'a'
            | b'e'
            | b's'
            | b'u'
            | 0x85..=0x87
            | 0x8f..=0x91) => self.step_container(opcode),
            opcode => self.step_atom(opcode),
        }
    }

    /// Opcodes that push a number, a text, bytes or a constant.
    fn step_atom(&mut self, opcode: u8) -> Result<bool> {
        match opcode {
            b'N' => self.push(Item::None),
            0x88 => self.push(Item::Bool(true)),
            0x89 => self.push(Item::Bool(false)),
            b'I' => match self.line()? {
                b"00" => self.push(Item::Bool(false)),
                b"01" => self.push(Item::Bool(true)),
                line => self.integer(line),
            },
            b'L' => {
                let line = self.line()?;
                self.integer(line)
            }
            b'J' => {
                let int = i32::from_le_bytes(self.array()?);
                self.push(Item::Int(i64::from(int)))
            }
            b'K' => {
                let int = self.byte()?;
                self.push(Item::Int(i64::from(int)))
            }
            b'M' => {
                let int = u16::from_le_bytes(self.array()?);
                self.push(Item::Int(i64::from(int)))
            }
            0x8a => {
                let len = self.byte()?;
                self.long(usize::from(len))
            }
            0x8b => {
                let len = i32::from_le_bytes(self.array()?);
                let len = usize::try_from(len).map_err(|_| Error::damaged("an integer of negative length"))?;
                self.long(len)
            }
            b'F' => {
                let float = text::float(self.line()?).map_err(Error::damaged)?;
                self.push(Item::Float(float))
            }
            b'G' => {
                let float = f64::from_be_bytes(self.array()?);
                self.push(Item::Float(float))
            }
            b'S' => {
                let bytes = text::quoted(self.line()?).map_err(Error::damaged)?;
                match String::from_utf8(bytes) {
                    Ok(text) => self.add(Node::Text(text)),
                    Err(error) => self.add(Node::Blob(error.into_bytes())),
                }
            }
            b'T' => {
                let len = self.length4()?;
                self.byte_string(len)
            }
            b'U' => {
                let len = self.byte()?;
                self.byte_string(usize::from(len))
            }
            b'V' => {
                let text = text::raw_unicode(self.line()?).map_err(Error::damaged)?;
                self.add(Node::Text(text))
            }
            b'X' => {
                let len = self.length4()?;
                self.text(len)
            }
            0x8c => {
                let len = self.byte()?;
                self.text(usize::from(len))
            }
            0x8d => {
                let len = self.length8()?;
                self.text(len)
            }
            b'B' => {
                let len = self.length4()?;
                let bytes = self.take(len)?;
                self.push(Item::Bytes(bytes))
            }
            b'C' => {
                let len = self.byte()?;
                let bytes = self.take(usize::from(len))?;
                self.push(Item::Bytes(bytes))
            }
            0x8e => {
                let len = self.length8()?;
                let bytes = self.take(len)?;
                self.push(Item::Bytes(bytes))
            }
            0x96 => {
                let len = self.length8()?;
                let bytes = self.take(len)?;
                self.add(Node::ByteArray(bytes))
            }
            0x97 | 0x98 => {
                Err(Error::unsupported("it needs buffers that were kept outside of it (protocol 5, out of band)"))
            }
            other => Err(Error::damaged(format!("0x{other:02x} is no opcode of a pickle"))),
        }
    }

    /// Opcodes that make or fill a list, a tuple, a dictionary or a set.
    fn step_container(&mut self, opcode: u8) -> Result<bool> {
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

    /// Opcodes that name a class or a storage, or would call or change an object.
    fn step_object(&mut self, opcode: u8) -> Result<bool> {
        match opcode {
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                let global = self.global(module, name)?;
                self.push(global)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.graph.text(module), self.graph.text(name)) {
                    (Some(module), Some(name)) => {
                        let (module, name) = (module.to_string(), name.to_string());
                        let global = self.graph.global(&module, &name);
                        self.push(global)
                    }
                    _ => Err(Error::damaged("the names of a class are no text")),
                }
            }
            b'P' => {
                let line = self.line()?;
                let text = std::str::from_utf8(line).map_err(|_| Error::damaged("a persistent id that is no text"))?;
                self.add(Node::Persistent(Item::Str(text)))
            }
            b'Q' => {
                let id = self.pop()?;
                self.add(Node::Persistent(id))
            }
            b'R' => {
                let (args, callee) = (self.pop()?, self.pop()?);
                self.call(callee, args, None)
            }
            0x81 => {
                let (args, class) = (self.pop()?, self.pop()?);
                self.call(class, args, None)
            }
            0x92 => {
                let (kwargs, args, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.call(class, args, Some(kwargs))
            }
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                let class = self.global(module, name)?;
                let args = self.since_mark()?;
                let args = self.graph.add(Node::Tuple(args))?;
                self.call(class, args, None)
            }
            b'o' => {
                let mut args = self.since_mark()?;
                if args.is_empty() {
                    return Err(Error::damaged("an object without a class"));
                }
                let class = args.remove(0);
                let args = self.graph.add(Node::Tuple(args))?;
                self.call(class, args, None)
            }
            b'b' => {
                let state = self.pop()?;
                self.graph.count(1)?;
                match self.target("attributes are set on")? {
                    Node::Call(call) => call.states.push(state),
                    _ => return Err(Error::damaged("attributes are set on something that has none")),
                }
                Ok(true)
            }
            _ => {
                let code = match opcode {
                    0x82 => u32::from(self.byte()?),
                    0x83 => u32::from(u16::from_le_bytes(self.array()?)),
                    _ => u32::from_le_bytes(self.array()?),
                };
                Err(Error::unsupported(format!(
                    "it names extension {code} of a registry that only the program that wrote it has"
                )))
            }
        }
    }
}

/// UTF-8 with lone surrogates (`surrogatepass`), each replaced; none if the bytes are broken otherwise.
fn surrogates_replaced(bytes: &[u8]) -> Option<String> {
    let mut text = String::new();
    let mut rest = bytes;
    loop {
        match std::str::from_utf8(rest) {
            Ok(tail) => {
                text.push_str(tail);
                return Some(text);
            }
            Err(error) => {
                let (good, bad) = rest.split_at(error.valid_up_to());
                text.push_str(std::str::from_utf8(good).ok()?);
                if !matches!(bad, [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..]) {
                    return None;
                }
                text.push(char::REPLACEMENT_CHARACTER);
                rest = &bad[3..];
            }
        }
    }
}
