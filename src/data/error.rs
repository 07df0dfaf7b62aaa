//! What can go wrong between a file of images and a batch.

use std::path::{Path, PathBuf};

use super::download::DownloadError;

/// An error of the data layer: one sentence that names the file or the key, what was expected,
/// what was found and what to try.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file does not hold what its format promises.
    #[error("{}: expected {expected}, found {found}; {hint}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the format or the other files ask for.
        expected: String,
        /// What the file holds.
        found: String,
        /// What to try.
        hint: String,
    },
    /// A file or folder is not there.
    #[error("{}: {what}; {hint}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// What was looked for.
        what: String,
        /// What to try.
        hint: String,
    },
    /// The operating system refused a file operation.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb: "read the file".
        action: &'static str,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// An image that cannot be decoded.
    #[error("{}: expected an image, but it cannot be decoded ({source}); replace or remove the file", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// The decoder's answer.
        source: image::ImageError,
    },
    /// An image that does not suit the transforms or the other images of its batch.
    #[error("{origin}: expected {expected}, found {found}; {hint}")]
    Unsuitable {
        /// The image: a file name, or the set's name and the image's number.
        origin: String,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
        /// What to try.
        hint: String,
    },
    /// A setting of the recipe's `[data]` section that cannot be used.
    #[error("data.{key}: expected {expected}, found {found}; {hint}")]
    Setting {
        /// The key below `data`.
        key: String,
        /// What is accepted.
        expected: String,
        /// What was given.
        found: String,
        /// What to try.
        hint: String,
    },
    /// An option of the command line that cannot be used.
    #[error("{option}: expected {expected}, found {found}; {hint}")]
    Option {
        /// The option: `--normalize`.
        option: &'static str,
        /// What is accepted.
        expected: String,
        /// What was given.
        found: String,
        /// What to try.
        hint: String,
    },
    /// A loader thread could not be started or ended early.
    #[error("data.workers: a loader thread {what}; try data.workers = 0")]
    Worker {
        /// What happened to the thread.
        what: String,
    },
    /// A download failed.
    #[error(transparent)]
    Download(#[from] DownloadError),
}

impl DataError {
    /// A closure for `map_err` that adds the path and the action to an operating system's error.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, action, source }
    }

    /// A damaged file.
    pub(crate) fn damaged(
        path: &Path,
        expected: impl Into<String>,
        found: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::Damaged { path: path.to_path_buf(), expected: expected.into(), found: found.into(), hint: hint.into() }
    }

    /// A missing file or folder.
    pub(crate) fn missing(path: &Path, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Missing { path: path.to_path_buf(), what: what.into(), hint: hint.into() }
    }

    /// An option that cannot be used.
    pub(crate) fn option(
        option: &'static str,
        expected: impl Into<String>,
        found: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::Option { option, expected: expected.into(), found: found.into(), hint: hint.into() }
    }

    /// A setting that cannot be used.
    pub(crate) fn setting(
        key: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::Setting { key: key.into(), expected: expected.into(), found: found.into(), hint: hint.into() }
    }
}
