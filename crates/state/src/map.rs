//! A file in memory by map: opening costs nothing, and only the pages that are read are loaded.

use std::borrow::Cow;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{Error, Result, Source};

/// A whole file, mapped read-only. A clone is the same map.
///
/// As with every mapped file, its content is the file's: rekindle writes files by renaming, so a file that it replaces stays
/// whole under a map; another program that cuts a mapped file short makes reads of it fail with a signal.
#[derive(Clone, Debug)]
pub struct Map {
    path: Arc<PathBuf>,
    bytes: Arc<Bytes>,
}

#[derive(Debug)]
enum Bytes {
    Mapped(memmap2::Mmap),
    Owned(Vec<u8>),
}

impl Map {
    /// Maps a file.
    ///
    /// # Errors
    /// When it cannot be opened or mapped, or is a folder.
    #[expect(unsafe_code, reason = "the one memory map of the crate; see the type's documentation")]
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::io("open", path, error))?;
        let metadata = file.metadata().map_err(|error| Error::io("read", path, error))?;
        if metadata.is_dir() {
            return Err(Error::io("read", path, std::io::ErrorKind::IsADirectory.into()));
        }
        let bytes = if metadata.len() == 0 || !metadata.is_file() {
            // An empty file cannot be mapped, and a pipe has no length.
            Bytes::Owned(std::fs::read(path).map_err(|error| Error::io("read", path, error))?)
        } else {
            // SAFETY: the map is read-only and lives as long as its owner; that the file may change underneath is documented.
            Bytes::Mapped(unsafe { memmap2::Mmap::map(&file) }.map_err(|error| Error::io("map", path, error))?)
        };
        Ok(Self { path: Arc::new(path.to_path_buf()), bytes: Arc::new(bytes) })
    }

    /// Bytes in memory under a name, for tests and embedded files.
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Self {
        Self { path: Arc::new(path.to_path_buf()), bytes: Arc::new(Bytes::Owned(bytes)) }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        match &*self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }

    /// A run of bytes as a source for a [`crate::Storage`]; `None` when it goes past the end.
    pub fn slice(&self, range: Range<u64>) -> Option<MapSlice> {
        let range = usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?;
        self.bytes().get(range.clone())?;
        Some(MapSlice { map: self.clone(), range })
    }
}

/// Some bytes of a mapped file.
#[derive(Clone, Debug)]
pub struct MapSlice {
    map: Map,
    range: Range<usize>,
}

impl Source for MapSlice {
    fn len(&self) -> u64 {
        self.range.len() as u64
    }

    fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        Ok(Cow::Borrowed(&self.map.bytes()[self.range.clone()]))
    }

    fn resident(&self) -> Option<&[u8]> {
        Some(&self.map.bytes()[self.range.clone()])
    }
}
