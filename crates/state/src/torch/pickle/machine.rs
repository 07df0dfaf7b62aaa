//! The stack machine of pickle, protocols 0 to 5, every opcode.

use super::graph::Graph;
use super::stack::{MEMO_LIMIT, Machine};
use crate::{Error, Result};

/// Runs the pickle at the beginning of `bytes`; what follows its STOP is not looked at.
pub(crate) fn read(bytes: &[u8]) -> Result<Graph<'_>> {
    let mut machine = Machine::new(bytes);
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

impl Machine<'_> {
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
}
