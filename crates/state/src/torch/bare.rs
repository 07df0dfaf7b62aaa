//! Bare pickles: no storages beside them.

use super::{Globals, content, is_legacy, pickle};
use crate::format::{Format, Opened, Probe};
use crate::{Content, Error, Map, Result, Value, safetensors};

/// A bare pickle, or several one after the other.
#[derive(Debug)]
pub struct Pickle;

impl Format for Pickle {
    fn name(&self) -> &'static str {
        "pickle"
    }

    fn recognizes(&self, file: &Probe<'_>) -> bool {
        is_pickle(file.bytes()) && !is_legacy(file.bytes())
    }

    fn read(&self, file: &Probe<'_>) -> Result<Opened> {
        Ok(read_pickle(file.map()?)?.into())
    }
}

/// Whether a file begins as pickles do, in any protocol.
pub(super) fn is_pickle(bytes: &[u8]) -> bool {
    let begins = bytes.first() == Some(&0x80) || looks_like_text_pickle(bytes);
    // The length of a safetensors header may begin with the same bytes.
    begins && !safetensors::has_header(bytes)
}

fn read_pickle(map: &Map) -> Result<Content> {
    let mut globals = Globals::default();
    let root = value(map, &mut globals)?;
    Ok(content(root, globals))
}

/// What was dumped; a list where that was done more than once.
pub(super) fn value(map: &Map, globals: &mut Globals) -> Result<Value> {
    let bytes = map.bytes();
    let mut values = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let graph = pickle::read(&bytes[at..]).map_err(|error| match at {
            0 => error,
            _ => error.within(format_args!("after a pickle of {at} bytes")),
        })?;
        if at == 0 && graph.len < bytes.len() && is_wrong_magic(&graph) {
            return Err(Error::damaged(
                "it begins like PyTorch's legacy format, but its magic number is another: the file is damaged",
            ));
        }
        values.push(pickle::build(&graph, &mut Bare, globals)?);
        at += graph.len;
        if values.len() > PICKLES {
            return Err(Error::unsupported(format!("the file holds more than {PICKLES} pickles one after the other")));
        }
    }
    Ok(if values.len() == 1 { values.swap_remove(0) } else { Value::List(values) })
}

/// How many pickles one file may hold, one after the other.
const PICKLES: usize = 10_000;

/// Whether the first pickle of a file is one integer, as the legacy format's is.
fn is_wrong_magic(graph: &pickle::Graph<'_>) -> bool {
    matches!(graph.node(graph.root), Some(pickle::Node::Big(_)))
}

/// A pickle that keeps nothing outside.
pub(super) struct Bare;

impl pickle::Loader for Bare {
    fn persistent(&mut self, _: Value) -> Result<Value> {
        Err(Error::unsupported(
            "the pickle refers to storages that are not in this file: it is only a part of a PyTorch file, such as its data.pkl; open the whole file",
        ))
    }
}

/// Protocols 0 and 1 have no mark at the beginning: the first opcode makes a container or names a class.
pub(super) fn looks_like_text_pickle(bytes: &[u8]) -> bool {
    match bytes {
        [b'(' | b']' | b'}' | b')', next, ..] => b"(]})dlpqNIJKMLSUVXTFGcr.".contains(next),
        // The legacy format in protocol 0 begins with its magic number in digits.
        [b'L', b'0'..=b'9', ..] => true,
        [b'c', next, ..] => {
            let line = bytes.iter().take(200).position(|&byte| byte == b'\n').unwrap_or(0);
            (next.is_ascii_alphabetic() || *next == b'_')
                && bytes[..line].iter().all(|&byte| byte.is_ascii_alphanumeric() || b"._".contains(&byte))
                && line > 1
        }
        _ => false,
    }
}
