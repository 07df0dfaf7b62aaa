//! Images with a mask each, in folders.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::data::dataset::Dataset;

use super::dataset::out_of_range;
use super::folder::{TEST_FOLDERS, divide, list};
use super::{DataError, ImageDataset, Sample, Shape, Split, Target, image_file, mask};

/// The classes of PASCAL VOC, whose folder has no list of its own.
const VOC_CLASSES: [&str; 21] = [
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
];

/// The file that names the classes, one a line, in the order of their numbers.
const CLASSES: &str = "classes.txt";

/// Images and masks of the same names, decoded when asked for.
#[derive(Debug, Clone)]
pub struct SegmentationFolder {
    name: String,
    classes: Vec<String>,
    /// Image and mask, by the image's path.
    pairs: Vec<(PathBuf, PathBuf)>,
    shape: Shape,
    remarks: Vec<String>,
}

impl SegmentationFolder {
    /// Opens one split of a folder, in one of three forms:
    /// - `images/` and `masks/` with files of the same names, of which a tenth (by the hash of their names) is the test split;
    /// - the same below `train/` and `test/` (or `val`, `valid`, `validation`);
    /// - PASCAL VOC's: `JPEGImages/`, `SegmentationClass/` and lists `ImageSets/Segmentation/train.txt` and `val.txt`.
    ///
    /// `classes.txt` names the classes, one a line; VOC needs none.
    ///
    /// # Errors
    /// When folders, masks or the list of classes are missing.
    pub fn open(root: &Path, split: Split) -> Result<Self, DataError> {
        if !root.is_dir() {
            return Err(DataError::missing(root, "there is no such folder", "point data.dir at a folder of images"));
        }
        let mut remarks = Vec::new();
        let (classes, pairs) = if root.join("JPEGImages").is_dir() {
            (VOC_CLASSES.map(String::from).to_vec(), voc(root, split)?)
        } else {
            (class_names(&root.join(CLASSES))?, folders(root, split, &mut remarks)?)
        };
        let Some((first, _)) = pairs.first() else {
            return Err(DataError::missing(
                root,
                format!("there are no images for the {split} split"),
                "add images or point data.dir at another folder",
            ));
        };
        let name = format!("segmentation folder {} ({split})", root.display());
        Ok(Self { name, classes, shape: image_file::size(first)?, pairs, remarks })
    }

    /// Keeps `limit` images, evenly spread.
    pub fn truncate(&mut self, limit: usize) {
        let len = self.pairs.len();
        if limit < len {
            self.pairs = (0..limit).map(|at| self.pairs[at * len / limit].clone()).collect();
        }
    }
}

/// The names in `classes.txt`.
fn class_names(path: &Path) -> Result<Vec<String>, DataError> {
    if !path.is_file() {
        return Err(DataError::missing(
            path,
            "the names of the classes are not there",
            "write them, one a line in the order of the numbers in the masks, the background first",
        ));
    }
    let text = fs::read_to_string(path).map_err(DataError::io(path, "read the file"))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect())
}

/// Images and masks of PASCAL VOC's lists.
fn voc(root: &Path, split: Split) -> Result<Vec<(PathBuf, PathBuf)>, DataError> {
    let list = match split {
        Split::Train => "train.txt",
        Split::Test => "val.txt",
    };
    let path = root.join("ImageSets/Segmentation").join(list);
    let text = fs::read_to_string(&path).map_err(DataError::io(&path, "read the list"))?;
    let names = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let pair = |name: &str| {
        let image = root.join("JPEGImages").join(format!("{name}.jpg"));
        let mask = root.join("SegmentationClass").join(format!("{name}.png"));
        let gone = [&image, &mask].into_iter().find(|path| !path.is_file()).cloned();
        match gone {
            None => Ok((image, mask)),
            Some(gone) => Err(DataError::missing(
                &gone,
                format!("there is no such file, but {} names it", path.display()),
                "download the data set again",
            )),
        }
    };
    names.map(pair).collect()
}

/// Images and masks in folders of their own.
fn folders(root: &Path, split: Split, remarks: &mut Vec<String>) -> Result<Vec<(PathBuf, PathBuf)>, DataError> {
    let (place, divided) = match split {
        _ if root.join("images").is_dir() => (root.to_path_buf(), true),
        Split::Train => (root.join("train"), false),
        Split::Test => {
            let found = TEST_FOLDERS.iter().map(|name| root.join(name)).find(|folder| folder.is_dir());
            (found.unwrap_or_else(|| root.join(TEST_FOLDERS[0])), false)
        }
    };
    let (images, masks) = (place.join("images"), place.join("masks"));
    if let Some(gone) = [&images, &masks].into_iter().find(|folder| !folder.is_dir()) {
        return Err(DataError::missing(
            gone,
            "there is no such folder",
            "put images into images/ and masks of the same names into masks/, perhaps below train/ and test/",
        ));
    }
    let mut passed_over = 0;
    let by_stem =
        |path: PathBuf, root: &Path| (path.strip_prefix(root).unwrap_or(&path).with_extension(""), path.clone());
    let mut listed = list(&images, &mut passed_over)?;
    if divided {
        listed = divide(listed, &images, split);
    }
    let masks: BTreeMap<PathBuf, PathBuf> =
        list(&masks, &mut passed_over)?.into_iter().map(|path| by_stem(path, &masks)).collect();
    if passed_over > 0 {
        remarks.push(format!("{}: {passed_over} files are passed over: no images by their names", place.display()));
    }
    let pair = |path: PathBuf| {
        let (stem, image) = by_stem(path, &images);
        match masks.get(&stem) {
            Some(mask) => Ok((image, mask.clone())),
            None => {
                Err(DataError::missing(&image, "the image has no mask", "add one of the same name to masks/, as PNG"))
            }
        }
    };
    listed.into_iter().map(pair).collect()
}

impl Dataset<Sample, DataError> for SegmentationFolder {
    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let (image, mask) = self.pairs.get(index).ok_or_else(|| out_of_range(&self.name, index, self.pairs.len()))?;
        let (image_read, mask_read) = (image_file::read(image)?, mask::read(mask, self.classes.len())?);
        if (mask_read.height, mask_read.width) != (image_read.height, image_read.width) {
            return Err(DataError::damaged(
                mask,
                format!("{}x{} pixels, the size of {}", image_read.width, image_read.height, image.display()),
                format!("{}x{}", mask_read.width, mask_read.height),
                "replace the mask",
            ));
        }
        Ok(Sample { image: image_read, target: Target::Mask(mask_read) })
    }

    fn len(&self) -> usize {
        self.pairs.len()
    }
}

impl ImageDataset for SegmentationFolder {
    fn name(&self) -> &str {
        &self.name
    }

    fn shape(&self) -> Shape {
        self.shape
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn has_masks(&self) -> bool {
        true
    }

    fn remarks(&self) -> Vec<String> {
        self.remarks.clone()
    }

    fn origin(&self, index: usize) -> String {
        match self.pairs.get(index) {
            Some((image, _)) => image.display().to_string(),
            None => format!("{}, image {index}", self.name),
        }
    }
}
