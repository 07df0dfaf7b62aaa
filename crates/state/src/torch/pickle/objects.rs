//! Opcodes that name a class or a storage, or would call or change an object.

use super::graph::{Call, Item, Node};
use super::stack::Machine;
use crate::{Error, Result};

impl<'a> Machine<'a> {
    /// Opcodes that name a class or a storage, or would call or change an object.
    pub fn step_object(&mut self, opcode: u8) -> Result<bool> {
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
}
