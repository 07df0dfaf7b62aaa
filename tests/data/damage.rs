//! Damage at every place of small files: an answer or an error, never a panic.

use std::fs;
use std::path::Path;

use burn::data::dataset::Dataset;
use rekindle::data::catalog::MNIST_CLASSES;
use rekindle::data::{FolderDataset, Split, cifar, idx};
use tempfile::tempdir;

use super::folder::write_image;
use super::{gzip, write_idx_set};

/// Calls `read` with the file cut off and with a byte changed, at up to 300 places.
fn damage(path: &Path, mut read: impl FnMut()) {
    let whole = fs::read(path).unwrap();
    for at in (0..whole.len()).step_by(whole.len().div_ceil(300)) {
        fs::write(path, &whole[..at]).unwrap();
        read();
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            fs::write(path, bytes).unwrap();
            read();
        }
    }
    fs::write(path, whole).unwrap();
    read();
}

#[test]
fn idx_files() {
    let dir = tempdir().unwrap();
    write_idx_set(dir.path(), 20);
    for name in ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"] {
        let path = dir.path().join(name);
        for packed in [false, true] {
            if packed {
                fs::write(&path, gzip(&fs::read(&path).unwrap())).unwrap();
            }
            damage(&path, || {
                let _ = idx::open(dir.path(), "mnist", &MNIST_CLASSES, Split::Train);
            });
        }
    }
    assert!(idx::open(dir.path(), "mnist", &MNIST_CLASSES, Split::Train).is_ok());
}

#[test]
fn archives() {
    let dir = tempdir().unwrap();
    for (name, bytes) in [("some.tar", super::cifar::archive()), ("some.tar.gz", gzip(&super::cifar::archive()))] {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        damage(&path, || {
            let _ = cifar::open(&path, Split::Train);
        });
    }
}

#[test]
fn pictures() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a/1.png");
    write_image(&path, 12, 9, [1, 200, 3]);
    damage(&path, || {
        if let Ok(set) = FolderDataset::open(dir.path(), Split::Train) {
            let _ = set.get(0);
        }
    });
    fs::remove_file(&path).unwrap();
    let path = dir.path().join("a/1.jpg");
    write_image(&path, 12, 9, [1, 200, 3]);
    damage(&path, || {
        if let Ok(set) = FolderDataset::open(dir.path(), Split::Train) {
            let _ = set.get(0);
        }
    });
}
