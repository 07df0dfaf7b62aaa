//! PyTorch's files: zip archives, the legacy and tar formats, TorchScript, bare pickles.

mod archive;
pub(crate) mod audit;
mod crc;
pub(crate) mod dtypes;
mod exported;
mod keys;
mod legacy;
mod legacy_write;
mod made;
pub(crate) mod module;
mod numpy;
mod pickle;
mod pickle_tensor;
mod pickle_write;
pub(crate) mod rebuild;
mod script;
mod storage_plan;
mod tar;
mod tensors;
mod write;
pub(crate) mod zip;
pub(crate) mod zip_write;

use std::path::Path;

use indexmap::IndexSet;

pub(crate) use archive::read_zip;
pub(crate) use exported::{is_exported, read_exported};
pub(crate) use legacy::{is_legacy, read_legacy};
pub(crate) use script::{is_script, read_script};
pub(crate) use tar::{is_tar, read_tar};
pub use write::{TorchOptions, write_torch};

use crate::{Content, Error, Global, Map, Result, Value};

/// A bare pickle: no storages beside it.
pub(crate) fn read_pickle(map: &Map) -> Result<Content> {
    let bytes = map.bytes();
    let mut globals = Globals::default();
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
        values.push(pickle::build(&graph, &mut Bare, &mut globals)?);
        at += graph.len;
        if values.len() > PICKLES {
            return Err(Error::unsupported(format!("the file holds more than {PICKLES} pickles one after the other")));
        }
    }
    // Repeated dumps into one file are a list of what was dumped.
    let root = if values.len() == 1 { values.swap_remove(0) } else { Value::List(values) };
    Ok(content(root, globals))
}

/// How many pickles one file may hold, one after the other.
const PICKLES: usize = 10_000;

/// Whether the first pickle of a file is one integer, as the legacy format's is.
fn is_wrong_magic(graph: &pickle::Graph<'_>) -> bool {
    matches!(graph.node(graph.root), Some(pickle::Node::Big(_)))
}

fn content(root: Value, globals: Globals) -> Content {
    Content { root, metadata: Vec::new(), globals: globals.found.into_iter().collect() }
}

/// How deep torch files may lie inside pickles inside torch files.
const INNER: u32 = 4;

/// Classes and functions that were named so far, and inside how many files.
#[derive(Default)]
pub(crate) struct Globals {
    pub found: IndexSet<Global>,
    depth: u32,
}

/// A pickle that keeps nothing outside.
struct Bare;

impl pickle::Loader for Bare {
    fn persistent(&mut self, _: Value) -> Result<Value> {
        Err(Error::unsupported(
            "the pickle refers to storages that are not in this file: it is only a part of a PyTorch file, such as its data.pkl; open the whole file",
        ))
    }
}

/// A torch file inside a pickle (`torch.storage._load_from_bytes`), read like any other and run as little.
fn inner_file(bytes: &[u8], globals: &mut Globals) -> Result<Value> {
    let map = Map::from_bytes(Path::new(""), bytes.to_vec());
    let depth = globals.depth + 1;
    if depth > INNER {
        return Err(Error::unsupported(format!(
            "torch files lie more than {INNER} deep inside each other: such files are not read"
        )));
    }
    let own = Globals { depth, ..Globals::default() };
    let inner = if is_legacy(bytes) {
        legacy::read(&map, own)
    } else if bytes.starts_with(b"PK") {
        archive::read(&zip::Zip::open(&map)?, own)
    } else {
        Err(Error::damaged("the bytes of a storage are no torch file"))
    };
    let inner = inner.map_err(|error| error.within("a torch file inside the pickle"))?;
    globals.found.extend(inner.globals);
    Ok(inner.root)
}
