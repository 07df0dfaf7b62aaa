//! One error type: a sentence that names the file, the key, what was expected and what was found.

use std::path::{Path, PathBuf};

/// What kind of failure an [`Error`] is, for programs that decide by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused to open, read or write a file.
    Io,
    /// The file is of a known format but broken: cut short, contradictory, beyond a stated limit.
    Damaged,
    /// The file is of no format that is known here.
    UnknownFormat,
    /// The content is valid, but this operation does not cover it.
    Unsupported,
    /// A name, a shape or an element type is not the one that was asked for.
    Mismatch,
}

/// Why a model file could not be read, written or used.
///
/// Its text is one sentence; [`Error::path`] and [`Error::kind`] tell programs the same.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    path: Option<PathBuf>,
    message: String,
    source: Option<std::io::Error>,
}

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of a kind with its sentence (without the file's name, which [`Error::at`] adds).
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, path: None, message: message.into(), source: None }
    }

    /// A broken file.
    pub fn damaged(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Damaged, message)
    }

    /// Valid content that this operation does not cover.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// A failure of the operating system on a file; `doing` is a verb such as `open`.
    pub fn io(doing: &str, path: &Path, source: std::io::Error) -> Self {
        let reason = reason(&source);
        Self {
            kind: ErrorKind::Io,
            path: Some(path.to_path_buf()),
            message: format!("cannot {doing} it: {reason}"),
            source: Some(source),
        }
    }

    /// Names the file, unless one is named already.
    #[must_use]
    pub fn at(mut self, path: &Path) -> Self {
        self.path.get_or_insert_with(|| path.to_path_buf());
        self
    }

    /// Puts what was being read (`tensor 'fc.weight'`) before the sentence.
    #[must_use]
    pub fn within(mut self, what: impl std::fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The file, where one is known.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}: {}", path.display(), self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

/// What the operating system says went wrong with a file, in words.
pub fn reason(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    let words = match error.kind() {
        ErrorKind::NotFound => "no such file",
        ErrorKind::PermissionDenied => "permission denied",
        ErrorKind::IsADirectory => "it is a folder",
        ErrorKind::NotADirectory => "a part of its path is a file",
        ErrorKind::AlreadyExists => "it is there already",
        ErrorKind::StorageFull => "the disk is full",
        ErrorKind::QuotaExceeded => "the disk quota is used up",
        ErrorKind::FileTooLarge => "the file would be larger than is allowed here (see `ulimit -f`)",
        ErrorKind::ReadOnlyFilesystem => "the file system is read-only",
        _ => return error.to_string(),
    };
    words.to_string()
}
