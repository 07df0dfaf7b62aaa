//! `datasets fetch`: published data sets into a folder, checked.

use std::path::{Path, PathBuf};

use super::DataError;
use super::cache::cache_dir;
use super::catalog::{Published, published};
use super::config::nearest;
use super::download::{Listener, download, sha256_of};

/// The variable that names a mirror when none is given.
pub const MIRROR_VARIABLE: &str = "REKINDLE_MIRROR";

/// What a fetch did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The folder that holds the data set.
    pub dir: PathBuf,
    /// The files that were downloaded.
    pub downloaded: Vec<String>,
    /// The files that were there already, with the right sums.
    pub kept: Vec<String>,
}

/// Fetches a published data set by its name, into `dest` or else into [`cache_dir`], which is
/// where recipes without `data.dir` look.
///
/// A mirror holds a folder for each data set: `MIRROR/fashion-mnist/train-images-idx3-ubyte.gz`.
/// Without one, the address in `REKINDLE_MIRROR` is used, and without that the publishers' own.
/// Sums are the same wherever a file comes from.
pub fn fetch(name: &str, mirror: Option<&str>, dest: Option<&Path>, heard: Listener<'_>) -> Result<Fetched, DataError> {
    let set = published().find(|(known, _)| *known == name).map(|(_, set)| set).ok_or_else(|| {
        let names: Vec<&str> = published().map(|(name, _)| name).collect();
        DataError::Unsuitable {
            origin: format!("data set {name:?}"),
            expected: format!("one of {}", names.join(", ")),
            found: "a name that is not published".to_owned(),
            hint: nearest(name, &names),
        }
    })?;
    let dest = match dest {
        Some(dest) => dest.to_path_buf(),
        None => cache_dir(name)?,
    };
    fetch_set(name, set, mirror, &dest, heard)
}

/// Fetches the files of `set` into the folder `dest`. Files that are there with the right sum are
/// kept.
pub fn fetch_set(
    name: &str,
    set: &Published,
    mirror: Option<&str>,
    dest: &Path,
    heard: Listener<'_>,
) -> Result<Fetched, DataError> {
    let from_environment = std::env::var(MIRROR_VARIABLE).ok();
    let mirror = mirror.or(from_environment.as_deref()).filter(|mirror| !mirror.is_empty());
    let mut fetched = Fetched { dir: dest.to_path_buf(), downloaded: Vec::new(), kept: Vec::new() };
    for file in set.files {
        let path = dest.join(file.name);
        if path.is_file() && sha256_of(&path)? == file.sha256 {
            fetched.kept.push(file.name.to_string());
            continue;
        }
        let url = match mirror {
            Some(mirror) => format!("{}/{name}/{}", mirror.trim_end_matches('/'), file.name),
            None => format!("{}/{}", set.address, file.name),
        };
        download(&url, &path, Some(file.sha256), heard)?;
        fetched.downloaded.push(file.name.to_string());
    }
    Ok(fetched)
}
