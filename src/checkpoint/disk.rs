//! Files that are whole or not there: written and synced under a temporary name, renamed, hashed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;

use sha2::{Digest, Sha256};

use super::{CheckpointError, FileEntry};

/// Prefix of names that are under way; they are removed when the run is opened again.
pub(super) const TEMPORARY: &str = ".unfinished-";

/// A file of more bytes than this is hashed by a thread of its own while it is written.
const LARGE: usize = 1 << 20;
/// How much of a file is in memory while it is hashed.
const CHUNK: usize = 1 << 20;

/// Writes a file and waits until it is on the disk; gives its size and hash.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<FileEntry, CheckpointError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    let (written, sha256) = if bytes.len() > LARGE {
        thread::scope(|scope| {
            let hash = scope.spawn(|| sha256(bytes));
            (write(), hash.join().unwrap_or_else(|_| sha256(bytes)))
        })
    } else {
        (write(), sha256(bytes))
    };
    written.map_err(|error| CheckpointError::io("write it", path, &error))?;
    Ok(FileEntry { bytes: bytes.len() as u64, sha256 })
}

/// Makes renames and new files in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), CheckpointError> {
    if cfg!(unix) {
        File::open(folder)
            .and_then(|file| file.sync_all())
            .map_err(|error| CheckpointError::io("sync it", folder, &error))?;
    }
    Ok(())
}

/// Replaces a small file at once: a temporary name, sync, rename.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), CheckpointError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let temporary = temporary(folder, &path.file_name().unwrap_or_default().to_string_lossy());
    write_synced(&temporary, text.as_bytes())?;
    fs::rename(&temporary, path).map_err(|error| CheckpointError::io("replace it", path, &error))?;
    sync_folder(folder)
}

/// The name under which something is while it is not whole.
pub(super) fn temporary(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{TEMPORARY}{name}"))
}

/// Removes a file or a folder with everything in it, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), CheckpointError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CheckpointError::io("remove it", path, &error)),
        _ => Ok(()),
    }
}

/// The sha256 of some bytes in hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    digits(&Sha256::digest(bytes))
}

/// Size and sha256 of a file, which is read in parts.
pub(super) fn hash_file(path: &Path) -> io::Result<FileEntry> {
    let mut file = File::open(path)?;
    let mut chunk = vec![0; CHUNK];
    let (mut bytes, mut hash) = (0, Sha256::new());
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(FileEntry { bytes, sha256: digits(&hash.finalize()) }),
            read => {
                hash.update(&chunk[..read]);
                bytes += read as u64;
            }
        }
    }
}

fn digits(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
