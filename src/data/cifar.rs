//! CIFAR-10 in its binary form: an unpacked folder, the published archive, or one file.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::blob::{Blob, FETCH_AGAIN};
use super::{DataError, MemoryDataset, Shape, Split};

/// The class names, in the order of `batches.meta.txt`.
pub const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// The size of every image.
pub const SHAPE: Shape = Shape { channels: 3, height: 32, width: 32 };

/// One label byte, then 1,024 red, 1,024 green and 1,024 blue bytes.
const RECORD: usize = 3073;
/// More than ten times a published file; keeps a hostile archive from filling the memory.
const MOST_RECORDS: u64 = 150_000;
/// The folder in the published archive.
const FOLDER: &str = "cifar-10-batches-bin";
/// The published archive.
const ARCHIVE: &str = "cifar-10-binary.tar.gz";

/// Reads one split of CIFAR-10. `path` may be
/// - a folder with `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin` (each also with
///   `.gz`), or with a subfolder `cifar-10-batches-bin` of that content,
/// - a folder with `cifar-10-binary.tar.gz`, or that archive (`.tar.gz`, `.tgz`, `.tar`) itself,
/// - one `.bin` or `.bin.gz` file, which has a train split and no test split.
///
/// A file may hold any number of records.
pub fn open(path: &Path, split: Split) -> Result<MemoryDataset, DataError> {
    let mut labels = Vec::new();
    let mut pixels = Vec::new();
    for (path, bytes) in files(path, split)? {
        append(&path, &bytes, &mut labels, &mut pixels)?;
    }
    let name = format!("cifar-10 ({split})");
    Ok(MemoryDataset::new(name, SHAPE, &CLASSES, pixels, labels))
}

/// The names of the files of a split, in order.
fn names(split: Split) -> Vec<String> {
    match split {
        Split::Train => (1..=5).map(|n| format!("data_batch_{n}.bin")).collect(),
        Split::Test => vec!["test_batch.bin".to_string()],
    }
}

/// The content of the files of a split, in order, with their names for messages.
fn files(path: &Path, split: Split) -> Result<Vec<(PathBuf, Vec<u8>)>, DataError> {
    if path.is_file() {
        return if is_archive(path) {
            from_archive(path, split)
        } else if split == Split::Train {
            Ok(vec![single(path)?])
        } else {
            Err(DataError::missing(
                path,
                "a single file of CIFAR-10 records has only a train split, but the test split was asked for",
                "point data.dir at a folder with test_batch.bin or at cifar-10-binary.tar.gz",
            ))
        };
    }
    let nested = path.join(FOLDER);
    let folder = if nested.is_dir() { &nested } else { path };
    let found: Vec<Option<PathBuf>> = names(split)
        .iter()
        .map(|name| ["", ".gz"].iter().map(|suffix| folder.join(format!("{name}{suffix}"))).find(|file| file.is_file()))
        .collect();
    if found.iter().any(Option::is_some) {
        return names(split)
            .iter()
            .zip(found)
            .map(|(name, file)| match file {
                Some(file) => single(&file),
                None => Err(missing_batch(folder, name)),
            })
            .collect();
    }
    let archive = path.join(ARCHIVE);
    if archive.is_file() {
        return from_archive(&archive, split);
    }
    if path.join("cifar-10-batches-py").is_dir() || path.join("cifar-10-python.tar.gz").is_file() {
        return Err(DataError::missing(
            path,
            "the folder holds CIFAR-10's Python version, but the binary version is needed",
            "run `rekindle datasets fetch cifar-10`",
        ));
    }
    Err(DataError::missing(
        path,
        format!("the folder holds neither {} nor {ARCHIVE}", names(split)[0]),
        "run `rekindle datasets fetch cifar-10`, or point data.dir at a folder that has it",
    ))
}

fn missing_batch(path: &Path, name: &str) -> DataError {
    DataError::missing(path, format!("{name} is not in it"), "run `rekindle datasets fetch cifar-10`")
}

fn is_archive(path: &Path) -> bool {
    path.file_name()
        .and_then(OsStr::to_str)
        .is_some_and(|name| [".tar.gz", ".tgz", ".tar"].iter().any(|end| name.ends_with(end)))
}

/// Reads and unpacks one file of records.
fn single(path: &Path) -> Result<(PathBuf, Vec<u8>), DataError> {
    let blob = Blob::read(path)?;
    let limit = RECORD as u64 * MOST_RECORDS + 1;
    let bytes = blob.take(&mut *blob.reader(), limit)?;
    Ok((path.to_path_buf(), bytes))
}

/// Reads the files of a split from an archive, whatever their order there.
fn from_archive(path: &Path, split: Split) -> Result<Vec<(PathBuf, Vec<u8>)>, DataError> {
    let blob = Blob::read(path)?;
    let wanted = names(split);
    let mut found = BTreeMap::new();
    let mut archive = tar::Archive::new(blob.reader());
    let broken = |error: std::io::Error| {
        DataError::damaged(
            path,
            format!("a tar archive with {}", wanted.join(", ")),
            format!("an unreadable entry ({error})"),
            FETCH_AGAIN,
        )
    };
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let inner = entry.path().map_err(broken)?.into_owned();
        let Some(at) = wanted.iter().position(|name| inner.ends_with(name)) else {
            continue;
        };
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let declared = entry.size();
        let bytes = blob.take(&mut entry, RECORD as u64 * MOST_RECORDS + 1)?;
        if (bytes.len() as u64) < declared {
            return Err(DataError::damaged(
                &path.join(&inner),
                format!("{declared} bytes, as the archive declares"),
                bytes.len().to_string(),
                FETCH_AGAIN,
            ));
        }
        found.entry(at).or_insert((path.join(inner), bytes));
        if found.len() == wanted.len() {
            break;
        }
    }
    (0..wanted.len()).map(|at| found.remove(&at).ok_or_else(|| missing_batch(path, &wanted[at]))).collect()
}

/// Appends the records of one file.
fn append(path: &Path, bytes: &[u8], labels: &mut Vec<u8>, pixels: &mut Vec<u8>) -> Result<(), DataError> {
    if bytes.is_empty() || !bytes.len().is_multiple_of(RECORD) {
        return Err(DataError::damaged(
            path,
            format!("whole records of {RECORD} bytes, at least one"),
            format!("{} bytes", bytes.len()),
            FETCH_AGAIN,
        ));
    }
    let records = bytes.len() / RECORD;
    labels.reserve(records);
    pixels.reserve(records * SHAPE.len());
    for (at, record) in bytes.chunks_exact(RECORD).enumerate() {
        let label = record[0];
        if usize::from(label) >= CLASSES.len() {
            return Err(DataError::damaged(
                path,
                format!("labels from 0 to {}", CLASSES.len() - 1),
                format!("{label} in record {at}"),
                FETCH_AGAIN,
            ));
        }
        labels.push(label);
        pixels.extend_from_slice(&record[1..]);
    }
    Ok(())
}
