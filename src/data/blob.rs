//! Whole files in memory, unpacked from gzip without trusting the sizes that they declare.

use std::borrow::Cow;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::DataError;

/// The best that deflate can do: 258 bytes from two bits. A file that claims more is lying.
const DEFLATE_LIMIT: u64 = 1032;

/// Advice for a file that ends early or does not unpack.
pub(crate) const FETCH_AGAIN: &str = "the file is damaged or incomplete, download it again";

/// The bytes of a file, packed or not, with the name for messages.
pub(crate) struct Blob {
    pub path: PathBuf,
    bytes: Cow<'static, [u8]>,
}

impl Blob {
    /// Reads a whole file.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let bytes = fs::read(path).map_err(DataError::io(path, "read the file"))?;
        Ok(Self {
            path: path.to_path_buf(),
            bytes: Cow::Owned(bytes),
        })
    }

    /// A file that is part of the program.
    pub fn embedded(name: &str, bytes: &'static [u8]) -> Self {
        Self {
            path: PathBuf::from(name),
            bytes: Cow::Borrowed(bytes),
        }
    }

    /// Whether the file is packed by gzip. Decided by content: names are often wrong.
    fn is_gzip(&self) -> bool {
        self.bytes.starts_with(&[0x1f, 0x8b])
    }

    /// The unpacked content as a stream.
    pub fn reader(&self) -> Box<dyn Read + '_> {
        if self.is_gzip() {
            Box::new(MultiGzDecoder::new(&*self.bytes))
        } else {
            Box::new(&*self.bytes)
        }
    }

    /// The most bytes that the file can unpack to.
    pub fn most(&self) -> u64 {
        let len = self.bytes.len() as u64;
        if self.is_gzip() {
            len.saturating_mul(DEFLATE_LIMIT)
        } else {
            len
        }
    }

    /// Reads up to `limit` bytes of `reader`, a stream of this file. Memory grows with what is
    /// really there, never with a declared size.
    pub fn take(&self, reader: &mut dyn Read, limit: u64) -> Result<Vec<u8>, DataError> {
        let mut bytes = Vec::with_capacity(limit.min(self.most()).min(1 << 26) as usize);
        match reader.take(limit).read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(self.unpacking(&error, bytes.len())),
        }
    }

    /// The error for a stream that broke off after `count` bytes.
    pub fn unpacking(&self, error: &std::io::Error, count: usize) -> DataError {
        let found = if error.kind() == ErrorKind::UnexpectedEof {
            format!("the end of the file after {count} unpacked bytes")
        } else {
            format!("damage after {count} unpacked bytes ({error})")
        };
        DataError::damaged(&self.path, "a complete gzip stream", found, FETCH_AGAIN)
    }
}
