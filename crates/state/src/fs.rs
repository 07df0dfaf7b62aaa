//! Files that are whole or not there, and their hashes: the one rule of durability.
//!
//! What is written under a name is written and synced under another one first, then renamed, then the folder is synced. A sync that
//! fails is an error: a full disk may only show there. Folders that a file system cannot sync at all are the one exception.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Bytes of a file that are in memory while it is hashed.
const CHUNK: usize = 1 << 20;
/// A file of more bytes than this is hashed by a thread of its own while it is written.
const LARGE: usize = 1 << 20;

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The SHA-256 of some bytes in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The size in bytes and the SHA-256 of a file, which is read in parts.
///
/// # Errors
/// When it cannot be read.
pub fn sha256_file(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut chunk = vec![0; CHUNK];
    let (mut bytes, mut hash) = (0, Sha256::new());
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok((bytes, hex(&hash.finalize()))),
            Ok(read) => {
                hash.update(&chunk[..read]);
                bytes += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes a file and waits until it is on the disk; gives its SHA-256, which is computed meanwhile.
///
/// # Errors
/// When it cannot be created, written or synced.
pub fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<String> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    if bytes.len() <= LARGE {
        return write().map(|()| sha256(bytes));
    }
    std::thread::scope(|scope| {
        let hash = scope.spawn(|| sha256(bytes));
        write()?;
        Ok(hash.join().unwrap_or_else(|_| sha256(bytes)))
    })
}

/// Waits until a file that somebody else wrote is on the disk.
///
/// # Errors
/// When it cannot be opened or synced.
pub fn sync_file(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes renames and new files in a folder survive a power cut. Where folders cannot be synced (Windows, some network file systems)
/// that is left to the system.
///
/// # Errors
/// When the folder cannot be opened, or its sync fails.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    match File::open(folder)?.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        synced => synced,
    }
}

/// Gives a file or folder, whose content is synced already, its place: a rename, and a sync of the folder that it is in.
///
/// # Errors
/// When it cannot be renamed or the folder not be synced.
pub fn move_into_place(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_folder(to.parent().unwrap_or(Path::new("")))
}

/// Replaces a small file by way of a temporary one in the same folder: whoever reads it finds the old or the new content.
///
/// # Errors
/// When the temporary file cannot be written, or not be renamed.
pub fn replace(path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
    write_synced(temporary, bytes)?;
    move_into_place(temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_standard() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc"), abc);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        assert_eq!(write_synced(&path, b"abc").unwrap(), abc);
        assert_eq!(sha256_file(&path).unwrap(), (3, abc.to_string()));
        let large = vec![7; 2 * LARGE];
        assert_eq!(write_synced(&path, &large).unwrap(), sha256_file(&path).unwrap().1);
        assert_eq!(hex(&[0, 0x0f, 0xff]), "000fff");
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (path, temporary) = (folder.path().join("last"), folder.path().join(".last"));
        for text in ["one", "two"] {
            replace(&path, &temporary, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        sync_file(&path).unwrap();
        assert!(sync_folder(&folder.path().join("none")).is_err());
        assert!(replace(&folder.path().join("no/last"), &folder.path().join("no/.last"), b"").is_err());
    }
}
