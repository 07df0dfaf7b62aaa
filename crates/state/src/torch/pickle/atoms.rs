//! Opcodes that push a number, a text, bytes or a constant.

use num_bigint::BigInt;

use super::graph::{Item, Node};
use super::stack::Machine;
use super::text::{self, Number};
use crate::{Error, Result};

/// The longest binary integer, in bytes.
const LONG_LIMIT: usize = 1 << 16;

impl Machine<'_> {
    /// Opcodes that push a number, a text, bytes or a constant.
    pub fn step_atom(&mut self, opcode: u8) -> Result<bool> {
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
