//! PyTorch's files: zip archives, the legacy and tar formats, TorchScript, bare pickles.

mod archive;
pub(crate) mod audit;
mod bare;
mod crc;
mod distributed;
pub(crate) mod dtensor;
pub(crate) mod dtypes;
mod exported;
mod inside;
mod keys;
mod legacy;
mod legacy_write;
mod made;
pub(crate) mod module;
mod numpy;
mod pickle;
mod pickle_tensor;
mod pickle_write;
mod program;
pub(crate) mod rebuild;
mod rewrite;
mod script;
mod storage_plan;
mod tar;
mod tensors;
mod write;
pub(crate) mod zip;
pub(crate) mod zip_write;

use std::path::Path;

use indexmap::IndexSet;

pub use archive::TorchZip;
use bare::Bare;
pub use bare::Pickle;
pub use distributed::Distributed;
pub use inside::ModelZip;
pub use legacy::TorchLegacy;
use legacy::is_legacy;
pub use program::{ProgramArchive, ProgramKind};
pub use rewrite::rewrite_program;
pub use script::TorchScript;
pub use tar::TorchTar;
pub use write::{TorchOptions, write_torch};

use crate::walk::name_storages;
use crate::{Content, Error, Global, Map, Result, Value};

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
    /// How many torch files were found in the bytes of pickles.
    inner: u32,
}

/// A torch file inside another one, read like any other and run as little. `name` is what tells its storages apart.
fn inner_file(map: &Map, name: &str, globals: &mut Globals) -> Result<Value> {
    let depth = globals.depth + 1;
    if depth > INNER {
        return Err(Error::unsupported(format!(
            "torch files lie more than {INNER} deep inside each other: such files are not read"
        )));
    }
    let own = Globals { depth, ..Globals::default() };
    let inner = if is_legacy(map.bytes()) {
        legacy::read(map, own)
    } else if map.bytes().starts_with(b"PK") {
        archive::read(&zip::Zip::open(map)?, own)
    } else {
        Err(Error::damaged("the bytes are no torch file"))
    };
    let mut inner = inner.map_err(|error| error.within(name))?;
    globals.found.extend(inner.globals);
    name_storages(&mut inner.root, name);
    Ok(inner.root)
}

/// A torch file in the bytes of a pickle (`torch.storage._load_from_bytes`).
fn inner_bytes(bytes: &[u8], globals: &mut Globals) -> Result<Value> {
    globals.inner += 1;
    let name = format!("torch file {} inside the pickle", globals.inner);
    inner_file(&Map::from_bytes(Path::new(""), bytes.to_vec()), &name, globals)
}
