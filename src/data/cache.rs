//! Where fetched data sets lie.

use std::path::PathBuf;

use super::DataError;

/// The folder in the user's cache that holds a fetched data set.
pub fn cache_dir(name: &str) -> Result<PathBuf, DataError> {
    match dirs::cache_dir() {
        Some(cache) => Ok(cache.join("rekindle").join("datasets").join(name)),
        None => Err(DataError::setting(
            "dir",
            "a folder, because this user has no cache folder",
            "none",
            "set data.dir, or HOME for a cache folder",
        )),
    }
}
