//! The entries of an archive that holds a program: its text, its pickles, and how many there are of each.

use std::borrow::Cow;

use super::archive::{StorageId, read_record, root_folder};
use super::exported::is_exported;
use super::script::is_script;
use super::zip::Zip;
use super::{Globals, pickle, tensors};
use crate::{Error, Map, Result, Source, Storage, Value};

/// Which kind of program an archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramKind {
    /// One of `torch.export.save`.
    Exported,
    /// TorchScript.
    Script,
}

/// An archive of PyTorch as entries by name. Nothing in it is run.
#[derive(Debug)]
pub struct ProgramArchive {
    zip: Zip,
}

impl ProgramArchive {
    /// Reads the directory of an archive.
    ///
    /// # Errors
    /// When the file is no zip archive, or its directory is damaged.
    pub fn open(map: &Map) -> Result<Self> {
        Zip::open(map).map(|zip| Self { zip }).map_err(|error| error.at(map.path()))
    }

    /// Which kind of program it holds, if it holds one.
    pub fn kind(&self) -> Option<ProgramKind> {
        if is_exported(&self.zip) {
            Some(ProgramKind::Exported)
        } else if is_script(&self.zip) {
            Some(ProgramKind::Script)
        } else {
            None
        }
    }

    /// Names of the entries, in the order of the directory.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.zip.entries().iter().map(|entry| entry.name.as_str())
    }

    /// The bytes of a small entry, with its checksum checked.
    ///
    /// # Errors
    /// When there is no such entry, or it is damaged.
    pub fn read(&self, name: &str) -> Result<Cow<'_, [u8]>> {
        self.zip.read(name)
    }

    /// The folder that holds `data.pkl`, with its slash.
    ///
    /// # Errors
    /// When there is none or more than one.
    pub fn root(&self) -> Result<String> {
        root_folder(&self.zip)
    }

    /// A pickle of the archive, such as `data.pkl`, whose storages are in a folder, such as `data/`; both below
    /// [`ProgramArchive::root`].
    ///
    /// # Errors
    /// When it is damaged.
    pub fn pickle(&self, name: &str, folder: &str) -> Result<Value> {
        read_record(&self.zip, &self.root()?, name, folder, &mut Globals::default())
    }

    /// A pickle of the archive whose tensors were written without their values, as `traced_inputs.pkl` is: types and
    /// shapes.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn outlines(&self, name: &str) -> Result<Value> {
        let bytes = self.zip.read(&format!("{}{name}", self.root()?))?;
        let graph = pickle::read(&bytes).map_err(|error| error.within(name))?;
        pickle::build(&graph, &mut Outlines, &mut Globals::default())
    }
}

/// Storages of which only the length is known.
struct Outlines;

impl pickle::Loader for Outlines {
    fn persistent(&mut self, id: Value) -> Result<Value> {
        let Value::Tuple(parts) = &id else {
            return Err(Error::damaged(format!("a persistent id is of type {}, not a tuple", id.type_name())));
        };
        let id = StorageId::read(parts)?;
        let storage = Storage::new(Absent(id.numel * id.dtype.size() as u64), &id.key);
        tensors::storage_value(id.class.clone(), id.dtype, storage, 0, id.numel)
    }
}

/// Bytes that were not written.
struct Absent(u64);

impl Source for Absent {
    fn len(&self) -> u64 {
        self.0
    }

    fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        Err(Error::unsupported("the values of an example input are not in the file"))
    }
}
