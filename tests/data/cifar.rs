//! CIFAR-10's binary files.

use std::fs;
use std::path::Path;

use burn::data::dataset::Dataset;
use rekindle::data::{Split, Target, cifar};
use tempfile::tempdir;

use super::{gzip, message};

/// A record whose red, green and blue are `label`, `label + 1` and `label + 2`.
fn record(label: u8) -> Vec<u8> {
    let mut record = vec![label];
    for channel in 0..3 {
        record.extend([label + channel; 1024]);
    }
    record
}

fn write_folder(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    for batch in 1..=5u8 {
        let bytes = [record(batch), record(batch + 1)].concat();
        fs::write(dir.join(format!("data_batch_{batch}.bin")), bytes).unwrap();
    }
    fs::write(dir.join("test_batch.bin"), record(9)).unwrap();
}

/// The published archive in small, its batches in another order than their numbers.
pub fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for name in ["data_batch_4", "test_batch", "data_batch_1", "data_batch_5", "data_batch_2", "data_batch_3"] {
        let label = name.bytes().last().unwrap();
        let bytes = record(if label.is_ascii_digit() { label - b'0' } else { 9 });
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        let path = format!("cifar-10-batches-bin/{name}.bin");
        builder.append_data(&mut header, path, &*bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn labels(path: &Path, split: Split) -> Vec<usize> {
    let set = cifar::open(path, split).unwrap();
    (0..set.len())
        .map(|at| match set.get(at).unwrap().target {
            Target::Class(class) => class,
            Target::Image(_) | Target::Mask(_) => panic!("a class"),
        })
        .collect()
}

#[test]
fn reads_an_unpacked_folder() {
    let dir = tempdir().unwrap();
    write_folder(&dir.path().join("cifar-10-batches-bin"));
    for path in [dir.path().to_path_buf(), dir.path().join("cifar-10-batches-bin")] {
        assert_eq!(labels(&path, Split::Train), [1, 2, 2, 3, 3, 4, 4, 5, 5, 6]);
        assert_eq!(labels(&path, Split::Test), [9]);
    }
    let image = cifar::open(dir.path(), Split::Train).unwrap().get(9).unwrap().image;
    assert_eq!((image.channels, image.height, image.width), (3, 32, 32));
    assert_eq!((image.pixels[0], image.pixels[1024], image.pixels[3071]), (6, 7, 8));
}

#[test]
fn reads_an_archive_whatever_its_order() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("cifar-10-binary.tar.gz");
    fs::write(&file, gzip(&archive())).unwrap();
    for path in [dir.path(), &file] {
        assert_eq!(labels(path, Split::Train), [1, 2, 3, 4, 5]);
        assert_eq!(labels(path, Split::Test), [9]);
    }
}

#[test]
fn truncated_archive_is_refused() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("cifar-10-binary.tar.gz");
    let packed = gzip(&archive());
    fs::write(&file, &packed[..packed.len() - 40]).unwrap();
    let text = message(cifar::open(&file, Split::Train), dir.path());
    assert!(text.starts_with("DIR/cifar-10-binary.tar.gz"), "{text}");
    assert!(text.ends_with("the file is damaged or incomplete, download it again"), "{text}");

    fs::write(&file, gzip(&archive()[..5000])).unwrap();
    assert_eq!(
        message(cifar::open(&file, Split::Train), dir.path()),
        "DIR/cifar-10-binary.tar.gz: expected a tar archive with data_batch_1.bin, \
         data_batch_2.bin, data_batch_3.bin, data_batch_4.bin, data_batch_5.bin, found an \
         unreadable entry (unexpected EOF during skip); the file is damaged or incomplete, \
         download it again"
    );
}

#[test]
fn archive_without_a_batch_is_refused() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("some.tar");
    let archive = archive();
    // Without the last two entries; a tar file may end without its closing blocks.
    fs::write(&file, &archive[..4 * (512 + 3584)]).unwrap();
    assert_eq!(
        message(cifar::open(&file, Split::Train), dir.path()),
        "DIR/some.tar: data_batch_2.bin is not in it; run `rekindle datasets fetch cifar-10`"
    );
}

#[test]
fn partial_record_is_refused() {
    let dir = tempdir().unwrap();
    write_folder(dir.path());
    fs::write(dir.path().join("data_batch_3.bin"), &record(1)[..3000]).unwrap();
    assert_eq!(
        message(cifar::open(dir.path(), Split::Train), dir.path()),
        "DIR/data_batch_3.bin: expected whole records of 3073 bytes, at least one, found 3000 \
         bytes; the file is damaged or incomplete, download it again"
    );
}

#[test]
fn labels_out_of_range_are_refused() {
    let dir = tempdir().unwrap();
    write_folder(dir.path());
    fs::write(dir.path().join("test_batch.bin"), [record(9), record(10)].concat()).unwrap();
    assert_eq!(
        message(cifar::open(dir.path(), Split::Test), dir.path()),
        "DIR/test_batch.bin: expected labels from 0 to 9, found 10 in record 1; the file is \
         damaged or incomplete, download it again"
    );
}

#[test]
fn missing_batch_is_named() {
    let dir = tempdir().unwrap();
    write_folder(dir.path());
    fs::remove_file(dir.path().join("data_batch_2.bin")).unwrap();
    assert_eq!(
        message(cifar::open(dir.path(), Split::Train), dir.path()),
        "DIR: data_batch_2.bin is not in it; run `rekindle datasets fetch cifar-10`"
    );
    let empty = tempdir().unwrap();
    assert_eq!(
        message(cifar::open(empty.path(), Split::Train), empty.path()),
        "DIR: the folder holds neither data_batch_1.bin nor cifar-10-binary.tar.gz; run \
         `rekindle datasets fetch cifar-10`, or point data.dir at a folder that has it"
    );
    fs::create_dir(empty.path().join("cifar-10-batches-py")).unwrap();
    assert_eq!(
        message(cifar::open(empty.path(), Split::Train), empty.path()),
        "DIR: the folder holds CIFAR-10's Python version, but the binary version is needed; run \
         `rekindle datasets fetch cifar-10`"
    );
}

#[test]
fn a_single_file_is_a_train_split() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("part.bin.gz");
    fs::write(&file, gzip(&[record(3), record(4), record(5)].concat())).unwrap();
    assert_eq!(labels(&file, Split::Train), [3, 4, 5]);
    assert_eq!(
        message(cifar::open(&file, Split::Test), dir.path()),
        "DIR/part.bin.gz: a single file of CIFAR-10 records has only a train split, but the test \
         split was asked for; point data.dir at a folder with test_batch.bin or at \
         cifar-10-binary.tar.gz"
    );
}
