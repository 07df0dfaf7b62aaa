//! The idx files of MNIST and of the sets made after it (Fashion-MNIST, KMNIST), plain or packed.

use std::path::{Path, PathBuf};

use super::blob::{Blob, FETCH_AGAIN};
use super::{DataError, MemoryDataset, Shape, Split};

/// Magic number of a file of labels: unsigned bytes, one dimension.
const LABELS: u32 = 0x0000_0801;
/// Magic number of a file of images: unsigned bytes, three dimensions.
const IMAGES: u32 = 0x0000_0803;
/// Labels are the numbers below this one.
const CLASSES: u8 = 10;

/// The folders below the given one in which torchvision keeps these files.
const FOLDERS: [&str; 4] = ["", "raw", "MNIST/raw", "FashionMNIST/raw"];

/// Reads one split of a set of idx files from a folder: `train-images-idx3-ubyte`,
/// `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`, each as it
/// is or with `.gz`. `name` is the set's name as `rekindle datasets` lists it; `classes` are its
/// ten class names.
pub fn open(dir: &Path, name: &str, classes: &[&str], split: Split) -> Result<MemoryDataset, DataError> {
    let prefix = match split {
        Split::Train => "train",
        Split::Test => "t10k",
    };
    let images = Blob::read(&find(dir, prefix, "images", 3, name)?)?;
    let labels = Blob::read(&find(dir, prefix, "labels", 1, name)?)?;
    parse(&format!("{name} ({split})"), classes, &images, &labels)
}

/// Reads a file of images and the file of their labels.
pub(crate) fn parse(name: &str, classes: &[&str], images: &Blob, labels: &Blob) -> Result<MemoryDataset, DataError> {
    let ([count, height, width], pixels) = read::<3>(images, IMAGES, "images")?;
    let ([label_count], classes_of) = read::<1>(labels, LABELS, "labels")?;
    if label_count != count {
        return Err(DataError::damaged(
            &labels.path,
            format!("{count} labels, one for each image of {}", images.path.display()),
            label_count.to_string(),
            "use the two files of one split",
        ));
    }
    if let Some(at) = classes_of.iter().position(|&label| label >= CLASSES) {
        return Err(DataError::damaged(
            &labels.path,
            format!("labels from 0 to {}", CLASSES - 1),
            format!("{} at position {at}", classes_of[at]),
            FETCH_AGAIN,
        ));
    }
    let shape = Shape { channels: 1, height, width };
    Ok(MemoryDataset::new(name.to_string(), shape, classes, pixels, classes_of))
}

/// The file of a split, under any of the names in use.
fn find(dir: &Path, prefix: &str, what: &str, rank: usize, name: &str) -> Result<PathBuf, DataError> {
    let dashed = format!("{prefix}-{what}-idx{rank}-ubyte");
    // Some unpackers put a dot where the published name has a dash.
    let dotted = format!("{prefix}-{what}.idx{rank}-ubyte");
    for folder in FOLDERS {
        for file in [&dashed, &dotted] {
            for suffix in ["", ".gz"] {
                let path = dir.join(folder).join(format!("{file}{suffix}"));
                if path.is_file() {
                    return Ok(path);
                }
            }
        }
    }
    Err(DataError::missing(
        dir,
        format!("the folder holds neither {dashed} nor {dashed}.gz"),
        format!("run `rekindle datasets fetch {name}`, or point data.dir at a folder that has it"),
    ))
}

/// Reads the header and the values of one file: `RANK` sizes, none of them zero, and exactly as
/// many bytes as they announce.
fn read<const RANK: usize>(blob: &Blob, magic: u32, what: &str) -> Result<([usize; RANK], Vec<u8>), DataError> {
    let mut reader = blob.reader();
    let header_len = 4 + 4 * RANK as u64;
    let header = blob.take(&mut reader, header_len)?;
    if header.len() as u64 != header_len {
        return Err(DataError::damaged(
            &blob.path,
            format!("an idx file of {what} with a header of {header_len} bytes"),
            format!("{} bytes in all", header.len()),
            FETCH_AGAIN,
        ));
    }
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if word(0) != magic {
        return Err(DataError::damaged(
            &blob.path,
            format!("an idx file of {what}, which starts with {magic:#010x}"),
            format!("{:#010x}", word(0)),
            "check that the right file has this name",
        ));
    }
    let sizes: [u32; RANK] = std::array::from_fn(|axis| word(4 + 4 * axis));
    let listed = sizes.map(|size| size.to_string()).join("x");
    if sizes.contains(&0) {
        return Err(DataError::damaged(
            &blob.path,
            format!("at least one of the {what}"),
            format!("a header that declares {listed}"),
            FETCH_AGAIN,
        ));
    }
    let declared = sizes
        .iter()
        .try_fold(1u64, |product, &size| product.checked_mul(u64::from(size)))
        .filter(|&declared| declared <= blob.most());
    let Some(declared) = declared else {
        return Err(DataError::damaged(
            &blob.path,
            format!("the {listed} bytes of {what} that its header declares"),
            "a file too small to hold them".to_string(),
            FETCH_AGAIN,
        ));
    };
    // One byte more than declared, to notice a file that goes on.
    let values = blob.take(&mut reader, declared + 1)?;
    if values.len() as u64 != declared {
        let found = if values.len() as u64 > declared { "more".to_string() } else { format!("{}", values.len()) };
        return Err(DataError::damaged(
            &blob.path,
            format!("{declared} bytes of {what} ({listed}) after the header"),
            found,
            FETCH_AGAIN,
        ));
    }
    Ok((sizes.map(|size| size as usize), values))
}
