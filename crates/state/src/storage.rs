//! Where a tensor's bytes lie: in memory, in a mapped file, or in a source that produces them when asked.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, Result};

/// Bytes that are produced when they are asked for: a deflated zip entry, a parameter on a GPU.
pub trait Source: Send + Sync {
    /// Number of bytes, known without producing them.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All the bytes; borrowed where they lie in memory or in a mapped file.
    ///
    /// # Errors
    /// When the file changed underneath, a checksum differs, or a stream is broken.
    fn bytes(&self) -> Result<Cow<'_, [u8]>>;

    /// The bytes where they lie in memory or in a mapped file, as they are: nothing is checked.
    fn resident(&self) -> Option<&[u8]> {
        None
    }

    /// A copy of a range of the bytes, which a source that maps a file makes without holding on to the file's pages.
    ///
    /// # Errors
    /// As [`Source::bytes`], and when there are not as many bytes.
    fn copy(&self, range: Range<usize>) -> Result<Vec<u8>> {
        let bytes = self.bytes()?;
        let part = bytes.get(range.clone());
        part.map(<[u8]>::to_vec)
            .ok_or_else(|| Error::damaged(format!("bytes {range:?} are past the end of {}", bytes.len())))
    }
}

impl Source for Vec<u8> {
    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }

    fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        Ok(Cow::Borrowed(self))
    }

    fn resident(&self) -> Option<&[u8]> {
        Some(self)
    }
}

/// A run of bytes that one or several tensors view, as `torch.Storage` is.
///
/// A clone is the same storage: two tensors share memory exactly when their storages have the same [`Storage::id`].
#[derive(Clone)]
pub struct Storage {
    id: u64,
    key: Arc<str>,
    source: Arc<dyn Source>,
    big_endian: bool,
}

impl Storage {
    /// A storage over a source. `key` is the name that its file gives it (`"0"`), or empty.
    pub fn new(source: impl Source + 'static, key: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), key: key.into(), source: Arc::new(source), big_endian: false }
    }

    /// Marks the bytes as big endian: they are swapped on reading.
    #[must_use]
    pub fn big_endian(mut self) -> Self {
        self.big_endian = true;
        self
    }

    /// Whether the bytes are big endian.
    pub fn is_big_endian(&self) -> bool {
        self.big_endian
    }

    /// A number that no other storage in this process has.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The name that the file gives this storage; empty for one made in memory.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Puts the name of the file that it is in before its key; a storage without a key stays so.
    pub(crate) fn name(&mut self, file: &str) {
        if !self.key.is_empty() {
            self.key = format!("{file}/{}", self.key).into();
        }
    }

    /// Number of bytes.
    pub fn len(&self) -> u64 {
        self.source.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.source.is_empty()
    }

    /// All bytes, as stored.
    ///
    /// # Errors
    /// See [`Source::bytes`].
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        self.source.bytes()
    }

    /// All bytes, as stored, where they lie in memory or in a mapped file; nothing is checked.
    pub fn resident(&self) -> Option<&[u8]> {
        self.source.resident()
    }

    /// A copy of a range of the bytes, as stored.
    ///
    /// # Errors
    /// See [`Source::copy`].
    pub fn copy(&self, range: Range<usize>) -> Result<Vec<u8>> {
        self.source.copy(range)
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").field("id", &self.id).field("key", &self.key).field("len", &self.len()).finish()
    }
}
