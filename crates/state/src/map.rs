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
    /// The part of the file that this is a map of.
    range: Range<usize>,
}

#[derive(Debug)]
enum Bytes {
    // The file is asked for its pages on Unix alone.
    #[cfg_attr(not(unix), allow(dead_code))]
    Mapped(memmap2::Mmap, File),
    Owned(Vec<u8>),
}

impl Bytes {
    fn whole(&self) -> &[u8] {
        match self {
            Self::Mapped(map, _) => map,
            Self::Owned(bytes) => bytes,
        }
    }
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
            let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|error| Error::io("map", path, error))?;
            Bytes::Mapped(map, file)
        };
        Ok(Self::new(path, bytes))
    }

    fn new(path: &Path, bytes: Bytes) -> Self {
        let length = bytes.whole().len();
        Self { path: Arc::new(path.to_path_buf()), bytes: Arc::new(bytes), range: 0..length }
    }

    /// Bytes in memory under a name, for tests and embedded files.
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Self {
        Self::new(path, Bytes::Owned(bytes))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes.whole()[self.range.clone()]
    }

    /// A map of a run of bytes: a file inside this one, such as an entry of an archive. `None` when it goes past the end.
    pub fn part(&self, range: Range<u64>) -> Option<Self> {
        let range = usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?;
        self.bytes().get(range.clone())?;
        let start = self.range.start;
        Some(Self { range: start + range.start..start + range.end, ..self.clone() })
    }

    /// A run of bytes as a source for a [`crate::Storage`]; `None` when it goes past the end.
    pub fn slice(&self, range: Range<u64>) -> Option<MapSlice> {
        let range = usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?;
        self.bytes().get(range.clone())?;
        Some(MapSlice { map: self.clone(), range })
    }

    /// As [`Map::slice`], for bytes that are a part of [`Map::bytes`]; `None` when they lie elsewhere.
    pub fn slice_of(&self, part: &[u8]) -> Option<MapSlice> {
        let start = part.as_ptr().addr().checked_sub(self.bytes().as_ptr().addr())? as u64;
        self.slice(start..start + part.len() as u64)
    }

    /// Copies a run of bytes from the file itself: what is copied once need not stay in memory as pages of the map, too.
    fn copy(&self, range: Range<usize>) -> Result<Vec<u8>> {
        match &*self.bytes {
            #[cfg(unix)]
            Bytes::Mapped(_, file) => {
                let mut copy = vec![0; range.len()];
                let start = self.range.start + range.start;
                let read = std::os::unix::fs::FileExt::read_exact_at(file, &mut copy, start as u64);
                read.map_err(|error| Error::io("read", self.path(), error))?;
                Ok(copy)
            }
            _ => Ok(self.bytes()[range].to_vec()),
        }
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

    fn copy(&self, range: Range<usize>) -> Result<Vec<u8>> {
        let outside = || Error::damaged(format!("bytes {range:?} are past the end of {}", self.range.len()));
        let (start, end) = (self.range.start.checked_add(range.start), self.range.start.checked_add(range.end));
        let (Some(start), Some(end)) = (start, end.filter(|end| *end <= self.range.end)) else { return Err(outside()) };
        if start > end { Err(outside()) } else { self.map.copy(start..end) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_is_what_is_mapped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, (0..=255).collect::<Vec<u8>>()).unwrap();
        for map in [Map::open(&path).unwrap(), Map::from_bytes(&path, (0..=255).collect())] {
            let slice = map.slice_of(&map.bytes()[100..200]).unwrap();
            assert_eq!(slice.bytes().unwrap().as_ref(), &map.bytes()[100..200]);
            assert_eq!(slice.copy(3..7).unwrap(), [103, 104, 105, 106]);
            assert!(slice.copy(100..100).unwrap().is_empty());
            assert!(slice.copy(99..101).is_err());
            assert!(map.slice_of(&vec![0; 300]).is_none());
            let part = map.part(50..150).unwrap().part(50..60).unwrap();
            assert_eq!(part.bytes(), &map.bytes()[100..110]);
            assert_eq!(part.slice(2..10).unwrap().copy(1..3).unwrap(), [103, 104]);
            assert!(part.part(5..11).is_none() && part.slice(0..11).is_none());
        }
    }
}
