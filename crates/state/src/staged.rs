//! Several files that appear together, once they are known to be good.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::atomic::cannot_create;
use crate::{Error, ErrorKind, Result};

/// A folder beside a destination, in which files are written and looked at before they get their place.
///
/// [`Staged::publish`] moves them beside each other; dropped before that, they are removed and what was there stays as it was.
pub struct Staged {
    folder: PathBuf,
    destination: PathBuf,
}

impl Staged {
    /// Starts files of which one will replace `path`.
    ///
    /// # Errors
    /// When the folder of `path` cannot be written to, or something that is not a file is at `path`.
    pub fn beside(path: &Path) -> Result<Self> {
        // A link stays a link: the file that it names is replaced.
        let destination = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        if let Ok(metadata) = fs::metadata(&destination) {
            if metadata.is_dir() {
                return Err(Error::io("write", path, io::ErrorKind::IsADirectory.into()));
            }
            if !metadata.is_file() {
                return Err(Error::new(ErrorKind::Io, "cannot write it: it is not a regular file").at(path));
            }
        }
        if destination.file_name().is_none() {
            return Err(Error::new(ErrorKind::Io, "cannot write it: the path has no file name").at(path));
        }
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let folder = destination.with_file_name(format!(".rekindle.{}-{number}.tmp", std::process::id()));
            match fs::create_dir(&folder) {
                Ok(()) => return Ok(Self { folder, destination }),
                // Left behind by a process that had our number and was killed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1000 => {}
                Err(error) => return Err(cannot_create(path, error)),
            }
        }
    }

    /// The folder to write into.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The last part of the destination.
    pub fn name(&self) -> String {
        self.destination.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Moves files of the folder, each under its own name, to their places in order.
    ///
    /// # Errors
    /// When a file cannot be synced or moved.
    pub fn publish(self, names: &[String]) -> Result<()> {
        for name in names {
            let (from, to) = (self.folder.join(name), self.destination.with_file_name(name));
            let moved = crate::fs::sync_file(&from).and_then(|()| fs::rename(&from, &to));
            moved.map_err(|error| Error::io("write", &to, error))?;
        }
        let folder = self.destination.parent().unwrap_or(Path::new(""));
        crate::fs::sync_folder(folder).map_err(|error| Error::io("write", &self.destination, error))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Nothing can be done about a failure to remove what is no longer wanted.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_appear_together_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.onnx");
        fs::write(&path, b"old").unwrap();
        let staged = Staged::beside(&path).unwrap();
        fs::write(staged.folder().join("a.onnx"), b"bad").unwrap();
        drop(staged);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        let staged = Staged::beside(&path).unwrap();
        assert_eq!(staged.name(), "a.onnx");
        fs::write(staged.folder().join("a.onnx"), b"new").unwrap();
        fs::write(staged.folder().join("a.onnx.data"), b"data").unwrap();
        staged.publish(&["a.onnx.data".to_string(), "a.onnx".to_string()]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["a.onnx", "a.onnx.data"]);
    }

    #[test]
    fn errors_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = Staged::beside(&folder.path().join("no/x.onnx")).err().unwrap().to_string();
        assert!(error.contains("x.onnx") && error.contains("there is no folder"), "{error}");
        let error = Staged::beside(folder.path()).err().unwrap().to_string();
        assert!(error.contains("it is a folder"), "{error}");
    }
}
