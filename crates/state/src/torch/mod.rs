//! PyTorch's files: zip archives, the legacy and tar formats, TorchScript, bare pickles.

mod archive;
mod dtypes;
mod keys;
mod legacy;
mod legacy_write;
mod numpy;
mod pickle;
mod pickle_write;
pub(crate) mod rebuild;
mod storage_plan;
mod tensors;
mod write;
pub(crate) mod zip;
pub(crate) mod zip_write;

use std::path::Path;

use indexmap::IndexSet;

pub(crate) use archive::read_zip;
pub(crate) use legacy::{is_legacy, read_legacy};
pub use write::{TorchOptions, write_torch};

use crate::{Content, Error, Global, Map, Result, Value};

/// A bare pickle: no storages beside it.
pub(crate) fn read_pickle(map: &Map) -> Result<Content> {
    let graph = pickle::read(map.bytes())?;
    let left = map.bytes().len() - graph.len;
    if left > 0 && matches!(graph.root, pickle::Item::Int(_) | pickle::Item::Node(_)) && is_wrong_magic(&graph) {
        return Err(Error::damaged("it begins like PyTorch's legacy format, but its magic number is another: the file is damaged"));
    }
    let mut globals = IndexSet::new();
    let root = pickle::build(&graph, &mut Bare, &mut globals)?;
    if left > 0 {
        return Err(Error::damaged(format!("a pickle of {} bytes is followed by {left} bytes that belong to nothing", graph.len)));
    }
    Ok(content(root, globals))
}

/// Whether the first pickle of a file is one integer, as the legacy format's is.
fn is_wrong_magic(graph: &pickle::Graph<'_>) -> bool {
    graph.nodes.len() <= 1 && graph.type_name(graph.root) == "an integer"
}

fn content(root: Value, globals: IndexSet<Global>) -> Content {
    Content { root, metadata: Vec::new(), globals: globals.into_iter().collect() }
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
fn inner_file(bytes: &[u8], globals: &mut IndexSet<Global>) -> Result<Value> {
    let map = Map::from_bytes(Path::new(""), bytes.to_vec());
    let inner = if is_legacy(bytes) {
        read_legacy(&map)
    } else if bytes.starts_with(b"PK") {
        read_zip(&map, &zip::Zip::open(&map)?)
    } else {
        Err(Error::damaged("the bytes of a storage are no torch file"))
    };
    let inner = inner.map_err(|error| error.within("a torch file inside the pickle"))?;
    globals.extend(inner.globals);
    Ok(inner.root)
}
