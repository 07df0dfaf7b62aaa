//! MNIST's files, whole and damaged.

use std::fs;
use std::path::Path;

use burn::data::dataset::Dataset;
use rekindle::data::catalog::MNIST_CLASSES;
use rekindle::data::{DataError, ImageDataset, MemoryDataset, Split, Target, idx, sample};
use tempfile::tempdir;

use super::{gzip, idx_file, message, write_idx_set};

fn open(dir: &Path) -> Result<MemoryDataset, DataError> {
    idx::open(dir, "mnist", &MNIST_CLASSES, Split::Train)
}

/// A set of 4 images with one file replaced; the message it is refused with.
fn refused(file: &str, bytes: &[u8]) -> String {
    let dir = tempdir().unwrap();
    write_idx_set(dir.path(), 4);
    fs::write(dir.path().join(file), bytes).unwrap();
    message(open(dir.path()), dir.path())
}

#[test]
fn reads_plain_and_packed_files() {
    let dir = tempdir().unwrap();
    write_idx_set(dir.path(), 12);
    let plain = open(dir.path()).unwrap();
    assert_eq!(plain.len(), 12);
    assert_eq!(plain.name(), "mnist (train)");
    assert_eq!(plain.shape().to_string(), "1x2x3");
    let last = plain.get(11).unwrap();
    assert_eq!(last.image.pixels, [66, 67, 68, 69, 70, 71]);
    assert_eq!(last.target, Target::Class(1));
    assert_eq!(
        plain.get(12).unwrap_err().to_string(),
        "mnist (train): expected an image number below 12, found 12; \
         ask for an image that the set holds"
    );

    // Packed, and in the folder where torchvision puts it.
    let raw = dir.path().join("MNIST/raw");
    fs::create_dir_all(&raw).unwrap();
    for file in ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"] {
        let bytes = fs::read(dir.path().join(file)).unwrap();
        fs::write(raw.join(format!("{file}.gz")), gzip(&bytes)).unwrap();
        fs::remove_file(dir.path().join(file)).unwrap();
    }
    let packed = open(dir.path()).unwrap();
    assert_eq!(packed.get(11).unwrap(), last);
}

#[test]
fn missing_files_name_the_command_that_fetches_them() {
    let dir = tempdir().unwrap();
    assert_eq!(
        message(open(dir.path()), dir.path()),
        "DIR: the folder holds neither train-images-idx3-ubyte nor train-images-idx3-ubyte.gz; \
         run `rekindle datasets fetch mnist`, or point data.dir at a folder that has it"
    );
}

#[test]
fn truncated_gzip_is_refused() {
    let values: Vec<u8> = (0..40_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let packed = gzip(&idx_file(0x803, &[100, 20, 20], &values));
    let text = refused("train-images-idx3-ubyte", &packed[..packed.len() / 2]);
    let (start, rest) = text.split_once(" after ").unwrap();
    assert_eq!(start, "DIR/train-images-idx3-ubyte: expected a complete gzip stream, found the end of the file");
    assert!(rest.ends_with(" unpacked bytes; the file is damaged or incomplete, download it again"), "{rest}");
}

#[test]
fn damaged_gzip_is_refused() {
    let mut packed = gzip(&idx_file(0x803, &[4, 2, 3], &[7; 24]));
    let at = packed.len() - 6;
    packed[at] ^= 1;
    assert_eq!(
        refused("train-images-idx3-ubyte", &packed),
        "DIR/train-images-idx3-ubyte: expected a complete gzip stream, found damage after 24 \
         unpacked bytes (corrupt gzip stream does not have a matching checksum); the file is \
         damaged or incomplete, download it again"
    );
}

#[test]
fn wrong_magic_is_refused() {
    assert_eq!(
        refused("train-images-idx3-ubyte", &idx_file(0x801, &[4, 2, 3], &[0; 24])),
        "DIR/train-images-idx3-ubyte: expected an idx file of images, which starts with \
         0x00000803, found 0x00000801; check that the right file has this name"
    );
}

#[test]
fn short_header_is_refused() {
    assert_eq!(
        refused("train-labels-idx1-ubyte", &[0, 0, 8]),
        "DIR/train-labels-idx1-ubyte: expected an idx file of labels with a header of 8 bytes, \
         found 3 bytes in all; the file is damaged or incomplete, download it again"
    );
}

#[test]
fn labels_out_of_range_are_refused() {
    assert_eq!(
        refused("train-labels-idx1-ubyte", &idx_file(0x801, &[4], &[0, 9, 10, 1])),
        "DIR/train-labels-idx1-ubyte: expected labels from 0 to 9, found 10 at position 2; the \
         file is damaged or incomplete, download it again"
    );
}

#[test]
fn zero_images_are_refused() {
    assert_eq!(
        refused("train-images-idx3-ubyte", &idx_file(0x803, &[0, 28, 28], &[])),
        "DIR/train-images-idx3-ubyte: expected at least one of the images, found a header that \
         declares 0x28x28; the file is damaged or incomplete, download it again"
    );
}

#[test]
fn different_counts_are_refused() {
    assert_eq!(
        refused("train-labels-idx1-ubyte", &idx_file(0x801, &[3], &[0, 1, 2])),
        "DIR/train-labels-idx1-ubyte: expected 4 labels, one for each image of \
         DIR/train-images-idx3-ubyte, found 3; use the two files of one split"
    );
}

#[test]
fn declared_sizes_are_not_trusted() {
    // 64 exabytes, and 4 GiB in a packed file of 50 bytes: refused before any allocation.
    for file in
        [idx_file(0x803, &[u32::MAX, u32::MAX, u32::MAX], &[]), gzip(&idx_file(0x803, &[1 << 20, 64, 64], &[1]))]
    {
        let text = refused("train-images-idx3-ubyte", &file);
        assert!(
            text.ends_with(
                "bytes of images that its header declares, found a file too small to hold them; \
                 the file is damaged or incomplete, download it again"
            ),
            "{text}"
        );
    }
    // A packed file that goes on past its declared end is not unpacked further.
    assert_eq!(
        refused("train-images-idx3-ubyte", &gzip(&idx_file(0x803, &[4, 2, 3], &[0; 1 << 20]))),
        "DIR/train-images-idx3-ubyte: expected 24 bytes of images (4x2x3) after the header, found \
         more; the file is damaged or incomplete, download it again"
    );
    assert_eq!(
        refused("train-images-idx3-ubyte", &gzip(&idx_file(0x803, &[4, 2, 3], &[0; 23]))),
        "DIR/train-images-idx3-ubyte: expected 24 bytes of images (4x2x3) after the header, found \
         23; the file is damaged or incomplete, download it again"
    );
}

#[test]
fn the_sample_in_the_program_is_balanced() {
    for (split, per_class) in [(Split::Train, 600), (Split::Test, 100)] {
        let set = sample(split).unwrap();
        assert_eq!(set.len(), per_class * 10);
        assert_eq!(set.shape().to_string(), "1x28x28");
        let mut counts = [0; 10];
        for &label in set.packed().unwrap().labels {
            counts[usize::from(label)] += 1;
        }
        assert_eq!(counts, [per_class; 10]);
        assert_eq!(set.classes()[9], "Ankle boot");
    }
    assert_eq!(sample(Split::Train).unwrap().get(0).unwrap().target, Target::Class(9));
}
