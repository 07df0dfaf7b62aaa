//! Files that appear whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::writeback::Writeback;
use crate::{Error, ErrorKind, Result, fs};

/// A file under construction, beside its destination and under another name.
///
/// [`AtomicFile::commit`] syncs it and renames it into place; dropped before that, it is removed and what was at the destination
/// stays as it was.
pub struct AtomicFile {
    out: BufWriter<File>,
    destination: PathBuf,
    temporary: PathBuf,
    written: u64,
    /// None when the file is not synced.
    sync: Option<Writeback>,
    committed: bool,
}

impl AtomicFile {
    /// Starts a file that will replace `path`.
    ///
    /// # Errors
    /// When the folder cannot be written to, or something that is not a file is at `path`.
    pub fn create(path: &Path) -> Result<Self> {
        // A link stays a link: the file that it names is replaced.
        let destination = match std::fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_symlink() => std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf()),
            _ => path.to_path_buf(),
        };
        let existing = std::fs::metadata(&destination).ok();
        if let Some(metadata) = &existing {
            if metadata.is_dir() {
                return Err(Error::io("write", path, io::ErrorKind::IsADirectory.into()));
            }
            if !metadata.is_file() {
                return Err(Error::new(ErrorKind::Io, "cannot write it: it is not a regular file").at(path));
            }
        }
        let Some(name) = destination.file_name() else {
            return Err(Error::new(ErrorKind::Io, "cannot write it: the path has no file name").at(path));
        };
        let mut attempts = 0;
        let (temporary, file) = loop {
            let temporary = destination.with_file_name(temporary_name(&name.to_string_lossy()));
            match File::options().write(true).create_new(true).open(&temporary) {
                Ok(file) => break (temporary, file),
                // Left behind by a process that had our number and was killed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempts < 100 => attempts += 1,
                Err(error) => return Err(cannot_create(path, error)),
            }
        };
        let out = BufWriter::with_capacity(1 << 16, file);
        let this = Self { out, destination, temporary, written: 0, sync: Some(Writeback::default()), committed: false };
        if let Some(metadata) = existing {
            // Who could read the old file can read the new one; that this may fail on odd file systems is no reason to stop.
            let _ = this.out.get_ref().set_permissions(metadata.permissions());
        }
        Ok(this)
    }

    /// Leaves it to the system when the bytes reach the disk: a power cut may lose the file.
    #[must_use]
    pub fn unsynced(self) -> Self {
        let mut this = self;
        this.sync = None;
        this
    }

    /// Bytes written so far, which is the position of the next one.
    pub fn position(&self) -> u64 {
        self.written
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|error| Error::io("write", &self.destination, error))?;
        self.written += bytes.len() as u64;
        if let Some(sync) = &mut self.sync {
            sync.written(self.out.get_ref(), self.written);
        }
        Ok(())
    }

    /// Appends zero bytes up to a multiple of `alignment`.
    ///
    /// # Errors
    /// As [`AtomicFile::put`].
    pub fn pad_to(&mut self, alignment: u64) -> Result<()> {
        let missing = self.written.next_multiple_of(alignment.max(1)) - self.written;
        let zeros = [0_u8; 256];
        let mut left = missing as usize;
        while left > 0 {
            let step = left.min(zeros.len());
            self.put(&zeros[..step])?;
            left -= step;
        }
        Ok(())
    }

    /// Overwrites bytes that were written before.
    ///
    /// # Errors
    /// As [`AtomicFile::put`].
    pub fn patch(&mut self, position: u64, bytes: &[u8]) -> Result<()> {
        let written = self.written;
        let mut patch = || -> io::Result<()> {
            self.out.seek(SeekFrom::Start(position))?;
            self.out.write_all(bytes)?;
            self.out.seek(SeekFrom::Start(written))?;
            Ok(())
        };
        patch().map_err(|error| Error::io("write", &self.destination, error))
    }

    /// Syncs the file, unless it is to be left unsynced, and puts it in its place.
    ///
    /// # Errors
    /// When the disk is full or fails: the destination is then as it was, unless only the sync of its folder failed.
    pub fn commit(mut self) -> Result<()> {
        let failed = |error| Error::io("write", &self.destination, error);
        self.out.flush().map_err(failed)?;
        if self.sync.is_some() {
            self.out.get_ref().sync_all().map_err(failed)?;
        }
        std::fs::rename(&self.temporary, &self.destination).map_err(failed)?;
        self.committed = true;
        let folder = self.destination.parent().unwrap_or(Path::new(""));
        if self.sync.is_some() { fs::sync_folder(folder).map_err(failed) } else { Ok(()) }
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing can be done about a failure to remove what could not be written.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Writes a whole file atomically.
///
/// # Errors
/// As [`AtomicFile::create`] and [`AtomicFile::commit`].
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.put(bytes)?;
    file.commit()
}

/// A name that no other writer of this process uses, short enough for file systems with a limit of 255 bytes.
fn temporary_name(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let short: String = name.chars().take(48).collect();
    format!(".{short}.{}-{number}.tmp", std::process::id())
}

pub(crate) fn cannot_create(path: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Error::new(ErrorKind::Io, format!("cannot create it: there is no folder {}", folder.display())).at(path)
        }
        io::ErrorKind::PermissionDenied => {
            Error::new(ErrorKind::Io, "cannot create it: permission to write in its folder is denied").at(path)
        }
        _ => Error::io("create", path, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_file_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        write_atomic(&path, b"old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.put(b"new").unwrap();
        drop(file);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn patches_and_pads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        let mut file = AtomicFile::create(&path).unwrap();
        file.put(b"abc").unwrap();
        file.pad_to(4).unwrap();
        file.patch(1, b"X").unwrap();
        file.put(b"d").unwrap();
        file.commit().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"aXc\0d");
    }

    #[test]
    fn errors_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = AtomicFile::create(folder.path()).err().unwrap().to_string();
        assert!(error.contains("it is a folder"), "{error}");
        let error = AtomicFile::create(&folder.path().join("no/such/x.pth")).err().unwrap().to_string();
        assert!(error.contains("x.pth") && error.contains("there is no folder"), "{error}");
        #[cfg(unix)]
        {
            let error = AtomicFile::create(Path::new("/dev/null")).err().unwrap().to_string();
            assert!(error.contains("not a regular file"), "{error}");
        }
    }
}
