//! Folders of images.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use burn::data::dataset::Dataset;
use image::{GrayImage, Luma, Rgb, RgbImage};
use rekindle::data::{FolderDataset, ImageDataset, Split, Target};
use tempfile::tempdir;

use super::message;

/// An image of one colour.
pub fn write_image(path: &Path, width: u32, height: u32, colour: [u8; 3]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(width, height, Rgb(colour)).save(path).unwrap();
}

#[test]
fn classes_are_numbered_in_the_order_of_their_names() {
    let dir = tempdir().unwrap();
    write_image(&dir.path().join("train/zebra/1.png"), 4, 2, [10, 20, 30]);
    write_image(&dir.path().join("train/ant/deep/2.png"), 4, 2, [1, 2, 3]);
    write_image(&dir.path().join("train/ant/1.png"), 4, 2, [4, 5, 6]);
    write_image(&dir.path().join("val/zebra/1.png"), 4, 2, [7, 8, 9]);
    fs::create_dir_all(dir.path().join("train/.hidden")).unwrap();
    fs::write(dir.path().join("train/ant/notes.txt"), "no image").unwrap();

    let train = FolderDataset::open(dir.path(), Split::Train).unwrap();
    assert_eq!(train.classes(), ["ant", "zebra"]);
    assert_eq!(train.len(), 3);
    assert_eq!(train.shape().to_string(), "3x2x4");
    let first = train.get(0).unwrap();
    assert_eq!(first.target, Target::Class(0));
    assert_eq!(first.image.pixels[..9], [4, 4, 4, 4, 4, 4, 4, 4, 5]);
    assert_eq!(train.get(2).unwrap().target, Target::Class(1));

    let test = FolderDataset::open(dir.path(), Split::Test).unwrap();
    assert_eq!(test.len(), 1);
    assert_eq!(test.get(0).unwrap().target, Target::Class(1));
}

#[test]
fn grey_pictures_become_three_channels() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a/grey.png");
    fs::create_dir(dir.path().join("a")).unwrap();
    GrayImage::from_pixel(1, 1, Luma([77])).save(&path).unwrap();
    let set = FolderDataset::open(dir.path(), Split::Train).unwrap();
    assert_eq!(set.get(0).unwrap().image.pixels, [77, 77, 77]);

    // A JPEG file, whatever its extension says.
    write_image(&dir.path().join("b/colour.jpg"), 8, 8, [200, 100, 50]);
    fs::create_dir(dir.path().join("c")).unwrap();
    fs::rename(dir.path().join("b/colour.jpg"), dir.path().join("c/colour.PNG")).unwrap();
    let set = FolderDataset::open(dir.path(), Split::Train).unwrap();
    let pixels = set.get(1).unwrap().image.pixels;
    for (channel, value) in [200, 100, 50].into_iter().enumerate() {
        assert!(pixels[channel * 64].abs_diff(value) <= 3, "{pixels:?}");
    }
}

#[test]
fn one_folder_is_divided_by_names() {
    let dir = tempdir().unwrap();
    for class in ["a", "b"] {
        for n in 0..25 {
            write_image(&dir.path().join(format!("{class}/{n}.png")), 1, 1, [n, n, n]);
        }
    }
    let names = |split| {
        let set = FolderDataset::open(dir.path(), split).unwrap();
        (0..set.len()).map(|at| set.origin(at)).collect::<BTreeSet<_>>()
    };
    let (train, test) = (names(Split::Train), names(Split::Test));
    assert_eq!((train.len(), test.len()), (44, 6));
    assert!(train.is_disjoint(&test));
    // The same files in every release and on every machine.
    let test: Vec<String> = test.iter().map(|name| name.replace(&dir.path().display().to_string(), "")).collect();
    assert_eq!(test, DIVIDED);
}

/// The test split of the folder above.
const DIVIDED: [&str; 6] = ["/a/11.png", "/a/23.png", "/a/4.png", "/b/11.png", "/b/13.png", "/b/24.png"];

#[test]
fn damaged_pictures_are_named() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("train/a/1.png");
    write_image(&path, 8, 8, [1, 2, 3]);
    let whole = fs::read(&path).unwrap();
    // The header is intact, so that the damage shows when the image is read.
    fs::write(&path, &whole[..whole.len() - 20]).unwrap();
    let set = FolderDataset::open(dir.path(), Split::Train).unwrap();
    let text = message(set.get(0), dir.path());
    assert!(
        text.starts_with("DIR/train/a/1.png: expected an image, but it cannot be decoded (")
            && text.ends_with("); replace or remove the file"),
        "{text}"
    );

    fs::write(&path, "no image at all").unwrap();
    assert_eq!(
        message(FolderDataset::open(dir.path(), Split::Train), dir.path()),
        "DIR/train/a/1.png: expected an image, but it cannot be decoded (Format error \
         decoding Png: Invalid PNG signature.); replace or remove the file"
    );
}

#[test]
fn unusable_folders_are_refused() {
    let dir = tempdir().unwrap();
    let open = |split| message(FolderDataset::open(dir.path(), split), dir.path());
    assert_eq!(
        open(Split::Train),
        "DIR: the folder holds no folder for each class; put the images of each class in a \
         folder of the class's name"
    );
    fs::create_dir(dir.path().join("a")).unwrap();
    assert_eq!(
        open(Split::Train),
        "DIR: there are no images for the train split: files named .jpg, .jpeg, .png, .ppm, .bmp, .pgm, .tif, .tiff, .webp; \
         add images or point data.dir at another folder"
    );
    write_image(&dir.path().join("train/a/1.png"), 1, 1, [0; 3]);
    assert_eq!(
        open(Split::Test),
        "DIR: the folder has a subfolder train but none named test, val, valid or validation; add \
         one, or put the class folders directly into the folder to have it divided"
    );
    write_image(&dir.path().join("test/b/1.png"), 1, 1, [0; 3]);
    assert_eq!(
        open(Split::Test),
        "DIR/train: the test split has a class \"b\" that the train split does not have; rename \
         or remove that folder"
    );
    assert_eq!(
        message(FolderDataset::open(&dir.path().join("x"), Split::Test), dir.path()),
        "DIR/x: there is no such folder; point data.dir at a folder of images"
    );
}

/// Kinds of image files against the values that Pillow's `convert("RGB")` gives.
#[test]
fn kinds_of_image_files() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images");
    let expected: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(fixtures.join("expected.json")).unwrap()).unwrap();
    let expected = expected.as_object().unwrap();
    assert!(expected.len() > 10);
    for (name, pixels) in expected {
        let read = rekindle::data::image_file::read(&fixtures.join(name)).unwrap();
        let wanted: Vec<u8> = pixels.as_array().unwrap().iter().map(|value| value.as_u64().unwrap() as u8).collect();
        // Planes of Pillow's, in the order red, green, blue. Decoders of JPEG round and smooth differently.
        let allowed = if name.ends_with(".jpg") { 6 } else { 0 };
        let apart = read.pixels.iter().zip(&wanted).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(read.pixels.len() == wanted.len() && apart <= allowed, "{name}: {apart}");
    }
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    for name in expected.keys() {
        fs::copy(fixtures.join(name), dir.path().join("a").join(name)).unwrap();
    }
    for other in ["Thumbs.db", "notes.txt", ".hidden.png"] {
        fs::write(dir.path().join("a").join(other), "").unwrap();
    }
    let (train, test) = (FolderDataset::open(dir.path(), Split::Train), FolderDataset::open(dir.path(), Split::Test));
    let (train, test) = (train.unwrap(), test.unwrap());
    assert_eq!(train.len() + test.len(), expected.len());
    let [remark] = train.remarks().try_into().unwrap();
    assert!(remark.ends_with(": 2 files are passed over: no images by their names"), "{remark}");
}
