//! Weights in the model's own file or in files beside it, and nowhere else.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use prost::bytes::Bytes;

use super::proto::StringStringEntryProto;
use crate::{Error, ErrorKind, Map, Result, Source, Storage};

/// The files of weights of one model.
pub struct External {
    folder: PathBuf,
    /// The file of the model itself.
    model: Option<Map>,
    maps: HashMap<String, Map>,
}

impl External {
    /// For a model in a folder.
    pub fn new(folder: &Path) -> Self {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        Self { folder: folder.to_path_buf(), model: None, maps: HashMap::new() }
    }

    /// For a model that lies in a mapped file and was decoded from its bytes.
    pub fn of(map: &Map) -> Self {
        Self { model: Some(map.clone()), ..Self::new(map.path().parent().unwrap_or(Path::new(""))) }
    }

    /// Bytes that the decoded model itself holds.
    pub(super) fn inside(&self, raw: &Bytes) -> Storage {
        match self.model.as_ref().and_then(|map| map.slice_of(raw)) {
            Some(slice) => Storage::new(slice, ""),
            None => Storage::new(Shared(raw.clone()), ""),
        }
    }

    /// The bytes that a tensor's `external_data` names.
    ///
    /// # Errors
    /// When it names no regular file beside the model, or more bytes than that file has.
    pub fn storage(&mut self, entries: &[StringStringEntryProto]) -> Result<Storage> {
        let field = |key: &str| entries.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str());
        let location =
            field("location").ok_or_else(|| Error::damaged("its data is in another file that is not named"))?;
        let number = |key: &str| -> Result<Option<u64>> {
            let parse = |text: &str| {
                text.parse()
                    .map_err(|_| Error::damaged(format!("the {key} of its data is '{text}', which is no number")))
            };
            field(key).map(parse).transpose()
        };
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let map = self.map(location)?;
        let held = map.bytes().len() as u64;
        let end = match length {
            Some(length) => offset.checked_add(length),
            None => Some(held.max(offset)),
        };
        let slice = end.and_then(|end| map.slice(offset..end));
        let slice = slice.ok_or_else(|| {
            Error::damaged(format!("its data is past the end of '{location}', which has {held} bytes"))
        })?;
        Ok(Storage::new(slice, location))
    }

    fn map(&mut self, location: &str) -> Result<Map> {
        if let Some(map) = self.maps.get(location) {
            return Ok(map.clone());
        }
        let refused = || {
            let message = format!(
                "its data is said to be in '{location}', outside the model's folder: only files beside the model are read"
            );
            Error::unsupported(message)
        };
        let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if location.is_empty() || location.contains('\\') || !Path::new(location).components().all(plain) {
            return Err(refused());
        }
        let path = self.folder.join(location);
        let missing = |_| {
            Error::new(
                ErrorKind::Io,
                format!("its data is in '{location}', which is not beside the model: put it there"),
            )
        };
        let real = std::fs::canonicalize(&path).map_err(missing)?;
        let folder = std::fs::canonicalize(&self.folder).map_err(|error| Error::io("open", &self.folder, error))?;
        // A link may lead out of the folder.
        if !real.starts_with(folder) {
            return Err(refused());
        }
        if !real.is_file() {
            return Err(Error::unsupported(format!(
                "its data is said to be in '{location}', which is no regular file"
            )));
        }
        let map = Map::open(&real)?;
        self.maps.insert(location.to_string(), map.clone());
        Ok(map)
    }
}

/// Bytes that share the decoded file.
struct Shared(Bytes);

impl Source for Shared {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        Ok(Cow::Borrowed(&self.0))
    }

    fn resident(&self) -> Option<&[u8]> {
        Some(&self.0)
    }
}
