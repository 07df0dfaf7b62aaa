//! Folders of image files.
//!
//! `burn-dataset` has an `ImageFolderDataset` too; it is not used here because it panics on a
//! image that does not decode and does not tell the names of its classes. This one is a
//! `Dataset` of the same kind whose errors are values.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::data::dataset::Dataset;
use sha2::{Digest, Sha256};

use super::dataset::out_of_range;
use super::image_file::EXTENSIONS;
use super::{DataError, ImageDataset, Sample, Shape, Split, Target, image_file};

/// Names under which the test split of a folder is found, in this order.
pub(super) const TEST_FOLDERS: [&str; 4] = ["test", "val", "valid", "validation"];
/// Folders below a class folder are searched this deep; a loop of links ends here.
const MOST_DEPTH: usize = 16;

/// Images of a folder, decoded when asked for.
#[derive(Debug, Clone)]
pub struct FolderDataset {
    name: String,
    classes: Vec<String>,
    /// Path and class, sorted by class and then by path.
    files: Vec<(PathBuf, usize)>,
    shape: Shape,
    /// Files that are no images by their names, hidden ones aside.
    passed_over: usize,
}

impl FolderDataset {
    /// Opens one split of a folder that holds a folder for each class.
    ///
    /// With a subfolder `train`, that is the train split and `test` (or `val`, `valid`,
    /// `validation`) is the test split. Without one, a tenth of each class (rounded up, but never
    /// all of it) is the test split: the images whose `CLASS/FILE` names have the smallest
    /// SHA-256, so that it does not depend on the machine, the seed or the order of listing.
    ///
    /// Classes are numbered in the byte order of the names of the train split's folders. Names
    /// that start with a dot are left out.
    pub fn open(root: &Path, split: Split) -> Result<Self, DataError> {
        let layout = Layout::of(root, split)?;
        let classes = class_names(&layout.train)?;
        if classes.is_empty() {
            return Err(DataError::missing(
                &layout.train,
                "the folder holds no folder for each class",
                "put the images of each class in a folder of the class's name",
            ));
        }
        let (mut files, mut passed_over) = (Vec::new(), 0);
        for (class, name) in classes.iter().enumerate() {
            let folder = layout.chosen.join(name);
            // A class without test images is fine.
            let mut listed = if folder.is_dir() { list(&folder, &mut passed_over)? } else { Vec::new() };
            if layout.divided {
                listed = divide(listed, &layout.chosen, split);
            }
            files.extend(listed.into_iter().map(|path| (path, class)));
        }
        if let Some(unknown) = class_names(&layout.chosen)?.iter().find(|name| classes.binary_search(name).is_err()) {
            return Err(DataError::missing(
                &layout.train,
                format!("the {split} split has a class {unknown:?} that the train split does not have"),
                "rename or remove that folder",
            ));
        }
        Self::new(&layout.chosen, split, classes, files, passed_over)
    }

    /// Opens one split of a folder of images whose classes do not matter: every image below
    /// the folder, split as by [`FolderDataset::open`] (a tenth of all).
    pub fn open_unlabelled(root: &Path, split: Split) -> Result<Self, DataError> {
        let layout = Layout::of(root, split)?;
        let mut passed_over = 0;
        let mut listed = list(&layout.chosen, &mut passed_over)?;
        if layout.divided {
            listed = divide(listed, &layout.chosen, split);
        }
        let files = listed.into_iter().map(|path| (path, 0)).collect();
        Self::new(&layout.chosen, split, Vec::new(), files, passed_over)
    }

    fn new(
        root: &Path,
        split: Split,
        classes: Vec<String>,
        files: Vec<(PathBuf, usize)>,
        passed_over: usize,
    ) -> Result<Self, DataError> {
        let Some((first, _)) = files.first() else {
            let others = match passed_over {
                0 => String::new(),
                1 => " (1 other file is passed over)".to_string(),
                count => format!(" ({count} other files are passed over)"),
            };
            return Err(DataError::missing(
                root,
                format!("there are no images for the {split} split{others}: files named .{}", EXTENSIONS.join(", .")),
                "add images or point data.dir at another folder",
            ));
        };
        Ok(Self {
            name: format!("folder {} ({split})", root.display()),
            shape: image_file::size(first)?,
            classes,
            files,
            passed_over,
        })
    }

    /// Keeps `limit` images, evenly spread over the classes' order.
    pub fn truncate(&mut self, limit: usize) {
        let len = self.files.len();
        if limit < len {
            self.files = (0..limit).map(|at| self.files[at * len / limit].clone()).collect();
        }
    }
}

impl Dataset<Sample, DataError> for FolderDataset {
    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let (path, class) = self.files.get(index).ok_or_else(|| out_of_range(&self.name, index, self.files.len()))?;
        Ok(Sample { image: image_file::read(path)?, target: Target::Class(*class) })
    }

    fn len(&self) -> usize {
        self.files.len()
    }
}

impl ImageDataset for FolderDataset {
    fn name(&self) -> &str {
        &self.name
    }

    fn shape(&self) -> Shape {
        self.shape
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn remarks(&self) -> Vec<String> {
        let files = |count| if count == 1 { "1 file is".to_string() } else { format!("{count} files are") };
        match self.passed_over {
            0 => Vec::new(),
            count => vec![format!("{}: {} passed over: no images by their names", self.name, files(count))],
        }
    }

    fn origin(&self, index: usize) -> String {
        match self.files.get(index) {
            Some((path, _)) => path.display().to_string(),
            None => format!("{}, image {index}", self.name),
        }
    }
}

/// Where the splits of a folder lie.
struct Layout {
    /// The folder whose subfolders name the classes.
    train: PathBuf,
    /// The folder of the split that is asked for.
    chosen: PathBuf,
    /// Whether both splits come from the one folder.
    divided: bool,
}

impl Layout {
    fn of(root: &Path, split: Split) -> Result<Self, DataError> {
        if !root.is_dir() {
            return Err(DataError::missing(root, "there is no such folder", "point data.dir at a folder of images"));
        }
        let train = root.join("train");
        if !train.is_dir() {
            return Ok(Self { train: root.to_path_buf(), chosen: root.to_path_buf(), divided: true });
        }
        let chosen = match split {
            Split::Train => train.clone(),
            Split::Test => {
                TEST_FOLDERS.iter().map(|name| root.join(name)).find(|folder| folder.is_dir()).ok_or_else(|| {
                    DataError::missing(
                        root,
                        "the folder has a subfolder train but none named test, val, valid or validation",
                        "add one, or put the class folders directly into the folder to have it divided",
                    )
                })?
            }
        };
        Ok(Self { train, chosen, divided: false })
    }
}

/// The names of the visible folders in a folder, sorted.
fn class_names(folder: &Path) -> Result<Vec<String>, DataError> {
    let mut names = Vec::new();
    for path in entries(folder)? {
        if !path.is_dir() {
            continue;
        }
        match path.file_name().and_then(|name| name.to_str()) {
            Some(name) => names.push(name.to_string()),
            None => {
                return Err(DataError::missing(
                    &path,
                    "the name of a class must be UTF-8, but this folder's is not",
                    "rename the folder",
                ));
            }
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// All images below a folder, sorted by path; what else is there is counted.
pub(super) fn list(folder: &Path, passed_over: &mut usize) -> Result<Vec<PathBuf>, DataError> {
    let mut found = Vec::new();
    let mut waiting = vec![(folder.to_path_buf(), 0)];
    while let Some((folder, depth)) = waiting.pop() {
        for path in entries(&folder)? {
            if path.is_dir() {
                if depth < MOST_DEPTH {
                    waiting.push((path, depth + 1));
                }
            } else if image_file::is_image(&path) {
                found.push(path);
            } else {
                *passed_over += 1;
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The entries of a folder whose names do not start with a dot, in no order.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::io(folder, "list the folder"))? {
        let entry = entry.map_err(DataError::io(folder, "list the folder"))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}

/// Divides the images of one class into the splits by the hash of their names.
pub(super) fn divide(listed: Vec<PathBuf>, root: &Path, split: Split) -> Vec<PathBuf> {
    let len = listed.len();
    let test = len.div_ceil(10).min(len.saturating_sub(1));
    let by_hash: BTreeMap<[u8; 32], PathBuf> = listed
        .into_iter()
        .map(|path| {
            let inner = path.strip_prefix(root).unwrap_or(&path);
            // Components rather than the path's text: the same on systems with other separators.
            let mut hash = Sha256::new();
            for part in inner.components() {
                hash.update(part.as_os_str().as_encoded_bytes());
                hash.update(b"/");
            }
            (hash.finalize().into(), path)
        })
        .collect();
    let mut chosen: Vec<PathBuf> = match split {
        Split::Test => by_hash.into_values().take(test).collect(),
        Split::Train => by_hash.into_values().skip(test).collect(),
    };
    chosen.sort_unstable();
    chosen
}
